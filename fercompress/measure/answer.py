"""What comes back from a target is foreign until it was checked: bytes of a result file and of logits in, an `Answer` and an array out.

Nothing in an answer is ever used as a name of a file, a command or a module.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fercompress.errors import AgentError
from fercompress.records import Float32, Int64

RESULT_LIMIT_BYTES = 64 << 20  # of a result file: a block of a minute at 1000 clips a second has a fifth of it
FACTS_LIMIT_BYTES = 1 << 20  # they are kept with every block
INTEGER_DIGITS = 20  # 2^64 and a sign
REASON_LIMIT = 4000  # characters
DAY_NS = 86_400 * 10**9
NPY_HEADER_BYTES = 10_000  # numpy's own limit for a header that is parsed

Nanoseconds = Annotated[int, Field(ge=0, le=DAY_NS)]
Bytes = Annotated[int, Field(ge=0, le=1 << 50)]
Figure = Annotated[float, Field(allow_inf_nan=False, ge=-1e12, le=1e12)]


class Answer(BaseModel):
    """The agent's result file; what a job does not measure stays empty."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    schema_: Literal[1] = Field(alias="schema")
    nonce: str
    ok: bool
    reason: str
    facts: dict[str, Any] = {}
    extractor_ns: list[Nanoseconds] = []
    predictor_ns: list[Nanoseconds] = []
    clip_ns: list[Nanoseconds] = []
    frame_ns: list[Nanoseconds] = []
    stream_ns: list[Nanoseconds] = []
    logits_sha256: str = ""
    memory_bytes: dict[str, Bytes] = {}
    power: dict[str, Figure] = {}
    engines: dict[str, dict[str, str]] = {}
    missing: dict[str, list[str]] = {}

    @field_validator("reason")
    @classmethod
    def _one_readable_line(cls, reason: str) -> str:
        """It goes to a terminal and to a page: no control characters."""
        words = "".join(letter if letter.isprintable() else " " for letter in reason[:REASON_LIMIT])
        return words + (" ..." if len(reason) > REASON_LIMIT else "")

    @field_validator("facts")
    @classmethod
    def _few_facts(cls, facts: dict[str, Any]) -> dict[str, Any]:
        size_bytes = len(json.dumps(facts))
        if size_bytes > FACTS_LIMIT_BYTES:
            raise ValueError(f"{size_bytes} bytes, more than the limit of {FACTS_LIMIT_BYTES}")
        return facts


def read_answer(path: Path, nonce: str) -> Answer:
    """path: where the result file came to on this machine. raises: AgentError, also where it is too large to be one"""
    size_bytes = path.stat().st_size
    if size_bytes > RESULT_LIMIT_BYTES:
        raise AgentError(f"the agent's answer has {size_bytes} bytes, more than the limit of {RESULT_LIMIT_BYTES}: it was not read")
    return parse_answer(path.read_bytes(), nonce)


def parse_answer(text: bytes, nonce: str) -> Answer:
    """raises: AgentError if the text is not the answer to the job with this nonce"""
    try:
        answer = Answer.model_validate(json.loads(text, parse_constant=_refused, parse_float=_finite, parse_int=_bounded))
    except ValidationError as error:
        first = error.errors()[0]
        raise _unusable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a number of ten thousand digits, nested a thousand deep
        raise _unusable(f"{error}; {len(text)} bytes") from error
    if answer.nonce != nonce:
        raise AgentError("the agent's answer belongs to another job; does something else use the same folder on the target?")
    return answer


def check_times(answer: Answer, frames: int, least_clips: int) -> None:
    """frames: T of each clip; least_clips: how many the job asked for. raises: AgentError if the latency samples contradict each other"""
    clips = len(answer.clip_ns)
    if clips < least_clips:
        raise AgentError(f"{clips} timed clips came back, {least_clips} were asked for")
    for name, wanted in (("extractor_ns", clips), ("predictor_ns", clips), ("frame_ns", frames * clips)):
        if len(getattr(answer, name)) != wanted:
            raise AgentError(f"{name} has {len(getattr(answer, name))} numbers, {clips} clips of {frames} frames have {wanted}")
    clip, extractor, predictor, frame = (_column(getattr(answer, name)) for name in ("clip_ns", "extractor_ns", "predictor_ns", "frame_ns"))
    if (clip <= 0).any():
        raise AgentError("a clip took no time at all")
    if (frame.reshape(clips, frames).sum(axis=1) != extractor).any() or (extractor + predictor > clip).any():
        raise AgentError("the stages' times do not add up to the clips'")


def check_stream(answer: Answer, frames: int, clips: int) -> None:
    """clips: how many were to be timed as streams. raises: AgentError if other samples came; none at all are a matter of the predictor"""
    if answer.stream_ns and len(answer.stream_ns) != frames * clips:
        raise AgentError(f"stream_ns has {len(answer.stream_ns)} numbers, {clips} clips of {frames} frames have {frames * clips}")


def _column(values: list[int]) -> Int64:
    return np.asarray(values, np.int64)


def read_logits(path: Path, rows: int, classes: int, sha256: str) -> Float32:
    """path: where the .npy file came to on this machine; sha256: what the answer says of it

    returns: float32 (rows, classes), finite. raises: AgentError if the file is not that, before memory is taken for what its header claims
    """
    wanted_bytes = 4 * rows * classes
    if not wanted_bytes < path.stat().st_size <= wanted_bytes + NPY_HEADER_BYTES:
        raise AgentError(f"the agent's logits have {path.stat().st_size} bytes, float32 {(rows, classes)} has {wanted_bytes} and a short header")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise AgentError("the agent's logits are not those that its answer names (sha256 differs): cut short or damaged on the way")
    file = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("not of version 1.0")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    except (ValueError, SyntaxError, TypeError) as error:
        raise AgentError(f"the agent's logits cannot be read ({error})") from error
    if shape != (rows, classes) or by_columns or dtype != np.dtype("<f4"):
        raise AgentError(f"the agent sent logits {dtype} {shape}, expected float32 {(rows, classes)}")
    values = file.read()
    if len(values) != wanted_bytes:
        raise AgentError(f"the agent's logits hold {len(values)} bytes of numbers, {wanted_bytes} were expected")
    logits = np.frombuffer(values, "<f4").reshape(rows, classes).astype(np.float32)
    if not np.isfinite(logits).all():
        raise AgentError("the agent's logits are not all finite numbers")
    return logits


def _refused(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _finite(digits: str) -> float:
    """1e999 is JSON, and infinite."""
    return float(digits) if math.isfinite(float(digits)) else _refused(digits[:20])


def _bounded(digits: str) -> int:
    """Python reads a number of a thousand digits, which no float holds: whoever adds a time to it would break."""
    return int(digits) if len(digits) <= INTEGER_DIGITS else _refused(digits[:20])


def _unusable(detail: str) -> AgentError:
    return AgentError(f"the agent's answer cannot be used ({detail})")
