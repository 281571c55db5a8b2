"""CSV tables that a person writes beside a data set: who a session shows, which clips there are. A fault is one line naming its place."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from fercompress.errors import DataError


def rows(path: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, column -> text without blanks at its ends) for every row that is not empty. raises: DataError"""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            _check(path, header, required, optional)
            for fields in reader:
                if not any(field.strip() for field in fields):
                    continue
                if len(fields) != len(header):
                    raise DataError(f"{path}:{reader.line_num}: {len(fields)} fields for {len(header)} columns; quote a field that holds a comma")
                yield reader.line_num, dict(zip(header, (field.strip() for field in fields), strict=True))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error})") from error


def _check(path: Path, header: list[str], required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    columns = ",".join(required) + "".join(f"[,{name}]" for name in optional)
    missing = [name for name in required if name not in header]
    strange = [name for name in header if name not in required + optional]
    if missing or strange or len(set(header)) != len(header):
        what = f"no column {missing[0]!r}" if missing else f"a column {strange[0][:40]!r}" if strange else "a column twice"
        raise DataError(f"{path}:1: {what}; the first line must be {columns}")


def subjects(path: Path) -> dict[str, str]:
    """session -> subject. raises: DataError"""
    found: dict[str, str] = {}
    for line, row in rows(path, ("session", "subject")):
        if not row["session"] or not row["subject"]:
            raise DataError(f"{path}:{line}: a session without a subject, or the other way round")
        if found.setdefault(row["session"], row["subject"]) != row["subject"]:
            raise DataError(f"{path}:{line}: session {row['session']!r} has two subjects, {found[row['session']]!r} and {row['subject']!r}")
    return found
