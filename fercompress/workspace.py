"""The folder of one run: where each stage keeps what it made, and that only one process writes there at a time.

index.html report.md summary.json summary.csv figures/     what people read
results.sqlite                                             what was measured (append-only)
seal.json                                                  sha256 of all that; there is none while a run is not finished
search.json search.jsonl                                   every trial of a search, and what it needs to go on
bundles/<sha256>/                                          what was measured with
work/                                                      clips, checkpoints, features: can be deleted, is made again
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fercompress.errors import DiskFullError, FercompressError, InputError, StudyError

_NO_SPACE = "no space left; free some and run the same command again, finished work is kept"
_LOCK = ".fercompress-lock"
_RESULTS = ("results.sqlite", "results.sqlite-wal", "results.sqlite-shm")
_SEARCH = ("search.json", "search.jsonl")
_OURS = ("seal.json", *_SEARCH, "index.html", "report.md", "summary.json", "summary.csv", "figures", *_RESULTS, "bundles", "work")


class Workspace:
    """Paths below one output folder. Making one creates nothing; `locked` does."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def results(self) -> Path:
        return self.root / "results.sqlite"

    @property
    def search(self) -> Path:
        return self.root / "search.jsonl"

    @property
    def bundles(self) -> Path:
        return self.root / "bundles"

    def work(self, kind: str, key: str) -> Path:
        """kind: clips, teacher, features, variant ...; key: a digest of all that its content depends on."""
        return self.root / "work" / f"{kind}-{key[:16]}"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; it is created if need be. raises: StudyError if it cannot be written or another process holds it"""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            handle = open(self.root / _LOCK, "a")  # noqa: SIM115  closed below, after the lock
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise DiskFullError(f"{self.root}: {_NO_SPACE}") from error
            raise StudyError(f"--out {self.root}: cannot be written ({error.strerror}); choose a folder of your own") from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StudyError(f"--out {self.root}: another fercompress is writing there; wait for it or choose another folder") from error
            yield

    def clear(self) -> None:
        """Delete what a run made, and nothing else."""
        for name in _OURS:
            path = self.root / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def load_json(self, path: Path) -> Any:
        """The content of a file that `save_json` wrote, or None where there is none."""
        return json.loads(path.read_text()) if path.exists() else None

    def save_json(self, path: Path, content: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".unfinished")
        unfinished.write_text(json.dumps(content, sort_keys=True))
        os.replace(unfinished, path)


@contextlib.contextmanager
def full_disk_is_an_error(folder: Path) -> Iterator[None]:
    """Turn ENOSPC, wherever it struck, into a DiskFullError (exit 4): what was finished before is kept."""
    try:
        yield
    except FercompressError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"{error.filename or folder}: {_NO_SPACE}") from error
        raise
    except RuntimeError as error:  # torch reports a failed write so
        if shutil.disk_usage(folder).free < 1_000_000:
            raise DiskFullError(f"{folder}: {_NO_SPACE}") from error
        raise


def check_out(out: Path) -> None:
    """Refuse an output path before the long work begins. raises: InputError"""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
