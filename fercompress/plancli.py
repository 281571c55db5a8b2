"""`fercompress plan`: what can a study claim within so many minutes? Parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from fercompress import options, terminal
from fercompress.errors import ResultsError


@click.command()
@click.argument("name", metavar="[STUDY]", default="default")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), required=True, help="Of each target's time, for latency blocks.")
@click.option("--tier", type=options.TIERS, help="Plan with this tier instead of what the study says.")
@click.option("--only", multiple=True, metavar="VARIANT", help="Only this variant beside the baseline; may be repeated.")
@click.option("--target", multiple=True, metavar="NAME", help="Plan for these instead of the study's targets; may be repeated.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A run's folder, whose blocks tell how long one takes.  [default: reports/<study>, where it is there]",
)
@options.as_json
def plan(name: str, minutes: float, tier: str | None, only: tuple[str, ...], target: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Say what STUDY can claim within so many minutes of its targets' time: rounds, percentiles, and the smallest changes that would be found.

    Nothing is measured. How small a change can be told is known of calibrated targets alone (fercompress calibrate). How long a block takes is told
    by an earlier run of the study; where there is none it is estimated from the settings: a model whose clips take longer than these needs more time.
    """
    from fercompress import claiming, studyfile
    from fercompress.results.store import FILE

    wishes = (f"measure.tier={tier}",) if tier else ()
    loaded = studyfile.load_study(name, wishes)
    run = out or Path("reports") / loaded.name
    if out is not None and not (out / FILE).is_file():
        raise ResultsError(f"--out {out}: no {FILE} there; give the output folder of `fercompress run`, or leave --out away")
    made = claiming.claims(studyfile.restricted(loaded, only, target, None), minutes, run if (run / FILE).is_file() else None)
    if as_json:
        terminal.show_json([each.table for each in made])
        return
    for each in made:
        click.echo(each.sentence)
        table = Table(caption=escape(each.note), caption_justify="left")
        slower = f"{100 * claiming.SLOWDOWN:g} % slower is"
        for column in ("metric", "may matter from", "is found from", f"{slower} found", "no change is called so", f"{slower} found 9 times in 10 by"):
            table.add_column(column)
        for metric, power in each.powers.items():
            table.add_row(metric, *(_cells(power) if power else ["n/a"] * 5))
        terminal.show(table)
        click.echo(_rest(each))
        click.echo(f"a block takes about {each.block_s:.2f} s: {each.paced_by}")


def _cells(power: Any) -> list[str]:
    shares = (power.smallest, power.found_from, power.found, power.equivalent)
    rounds = "no number of rounds" if power.rounds is None else f"{power.rounds} rounds"
    return [*("n/a" if share is None else f"{100 * share:.1f} %" for share in shares), rounds]


def _rest(promise: Any) -> str:
    if promise.rounds < promise.wanted:
        needed = promise.about_minutes / promise.rounds * promise.wanted if promise.rounds else None
        longer = "" if needed is None else f", about {needed:.0f} minutes"
        return f"the study asks for {promise.wanted} rounds{longer}; about {promise.fitting} fit"
    return f"about {promise.about_minutes:.1f} minutes for all {promise.rounds} rounds of {promise.timed_clips} timed clips a variant"
