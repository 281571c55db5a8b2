"""Log in to a board: an address in, an authenticated paramiko client whose host key was verified out; each refusal its own sentence."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import logging
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey
from paramiko.ssh_exception import IncompatiblePeer

from fercompress.errors import InputError, TargetError
from fercompress.measure.endpoint import Address, Endpoint, endpoint

CONNECT_S = 10.0  # for the TCP connection, the banner and the key exchange, each
LOGIN_S = 20.0  # a board of one slow core checks a key within seconds
AGENT_S = 5.0  # for the ssh agent on this machine to answer
JUMP = re.compile(r"(?:ssh://)?(?:(?P<user>[^@]*)@)?(?:\[(?P<address>[^]]+)\]|(?P<name>[^:]+))(?::(?P<port>[0-9]{1,5}))?/?")
JUMPS = 5  # hosts on the way; more is a loop in ~/.ssh/config

# paramiko logs what it also raises, with tracebacks; here one sentence is said instead.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class UnreachableError(TargetError):
    """A fault that may pass by itself: worth another try while a run goes on."""


def known_keys(paths: Iterable[Path]) -> paramiko.HostKeys:
    """The host keys of these files, the first file's first. A line that cannot be read is passed over, as ssh does it, not the file."""
    found, seen = paramiko.HostKeys(), set()
    for path in paths:
        with contextlib.suppress(OSError):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(InvalidHostKey, paramiko.SSHException):
                    entry = HostKeyEntry.from_line(line.strip()) if line.strip()[:1] not in ("", "#") else None
                    if entry is None or entry.key is None:
                        continue
                    for name in entry.hostnames or ():
                        if (name, entry.key.get_name()) not in seen:
                            seen.add((name, entry.key.get_name()))
                            found.add(name, entry.key.get_name(), entry.key)
    return found


def agent_answers() -> bool:
    """Does the ssh agent answer? paramiko asks it without a deadline, and one that was forwarded over a link that hangs never does."""
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path or not hasattr(socket, "AF_UNIX"):
        return not path and os.name == "nt"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(AGENT_S)
        agent.connect(path)
        agent.sendall(b"\0\0\0\1\x0b")  # SSH_AGENTC_REQUEST_IDENTITIES
        return bool(agent.recv(1))
    return False


class Login:
    """An authenticated client and all that it goes through; `close` ends the whole way."""

    def __init__(self, address: Address, depth: int = 0) -> None:
        """raises: UnreachableError if it may pass by itself, TargetError if only a person can mend it"""
        self.endpoint = endpoint(address)
        self.client = paramiko.SSHClient()
        self._way = contextlib.ExitStack()
        try:
            self._open(address, depth)
        except BaseException:
            self.close()
            raise

    def _open(self, address: Address, depth: int) -> None:
        place = self.endpoint
        title = f"target {address.title!r} ({place.place})"
        self.client.get_host_keys().update(known_keys(place.known_hosts))
        self.client.set_missing_host_key_policy(_Refuse())
        connection = way(address, place, self._way, depth)
        self._way.callback(self.client.close)
        try:
            # The port is left out where an alias names the host: the key is then known under the bare alias, as ssh does it.
            self.client.connect(
                place.known_name, 22 if place.known_name != place.hostname else place.port, place.user, sock=connection,
                key_filename=list(place.keys) or None,  # type: ignore[arg-type]
                look_for_keys=not (place.only_these_keys or address.key), allow_agent=agent_answers(),
                timeout=CONNECT_S, banner_timeout=CONNECT_S, auth_timeout=LOGIN_S, channel_timeout=CONNECT_S,
            )  # fmt: skip
        except (paramiko.SSHException, OSError, EOFError, ValueError) as error:
            raise refusal(title, address, place, error) from error

    def close(self) -> None:
        self._way.close()


def way(address: Address, place: Endpoint, closing: contextlib.ExitStack, depth: int = 0) -> socket.socket | paramiko.Channel:
    """The connection that SSH is spoken on; `closing` gets what it needs to end. raises: UnreachableError, TargetError, InputError"""
    title = f"target {address.title!r} ({place.place})"
    if place.jumps:
        if depth >= JUMPS:
            raise InputError(f"{title}: more than {JUMPS} hosts to jump over; does ProxyJump in ~/.ssh/config go in a circle?")
        *before, last = place.jumps
        parts = JUMP.fullmatch(last.strip())
        if not parts or not 1 <= int(parts["port"] or 22) <= 65535:
            raise InputError(f"{title}: ProxyJump {last!r} of ~/.ssh/config cannot be read: it is user@host:port or ssh://user@host:port")
        user, host, port = parts["user"] or "", parts["address"] or parts["name"], parts["port"]
        if before:
            raise InputError(f"{title}: one host per ProxyJump, please: give {host} in ~/.ssh/config a ProxyJump {','.join(before)} of its own")
        try:
            on_the_way = Address(host, f"{address.title}, by way of {host}", int(port) if port else None, user, known_hosts=address.known_hosts)
        except ValueError as error:
            raise InputError(f"{title}: ProxyJump {last!r} of ~/.ssh/config names no host: {error}") from error
        login = Login(on_the_way, depth + 1)
        closing.callback(login.close)
        transport = login.client.get_transport()
        assert transport is not None
        try:
            return transport.open_channel("direct-tcpip", (place.hostname, place.port), ("127.0.0.1", 0), timeout=CONNECT_S)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise UnreachableError(f"{title}: {host} does not reach it ({error}); is the board up, and does {host} allow forwarding?") from error
    if place.proxy_command:
        ours, theirs = socket.socketpair()
        closing.callback(ours.close)
        with theirs:
            try:
                program = subprocess.Popen(shlex.split(place.proxy_command), stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.DEVNULL)
            except (OSError, ValueError, IndexError) as error:  # no such program; quotes that do not end; no words at all
                raise InputError(f"{title}: ProxyCommand of ~/.ssh/config cannot be started ({error})") from error
        closing.callback(program.wait)
        closing.callback(program.kill)
        return ours
    try:
        connection = socket.create_connection((place.hostname, place.port), CONNECT_S)
    except OSError as error:
        raise refusal(title, address, place, error) from error
    except ValueError as error:  # a label that is empty or longer than 63 letters
        raise InputError(
            f"{title}: {place.hostname!r} is no host's name ({error}); see `host` in the target's file and HostName in ~/.ssh/config"
        ) from error
    closing.callback(connection.close)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def host_key(address: Address) -> paramiko.PKey:
    """The key that the host shows, verified by nobody: for a person to compare. raises: UnreachableError, TargetError"""
    place = endpoint(address)
    with contextlib.ExitStack() as closing:
        connection = way(address, place, closing)
        try:
            transport = paramiko.Transport(connection)
            closing.callback(transport.close)
            transport.banner_timeout = CONNECT_S
            transport.start_client(timeout=CONNECT_S)
            return transport.get_remote_server_key()
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise refusal(f"target {address.title!r} ({place.place})", address, place, error) from error


def fingerprint(key: paramiko.PKey) -> str:
    """As `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode("ascii").rstrip("=")


def key_state(path: str) -> str:
    """ "usable", "locked" by a passphrase, or "unreadable" """
    try:
        paramiko.PKey.from_path(path)
    except (paramiko.PasswordRequiredException, TypeError):  # cryptography's word for a passphrase that is missing
        return "locked"
    except (OSError, ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType):
        return "unreadable"
    return "usable"


class UnknownHostError(Exception):
    def __init__(self, key: paramiko.PKey) -> None:
        super().__init__(key)
        self.key = key


class _Refuse(paramiko.MissingHostKeyPolicy):
    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        raise paramiko.SSHException("unknown host key") from UnknownHostError(key)


def refusal(title: str, address: Address, place: Endpoint, error: Exception) -> TargetError:
    """What went wrong, and what to do about it."""
    if isinstance(error, paramiko.BadHostKeyException):
        return TargetError(
            f"{title}: THE HOST KEY CHANGED: known is {fingerprint(error.expected_key)}, shown was {fingerprint(error.key)} "
            f"({error.key.get_name()}). Either the board was set up anew, or somebody sits in between. Compare on the board itself "
            f"(ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), then: fercompress board trust {address.title} --replace"
        )
    if isinstance(error.__cause__, UnknownHostError):
        key = error.__cause__.key
        return TargetError(
            f"{title}: its host key {fingerprint(key)} ({key.get_name()}) is not known here; "
            f"compare and pin it: fercompress board trust {address.title}"
        )
    if isinstance(error, paramiko.SSHException | ValueError) and (locked := [name for name in place.keys if key_state(name) == "locked"]):
        return TargetError(f"{title}: the private key is locked by a passphrase; unlock it in the ssh agent: ssh-add {' '.join(locked)}")
    if isinstance(error, paramiko.SSHException | ValueError) and (unread := [name for name in place.keys if key_state(name) == "unreadable"]):
        return TargetError(f"{title}: {unread[0]} cannot be read as a private key; see `key` in the target's file")
    put_key = f"put your public key there: ssh-copy-id -p {place.port} {place.user}@{place.hostname}"
    if isinstance(error, paramiko.BadAuthenticationType) and "publickey" not in error.allowed_types:
        kinds = ", ".join(error.allowed_types)
        return TargetError(f"{title}: it takes only {kinds}, and fercompress sends no passwords; allow keys there and {put_key}")
    text = str(error)
    if isinstance(error, paramiko.SSHException) and "EOF" in text:  # also where the link broke while keys were tried
        return UnreachableError(f"{title}: the connection ended while logging in; is the board starting, or does it refuse after many keys?")
    if isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in str(error):
        # A board that is starting refuses everybody for a while: whoever got in before tries again.
        return UnreachableError(f"{title}: no key is accepted for user {place.user!r}; see `user` and `key` in the target's file, or {put_key}")
    if isinstance(error, IncompatiblePeer):
        return TargetError(
            f"{title}: no common algorithm ({error}); if it has only an ssh-rsa (SHA-1) key or an old Dropbear, give it a modern host key: "
            "on the board, ssh-keygen -A (or dropbearkey -t ed25519 -f /etc/dropbear/dropbear_ed25519_host_key) and start its SSH server again"
        )
    if isinstance(error, socket.gaierror):
        return UnreachableError(f"{title}: the name cannot be resolved; see `host` in the target's file")
    if isinstance(error, ConnectionRefusedError):
        return UnreachableError(f"{title}: nothing listens on that port; is the board up, its SSH server running, and `port` right?")
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return UnreachableError(f"{title}: no route to it; is the board on, and the cable or Wi-Fi connected?")
    if isinstance(error, TimeoutError):
        return UnreachableError(f"{title}: no answer within {CONNECT_S:g} s; is the board up, and does a firewall let port {place.port} through?")
    if "banner" in text.lower() or "No existing session" in text or "protocol version" in text:
        return UnreachableError(f"{title}: what listens there does not speak SSH in time ({text}); is `port` right, is the board overloaded?")
    text = text or type(error).__name__
    return UnreachableError(f"{title}: the connection ended while logging in ({text}); is the board starting or overloaded?")
