"""`fercompress pick`: which variant of a finished run fits a budget? Parse, call, print."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fercompress.errors import InputError
from fercompress.quantity import named_quantity, quantity, units_of

NOTHING_FITS = 1
NOT_KNOWN = 3
_SHOWN = ("validation_accuracy", "stored_bytes", "latency_clip_p50_ns", "memory_peak_bytes", "energy_clip_j")
_TESTED = ("accuracy", "accuracy_ci95", "n_clips", "accuracy_drop", "accuracy_drop_limit95")


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--max", "most", multiple=True, metavar="COLUMN=VALUE", help="At most so much (latency_clip_p90_ns=25ms); may be repeated.")
@click.option("--min", "least", multiple=True, metavar="COLUMN=VALUE", help="At least so much (validation_accuracy=95%); may be repeated.")
@click.option("--max-drop", "drops", multiple=True, metavar="COLUMN=VALUE", help="At most so far below the baseline (accuracy=1pt); may be repeated.")
@click.option(
    "--by", type=click.Choice(["validation_accuracy", "stored_bytes"]), default=None,
    help="What is best among those that fit.  [default: validation_accuracy]",
)  # fmt: skip
@click.option("--target", metavar="NAME", help="Of a run on several targets: the one to choose for.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
def pick(
    run_folder: Path, most: tuple[str, ...], least: tuple[str, ...], drops: tuple[str, ...], by: str | None, target: str | None, as_json: bool
) -> int:  # fmt: skip
    """Name the best variant of RUN that keeps a budget, its test figures, the runner-up, and what the budget costs.

    A COLUMN is any number of summary.json. "accuracy" is read as validation_accuracy: validation data chooses, test data only tells how good the
    choice is. A variant whose column is n/a does not fit, and the reason is told. Without a budget this is the report's own advice.

    Exit codes: 0 one fits; 1 none fits; 2 usage or bad input; 3 none is known to fit, but of one it is not known that it does not.
    """
    from fercompress import choice
    from fercompress.results import frame

    run = frame.load(run_folder)
    rows, place = _rows(run.document, target)
    baseline = next((row for row in rows if row["variant"] == run.document["baseline"]), None)
    budget = [*_limits(most, True), *_limits(least, False), *_drops(drops)]
    validated = choice.validated(run.document["data"])
    if not budget and by is None:
        found, rule = choice.advice(rows, baseline, validated), choice.RULE
    else:
        goal: choice.Goal = "stored_bytes" if by == "stored_bytes" else "validation_accuracy"
        found = choice.choose(rows, baseline, budget, validated, goal)
        rule = f"The rule: of the variants that keep the budget, {choice.GOAL_WORDS[goal]}. Controls may win. Test figures choose nothing."
    notes = list(_notes(budget, rows, baseline, found, validated))
    if as_json:
        click.echo(json.dumps(_document(run_folder, place, budget, rule, found, notes), indent=1, ensure_ascii=False))
    else:
        _print(place, budget, rule, found, notes, validated)
    return 0 if found.chosen is not None else NOTHING_FITS if found.certain else NOT_KNOWN


def _rows(document: Mapping[str, Any], target: str | None) -> tuple[list[Mapping[str, Any]], str]:
    from fercompress.section import did_you_mean

    targets = list(dict.fromkeys(row["target"] for row in document["rows"]))
    if target is not None and target not in targets:
        raise InputError(f"--target {target!r}: the run has no such target{did_you_mean(target, targets)} (targets: {', '.join(targets)})")
    if target is None and len(targets) > 1:
        raise InputError(f"the run was measured on {', '.join(targets)}: choose one with --target")
    place = targets[0] if target is None else target
    return [row for row in document["rows"] if row["target"] == place], place


def _limits(asked: Sequence[str], most: bool) -> list[Any]:
    from fercompress.choice import Limit

    option = "--max" if most else "--min"
    limits = []
    for text in asked:
        column, value = named_quantity(text, option)
        column = _column(column, option)
        limits.append(Limit(column, quantity(value, column), most, value))
    return limits


def _drops(asked: Sequence[str]) -> list[Any]:
    from fercompress.choice import Drop

    drops = []
    for text in asked:
        column, value = named_quantity(text, "--max-drop")
        column = _column(column, "--max-drop")
        if "pt" not in units_of(column) or column.startswith("accuracy_drop"):
            raise InputError(f"--max-drop {column}: a drop is of a share, such as accuracy=1pt; of other columns say --max or --min")
        drops.append(Drop(column, quantity(value, column), value))
    return drops


def _column(name: str, option: str) -> str:
    """The column that a name means. raises: InputError that names its neighbour"""
    from fercompress.results import summary
    from fercompress.section import did_you_mean

    known = summary.numeric_columns()
    if name not in known:
        near = did_you_mean(name, list(known))
        raise InputError(f"{option} {name}: no column of summary.json that holds numbers{near} (known: {', '.join(known)})")
    return "validation_accuracy" if name == "accuracy" else name


def _notes(budget: Sequence[Any], rows: Sequence[Any], baseline: Any, found: Any, validated: int) -> Any:
    from fercompress import choice
    from fercompress.records import Doubt

    for limit in budget:
        if limit.column in choice.TESTED:
            yield f"{limit.column} is a test figure: what is chosen by it was not tested on other clips"
    if baseline is not None and choice.guesses(baseline):
        yield f"{baseline['variant']} is not shown to be better than always naming the largest class: the accuracies say little"
    if any(str(Doubt.SIMULATED_TARGET) in row["doubts"] for row in rows):
        yield "a simulated target: its times are predicted, not measured"
    chosen, second = found.chosen, found.runner_up
    if chosen is not None and second is not None:
        first, other = chosen["validation_accuracy"], second["validation_accuracy"]
        if abs(first - other) <= choice.standard_error(first, other, validated):
            yield f"{chosen['variant']} and {second['variant']} lie within one standard error on {validated:,} validation clips: not told apart"


def _document(folder: Path, target: str, budget: Sequence[Any], rule: str, found: Any, notes: Sequence[str]) -> dict[str, Any]:
    chosen, second, free = found.chosen, found.runner_up, found.unlimited
    return {
        "run": str(folder), "target": target, "rule": rule,
        "budget": [{"limit": _words(limit), "column": limit.column, "value": limit.value} for limit in budget],
        "chosen": chosen and {**_figures(chosen, _SHOWN), "test": _figures(chosen, _TESTED), "doubts": chosen["doubts"]},
        "runner_up": second and _figures(second, _SHOWN),
        "fitting": [row["variant"] for row in found.fitting],
        "cost": {
            "without_budget": free and _figures(free, _SHOWN),
            "validation_accuracy": chosen and free and free["validation_accuracy"] - chosen["validation_accuracy"],
            "without_one_limit": [{"limit": _words(limit), "chosen": row and _figures(row, _SHOWN)} for limit, row in found.without],
        },
        "not_fitting": [
            {
                "variant": each.row["variant"],
                "misses": [
                    {"column": miss.limit and miss.limit.column, "value": miss.value, "reason": miss.reason} for miss in each.misses
                ],
            }
            for each in found.unfit
        ],
        "notes": list(notes),
    }  # fmt: skip


def _figures(row: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    return {**({"variant": row["variant"]} if columns == _SHOWN else {}), **{column: row[column] for column in columns}}


def _print(target: str, budget: Sequence[Any], rule: str, found: Any, notes: Sequence[str], validated: int) -> None:
    from fercompress.report.units import percent_text, points_text

    chosen = found.chosen
    if budget:
        click.echo(f"budget on {target}: {', '.join(map(_words, budget))}")
    if chosen is None:
        click.echo("no variant fits" if found.certain else "no variant is known to fit")
    else:
        click.echo(f"{chosen['variant']}: {_told(chosen)}")
        click.echo(f"tested once: {_tested(chosen)}")
        if found.runner_up is not None:
            click.echo(f"runner-up: {found.runner_up['variant']}: {_told(found.runner_up)}")
        for limit, row in [(None, found.unlimited), *found.without] if budget else []:
            words = "without the budget" if limit is None else f"without {_words(limit)} alone"
            if row is not None and row["variant"] != chosen["variant"] and (limit is None or len(budget) > 1):
                change = points_text(row["validation_accuracy"] - chosen["validation_accuracy"])
                click.echo(f"{words}: {row['variant']} ({change} points of validation accuracy): {_told(row)}")
        if budget and found.unlimited is not None and found.unlimited["variant"] == chosen["variant"]:
            click.echo("the budget costs nothing: without it the choice is the same")
    if found.unfit:
        table = Table(title=f"do not fit, or are not known to: {len(found.unfit)}", title_justify="left")
        for head in ("variant", "validation accuracy", "misses"):
            table.add_column(head, overflow="fold")
        for each in found.unfit:
            accuracy = each.row["validation_accuracy"]
            told = "n/a" if accuracy is None else percent_text(accuracy)
            table.add_row(*map(escape, (each.row["variant"], told, "; ".join(_missed(miss) for miss in each.misses))))
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    for note in notes:
        click.echo(f"note: {note}")
    click.echo(f"{rule} ({validated:,} validation clips)")


def _words(limit: Any) -> str:
    from fercompress.choice import Drop

    if isinstance(limit, Drop):
        return f"{limit.column} at most {limit.text} below the baseline's"
    return f"{limit.column} {'<=' if limit.most else '>='} {limit.text}"


def _missed(miss: Any) -> str:
    if miss.limit is None:
        return str(miss.reason)
    value = "n/a" if miss.value is None else _number(miss.value, miss.limit.column)
    return f"{miss.limit.column}: {value}" + (f" ({miss.reason})" if miss.reason else "")


def _told(row: Mapping[str, Any]) -> str:
    """The figures that choose, and what the variant costs; what was not measured is left out."""
    return ", ".join(f"{column} {_number(row[column], column)}" for column in _SHOWN if row[column] is not None)


def _tested(row: Mapping[str, Any]) -> str:
    from fercompress.report.units import interval_text

    if row["accuracy"] is None:
        return f"accuracy n/a ({row['reasons']['accuracy']})"
    said = f"accuracy {_number(row['accuracy'], 'accuracy')} {interval_text(row['accuracy_ci95'], percent=True)} of {row['n_clips']:,} test clips"
    limit = row["accuracy_drop_limit95"]
    if limit is None:
        return said
    words = f"not worse than the baseline by more than {limit:.1f} points" if limit > 0 else f"at least {-limit:.1f} points better than the baseline"
    return f"{said}; {words} (one-sided 95 % limit)"


def _number(value: float, column: str) -> str:
    from fercompress.report import units

    if column.endswith("_ns"):
        return units.time_text(value)
    if (column.endswith("_bytes") and not column.startswith(("ratio_", "front_"))) or column.startswith("bytes_"):
        return units.bytes_text(value)
    if column.endswith("_j"):
        return units.joules_text(value)
    return units.percent_text(value) if units_of(column).get("%") == 0.01 else units.three(value)
