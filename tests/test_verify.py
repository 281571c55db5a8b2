"""Verify: a small finished run, sealed; every edit to a value that it stores is found, and nothing else is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_bundle
import toy_run as toy
from click.testing import CliRunner

from fercompress import cli, study, verify
from fercompress.errors import ResultsError
from fercompress.records import Bundle
from fercompress.report.render import render
from fercompress.results import seal
from fercompress.results.store import FILE, Store
from fercompress.results.summary import write_summary
from fercompress.results.tables import read_tables

EDITS = 200


def finished(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """The toy run with bundles that are really there, and its report."""
    bundles: dict[tuple[str, int, str], Bundle] = {}
    for number, (variant, fold) in enumerate((variant, fold) for variant in toy.RECIPES for fold in toy.TESTS):
        made = tiny_bundle.write(folder / "bundles" / "new", variant, number, recipe=tuple(toy.RECIPES[variant]), graph_key=variant)
        more = {"opset": 17, "made_with": {"onnx": "1"}, "layers": [], "size": vars(toy.SIZES[variant])}
        text = json.dumps({**made.manifest, **more}, sort_keys=True).encode()
        (made.folder / "manifest.json").write_bytes(text)
        sha256 = hashlib.sha256(text).hexdigest()
        made.folder.rename(made.folder.with_name(f"{variant}-{sha256[:12]}"))
        bundles[variant, 0, fold] = Bundle(folder, sha256, variant, "onnxruntime", json.loads(text), toy.SIZES[variant])
    patch.setattr(toy, "sha256", lambda variant, seed=0, fold="a": bundles[variant, seed, fold].sha256)
    the_study = toy.study()
    with Store.open(folder / FILE) as store:
        toy.record_head(store, the_study)
        for (_, seed, fold), made in bundles.items():
            store.record_bundle(made, seed, fold, timed=fold == "a")
        toy.record_blocks(store, the_study)
        store.record_plan(entry.block.key for entry in list(store.entries()))
        pages = render(study.report_input(read_tables(store), write_summary(store, folder)), folder)
    seal.write(folder, [*pages, *(folder / name for name in seal.SUMMARY)])


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("sealed") / "run"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        finished(folder, patch)
        yield folder


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "run"))


@pytest.fixture(scope="module")
def anew(template: Path) -> verify.Contents:
    """Drawn once: what a journal that is not edited gives."""
    return verify.recomputed(template)


def test_a_run_that_nobody_touched_is_equal_in_every_row_file_and_number(run: Path) -> None:
    found = verify.verify(run)
    assert found.differences == ()
    assert found.notes == ()
    with opened(run) as db:
        tables = ("studies", "plans", "clips", "bundles", "trainings", "blocks")
        assert found.rows == sum(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)
    assert found.files == sum(path.is_file() for path in run.rglob("*") if not path.name.startswith(("results.sqlite", "seal.json")))
    assert found.numbers > 300


def opened(run: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(run / FILE, isolation_level=None))


def edited_value(value: object, rng: random.Random) -> object:
    """Another value of the same kind."""
    if isinstance(value, int | float):
        return value + rng.choice((-1, 1, 1000))
    if isinstance(value, bytes):
        if not value:
            return b"\0" * 8
        at = rng.randrange(len(value))
        return value[:at] + bytes([value[at] ^ (1 << rng.randrange(8))]) + value[at + 1 :]
    if isinstance(value, str):
        at = rng.randrange(len(value) + 1)
        return value[:at] + rng.choice("0123456789 x") + value[at:]
    return "0"


def edit_the_journal(run: Path, rng: random.Random) -> tuple[str, str]:
    """One value of one row; its checksum is made right again in every second case, as a careful hand would. returns: place and column"""
    from fercompress.results import rows

    with opened(run) as db:
        if rng.random() < 0.05:
            name = rng.choice(("application_id", "user_version"))
            db.execute(f"PRAGMA {name} = {db.execute(f'PRAGMA {name}').fetchone()[0] + 1}")
            return FILE, ""
        table = rng.choice(("studies", "plans", "clips", "bundles", "trainings", "blocks", "blocks", "blocks"))
        (number,) = rng.choice(db.execute(f"SELECT id FROM {table}").fetchall())
        columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})") if name != "id"]
        column = rng.choice(columns)
        (old,) = db.execute(f"SELECT {column} FROM {table} WHERE id = ?", (number,)).fetchone()
        new = edited_value(old, rng)
        db.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (new, number))
        if column != "crc32" and rng.random() < 0.5:
            read = [name for name in columns if name != "crc32"]
            values = db.execute(f"SELECT {', '.join(read)} FROM {table} WHERE id = ?", (number,)).fetchone()
            db.execute(f"UPDATE {table} SET crc32 = ? WHERE id = ?", (rows.crc32(values), number))
        return f"{FILE}: {table}", column


def edit_a_file(path: Path, rng: random.Random) -> None:
    """One digit of a text becomes another, one bit of other files is turned."""
    content = bytearray(path.read_bytes())
    digits = [at for at, byte in enumerate(content) if chr(byte).isdigit()] if path.suffix in (".json", ".csv", ".md", ".html") else []
    if digits:
        at = rng.choice(digits)
        content[at] = ord(rng.choice([digit for digit in "0123456789" if digit != chr(content[at])]))
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def test_each_of_200_random_edits_to_stored_values_is_found_where_it_was_made(run: Path, template: Path, anew: verify.Contents) -> None:
    rng = random.Random(2026)
    journal = (template / FILE).read_bytes()

    def recompute(folder: Path) -> verify.Contents:
        """The numbers of an edited journal are computed anew each time; pictures and pages, which take seconds, are those of the sealed one."""
        with Store.open(folder / FILE, writable=False) as store:
            write_summary(store, scratch)
            study.report_input(read_tables(store), json.loads((scratch / "summary.json").read_text()))
        return {**anew, **{name: (scratch / name).read_bytes() for name in seal.SUMMARY}}

    scratch = run.parent
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and not path.name.startswith(FILE)]
    kinds = {name: [path for path in files if path.name == name] for name in ("summary.json", "summary.csv", "report.md", "index.html", "seal.json")}
    kinds |= {"bundles": [path for path in files if "bundles" in path.parts], "figures": [path for path in files if "figures" in path.parts]}
    missed = []
    for number in range(EDITS):
        if rng.random() < 0.5:
            place, column = edit_the_journal(run, rng)
            found = verify.verify(run, recompute=recompute).differences
            if not any(each.place == place and each.column == column for each in found):
                missed.append((number, place, column, found))
            for leftover in run.glob(f"{FILE}-*"):
                leftover.unlink()
            (run / FILE).write_bytes(journal)
        else:
            path = rng.choice(kinds[rng.choice(list(kinds))])
            before = path.read_bytes()
            edit_a_file(path, rng)
            found = verify.verify(run, recompute=lambda _: anew).differences
            if not any(each.place == path.relative_to(run).as_posix() for each in found):
                missed.append((number, str(path), "", found))
            path.write_bytes(before)
    assert missed == []
    assert verify.verify(run, recompute=recompute).differences == ()  # everything was put back


def cells_of(found: verify.Verified, place: str) -> set[tuple[str, str, str, str]]:
    return {(each.row, each.column, each.stored, each.expected) for each in found.differences if each.place == place and each.column}


def test_a_number_of_the_summary_is_told_by_row_column_stored_and_recomputed(run: Path, anew: verify.Contents) -> None:
    document = json.loads((run / "summary.json").read_text())
    document["rows"][1]["memory_peak_bytes"] = 4321
    (run / "summary.json").write_text(json.dumps(document))
    text = (run / "summary.csv").read_text()
    (run / "summary.csv").write_text(text.replace(",5000,", ",5001,", 1))
    found = verify.verify(run, recompute=lambda _: anew)
    assert cells_of(found, "summary.json") == {("tt on localhost", "memory_peak_bytes", "4321", "5000")}
    assert cells_of(found, "summary.csv") == {("dense on localhost", "memory_peak_bytes", "5001.0", "5000.0")}


def test_a_cell_of_the_report_is_told_by_its_row_and_column(run: Path, anew: verify.Contents) -> None:
    lines = (run / "report.md").read_text().splitlines(keepends=True)
    at, line = next((at, line) for at, line in enumerate(lines) if line.startswith("|") and "tt" in line and any(map(str.isdigit, line)))
    place = next(place for place, letter in enumerate(line) if letter.isdigit())
    lines[at] = line[:place] + str((int(line[place]) + 1) % 10) + line[place + 1 :]
    (run / "report.md").write_text("".join(lines))
    found = [each for each in verify.verify(run, recompute=lambda _: anew).differences if each.place == "report.md" and each.row]
    assert [each.row.split(" (")[0] for each in found] == [f"line {at + 1}"]
    assert found[0].column
    assert found[0].stored != found[0].expected


def test_a_summary_that_was_sealed_with_a_wrong_number_is_found_by_recomputing_alone(run: Path) -> None:
    document = json.loads((run / "summary.json").read_text())
    document["rows"][1]["speedup_predictor"] *= 1.01
    (run / "summary.json").write_text(json.dumps(document))
    seal.write(run, [run / name for name in seal.read(run).files if "bundles" not in name])
    (only,) = verify.verify(run).differences
    assert (only.place, only.row, only.column) == ("summary.json", "tt on localhost", "speedup_predictor")


def test_rows_that_came_went_or_cannot_be_read_are_found(run: Path, anew: verify.Contents) -> None:
    with opened(run) as db:
        db.execute("DELETE FROM blocks WHERE id = 3")
        db.execute("INSERT INTO plans (recorded, study, keys, crc32) VALUES ('', 0, '[]', 0)")
    found = verify.verify(run, recompute=lambda _: anew).differences
    assert ("results.sqlite: blocks", "row 3", "missing") in {(each.place, each.row, each.stored) for each in found}
    assert ("results.sqlite: plans", "row 2", "came after the seal") in {(each.place, each.row, each.stored) for each in found}
    (run / FILE).write_bytes(b"no database" * 100)
    assert any("not a fercompress results file" in each.stored for each in verify.verify(run).differences)
    (run / FILE).unlink()
    assert any(each.stored == "missing" for each in verify.verify(run).differences)


def test_a_run_that_is_not_sealed_is_told_from_a_folder_that_is_no_run(run: Path, tmp_path: Path) -> None:
    (run / seal.FILE).unlink()
    with pytest.raises(ResultsError, match="not sealed: the run was stopped"):
        verify.verify(run)
    with pytest.raises(ResultsError, match=r"no results\.sqlite there"):
        verify.verify(tmp_path)


def test_the_same_run_gives_the_same_seal_and_a_longer_run_another(run: Path) -> None:
    first = seal.read(run)
    files = [run / name for name in first.files if "bundles" not in name]
    assert seal.write(run, files) == first.sha256
    seal.lift(run)
    with Store.open(run / FILE) as store:
        store.record(toy.memory_block("tt", 6000, round_=1))
    assert seal.write(run, files) != first.sha256


def test_a_journal_that_was_edited_is_not_sealed_over(run: Path) -> None:
    with opened(run) as db:
        db.execute("UPDATE blocks SET reason = 'none' WHERE id = 1")
    for again in (lambda: seal.lift(run), lambda: study.report_only(run)):
        with pytest.raises(ResultsError, match=r"changed since it was sealed \(results.sqlite: blocks row 1 .* reason\)"):
            again()
    assert (run / seal.FILE).is_file()


def test_rendering_again_keeps_a_seal_and_gives_none_to_a_run_that_was_stopped(run: Path) -> None:
    before = seal.read(run).sha256
    (run / "report.md").write_text("my notes")
    study.report_only(run)
    assert seal.read(run).sha256 == before
    seal.lift(run)
    study.report_only(run)
    assert not (run / seal.FILE).exists()


def test_the_command_exits_with_0_1_or_2(run: Path, template: Path, tmp_path: Path) -> None:
    def invoked(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli.app, ["verify", *arguments], standalone_mode=False)
        code = getattr(result.exception, "exit_code", None)
        return (result.return_value if code is None else code), result.output

    digest = hashlib.sha256((template / seal.FILE).read_bytes()).hexdigest()
    code, text = invoked(str(run), "--seal", digest)
    assert (code, "all equal" in text, digest in text) == (0, True, True)
    code, text = invoked(str(run), "--seal", "0" * 16, "--json")
    assert (code, json.loads(text)["differences"][0]["place"]) == (1, "seal.json")
    assert invoked(str(tmp_path))[0] == 2
    assert invoked(str(run), "--seal", "12")[0] == 2
