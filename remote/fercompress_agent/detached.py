"""Commands that outlive the link: a named one is started once, supervised apart from its starter, and its end is kept in files.

A job's folder holds `alive` (locked by the supervisor for as long as it lives), `started.json`, `stdout`, `stderr` and `end.json`.
Linux; elsewhere a descendant that left the process group, or whose supervisor was killed, may live on.
"""

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time

from fercompress_agent.facts import utc

BOOT_ID_FILE = "FERCOMPRESS_BOOT_ID_FILE"  # environment: where to read the boot's name instead
RESERVE_BYTES = 4096  # of `end.json`, taken when a job starts: a disk that filled up meanwhile does not lose its end
PIPE_S = 2.0  # a descendant that outlived the kill may hold a pipe open: what was read until then counts
END_S = 5.0  # for a supervisor to end its job when it is told to
DIE_WITH_PARENT, ADOPT_ORPHANS = 1, 36  # PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER


def boot_id():
    """The running boot's name: another one means that the machine started anew. "" where the system has none."""
    try:
        with open(os.environ.get(BOOT_ID_FILE) or "/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


class Job:
    """One named command; `folder` is its own. A Job holds no state: whoever opens the folder sees the same."""

    def __init__(self, folder):
        self.folder = folder

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, argv, cwd, deadline_s, limit_bytes, lock_fd=-1):
        """Start it unless one of this name runs or has ended; one of another command is ended and forgotten first.

        lock_fd: a descriptor that the supervisor keeps open until the command's end
        raises: OSError (ENOSPC, EROFS) when its files cannot be written
        """
        if self._read("started.json").get("argv", argv) != argv:
            self.forget()
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        alive = os.open(self.path("alive"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Whoever holds `alive` may start it; without `started.json` no command has been started in this folder.
            if self._lock(alive) and not os.path.exists(self.path("started.json")):
                with open(self.path("end.part"), "w", encoding="ascii") as file:
                    file.write(" " * RESERVE_BYTES)
                ends_by_s = time.monotonic() + deadline_s
                self._write("started.json", {"argv": argv, "boot_id": boot_id(), "since": utc(), "ends_by_s": ends_by_s})
                _fork(Supervisor(self, argv, cwd, deadline_s, limit_bytes), (alive, lock_fd))
        finally:
            os.close(alive)

    def status(self):
        """returns: state (running, ended, lost, rebooted, unknown), boot_id of its start, and what its end says"""
        running = self.runs()  # before the files are read: a job that ends in between has written its end
        started, end = self._read("started.json"), self._read("end.json")
        if running:
            state = "running"
        elif "exit" in end:
            state = "ended"
        elif not started:  # one that cannot be read was written just before a power cut: a file is renamed before the disk holds its content
            state = "rebooted" if os.path.exists(self.path("started.json")) else "unknown"
        else:
            state = "lost" if started.get("boot_id") == boot_id() else "rebooted"
        return dict(end, state=state, boot_id=started.get("boot_id", ""))

    def runs(self):
        try:
            alive = os.open(self.path("alive"), os.O_RDWR)
        except OSError:
            return False
        try:
            return not self._lock(alive)
        finally:
            os.close(alive)

    def left_s(self):
        """Seconds until the deadline of one that runs; less than none where its supervisor is late."""
        return self._read("started.json").get("ends_by_s", 0.0) - time.monotonic()

    def forget(self):
        """End it if it runs, and remove its folder."""
        limit = time.monotonic() + END_S
        pids = {}
        while self.runs() and time.monotonic() < limit:
            pids = self._read("pids.json")  # one that has only just started has not written them yet
            _kill(os.kill, pids.get("supervisor", 0), signal.SIGTERM)  # the lock is held: the pid is the supervisor's still
            time.sleep(0.01)
        if self.runs():
            _kill(os.kill, pids.get("supervisor", 0), signal.SIGKILL)
        elif "exit" in self._read("end.json"):
            pids = {}  # its end is written: nothing of it lives, and the number may be another's
        else:
            pids = self._read("pids.json") if self._read("started.json").get("boot_id") == boot_id() else {}
        _kill(os.killpg, pids.get("command", 0), signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _lock(self, descriptor):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            return False

    def _read(self, name):
        """{} where there is none, or where a power cut left half of one."""
        try:
            with open(self.path(name), encoding="ascii") as file:
                value = json.load(file)
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def _write(self, name, value):
        with open(self.path(name + ".part"), "w", encoding="ascii") as file:
            json.dump(value, file, sort_keys=True)
        os.replace(self.path(name + ".part"), self.path(name))

    def write_end(self, value):
        """Into the space that was reserved, then renamed."""
        with open(self.path("end.part"), "r+b") as file:
            file.write(json.dumps(value, sort_keys=True).encode("ascii").ljust(RESERVE_BYTES))
        os.replace(self.path("end.part"), self.path("end.json"))

    def write_pids(self, supervisor, command):
        self._write("pids.json", {"supervisor": supervisor, "command": command})


def _fork(supervisor, keep):
    """Run the supervisor in a session of its own, a child of init that holds nothing of its starter's but the descriptors `keep`."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            first = 3
            for descriptor in sorted(kept for kept in keep if kept > 2):
                os.closerange(first, descriptor)
                first = descriptor + 1
            os.closerange(first, 4096)
            supervisor.run()
    finally:
        os._exit(0)


class Supervisor:
    def __init__(self, job, argv, cwd, deadline_s, limit_bytes):
        self.job = job
        self.argv = argv
        self.cwd = cwd
        self.deadline_s = deadline_s
        self.limit_bytes = limit_bytes
        self.told_to_end = False

    def run(self):
        """Start the command, drain its output, end it at its deadline, write its end."""
        began = time.monotonic()  # a clock that is set does not move the deadline
        wake, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        prctl(ADOPT_ORPHANS, 1)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("FERCOMPRESS_HOST")}
        try:
            self.job.write_pids(os.getpid(), 0)
            files = [_Drain(self.job.path(name), self.limit_bytes) for name in ("stdout", "stderr")]
            child = subprocess.Popen(
                self.argv, cwd=self.cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
                start_new_session=True, preexec_fn=lambda: prctl(DIE_WITH_PARENT, signal.SIGKILL),
            )  # fmt: skip
        except (OSError, ValueError) as error:
            number = getattr(error, "errno", None) or 0
            return self.job.write_end({"exit": 127, "killed": "", "failed": os.strerror(number) if number else str(error), "failed_errno": number})
        _quietly(self.job.write_pids, os.getpid(), child.pid)
        _quietly(_prefer_to_kill, child.pid)
        drains = {child.stdout.fileno(): files[0], child.stderr.fileno(): files[1]}
        killed = ""
        while child.poll() is None:
            left_s = began + self.deadline_s - time.monotonic()
            if self.told_to_end or left_s <= 0:
                killed = "told to" if self.told_to_end else "deadline"
                break
            if wake in _drain(drains, min(left_s, 60.0), wake):
                os.read(wake, 4096)
        _kill(os.killpg, child.pid, signal.SIGKILL)
        exit_code = child.wait()
        end_descendants()
        limit = time.monotonic() + PIPE_S
        while drains and time.monotonic() < limit:
            _drain(drains, limit - time.monotonic())
        return self.job.write_end({"exit": exit_code, "killed": killed, "seconds": round(time.monotonic() - began, 3)})

    def _end(self, number, frame):
        self.told_to_end = True


class _Drain:
    """Keeps the first bytes of a stream in a file; the rest is read and dropped, and so is what a full disk refuses."""

    def __init__(self, path, limit_bytes):
        self.file = open(path, "wb", buffering=0)
        self.left_bytes = limit_bytes

    def take(self, data):
        kept = data[: self.left_bytes]
        self.left_bytes -= len(kept)
        try:
            while kept:
                kept = kept[self.file.write(kept) :]
        except OSError:
            self.left_bytes = 0


def _drain(drains, wait_s, *others):
    """Take what the pipes hold, at the latest after wait_s; returns which descriptors were ready."""
    ready = select.select(list(drains) + list(others), [], [], max(0.0, wait_s))[0]
    for descriptor in ready:
        if descriptor in drains:
            data = os.read(descriptor, 65536)
            if data:
                drains[descriptor].take(data)
            else:
                del drains[descriptor]
    return ready


def end_descendants():
    """Kill what left the command's process group: orphans are this process's children, see prctl in `run`."""
    for _ in range(100):
        mine = [pid for pid, parent in _parents() if parent == os.getpid()]
        if not mine:
            return
        for pid in mine:
            _kill(os.kill, pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.005)


def _parents():
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if name.isdigit():
            try:
                with open("/proc/{}/stat".format(name), "rb") as file:
                    yield int(name), int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                pass  # it ended meanwhile


def _prefer_to_kill(pid):
    """When memory runs out the kernel ends the command, not its supervisor nor sshd."""
    with open("/proc/{}/oom_score_adj".format(pid), "w", encoding="ascii") as file:
        file.write("500")


def _quietly(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        pass


def _kill(call, pid, number):
    if pid > 1:
        try:
            call(pid, number)
        except OSError:
            pass  # it has ended


try:
    import ctypes

    _LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
except (ImportError, OSError):  # a Python built without it
    _LIBC = None


def prctl(option, value):
    if _LIBC is not None:
        _LIBC.prctl(option, int(value), 0, 0, 0)
