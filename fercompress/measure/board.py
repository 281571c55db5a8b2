"""Targets: a TOML file that says where and how a machine is measured in, a frozen `Board` out."""

from __future__ import annotations

import importlib.resources
import json
import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from fercompress.config import Name, Section, did_you_mean
from fercompress.errors import InputError, StudyError
from fercompress.measure.channel import LocalChannel
from fercompress.measure.power import Power
from fercompress.measure.ssh import Address
from fercompress.measure.sshchannel import SshChannel


class Board(Section):
    """kind "local": the agent is a child process on this machine; "ssh": it runs on a machine that is reached so.

    What an ssh target leaves out is taken from ~/.ssh/config, then from ssh's own defaults.
    """

    name: Name
    kind: Literal["local", "ssh"]
    host: Annotated[str, Field(pattern=r"^[^\s-]\S*$")] | None = None  # a name or an address, as `ssh` takes it
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    user: str = ""
    key: str | None = None  # a private key's file, beside those that ssh finds and the ssh agent's
    known_hosts: str | None = None  # host keys are looked up here too; default: where `fercompress board trust` writes
    workspace: str = ".cache/fercompress"  # below the login home
    unreachable_s: Annotated[float, Field(gt=0)] = 300.0  # how long a broken link is tried again
    disk_mb: Annotated[int, Field(ge=16)] = 2048  # MiB that the workspace may take
    python: str = ""  # the target's interpreter, CPython 3.6 or newer; default: this one for "local", python3 for "ssh"
    engines: Annotated[tuple[str, ...], Field(min_length=1)] = ("onnxruntime",)
    cores: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None  # pin the agent to these; None: do not
    threads: Annotated[int, Field(ge=1)] | None = None  # None: as the study says
    accuracy_processes: Annotated[int, Field(ge=1, le=64)] = 1
    power: Power = Power()

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.kind == "ssh" and self.host is None:
            raise ValueError("an ssh target needs host; add host = \"...\" to the target's file")
        return self

    @property
    def interpreter(self) -> str:
        return self.python or (sys.executable if self.kind == "local" else "python3")


def shipped_boards() -> list[str]:
    return sorted(
        entry.name.removesuffix(".toml") for entry in importlib.resources.files("fercompress_boards").iterdir() if entry.name.endswith(".toml")
    )


def load_board(name_or_path: str) -> Board:
    """Read a shipped target by name, or a file by path, whose stem is then the target's name. raises: StudyError"""
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StudyError(f"{path}: cannot read the target ({error}); shipped targets: {', '.join(shipped_boards())}") from error
        return parse_board(text, path.stem, str(path))
    names = shipped_boards()
    if name_or_path not in names:
        raise StudyError(f"no target named {name_or_path!r}{did_you_mean(name_or_path, names)}; shipped: {', '.join(names)}; or give a .toml file")
    text = importlib.resources.files("fercompress_boards").joinpath(f"{name_or_path}.toml").read_text(encoding="utf-8")
    return parse_board(text, name_or_path, name_or_path)


def load_boards(names_or_paths: Sequence[str]) -> list[Board]:
    """raises: StudyError, also where two have one name: results could not tell them apart"""
    boards = [load_board(each) for each in names_or_paths]
    for board, given in zip(boards, names_or_paths, strict=True):
        if sum(other.name == board.name for other in boards) > 1:
            raise StudyError(f"two targets are named {board.name!r}, the second from {given}; give one of the files another name")
    return boards


def parse_board(text: str, name: str, source: str) -> Board:
    """text: TOML; source: its name in messages. raises: StudyError, one line per mistake"""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{source}: not valid TOML: {error}") from error
    try:
        return Board.model_validate_json(json.dumps({"name": name, **table}, default=str))
    except ValidationError as error:
        raise StudyError("\n".join(f"{source}: {_sentence(detail)}" for detail in error.errors())) from error


def connect(board: Board, root: Path, run_id: str) -> LocalChannel | SshChannel:
    """The way to the target. root: the folder on this machine where a local target keeps its files; run_id: who may take up what runs there"""
    if board.kind == "local":
        return LocalChannel(root)
    return SshChannel(address(board), run_id)


def address(board: Board) -> Address:
    assert board.host is not None
    return Address(
        board.host, board.name, board.port, board.user, Path(board.key) if board.key else None, board.interpreter, board.workspace,
        Path(board.known_hosts) if board.known_hosts else trusted_hosts(), board.unreachable_s, board.disk_mb,
    )  # fmt: skip


def trusted_hosts() -> Path:
    """The known_hosts file that `fercompress board trust` writes."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "fercompress" / "known_hosts"


def check_engine(board: Board, engine: str) -> None:
    """raises: InputError if a bundle's engine may not run on the target"""
    if engine not in board.engines:
        raise InputError(f"target {board.name!r} runs {', '.join(board.engines)}, the bundle needs {engine!r}; see `engines` in the target's file")


def _sentence(detail: Any) -> str:
    """One pydantic error as one line in the words of the TOML file."""
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        known = sorted(Board.model_fields)
        return f"unknown key {place!r}{did_you_mean(place, known)} (known: {', '.join(known)})"
    if detail["type"] == "missing":
        return f"{place}: missing; add it, as in the shipped localhost.toml"
    message = str(detail["msg"])
    given = detail.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{place}: {message[0].lower() + message[1:]}{shown}"
