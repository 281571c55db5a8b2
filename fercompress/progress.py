"""What a long run tells a person: a live bar per stage on stderr, and a line for each stage that ended."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Interrupts:
    """Ctrl-C that is not lost: raised at once, and at the next sign of progress if something swallowed it (a finaliser, a library's bare except)."""

    def __init__(self) -> None:
        self._asked = False
        self._ours = False

    def start(self) -> None:
        """Where Ctrl-C does what Python's own handler does, it does this from now on; a program's own handler, or an ignored Ctrl-C, stays."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
            self._ours = True

    def stop(self) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._ours = False

    def heed(self) -> None:
        """raises: KeyboardInterrupt, in the main thread, if one was asked for and has not ended the work"""
        if self._asked and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        raise KeyboardInterrupt


class Bar:
    """One stage's bar; `done` may be called from one thread at a time."""

    def __init__(self, progress: Progress, interrupts: Interrupts, text: str, total: int | None) -> None:
        self._progress = progress
        self._interrupts = interrupts
        self._task = progress.add_task(text, total=total, detail="")

    def done(self, completed: int, total: int | None = None, detail: str = "") -> None:
        self._interrupts.heed()
        self._progress.update(self._task, completed=completed, total=total, detail=detail)

    def advance(self, detail: str = "") -> None:
        self._interrupts.heed()
        self._progress.update(self._task, advance=1, detail=detail)

    def close(self) -> None:
        self._progress.remove_task(self._task)


class Reporter:
    """`with Reporter(console) as tell: with tell.stage("train", total=10) as bar: bar.advance()`"""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._interrupts = Interrupts()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, TextColumn("{task.fields[detail]}"), console=console, transient=True)

    def __enter__(self) -> Self:
        self._interrupts.start()
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()
        self._interrupts.stop()

    @contextlib.contextmanager
    def stage(self, text: str, total: int | None = None) -> Iterator[Bar]:
        self._interrupts.heed()
        start = time.monotonic()
        bar = Bar(self._progress, self._interrupts, text, total)
        try:
            yield bar
        finally:
            bar.close()
        self._console.print(f"[green]✓[/green] {text} [dim]({time.monotonic() - start:.0f} s)[/dim]", highlight=False)

    def note(self, text: str) -> None:
        self._console.print(f"[dim]· {text}[/dim]", highlight=False)
