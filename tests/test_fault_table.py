"""The table of faults in remote/README.md names tests that are there, and leaves out no fault that a remote run must survive."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TO_SURVIVE = (
    "link cut in an upload", "link cut in a run", "link cut in a download", "sshd killed", "host process killed", "black hole", "1 MB/s",
    "rebooted in mid-block", "agent hung", "out of memory", "disk full", "read-only workspace", "no python3", "banner", "not UTF-8",
    "100 MB of output", "clock jump", "second host", "host key changed", "wrong key", "corrupted on the board", "truncated or forged",
    "extra keys", "huge numbers", "wrong sha256", "path traversal", "bundle without one of its files",
)  # fmt: skip


def rows() -> list[tuple[str, str, str]]:
    """fault, file, test"""
    text = (ROOT / "remote" / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^\| (.+) \| `(test_\w+\.py)::(\w+)` \|$", text, re.MULTILINE)


def test_every_fault_that_a_remote_run_must_survive_has_a_row() -> None:
    told = [fault for fault, _, _ in rows()]
    assert [fault for fault in TO_SURVIVE if not any(fault in each for each in told)] == []


def test_every_row_names_a_test_that_is_there_and_is_not_skipped_by_a_mark() -> None:
    missing = []
    for fault, file, name in rows():
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
        if not found or any("skip" in ast.unparse(mark) or "xfail" in ast.unparse(mark) for mark in found[0].decorator_list):
            missing.append(f"{fault}: {file}::{name}")
    assert missing == []
