"""`fercompress verify`: is a finished run still what was measured? Parse, call, print."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from fercompress import options, terminal
from fercompress.errors import InputError

DIFFERS = 1
SHOWN = 40


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--seal", "expected", metavar="DIGEST", default="", help="Also compare the seal's sha256 (16 digits or more) as you noted it elsewhere."
)
@options.as_json
def verify(run_folder: Path, expected: str, as_json: bool) -> int:
    """Recompute every number of RUN's report from the raw samples, and every sha256, and say which differ.

    A seal tells rot, slips and casual edits. Who can write the folder can also seal it anew: against that, note the seal's sha256 (a run prints it at
    its end) where they cannot write, and give it as --seal.

    Exit codes: 0 all equal; 1 something differs; 2 RUN is no run, or is not sealed: it was stopped, or is still going on.
    """
    if expected and not re.fullmatch(r"[0-9a-fA-F]{16,64}", expected):
        raise InputError(f"--seal {expected}: give at least 16 hexadecimal digits of the seal's sha256")
    from fercompress import verify as verifying

    found = verifying.verify(run_folder, expected)
    if as_json:
        equal = not found.differences
        terminal.show_json({"run": str(run_folder), "equal": equal, **dataclasses.asdict(found)})
        return 0 if equal else DIFFERS
    for note in found.notes:
        click.echo(f"note: {note}")
    if not found.differences:
        click.echo(f"all equal: {found.rows:,} rows of the journal, {found.files:,} files, {found.numbers:,} numbers and lines of the report")
        click.echo(f"seal: sha256 {found.seal_sha256}")
        return 0
    table = Table(title=f"{len(found.differences)} differences in {escape(str(run_folder))}", title_justify="left")
    for column in ("where", "row", "column", "stored", "recomputed or sealed"):
        table.add_column(column, overflow="fold")
    for each in found.differences[:SHOWN]:
        table.add_row(*map(escape, dataclasses.astuple(each)))
    terminal.show(table)
    if len(found.differences) > SHOWN:
        click.echo(f"and {len(found.differences) - SHOWN} more: --json lists them all")
    return DIFFERS
