"""A study that is small at every stage, run by the command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_TEXT = """
[study]
name = "{name}"
baseline = "dense-fp32"
{study}

[data]
name = "synthetic"
train_clips = 42
validation_clips = 14
test_clips = 28
frames = 4
size = 32
{data}

[model]
{model}
hidden = 16

[train]
epochs = 2

[fine_tune]
epochs = 2
extractor_epochs = 1

[measure]
rounds = 2
block_clips = 2
block_s = 0.01
warmup_clips = 1
passes = {passes}

[[variant]]
name = "dense-fp32"
{variants}
"""


SMALL = 'zoo = "small"'


def text(
    name: str, variants: str, passes: Sequence[str] = ("accuracy", "latency", "memory"), *, model: str = SMALL, study: str = "", data: str = ""
) -> str:
    """The study file. variants: [[variant]] tables beside dense-fp32; study, data, model: more lines of these sections"""
    return _TEXT.format(name=name, variants=variants, passes=list(passes), model=model, study=study, data=data)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fercompress", *arguments]


def environment(**changes: str) -> dict[str, str]:
    """One thread, and nothing of this process's own that means the NPU's software."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FAKE_RKNN", "FERCOMPRESS_RKNN"))}
    return {**clean, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **changes}


def run(folder: Path, *arguments: str, timeout_s: float = 280, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(**changes), capture_output=True, text=True, timeout=timeout_s, check=False
    )  # fmt: skip
