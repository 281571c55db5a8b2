"""A folder of ready clips: `Clips` in and memory-mapped `Clips` out; frames.npy, labels.npy and clips.json, the last of which is written last.

One process writes into a folder at a time; another waits for it and finds the clips there. Who uses the clips of a folder says so (`use`) for as
long as it lives, so that nobody removes them (`caches.remove`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fercompress.records import Clips, Int64, LeftOut, UInt8

WRITER, READERS = ".lock", ".in-use"  # files whose locks say so
_in_use: dict[Path, int] = {}  # descriptors that are kept open, and so locked, until the process ends


class Progress(Protocol):
    """Told after every clip: how many are done, of how many, and a word on it."""

    def __call__(self, completed: int, total: int, detail: str = "") -> None: ...


def silent(completed: int, total: int, detail: str = "") -> None:
    """A `Progress` that tells nobody."""


@contextlib.contextmanager
def held(folder: Path, wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Make the folder and be its only writer; wait: called once if another process is that now, before waiting for it to end."""
    lock = _locked(folder, wait)
    try:
        yield
    finally:
        os.close(lock)


def _locked(folder: Path, wait: Callable[[], None]) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = opened(folder / WRITER)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            if is_still(lock, folder / WRITER):
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # the folder was removed while we waited


def use(folder: Path) -> None:
    """Keep others from removing a folder that is there, until this process ends."""
    path = folder / READERS
    if folder in _in_use and not is_still(_in_use[folder], path):
        os.close(_in_use.pop(folder))
    while folder not in _in_use and folder.is_dir():
        with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
            handle = opened(path)
            fcntl.flock(handle, fcntl.LOCK_SH)
            if is_still(handle, path):
                _in_use[folder] = handle
            else:
                os.close(handle)
    with contextlib.suppress(FileNotFoundError):
        os.utime(path)  # when it was used last


def opened(path: Path) -> int:
    """A descriptor that can be locked; the file is made if need be."""
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)


def is_still(handle: int, path: Path) -> bool:
    """Whether an open file is the one of that name: a lock on a removed file keeps nobody out."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def found(folder: Path) -> Clips | None:
    """The clips of a folder, frames mapped from disk; None where they are not there, or not as they were written."""
    try:
        table: dict[str, Any] = json.loads((folder / "clips.json").read_text(encoding="utf-8"))
        frames, labels = np.load(folder / "frames.npy", mmap_mode="r"), np.load(folder / "labels.npy")
        table["left_out"] = [LeftOut(**row) for row in table["left_out"]]
        columns: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
        return Clips(frames=frames, labels=labels, **columns)
    except (OSError, ValueError, TypeError, KeyError):  # a missing file; one that was cut short; another version's
        return None


def save(clips: Clips, folder: Path) -> None:
    write_frames(iter(clips.frames), clips.frames.shape, folder)
    save_facts(clips, folder)


def write_frames(rows: Iterable[UInt8], shape: tuple[int, ...], folder: Path) -> str:
    """Stream rows, uint8 (T, H, W) each, into frames.npy of (N, T, H, W): no more than one is held. returns: sha256 (hex) of all of them"""
    content = hashlib.sha256()
    unfinished = folder / "frames.unfinished.npy"
    with unfinished.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        written = 0
        for row in rows:
            pixels = np.ascontiguousarray(row).tobytes()
            content.update(pixels)
            written += file.write(pixels)
    assert written == np.prod(shape), f"{written} bytes of {shape}"
    os.replace(unfinished, folder / "frames.npy")
    return content.hexdigest()


def save_facts(clips: Clips, folder: Path) -> None:
    """All but the frames, which are there already."""
    _save_labels(clips.labels, folder)
    without = Clips(**{**clips.__dict__, "frames": np.empty((len(clips), 0, 0, 0), np.uint8)})
    table = asdict(without)
    del table["frames"], table["labels"]
    save_json(table, folder / "clips.json")


def _save_labels(labels: Int64, folder: Path) -> None:
    np.save(folder / "labels.unfinished.npy", labels)
    os.replace(folder / "labels.unfinished.npy", folder / "labels.npy")


def save_json(content: Any, path: Path) -> None:
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(json.dumps(content, default=str), encoding="utf-8")
    os.replace(unfinished, path)
