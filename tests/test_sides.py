"""What may stand beside each other: sides whose accuracies mean the same, asked about clips that neither was trained on."""

import dataclasses

import numpy as np
import pytest
import toy_run as toy

from fercompress import contest, gating, sides
from fercompress.errors import ComparabilityError
from fercompress.examination import Examination
from fercompress.gate import judge, render
from fercompress.gate.judge import Rules
from fercompress.records import Bundle, Doubt
from fercompress.results.store import Store
from fercompress.results.tables import read_tables
from fercompress.sides import Run, Side

RULES = Rules.of({}, {"accuracy": "50 %"}, ("accuracy", "worst_class_recall", "latency_clip_p50_ns"), (6,))


def run(folder, protocol):
    folder.mkdir()
    data = {} if protocol is None else {"data": {"name": "toy", "protocol": protocol}}
    with Store.open(folder / "results.sqlite") as store:
        study = {**toy.study(), **data}
        toy.record_head(store, study)
        toy.record_blocks(store, study)
        return Run(folder, read_tables(store))


def side(run, variant="tt"):
    """Its bundles are not there: nothing here runs them."""
    return Side(f"{run.folder.name}:{variant}", ((Bundle(run.folder, "x", variant, "onnxruntime", {}, toy.SIZES[variant]), 0, "a"),), run)


@pytest.mark.parametrize("places", [(0, 1), (1, 0)])
def test_a_leaky_side_and_a_fair_one_are_not_compared_whichever_comes_first(tmp_path, places):
    both = [side(run(tmp_path / "leaky", "leaky-image")), side(run(tmp_path / "fair", "subjects"))]
    with pytest.raises(ComparabilityError, match=r"leaky:tt was tested under leaky-image folds.*fair:tt was not \(subjects\)") as told:
        sides.check_protocols(*(both[place] for place in places))
    assert told.value.exit_code == 5


@pytest.mark.parametrize("protocols", [("leaky-image", "leaky-image"), ("subjects", "leave-one-subject-out"), (None, None), (None, "subjects")])
def test_sides_that_are_both_leaky_or_both_fair_are_compared(tmp_path, protocols):
    sides.check_protocols(*(side(run(tmp_path / str(place), protocol)) for place, protocol in enumerate(protocols)))


def test_a_leaky_run_against_a_fair_one_ends_before_anything_is_measured_unless_accuracy_is_left_out(tmp_path, monkeypatch):
    pair = side(run(tmp_path / "leaky", "leaky-image")), side(run(tmp_path / "fair", "subjects"))
    monkeypatch.setattr(gating, "_pairs", lambda _: [pair])
    measured = []
    monkeypatch.setattr(gating, "_measured", lambda *rest: measured.append(rest) or judge.judge(*_evidence(pair), RULES))
    request = gating.Request("leaky:tt", "fair:tt", tmp_path / "out", compares=True)
    with pytest.raises(ComparabilityError, match="compare other metrics alone with --metric"):
        gating.verdicts(request, None)
    assert measured == []
    gating.verdicts(dataclasses.replace(request, metrics=("latency_clip_p50_ns",)), None)
    assert len(measured) == 1


def test_leaky_folds_are_a_doubt_of_every_accuracy_and_of_its_limit_in_every_output(tmp_path):
    leaky = run(tmp_path / "leaky", "leaky-image")
    found = judge.judge(*_evidence((side(leaky), side(leaky, "dense"))), RULES)
    shown = {(row["metric"], row["matters from"].startswith("at least")): row["doubts"] for row in render.rows(found)}
    assert "leaky folds" in shown["accuracy", False]
    assert "leaky folds" in shown["worst_class_recall", False]
    assert "leaky folds" in shown["accuracy", True]
    assert "leaky folds" not in shown["latency_clip_p50_ns", False]
    assert f"- leaky folds: {Doubt.LEAKY_FOLDS}" in render.markdown([found], [], "x")
    assert render.junit([found], fail_on_inconclusive=False).count(str(Doubt.LEAKY_FOLDS)) == 3
    table = render.document([found], [], 0)["judgements"][0]
    assert str(Doubt.LEAKY_FOLDS) in table["findings"][0]["doubts"]
    assert str(Doubt.LEAKY_FOLDS) in table["limits"][0]["doubts"]


def test_folds_of_one_name_that_hold_other_clips_are_not_compared(tmp_path):
    one = run(tmp_path / "one", "subjects")
    cut = [dataclasses.replace(fold, train=fold.test, test=fold.train) for fold in toy.folds()]
    with pytest.raises(ComparabilityError, match=r"other folds of one name \(a\)"):
        sides._check_folds({one.folder: one}, Examination(toy.clips(), tuple(cut)))
    sides._check_folds({one.folder: one}, Examination(toy.clips(), tuple(toy.folds())))


def test_a_bundle_of_a_fold_that_is_not_among_the_clips_folds_is_not_asked_about_another_ones(tmp_path):
    one = side(run(tmp_path / "one", "subjects"))
    renamed = tuple(dataclasses.replace(fold, name=f"subjects-{fold.name}") for fold in toy.folds())
    with pytest.raises(ComparabilityError, match="one:tt: it was trained beside fold a, the clips come in subjects-a, subjects-b"):
        contest._bundles(one, "candidate", Examination(toy.clips(), renamed))
    (single,) = contest._bundles(one, "candidate", Examination(toy.clips(), renamed[:1]))
    assert np.array_equal(single.clip_index, toy.TESTS["a"])


def _evidence(pair):
    return [contest.evidence(each.run.tables, each.variant, "localhost", each.name) for each in pair]
