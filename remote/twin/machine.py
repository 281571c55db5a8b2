"""The running emulator: start, stop, look, and cut the power; and how to reach what runs in it.

The disk is a plain file that outlives the emulator: what the guest had written when the power went is there when it comes back.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from twin.image import USER
from twin.packages import TwinError, download_missing, unpack

QEMU = "qemu-system-aarch64"


class Machine:
    """One emulated board in a folder that `image.build` filled. port: of this machine, forwarded to the guest's sshd"""

    def __init__(self, folder: Path, port: int, cores: int = 2, memory_mb: int = 2048) -> None:
        self.folder, self.port, self.cores, self.memory_mb = folder.absolute(), port, cores, memory_mb
        self.disk = self.folder / "disk.ext4"
        self.pid_file = self.folder / "qemu.pid"
        self.console = self.folder / "console.log"

    def pid(self) -> int | None:
        """The emulator's process, or None where it does not run; a number that now belongs to another program counts as none."""
        try:
            pid = int(self.pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if str(self.disk).encode() in command else None

    def up(self, deadline_s: float = 300.0) -> float:
        """Start it and wait until its sshd answers; returns the seconds that took. raises: TwinError"""
        began = time.monotonic()
        if self.pid() is None:
            if not self.disk.exists():
                self.reset()
            self.console.unlink(missing_ok=True)
            self._start()
        while not self.answers():
            if self.pid() is None:
                raise TwinError(f"the emulator ended while it started; its console: {self.console}")
            if time.monotonic() - began > deadline_s:
                raise TwinError(f"no sshd on port {self.port} within {deadline_s:g} s; its console: {self.console}")
            time.sleep(0.2)
        return time.monotonic() - began

    def _start(self) -> None:
        if self._taken():
            raise TwinError(f"port {self.port} of this machine is taken: give another with --port")
        program, environment = self._emulator()
        command = [program, "-M", "virt", "-cpu", "cortex-a72", "-smp", str(self.cores), "-m", str(self.memory_mb), "-accel", "tcg,thread=multi"]
        command += ["-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{self.console}"]
        command += ["-kernel", str(self.folder / "kernel"), "-initrd", str(self.folder / "initramfs")]
        # The virtual clock has no driver in this kernel: the time is handed over. Huge pages would count memory that was never asked for.
        command += ["-append", f"console=ttyAMA0 quiet panic=-1 transparent_hugepage=never twin.epoch={int(time.time())}"]
        command += ["-drive", f"if=none,id=disk,format=raw,file={self.disk}", "-device", "virtio-blk-pci,drive=disk"]
        command += ["-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22", "-device", "virtio-net-pci,netdev=net,romfile="]
        command += ["-daemonize", "-pidfile", str(self.pid_file)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise TwinError(f"{QEMU} did not start: {done.stderr[-1000:]}")

    def _emulator(self) -> tuple[str, dict[str, str]]:
        """The program and its environment: this machine's own, or one unpacked beside the image."""
        found = shutil.which(QEMU)
        if found:
            return found, dict(os.environ)
        tree = self.folder.parent / "qemu"
        if not (tree / "usr/bin" / QEMU).exists():
            unpack(download_missing("qemu-system-arm", self.folder.parent / "qemu-archives"), tree)
        libraries = [str(path) for path in (tree / "usr/lib").glob("*-linux-gnu*")] + [str(path) for path in (tree / "lib").glob("*-linux-gnu*")]
        return str(tree / "usr/bin" / QEMU), {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}

    def _taken(self) -> bool:
        """Whether anything listens on the port."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def answers(self) -> bool:
        """Whether an sshd greets: the emulator itself accepts connections long before the guest listens."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as link:
                return link.recv(4) == b"SSH-"
        except OSError:
            return False

    def down(self, deadline_s: float = 60.0) -> None:
        """Write everything to the disk, then power off; the power is cut where the guest does not answer."""
        if self.pid() is None:
            return
        subprocess.run([*self.ssh("root"), "sync; busybox poweroff -f"], capture_output=True, stdin=subprocess.DEVNULL, timeout=deadline_s)
        end = time.monotonic() + deadline_s
        while self.pid() is not None and time.monotonic() < end:
            time.sleep(0.2)
        self.power_cut()

    def power_cut(self) -> None:
        """The emulator ends without a word to the guest."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            # A process that ends loses its command line before its sockets: who boots at once would find the port taken.
            end = time.monotonic() + 30
            while (self.pid() is not None or self._taken()) and time.monotonic() < end:
                time.sleep(0.05)

    def reset(self) -> None:
        """The disk as it was built. raises: TwinError while the emulator runs"""
        if self.pid() is not None:
            raise TwinError("the emulator runs: take it down first")
        part = self.folder / "disk.ext4.part"
        subprocess.run(["cp", "--sparse=always", str(self.folder / "disk.base.ext4"), str(part)], check=True)
        part.replace(self.disk)

    def ssh(self, user: str = USER) -> list[str]:
        """An OpenSSH command line that reaches the guest; its words go behind."""
        options = {
            "UserKnownHostsFile": self.known_hosts(),
            "IdentityFile": self.folder / "keys/user_key",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": 30,
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", "-F", "/dev/null", *words, "-p", str(self.port), f"{user}@127.0.0.1"]

    def known_hosts(self) -> Path:
        path = self.folder / "keys/known_hosts"
        key = " ".join((self.folder / "keys/host_key.pub").read_text().split()[:2])
        path.write_text(f"[127.0.0.1]:{self.port} {key}\n")
        return path

    def target(self) -> str:
        """The twin as a target file (fercompress/measure/board.py)."""
        lines = [
            "# An arm64 machine in an emulator: accuracy, sizes and memory are real there, times and watts are not.",
            'kind = "ssh"',
            "emulated = true",
            'host = "127.0.0.1"',
            f"port = {self.port}",
            f'user = "{USER}"',
            f'key = "{self.folder / "keys/user_key"}"',
            'python = "/usr/bin/python3"',
            'engines = ["onnxruntime", "numpy"]',
            "accuracy_processes = 1",
        ]
        return "\n".join(lines) + "\n"
