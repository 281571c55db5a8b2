"""One connection to the porter on a board: frames go out, answers come back in time, or the link is dead.

The remote command is one constant: Python and a bootstrap that fetches the agent's pack if the board does not hold it, then becomes the porter.
Everything else, names and arguments too, travels as data on its standard input.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import struct
import threading
import time
from typing import Any

import paramiko

from fercompress.errors import DiskFullError, TargetBusyError, TargetError
from fercompress.measure.agentpack import AgentPack
from fercompress.measure.endpoint import Address
from fercompress.measure.ssh import CONNECT_S, Login, UnreachableError

FRAME = struct.Struct(">II")
HEADER_LIMIT_BYTES = 1 << 20
BODY_LIMIT_BYTES = 1 << 20
NOISE_LIMIT_BYTES = 1 << 20  # of what a login shell may print before the porter speaks
SETTLE_S = 3.0
STALL_S = 60.0
IDLE_S = 60.0
START_S = 30.0  # for a slow board to start Python and read the pack
SLOWEST_BYTES_PER_S = 16 << 10  # a request may take this much longer for what it carries

DISK_FULL = (28, 122)  # ENOSPC and EDQUOT of Linux

# Any Python can read this far enough to say that it is too old.
BOOTSTRAP = """\
import sys
if sys.version_info < (3, 6):
    sys.stdout.write("fercompress: python %d.%d\\n" % sys.version_info[:2])
    sys.exit(3)
import hashlib, json, os
source, sink = sys.stdin.buffer, sys.stdout.buffer
ask = json.loads(source.readline(65536).decode("ascii"))
def say(words):
    sink.write((ask["nonce"] + " " + words + "\\n").encode("ascii"))
    sink.flush()
def sound(path):
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest() == ask["sha256"]
    except OSError:
        return False
try:
    os.umask(0o077)
    # Its UTF-8 bytes, also where the locale is C and this Python's own spelling is ASCII.
    ask["folder"] = os.path.join(os.path.expanduser("~"), os.fsdecode(ask["workspace"].encode("utf-8")))
    os.makedirs(os.path.join(ask["folder"], "files"), exist_ok=True)
    pack = os.path.join(ask["folder"], "files", ask["pack"])
    if not sound(pack):
        say("need")
        with open(pack + ".new", "wb") as file:
            file.write(source.read(ask["bytes"]))
        os.replace(pack + ".new", pack)
        if not sound(pack):
            raise OSError(5, "the agent's file is damaged on its way")
    sys.path.insert(0, pack)
    from fercompress_agent import porter
    porter.main(ask, say)
except OSError as error:
    name = os.fsencode(error.filename or "").decode("utf-8", "replace")
    say("failed " + json.dumps([error.errno or 0, error.strerror or str(error), name]))
"""


class LinkLostError(Exception):
    """No answer in time, or the connection ended: close it and try another."""


class Link:
    """A logged-in connection whose far end is the porter."""

    def __init__(
        self, address: Address, pack: AgentPack, owner: dict[str, str], *, stall_s: float = STALL_S, idle_s: float = IDLE_S, take_over: bool = False
    ) -> None:  # fmt: skip
        """owner: token and name of who wants the workspace; stall_s: the porter ends when an answer is not taken for so long; idle_s: and when
        nothing is asked for so long: a host that is dead, or behind an SSH server that was stopped

        take_over: end what another owner runs there

        raises: UnreachableError, TargetError, TargetBusyError, DiskFullError
        """
        self.address = address
        self.title = f"target {address.title!r}"
        self._login = Login(address)
        self._number = 0
        self._buffer = b""
        self._serves = False
        self._noise: list[bytes] = []  # what the login shell printed before the porter spoke
        self._readable = threading.Event()
        try:
            self._start(pack, {"owner": owner, "stall_s": stall_s, "idle_s": idle_s, "take_over": take_over})
        except (LinkLostError, OSError, EOFError, paramiko.SSHException) as error:
            self.close()
            raise UnreachableError(f"{self.title}: the connection ended while the agent started ({error}); is the board starting?") from error
        except BaseException:
            self.close()
            raise

    def _start(self, pack: AgentPack, wishes: dict[str, Any]) -> None:
        transport = self._login.client.get_transport()
        assert transport is not None
        self._channel = transport.open_session(timeout=CONNECT_S)
        self._channel.settimeout(CONNECT_S)
        self._channel.in_buffer.set_event(self._readable)
        # paramiko waits for the answer to this request without a deadline; the end of the connection ends that wait.
        watch = threading.Timer(START_S, transport.close)
        watch.daemon = True
        watch.start()
        try:
            self._channel.exec_command(command(self.address.python))
        finally:
            watch.cancel()
        try:
            self._greet(pack, wishes)
        except LinkLostError:  # sending may fail as well as reading, where the command ended at once
            self._explain()
            raise
        self._serves = True

    def _greet(self, pack: AgentPack, wishes: dict[str, Any]) -> None:
        nonce = secrets.token_hex(16)
        first = {
            **wishes, "nonce": nonce, "workspace": self.address.workspace, "pack": pack.name, "sha256": pack.sha256, "bytes": len(pack.data),
            "disk_bytes": self.address.disk_mb << 20,
        }  # fmt: skip
        self._send(json.dumps(first).encode("ascii") + b"\n", START_S)
        word, rest = self._word(nonce.encode("ascii"))
        if word == "need":
            self._send(pack.data, START_S)
            word, rest = self._word(nonce.encode("ascii"))
        if word == "busy":
            raise self._busy(rest)
        if word == "failed":
            number, reason, file = json.loads(rest)
            raise disk_error(self.address, number, reason, file)
        if word != "ready":
            raise TargetError(f"{self.title}: {self.address.python} there did not start the agent ({word[:60]!r}); run the same command again")

    def _word(self, nonce: bytes) -> tuple[str, str]:
        """The next line that begins with the nonce, as its first word and the rest; whatever else is printed is skipped."""
        limit = time.monotonic() + START_S
        while True:
            while b"\n" not in self._buffer:
                self._fill(limit)
                if len(self._buffer) + sum(map(len, self._noise)) > NOISE_LIMIT_BYTES:
                    raise TargetError(f"{self.title}: its login shell prints without end; mend its start-up files (~/.bashrc, ~/.profile)")
            line, _, self._buffer = self._buffer.partition(b"\n")
            # A shell may have printed a prompt or a banner without a line end in front.
            _, found, words = line.rpartition(nonce + b" ")
            if found:
                word, _, rest = words.decode("ascii", "replace").partition(" ")
                return word, rest
            self._noise.append(line + b"\n")

    def _explain(self) -> None:
        """Why the command ended before the porter spoke. raises: TargetError, or returns if only the link was lost"""
        self._settle()
        printed = b"".join([*self._noise, self._buffer, self._channel.in_buffer.empty()])
        if old := re.search(rb"fercompress: python (\d+\.\d+)", printed):
            version = old[1].decode("ascii")
            raise TargetError(f"{self.title}: {self.address.python} there is Python {version}, the agent needs 3.6 or newer: {HINT}")
        if not self._channel.exit_status_ready() or (code := self._channel.recv_exit_status()) < 0:
            return
        said = (printed + self._channel.in_stderr_buffer.empty()).decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        if code in (126, 127):
            raise TargetError(f"{self.title}: there is no {self.address.python} ({said[-1][:200]}): {HINT}")
        raise TargetError(f"{self.title}: {self.address.python} there ended with exit code {code} ({said[-1][:200]}): {HINT}")

    def _busy(self, rest: str) -> TargetBusyError:
        owner = json.loads(rest)
        name, since = shown(owner.get("name", "another host"), 200), shown(owner.get("since", "an unknown time"), 40)
        left_s = owner.get("left_s")
        running = (
            f"a job of its runs on, for {left_s:.0f} s at most" if isinstance(left_s, float) and 0 < left_s < 1e6 else "something of its runs on"
        )
        state = "" if owner.get("connected") is True else f"; its host is not connected, {running}"
        return TargetBusyError(
            f"{self.title}: {name} measures there since {since}{state}; "
            f"wait for its end, or end it: fercompress board clean {self.address.title} --end"
        )

    def ask(self, ask: dict[str, Any], body: bytes, deadline_s: float) -> tuple[dict[str, Any], bytes]:
        """One request and its answer. raises: LinkLostError"""
        self._number += 1
        text = json.dumps({**ask, "id": self._number}).encode("ascii")
        allowed_s = deadline_s + (len(text) + len(body)) / SLOWEST_BYTES_PER_S
        limit = time.monotonic() + allowed_s
        self._send(FRAME.pack(len(text), len(body)) + text + body, allowed_s)
        header_bytes, body_bytes = FRAME.unpack(self._take(FRAME.size, limit))
        if header_bytes > HEADER_LIMIT_BYTES or body_bytes > BODY_LIMIT_BYTES:
            raise LinkLostError(f"an answer of {header_bytes} + {body_bytes} bytes")
        limit += body_bytes / SLOWEST_BYTES_PER_S
        try:
            header = json.loads(self._take(header_bytes, limit))
        except ValueError as error:
            raise LinkLostError("an answer that is not JSON") from error
        answer = self._take(body_bytes, limit)
        if not isinstance(header, dict) or header.get("id") != self._number:
            raise LinkLostError("an answer to another question")
        return header, answer

    def _send(self, data: bytes, allowed_s: float) -> None:
        self._channel.settimeout(allowed_s)
        try:
            self._channel.sendall(data)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise LinkLostError(f"cannot send: {error or type(error).__name__}") from error

    def _take(self, size: int, limit: float) -> bytes:
        while len(self._buffer) < size:
            self._fill(limit)
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _fill(self, limit: float) -> None:
        # Not recv's own timeout: paramiko counts it by the wall clock, which may be set meanwhile.
        if not self._readable.wait(max(0.0, limit - time.monotonic())):
            raise LinkLostError("no answer in time")
        self._channel.settimeout(1.0)
        try:
            piece = self._channel.recv(1 << 18)
        except TimeoutError:
            return
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise LinkLostError(str(error) or type(error).__name__) from error
        if not piece:
            raise LinkLostError("the far end closed the connection" + (f" ({self._last_words()})" if self._serves else ""))
        self._buffer += piece

    def _last_words(self) -> str:
        """Why a porter that had answered ended, as its Python says it."""
        self._settle()
        lines = self._channel.in_stderr_buffer.empty().decode("utf-8", "replace").strip().splitlines()
        return shown(lines[-1], 200) if lines else "it said nothing"

    def _settle(self) -> None:
        """After the end of output: its exit status and last words follow soon, if at all, and then the channel closes."""
        limit = time.monotonic() + SETTLE_S
        while not self._channel.closed and time.monotonic() < limit:
            time.sleep(0.01)

    def close(self) -> None:
        self._login.close()


def disk_error(address: Address, number: int, reason: str, file: str) -> TargetError:
    """The error for an OSError on the target; number: its errno, as Linux counts whatever this machine is"""
    where = f"target {address.title!r}: " + ": ".join(shown(part, 200) for part in (file, reason) if part)
    if number in DISK_FULL:
        return DiskFullError(f"{where}; free some with: fercompress board clean {address.title}")
    return TargetError(f"{where}; the workspace must be writable: see `workspace` in the target's file")


def shown(text: object, most: int) -> str:
    """A target's words, fit to be printed: letters that are none, half of a surrogate pair too, as `?`."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)[:most])


HINT = "see `python` in the target's file"


def command(python: str) -> str:
    """The remote command; nothing in it but the interpreter's name comes from a file, and that is quoted."""
    if python.startswith("~/"):
        python = "./" + python[2:]  # a quoted ~ is not expanded, and commands start in the login home
    return " ".join(shlex.quote(word) for word in (python, "-c", BOOTSTRAP))
