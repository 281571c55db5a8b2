"""One comparison as it is kept in peers.json: a row, its rounds and its circumstances in, a plain record with ratio and verdict out."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import fercompress
from fercompress.errors import ResultsError
from fercompress.records import digest
from peers.contest import Contest, Goal, Row
from peers.rounds import Round, ratio

SCHEMA = 1
# What a comparison's figures depend on; the rest of the package (reports, studies, ...) may change without measuring again.
_MEASURED = ("tt", "export", "compress", "model")
_PRINTING = {"__main__.py", "entry.py", "render.py"}

Entry = dict[str, Any]


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Distribution -> version, "absent" where it is not installed; Python's own beside them."""
    found = {"python": platform.python_version()}
    for name in sorted(packages):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def code_sha256(folders: Mapping[str, Path] | None = None) -> str:
    """A hash of the source that is compared: ours, and how the peers are called. The same from a wheel and from a checkout."""
    if folders is None:
        package = Path(fercompress.__file__).parent
        folders = {name: package / name for name in _MEASURED} | {"peers": Path(__file__).parent}
    hashed = hashlib.sha256()
    for name, folder in sorted(folders.items()):
        for file in sorted(folder.glob("*.py")):
            if not (name == "peers" and file.name in _PRINTING):
                hashed.update(f"{name}/{file.name}\0".encode() + file.read_bytes() + b"\0")
    return hashed.hexdigest()


def key(row: Row, goal: Goal, code: str, machine: str, quick: bool) -> str:
    """Equal keys: measuring again would measure the same thing."""
    return digest(row.group, row.name, row.ours, asdict(goal), dict(row.shape), versions(row.packages), code, machine, quick)


def machine() -> str:
    """The processor's name, and the word that results of two machines must not be mixed by."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor() or "unknown")
    return f"{model}, {os.cpu_count()} cores, {platform.machine()}"


def measured(row: Row, goal: Goal, contest: Contest, rounds: Sequence[Round], entry_key: str) -> Entry:
    """The entry of one goal. Of several peers the one that leaves ours the smallest ratio counts."""
    present = [name for name in goal.peers if name in contest.calls]
    if not present:
        return not_available(row, goal, "; ".join(contest.missing.get(name, "not prepared") for name in goal.peers), entry_key)
    ratios = {name: ratio(rounds, row.ours, name) for name in present}
    peer = min(present, key=lambda name: ratios[name].value)
    found = ratios[peer]
    return {
        **_head(row, goal, entry_key),
        "peer": peer,
        "among": {name: round(other.value, 4) for name, other in ratios.items()},
        "missing": {name: contest.missing[name] for name in goal.peers if name in contest.missing},
        "ratio": found.value,
        "interval": [found.low, found.high],
        "verdict": verdict(goal, found.low, found.high),
        "rounds": found.rounds,
        "unit": contest.unit,
        "ours_median": float(np.median([taken[row.ours] for taken in rounds])),
        "peer_median": float(np.median([taken[peer] for taken in rounds])),
        "samples": {name: [float(f"{taken[name]:.6g}") for taken in rounds] for name in (row.ours, peer)},
        "differences": {name: asdict(difference) for name, difference in contest.differences.items() if name in (row.ours, *present)},
        "facts": dict(contest.facts),
    }


def not_available(row: Row, goal: Goal, reason: str, entry_key: str) -> Entry:
    return {**_head(row, goal, entry_key), "peer": " or ".join(goal.peers), "verdict": "n/a", "reason": reason}


def _head(row: Row, goal: Goal, entry_key: str) -> Entry:
    return {
        "group": row.group,
        "name": row.name,
        "against": list(goal.peers),
        "goal": goal.at_least,
        "ours": row.ours,
        "shape": dict(row.shape),
        "versions": versions(row.packages),
        "note": row.note,
        "key": entry_key,
    }


def verdict(goal: Goal, low: float, high: float) -> str:
    """ "met" or "missed" where the whole interval lies on that side of the goal, else "inconclusive"."""
    if goal.at_least is None:
        return "no goal"
    if low >= goal.at_least:
        return "met"
    return "missed" if high < goal.at_least else "inconclusive"


def identity(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    """What an entry replaces when it is measured again."""
    return entry["group"], entry["name"], " or ".join(entry["against"])


def load(path: Path) -> list[Entry]:
    """The entries of a file, none where there is no file. raises: ResultsError"""
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        number, entries = content["schema"], content["comparisons"]
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path}: not a file of peer comparisons ({error!r}); move it away to start anew") from error
    if number != SCHEMA:
        raise ResultsError(f"{path}: has schema {number}, this version reads {SCHEMA}; move it away to start anew")
    return list(entries)


def save(path: Path, entries: Sequence[Entry], code: str) -> None:
    """Replaced as a whole, so that a stopped run leaves a readable file."""
    content = {"schema": SCHEMA, "machine": machine(), "threads": 1, "code_sha256": code, "comparisons": list(entries)}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)
