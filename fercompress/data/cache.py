"""A folder of ready clips: `Clips` in and memory-mapped `Clips` out; frames.npy, labels.npy and clips.json, the last of which is written last.

One process writes into a folder at a time; another waits for it and finds the clips there.
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


class Progress(Protocol):
    """Told after every clip: how many are done, of how many, and a word on it."""

    def __call__(self, completed: int, total: int, detail: str = "") -> None: ...


def silent(completed: int, total: int, detail: str = "") -> None:
    """A `Progress` that tells nobody."""


@contextlib.contextmanager
def held(folder: Path, wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Make the folder and be its only writer; wait: called once if another process is that now, before waiting for it to end."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
