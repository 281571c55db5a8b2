"""The far end of the host's channel: requests come in on standard input, answers go out on standard output, both framed (`wire.py`).

The host asks one thing at a time; each request may be repeated without harm, since an answer may be lost with the link, and any file may be gone
since it was last looked at. The workspace holds `files` (names that the host gives), `jobs` and `lock`.
"""

import hashlib
import json
import os
import platform
import shutil
import sys
import time

from fercompress_agent import Problem, spelling
from fercompress_agent.detached import Job, boot_id
from fercompress_agent.wire import IDLE_S, STALL_S, Ended, Wire
from fercompress_agent.workspacelock import Busy, WorkspaceLock

PIECE_BYTES = 256 << 10
JOBS_KEPT = 512
END_S = 10.0  # for what held the workspace to be gone, once it was ended
SHARED = ("bundles", "clips", "features", "models", "wheels")  # folders whose entries stand for themselves, and may each be removed to make room


class Porter:
    """workspace: an absolute path; owner: {"token", "name"}: who may use it, of whom there is one at a time; disk_bytes: what it may take"""

    def __init__(self, workspace, owner, disk_bytes):
        self.workspace = workspace
        self.disk_bytes = disk_bytes
        self.files = os.path.join(workspace, "files")
        self.jobs = os.path.join(workspace, "jobs")
        for folder in (self.files, self.jobs):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        self.lock = WorkspaceLock(os.path.join(workspace, "lock"), owner)

    def take_over(self):
        """Claim the workspace; whatever of another owner's runs here, its host's connection too, is ended. raises: Busy"""
        limit = time.monotonic() + END_S
        while True:
            try:
                return self.lock.claim()
            except Busy:
                if time.monotonic() > limit:
                    raise
            self.lock.end_porter()
            for name in self.running({}, b"")["jobs"]:
                self.job(name).forget()
            time.sleep(0.02)  # the lock is let go when they are gone

    def place(self, name):
        """raises: Problem unless the name stays below `files`"""
        name = spelling.here(name)
        parts = name.split("/")
        path = os.path.join(self.files, *parts)
        if "" in parts or "." in parts or ".." in parts or "\0" in name or not self._holds(os.path.dirname(path)):
            raise Problem("a name must stay below the workspace, got {!r}".format(name))
        return path

    def _holds(self, folder):
        return (os.path.realpath(folder) + "/").startswith(os.path.realpath(self.files) + "/")

    def job(self, name):
        if not is_job(name):
            raise Problem("a job's name is made of 0-9, a-f and -, got {!r}".format(name))
        return Job(os.path.join(self.jobs, name))

    def hello(self, ask, body):
        return {
            "python": platform.python_version(),
            "executable": spelling.told(sys.executable),
            "boot_id": boot_id(),
            "monotonic_s": time.monotonic(),
            "time_s": time.time(),
            "used_bytes": used_bytes(self.workspace),
            "free_bytes": free_bytes(self.workspace),
            "folder": spelling.told(self.files),
        }

    def pulse(self, ask, body):
        """The host lives: it asks so while it has nothing else to ask."""
        return {}

    def have(self, ask, body):
        """there: a file of that name and content; part_bytes: how much of it has come; room_bytes: what may still come"""
        path = self.place(ask["name"])
        if sha256_of(path) == ask["sha256"]:
            _quietly(os.utime, path)  # in use: `evict` takes what was not used for longest
            return {"there": True}
        return {"there": False, "part_bytes": size_of(part(path, ask["sha256"])), "room_bytes": self.room_bytes()}

    def room_bytes(self):
        return min(self.disk_bytes - used_bytes(self.workspace), free_bytes(self.workspace))

    def evict(self, ask, body):
        """Remove what was not used for longest until there is room for needed_bytes, but nothing of `keep` (names, or folders of them)."""
        removed = []
        for path in sorted(self._evictable(set(ask["keep"])), key=lambda path: (last_use(path), path)):
            if self.room_bytes() >= ask["needed_bytes"]:
                break
            _remove(path)
            removed.append(spelling.told(os.path.relpath(path, self.files)))
        return {"room_bytes": self.room_bytes(), "removed": removed}

    def _evictable(self, keep):
        """Entries of the shared folders, and agents of other versions. Installed wheels and jobs' results are not taken: they were asked for."""
        for name in _listed(self.files):
            path = os.path.join(self.files, name)
            if name in SHARED and name not in keep:
                for inside in _listed(path):
                    if "{}/{}".format(name, spelling.told(inside)) not in keep:
                        yield os.path.join(path, inside)
            elif name.startswith("agent-") and name.endswith(".pyz") and name not in keep:
                yield path

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
            _quietly(os.replace, arrived, path)  # if it is gone by now, `sound` tells
        else:
            _quietly(os.remove, arrived)
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
        _remove(self.place(ask["name"]))
        return {}

    def start(self, ask, body):
        """pack_sound is False, and nothing started, where the agent's file is not what was sent."""
        for name, sha256 in sorted(ask["check"].items()):
            if name in ask["argv"] and sha256_of(self.place(name)) != sha256:
                return {"pack_sound": False}
        job = self.job(ask["job"])
        job.start([spelling.here(word) for word in ask["argv"]], self.files, ask["deadline_s"], ask["limit_bytes"], self.lock.descriptor)
        return dict(job.status(), pack_sound=True, now_boot_id=boot_id())

    def status(self, ask, body):
        return dict(self.job(ask["job"]).status(), now_boot_id=boot_id())

    def running(self, ask, body):
        """jobs: of each that runs, how many seconds its deadline leaves it; also of those that an earlier process of the owner started"""
        found = {name: self.job(name) for name in _listed(self.jobs) if is_job(name)}
        return {"jobs": {name: job.left_s() for name, job in found.items() if job.runs()}}

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
        """Remove everything but `keep`. freed_bytes: how many that were; last: whose it was, if another's: name and since, else ''"""
        before = used_bytes(self.workspace)
        for name in _listed(self.jobs):
            Job(os.path.join(self.jobs, name)).forget()
        for name in _listed(self.files):
            if name not in ask["keep"]:
                _remove(os.path.join(self.files, name))
        last = {key: str(self.lock.before.get(key, "")) for key in ("name", "since")}
        return {"freed_bytes": before - used_bytes(self.workspace), "last": last}

    def trim(self):
        """Ends that nobody asked for are kept, but not for ever."""
        jobs = [Job(os.path.join(self.jobs, name)) for name in _listed(self.jobs)]
        jobs.sort(key=lambda job: modified(job.folder))
        for job in jobs[: max(0, len(jobs) - JOBS_KEPT)]:
            if not job.runs():
                job.forget()


REQUESTS = {
    name: getattr(Porter, name)
    for name in ("hello", "pulse", "have", "write", "commit", "stat", "read", "remove", "start", "status", "output", "forget", "clean", "evict", "running")
}


def is_job(name):
    return bool(name) and set(name) <= set("0123456789abcdef-")


def _piece(path, offset):
    """gone: the file was removed since the host heard of it"""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return {}, file.read(PIECE_BYTES)
    except FileNotFoundError:
        return {"gone": True}, b""


def _listed(folder):
    """The names in a folder; none where there is none, or where it was removed meanwhile."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _quietly(call, *names):
    """Do it to a file, unless it was removed meanwhile: jobs and other links of the owner remove files too."""
    try:
        call(*names)
    except FileNotFoundError:
        pass


def _remove(path):
    """A file or a folder; one that is not there is removed."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        _quietly(os.remove, path)


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
    return max(modified(each) for each in found)


def modified(path):
    """Seconds since the epoch; 0 of what was removed meanwhile."""
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0


def free_bytes(folder):
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize


def serve(porter, wire):
    """Answer until the link ends. raises: Ended"""
    while True:
        ask, body = wire.receive()
        if not porter.lock.held():
            raise Ended("a later link has taken over")
        try:
            answer = REQUESTS[ask["ask"]](porter, ask, body)
            head, body = answer if isinstance(answer, tuple) else (answer, b"")
        except Problem as problem:
            head, body = {"refused": str(problem)}, b""
        except OSError as error:
            said = os.strerror(error.errno) if error.errno else str(error)
            head, body = {"errno": error.errno or 0, "error": said, "file": spelling.told(error.filename)}, b""
        wire.send(dict(head, id=ask["id"]), body)


def main(ask, say):
    """Called by the bootstrap on a host's connection. say: writes one line that the host recognises"""
    source, sink = os.dup(0), os.dup(1)
    # What a library prints must not get between the frames.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    porter = Porter(ask["folder"], ask["owner"], ask["disk_bytes"])
    try:
        if ask.get("take_over"):
            porter.take_over()
        else:
            porter.lock.claim()
    except Busy as busy:
        left_s = max([0.0] + list(porter.running({}, b"")["jobs"].values()))
        return say("busy " + json.dumps(dict(busy.args[0], connected=porter.lock.porter() != 0, left_s=left_s)))
    porter.trim()
    say("ready")
    os.dup2(2, 1)
    try:
        serve(porter, Wire(source, sink, ask.get("stall_s", STALL_S), ask.get("idle_s", IDLE_S)))
    except (Ended, BrokenPipeError):
        return None
