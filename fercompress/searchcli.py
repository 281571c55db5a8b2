"""`fercompress search`: better variants than those that a person would write down, within a budget. Parse, call, print."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table


@click.command()
@click.argument("name", metavar="[STUDY]", default="default")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=20.0, show_default=True, help="Of proposals and trainings, in all.")
@click.option("--trials", type=click.IntRange(1, 100_000), metavar="N", help="At most so many proposals.")
@click.option("--max", "most", multiple=True, metavar="COLUMN=VALUE", help="At most so much (stored_bytes=60kB); may be repeated.")
@click.option("--min", "least", multiple=True, metavar="COLUMN=VALUE", help="At least so much (validation_accuracy=95%); may be repeated.")
@click.option("--max-drop", "drops", multiple=True, metavar="COLUMN=VALUE", help="At most so far below the baseline (accuracy=1pt); may be repeated.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the proposals.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of a data set that is on your disk.")
@click.option("--out", type=click.Path(path_type=Path), help="Output folder.  [default: reports/<study>-search]")
@click.option("--target", multiple=True, metavar="NAME", help="Measure here instead of on the study's targets; may be repeated.")
@click.option("--set", "wishes", multiple=True, metavar="KEY=VALUE", help="Instead of what STUDY says (data.protocol=modulo); may be repeated.")
@click.option("--no-measure", is_flag=True, help="Stop after the search: nothing is measured, no report is written.")
@click.option("--fresh", is_flag=True, help="Forget what an earlier search left in the output folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
def search(
    name: str, minutes: float, trials: int | None, most: tuple[str, ...], least: tuple[str, ...], drops: tuple[str, ...], seed: int,
    data_root: Path | None, out: Path | None, target: tuple[str, ...], wishes: tuple[str, ...], no_measure: bool, fresh: bool, as_json: bool,
) -> int:  # fmt: skip
    """Look for variants of STUDY on the front of validation accuracy and stored bytes: ranks of every bond, layout, which matrices, where training
    starts, bits of each part, and how much smaller the extractor's kernels are.

    What a proposal costs grows with what is known of it: bytes, modelled time and sensitivity first, then a short training, then the whole one; what
    is left on the front is measured as `fercompress run` does. STUDY's own variants are the first proposals; its first seed and fold choose. Stopped
    at any moment, the same command goes on and no trial is lost; with more --minutes a search that has ended goes on too.

    Exit codes: 0 one fits; 1 none fits; 2 usage or bad input; 3 none is known to fit; others as `fercompress run`.
    """
    from fercompress import budget, studyfile

    limits = budget.limits_of(most, least, drops)
    loaded = studyfile.restricted(studyfile.load_study(name, wishes), (), target, None)
    from fercompress import searching, study
    from fercompress.measuring import settled
    from fercompress.progress import Reporter

    place = out or Path("reports") / f"{loaded.name}-search"
    request = study.Request(settled(loaded), place, data_root)
    asked = searching.SearchRequest(request, minutes, trials, seed, tuple(limits), not no_measure)
    with Reporter(Console(stderr=True)) as tell:
        if fresh:
            study.forget(request)
        found = searching.run(asked, tell)
    if as_json:
        answer = None if found.answer is None else found.answer.document()
        click.echo(json.dumps({**found.document, "answer": answer}, indent=1, ensure_ascii=False))
    else:
        _print(found, place)
    return 0 if found.answer is None else found.answer.exit_code


def _print(found: Any, place: Path) -> None:
    lines = found.table()
    title = f"front of {len(found.trials)} proposals, {sum(each.whole for each in found.trials)} of them trained whole (validation data alone)"
    table = Table(title=escape(title), title_justify="left")
    for column in lines[0] if lines else ():
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(*map(escape, line.values()))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    if found.answer is not None:
        for line in found.answer.lines():
            click.echo(line)
        for note in found.answer.notes:
            click.echo(f"note: {note}")
        click.echo(f"report: {place / 'index.html'}")
    click.echo(f"every trial: {place / 'search.json'}")
