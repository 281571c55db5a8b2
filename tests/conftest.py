"""Shared by all tests: one thread for torch, so that tests of several processes do not fight for the cores; a real sshd for those that need one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A running `sshlab.Sshd`; the user's own ssh config, keys and agent stay out of it."""
    from sshlab import Sshd, isolated  # here: most tests need no SSH

    with isolated(monkeypatch, tmp_path):
        sshd = Sshd(tmp_path / "lab")
        sshd.start()
        yield sshd
        sshd.stop()
