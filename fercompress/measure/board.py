"""Targets: a TOML file that says where and how a machine is measured in, a frozen `Board` out."""

from __future__ import annotations

import importlib.resources
import json
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from fercompress.config import Name, Section, did_you_mean
from fercompress.errors import InputError, StudyError
from fercompress.measure.channel import Channel, LocalChannel
from fercompress.measure.simchannel import Faults, SimulatedChannel, Simulation


class Board(Section):
    """kind "local": the agent is a child process on this machine; "simulated": a model of the RK3399Pro answers for time, see `simchannel`."""

    name: Name
    kind: Literal["local", "simulated"]
    python: str = sys.executable  # the target's interpreter, CPython 3.6 or newer
    engines: Annotated[tuple[str, ...], Field(min_length=1)] = ("onnxruntime",)
    cores: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None  # pin the agent to these; None: do not
    threads: Annotated[int, Field(ge=1)] | None = None  # None: as the study says
    accuracy_processes: Annotated[int, Field(ge=1, le=64)] = 1
    simulation: Simulation = Simulation()  # kind "simulated" only
    faults: Faults = Faults()  # kind "simulated" only


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


def connect(board: Board, root: Path) -> Channel:
    """The way to the target; root: the folder on this machine where a local or simulated target keeps its files"""
    if board.kind == "simulated":
        return SimulatedChannel(root, board.simulation, board.faults, board.cores)
    return LocalChannel(root)


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
