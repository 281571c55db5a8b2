"""The folders of ready clips in a user's cache: what each holds, how large it is, when it was used last, and their removal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fercompress.data import cache
from fercompress.errors import DataError

FOLDER = re.compile(r"clips-[0-9a-f]{16}(\.removed)?")
DAY_S = 86_400


@dataclass(frozen=True)
class Kept:
    """One folder. name: of the data set, "" where its clips are not finished; clips: how many, windows counted once

    idle_days: since a process used it last; in_use: by another process now
    """

    folder: Path
    name: str
    clips: int
    size_bytes: int
    idle_days: float
    in_use: bool


def listed(root: Path) -> list[Kept]:
    """What `root` holds, the longest unused first; nothing else there is looked at."""
    folders = [path for path in root.iterdir() if path.is_dir() and FOLDER.fullmatch(path.name)] if root.is_dir() else []
    return sorted(map(_kept, folders), key=lambda kept: -kept.idle_days)


def remove(root: Path, idle_days: float = 0.0) -> list[Kept]:
    """Remove the folders that no process uses and none has used for so many days; returns them. raises: DataError where one cannot be removed"""
    removed = []
    for kept in listed(root):
        if kept.in_use or kept.idle_days < idle_days:
            continue
        try:
            with _alone(kept.folder) as alone:
                if not alone:
                    continue  # somebody came
                gone = kept.folder.with_name(kept.folder.name.removesuffix(".removed") + ".removed")
                if gone != kept.folder:
                    shutil.rmtree(gone, ignore_errors=True)  # a removal that was stopped
                    kept.folder.rename(gone)  # at once: who comes now makes the clips anew
                shutil.rmtree(gone)
        except OSError as error:
            raise DataError(f"{error.filename or kept.folder}: cannot be removed ({error.strerror or error}); is it another user's?") from error
        removed.append(kept)
    return removed


def _kept(folder: Path) -> Kept:
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    name, clips = "", 0
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # not finished, or damaged
        table = json.loads((folder / "clips.json").read_text(encoding="utf-8"))
        name, clips = str(table["name"]), len(set(table["clip_ids"]))
    used = max((each.st_mtime for each in files), default=folder.stat().st_mtime)
    with _alone(folder) as alone:
        return Kept(folder, name, clips, sum(each.st_size for each in files), max(0.0, (time.time() - used) / DAY_S), not alone)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether nobody uses a folder, or writes there; then nobody begins to inside the block."""
    with contextlib.ExitStack() as held:
        for name in (cache.WRITER, cache.READERS):
            path = folder / name
            new, before = not path.exists(), folder.stat()
            handle = cache.opened(path)
            held.callback(os.close, handle)
            if new:  # of an earlier version: to look is not to use
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
        yield True
