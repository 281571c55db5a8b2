"""The host keys that a person has compared and pinned: one known_hosts file beside the user's own."""

from __future__ import annotations

import os
from pathlib import Path

import paramiko
from paramiko.hostkeys import InvalidHostKey

from fercompress.errors import InputError
from fercompress.measure.endpoint import Address, endpoint


class Pinned:
    """The keys of one address in the file that `Address.known_hosts` names. raises: InputError if the file cannot be used"""

    def __init__(self, address: Address) -> None:
        assert address.known_hosts is not None
        self.path: Path = address.known_hosts
        self.name = endpoint(address).known_as
        try:
            self.keys = paramiko.HostKeys(str(self.path)) if self.path.exists() else paramiko.HostKeys()
        except (OSError, UnicodeDecodeError, paramiko.SSHException, InvalidHostKey) as error:
            raise InputError(f"{self.path}: cannot be read ({error}); mend it or move it away") from error

    def holds(self, key: paramiko.PKey) -> bool:
        return bool(self.keys.check(self.name, key))

    def other(self, key: paramiko.PKey) -> bool:
        """Is another key pinned for this host?"""
        found = self.keys.lookup(self.name)
        return found is not None and len(found) > 0 and not self.holds(key)

    def pin(self, key: paramiko.PKey) -> None:
        """This key, and no other, is the host's from now on. raises: InputError"""
        if self.keys.lookup(self.name) is not None:
            del self.keys[self.name]
        self.keys.add(self.name, key.get_name(), key)
        part = self.path.with_name(self.path.name + ".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.keys.save(str(part))
            os.replace(part, self.path)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror})") from error
