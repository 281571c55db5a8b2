"""From a journal to the page: every question that a report answers out of recorded blocks and trainings, not out of made-up rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import toy_run as toy

from fercompress.records import History, Size
from fercompress.report import ReportInput, flips, ladder, render, training
from fercompress.results.store import FILE, Store, Training
from fercompress.results.summary import document
from fercompress.results.tables import read_tables
from fercompress.study import report_input

QUANTIZE = [{"step": "quantize", "part": "extractor", "bits": 8}, {"step": "quantize", "part": "predictor", "bits": 8}]
TRAIN = {"step": "tensor-train", "rank": 4, "part": "both", "layout": "asymmetric"}
RECIPES: dict[str, list[dict[str, Any]]] = {
    "dense": [],
    "tt": [TRAIN | {"start": "decompose"}],
    "tt-scratch": [TRAIN | {"start": "from-scratch"}],
    "tt-int8": [TRAIN | {"start": "decompose"}, *QUANTIZE],
}


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReportInput:
    """Two seeds; `tt` and `tt-int8` are wrong on two clips each, of which they share one."""
    monkeypatch.setattr(toy, "RECIPES", RECIPES)
    monkeypatch.setattr(toy, "SIZES", toy.SIZES | {name: Size(100, 1800, 250, 2000, 500, 850, 2600, 400, 350) for name in ("tt-scratch", "tt-int8")})
    the_study = toy.study(seeds=(0, 1), passes=("accuracy",)) | {"ladder": ["dense", "tt", "tt-int8"]}
    with Store.open(tmp_path / FILE) as store:
        toy.record_head(store, the_study)
        for seed in the_study["seeds"]:
            for fold in toy.TESTS:
                for variant, wrong in (("dense", ()), ("tt", (3, 4)), ("tt-scratch", ()), ("tt-int8", (4, 5))):
                    store.record(toy.accuracy_block(variant, seed, fold, wrong))
                store.record_training(Training("tt-scratch", seed, fold, "", History((1.0,) * 3, (0.1, 0.2, 0.4), (0.2,) * 3, 2)))
        found = read_tables(store)
    return report_input(found, document(found))


def test_the_ladder_that_the_study_names_is_the_pages(given: ReportInput) -> None:
    rungs = ladder.climb(given, "localhost")
    assert [rung.row["variant"] for rung in rungs] == ["dense", "tt", "tt-int8"]
    assert rungs[1].step is not None
    assert rungs[1].step.accuracy is not None
    assert rungs[1].step.accuracy.value == pytest.approx(-2 / 24)
    assert rungs[1].step.times_smaller == 8


def test_flips_come_from_the_recorded_logits(given: ReportInput) -> None:
    found = flips.compare(given, "localhost", "tt-int8", "tt")
    assert found is not None
    assert (found.n, found.flips, found.negative, found.positive, found.largest_logit) == (48, 4, 2, 2, 1.0)


def test_ways_and_times_come_from_the_recorded_epochs(given: ReportInput) -> None:
    (contest,) = training.contests(given, "localhost")
    assert [row["variant"] for row in contest.rows] == ["tt-scratch", "tt"]
    assert (contest.epochs, contest.seconds) == (2, pytest.approx(0.5))
    rows = {row["variant"]: row for row in given.rows}
    assert rows["tt"]["time_to_dense_s"] == pytest.approx(0.2)
    assert rows["tt-scratch"]["reasons"]["time_to_dense_s"] == "0 of 4 trainings reached the dense teacher's best validation accuracy"


def test_the_page_and_the_text_hold_every_table(given: ReportInput, tmp_path: Path) -> None:
    render(given, tmp_path / "out")
    for name in ("index.html", "report.md"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        for caption in (
            "The ladder, one step at a time", "The ladder, all steps so far", "Size, counted four ways", "What rounding changed, clip by clip",
            "The ways to a tensor train, at equal training", "To the dense model", "trainings reached the dense teacher",
        ):  # fmt: skip
            assert caption in text, (name, caption)
    assert (tmp_path / "out" / "figures" / "ladder.svg").is_file()
