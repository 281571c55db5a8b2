"""Whose the workspace is: one owner (a run) at a time; all its processes, detached jobs too, hold the lock file shared."""

import errno
import fcntl
import json
import os
import signal
import time

from fercompress_agent.facts import utc

CLAIM_S = 1.0  # another process of ours may be writing the owner's name
OWNER_BYTES = 1024


class Busy(Exception):
    """Another owner holds the workspace; the argument is who."""


class WorkspaceLock:
    """path: of the lock file; owner: {"token", "name"}

    before: the owner that had the workspace before this one took it, {} where there was none or it was this one
    """

    def __init__(self, path, owner):
        self.path = path
        self.owner = owner
        self.before = {}
        self.descriptor = -1

    def claim(self):
        """Take the workspace for this owner. raises: Busy

        Only who finds nobody may become the owner; a process of the owner's own always gets in.
        """
        if self.descriptor < 0:
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        if self._flock(fcntl.LOCK_EX):
            self._write()
        limit = time.monotonic() + CLAIM_S
        while time.monotonic() < limit:
            if self._flock(fcntl.LOCK_SH):
                owner = self.read()
                if owner.get("token") != self.owner["token"]:
                    fcntl.flock(self.descriptor, fcntl.LOCK_UN)
                    raise Busy(owner)
                self._write()  # names this porter: an earlier one of ours, on a link that is dead to the host, yields
                return
            time.sleep(0.02)
        raise Busy(self.read())

    def held(self):
        """Is this the porter that was connected last?"""
        return self.read().get("porter") == os.getpid()

    def porter(self):
        """The process that serves the owner's host; 0 where none is connected, None where the system does not tell."""
        pid = self.read().get("porter")
        if not isinstance(pid, int) or not os.path.isdir("/proc"):
            return None
        return pid if os.path.realpath(self.path) in opened_files(pid) else 0

    def end_porter(self):
        """End the process that serves the owner's host."""
        pid = self.porter()
        if pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass  # it has ended

    def read(self):
        """Who wrote its name last; {} where none can be read."""
        try:
            owner = json.loads(os.pread(self.descriptor, OWNER_BYTES, 0).decode("ascii"))
        except ValueError:
            return {}
        return owner if isinstance(owner, dict) else {}

    def _flock(self, how):
        try:
            fcntl.flock(self.descriptor, how | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            return False

    def _write(self):
        found = self.read()
        ours = found.get("token") == self.owner["token"]
        self.before = self.before if ours else found
        text = json.dumps(dict(self.owner, since=found.get("since", utc()) if ours else utc(), porter=os.getpid()), sort_keys=True)
        os.pwrite(self.descriptor, text.encode("ascii").ljust(OWNER_BYTES), 0)  # in place: a full disk does not hinder it


def opened_files(pid):
    """What a process has open; nothing where it has ended, or is another user's."""
    folder, found = "/proc/{}/fd".format(pid), set()
    try:
        for name in os.listdir(folder):
            try:
                found.add(os.readlink(os.path.join(folder, name)))
            except OSError:
                pass  # it was closed meanwhile
    except OSError:
        pass
    return found
