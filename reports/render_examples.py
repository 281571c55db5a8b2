"""Render the examples again: the journal that each folder of reports/examples keeps in; summary, report and figures beside it out.

    python reports/render_examples.py                         # all examples, after a change of the report
    python reports/render_examples.py --take RUN              # first take the journal of a finished run over, to reports/examples/<its study>
    python reports/render_examples.py --take RUN --shot       # and photograph the page's first screen with Chromium, to first-screen.png beside it

An example keeps what its report is made of, and not the time of every single frame, which no report reads and which is two thirds of a journal.
Vector figures are in the page alone.
"""

from __future__ import annotations

import argparse
import lzma
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fercompress.results import journal, rows
from fercompress.results.store import FILE, Store
from fercompress.verify import recomputed

EXAMPLES = Path(__file__).parent / "examples"
KEPT = f"{FILE}.xz"
TABLES = ("studies", "plans", "clips", "bundles", "trainings")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def examples(root: Path = EXAMPLES) -> list[Path]:
    return sorted(path.parent for path in root.glob(f"*/{KEPT}"))


def rendered(example: Path) -> Mapping[str, bytes]:
    """Path in the example's folder -> content, made from its journal alone."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / FILE).write_bytes(lzma.decompress((example / KEPT).read_bytes()))
        return {name: content for name, content in recomputed(Path(place)).items() if not name.endswith(".svg")}


def render(example: Path) -> None:
    """Files that are rendered no more are removed."""
    made = rendered(example)
    for path in [path for path in example.rglob("*") if path.is_file() and path.name != KEPT and path.name != "first-screen.png"]:
        if path.relative_to(example).as_posix() not in made:
            path.unlink()
    for name, content in made.items():
        (example / name).parent.mkdir(parents=True, exist_ok=True)
        (example / name).write_bytes(content)


def take(run: Path, root: Path = EXAMPLES) -> Path:
    """A finished run's journal, without single frames' times, into the folder of its study's name."""
    with Store.open(run / FILE, writable=False) as store:
        example = root / str(store.study()["name"])
    with tempfile.TemporaryDirectory() as place:
        small = Path(place) / FILE
        copy_without_frames(run / FILE, small)
        example.mkdir(parents=True, exist_ok=True)
        (example / KEPT).write_bytes(lzma.compress(small.read_bytes(), preset=9 | lzma.PRESET_EXTREME))
    return example


def copy_without_frames(source: Path, target: Path) -> None:
    """Row by row as they were recorded; a block's row has a checksum of what it now holds."""
    old, new = journal.connect(source, writable=False), journal.connect(target, writable=True)
    try:
        with journal.transaction(new, target) as db:
            for table in TABLES:
                for row in old.execute(f"SELECT * FROM {table} ORDER BY id"):
                    db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
            columns = ", ".join(rows.COLUMNS)
            for number, recorded, *values in old.execute(f"SELECT id, recorded, {columns} FROM blocks ORDER BY id"):
                kept = rows.block_row(replace(rows.block_from(values), frame_ns=()))
                row = (number, recorded, rows.crc32((recorded, *kept)), *kept)
                db.execute(f"INSERT INTO blocks (id, recorded, crc32, {columns}) VALUES ({', '.join('?' * len(row))})", row)
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        old.close()
        new.close()
    plain = sqlite3.connect(target)
    try:
        plain.execute("VACUUM")
    finally:
        plain.close()


def shoot(example: Path) -> None:
    """The page's first screen as a picture. raises: SystemExit where there is no browser"""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit(f"--shot needs one of {', '.join(BROWSERS)}")
    target = example / "first-screen.png"
    flags = ["--headless", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,900", f"--screenshot={target}"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    subprocess.run([browser, *flags, (example / "index.html").resolve().as_uri()], check=True, timeout=120, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--take", type=Path, metavar="RUN", help="the folder of a finished run whose journal becomes an example")
    parser.add_argument("--shot", action="store_true", help="photograph each page's first screen with Chromium")
    arguments = parser.parse_args()
    chosen = examples() if arguments.take is None else [take(arguments.take)]
    for example in chosen:
        render(example)
        if arguments.shot:
            shoot(example)
        size = sum(path.stat().st_size for path in example.rglob("*") if path.is_file())
        print(f"{example}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
