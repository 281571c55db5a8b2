"""`board check --answers`: what data sheets of the RK3399Pro leave open is asked of a board, and written down with what was probed.

Where a question cannot be asked (no NPU, an x86 machine, no model) its conclusion is "n/a: reason", beside whatever was found.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import paramiko

from fercompress.errors import AgentError, DiskFullError, InputError, TargetError, TargetRebootedError, TargetTimeoutError
from fercompress.measure.agentjob import Agent
from fercompress.measure.board import Board, address, connect
from fercompress.measure.provision import told_by_doctor

ASK_S = 300.0
SIMULATED = "n/a: a simulated board knows no more than the sheets that it was made from"
WORD_LIMIT = 4000


@dataclass(frozen=True)
class Question:
    """probe: of the agent's table; "" where no agent can tell: `otherwise` says why. each_model: asked for every model that is given"""

    number: int
    text: str
    probe: str = ""
    otherwise: str = ""
    each_model: bool = False


QUESTIONS = (
    Question(1, "Does eval_perf of rknn-toolkit 1.7.5 return a dict or text?", "eval_perf"),
    Question(2, "Which rail, and which shunt, does the board's INA2xx read (Toybrick: ina219 at 0x47)?", "power_sensor"),
    Question(3, "How much memory has an rknnlite process (Pss, VmHWM)?", "npu_memory"),
    Question(4, "How does an inference divide into inputs, run and outputs over the NPU's bus (USB or PCIe)?", "transfer"),
    Question(5, "What are the NPU's latencies of inception_v3, VGG16 and resnet50?", "npu_latency", each_model=True),
    Question(6, "How many FLOP per cycle does a Cortex-A53 reach in practice?", "flop_per_cycle"),
    Question(7, "What is the NPU's real clock, and does it throttle under long load?", "throttle"),
    Question(8, "Does the image's default password still open the board?"),
    Question(
        9, "Which width has the MobileNetV2 of DeepEdgeBench?", otherwise="n/a: a question about published files; no board answers it"
    ),
    Question(10, "Does rknn-toolkit 1.7.3, the last with a simulator, still install on today's Linux?"),
)  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A .rknn file; shape: of its one input, (H, W, C)"""

    path: Path
    shape: tuple[int, int, int]

    @classmethod
    def parse(cls, text: str) -> Model:
        """text: FILE=H,W,C. raises: InputError"""
        name, _, sizes = text.rpartition("=")
        try:
            height, width, channels = (int(size) for size in sizes.split(","))
        except ValueError as error:
            raise InputError(f"--rknn {text}: give a file and its input's shape, as in resnet50.rknn=224,224,3") from error
        if not Path(name).is_file() or min(height, width, channels) < 1:
            raise InputError(f"--rknn {text}: there is no file {name or text!r}" if not Path(name).is_file() else f"--rknn {text}: no such shape")
        return cls(Path(name), (height, width, channels))


@dataclass(frozen=True)
class Settled:
    """raw: what was read or returned, as it came"""

    number: int
    question: str
    probed: str
    raw: Any
    conclusion: str


def settle(board: Board, work: Path, models: Sequence[Model] = ()) -> tuple[dict[str, str], list[Settled]]:
    """work: a folder on this machine for files on their way

    returns: facts of the machine that answered, one or more answers per question. raises: TargetError where it cannot be reached
    """
    channel = connect(board, work / "target", "")
    try:
        agent = Agent(channel, board.python, None, work)
        agent.deploy()
        told = told_by_doctor(agent)
        facts = {key: _words(told.get(key)) for key in ("model", "machine", "kernel", "glibc")}
        return facts, [answer for question in QUESTIONS for answer in _settled(question, board, agent, models)]
    finally:
        channel.close()


def _settled(question: Question, board: Board, agent: Agent, models: Sequence[Model]) -> Iterator[Settled]:
    if question.otherwise:
        yield Settled(question.number, question.text, "", {}, question.otherwise)
    elif question.number == 8:
        yield Settled(question.number, question.text, "which ways to log in its SSH server offers; no password is tried", *_logins(board))
    elif question.number == 10:
        yield Settled(question.number, question.text, "Pythons 3.6 to 3.8 on this machine's PATH", *_old_pythons())
    elif board.kind == "simulated":
        yield Settled(question.number, question.text, "", {}, SIMULATED)
    else:
        asked_with: Sequence[Model | None] = (models if question.each_model else models[:1]) or [None]
        for model in asked_with:
            yield _asked(question, agent, model)


def _asked(question: Question, agent: Agent, model: Model | None) -> Settled:
    """A question that breaks costs the others nothing. raises: TargetError where the target is gone"""
    job: dict[str, Any] = {"job": "question", "question": question.probe}
    remote = ""
    try:
        if model is not None:
            with model.path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            remote = f"models/{sha256[:32]}.rknn"
            agent.channel.put(model.path, remote)
            job["model"] = {"path": remote, "sha256": sha256, "shape": list(model.shape)}
        answer, _ = agent.do(job, ASK_S)
    except DiskFullError:
        raise
    except (AgentError, TargetTimeoutError, TargetRebootedError) as error:  # an NPU's driver may take the board with it
        return Settled(question.number, question.text, question.probe, {}, f"n/a: {error}")
    finally:
        if remote:
            with contextlib.suppress(TargetError):
                agent.channel.forget("0", [remote])
    found = answer.facts.get("answer", {})
    if not answer.ok or not isinstance(found, Mapping):
        return Settled(question.number, question.text, question.probe, {}, f"n/a: {answer.reason or 'the agent gave no answer'}")
    return Settled(question.number, question.text, _words(found.get("probed")), found.get("raw"), _words(found.get("conclusion")) or "n/a: no answer")


def _words(value: Any) -> str:
    """What comes from a target goes to a file that people read: no control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in str(value or ""))[:WORD_LIMIT]


def _logins(board: Board) -> tuple[Any, str]:
    if board.kind != "ssh":
        return {}, "n/a: it is not reached over SSH"
    offered = _offered(board)
    if offered is None:
        return {}, "n/a: its SSH server did not say what it takes"
    if {"password", "keyboard-interactive"} & set(offered):
        return offered, "it takes passwords: change the image's (passwd), or set PasswordAuthentication no; fercompress uses keys only"
    return offered, "no password opens it over SSH: it takes keys only"


def _offered(board: Board) -> list[str] | None:
    from fercompress.measure import ssh
    from fercompress.measure.endpoint import endpoint

    where = address(board)
    place = endpoint(where)
    with contextlib.ExitStack() as closing:
        transport = paramiko.Transport(ssh.way(where, place, closing))
        closing.callback(transport.close)
        try:
            transport.start_client(timeout=ssh.CONNECT_S)
            transport.auth_none(place.user)
        except paramiko.BadAuthenticationType as refused:
            return list(refused.allowed_types)
        except (paramiko.SSHException, EOFError, OSError):
            return None
        return ["none"]


def _old_pythons() -> tuple[Any, str]:
    found = {name: shutil.which(name) for name in ("python3.6", "python3.7", "python3.8")}
    there = sorted(name for name, path in found.items() if path)
    why = f"this machine has {', '.join(there)} to try it with" if there else "this machine has no Python 3.6 to 3.8, which it needs"
    return found, f"n/a: nothing is installed for a question; {why}"


def write(path: Path, board: Board, facts: Mapping[str, str], answers: Sequence[Settled]) -> None:
    """As JSON where the path ends so, else as TOML (`raw` is then JSON text). facts of the machine. raises: InputError"""
    head = {"target": board.name, "kind": board.kind, **facts}
    if path.suffix == ".json":
        text = json.dumps({**head, "answers": [asdict(answer) for answer in answers]}, indent=1) + "\n"
    else:
        lines = [f"{key} = {_quoted(value)}" for key, value in head.items()]
        for answer in answers:
            lines += ["", "[[answers]]", f"number = {answer.number}"]
            lines += [f"{key} = {_quoted(getattr(answer, key))}" for key in ("question", "probed", "conclusion")]
            lines.append(f"raw = {_quoted(json.dumps(answer.raw, sort_keys=True))}")
        text = "\n".join(lines) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def _quoted(text: str) -> str:
    """A basic string of TOML: JSON's are, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
