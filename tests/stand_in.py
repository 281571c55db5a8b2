"""The stand-in for the NPU's software (`fake_rknn`): where it lies, and this process in the place of a board that has it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FAKE = Path(__file__).parent / "fake_rknn"


@contextlib.contextmanager
def board(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """This process plays the board, in a folder of its own: the stand-ins can be imported."""
    monkeypatch.syspath_prepend(str(FAKE))
    monkeypatch.setenv("FAKE_RKNN_BOARD", "1")
    monkeypatch.chdir(folder)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] in ("rknn", "rknnlite", "fake_npu")]:
            del sys.modules[name]  # other tests run where there is none
