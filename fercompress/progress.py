"""What a long run tells a person: a live bar per stage on stderr, and a line for each stage that ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """One stage's bar; `done` may be called from one thread at a time."""

    def __init__(self, progress: Progress, text: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(text, total=total, detail="")

    def done(self, completed: int, total: int | None = None, detail: str = "") -> None:
        self._progress.update(self._task, completed=completed, total=total, detail=detail)

    def advance(self, detail: str = "") -> None:
        self._progress.update(self._task, advance=1, detail=detail)

    def close(self) -> None:
        self._progress.remove_task(self._task)


class Reporter:
    """`with Reporter(console) as tell: with tell.stage("train", total=10) as bar: bar.advance()`"""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, TextColumn("{task.fields[detail]}"), console=console, transient=True)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    @contextlib.contextmanager
    def stage(self, text: str, total: int | None = None) -> Iterator[Bar]:
        start = time.monotonic()
        bar = Bar(self._progress, text, total)
        try:
            yield bar
        finally:
            bar.close()
        self._console.print(f"[green]✓[/green] {text} [dim]({time.monotonic() - start:.0f} s)[/dim]", highlight=False)

    def note(self, text: str) -> None:
        self._console.print(f"[dim]· {text}[/dim]", highlight=False)
