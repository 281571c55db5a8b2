"""Ctrl-C while several processes work: it is their parent's to handle."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes that are started within never see Ctrl-C: what a process blocks, those that it starts block too."""
    resource_tracker.ensure_running()  # when the first process starts it, it lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
