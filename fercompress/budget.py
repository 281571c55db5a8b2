"""A budget as people write it, and the answer to it: options in, limits out; a choice in, lines and JSON out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fercompress import choice
from fercompress.choice import Choice, Drop, Limit, Miss, Row
from fercompress.errors import InputError
from fercompress.quantity import named_quantity, quantity, units_of
from fercompress.records import Doubt
from fercompress.report import units
from fercompress.results import summary
from fercompress.section import did_you_mean

_SHOWN = ("validation_accuracy", "stored_bytes", "latency_clip_p50_ns", "memory_peak_bytes", "energy_clip_j")
_TESTED = ("accuracy", "accuracy_ci95", "n_clips", "accuracy_drop", "accuracy_drop_limit95")


@dataclass(frozen=True)
class Answer:
    """A choice among the rows of one target, and all that is said of it.

    validated: how many validation clips the accuracies rest on; rule: by which was chosen, as a sentence
    """

    choice: Choice
    target: str
    limits: Sequence[Limit | Drop]
    rule: str
    validated: int
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 one fits; 1 none does; 3 none is known to, and of one it is not known that it does not"""
        if self.choice.chosen is not None:
            return 0
        return 1 if self.choice.certain else 3

    def document(self) -> dict[str, Any]:
        """For machines."""
        chosen, second, free = self.choice.chosen, self.choice.runner_up, self.choice.unlimited
        return {
            "target": self.target, "rule": self.rule, "validation_clips": self.validated,
            "budget": [{"limit": _words(limit), "column": limit.column, "value": limit.value} for limit in self.limits],
            "chosen": chosen and {**_figures(chosen), "test": {column: chosen[column] for column in _TESTED}, "doubts": chosen["doubts"]},
            "runner_up": second and _figures(second),
            "fitting": [row["variant"] for row in self.choice.fitting],
            "cost": {
                "without_budget": free and _figures(free),
                "validation_accuracy": chosen and free and free["validation_accuracy"] - chosen["validation_accuracy"],
                "without_one_limit": [{"limit": _words(limit), "chosen": row and _figures(row)} for limit, row in self.choice.without],
            },
            "not_fitting": [{"variant": each.row["variant"], "misses": [_miss(miss) for miss in each.misses]} for each in self.choice.unfit],
            "notes": list(self.notes),
        }  # fmt: skip

    def lines(self) -> Iterator[str]:
        """For people, but what does not fit."""
        chosen, second = self.choice.chosen, self.choice.runner_up
        if self.limits:
            yield f"budget on {self.target}: {', '.join(map(_words, self.limits))}"
        if chosen is None:
            yield "no variant fits" if self.choice.certain else "no variant is known to fit"
            return
        yield f"{chosen['variant']}: {_told(chosen)}"
        yield f"tested once: {_tested(chosen)}"
        if second is not None:
            yield f"runner-up: {second['variant']}: {_told(second)}"
        if self.limits:
            yield from self._costs(chosen)

    def _costs(self, chosen: Row) -> Iterator[str]:
        """What would be chosen without the budget, and without each limit alone."""
        free = self.choice.unlimited
        if free is None or free["variant"] == chosen["variant"]:
            yield "the budget costs nothing: without it the choice is the same"
            return
        yield f"without the budget: {_beside(free, chosen)}"
        for limit, row in self.choice.without if len(self.limits) > 1 else ():
            if row is not None and row["variant"] != chosen["variant"]:
                yield f"without {_words(limit)} alone: {_beside(row, chosen)}"

    def unfit(self) -> list[tuple[str, str, str]]:
        """variant, validation accuracy, what it misses"""
        return [
            (
                each.row["variant"],
                "n/a" if each.row["validation_accuracy"] is None else units.percent_text(each.row["validation_accuracy"]),
                "; ".join(map(_missed, each.misses)),
            )
            for each in self.choice.unfit
        ]


def limits_of(most: Sequence[str], least: Sequence[str], drops: Sequence[str]) -> list[Limit | Drop]:
    """From what was said with --max, --min and --max-drop. raises: InputError"""
    found: list[Limit | Drop] = []
    for option, asked in (("--max", most), ("--min", least)):
        for text in asked:
            column, value = _named(text, option)
            found.append(Limit(column, quantity(value, column), option == "--max", value))
    for text in drops:
        column, value = _named(text, "--max-drop")
        if "pt" not in units_of(column) or column.startswith("accuracy_drop"):
            raise InputError(f"--max-drop {column}: a drop is of a share, such as accuracy=1pt; of other columns say --max or --min")
        found.append(Drop(column, quantity(value, column), value))
    return found


def answer(
    rows: Sequence[Row], baseline: str, data: Mapping[str, Any] | None, limits: Sequence[Limit | Drop], goal: choice.Goal | None = None
) -> Answer:  # fmt: skip
    """rows: of one target; data: as in summary.json; goal: None is validation accuracy, and without a budget the report's own advice"""
    validated = choice.validated(data)
    base = next((row for row in rows if row["variant"] == baseline), None)
    if not limits and goal is None:
        found, rule = choice.advice(rows, base, validated), choice.RULE
    else:
        goal = goal or "validation_accuracy"
        found = choice.choose(rows, base, limits, validated, goal)
        rule = f"The rule: of the variants that keep the budget, {choice.GOAL_WORDS[goal]}. Controls may win. Test figures choose nothing."
    notes = tuple(_notes(limits, rows, base, found, validated))
    return Answer(found, str(rows[0]["target"]), tuple(limits), rule, validated, notes)


def _named(text: str, option: str) -> tuple[str, str]:
    name, value = named_quantity(text, option)
    return _column(name, option), value


def _column(name: str, option: str) -> str:
    """The column that a name means. raises: InputError that names its neighbour"""
    known = summary.numeric_columns()
    if name not in known:
        near = did_you_mean(name, list(known))
        raise InputError(f"{option} {name}: no column of summary.json that holds numbers{near} (known: {', '.join(known)})")
    return "validation_accuracy" if name == "accuracy" else name


def _notes(limits: Sequence[Limit | Drop], rows: Sequence[Row], baseline: Row | None, found: Choice, validated: int) -> Iterator[str]:
    for limit in limits:
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


def _figures(row: Row) -> dict[str, Any]:
    return {"variant": row["variant"], **{column: row[column] for column in _SHOWN}}


def _miss(miss: Miss) -> dict[str, Any]:
    return {"column": miss.limit and miss.limit.column, "value": miss.value, "reason": miss.reason}


def _beside(row: Row, chosen: Row) -> str:
    change = units.points_text(row["validation_accuracy"] - chosen["validation_accuracy"])
    return f"{row['variant']} ({change} points of validation accuracy): {_told(row)}"


def _words(limit: Limit | Drop) -> str:
    if isinstance(limit, Drop):
        return f"{limit.column} at most {limit.text} below the baseline's"
    return f"{limit.column} {'<=' if limit.most else '>='} {limit.text}"


def _missed(miss: Miss) -> str:
    if miss.limit is None:
        return str(miss.reason)
    value = "n/a" if miss.value is None else _number(miss.value, miss.limit.column)
    return f"{miss.limit.column}: {value}" + (f" ({miss.reason})" if miss.reason else "")


def _told(row: Row) -> str:
    """The figures that choose, and what the variant costs; what was not measured is left out."""
    return ", ".join(f"{column} {_number(row[column], column)}" for column in _SHOWN if row[column] is not None)


def _tested(row: Row) -> str:
    if row["accuracy"] is None:
        return f"accuracy n/a ({row['reasons']['accuracy']})"
    said = (
        f"accuracy {_number(row['accuracy'], 'accuracy')} {units.interval_text(row['accuracy_ci95'], percent=True)} of {row['n_clips']:,} test clips"
    )
    limit = row["accuracy_drop_limit95"]
    if limit is None:
        return said
    words = f"not worse than the baseline by more than {limit:.1f} points" if limit > 0 else f"at least {-limit:.1f} points better than the baseline"
    return f"{said}; {words} (one-sided 95 % limit)"


def _number(value: float, column: str) -> str:
    if column.endswith("_ns"):
        return units.time_text(value)
    if (column.endswith("_bytes") and not column.startswith(("ratio_", "front_"))) or column.startswith("bytes_"):
        return units.bytes_text(value)
    if column.endswith("_j"):
        return units.joules_text(value)
    return units.percent_text(value) if units_of(column).get("%") == 0.01 else units.three(value)
