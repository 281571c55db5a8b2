"""What training needs at its peak: one fresh process per sample (`python -m peers.memory CONTESTANT D H r LAST T B` prints bytes)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from fercompress.errors import AgentError
from fercompress.tt import shape as tt_shape
from fercompress.tt.layers import TTLSTM
from peers import training
from peers.contest import Contest

_LIMIT_S = 300
_STEPS = 3


def contest(features: int, hidden: int, rank: int, last: int, frames: int, batch: int) -> Contest:
    def call(name: str) -> Callable[[], int]:
        sizes = [str(size) for size in (features, hidden, rank, last, frames, batch)]
        return lambda: _sample([name, *sizes])

    return Contest({name: call(name) for name in (training.OURS, training.PLAIN)}, unit="bytes")


def _sample(arguments: list[str]) -> int:
    command = [sys.executable, *(["-P"] if sys.flags.safe_path else []), "-m", "peers.memory", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if done.returncode:
        raise AgentError(f"peers.memory {' '.join(arguments)} failed with exit code {done.returncode}: {done.stderr[-500:]}")
    return int(done.stdout)


def peak_over_input(name: str, features: int, hidden: int, rank: int, last: int, frames: int, batch: int) -> int:
    """Bytes that this process held at its peak during three steps (VmHWM), beyond what it held (VmRSS) when only the input was there.

    Libraries load some of their code on first use: a small step of either kind comes first, so that it is not counted.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    _train(training.PLAIN, torch.randn(2, 3, 16).relu_(), 8, 2, 8)
    _train(training.OURS, torch.randn(2, 3, 16).relu_(), 8, 2, 8)
    sequence = torch.randn(batch, frames, features).relu_()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM starts again from what is resident now
    before = _status_bytes("VmRSS")
    _train(name, sequence, hidden, rank, last)
    return _status_bytes("VmHWM") - before


def _train(name: str, sequence: torch.Tensor, hidden: int, rank: int, last: int) -> None:
    batch, _, features = sequence.shape
    if name == training.OURS:
        shape = tt_shape.asymmetric(4 * hidden, features, rank, last=last)
        layer: nn.Module = TTLSTM(features, hidden, shape, None, batch_first=True)
    else:
        layer = nn.LSTM(features, hidden, batch_first=True)
    network = training.predictor(layer, nn.Linear(hidden, training.CLASSES), hidden)
    call = training.step(network, sequence, torch.randint(training.CLASSES, (batch,)))
    for _ in range(_STEPS):
        call()


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    print(peak_over_input(sys.argv[1], *map(int, sys.argv[2:])))
