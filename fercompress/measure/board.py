"""Targets: a TOML file that says where and how a machine is measured in, a frozen `Board` out."""

from __future__ import annotations

import importlib.resources
import json
import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from fercompress.errors import InputError, StudyError
from fercompress.measure.channel import LocalChannel
from fercompress.measure.endpoint import Address, expanded
from fercompress.measure.power import Power
from fercompress.measure.simchannel import Faults, SimulatedChannel, Simulation
from fercompress.measure.sshchannel import SshChannel
from fercompress.section import Name, Section, did_you_mean

SSH_ONLY = {"host", "port", "user", "key", "known_hosts", "workspace", "unreachable_s", "disk_mb"}


class Board(Section):
    """kind "local": the agent is a child process on this machine; "ssh": it runs on `host`; "simulated": a model of the RK3399Pro answers.

    python: None is the interpreter that runs fercompress, on a board `python3`
    key: a private key's file, besides those that ssh finds; workspace: a folder below the login home; disk_mb: MiB that it may take
    governor: asked for where it can be written; "leave" asks for none
    emulated: latency and power of an emulator say nothing of a board, and are refused there
    """

    name: Name
    kind: Literal["local", "ssh", "simulated"]
    host: Annotated[str, Field(pattern=r"^[^\s-]\S*$", max_length=255)] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None  # None: as ~/.ssh/config says, else 22
    user: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=64)] | None = None
    key: Annotated[str, Field(min_length=1)] | None = None
    known_hosts: Annotated[str, Field(min_length=1)] | None = None  # None: where `fercompress board trust` writes; the user's own is read as well
    workspace: str = ".cache/fercompress"
    unreachable_s: Annotated[float, Field(gt=0, le=86400)] = 300.0
    disk_mb: Annotated[int, Field(ge=64)] = 2048
    python: Annotated[str, Field(min_length=1)] = sys.executable
    engines: Annotated[tuple[str, ...], Field(min_length=1)] = ("onnxruntime",)  # in order of preference
    cores: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None  # pin the agent to these; None: do not
    threads: Annotated[int, Field(ge=1)] | None = None  # None: as the study says
    accuracy_processes: Annotated[int, Field(ge=1, le=64)] = 1
    governor: Annotated[str, Field(pattern=r"^[a-z]+$")] = "leave"
    emulated: bool = False
    power: Power = Power()
    simulation: Simulation = Simulation()  # of kind "simulated"
    faults: Faults = Faults()  # of kind "simulated"
    cool_down_s: Annotated[float, Field(ge=0, le=3600)] = 300.0  # at most so long a latency block waits until the target is cool; 0: it never waits

    @model_validator(mode="after")
    def _fits(self) -> Self:
        foreign = sorted(self.model_fields_set & SSH_ONLY)
        if self.kind != "ssh" and foreign:
            raise ValueError(f'{", ".join(foreign)}: only for kind = "ssh", this target is "{self.kind}"')
        if self.kind != "simulated" and (foreign := sorted(self.model_fields_set & {"simulation", "faults"})):
            raise ValueError(f'{", ".join(foreign)}: only for kind = "simulated", this target is "{self.kind}"')
        place = PurePosixPath(self.workspace)
        if place.is_absolute() or ".." in place.parts or not place.parts or self.workspace.startswith("~"):
            raise ValueError(f"workspace is a folder below the login home, got {self.workspace!r}")
        return self

    def runs(self, engine: str) -> bool:
        """A pair runs where it is listed, or both of its halves are."""
        return engine in self.engines or set(engine.split("+")) <= set(self.engines)

    def passed_over(self, engine: str) -> tuple[str, ...]:
        """The engines that this target would rather run."""
        return self.engines[: self.engines.index(engine)] if engine in self.engines else ()


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


def load_boards(names_or_paths: Sequence[str], *, reached: bool = True) -> list[Board]:
    """reached: whether they will be asked anything

    raises: StudyError, also where two have one name: results could not tell them apart; InputError where one that is to be reached does not say
    where it is
    """
    boards = [load_board(each) for each in names_or_paths]
    for board, given in zip(boards, names_or_paths, strict=True):
        if sum(other.name == board.name for other in boards) > 1:
            raise StudyError(f"two targets are named {board.name!r}, the second from {given}; give one of the files another name")
        if reached and board.kind == "ssh":
            require_host(board)
    return boards


def parse_board(text: str, name: str, source: str) -> Board:
    """text: TOML; source: its name in messages. raises: StudyError, one line per mistake"""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{source}: not valid TOML: {error}") from error
    try:
        return Board.model_validate_json(json.dumps({"name": name, **_with_defaults(_with_like(table, source))}, default=str))
    except ValidationError as error:
        raise StudyError("\n".join(f"{source}: {_sentence(detail)}" for detail in error.errors())) from error


def _with_like(table: dict[str, Any], source: str) -> dict[str, Any]:
    """`like = "rpi4"`: the shipped target's keys, over which the file's own go. raises: StudyError"""
    if "like" not in table:
        return table
    like, names = table["like"], shipped_boards()
    if like not in names:
        raise StudyError(f"{source}: like: no shipped target is named {like!r}{did_you_mean(str(like), names)}; shipped: {', '.join(names)}")
    shipped = tomllib.loads(importlib.resources.files("fercompress_boards").joinpath(f"{like}.toml").read_text(encoding="utf-8"))
    return {**shipped, **{key: value for key, value in table.items() if key != "like"}}


def _with_defaults(table: dict[str, Any]) -> dict[str, Any]:
    """A board's Python is not at the path of this machine's."""
    return {"python": "python3", **table} if table.get("kind") == "ssh" else table


def known_hosts() -> Path:
    """Where pinned host keys are kept, beside the user's own known_hosts."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if Path(config).is_absolute() else Path.home() / ".config") / "fercompress" / "known_hosts"


def require_host(board: Board) -> str:
    """raises: InputError if a target that is reached over SSH does not say where it is"""
    if board.host is None:
        raise InputError(
            f"target {board.name!r} has no host: write a file of your own, my-board.toml, with two lines,\n"
            f'    like = "{board.name if board.name in shipped_boards() else "rk3399pro-debian10"}"\n    host = "192.168.1.20"\n'
            f"and give that file as the target"
        )
    return board.host


def connect(board: Board, root: Path, run_id: str) -> LocalChannel | SimulatedChannel | SshChannel:
    """The way to the target. root: where a local or simulated target keeps its files; run_id: who may take up what runs on a board

    raises: InputError. A board is not asked before the first request.
    """
    if board.kind == "ssh":
        return SshChannel(address(board), run_id)
    return SimulatedChannel(root, board.simulation, board.faults, board.cores) if board.kind == "simulated" else LocalChannel(root)


def address(board: Board) -> Address:
    """raises: InputError if a target that is reached over SSH does not say where it is"""
    return Address(
        require_host(board), board.name, board.port, board.user or "", Path(board.key) if board.key else None, board.python, board.workspace,
        expanded(board.known_hosts) if board.known_hosts else known_hosts(), board.unreachable_s, board.disk_mb,
    )  # fmt: skip


def common_engine(boards: Sequence[Board], makeable: Sequence[str], asked: str | None = None) -> str:
    """The engine that bundles are made for: the one that is asked for, else the first that the first target prefers, that every target runs and
    that bundles can be made for.

    raises: StudyError where none is known by the name that is asked for, InputError if a target does not run it or none is common to all
    """
    if asked is not None:
        if asked not in makeable:
            raise StudyError(f"measure.engine: no bundle is made for {asked!r}{did_you_mean(asked, list(makeable))}; known: {', '.join(makeable)}")
        for board in boards:
            check_engine(board, asked)
        return asked
    for name in boards[0].engines:
        if name in makeable and all(board.runs(name) for board in boards):
            return name
    lists = "; ".join(f"{board.name}: {', '.join(board.engines)}" for board in boards)
    raise InputError(
        f"the targets have no engine in common that bundles can be made for ({', '.join(makeable)}): {lists}; see `engines` in their files"
    )


def check_engine(board: Board, engine: str) -> None:
    """raises: InputError if a bundle's engine may not run on the target"""
    if not board.runs(engine):
        raise InputError(f"target {board.name!r} runs {', '.join(board.engines)}, the bundle needs {engine!r}; see `engines` in the target's file")


def _sentence(detail: Any) -> str:
    """One pydantic error as one line in the words of the TOML file."""
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        known = sorted({*Board.model_fields, "like"} - {"name"})
        return f"unknown key {place!r}{did_you_mean(place, known)} (known: {', '.join(known)})"
    if detail["type"] == "missing":
        return f"{place}: missing; add it, as in the shipped localhost.toml"
    message = str(detail["msg"])
    given = detail.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{place}: {message[0].lower() + message[1:]}{shown}"
