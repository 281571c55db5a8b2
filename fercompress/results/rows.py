"""A block as a row of the journal and back: integers as little-endian int64, logits as little-endian float32 in row order."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fercompress.records import Block, BlockKey, Int64, Pass, Status

KEY = ("variant", "target", "pass", "seed", "fold", "round", "position", "settings_sha256")
COLUMNS = (
    *KEY, "bundle_sha256", "status", "reason", "extractor_ns", "predictor_ns", "clip_ns", "frame_ns",
    "logits", "logits_shape", "clip_index", "memory_bytes", "power", "facts",
)  # fmt: skip


def key_row(key: BlockKey) -> tuple[str, str, str, int, str, int, int, str]:
    """The values of KEY."""
    return (key.variant, key.target, str(key.pass_), key.seed, key.fold, key.round, key.position, key.settings_sha256)


def key_from(row: Sequence[Any]) -> BlockKey:
    variant, target, pass_, seed, fold, round_, position, settings_sha256 = row
    return BlockKey(variant, target, Pass(pass_), seed, fold, round_, position, settings_sha256)


def block_row(block: Block) -> tuple[Any, ...]:
    """The values of COLUMNS."""
    logits = None if block.logits is None else np.ascontiguousarray(block.logits, "<f4")
    return (
        *key_row(block.key),
        block.bundle_sha256,
        str(block.status),
        block.reason,
        *(_int64_bytes(ns) for ns in (block.extractor_ns, block.predictor_ns, block.clip_ns, block.frame_ns)),
        None if logits is None else logits.tobytes(),
        None if logits is None else json_text(logits.shape),
        None if block.clip_index is None else _int64_bytes(block.clip_index),
        *(None if facts is None else json_text(facts) for facts in (block.memory_bytes, block.power, block.facts)),
    )


def block_from(row: Sequence[Any]) -> Block:
    """row: the values of COLUMNS."""
    bundle_sha256, status, reason, extractor_ns, predictor_ns, clip_ns, frame_ns, logits, shape, clip_index, memory_bytes, power, facts = row[
        len(KEY) :
    ]
    return Block(
        key=key_from(row[: len(KEY)]),
        bundle_sha256=bundle_sha256,
        status=Status(status),
        reason=reason,
        extractor_ns=tuple(_int64(extractor_ns).tolist()),
        predictor_ns=tuple(_int64(predictor_ns).tolist()),
        clip_ns=tuple(_int64(clip_ns).tolist()),
        frame_ns=tuple(_int64(frame_ns).tolist()),
        logits=None if logits is None else np.frombuffer(logits, "<f4").reshape(json.loads(shape)).astype(np.float32),
        clip_index=None if clip_index is None else _int64(clip_index),
        memory_bytes=None if memory_bytes is None else json.loads(memory_bytes),
        power=None if power is None else json.loads(power),
        facts=None if facts is None else json.loads(facts),
    )


def crc32(row: Sequence[Any]) -> int:
    """Of a row's values: SQLite checks its own structure, not the bytes that it was given."""
    return zlib.crc32(repr(tuple(row)).encode())


def json_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    """numpy's numbers and arrays as Python's; a path as text. Anything else is our own mistake."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot keep a {type(value).__name__} in the journal: {value!r}")


def _int64_bytes(values: Sequence[int] | Int64) -> bytes:
    return np.ascontiguousarray(values, "<i8").tobytes()


def _int64(blob: bytes) -> Int64:
    return np.frombuffer(blob, "<i8").astype(np.int64)
