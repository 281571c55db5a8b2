"""Walk folders that a person unpacked: a folder in, its visible files and folders out, in the order in which people number them.

What operating systems leave behind is never seen: names that begin with a dot, `__MACOSX`, `Thumbs.db`, `desktop.ini`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from fercompress.errors import DataError

DEEPEST = 12  # folders below the root; links are followed, so a tree may hold itself
_LEFT_BEHIND = {"__macosx", "thumbs.db", "desktop.ini"}


def visible(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.lower() not in _LEFT_BEHIND


def natural(path: Path) -> tuple[list[str | int], str]:
    """A key to sort by: frame_2 comes before frame_10. Text and numbers take turns in it, so that like is compared with like."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name


def inside(folder: Path) -> tuple[list[Path], list[Path]]:
    """(folders, files) directly in it. raises: DataError"""
    try:
        paths = sorted(filter(visible, folder.iterdir()), key=natural)
    except OSError as error:
        raise DataError(f"{folder}: cannot be looked into ({error.strerror or error})") from error
    return [path for path in paths if path.is_dir()], [path for path in paths if path.is_file()]


def files(folder: Path, depth: int = DEEPEST) -> Iterator[Path]:
    """Every file in it and below. raises: DataError"""
    folders, found = inside(folder)
    yield from found
    if folders and not depth:
        raise DataError(
            f"{folder}: folders within folders, {DEEPEST} deep; does a link lead back up? Give the data set's own folder with --data-root"
        )
    for below in folders:
        yield from files(below, depth - 1)


def required(data_root: Path, what: str) -> Path:
    """The root itself, if it is a folder. raises: DataError"""
    if not data_root.is_dir():
        raise DataError(f"{data_root}: no such folder; give the folder that holds {what} with --data-root")
    return data_root
