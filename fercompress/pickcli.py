"""`fercompress pick`: which variant of a finished run fits a budget? Parse, call, print."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fercompress.errors import InputError


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--max", "most", multiple=True, metavar="COLUMN=VALUE", help="At most so much (latency_clip_p90_ns=25ms); may be repeated.")
@click.option("--min", "least", multiple=True, metavar="COLUMN=VALUE", help="At least so much (validation_accuracy=95%); may be repeated.")
@click.option("--max-drop", "drops", multiple=True, metavar="COLUMN=VALUE", help="At most so far below the baseline (accuracy=1pt); may be repeated.")
@click.option(
    "--by", type=click.Choice(["validation_accuracy", "stored_bytes"]), help="What is best among those that fit.  [default: validation_accuracy]"
)
@click.option("--target", metavar="NAME", help="Of a run on several targets: the one to choose for.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
def pick(
    run_folder: Path, most: tuple[str, ...], least: tuple[str, ...], drops: tuple[str, ...], by: Any, target: str | None, as_json: bool
) -> int:  # fmt: skip
    """Name the best variant of RUN that keeps a budget, its test figures, the runner-up, and what the budget costs.

    A COLUMN is any number of summary.json. "accuracy" is read as validation_accuracy: validation data chooses, test data only tells how good the
    choice is. A variant whose column is n/a does not fit, and the reason is told. Without a budget this is the report's own advice.

    Exit codes: 0 one fits; 1 none fits; 2 usage or bad input; 3 none is known to fit, but of one it is not known that it does not.
    """
    from fercompress import budget
    from fercompress.results import frame

    limits = budget.limits_of(most, least, drops)
    document = frame.load(run_folder).document
    found = budget.answer(_rows(document, target), document["baseline"], document["data"], limits, by)
    if as_json:
        click.echo(json.dumps({"run": str(run_folder), **found.document()}, indent=1, ensure_ascii=False))
        return found.exit_code
    for line in found.lines():
        click.echo(line)
    if unfit := found.unfit():
        table = Table(title=f"do not fit, or are not known to: {len(unfit)}", title_justify="left")
        for head in ("variant", "validation accuracy", "misses"):
            table.add_column(head, overflow="fold")
        for cells in unfit:
            table.add_row(*map(escape, cells))
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    for note in found.notes:
        click.echo(f"note: {note}")
    click.echo(f"{found.rule} ({found.validated:,} validation clips)")
    return found.exit_code


def _rows(document: Mapping[str, Any], target: str | None) -> list[Mapping[str, Any]]:
    from fercompress.section import did_you_mean

    targets = list(dict.fromkeys(row["target"] for row in document["rows"]))
    if target is not None and target not in targets:
        raise InputError(f"--target {target!r}: the run has no such target{did_you_mean(target, targets)} (targets: {', '.join(targets)})")
    if target is None and len(targets) > 1:
        raise InputError(f"the run was measured on {', '.join(targets)}: choose one with --target")
    place = targets[0] if target is None else target
    return [row for row in document["rows"] if row["target"] == place]
