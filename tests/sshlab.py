"""A real sshd on 127.0.0.1 under the tests' own keys, and a TCP proxy in front of it that breaks links in every way that links break."""

from __future__ import annotations

import contextlib
import getpass
import os
import random
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import paramiko
import psutil
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fercompress.measure.endpoint import Address
from fercompress.measure.ssh import fingerprint


def sshd_path() -> str:
    """Skips, with the reason, where no sshd can be run."""
    places = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/usr/lib/ssh"
    found = shutil.which("sshd", path=places)
    if found is None:
        pytest.skip("no sshd on this machine: install openssh-server")
    return str(Path(found).resolve())


def write_key(path: Path) -> str:
    """A fresh ed25519 key; returns its public line."""
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_bytes(text)
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


class Sshd:
    """`home` is the login home; `rc` is a file that the login shell reads first: banners, PATH, variables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.rc = folder / "rc"
        self.boot_id = folder / "boot_id"
        self.known_hosts = folder / "known_hosts"
        self.home.mkdir(parents=True)
        self.rc.write_bytes(b"")
        self.boot_id.write_text("first-boot\n")
        self.port = free_port()
        (folder / "authorized_keys").write_text(write_key(folder / "user_key") + "\n")
        self.new_host_key()
        self.trust()
        # Whatever the account's shell is: the command that the client sends is run by sh after `rc`, at home.
        (folder / "shell").write_text(
            f"#!/bin/sh\nexport HOME={shlex.quote(str(self.home))} FERCOMPRESS_BOOT_ID_FILE={shlex.quote(str(self.boot_id))}\ncd\n"
            f'. {shlex.quote(str(self.rc))}\neval "$SSH_ORIGINAL_COMMAND"\n'
        )
        (folder / "shell").chmod(0o755)
        (folder / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized_keys\nPidFile none\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nLogLevel ERROR\n"
            f"MaxStartups 100\nForceCommand {folder}/shell\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def new_host_key(self) -> None:
        self.host_key = write_key(self.folder / "host_key")

    def trust(self, *more_ports: int) -> None:
        lines = [f"[127.0.0.1]:{port} {self.host_key}\n" for port in (self.port, *more_ports)]
        self.known_hosts.write_text("".join(lines))

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = [sshd_path(), "-D", "-e", "-f", str(self.folder / "config")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        limit = time.monotonic() + 60
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > limit:
                pytest.skip(f"sshd does not start here: {(self.folder / 'log').read_text()[-300:]}")
            time.sleep(0.02)

    def answers(self) -> bool:
        """Whether a server greets: a connection alone may be one that nobody takes any more."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as link:
                return link.recv(4) == b"SSH-"
        except OSError:
            return False

    def sessions(self) -> list[psutil.Process]:
        """sshd's own processes of the connections; not what runs in them."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        return [child for child in children if _name(child).startswith("sshd")]

    def kill(self) -> None:
        """kill -9 of sshd and all its sessions; what runs detached stays."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):  # stopped first: a session that it starts meanwhile would outlive it, and hold its port
            self.process.send_signal(signal.SIGSTOP)
        victims = self.sessions()
        self.process.kill()
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        self.process.wait()

    def signal_sessions(self, number: int) -> None:
        for session in self.sessions():
            with contextlib.suppress(psutil.NoSuchProcess):
                session.send_signal(number)

    def reboot(self) -> None:
        """As a power cut looks from outside: every process is gone at once, sshd comes back, the boot's name is another."""
        self.kill()
        for process in self.lab_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.boot_id.write_text("second-boot\n")
        self.start()

    def lab_processes(self) -> list[psutil.Process]:
        """Everything that runs in the login home: porters, supervisors, commands."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("HOME") == str(self.home):
                    found.append(process)
        return found

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for process in self.lab_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def address(self, port: int | None = None, **changes: object) -> Address:
        address = Address(
            "127.0.0.1", "lab", port or self.port, getpass.getuser(), self.folder / "user_key", sys.executable, "work",
            self.known_hosts, unreachable_s=20.0,
        )  # fmt: skip
        return replace(address, **changes)  # type: ignore[arg-type]

    @property
    def files(self) -> Path:
        return self.home / "work" / "files"

    def fingerprint(self) -> str:
        return fingerprint(paramiko.Ed25519Key.from_private_key_file(str(self.folder / "host_key")))


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name()
    return ""


def free_port() -> int:
    """Below the ports of outgoing connections: on one of those, a connection to a server that is not up yet may meet itself.

    Each worker of a parallel run has a range of its own: what one has found free, another may not take before it is used.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 12
    draw = random.SystemRandom()
    while True:
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", 20_000 + 1_000 * worker + draw.randrange(1_000)))
            return int(found.getsockname()[1])


class Proxy:
    """Forwards connections to `port`, and misbehaves when told to.

    rate_bytes_per_s: of each direction; break_share: of the 64 KiB pieces, after which the connection is broken
    """

    def __init__(self, port: int, seed: int = 0) -> None:
        self.target = port
        self.rate_bytes_per_s = 0
        self.break_share = 0.0
        self.cut_after_bytes = 0  # 0: never; else once, after this many bytes of one connection
        self.hole = False
        self.connections = 0
        self.bytes = 0
        self._random = random.Random(seed)
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._closed = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in list(self._threads):
            thread.join(5)

    def cut(self) -> None:
        """RST on every connection, both ways."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._reset(pair)

    def _reset(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            if pair not in self._pairs:
                return
            self._pairs.discard(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads it
            end.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target), 5)
            except OSError:
                near.close()
                continue
            self.connections += 1
            pair = (near, far)
            with self._lock:
                self._pairs.add(pair)
            for source, sink in ((near, far), (far, near)):
                thread = threading.Thread(target=self._forward, args=(pair, source, sink), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _forward(self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket) -> None:
        passed = 0
        try:
            while piece := source.recv(16384):
                while self.hole and not self._closed:
                    time.sleep(0.02)
                if self.rate_bytes_per_s:
                    time.sleep(len(piece) / self.rate_bytes_per_s)
                sink.sendall(piece)
                before, passed = passed, passed + len(piece)
                self.bytes += len(piece)
                if self.cut_after_bytes and passed >= self.cut_after_bytes:
                    self.cut_after_bytes = 0
                    break
                if before >> 16 != passed >> 16 and self._random.random() < self.break_share:
                    break
        except OSError:
            pass
        self._reset(pair)


@contextlib.contextmanager
def isolated(monkeypatch: pytest.MonkeyPatch, folder: Path):
    """The user's own ssh config, keys and agent stay out of it."""
    home = folder / "host_home"
    (home / ".ssh").mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    yield home


DEADLINES_S = (1, 4, 16)  # of a command that is to begin and then to be killed: a busy machine may not have started it within the first


def eventually(condition, limit_s: float = 60.0) -> bool:
    """Wait for a condition; returns whether it came true."""
    limit = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


SIGSTOP, SIGCONT = signal.SIGSTOP, signal.SIGCONT
