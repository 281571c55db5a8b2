"""Where a board is: a target's address in, the host, port, user and keys after ~/.ssh/config out."""

from __future__ import annotations

import getpass
import glob
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko

from fercompress.errors import InputError, TargetError

INCLUDES = 16  # files deep, as in ssh


@dataclass(frozen=True)
class Address:
    """Where a board is and what it lends us. What is empty or None is taken from ~/.ssh/config, then from ssh's own defaults.

    name: the target's name, for messages
    key: a private key's file, besides those that ssh finds and the ssh agent's
    python: CPython 3.6 or newer there; `~/` is the login home
    workspace: a folder below the login home; disk_mb: MiB that it may take
    known_hosts: the file that `fercompress board trust` writes; the user's own is read as well
    unreachable_s: how long a link that broke is tried again
    """

    host: str
    name: str = ""
    port: int | None = None
    user: str = ""
    key: Path | None = None
    python: str = "python3"
    workspace: str = ".cache/fercompress"
    known_hosts: Path | None = None
    unreachable_s: float = 300.0
    disk_mb: int = 2048

    def __post_init__(self) -> None:
        if not self.host or self.host.startswith("-") or any(character.isspace() for character in self.host):
            raise ValueError(f"host must be a name or an address, got {self.host!r}")
        if Path(self.workspace).is_absolute() or ".." in Path(self.workspace).parts or self.workspace in ("", "."):
            raise ValueError(f"workspace is a folder below the login home, got {self.workspace!r}")

    @property
    def title(self) -> str:
        return self.name or self.host


@dataclass(frozen=True)
class Endpoint:
    """An address after ~/.ssh/config: where to connect, as whom, and under which name the host's key is known.

    jumps: hosts to go through, nearest first; proxy_command: a program whose standard streams are the connection
    """

    hostname: str
    port: int
    user: str
    known_name: str
    keys: tuple[str, ...] = ()
    known_hosts: tuple[Path, ...] = ()
    jumps: tuple[str, ...] = ()
    proxy_command: str = ""
    only_these_keys: bool = False

    @property
    def place(self) -> str:
        return f"{self.user}@{self.hostname}:{self.port}"

    @property
    def known_as(self) -> str:
        """As known_hosts files spell it."""
        return self.known_name if self.port == 22 else f"[{self.known_name}]:{self.port}"


def endpoint(address: Address) -> Endpoint:
    """raises: InputError if ~/.ssh/config cannot be used, TargetError if there is no such key"""
    found = lookup(Path("~/.ssh/config").expanduser(), address.host)
    keys = [str(expanded(str(address.key)))] if address.key else [str(expanded(name)) for name in found.get("identityfile", [])]
    for name in keys if address.key else []:
        if not Path(name).is_file():
            raise TargetError(f"target {address.title!r}: there is no private key {name}; see `key` in the target's file")
    known = found.get("userknownhostsfile", "~/.ssh/known_hosts").split()
    jump = found.get("proxyjump", "none")
    command = found.get("proxycommand", "none")
    return Endpoint(
        found["hostname"],
        address.port or port_number(found.get("port", "22"), address.host),
        address.user or found.get("user") or getpass.getuser(),
        found.get("hostkeyalias", found["hostname"]),
        tuple(name for name in keys if Path(name).is_file()),
        tuple(expanded(name) for name in ([str(address.known_hosts)] if address.known_hosts else []) + known),
        tuple(jump.split(",")) if jump.lower() != "none" else (),
        command if command.lower() != "none" else "",
        found.get("identitiesonly", "no").lower() == "yes",
    )


def lookup(config: Path, host: str) -> Mapping[str, Any]:
    """What an ssh config says of this host; only its name where there is no such file. raises: InputError"""
    if not config.is_file():
        return {"hostname": host}
    try:
        return paramiko.SSHConfig.from_text(config_text(config)).lookup(host)
    # ValueError and KeyError: paramiko's words for CanonicalizeHostname without CanonicalDomains, CanonicalizeMaxDots that is no number, and the like
    except (OSError, ValueError, KeyError, ImportError, paramiko.SSHException) as error:
        said = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(f"{config}: cannot be used ({said}); mend it, or give host, port, user and key in the target's file") from error


def port_number(text: str, host: str) -> int:
    """raises: InputError"""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise InputError(f"~/.ssh/config: Port {text!r} of {host} is not a number from 1 to 65535; mend it, or give `port` in the target's file")
    return int(text)


def expanded(name: str) -> Path:
    """`~/` is this user's home. A `~name` of nobody stays as it is, a file that is not there, where pathlib would break."""
    return Path(os.path.expanduser(name))


def config_text(path: Path, block: str = "Host *", around: tuple[Path, ...] = ()) -> str:
    """An ssh config with the files that it includes in their places: paramiko passes `Include` over.

    Relative names lie below ~/.ssh (ssh_config(5)). What follows an Include belongs to the block around it again.
    around: the files that this one is included by
    raises: OSError; ValueError where a file is not UTF-8, includes itself, or too many are within each other
    """
    if path in around or len(around) > INCLUDES:
        raise ValueError(f"{path} is included by itself, or more than {INCLUDES} files deep")
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        word, _, rest = re.sub(r"\s*=\s*|\s+", " ", line.strip(), count=1).partition(" ")
        if word.lower() in ("host", "match"):
            block = line
        if word.lower() != "include":
            lines.append(line)
            continue
        for pattern in shlex.split(rest):
            for found in sorted(glob.glob(str(Path("~/.ssh").expanduser() / expanded(pattern)))):
                lines += [config_text(Path(found), block, (*around, path)), block]
    return "\n".join(lines)
