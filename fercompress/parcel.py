"""Finished work on its way between machines: files below a run's folder in, their bytes by relative path out, and back."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from fercompress.errors import InputError

Parcel = Mapping[str, bytes]  # path below the run's folder, with "/" -> content


def packed(root: Path, paths: Iterable[Path]) -> Parcel:
    """The given files, and all files below the given folders; what is not there is left out."""
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]) if file.is_file()]
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


def unpack(parcel: Parcel, root: Path) -> None:
    """Every folder of the parcel whole or not at all: written beside, then renamed. What is there already stays as it is.

    raises: InputError for a path that leaves `root`
    """
    groups: dict[PurePosixPath, dict[PurePosixPath, bytes]] = {}
    for name, content in parcel.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
            raise InputError(f"a worker sent a file named {name!r}, which is no path inside the run's folder; nothing more of it is written")
        groups.setdefault(PurePosixPath(*path.parts[:2]), {})[path] = content
    for group, files in groups.items():
        target = root / group
        if target.exists():
            continue
        beside = target.with_name(f".arriving-{target.name}")
        shutil.rmtree(beside, ignore_errors=True)
        for path, content in files.items():
            file = beside / path.relative_to(group) if path != group else beside
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        beside.rename(target)
