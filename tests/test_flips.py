"""Flips: what rounding changed clip by clip, and what accuracy hides of it."""

from __future__ import annotations

import pandas as pd
import pytest
from toy_report import predictions, quantize, report, train

from fercompress.report import flips

VARIANTS = {
    "dense": {},
    "tt": {"recipe": [train(4)], "wrong": (0, 1, 2)},
    "tt-int8": {"recipe": [train(4), *quantize()], "wrong": (2, 3, 4)},
    "small-int8": {"recipe": [{"step": "small-dense", "bytes_of": "tt"}, *quantize()]},
}


def test_a_float_twin_has_the_same_recipe_without_rounding() -> None:
    given = report(VARIANTS)
    assert [flips.float_twin(given, name) for name in VARIANTS] == [None, None, "tt", None]
    rounded = report({"dense": {}, "dense-int8": {"recipe": quantize()}})
    assert flips.float_twin(rounded, "dense-int8") == "dense"


def test_flips_are_counted_where_equal_accuracies_hide_them() -> None:
    """Both are wrong on three clips: two were lost (3, 4), two won (0, 1), one is wrong in both."""
    found = flips.compare(report(VARIANTS), "here", "tt-int8", "tt")
    assert found is not None
    assert (found.n, found.flips, found.negative, found.positive) == (40, 4, 2, 2)
    assert found.interval[0] < 4 / 40 < found.interval[1]
    assert found.negative_interval[0] < 2 / 40 < found.negative_interval[1]


def test_an_answer_that_is_wrong_in_another_way_is_a_flip_but_no_negative_one() -> None:
    given = report({"dense": {"wrong": (5,)}, "dense-int8": {"recipe": quantize(), "wrong": (5,)}})
    answers = given.predictions.reset_index(drop=True)
    answers.loc[(answers["variant"] == "dense-int8") & (answers["clip_id"] == "c5"), "predicted"] = 2
    found = flips.compare(report(VARIANTS, predictions=answers), "here", "dense-int8", "dense")
    assert found is not None
    assert (found.flips, found.negative, found.positive) == (1, 0, 0)


def test_the_largest_logit_difference_is_over_clips_and_classes() -> None:
    given = report(VARIANTS)
    logits = given.predictions.reset_index(drop=True)
    logits.loc[(logits["variant"] == "tt-int8") & (logits["clip_id"] == "c7"), "logit_1"] = -6.5  # the twin says 1
    found = flips.compare(report(VARIANTS, predictions=logits), "here", "tt-int8", "tt")
    assert found is not None
    assert found.largest_logit == pytest.approx(7.5)
    bare = flips.compare(report(VARIANTS, predictions=logits.drop(columns=["logit_0", "logit_1"])), "here", "tt-int8", "tt")
    assert bare is not None
    assert bare.largest_logit is None


def test_seeds_are_compared_with_their_own_and_never_across() -> None:
    both = pd.concat([predictions("tt", (0,), seeds=(0, 1)), predictions("tt-int8", (0,), seeds=(1, 2))])
    found = flips.compare(report(VARIANTS, predictions=both), "here", "tt-int8", "tt")
    assert found is not None
    assert (found.n, found.flips) == (40, 0)
    apart = pd.concat([predictions("tt", (0,), seeds=(0,)), predictions("tt-int8", (0,), seeds=(1,))])
    assert flips.compare(report(VARIANTS, predictions=apart), "here", "tt-int8", "tt") is None


def test_the_table_sets_each_rounded_variant_beside_its_twin_and_the_baseline() -> None:
    table = flips.table(report(VARIANTS), "here")
    assert [(row[0].text, row[1].text, row[1].sub) for row in table.rows] == [
        ("tt-int8", "tt", "float twin"), ("tt-int8", "dense", "baseline"), ("small-int8", "n/a", "float twin"), ("small-int8", "dense", "baseline"),
    ]  # fmt: skip
    assert (table.rows[0][2].text, table.rows[0][3].text) == ("10.0 %", "5.0 %")
    assert table.rows[0][3].sub.endswith("2 of 40")
    assert "no variant of the same recipe without rounding" in table.notes[-1]
    assert not flips.table(report({"dense": {}}), "here").rows
