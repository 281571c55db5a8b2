"""A board over SSH as a channel: the three verbs as requests to the porter there, repeated over a new link when one is lost."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import math
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from fercompress_agent.wheels import SITE

from fercompress.errors import AgentError, DiskFullError, TargetError, TargetRebootedError, TargetTimeoutError
from fercompress.measure import agentpack
from fercompress.measure.channel import FILE_LIMIT_BYTES, OUTPUT_LIMIT_BYTES, Completed, target_error
from fercompress.measure.endpoint import Address
from fercompress.measure.link import DISK_FULL, IDLE_S, STALL_S, Link, LinkLostError, disk_error, shown
from fercompress.measure.ssh import UnreachableError

PIECE_BYTES = 256 << 10
REQUEST_S = 15.0  # without an answer the link is dead: keep-alives do not notice a peer that is silent
HASH_BYTES_PER_S = 10 << 20  # of a slow board that reads a file from a slow card
POLL_FIRST_S, POLL_LAST_S = 0.05, 0.5
BACK_OFF_FIRST_S, BACK_OFF_LAST_S = 0.1, 5.0
LATE_S = 30.0  # beyond a command's deadline, after which its supervisor is not believed any more
CLOSE_S = 3.0
SPARE_BYTES = 1 << 20  # of the target's disk, left for jobs' own files


JOB = re.compile(r"[0-9a-f-]{1,64}")
NO_SUCH_FILE = 2  # ENOENT of Linux


class VanishedError(AgentError):
    """A file or folder on the target was removed between two requests, or within one."""


@dataclass(frozen=True)
class Cleaned:
    """owner, since: who had the workspace before, and since when; "" where it was nobody"""

    freed_bytes: int
    owner: str
    since: str


@dataclass(frozen=True)
class Greeting:
    """What the porter says of its machine. clock_offset_s: its wall clock minus this one's, to within half of round_trip_s"""

    python: str
    executable: str
    boot_id: str
    folder: str
    used_bytes: int
    free_bytes: int
    clock_offset_s: float
    round_trip_s: float


class SshChannel:
    """One connection at a time, opened by the first request; several threads may use it.

    owner: the same for every process that may take up what this one started: a run's id. Only one owner at a time has a target's workspace.
    take_over: end what another owner runs there, instead of raising TargetBusyError
    stall_s: on the target, the far end of a link whose answers nobody takes for so long ends
    idle_s: and one that is asked nothing for so long; a thread asks something (`pulse`) where nothing else is asked, so that only a host that is
        dead, or cut off, lets its target go
    """

    def __init__(
        self, address: Address, owner: str = "", *,
        take_over: bool = False, request_s: float = REQUEST_S, stall_s: float = STALL_S, idle_s: float = IDLE_S,
        output_limit_bytes: int = OUTPUT_LIMIT_BYTES, file_limit_bytes: int = FILE_LIMIT_BYTES,
    ) -> None:  # fmt: skip
        self.address = address
        self.title = f"target {address.title!r}"
        self.owner = {"token": owner or secrets.token_hex(16), "name": f"{getpass.getuser()}@{socket.gethostname()}, process {os.getpid()}"}
        self.take_over = take_over
        self.request_s = request_s
        self.stall_s = stall_s
        self.idle_s = idle_s
        self.output_limit_bytes = output_limit_bytes
        self.file_limit_bytes = file_limit_bytes
        self.reconnects = 0
        self._pack = agentpack.pack()
        self._link: Link | None = None
        self._reached = False
        self._executable = ""
        self._lock = threading.RLock()
        self._running: set[str] = set()
        self._reserved: set[str] = set()
        self._closed = threading.Event()
        self._asked_s = 0.0  # of the monotonic clock, when something was asked last
        self._heart: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def put(self, local: Path, remote: str) -> None:
        """raises: TargetError, DiskFullError where the target's disk or its budget (disk_mb) is full"""
        check_name(remote)
        self.reserve([remote])
        try:
            with local.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                size_bytes = file.tell()
                for _ in range(2):  # once more where a disk or a memory bit turned on the way, or somebody cleaned there
                    with contextlib.suppress(VanishedError):
                        if self._send(file, remote, sha256, size_bytes):
                            return
        except OSError as error:
            raise target_error(f"cannot read {local}", error) from error
        raise TargetError(
            f"{self.title}: {remote} arrived damaged twice; is {local} being written, "
            "does something remove files there, or is the target's disk broken?"
        )

    def _send(self, file: Any, remote: str, sha256: str, size_bytes: int) -> bool:
        name = {"name": remote, "sha256": sha256}
        hashing_s = size_bytes / HASH_BYTES_PER_S
        there, _ = self._ask("have", name, more_s=hashing_s)
        if there.get("there") is True:
            return True
        sent = min(_whole(there, "part_bytes"), size_bytes)
        room_bytes = _whole(there, "room_bytes", least=-(1 << 60))
        if (needed_bytes := size_bytes - sent + SPARE_BYTES) > room_bytes and needed_bytes > (room_bytes := self.make_room(needed_bytes)):
            raise DiskFullError(
                f"{self.title}: {remote} needs {size_bytes >> 20} MiB and there is room for {max(0, room_bytes) >> 20} MiB (disk_mb = "
                f"{self.address.disk_mb}); free some with: fercompress board clean {self.address.title}, or raise disk_mb in the target's file"
            )
        while sent < size_bytes or size_bytes == 0:
            file.seek(sent)
            piece = file.read(PIECE_BYTES)
            if not piece and size_bytes:
                break  # it shrank: the sha256 will tell
            answer, _ = self._ask("write", {**name, "offset": sent}, piece)
            sent += len(piece)
            if size_bytes == 0 or _whole(answer, "part_bytes") < sent:
                break
        done, _ = self._ask("commit", name, more_s=2 * hashing_s)
        return done.get("sound") is True

    def get(self, remote: str, local: Path) -> None:
        """raises: AgentError where the target has no such file, or one that is too large"""
        check_name(remote)
        for _ in range(2):
            found, _ = self._ask("stat", {"name": remote, "limit_bytes": self.file_limit_bytes}, more_s=self.file_limit_bytes / HASH_BYTES_PER_S)
            if found.get("there") is not True:
                raise AgentError(f"{self.title}: there is no file {remote}")
            size_bytes = _whole(found, "bytes")
            if size_bytes > self.file_limit_bytes:
                raise AgentError(f"{self.title}: {remote} has {size_bytes} bytes, more than the limit of {self.file_limit_bytes}; is it the agent's?")
            if self._fetch(remote, local, size_bytes, str(found.get("sha256"))):
                return
        raise AgentError(f"{self.title}: {remote} is not what the target says that it is; does something write to it?")

    def _fetch(self, remote: str, local: Path, size_bytes: int, sha256: str) -> bool:
        part = local.with_name(local.name + ".part")
        digest = hashlib.sha256()
        try:
            local.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                while file.tell() < size_bytes:
                    _, piece = self._ask("read", {"name": remote, "offset": file.tell()})
                    if not piece or file.tell() + len(piece) > size_bytes:
                        return False
                    file.write(piece)
                    digest.update(piece)
            if digest.hexdigest() != sha256:
                return False
            part.replace(local)
            return True
        except OSError as error:
            raise target_error(f"cannot get {remote} to {local}", error) from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def run(self, argv: list[str], deadline_s: float, job: str = "") -> Completed:
        """raises: TargetTimeoutError; AgentError if it cannot start or its supervisor was killed; TargetRebootedError"""
        name = job or secrets.token_hex(16)
        check_job(name)
        with self._lock:
            if self._closed.is_set():
                raise TargetError(f"the way to {self.title} is closed: {argv[0]} was not started")
            self._running.add(name)
        try:
            status = self._wait(name, argv, deadline_s)
            if status["state"] != "ended":
                self._forget(name)  # nothing of it is left that could be taken up
                raise self._broken(argv, status)
            if status.get("killed") == "deadline":
                raise TargetTimeoutError(
                    f"{self.title}: no end of {' '.join(argv)!r} within {deadline_s:g} s: killed; raise deadline_s under [measure] if it needs longer"
                )
            if status.get("failed_errno") in DISK_FULL:
                raise DiskFullError(f"{self.title}: no space left to start {argv[0]}; free some with: fercompress board clean {self.address.title}")
            if "failed" in status:
                raise AgentError(f"{self.title}: cannot start {argv[0]}: {status['failed']}; does the target's file name the right python?")
            exit_code = _whole(status, "exit", least=-255)
            return Completed(exit_code, self._output(name, "stdout"), self._output(name, "stderr"))
        except AgentError:
            with contextlib.suppress(TargetError):
                self._forget(name)  # it may run on: another attempt must not run beside it
            raise
        finally:
            with self._lock:
                self._running.discard(name)
            if not job and not self._closed.is_set():
                with contextlib.suppress(TargetError):
                    self._forget(name)

    def _wait(self, name: str, argv: list[str], deadline_s: float) -> dict[str, Any]:
        """Start the job, or take it up, and poll until it is over; returns its last status."""
        command = [self._interpreter(), *argv[1:]] if argv[0] == self.address.python else argv
        check = {self._pack.name: self._pack.sha256}
        start = {"job": name, "argv": command, "deadline_s": deadline_s, "limit_bytes": self.output_limit_bytes, "check": check}
        for _ in range(3):
            status, _ = self._ask("start", start)
            if status.get("pack_sound") is True:
                break
            self.drop_link()  # the next one brings the agent's file again
        else:
            raise TargetError(f"{self.title}: the agent's file {self._pack.name} is damaged there again and again; is its disk broken?")
        boot_id, limit = status.get("now_boot_id"), time.monotonic() + deadline_s + LATE_S
        pause_s = POLL_FIRST_S
        while status.get("state") == "running":
            if self._closed.wait(pause_s):
                raise TargetError(f"the way to {self.title} is closed: {argv[0]} was ended")
            pause_s = min(pause_s * 1.5, POLL_LAST_S)
            status, _ = self._ask("status", {"job": name})
            if status.get("state") == "running" and time.monotonic() > limit:
                self._forget(name)
                return {"state": "ended", "killed": "deadline"}
        if status.get("state") == "unknown" and status.get("now_boot_id") != boot_id:
            status["state"] = "rebooted"  # and its disk was a memory
        return status

    def _broken(self, argv: list[str], status: dict[str, Any]) -> TargetError:
        if status["state"] == "rebooted":
            return TargetRebootedError(f"{self.title}: it started anew while {argv[0]} ran there; look at its power supply, temperature and memory")
        how = "its supervisor was killed" if status["state"] == "lost" else "its files there were removed"
        return AgentError(f"{self.title}: {' '.join(argv)!r} was lost: {how}; was the target out of memory?")

    def _output(self, name: str, stream: str) -> bytes:
        data = bytearray()
        while len(data) < self.output_limit_bytes:
            answer, piece = self._ask("output", {"job": name, "stream": stream, "offset": len(data)})
            if answer.get("gone") is True:
                raise VanishedError(f"{self.title}: what the command said was removed there; does something clean up below the workspace?")
            if not piece:
                break
            data += piece
        return bytes(data[: self.output_limit_bytes])

    def forget(self, job: str, files: Sequence[str] = ()) -> None:
        """End this job if it runs; remove what the target keeps of its end, and these files."""
        check_job(job)
        for name in files:
            check_name(name)
        self._forget(job, files)

    def _forget(self, job: str, files: Sequence[str] = ()) -> None:
        self._ask("forget", {"jobs": [job], "files": list(files)}, more_s=10.0)

    def remove(self, remote: str) -> None:
        """Remove a file or a folder; one that is not there is removed."""
        check_name(remote)
        self._ask("remove", {"name": remote}, more_s=60.0)

    def reserve(self, names: Sequence[str]) -> None:
        for name in names:
            check_name(name)
            if not name.startswith("jobs/"):  # they are small, and never removed to make room
                self._reserved.add("/".join(name.split("/")[:2]))

    def make_room(self, needed_bytes: int) -> int:
        """Remove what earlier runs left, what was not used for longest first, until there is room; returns how many bytes there is room for."""
        answer, _ = self._ask("evict", {"needed_bytes": needed_bytes, "keep": sorted({self._pack.name, *self._reserved})}, more_s=120.0)
        return _whole(answer, "room_bytes", least=-(1 << 60))

    def clean(self, everything: bool = False) -> Cleaned:
        """End every job, remove the workspace's files; the agent and provisioned wheels only with `everything`."""
        answer, _ = self._ask("clean", {"keep": [] if everything else [self._pack.name, SITE]}, more_s=120.0)
        last = answer.get("last")
        owner, since = (shown(last.get(key, ""), 200) for key in ("name", "since")) if isinstance(last, dict) else ("", "")
        return Cleaned(_whole(answer, "freed_bytes", least=-(1 << 60)), owner, since)

    def running(self) -> dict[str, float]:
        answer, _ = self._ask("running", {})
        jobs = answer.get("jobs")
        if not isinstance(jobs, dict) or not all(
            JOB.fullmatch(name) and isinstance(left_s, int | float) and abs(left_s) < 1e9 for name, left_s in jobs.items()
        ):
            raise AgentError(f"the target's answer cannot be used (jobs = {shown(jobs, 60)}); is the agent there the host's own?")
        return {name: float(left_s) for name, left_s in jobs.items()}

    def greet(self) -> Greeting:
        self._ask("hello", {})  # so that the link stands before the round trip is timed
        began, wall_s = time.perf_counter(), time.time()
        facts, _ = self._ask("hello", {})
        round_trip_s = time.perf_counter() - began
        try:
            return Greeting(
                str(facts["python"]), str(facts["executable"]), str(facts["boot_id"]), str(facts["folder"]), _whole(facts, "used_bytes"),
                _whole(facts, "free_bytes"), float(facts["time_s"]) - wall_s - round_trip_s / 2, round_trip_s,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise AgentError(f"{self.title}: the agent's greeting cannot be used ({error})") from error

    def clock(self) -> float:
        """The target's monotonic clock, in seconds: one request, to be set beside the time that it took."""
        answer, _ = self._ask("hello", {})
        value = answer.get("monotonic_s")
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise AgentError(f"{self.title}: the agent's clock cannot be used ({value!r})")
        return float(value)

    def _interpreter(self) -> str:
        """The absolute path of the Python that answers there: a relative name would mean another one in another folder."""
        if not self._executable:
            self._executable = self.greet().executable or self.address.python
        return self._executable

    def _ask(self, what: str, fields: dict[str, Any], body: bytes = b"", more_s: float = 0.0) -> tuple[dict[str, Any], bytes]:
        """One request, over a new link if need be. raises: TargetError if the target stays out of reach for unreachable_s; what the porter refused"""
        gave_up = time.monotonic() + self.address.unreachable_s
        pause_s = 0.0
        while True:
            try:
                with self._lock:
                    answer, data = self._once({"ask": what, **fields}, body, self.request_s + more_s)
                break
            except (LinkLostError, UnreachableError) as error:
                if self._closed.is_set():
                    raise TargetError(f"the way to {self.title} is closed") from error
                if isinstance(error, UnreachableError) and not self._reached:
                    raise  # never reached: the mistake is likelier in the target's file than in the air
                if time.monotonic() + pause_s > gave_up:
                    raise TargetError(
                        f"{self.title}: out of reach for {self.address.unreachable_s:g} s, at last because of this: {error}; "
                        "is it on, has it hung? Once it answers, the same command takes up what was finished"
                    ) from error
                self._closed.wait(pause_s)
                pause_s = min(BACK_OFF_LAST_S, max(BACK_OFF_FIRST_S, 2 * pause_s))
        if "refused" in answer:
            raise AgentError(f"{self.title}: {what} was refused: {shown(answer['refused'], 500)}")
        if answer.get("errno") == NO_SUCH_FILE:
            name = shown(answer.get("file") or "a file", 200)
            raise VanishedError(f"{self.title}: {name} was removed there while it was needed; does something clean up below the workspace?")
        if "errno" in answer:
            raise disk_error(self.address, _whole(answer, "errno"), str(answer.get("error")), str(answer.get("file", "")))
        return answer, data

    def _once(self, ask: dict[str, Any], body: bytes, deadline_s: float) -> tuple[dict[str, Any], bytes]:
        if self._closed.is_set():
            raise TargetError(f"the way to {self.title} is closed")
        if self._link is None:
            link = Link(self.address, self._pack, self.owner, stall_s=self.stall_s, idle_s=self.idle_s, take_over=self.take_over)
            if self._closed.is_set():  # while it was made: nobody would close it any more, and its porter would keep the target
                link.close()
                raise TargetError(f"the way to {self.title} is closed")
            self._link = link
        try:
            answer = self._link.ask(ask, body, deadline_s)
            self._reached, self._asked_s = True, time.monotonic()
            if self._heart is None:
                self._heart = threading.Thread(target=self._beat, name=f"pulse of {self.title}", daemon=True)
                self._heart.start()
            return answer
        except BaseException:
            # Ctrl-C too: an answer that is still on its way would be taken for the next one's.
            self.reconnects += 1
            self.drop_link()
            raise

    def _beat(self) -> None:
        """Until the channel is closed: a pulse wherever a quarter of idle_s passed without another request. A link that is lost is left to the next
        request, which makes another one."""
        while not self._closed.wait(self.idle_s / 8):
            if time.monotonic() - self._asked_s < self.idle_s / 4 or not self._lock.acquire(blocking=False):
                continue
            try:
                if self._link is not None and not self._closed.is_set():
                    self._link.ask({"ask": "pulse"}, b"", min(self.request_s, self.idle_s))
                    self._asked_s = time.monotonic()
            except (LinkLostError, OSError):
                self.reconnects += 1
                self.drop_link()
            finally:
                self._lock.release()

    def drop_link(self) -> None:
        """Close the connection; the next request opens another."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def close(self) -> None:
        """End what this channel's threads wait for, if the target can be told so within a few seconds."""
        with contextlib.ExitStack() as held:
            self._closed.set()
            if self._lock.acquire(timeout=CLOSE_S):
                held.callback(self._lock.release)
                if self._link is not None and self._running:
                    with contextlib.suppress(LinkLostError):
                        self._link.ask({"ask": "forget", "jobs": sorted(self._running), "files": []}, b"", CLOSE_S)
            link, self._link = self._link, None
            if link is not None:
                link.close()


def check_name(remote: str) -> None:
    """raises: ValueError unless the name is relative and stays below the root"""
    parts = remote.split("/")
    if not remote or PurePosixPath(remote).is_absolute() or {"", ".", ".."} & set(parts) or "\0" in remote:
        raise ValueError(f"remote names are relative and stay below the root, got {remote!r}")


def check_job(name: str) -> None:
    """raises: ValueError unless the name is made of 0-9, a-f and -"""
    if not JOB.fullmatch(name):
        raise ValueError(f"a job's name is made of 0-9, a-f and -, up to 64 of them, got {name!r}")


def _whole(answer: dict[str, Any], key: str, least: int = 0) -> int:
    """raises: AgentError unless the answer has a whole number there"""
    value = answer.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 60:
        raise AgentError(f"the target's answer cannot be used ({key} = {str(value)[:60]!r}); is the agent there the host's own?")
    return value
