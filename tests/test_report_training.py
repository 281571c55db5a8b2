"""The ways to a tensor train at equal training: equal epochs, equal seconds, and what the training took."""

from __future__ import annotations

import pandas as pd
import pytest
from toy_report import epochs, quantize, report, train

from fercompress.report import training

VARIANTS = {
    "dense": {},
    "scratch-r4": {"recipe": [train(4, "from-scratch")], "wrong": range(6), "train_total_s": 8.0, "train_epochs": 4.0},
    "decomposed-r4": {"recipe": [train(4)], "wrong": range(2), "train_total_s": 6.0, "train_epochs": 2.0, "time_to_dense_s": 3.0},
    "decomposed-r4-int8": {"recipe": [train(4), *quantize()], "wrong": range(3)},
    "decomposed-r8": {"recipe": [train(8)]},
}
EPOCHS = pd.concat([
    epochs("scratch-r4", (0.2, 0.5, 0.6, 0.8), 2.0), epochs("decomposed-r4", (0.7, 0.6), 3.0), epochs("decomposed-r4-int8", (0.7, 0.6), 3.0),
    epochs("decomposed-r8", (0.9,), 1.0),
])  # fmt: skip


def test_only_variants_that_differ_in_their_way_alone_are_set_beside_each_other() -> None:
    (contest,) = training.contests(report(VARIANTS, epochs=EPOCHS), "here")
    assert [row["variant"] for row in contest.rows] == ["scratch-r4", "decomposed-r4"]
    assert (contest.rank, contest.epochs, contest.seconds) == (4, 2, 6.0)


def test_equal_epochs_and_equal_seconds_cut_the_longer_training_short() -> None:
    """Two epochs of the one from scratch reach 0.5; its three epochs of 2 s fit into the other's 6 s and reach 0.6."""
    table = training.ways(report(VARIANTS, epochs=EPOCHS), "here")
    assert [row[5].text for row in table.rows] == ["50.0 %", "70.0 %"]
    assert [row[6].text for row in table.rows] == ["60.0 %", "70.0 %"]
    assert [(row[7].text, row[7].sub) for row in table.rows] == [("8.00 s", "4 epochs"), ("6.00 s", "2 epochs")]
    assert [row[4].text for row in table.rows] == ["—", "+10.0"]


def test_a_mean_over_seeds_needs_every_seed() -> None:
    both = pd.concat([epochs("x", (0.4, 0.8), 1.0), epochs("x", (0.6,), 5.0, seed=1)])
    assert training.best_within(both, count=1) == pytest.approx(0.5)
    assert training.best_within(both, seconds=5.0) == pytest.approx(0.7)
    assert training.best_within(both, seconds=2.0) is None


def test_without_recorded_epochs_there_is_nothing_to_compare() -> None:
    assert not training.ways(report(VARIANTS), "here").rows


def test_the_time_to_the_dense_models_accuracy_says_what_it_is_against() -> None:
    table = training.costs(report(VARIANTS, epochs=EPOCHS), "here")
    assert table.rows[2][-1].text == "3.00 s"
    assert table.rows[1][-1].text == "n/a"
    assert "best of the dense teacher" in table.notes[table.heads[-1].marks[-1] - 1]
