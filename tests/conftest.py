"""Shared by all tests: one thread for torch, so that tests of several processes do not fight for the cores; a real sshd for those that need one.

Property tests draw the same examples each time, so that a commit passes or fails by what it changed; `HYPOTHESIS_PROFILE=explore` draws others.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("steady", derandomize=True)
settings.register_profile("explore", max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture(autouse=True)
def _the_environment_stays_as_it_was() -> Iterator[None]:
    """The agent sets how many threads numpy's libraries take, as befits a process of its own: the next test's children must not inherit that."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    for name in (name for name, value in before.items() if os.environ.get(name) != value):
        os.environ[name] = before[name]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A running `sshlab.Sshd`; the user's own ssh config, keys and agent stay out of it."""
    from sshlab import Sshd, isolated  # here: most tests need no SSH

    with isolated(monkeypatch, tmp_path):
        sshd = Sshd(tmp_path / "lab")
        sshd.start()
        yield sshd
        sshd.stop()


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process plays a board that has the NPU's software, a stand-in for it."""
    import stand_in

    with stand_in.board(monkeypatch, tmp_path):
        yield
