"""What a command shows a person: results on stdout, as a table or as JSON, and progress on stderr."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from fercompress.progress import Reporter

Rows = list[dict[str, Any]]
GOES_ON = "stopped; the same command goes on where it was (nothing is sealed before the end)"


@contextlib.contextmanager
def progress(stopped: str = GOES_ON) -> Iterator[Reporter]:
    """stopped: what is true of the command after Ctrl-C; `fercompress.cli` prints it"""
    from fercompress.progress import Reporter

    with Reporter(Console(stderr=True)) as tell:
        try:
            yield tell
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(stopped) from interrupt


def show_json(content: Any) -> None:
    click.echo(json.dumps(content, indent=1))


def show(table: Table, width: int = 200) -> None:
    """width: in columns, where stdout is no terminal"""
    Console(width=None if sys.stdout.isatty() else width).print(table)


def show_rows(rows: Rows, title: str, caption: str = "") -> None:
    """A table with a column for each key of the first row; None is "n/a"."""
    table = Table(title=escape(title), caption=escape(caption), title_justify="left", caption_justify="left")
    for column in rows[0] if rows else ():
        table.add_column(column.replace("_", " "), justify="left" if isinstance(rows[0][column], str) else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    show(table)


def _cell(value: Any) -> str:
    if value is None:
        return "n/a"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
