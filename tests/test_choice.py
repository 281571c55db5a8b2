"""The one rule of the report's advice and of `pick`, beside a brute-force answer on random results."""

from __future__ import annotations

import dataclasses
import math

import test_report
from hypothesis import given, settings
from hypothesis import strategies as st

from fercompress import choice
from fercompress.choice import Drop, Limit
from fercompress.report import story

VALIDATED = 300
SOME = st.one_of(st.none(), st.integers(1, 12))
FIGURES = st.fixed_dictionaries(
    {
        "engine": st.sampled_from(["onnxruntime", "onnxruntime", "onnxruntime", None]),
        "validation_accuracy": st.one_of(st.none(), st.integers(285, 300).map(lambda right: right / VALIDATED)),
        "stored_bytes": SOME.map(lambda size: size and 100 * size),
        "latency_clip_p50_ns": SOME,
        "memory_peak_bytes": SOME,
    }
)
ROWS = st.lists(FIGURES, min_size=1, max_size=7).map(
    lambda several: [{**row, "variant": f"v{place}", "target": "here", "reasons": {}, "doubts": []} for place, row in enumerate(several)]
)
LIMITS = st.lists(
    st.builds(lambda column, value, most: Limit(column, value, most, str(value)), st.sampled_from(["latency_clip_p50_ns", "memory_peak_bytes"]),
              st.integers(1, 12), st.booleans()),
    max_size=3,
)  # fmt: skip


def fits(row, limits, drop, baseline) -> bool:
    if any(row[column] is None for column in ("engine", "validation_accuracy", "stored_bytes")):
        return False
    for limit in limits:
        value = row[limit.column]
        if value is None or (limit.most and value > limit.value) or (not limit.most and value < limit.value):
            return False
    if drop is None:
        return True
    # In whole clips, so that no rounding decides.
    return baseline is not None and round(VALIDATED * (baseline - row["validation_accuracy"])) <= drop


def better(row, other) -> bool:
    """Is `row` to be preferred: more accurate, then smaller, then faster, then first by name?"""
    for column, sign in (("validation_accuracy", -1), ("stored_bytes", 1), ("latency_clip_p50_ns", 1)):
        mine, theirs = (sign * each[column] if each[column] is not None else math.inf for each in (row, other))
        if mine != theirs:
            return mine < theirs
    return row["variant"] < other["variant"]


def smaller_sooner(row, other) -> bool:
    """Of rows alike in bytes: more accurate, then faster, then smaller, then first by name?"""
    for column, sign in (("validation_accuracy", -1), ("latency_clip_p50_ns", 1), ("stored_bytes", 1)):
        mine, theirs = (sign * each[column] if each[column] is not None else math.inf for each in (row, other))
        if mine != theirs:
            return mine < theirs
    return row["variant"] < other["variant"]


@given(ROWS, LIMITS, st.one_of(st.none(), st.integers(0, 6)))
@settings(max_examples=200, deadline=None)
def test_the_choice_is_the_one_that_fits_and_that_no_other_that_fits_is_better_than(rows, limits, drop) -> None:
    budget = [*limits, *([] if drop is None else [Drop("validation_accuracy", drop / VALIDATED, f"{drop} clips")])]
    found = choice.choose(rows, rows[0], budget, VALIDATED)
    able = [row for row in rows if fits(row, limits, drop, rows[0]["validation_accuracy"])]
    winners = [row for row in able if not any(better(other, row) for other in able if other is not row)]
    assert ([found.chosen] if found.chosen else []) == winners
    rest = [row for row in able if row is not found.chosen]
    assert ([found.runner_up] if found.runner_up else []) == [
        row for row in rest if not any(better(other, row) for other in rest if other is not row)
    ]
    assert {row["variant"] for row in found.fitting} == {row["variant"] for row in able}
    assert [each.row["variant"] for each in found.unfit] == [row["variant"] for row in rows if row not in able]
    for limit, without in found.without:
        again = choice.choose(rows, rows[0], [each for each in budget if each is not limit], VALIDATED)
        assert without == again.chosen
    assert found.unlimited == choice.choose(rows, rows[0], [], VALIDATED).chosen


@given(ROWS)
@settings(max_examples=150, deadline=None)
def test_the_advice_is_the_smallest_within_a_point_and_a_standard_error_of_the_baseline(rows) -> None:
    base = rows[0]["validation_accuracy"]
    able = []
    for row in rows:
        share = row["validation_accuracy"]
        if base is None or share is None or row["stored_bytes"] is None or row["engine"] is None:
            continue
        error = math.sqrt(base * (1 - base) / VALIDATED + share * (1 - share) / VALIDATED)
        if base - share <= 0.01 + error + 1e-9:
            able.append(row)
    fewest = min((row["stored_bytes"] for row in able), default=0)
    alike = [row for row in able if row["stored_bytes"] <= 1.05 * fewest]
    wanted = [row for row in alike if not any(smaller_sooner(other, row) for other in alike if other is not row)]
    found = choice.advice(rows, rows[0], VALIDATED)
    assert ([found.chosen] if found.chosen else []) == wanted


KNOWN = st.tuples(st.integers(285, 300), st.integers(1, 12), st.integers(1, 12))
RUN = test_report.build()


@given(st.lists(KNOWN, min_size=len(RUN.rows), max_size=len(RUN.rows)))
@settings(max_examples=5, deadline=None)
def test_the_first_screen_of_a_report_names_what_the_rule_names(drawn) -> None:
    given_ = RUN
    rows = [
        {**row, "validation_accuracy": right / VALIDATED, "stored_bytes": 100 * size, "latency_clip_p50_ns": 1e6 * time}
        for row, (right, size, time) in zip(given_.rows, drawn, strict=True)
    ]
    fold = {**given_.data["folds"][0], "validation": VALIDATED}
    told = story.tell(dataclasses.replace(given_, rows=rows, data={**given_.data, "folds": [fold]}), "localhost")
    assert told.pick == choice.advice(rows, rows[0], VALIDATED).chosen


def row(variant, stored_bytes, validation_accuracy, latency_ns, **more):
    figures = {"variant": variant, "stored_bytes": stored_bytes, "validation_accuracy": validation_accuracy, "latency_clip_p50_ns": latency_ns}
    return {**figures, "engine": "onnxruntime", "reasons": {}, **more}


def test_of_variants_alike_in_bytes_the_more_accurate_on_validation_data_is_advised_and_then_the_faster() -> None:
    small, better_, faster = row("small", 1000, 0.97, 10), row("better", 1010, 0.99, 30), row("faster", 1020, 0.99, 20)
    dense, large = row("dense", 9000, 0.97, 50), row("large", 2000, 1.0, 1)
    assert choice.advice([dense, small, better_, faster, large], dense, 300).chosen is faster
    assert choice.advice([dense, small, large], dense, 300).chosen is small
    assert choice.advice([], None, 300).chosen is None


def test_what_is_not_known_does_not_fit_and_is_told_from_what_is_too_large() -> None:
    slow, unknown = row("slow", 1000, 0.99, 30), row("unknown", 900, 0.98, None, reasons={"latency_clip_p50_ns": "the board was off"})
    absent = row("absent", 100, 0.99, None, engine=None, reasons={"engine": "not run here", "latency_clip_p50_ns": "not run here"})
    found = choice.choose([slow, unknown, absent], slow, [Limit("latency_clip_p50_ns", 20, True, "20ns")], 300)
    assert found.chosen is None
    assert [each.perhaps for each in found.unfit] == [False, True, False]
    assert not found.certain
    assert [miss.reason for each in found.unfit for miss in each.misses] == ["", "the board was off", "engine: not run here", "not run here"]
    assert choice.choose([slow], slow, [Limit("latency_clip_p50_ns", 20, True, "20ns")], 300).certain


def test_a_limit_that_costs_something_names_what_would_be_chosen_without_it() -> None:
    best, middle, small = row("best", 3000, 0.99, 30), row("middle", 2000, 0.98, 20), row("small", 1000, 0.97, 10)
    size, time = Limit("stored_bytes", 2500, True, "2500"), Limit("latency_clip_p50_ns", 15, True, "15ns")
    found = choice.choose([best, middle, small], best, [size, time], 300)
    assert (found.chosen, found.unlimited) == (small, best)
    assert found.without == ((size, small), (time, middle))
