"""Verify a sealed run: its folder in; every sha256 and every number of its report that is not what the raw samples give out."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fercompress.errors import BundleError, FercompressError
from fercompress.export import bundle
from fercompress.report.render import render
from fercompress.results import seal
from fercompress.results.seal import Difference
from fercompress.results.store import FILE, Store
from fercompress.results.summary import write_summary
from fercompress.results.tables import read_tables
from fercompress.study import report_input

LAST_DIGITS = 1e-9  # relative: what another version of a library may change of a number whose stored form matches the seal
FIRST = 20  # differing lines of a text that are told one by one
# Pictures and scripts as they stand in a page.
_OF_LIBRARIES = re.compile(r"""data:[\w/+.-]+;base64,[A-Za-z0-9+/=]*|data:image/svg\+xml,[^"]*|'sha256-[A-Za-z0-9+/=]*'""")

Contents = Mapping[str, bytes]  # path in the run's folder -> content


@dataclass(frozen=True)
class Verified:
    """seal_sha256: of seal.json now; rows, files, numbers: how many were compared; notes: what was not, and why"""

    seal_sha256: str
    rows: int
    files: int
    numbers: int
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


def recomputed(folder: Path) -> Contents:
    """Every file that a report consists of, made anew from the journal alone. raises: ResultsError"""
    with tempfile.TemporaryDirectory() as place, Store.open(folder / FILE, writable=False) as store:
        out = Path(place)
        summary = write_summary(store, out)
        render(report_input(read_tables(store), summary), out)
        return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def verify(folder: Path, expected_seal: str = "", recompute: Callable[[Path], Contents] = recomputed) -> Verified:
    """expected_seal: the first digits, or all, of the seal's sha256 as they were noted elsewhere

    raises: ResultsError where there is no run, or no seal
    """
    sealed = seal.read(folder)
    found = seal.differences(folder, sealed)
    if not sealed.sha256.startswith(expected_seal.lower()):
        found.insert(0, Difference(seal.FILE, "", "", f"sha256 {sealed.sha256}", f"sha256 {expected_seal} as noted elsewhere"))
    notes: list[str] = []
    try:
        found += _bundle_differences(folder)
        made: Contents = recompute(folder)
    except Exception as error:
        # Of an edited journal anything may be missing; of one that matches its seal this is a mistake of ours, or a file that cannot be written.
        if not found and not isinstance(error, FercompressError):
            raise
        found.append(Difference(FILE, "", "", f"the report cannot be computed from it: {error}", "as it was sealed"))
        made = {}
    same_libraries = dict(sealed.made_with) == seal.made_with()
    if not same_libraries and sealed.whole:
        notes.append(f"sealed with {_versions(sealed.made_with)}, here {_versions(seal.made_with())}: pictures were not drawn again")
    if unsealed := sorted(name for name in made if name not in sealed.files and (folder / name).is_file()):
        notes.append(
            f"not part of the seal: {', '.join(unsealed[:3])}{' ...' if len(unsealed) > 3 else ''}; `fercompress report {folder}` makes them anew"
        )
    numbers = 0
    for name, content in made.items():
        if name in sealed.files and (folder / name).is_file():
            counted, differing = _compared(name, (folder / name).read_bytes(), content, same_libraries)
            numbers += counted
            found += differing
    rows = sum(map(len, sealed.rows.values()))
    return Verified(sealed.sha256, rows, len(sealed.files), numbers, tuple(found), tuple(notes))


def _versions(made_with: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in made_with.items())


def _bundle_differences(folder: Path) -> list[Difference]:
    """A bundle is named by its manifest's sha256, and the manifest holds those of its files: both are computed again."""
    found = []
    with Store.open(folder / FILE, writable=False) as store:
        for stored in store.bundles():
            place = folder / "bundles" / f"{stored.variant}-{stored.sha256[:12]}"
            if not place.is_dir():
                continue
            name = place.relative_to(folder).as_posix()
            try:
                loaded = bundle.load(place)
            except BundleError as error:
                found.append(Difference(name, "", "", str(error), "files that match the manifest"))
                continue
            if loaded.sha256 != stored.sha256:
                found.append(Difference(f"{name}/{bundle.MANIFEST}", "", "", f"sha256 {loaded.sha256}", f"sha256 {stored.sha256} by the journal"))
    return found


def _compared(name: str, stored: bytes, expected: bytes, same_libraries: bool) -> tuple[int, list[Difference]]:
    """How many numbers or lines were compared, and those that differ."""
    if name.startswith("figures/"):
        differs = same_libraries and stored != expected
        return 1, [Difference(name, "", "", "another picture", "as drawn from the samples")] if differs else []
    texts = [content.decode("utf-8", "backslashreplace") for content in (stored, expected)]
    if name == "summary.json":
        pairs = list(_json_pairs(*texts))
    elif name == "summary.csv":
        pairs = list(_csv_pairs(*texts))
    else:
        texts = texts if same_libraries else [_OF_LIBRARIES.sub("", text) for text in texts]
        return _lines(name, *texts)
    found = [Difference(name, row, column, _short(now), _short(anew)) for row, column, now, anew in pairs if not _equal(now, anew)]
    return len(pairs), found


Pair = tuple[str, str, Any, Any]  # row, column, stored, recomputed
_NONE = "(nothing)"


def _json_pairs(stored: str, expected: str) -> Iterator[Pair]:
    wanted = json.loads(expected)
    try:
        found = json.loads(stored)
        rows = {(row["variant"], row["target"]): row for row in found.pop("rows")}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        yield "", "", f"not a summary any more: {error}", "a summary"
        return
    for row in wanted.pop("rows"):
        mine = rows.pop((row["variant"], row["target"]), {})
        yield from _leaves(f"{row['variant']} on {row['target']}", "", mine, row)
    for variant, target in rows:
        yield f"{variant} on {target}", "", "a row", _NONE
    yield from _leaves("", "", found, wanted)


def _leaves(row: str, path: str, stored: Any, expected: Any) -> Iterator[Pair]:
    """Every scalar of two JSON values, by its path: "config.measure.rounds"."""
    if isinstance(stored, dict) and isinstance(expected, dict):
        for key in {**expected, **stored}:
            yield from _leaves(row, f"{path}.{key}".lstrip("."), stored.get(key, _NONE), expected.get(key, _NONE))
    elif isinstance(stored, list) and isinstance(expected, list):
        for place, (mine, theirs) in enumerate(itertools.zip_longest(stored, expected, fillvalue=_NONE)):
            yield from _leaves(row, f"{path}[{place}]", mine, theirs)
    else:
        yield row, path, stored, expected


def _csv_pairs(stored: str, expected: str) -> Iterator[Pair]:
    tables = [list(csv.DictReader(io.StringIO(text))) for text in (stored, expected)]
    for number, (mine, theirs) in enumerate(itertools.zip_longest(*tables, fillvalue={}), start=1):
        label = f"{theirs['variant']} on {theirs['target']}" if theirs else f"line {number + 1}"
        for column in {**theirs, **mine}:
            yield label, str(column), _number(mine.get(column, _NONE)), _number(theirs.get(column, _NONE))


def _number(cell: Any) -> Any:
    try:
        return float(cell)
    except (ValueError, TypeError):
        return cell


def _equal(stored: Any, expected: Any) -> bool:
    if type(stored) is type(expected) is float:
        return math.isclose(stored, expected, rel_tol=LAST_DIGITS, abs_tol=0.0) or (math.isnan(stored) and math.isnan(expected))
    return type(stored) is type(expected) and bool(stored == expected)


def _lines(name: str, stored: str, expected: str) -> tuple[int, list[Difference]]:
    """Line by line; within a Markdown table cell by cell, under its column's head."""
    mine, theirs = stored.splitlines(), expected.splitlines()
    found: list[Difference] = []
    heads: list[str] = []
    for number, (now, anew) in enumerate(itertools.zip_longest(mine, theirs, fillvalue=_NONE), start=1):
        if name.endswith(".md") and number < len(theirs) and re.fullmatch(r"[|:\s-]+", theirs[number]) and "|" in theirs[number]:
            heads = _cells(anew)
        if now == anew:
            continue
        cells = [_cells(line) for line in (now, anew)]
        if heads and len(cells[0]) == len(cells[1]) == len(heads):
            row = f"line {number} ({cells[1][0]})"
            found += [Difference(name, row, head, a, b) for head, a, b in zip(heads, *cells, strict=True) if a != b]
        else:
            found.append(Difference(name, f"line {number}", "", *_around(now, anew)))
    if len(found) > FIRST:
        found[FIRST:] = [Difference(name, "", "", f"and {len(found) - FIRST} more lines or cells that differ", "as recomputed")]
    return len(theirs), found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if line.lstrip().startswith("|") else []


def _around(stored: str, expected: str) -> tuple[str, str]:
    """Both lines from a little before where they part."""
    start = next((place for place, (a, b) in enumerate(zip(stored, expected, strict=False)) if a != b), min(len(stored), len(expected)))
    begin = max(0, start - 20)
    return _short(stored[begin : begin + 60]), _short(expected[begin : begin + 60])


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
