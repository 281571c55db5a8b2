"""The far end of the host's channel: requests come in on standard input, answers go out on standard output, both framed.

A frame is two big-endian 32-bit lengths, then a JSON object (ASCII), then raw bytes. The host asks one thing at a time; each request may be
repeated without harm, since an answer may be lost with the link. The workspace holds `files` (names that the host gives), `jobs` and `lock`.
"""

import errno
import fcntl
import hashlib
import json
import os
import platform
import select
import shutil
import struct
import sys
import time

from fercompress_agent import Problem
from fercompress_agent.detached import Job, boot_id
from fercompress_agent.facts import utc

FRAME = struct.Struct(">II")
HEADER_LIMIT_BYTES = 1 << 20
BODY_LIMIT_BYTES = 1 << 20
IDLE_S = 900.0  # a host that vanished silently does not keep the board for ever; one that only paused connects again
STALL_S = 60.0  # between the parts of one request
PIECE_BYTES = 256 << 10
JOBS_KEPT = 512
SHARED = ("bundles", "clips", "features", "models", "wheels")  # folders whose entries stand for themselves, and may each be removed to make room


class Ended(Exception):
    """The link has ended, or another one has taken over."""


class Busy(Exception):
    """Another owner holds the workspace; the argument is who."""


class Wire:
    """Frames over two descriptors."""

    def __init__(self, source, sink):
        self.source = source
        self.sink = sink

    def receive(self):
        header_bytes, body_bytes = FRAME.unpack(self._exactly(FRAME.size, IDLE_S))
        if header_bytes > HEADER_LIMIT_BYTES or body_bytes > BODY_LIMIT_BYTES:
            raise Ended("a frame of {} + {} bytes".format(header_bytes, body_bytes))
        header = json.loads(self._exactly(header_bytes, STALL_S).decode("ascii"))
        return header, self._exactly(body_bytes, STALL_S)

    def send(self, header, body=b""):
        text = json.dumps(header, sort_keys=True).encode("ascii")
        data = memoryview(FRAME.pack(len(text), len(body)) + text + body)
        while data:
            data = data[os.write(self.sink, data) :]

    def _exactly(self, size, wait_s):
        data = bytearray()
        while len(data) < size:
            if not select.select([self.source], [], [], wait_s)[0]:
                raise Ended("silence")
            piece = os.read(self.source, min(65536, size - len(data)))
            if not piece:
                raise Ended("end of input")
            data += piece
        return bytes(data)


class Porter:
    """workspace: an absolute path; owner: {"token", "name"}: who may use it, of whom there is one at a time"""

    def __init__(self, workspace, owner, disk_bytes):
        self.workspace = workspace
        self.owner = owner
        self.disk_bytes = disk_bytes
        self.files = os.path.join(workspace, "files")
        self.jobs = os.path.join(workspace, "jobs")
        for folder in (self.files, self.jobs):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        self.lock = -1

    def claim(self):
        """Take the workspace for this owner. raises: Busy

        Every process of one owner holds the lock shared, its detached jobs too; only who finds nobody may become the owner.
        """
        self.lock = os.open(os.path.join(self.workspace, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
        if self._flock(fcntl.LOCK_EX):
            self._write_owner()
        for _ in range(50):  # another of ours may be writing the owner's name
            if self._flock(fcntl.LOCK_SH):
                owner = self._read_owner()
                if owner.get("token") != self.owner["token"]:
                    raise Busy(owner)
                self._write_owner()  # names this porter: an earlier one of ours, on a link that is dead to the host, yields
                return
            time.sleep(0.02)
        raise Busy(self._read_owner())

    def holds(self):
        """Is this the porter that was connected last?"""
        return self._read_owner().get("porter") == os.getpid()

    def _flock(self, how):
        try:
            fcntl.flock(self.lock, how | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            return False

    def _write_owner(self):
        since = self._read_owner()
        since = since["since"] if since.get("token") == self.owner["token"] else utc()
        text = json.dumps(dict(self.owner, since=since, porter=os.getpid()), sort_keys=True)
        os.pwrite(self.lock, text.encode("ascii").ljust(1024), 0)  # in place: a full disk does not hinder it

    def _read_owner(self):
        try:
            owner = json.loads(os.pread(self.lock, 1024, 0).decode("ascii"))
        except ValueError:
            return {}
        return owner if isinstance(owner, dict) else {}

    def place(self, name):
        """raises: Problem unless the name stays below `files`"""
        parts = str(name).split("/")
        path = os.path.join(self.files, *parts)
        inside = os.path.realpath(os.path.dirname(path)) + "/"
        if "" in parts or "." in parts or ".." in parts or "\0" in name or not inside.startswith(os.path.realpath(self.files) + "/"):
            raise Problem("a name must stay below the workspace, got {!r}".format(name))
        return path

    def job(self, name):
        if not name or not set(name) <= set("0123456789abcdef-"):
            raise Problem("a job's name is made of 0-9, a-f and -, got {!r}".format(name))
        return Job(os.path.join(self.jobs, name))

    def hello(self, ask, body):
        return {
            "python": platform.python_version(),
            "executable": sys.executable,
            "boot_id": boot_id(),
            "monotonic_s": time.monotonic(),
            "time_s": time.time(),
            "used_bytes": used_bytes(self.workspace),
            "free_bytes": free_bytes(self.workspace),
            "folder": self.files,
        }

    def have(self, ask, body):
        """there: a file of that name and content; part_bytes: how much of it has come; room_bytes: what may still come"""
        path = self.place(ask["name"])
        if sha256_of(path) == ask["sha256"]:
            os.utime(path)  # in use: `evict` takes what was not used for longest
            return {"there": True}
        return {"there": False, "part_bytes": size_of(part(path, ask["sha256"])), "room_bytes": self.room_bytes()}

    def room_bytes(self):
        return min(self.disk_bytes - used_bytes(self.workspace), free_bytes(self.workspace))

    def evict(self, ask, body):
        """Remove what was not used for longest until there is room for needed_bytes, but nothing of `keep` (names, or folders of them)."""
        removed = []
        for name in sorted(self._evictable(set(ask["keep"])), key=lambda name: (last_use(self.place(name)), name)):
            if self.room_bytes() >= ask["needed_bytes"]:
                break
            self.remove({"name": name}, b"")
            removed.append(name)
        return {"room_bytes": self.room_bytes(), "removed": removed}

    def _evictable(self, keep):
        """Entries of the shared folders, and agents of other versions. Installed wheels and jobs' results are not taken: they were asked for."""
        for name in os.listdir(self.files):
            if name in SHARED and name not in keep and os.path.isdir(os.path.join(self.files, name)):
                for inside in os.listdir(os.path.join(self.files, name)):
                    if "{}/{}".format(name, inside) not in keep:
                        yield "{}/{}".format(name, inside)
            elif name.startswith("agent-") and name.endswith(".pyz") and name not in keep:
                yield name

    def write(self, ask, body):
        path = part(self.place(ask["name"]), ask["sha256"])
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if ask["offset"] and not os.path.exists(path):  # another thread of the host sent the same file, or someone cleaned
            return {"part_bytes": 0}
        with open(path, "r+b" if ask["offset"] else "wb") as file:
            file.seek(ask["offset"])
            file.write(body)
        return {"part_bytes": size_of(path)}

    def commit(self, ask, body):
        """sound: the whole content is there under its name; a part that is something else is removed"""
        path = self.place(ask["name"])
        arrived = part(path, ask["sha256"])
        if sha256_of(arrived) == ask["sha256"]:
            if os.path.isdir(path):
                raise Problem("{} is a folder on the target".format(ask["name"]))
            os.replace(arrived, path)
        elif os.path.exists(arrived):
            os.remove(arrived)
        return {"sound": sha256_of(path) == ask["sha256"]}

    def stat(self, ask, body):
        path = self.place(ask["name"])
        if not os.path.isfile(path):
            return {"there": False}
        size_bytes = size_of(path)
        return {"there": True, "bytes": size_bytes, "sha256": sha256_of(path) if size_bytes <= ask["limit_bytes"] else ""}

    def read(self, ask, body):
        return _piece(self.place(ask["name"]), ask["offset"])

    def remove(self, ask, body):
        """Remove a file or a folder; one that is not there is removed."""
        path = self.place(ask["name"])
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        elif os.path.lexists(path):
            os.remove(path)
        return {}

    def start(self, ask, body):
        """pack_sound is False, and nothing started, where the agent's file is not what was sent."""
        for name, sha256 in sorted(ask["check"].items()):
            if name in ask["argv"] and sha256_of(self.place(name)) != sha256:
                return {"pack_sound": False}
        job = self.job(ask["job"])
        job.start(ask["argv"], self.files, ask["deadline_s"], ask["limit_bytes"], self.lock)
        return dict(job.status(), pack_sound=True, now_boot_id=boot_id())

    def status(self, ask, body):
        return dict(self.job(ask["job"]).status(), now_boot_id=boot_id())

    def output(self, ask, body):
        if ask["stream"] not in ("stdout", "stderr"):
            raise Problem("no stream {!r}".format(ask["stream"]))
        return _piece(self.job(ask["job"]).path(ask["stream"]), ask["offset"])

    def forget(self, ask, body):
        for name in ask["jobs"]:
            self.job(name).forget()
        for name in ask["files"]:
            self.remove({"name": name}, b"")
        return {}

    def clean(self, ask, body):
        """Remove everything but the agent's own file; returns how many bytes that freed."""
        before = used_bytes(self.workspace)
        for name in os.listdir(self.jobs):
            self.job(name).forget()
        for name in os.listdir(self.files):
            if name not in ask["keep"]:
                self.remove({"name": name}, b"")
        return {"freed_bytes": before - used_bytes(self.workspace)}

    def trim(self):
        """Ends that nobody asked for are kept, but not for ever."""
        jobs = [Job(os.path.join(self.jobs, name)) for name in os.listdir(self.jobs)]
        jobs.sort(key=lambda job: os.stat(job.folder).st_mtime)
        for job in jobs[: max(0, len(jobs) - JOBS_KEPT)]:
            if not job.runs():
                job.forget()


REQUESTS = {
    name: getattr(Porter, name)
    for name in ("hello", "have", "write", "commit", "stat", "read", "remove", "start", "status", "output", "forget", "clean", "evict")
}


def _piece(path, offset):
    with open(path, "rb") as file:
        file.seek(offset)
        return {}, file.read(PIECE_BYTES)


def part(path, sha256):
    """Where a file comes in; named after its content, so that what is continued is the same file."""
    return "{}.{}.part".format(path, sha256[:16])


def size_of(path):
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def sha256_of(path):
    """"" where there is no such file."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                digest.update(piece)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""
    return digest.hexdigest()


def used_bytes(folder):
    return sum(size_of(os.path.join(where, name)) for where, _, names in os.walk(folder) for name in names)


def last_use(path):
    """Seconds since the epoch: of a folder, those of whatever in it was used last."""
    found = [path] + [os.path.join(where, name) for where, _, names in os.walk(path) for name in names]
    return max(os.lstat(each).st_mtime for each in found)


def free_bytes(folder):
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize


def serve(porter, wire):
    """Answer until the link ends. raises: Ended"""
    while True:
        ask, body = wire.receive()
        if not porter.holds():
            raise Ended("a later link has taken over")
        try:
            answer = REQUESTS[ask["ask"]](porter, ask, body)
            head, body = answer if isinstance(answer, tuple) else (answer, b"")
        except Problem as problem:
            head, body = {"refused": str(problem)}, b""
        except OSError as error:
            head, body = {"errno": error.errno or 0, "error": os.strerror(error.errno) if error.errno else str(error), "file": str(error.filename or "")}, b""
        wire.send(dict(head, id=ask["id"]), body)


def main(ask, say):
    """Called by the bootstrap on a host's connection. say: writes one line that the host recognises"""
    source, sink = os.dup(0), os.dup(1)
    # What a library prints must not get between the frames.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    porter = Porter(ask["folder"], ask["owner"], ask["disk_bytes"])
    try:
        porter.claim()
    except Busy as busy:
        return say("busy " + json.dumps(busy.args[0]))
    porter.trim()
    say("ready")
    os.dup2(2, 1)
    try:
        serve(porter, Wire(source, sink))
    except (Ended, BrokenPipeError):
        return None
