"""`python -m peers`: measure the table (or a part of it), and write peers.json, peers.md and peers.png."""

from __future__ import annotations

import dataclasses
import gc
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from fercompress_agent import timing
from rich.console import Console

from fercompress.errors import FercompressError
from fercompress.progress import Reporter
from peers import entry as entries_of
from peers import render, rounds
from peers.contest import NotAvailableError, Row
from peers.entry import Entry
from peers.table import TABLE

# Libraries read these when they load, so that they cannot be set from here.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@click.command()
@click.option("--only", multiple=True, metavar="TEXT", help="Rows whose group and name hold this text; may be given several times.")
@click.option("--missing", is_flag=True, help="Keep what is in the file with the same versions, shapes and source.")
@click.option("--quick", is_flag=True, help="Six rounds each: a look, not a result.")
@click.option(
    "--cap", "cap_s", type=float, default=rounds.Limits.cap_s, show_default=True, metavar="SECONDS", help="Longest time for a row's rounds."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the rounds' order.")
@click.option("--render", "render_only", is_flag=True, help="Write the table and the picture anew from the file; measure nothing.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(__file__).parents[1] / "results",
    show_default="benchmarks/results",
    help="Folder of peers.json, peers.md and peers.png.",
)
def main(only: Sequence[str], missing: bool, quick: bool, cap_s: float, seed: int, render_only: bool, out: Path) -> None:
    """Compare fercompress with public peers, one thread, interleaved."""
    console = Console(stderr=True)
    rows = [row for row in TABLE if not only or any(text.lower() in f"{row.group}, {row.name}".lower() for text in only)]
    if not rows:
        raise click.UsageError(f"no row holds {' or '.join(map(repr, only))}; rows are:\n" + "\n".join(f"  {row.group}, {row.name}" for row in TABLE))
    out.mkdir(parents=True, exist_ok=True)
    file = out / "peers.json"
    try:
        kept = {entries_of.identity(entry): entry for entry in entries_of.load(file)}
        code = entries_of.code_sha256()
        limits = rounds.QUICK if quick else rounds.Limits(cap_s=cap_s)
        if not render_only:
            timing.stop_collector()
            with Reporter(console) as tell:
                for number, row in enumerate(rows):
                    keys = [entries_of.key(row, goal, code, entries_of.machine(), quick) for goal in row.goals]
                    if missing and all(kept.get(_identity(row, place), {}).get("key") == key for place, key in enumerate(keys)):
                        continue
                    for entry in _measure(row, keys, limits, seed + number, tell):
                        kept[entries_of.identity(entry)] = entry
                        tell.note(_said(entry))
                    entries_of.save(file, _in_order(kept), code)
                    gc.collect()
    except FercompressError as error:
        console.print(f"[red]error:[/red] {error}", highlight=False)
        sys.exit(error.exit_code)
    ordered = _in_order(kept)
    circumstances = {"machine": entries_of.machine(), "versions": _versions(ordered)}
    (out / "peers.md").write_text(render.markdown(ordered, circumstances), encoding="utf-8")
    render.picture(ordered, out / "peers.png")
    click.echo(out / "peers.md")


def _measure(row: Row, keys: Sequence[str], limits: rounds.Limits, seed: int, tell: Reporter) -> list[Entry]:
    label = f"{row.group}, {row.name}"
    try:
        with tell.stage(f"{label}: prepare and compare answers"):
            contest = row.contest()
    except NotAvailableError as error:
        return [entries_of.not_available(row, goal, str(error), key) for goal, key in zip(row.goals, keys, strict=True)]
    limits = dataclasses.replace(limits, least=min(limits.least, row.least_rounds))
    with tell.stage(label, total=limits.most) as bar:
        samples = {name: rounds.timed(call) if contest.unit == "ns" else call for name, call in contest.calls.items()}
        taken = rounds.run(samples, row.ours, limits, random.Random(seed), done=bar.done)
    return [entries_of.measured(row, goal, contest, taken, key) for goal, key in zip(row.goals, keys, strict=True)]


def _identity(row: Row, place: int) -> tuple[str, str, str]:
    return row.group, row.name, " or ".join(row.goals[place].peers)


def _in_order(kept: dict[tuple[str, str, str], Entry]) -> list[Entry]:
    """The table's order; what the table no longer holds is dropped."""
    wanted = [_identity(row, place) for row in TABLE for place in range(len(row.goals))]
    return [kept[identity] for identity in wanted if identity in kept]


def _said(entry: Entry) -> str:
    if "ratio" not in entry:
        return f"against {entry['peer']}: n/a ({entry['reason']})"
    goal = "" if entry["goal"] is None else f", goal {entry['goal']:g}: {entry['verdict']}"
    return f"against {entry['peer']}: {entry['ratio']:.3g} ({entry['interval'][0]:.3g} to {entry['interval'][1]:.3g}){goal}"


def _versions(entries: Sequence[Entry]) -> str:
    found = {name: version for entry in entries for name, version in entry["versions"].items()}
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items()))


if __name__ == "__main__":
    if any(os.environ.get(name) != "1" for name in _THREADS):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **dict.fromkeys(_THREADS, "1")})
    main(prog_name="python -m peers")
