"""A run's seal: its journal's rows and its files in, `seal.json` with the sha256 of each out; later, whatever matches no more.

Against rot, slips and casual edits. Whoever may write the folder can seal it anew: only the seal's own sha256, kept elsewhere, tells that.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fercompress.errors import ResultsError
from fercompress.results import journal
from fercompress.results.store import FILE as JOURNAL
from fercompress.results.summary import write_whole

FILE = "seal.json"
SUMMARY = ("summary.json", "summary.csv")
# History:
#   1  per row of every table the sha256 of all its values and, to name what changed, eight digits for each column; per file sha256 and bytes
SCHEMA = 1
_NAMING_DIGITS = 8
_PLACE = ("variant", "target", "pass", "seed", "fold", "round", "position")
# What figures are computed and drawn with: other versions may give other last digits and other pictures.
_LIBRARIES = ("numpy", "scipy", "pandas", "matplotlib", "jinja2", "plotly")

Rows = Mapping[str, Mapping[str, str]]  # table -> row's number -> sha256, then a few digits of each column's, parted by spaces


@dataclass(frozen=True)
class Difference:
    """place: a file, or a table of the journal; row, column: within it, "" where it has none; expected: what was sealed, or recomputed now"""

    place: str
    row: str
    column: str
    stored: str
    expected: str


@dataclass(frozen=True)
class Seal:
    """sha256: of seal.json; made_with: library -> version; files: path in the folder -> sha256; whole: False where seal.json itself was edited"""

    sha256: str
    made_with: Mapping[str, str]
    definition: str
    rows: Rows
    files: Mapping[str, str]
    whole: bool


def write(folder: Path, files: Iterable[Path]) -> str:
    """Seal the journal, `files` and every bundle that the journal names and the folder holds; the same run gives the same seal.

    returns: sha256 (hex) of seal.json. raises: ResultsError, DiskFullError
    """
    with _raw(folder) as db:
        definition, rows = _definition(db), _rows(db)
        bundles = [folder / "bundles" / f"{variant}-{sha256[:12]}" for variant, sha256 in db.execute("SELECT variant, sha256 FROM bundles")]
    every = {*files, *(path for bundle in bundles for path in bundle.rglob("*") if path.is_file())}
    content = {
        "schema": SCHEMA,
        "made_with": made_with(),
        "journal": {"definition": definition, "rows": rows},
        "files": {path.relative_to(folder).as_posix(): _file_sha256(path) for path in sorted(every)},
    }
    text = _text({**content, "digest": _sha256(_text(content).encode())})
    write_whole(folder / FILE, text)
    return _sha256(text.encode())


def read(folder: Path) -> Seal:
    """raises: ResultsError where the folder is no run, is not sealed, or was sealed by a newer fercompress"""
    try:
        raw = (folder / FILE).read_bytes()
    except OSError as error:
        if not (folder / JOURNAL).is_file():
            raise ResultsError(f"{folder}: no {JOURNAL} there; give the output folder of `fercompress run`") from error
        raise ResultsError(
            f"{folder}: not sealed: the run was stopped, is still going on, or was made before runs were sealed; "
            "run the same command again, which goes on where it was and seals at its end"
        ) from error
    try:
        content = json.loads(raw)
        told = content.pop("digest")
        whole = told == _sha256(_text(content).encode()) and raw == _text({**content, "digest": told}).encode()
        if whole and content["schema"] > SCHEMA:  # its digest is made alike in every schema
            known = f"schema {content['schema']}; known: {SCHEMA}"
            raise ResultsError(f"{folder / FILE}: made by a newer fercompress ({known}); upgrade fercompress")
        found = content["journal"]
        return Seal(_sha256(raw), dict(content["made_with"]), str(found["definition"]), found["rows"], dict(content["files"]), whole)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Seal(_sha256(raw), {}, "", {}, {}, whole=False)


def differences(folder: Path, sealed: Seal) -> list[Difference]:
    """Everything whose sha256 is another one now; that of seal.json itself first, and alone, since nothing can be compared with it then."""
    if not sealed.whole:
        return [Difference(FILE, "", "", "edited or damaged: it does not match its own digest", "as it was written")]
    return [*journal_differences(folder, sealed), *_file_differences(folder, sealed)]


def journal_differences(folder: Path, sealed: Seal, *, grown: bool = False) -> list[Difference]:
    """grown: rows that came after the seal are no difference"""
    if not (folder / JOURNAL).is_file():
        return [Difference(JOURNAL, "", "", "missing", "as it was sealed")]
    try:
        with _raw(folder) as db:
            found: list[Difference] = []
            if _definition(db) != sealed.definition:
                found.append(Difference(JOURNAL, "", "schema", "other tables, indices or numbers of schema and application", "as they were sealed"))
            now = _rows(db)
            for table in {**sealed.rows, **now}:
                found += _row_differences(db, table, sealed.rows.get(table, {}), now.get(table, {}), grown)
    except ResultsError as error:
        return [Difference(JOURNAL, "", "", str(error), "a journal that can be read")]
    return found


def lift(folder: Path) -> None:
    """Take the seal off, so that the run can go on. raises: ResultsError where the journal is not as it was sealed: that would be sealed over"""
    if not (folder / FILE).is_file():
        return
    require_intact(folder)
    with journal.named_errors(folder / FILE):
        (folder / FILE).unlink()


def require_intact(folder: Path) -> None:
    """raises: ResultsError where there is a seal and the journal is not as it was sealed"""
    if not (folder / FILE).is_file():
        return
    sealed = read(folder)
    found = journal_differences(folder, sealed, grown=True) if sealed.whole else differences(folder, sealed)
    if found:
        first = " ".join(filter(None, (found[0].place, found[0].row, found[0].column)))
        raise ResultsError(
            f"{folder}: changed since it was sealed ({first}); `fercompress verify {folder}` says what; restore it, or start again with --fresh"
        )


def made_with() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


@contextlib.contextmanager
def _raw(folder: Path) -> Iterator[sqlite3.Connection]:
    """The journal as SQLite has it, without our own checksums; text that is no UTF-8 any more is a value like others."""
    path = folder / JOURNAL
    db = journal.connect(path, writable=False)
    db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        with journal.named_errors(path):
            db.execute("BEGIN")  # one snapshot
            yield db
    finally:
        db.close()


def _definition(db: sqlite3.Connection) -> str:
    """sha256 of what the file is beside its rows."""
    told = [list(db.execute(f"PRAGMA {name}").fetchone()) for name in ("application_id", "user_version")]
    return _sha256(json.dumps([told, db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()]).encode())


def _rows(db: sqlite3.Connection) -> dict[str, dict[str, str]]:
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")]
    found: dict[str, dict[str, str]] = {}
    for table in tables:
        cursor = db.execute(f'SELECT rowid, * FROM "{table}" ORDER BY rowid')
        found[table] = {str(number): _row_sha256(values) for number, *values in cursor}
    return found


def _row_sha256(values: Sequence[Any]) -> str:
    columns = [hashlib.sha256(_canonical(value)).digest() for value in values]
    return " ".join([_sha256(b"".join(columns)), *(column.hex()[:_NAMING_DIGITS] for column in columns)])


def _canonical(value: Any) -> bytes:
    """A value's kind and content: 1, 1.0 and "1" differ."""
    if isinstance(value, bytes):
        return b"blob " + value
    text = value.hex() if isinstance(value, float) else str(value)
    return f"{type(value).__name__} {text}".encode("utf-8", "surrogateescape")


def _row_differences(db: sqlite3.Connection, table: str, sealed: Mapping[str, str], now: Mapping[str, str], grown: bool) -> list[Difference]:
    place = f"{JOURNAL}: {table}"
    found = [Difference(place, f"row {row}", "", "missing", "as it was sealed") for row in sealed if row not in now]
    if not grown:
        found += [Difference(place, f"row {row}", "", "came after the seal", "no such row") for row in now if row not in sealed]
    for row in sealed.keys() & now.keys():
        if sealed[row] == now[row]:
            continue
        cursor = db.execute(f'SELECT * FROM "{table}" WHERE rowid = ?', (int(row),))
        names = [column for column, *_ in cursor.description]
        values = dict(zip(names, cursor.fetchone(), strict=True))
        label = ", ".join(str(values[name]) for name in _PLACE if name in values)
        changed = [name for name, *digits in zip(names, sealed[row].split()[1:], now[row].split()[1:], strict=False) if digits[0] != digits[1]]
        for column in changed or [""]:
            where = f"row {row} ({label})" if label else f"row {row}"
            found.append(Difference(place, where, column, _shown(values.get(column)), f"sha256 {_digits(sealed[row], names, column)}... as sealed"))
    return sorted(found, key=lambda each: each.row)


def _digits(row: str, names: Sequence[str], column: str) -> str:
    whole, *columns = row.split()
    return columns[names.index(column)] if column in names and len(columns) == len(names) else whole[:_NAMING_DIGITS]


def _shown(value: Any) -> str:
    """Short, and fit for a terminal."""
    text = f"{len(value)} bytes" if isinstance(value, bytes) else str(value).encode("utf-8", "backslashreplace").decode()
    return f"{text if len(text) <= 40 else text[:40] + '...'} (sha256 {_sha256(_canonical(value))[:_NAMING_DIGITS]}...)"


def _file_differences(folder: Path, sealed: Seal) -> list[Difference]:
    found = []
    for name, sha256 in sealed.files.items():
        try:
            now = f"sha256 {_file_sha256(folder / name)}"
        except ResultsError as error:
            now = str(error)
        if now != f"sha256 {sha256}":
            found.append(Difference(name, "", "", now, f"sha256 {sha256} as sealed"))
    return found


def _file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise ResultsError("missing") from error
    except OSError as error:
        raise ResultsError(f"cannot be read ({error.strerror})") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
