"""The ladder: each step against the one before, all steps against the baseline, a worse step called so."""

from __future__ import annotations

import dataclasses

import pytest
from toy_report import quantize, report, train

from fercompress.report import ladder
from fercompress.report.ladder import change_text, climb
from fercompress.report.ladder_figure import ladder as picture

VARIANTS = {
    "dense": {"stored_bytes": 8000, "predictor_us": 80},
    "tt": {"recipe": [train(4)], "stored_bytes": 1000, "predictor_us": 20, "wrong": range(16)},
    "small": {"recipe": [{"step": "bottleneck", "rank": 4}], "stored_bytes": 900},
    "tt-int8": {"recipe": [train(4), *quantize()], "stored_bytes": 500, "predictor_us": 40, "wrong": range(16)},
}


def test_without_a_ladder_of_its_own_a_study_climbs_its_variants_in_order_without_the_controls() -> None:
    assert [rung.row["variant"] for rung in climb(report(VARIANTS), "here")] == ["dense", "tt", "tt-int8"]


def test_a_named_ladder_stands_on_the_baseline_and_keeps_its_order() -> None:
    rungs = climb(report(VARIANTS, ladder=("tt-int8", "small")), "here")
    assert [rung.row["variant"] for rung in rungs] == ["dense", "tt-int8", "small"]
    assert rungs[0].step is None
    assert rungs[0].total is None
    assert rungs[2].step is not None
    assert rungs[2].step.old["variant"] == "tt-int8"
    assert rungs[2].total is not None
    assert rungs[2].total.old["variant"] == "dense"


def test_a_ladder_of_unknown_variants_refuses_to_exist() -> None:
    with pytest.raises(ValueError, match="ladder names nothing, which recipes lacks"):
        report(VARIANTS, ladder=("nothing",))


def test_steps_multiply_to_the_total() -> None:
    _, first, second = climb(report(VARIANTS), "here")
    assert first.step is not None
    assert second.step is not None
    assert second.total is not None
    assert (first.step.times_smaller, second.step.times_smaller, second.total.times_smaller) == (8, 2, 16)
    speeds = [gain.speed["predictor"] for gain in (first.step, second.step, second.total)]
    assert [change and change.value for change in speeds] == pytest.approx([4, 0.5, 2])
    assert first.step.accuracy is not None
    assert first.step.accuracy.value == pytest.approx(-16 / 40)
    assert second.step.accuracy is not None
    assert second.step.accuracy.value == 0


def test_a_worse_step_says_so_in_words_and_what_is_not_told_apart_is_not_claimed() -> None:
    _, first, second = climb(report(VARIANTS), "here")
    assert first.step is not None
    assert first.step.words() == "Worse: accuracy. Better: size, predictor, clip. Not told apart: extractor"
    assert second.step is not None
    assert second.step.words() == "Worse: predictor, clip. Better: size. Not told apart: accuracy, extractor"


def test_the_tables_have_a_line_per_step_with_exact_bytes_and_intervals() -> None:
    given = report(VARIANTS)
    rungs = climb(given, "here")
    steps, totals = ladder.steps(given, rungs), ladder.totals(given, rungs)
    assert [row[0].text for row in steps.rows] == ["dense → tt", "tt → tt-int8"]
    assert [row[0].text for row in totals.rows] == ["tt", "tt-int8"]
    stored, worse = steps.rows[0][3], steps.rows[0][-1]
    assert (stored.text, stored.sub) == ("8.00× smaller", "8,000 → 1,000 B")
    assert "worse" in worse.style
    assert steps.rows[0][2].text == "−40.0"
    assert steps.rows[0][2].sub.startswith("[−")


def test_what_was_not_measured_is_no_tie() -> None:
    given = report(VARIANTS)
    bare = dataclasses.replace(given, timings=given.timings.head(0), predictions=given.predictions.head(0))
    rungs = climb(bare, "here")
    assert rungs[1].step is not None
    assert rungs[1].step.words() == "Better: size"
    assert ladder.steps(bare, rungs).rows[0][2].missing
    assert picture(bare, "here", rungs) is None


def test_the_picture_tells_every_rung_in_words() -> None:
    given = report(VARIANTS)
    drawn = picture(given, "here", climb(given, "here"))
    assert drawn is not None
    assert drawn.wide
    assert "tt: accuracy -40.0 points, 8.00× smaller, clip 1.50× faster" in drawn.alt


def test_a_change_of_recipe_names_what_came_went_and_changed() -> None:
    assert change_text([], [train(2), *quantize()]) == "+ tensor-train (rank 2, decompose, asymmetric); + extractor int8; + predictor int8"
    assert change_text([train(2)], [train(4, "data-aware")]) == "tensor-train: rank 2 → 4, start decompose → data-aware"
    assert change_text(quantize(8), quantize(4)[1:]) == "predictor quantize: bits 8 → 4; − extractor int8"
    by_error = train(2) | {"rank": {"relative_error": 0.1, "ratio": None}}
    assert change_text([], [by_error]) == "+ tensor-train (rank relative error 0.1, decompose, asymmetric)"
    assert change_text([train(2)], [by_error]) == "tensor-train: rank 2 → relative error 0.1"
    assert change_text([], []) == "the same recipe"
