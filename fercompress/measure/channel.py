"""A way to a target: files go there and come back, and commands run there with a deadline."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import psutil

from fercompress.errors import AgentError, DiskFullError, TargetError, TargetTimeoutError

OUTPUT_LIMIT_BYTES = 4 << 20  # of stdout and of stderr each; what is beyond is read and dropped
FILE_LIMIT_BYTES = 256 << 20  # of a file that comes back
LINK_FROM_BYTES = 16 << 20  # smaller files are copied, so that damage to one of two copies never reaches the other
PIPE_S = 2.0  # a descendant that outlived the kill may hold a pipe open: what was read until then counts


@dataclass(frozen=True)
class Completed:
    """exit_code: negative, as in subprocess, where a signal ended the command."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Channel(Protocol):
    """Remote names are relative, with `/`; commands run in the folder that they are relative to.

    All raise TargetError when the target cannot be reached; `close` ends every command that still runs.
    All may be called from several threads.
    """

    def put(self, local: Path, remote: str) -> None:
        """The name appears when the file is complete. A file that is there with this content is left alone: others may be reading it."""
        ...

    def run(self, argv: list[str], deadline_s: float, job: str = "") -> Completed:
        """job: the command's name. Where commands outlive a lost link or this process, one of that name that runs, or has ended, is taken up."""
        ...

    def get(self, remote: str, local: Path) -> None: ...

    def forget(self, job: str, files: Sequence[str] = ()) -> None:
        """What the command of this name left (its status, its output) and these files are not needed any more; what is not there is fine."""
        ...

    def running(self) -> dict[str, float]:
        """The commands that run on the target for this run, whoever started them: by name, how many seconds their deadlines leave them."""
        ...

    def remove(self, remote: str) -> None:
        """Remove a file or a folder; one that is not there is removed."""
        ...

    def reserve(self, names: Sequence[str]) -> None:
        """These files and folders will be needed: where space is limited, they are not removed to make room for others."""
        ...

    def close(self) -> None: ...


class LocalChannel:
    """This machine: `root` holds the files, commands are children in sessions of their own, so that a whole tree can be ended."""

    def __init__(self, root: Path, output_limit_bytes: int = OUTPUT_LIMIT_BYTES, file_limit_bytes: int = FILE_LIMIT_BYTES) -> None:
        self.root = root
        self.output_limit_bytes = output_limit_bytes
        self.file_limit_bytes = file_limit_bytes
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def put(self, local: Path, remote: str) -> None:
        """A copy; of a large file a hard link, where the file system allows one."""
        place = self._place(remote)
        part = place.with_name(f"{place.name}.{threading.get_ident()}.part")
        try:
            if _same(local, place):
                return
            place.parent.mkdir(parents=True, exist_ok=True)
            part.unlink(missing_ok=True)
            if local.stat().st_size < LINK_FROM_BYTES or not _linked(local, part):
                shutil.copyfile(local, part)
            part.replace(place)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise target_error(f"cannot put {local} to {place}", error) from error

    def get(self, remote: str, local: Path) -> None:
        place = self._place(remote)
        try:
            size_bytes = place.stat().st_size
            if size_bytes > self.file_limit_bytes:
                raise AgentError(f"{place}: {size_bytes} bytes came back, more than the limit of {self.file_limit_bytes}; is this the agent's file?")
            local.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place, local)
        except FileNotFoundError as error:
            raise AgentError(f"{place}: the target has no such file") from error
        except OSError as error:
            raise target_error(f"cannot get {place} to {local}", error) from error

    def run(self, argv: list[str], deadline_s: float, job: str = "") -> Completed:  # noqa: ARG002  a child ends with this process
        """raises: TargetTimeoutError past the deadline, after the command and all its children have been killed; AgentError if it cannot start"""
        with self._lock:
            if self._closed:
                raise TargetError(f"the way to this machine is closed: {argv[0]} was not started")
            try:
                self.root.mkdir(parents=True, exist_ok=True)
                # The agent ends itself when this process is killed; see its __main__.
                child = subprocess.Popen(
                    argv, cwd=self.root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                    env={**os.environ, "FERCOMPRESS_HOST_PID": str(os.getpid())},
                )  # fmt: skip
            except OSError as error:
                raise AgentError(f"cannot start {argv[0]}: {error.strerror}; does the target's file name the right python?") from error
            self._running.add(child)
        assert isinstance(child.stdout, BufferedReader)
        assert isinstance(child.stderr, BufferedReader)
        readers = [_Reader(child.stdout, self.output_limit_bytes), _Reader(child.stderr, self.output_limit_bytes)]
        try:
            exit_code = child.wait(deadline_s)
        except subprocess.TimeoutExpired as error:
            raise TargetTimeoutError(
                f"no end of {' '.join(argv)!r} within {deadline_s:g} s: killed; raise deadline_s under [measure] if it needs longer"
            ) from error
        finally:
            # Whatever ended the wait (a deadline, Ctrl-C, the command's end): nothing of its tree stays.
            end_tree(child)
            for reader in readers:
                reader.join(PIPE_S)
            with self._lock:
                self._running.discard(child)
        return Completed(exit_code, readers[0].data, readers[1].data)

    def forget(self, job: str, files: Sequence[str] = ()) -> None:  # noqa: ARG002  a child leaves nothing but its files
        for remote in files:
            place = self._place(remote)
            try:
                place.unlink(missing_ok=True)
            except OSError as error:
                raise target_error(f"cannot remove {place}", error) from error

    def remove(self, remote: str) -> None:
        place = self._place(remote)
        try:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
        except OSError as error:
            raise target_error(f"cannot remove {place}", error) from error

    def running(self) -> dict[str, float]:
        """A child ends with the process that started it."""
        return {}

    def reserve(self, names: Sequence[str]) -> None:
        """This machine's disk has no budget: nothing is ever removed to make room."""

    def close(self) -> None:
        with self._lock:
            self._closed = True
            running = list(self._running)
        for child in running:
            end_tree(child)

    def _place(self, remote: str) -> Path:
        place = self.root / remote
        if Path(remote).is_absolute() or ".." in Path(remote).parts:
            raise ValueError(f"remote names are relative and stay below the root, got {remote!r}")
        return place


class _Reader(threading.Thread):
    """Drains a pipe to its end, so that a talkative child never blocks, and keeps the first `limit_bytes`."""

    def __init__(self, pipe: BufferedReader, limit_bytes: int) -> None:
        super().__init__(daemon=True)
        self.pipe = pipe
        self.limit_bytes = limit_bytes
        self.data = b""
        self.start()

    def run(self) -> None:
        with self.pipe:
            while piece := self.pipe.read1(65536):
                self.data += piece[: max(0, self.limit_bytes - len(self.data))]


def end_tree(child: subprocess.Popen[bytes]) -> None:
    """Kill a child's process group and any descendant that left the group; reap the child."""
    descendants: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        descendants = psutil.Process(child.pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    for process in descendants:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    child.wait()


def _same(local: Path, place: Path) -> bool:
    """Whether the place holds the local file's content."""
    if not place.is_file() or place.stat().st_size != local.stat().st_size:
        return False
    return os.path.samefile(local, place) or _sha256(local) == _sha256(place)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _linked(local: Path, part: Path) -> bool:
    try:
        os.link(local, part)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise
        return False
    return True


def target_error(what: str, error: OSError) -> TargetError:
    if error.errno == errno.ENOSPC:
        return DiskFullError(f"{what}: no space left; free some and run the same command again")
    return TargetError(f"{what}: {error.strerror}")
