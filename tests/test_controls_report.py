"""Controls at the same bytes: the verdict on accuracy, with its interval, and a place on the first screen where a control wins."""

from __future__ import annotations

import pytest
from toy_report import quantize, report, train

from fercompress.report import controls
from fercompress.report.story import tell


def study(control_wrong: range, train_wrong: range, control_bytes: int = 500):
    return report({
        "dense": {"stored_bytes": 9000, "validation_accuracy": 0.9},
        "tt": {"recipe": [train(4)], "stored_bytes": 1500, "validation_accuracy": 0.9},
        "tt-int8": {"recipe": [train(4), *quantize()], "stored_bytes": 500, "wrong": train_wrong, "validation_accuracy": 0.9},
        "small-dense-int8": {
            "recipe": [{"step": "small-dense", "bytes_of": "tt-int8"}, *quantize()], "stored_bytes": control_bytes, "wrong": control_wrong,
            "validation_accuracy": 0.5,
        },
    })  # fmt: skip


@pytest.mark.parametrize(
    ("control_wrong", "train_wrong", "verdict"),
    [(range(0), range(20), "the control is better"), (range(20), range(0), "TT gains"), (range(2), range(3), "tied")],
)
def test_a_verdict_needs_an_interval_that_excludes_no_difference(control_wrong: range, train_wrong: range, verdict: str) -> None:
    (match,) = controls.matches(study(control_wrong, train_wrong), "here")
    assert (match.train["variant"], match.verdict, match.bytes_words()) == ("tt-int8", verdict, "at equal bytes")
    assert match.change is not None
    assert match.change.value == pytest.approx((len(control_wrong) - len(train_wrong)) / 40)


def test_a_control_that_wins_at_equal_bytes_stands_on_the_first_screen_whatever_else_is_said() -> None:
    won = study(range(0), range(20))
    said = [remark.text for remark in tell(won, "here").sentences if remark.kind == "but"]
    assert said[0].startswith(
        "At equal bytes (500 B against 500 B) the control **small-dense-int8** is more accurate than **tt-int8**: +50.0 points ["
    )
    rows = [dict(row) | {"validation_accuracy": None} for row in won.rows]
    told = tell(report({"dense": {}}, rows=rows, recipes=won.recipes, predictions=won.predictions), "here")
    assert told.pick is None
    assert [remark.kind for remark in told.sentences] == ["but"]
    assert not controls.beaten(study(range(2), range(3)), "here")


def test_a_control_that_wins_with_more_bytes_is_not_said_to_win_at_equal_bytes() -> None:
    given = study(range(0), range(20), control_bytes=800)
    matches = controls.matches(given, "here")
    assert matches[0].bytes_words() == "not at equal bytes: the control stores 1.60× as many"
    assert not controls.beaten(given, "here")


def test_a_control_stands_also_beside_the_train_nearest_in_bytes() -> None:
    given = study(range(0), range(20), control_bytes=1490)
    assert [match.train["variant"] for match in controls.matches(given, "here")] == ["tt-int8", "tt"]
    table = controls.table(given, "here")
    assert [row[-1].sub for row in table.rows] == ["not at equal bytes: the control stores 2.98× as many", "at equal bytes"]


def test_a_train_of_equal_bytes_that_the_control_answers_is_not_passed_over_for_a_slightly_nearer_one() -> None:
    """510 bytes: the train of 500 is within 5 %, another one has 510 to the byte."""
    given = study(range(2), range(3), control_bytes=510)
    rows = [dict(row) | ({"stored_bytes": 510} if row["variant"] == "tt" else {}) for row in given.rows]
    (match,) = controls.matches(report({"dense": {}}, rows=rows, recipes=given.recipes, predictions=given.predictions), "here")
    assert match.train["variant"] == "tt-int8"


def test_a_train_whose_ranks_were_chosen_bond_by_bond_has_controls_too() -> None:
    chosen = train(4) | {"rank": {"relative_error": 0.1}}
    given = report({"dense": {}, "tt": {"recipe": [chosen]}, "bottleneck-r4": {"recipe": [{"step": "bottleneck", "rank": 4}]}})
    assert [match.train["variant"] for match in controls.matches(given, "here")] == ["tt"]
