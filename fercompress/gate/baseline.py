"""A baseline on disk: one target's evidence of a variant that was accepted, with an owner and an expiry, to be kept in the repository.

A file holds the newest accepted state and, beside it, the last release: many small losses, each within what does not matter, add up against that.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fercompress.errors import ComparabilityError, ResultsError
from fercompress.gate.evidence import Answers, Evidence
from fercompress.records import LEAKY, Doubt

# History:
#   1  evidence of one variant, owner, reason, expiry, conditions
#   2  the doubts of the numbers; among the conditions, how the clips were cut into folds
SCHEMA = 2
NEWEST, RELEASE = "newest", "release"
WARMER_MC = 3_000  # a start so much warmer or cooler (millidegrees Celsius) than the baseline's is another condition

# What must be alike where two sides were not measured beside each other, in words.
CONDITIONS: Mapping[str, str] = {
    "machine": "machine", "python": "Python", "runtime": "runtime and its version", "driver": "driver", "threads": "threads",
    "affinity": "cores that it ran on", "governor": "governor", "max_khz": "highest clocks", "temperature_mc": "temperature at the start",
    "clips": "test clips", "preprocess": "preprocessing", "settings": "settings of the blocks",
    "protocol": "how the clips are cut into folds",
}  # fmt: skip


@dataclass(frozen=True)
class Accepted:
    """One accepted state. created, expires: ISO dates (UTC)"""

    evidence: Evidence
    owner: str
    reason: str
    created: str
    expires: str

    def expired(self, today: datetime.date) -> bool:
        return datetime.date.fromisoformat(self.expires) < today


@dataclass(frozen=True)
class BaselineFile:
    path: Path
    target: str
    entries: Mapping[str, Accepted]


def read(path: Path) -> BaselineFile:
    """raises: ResultsError that tells a missing file, another schema and a damaged file apart"""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ResultsError(f"{path}: there is no baseline yet; accept one: fercompress gate --candidate ... --baseline {path} --update") from error
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: damaged, it cannot be read as a baseline ({error}); restore it from version control") from error
    if not isinstance(table, dict) or "schema" not in table:
        raise ResultsError(f"{path}: damaged, it is no baseline file; restore it from version control")
    if table["schema"] not in range(1, SCHEMA + 1):
        raise ResultsError(f"{path}: baseline schema {table['schema']!r}, this version reads 1 to {SCHEMA}; accept it anew with --update")
    if table.get("sha256") != _sha256(table):
        raise ResultsError(f"{path}: damaged, its content does not match its sha256; restore it from version control, or accept anew with --update")
    try:
        entries = {name: _accepted(_upgraded(entry, table["schema"]), str(table["target"])) for name, entry in table["entries"].items()}
        return BaselineFile(path, str(table["target"]), entries)
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(f"{path}: damaged, an entry cannot be read ({error!r}); restore it from version control") from error


def write(path: Path, target: str, entries: Mapping[str, Accepted]) -> None:
    """raises: ResultsError where it cannot be written"""
    table: dict[str, Any] = {"schema": SCHEMA, "target": target, "entries": {name: _table(entry) for name, entry in entries.items()}}
    table["sha256"] = _sha256(table)
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        raise ResultsError(f"{path}: the baseline cannot be written ({error.strerror})") from error


def check_comparable(candidate: Evidence, baseline: Evidence) -> None:
    """raises: ComparabilityError with everything that differs"""
    differing = differences(candidate, baseline)
    if differing:
        listed = "".join(f"\n  {line}" for line in differing)
        raise ComparabilityError(
            f"{candidate.name} and the stored baseline {baseline.name} must not be compared, they differ in:{listed}\n"
            "measure both side by side (give the baseline's run or bundle), or accept a new baseline with --update"
        )


def differences(candidate: Evidence, baseline: Evidence) -> list[str]:
    """One line per condition that is not alike: what it is, then, now."""
    lines = [] if candidate.target == baseline.target else [f"target: {baseline.target} then, {candidate.target} now"]
    for name, words in CONDITIONS.items():
        then, now = (json.loads(json.dumps(side.conditions.get(name))) for side in (baseline, candidate))
        alike = _as_warm(then, now) if name == "temperature_mc" else then == now
        if (
            name == "protocol" and name not in baseline.conditions
        ):  # of a file that does not say: people were kept apart unless a study said otherwise
            alike = now != LEAKY
        if not alike:
            lines.append(f"{words}: {_short(then)} then, {_short(now)} now")
    return lines


def _as_warm(then: Any, now: Any) -> bool:
    then, now = then or {}, now or {}
    return then.keys() == now.keys() and all(abs(then[zone] - now[zone]) <= WARMER_MC for zone in then)


def _short(value: Any) -> str:
    text = "unknown" if value in (None, {}, []) else value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 120 else text[:117] + "..."


def _sha256(table: Mapping[str, Any]) -> str:
    content = {key: value for key, value in table.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _table(entry: Accepted) -> dict[str, Any]:
    shown = entry.evidence
    answers = shown.answers
    return {
        "owner": entry.owner, "reason": entry.reason, "created": entry.created, "expires": entry.expires,
        "name": shown.name, "bundles": list(shown.bundles), "stored_bytes": shown.stored_bytes,
        "answers": answers and {
            "classes": list(answers.classes), "seeds": answers.seeds.tolist(), "clips": list(answers.clips), "clusters": list(answers.clusters),
            "labels": answers.labels.tolist(), "predicted": answers.predicted.tolist(),
        },
        "rounds": {stage: {str(number): value for number, value in rounds.items()} for stage, rounds in shown.rounds.items()},
        "tails": {str(number): value for number, value in shown.tails.items()},
        "doubts": {name: sorted(doubt.name for doubt in doubts) for name, doubts in shown.doubts.items() if doubts},
        "memory_bytes": list(shown.memory_bytes), "energy_clip_j": list(shown.energy_clip_j),
        "conditions": json.loads(json.dumps(shown.conditions)),
    }  # fmt: skip


def _upgraded(table: Mapping[str, Any], schema: int) -> Mapping[str, Any]:
    """An entry as the newest schema has it."""
    return {**table, "doubts": {}} if schema == 1 else table


def _accepted(table: Mapping[str, Any], target: str) -> Accepted:
    told = table["answers"]
    answers = told and Answers(
        np.array(told["seeds"], np.int64), tuple(told["clips"]), tuple(told["clusters"]), np.array(told["labels"], np.int64),
        np.array(told["predicted"], np.int64), tuple(told["classes"]),
    )  # fmt: skip
    shown = Evidence(
        name=str(table["name"]), target=target, bundles=tuple(table["bundles"]), stored_bytes=int(table["stored_bytes"]), answers=answers,
        rounds={stage: {int(number): float(value) for number, value in rounds.items()} for stage, rounds in table["rounds"].items()},
        tails={int(number): float(value) for number, value in table["tails"].items()},
        memory_bytes=tuple(map(float, table["memory_bytes"])), energy_clip_j=tuple(map(float, table["energy_clip_j"])),
        conditions=table["conditions"],
        doubts={name: frozenset(Doubt[each] for each in several) for name, several in table["doubts"].items()},
    )  # fmt: skip
    datetime.date.fromisoformat(table["expires"])
    return Accepted(shown, str(table["owner"]), str(table["reason"]), str(table["created"]), str(table["expires"]))
