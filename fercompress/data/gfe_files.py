"""Read the text files of GFE (Freitas, Barbosa and Peres, UCI 2014): a folder in, recordings of 100 facial points per frame out.

`<person>_<expression>_datapoints.txt` holds a header and one line per frame (timestamp, then x y z of 100 points),
`<person>_<expression>_targets.txt` one 0 or 1 per frame: is the expression being performed?
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fercompress.data import lines
from fercompress.dataconfig import GfeData
from fercompress.errors import DataError
from fercompress.records import LeftOut

Float64 = npt.NDArray[np.float64]
Pairs = dict[tuple[str, str], tuple[Path, Path]]  # (person, expression) -> datapoints file, targets file
COLUMNS = 1 + 3 * lines.POINTS


@dataclass(frozen=True)
class Recording:
    """One file pair. points: float64 (F, 100, 2), pixels; targets: bool (F,)"""

    person: str
    expression: str
    points: Float64
    targets: npt.NDArray[np.bool_]
    targets_path: Path

    @property
    def name(self) -> str:
        return f"{self.person}_{self.expression}"


def read(config: GfeData, data_root: Path) -> tuple[list[Recording], list[LeftOut]]:
    """The recordings that the study asks for, in alphabetical order, and those that it cannot use. raises: DataError"""
    pairs, left_out = chosen(config, data_root)
    recordings = []
    for (person, expression), (points_path, targets_path) in pairs.items():
        points, targets = read_points(points_path), read_targets(targets_path)
        if len(points) != len(targets):
            raise DataError(f"{targets_path}: {len(targets)} targets for the {len(points)} frames of {points_path.name}; there must be one for each")
        recordings.append(Recording(person, expression, points, targets, targets_path))
    return recordings, left_out


def chosen(config: GfeData, data_root: Path) -> tuple[Pairs, list[LeftOut]]:
    """The file pairs that the study asks for, in alphabetical order, unread, and those that it cannot use. raises: DataError"""
    pairs = _pairs(data_root)
    persons = _named_in("persons", config.persons, {person for person, _ in pairs}, data_root)
    expressions = _named_in("expressions", config.expressions, {expression for person, expression in pairs if person in persons}, data_root)
    keys = [key for key in sorted(pairs) if key[0] in persons and key[1] in expressions]
    left_out = []
    if config.protocol == "across-persons":  # a class that a person lacks could not be learned from, or tested on, everybody
        shared = {expression for expression in expressions if all((person, expression) in pairs for person in persons)}
        left_out = [LeftOut(f"{key[0]}_{key[1]}", "not every person has this expression") for key in keys if key[1] not in shared]
        keys = [key for key in keys if key[1] in shared]
    if len({expression for _, expression in keys}) < 2:
        there = ", ".join(f"{person}_{expression}" for person, expression in sorted(pairs))
        raise DataError(f"{data_root}: the study leaves fewer than 2 expressions to tell apart; there are {there}")
    for points, targets in (pairs[key] for key in keys):
        for path, other in ((points, targets), (targets, points)):
            if not path.is_file():
                raise DataError(f"{path}: missing, though {other.name} is there; get the whole pair")
    return {key: pairs[key] for key in keys}, left_out


def _pairs(data_root: Path) -> Pairs:
    """Every file pair in `data_root` or, where it has none, in one folder below."""
    if not data_root.is_dir():
        raise DataError(f"{data_root}: no such folder; give the folder that holds the GFE text files with --data-root")
    found = {folder: names for folder in (data_root, *sorted(data_root.iterdir())) if folder.is_dir() and (names := _named(folder))}
    if not found:
        raise DataError(
            f"{data_root}: no file named <person>_<expression>_datapoints.txt here or one folder below; give the GFE folder with --data-root"
        )
    if data_root not in found and len(found) > 1:
        folders = ", ".join(str(folder) for folder in found)
        raise DataError(f"{data_root}: several folders hold GFE files ({folders}); give one of them with --data-root")
    folder, names = next(iter(found.items()))
    return {
        (person, expression): (folder / f"{person}_{expression}_datapoints.txt", folder / f"{person}_{expression}_targets.txt")
        for person, expression in names
    }


def _named(folder: Path) -> set[tuple[str, str]]:
    matches = (re.fullmatch(r"([^_]+)_(.+)_(?:datapoints|targets)\.txt", path.name) for path in folder.iterdir())
    return {(match[1], match[2]) for match in matches if match}


def _named_in(key: str, wanted: list[str] | None, present: set[str], data_root: Path) -> set[str]:
    if wanted is None:
        return present
    there = ", ".join(sorted(present))
    if not wanted:
        raise DataError(f"{data_root}: [data] {key} is an empty list; there are {there}")
    for name in wanted:
        if name not in present:
            raise DataError(f"{data_root}: no files of {name!r}, which [data] {key} asks for; there are {there}")
    return set(wanted)


def sha256(path: Path) -> str:
    """Of the file's bytes, in hex. raises: DataError"""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def read_points(path: Path) -> Float64:
    """float64 (F, 100, 2): x, y in pixels of every frame. raises: DataError

    z is not used, nor are the timestamps: frames come at a steady 16 a second, and a timestamp's fraction is in milliseconds without leading zeros.
    """
    rows = _lines(path)[1:]
    if not rows:
        raise DataError(f"{path}: no frames after the header line; is the file cut short?")
    table = np.empty((len(rows), COLUMNS))
    for number, row in enumerate(rows, start=2):
        fields = row.split()
        if len(fields) != COLUMNS:
            raise DataError(f"{path}:{number}: {len(fields)} columns; a frame has {COLUMNS}: a timestamp and x y z of {lines.POINTS} points")
        table[number - 2] = [_number(field, path, number) for field in fields]
    return table[:, 1:].reshape(-1, lines.POINTS, 3)[:, :, :2]


def read_targets(path: Path) -> npt.NDArray[np.bool_]:
    """bool (F,): is the expression being performed? raises: DataError"""
    rows = _lines(path)
    for number, row in enumerate(rows, start=1):
        if row.strip() not in ("0", "1"):
            raise DataError(f"{path}:{number}: a target is 0 or 1, not {row.strip()[:40]!r}")
    return np.array([row.strip() == "1" for row in rows])


def _number(field: str, path: Path, line: int) -> float:
    try:
        value = float(field)
    except ValueError as error:
        raise DataError(f"{path}:{line}: {field[:40]!r} is not a number") from error
    if not math.isfinite(value) or "_" in field or not field.isascii():
        raise DataError(f"{path}:{line}: {field[:40]!r} is not a finite number in plain digits")
    return value


def _lines(path: Path) -> list[str]:
    """A text file's lines without the blank ones at its end."""
    try:
        rows = path.read_text(encoding="utf-8").rstrip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from error
    if rows == [""]:
        raise DataError(f"{path}: the file is empty; get it again")
    return rows
