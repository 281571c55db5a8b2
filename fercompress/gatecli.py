"""`fercompress gate`, `compare` and `calibrate`: is the candidate worse, and how small a change can be seen here at all?"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from fercompress import options, terminal
from fercompress.errors import InputError

_target = click.option("--target", default="localhost", show_default=True, metavar="NAME", help="Where to measure: a target's name or TOML file.")
_tier = click.option("--tier", type=options.TIERS, default="quick", show_default=True, help="How long each side is timed.")
_budget = click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Begin no further round after so many minutes.")
_rounds = click.option("--rounds", type=click.IntRange(6, 1000), help="Exactly so many rounds, instead of as many as a verdict needs.")
_data = click.option("--data", metavar="STUDY", help="The clips to ask about: a study, or a data set; needed for bare bundles.")
_inputs = click.option(
    "--inputs", metavar="FILE", help="The same of bundles: .npz with frames (N, T, H, W) and perhaps labels; synthetic: rendered, without labels."
)
_effect = click.option(
    "--effect", "effects", multiple=True, metavar="METRIC=SIZE", help="The smallest change that matters (2%, 1pt); may be repeated."
)
_limit = click.option(
    "--limit", "limits", multiple=True, metavar="METRIC=VALUE", help="What the candidate must keep in any case (25ms, 57MiB, 95%); may be repeated."
)
_metric = click.option("--metric", "metrics", multiple=True, metavar="METRIC", help="Only this metric; may be repeated.")


def _options(command: Any) -> Any:
    for option in reversed((_target, _tier, _budget, _rounds, _data, _inputs, options.data_root, _effect, _metric)):
        command = option(command)
    return command


@click.command()
@click.option("--candidate", required=True, metavar="WHAT", help="RUN, RUN:VARIANT or a bundle's folder.")
@click.option("--baseline", required=True, metavar="WHAT", help="The same, or a baseline file (.json).")
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports/gate"), show_default=True, help="Where its measurements go.")
@_options
@_limit
@click.option("--on-inconclusive", type=click.Choice(["fail", "warn"]), default="fail", show_default=True, help="What 'I do not know' does.")
@click.option("--advisory", is_flag=True, help="Never fail for what was found: say what would have been, and whether the noise allows to enforce it.")
@click.option("--no-confirm", is_flag=True, help="Fail on a first 'worse', without a fresh run that repeats it.")
@click.option("--pinned", is_flag=True, help="Of a baseline file, the pinned release instead of the newest entry.")
@click.option("--update", is_flag=True, help="Accept the candidate: write it into the baseline file.")
@click.option("--reason", default="", help="With --update: why the baseline changes.")
@click.option("--owner", default="", help="With --update: who answers for it.")
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="With --update: how long it is believed.")
@click.option("--pin", is_flag=True, help="With --update: pin it as the release too.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Write the verdicts as Markdown.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write them as JUnit XML.")
@click.option("--fresh", is_flag=True, help="Forget what an earlier gate left in the output folder.")
@options.as_json
def gate(
    candidate: str, baseline: str, out: Path, on_inconclusive: str, advisory: bool, no_confirm: bool, pinned: bool, update: bool, reason: str,
    owner: str, days: int, pin: bool, markdown: Path | None, junit: Path | None, fresh: bool, as_json: bool, limits: tuple[str, ...], **chosen: Any,
) -> None:  # fmt: skip
    """Fail (exit 1) if the candidate is worse than the baseline, or breaks a limit.

    Both are measured side by side, round after round, until each metric has a verdict or the rounds end; two variants of one run are judged by its
    own rounds. Against a baseline file the candidate must have been measured under the same conditions (else exit 5). A "worse" counts once a fresh
    run repeats it.

    Exit codes: 0 passed, 1 worse, 2 bad input, 3 inconclusive, 4 device or infrastructure, 5 not comparable.
    """
    from fercompress import contest, gating

    asked = _request(candidate, baseline, out, chosen, limits, fail=on_inconclusive == "fail", confirm=not no_confirm, pinned=pinned)
    with terminal.progress() as tell:
        if fresh:
            contest.forget(out)
        if update:
            path = Path(baseline)
            entry = gating.update(asked, path, owner, reason, days, pin, tell)
            click.echo(f"{path}: {entry.evidence.name} is the baseline until {entry.expires} (owner: {entry.owner})")
            return
        outcome = gating.gate(asked, tell)
    _show(outcome, markdown, junit, as_json, asked.fail_on_inconclusive)
    if advisory:
        click.echo(f"advisory: this would have ended with exit code {int(outcome.exit_code)}; {outcome.hardening}", err=True)
        return
    sys.exit(int(outcome.exit_code))


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports/compare"), show_default=True, help="Where its measurements go.")
@_options
@click.option("--markdown", type=click.Path(path_type=Path), help="Write the verdicts as Markdown.")
@options.as_json
def compare(a: str, b: str, out: Path, markdown: Path | None, as_json: bool, **chosen: Any) -> None:
    """Say of A (RUN:VARIANT or a bundle's folder) on every metric whether it is better or worse than B, or not known to be either.

    As `fercompress gate`, but nothing fails: exit 0 once both were measured.
    """
    from fercompress import gating

    asked = replace(_request(a, b, out, chosen, (), fail=False, confirm=False, pinned=False), compares=True)
    with terminal.progress() as tell:
        outcome = gating.gate(asked, tell)
    _show(outcome, markdown, None, as_json, False)


@click.command()
@click.argument("target", metavar="TARGET")
@click.option("--with", "what", required=True, metavar="WHAT", help="What to run: RUN:VARIANT or a bundle's folder.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports/calibrate"), show_default=True, help="Where its measurements go.")
@click.option("--sessions", type=click.IntRange(2, 100), default=3, show_default=True, help="How often it starts anew.")
@click.option("--rounds", type=click.IntRange(6, 1000), default=8, show_default=True, help="Rounds of a session.")
@_tier
@_data
@_inputs
@options.data_root
@options.as_json
def calibrate(
    target: str, what: str, out: Path, sessions: int, rounds: int, tier: str, data: str | None, inputs: str | None, data_root: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure a bundle against itself on TARGET: how much noise is there, and how small a change would be found?

    Kept on this machine; from then on, gates on TARGET call nothing a change that matters that is below twice the noise, and run this bundle as a
    canary before they measure.
    """
    from fercompress import calibrating
    from fercompress.gate.metrics import METRICS

    with terminal.progress() as tell:
        made = calibrating.calibrate(what, target, out, tell, sessions=sessions, rounds=rounds, tier=tier, wanted=_wanted(data, inputs, data_root))
    counts = sorted({8, 16, rounds})
    lines: list[dict[str, Any]] = [
        {"metric": name, "noise of a round": made.round_sd[name], **{f"found in {n} rounds from": made.detectable(name, n) for n in counts}}
        for name in METRICS
        if name in made.round_sd
    ]
    if as_json:
        terminal.show_json({"target": made.target, "between_sessions": made.session_sd, "metrics": lines})
        return
    table = Table(title=escape(f"{made.target}: {sessions} sessions of {made.rounds} rounds, {what} against itself"), title_justify="left")
    for column in lines[0]:
        table.add_column(column, justify="left" if column == "metric" else "right")
    for line in lines:
        table.add_row(*(value if isinstance(value, str) else f"{100 * value:.2f} %" for value in line.values()))
    terminal.show(table)
    click.echo(f"between sessions: {100 * made.session_sd:.2f} %; kept in {calibrating.file(made.target)}")


def _request(
    candidate: str, baseline: str, out: Path, chosen: dict[str, Any], limits: tuple[str, ...], *, fail: bool, confirm: bool, pinned: bool
) -> Any:  # fmt: skip
    from fercompress import gating
    from fercompress.quantity import named_quantity
    from fercompress.tier import LOOKS

    minutes, rounds = chosen["minutes"], chosen["rounds"]
    return gating.Request(
        candidate, baseline, out, chosen["target"], chosen["tier"], (rounds,) if rounds else LOOKS,
        60 * minutes if minutes else float("inf"), _wanted(chosen["data"], chosen["inputs"], chosen["data_root"]),
        dict(named_quantity(text, "--effect") for text in chosen["effects"]), dict(named_quantity(text, "--limit") for text in limits),
        chosen["metrics"], fail, confirm, pinned,
    )  # fmt: skip


def _wanted(data: str | None, inputs: str | None, data_root: Path | None) -> Any:
    from fercompress.examination import Wanted

    if data is not None and inputs is not None:
        raise InputError("--data and --inputs both say which clips to run: give one of them")
    if data_root is not None and data is None:
        raise InputError("--data-root says where a data set lies, not which: give --data STUDY too, or neither: a run keeps its clips in its folder")
    if data is None and inputs is None:
        return None
    return Wanted(data=data, data_root=data_root) if inputs is None else Wanted(inputs)


def _show(outcome: Any, markdown: Path | None, junit: Path | None, as_json: bool, fail_on_inconclusive: bool) -> None:
    from fercompress.gate import render

    sides = ("A", "B") if outcome.compares else render.SIDES
    if markdown is not None:
        _write(markdown, render.markdown(outcome.judgements, outcome.notes, outcome.headline, sides))
    if junit is not None:
        _write(junit, render.junit(outcome.judgements, fail_on_inconclusive=fail_on_inconclusive))
    if as_json:
        terminal.show_json(render.document(outcome.judgements, outcome.notes, int(outcome.exit_code)))
        return
    for judgement in outcome.judgements:
        lines = render.rows(judgement, sides)
        title = f"{judgement.candidate} against {judgement.baseline} on {judgement.target}, {judgement.rounds} rounds"
        table = Table(title=escape(title), caption=escape(judgement.note), title_justify="left", caption_justify="left")
        for column in lines[0]:
            table.add_column(column, overflow="fold")
        for line in lines:
            table.add_row(*map(escape, line.values()))
        terminal.show(table)
        for doubt in render.doubt_lines(judgement):
            click.echo(f"doubt: {doubt}")
    for note in outcome.notes:
        click.echo(f"note: {note}")
    click.echo(outcome.headline)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
