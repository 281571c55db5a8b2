import dataclasses

import numpy as np
import pandas as pd
import pytest
import toy_run as toy

import fercompress
from fercompress.errors import ResultsError
from fercompress.records import Pass
from fercompress.results.frame import load
from fercompress.results.store import FILE, Store


@pytest.fixture
def folder(tmp_path):
    with Store.open(tmp_path / FILE) as store:
        toy.record_head(store, toy.study())
        toy.record_blocks(store, toy.study())
        store.record(toy.failed(toy.latency_block("tt", 9, 0)))
    return tmp_path


def test_the_package_loads_a_run_by_its_folder(folder):
    run = fercompress.load(str(folder))
    assert run.study == "toy"
    assert run.summary["variant"].tolist() == ["dense", "tt"]
    assert run.summary.loc[1, "speedup_predictor"] == pytest.approx(2)
    assert run.summary.loc[1, "speedup_predictor_ci95_lo"] == pytest.approx(2)
    assert run.document["rows"][1]["variant"] == "tt"


def test_blocks_has_a_line_per_block_with_its_medians_failed_ones_too(folder):
    blocks = load(folder).blocks
    assert len(blocks) == 2 * (2 + 12 + 1 + 1) + 1
    tt = blocks[(blocks["variant"] == "tt") & (blocks["pass"] == "latency")]
    assert tt["predictor_p50_ns"].tolist()[:12] == [20_000.0] * 12
    assert tt["status"].tolist() == ["ok"] * 12 + ["failed"]
    assert tt["reason"].iloc[-1] == "the agent was killed"
    assert blocks[blocks["pass"] == "memory"]["memory_peak_bytes"].tolist() == [5000, 5000]


def test_timings_has_a_line_per_timed_clip_in_call_order(folder):
    timings = load(folder).timings
    assert len(timings) == 2 * 12 * 16
    assert timings["clip_ns"].dtype == np.int64
    first = timings[(timings["variant"] == "tt") & (timings["round"] == 2) & (timings["position"] == 3)]
    assert first["call"].tolist() == list(range(16))
    assert set(first["clip_ns"]) == {82_000}
    assert (timings["extractor_ns"] + timings["predictor_ns"] == timings["clip_ns"]).all()


def test_predictions_has_a_line_per_test_clip_with_its_person_and_label(folder):
    predictions = load(folder).predictions
    assert len(predictions) == 2 * 24
    wrong = predictions[~predictions["correct"]]
    assert wrong["variant"].tolist() == ["tt", "tt"]
    assert wrong["clip_id"].tolist() == ["c3", "c4"]
    assert wrong["subject"].tolist() == ["p1", "p2"]
    assert wrong["label"].tolist() == [0, 1]
    assert wrong["predicted"].tolist() == [1, 0]
    assert wrong[["logit_0", "logit_1"]].to_numpy().tolist() == [[0, 1], [1, 0]]
    assert predictions["logit_0"].dtype == np.float32


def test_epochs_has_a_line_per_epoch_of_every_training(folder):
    epochs = load(folder).epochs
    tt = epochs[(epochs["variant"] == "tt") & (epochs["fold"] == "a")]
    assert tt["epoch"].tolist() == [0, 1]
    assert tt["validation_accuracy"].tolist() == [0.5, 0.4]
    assert tt["epoch_s"].tolist() == [0.2, 0.3]
    assert tt["kept"].tolist() == [True, False]


def test_clips_keep_their_labels_when_a_target_answers_in_another_order(tmp_path):
    block = toy.accuracy_block("dense", 0, "a", wrong=[5])
    order = np.random.default_rng(0).permutation(12)
    with Store.open(tmp_path / FILE) as store:
        toy.record_head(store, toy.study())
        store.record(dataclasses.replace(block, logits=block.logits[order], clip_index=block.clip_index[order]))
    predictions = load(tmp_path).predictions
    assert predictions[~predictions["correct"]]["clip_id"].tolist() == ["c5"]


def test_an_answer_that_is_no_number_is_wrong(tmp_path):
    block = toy.accuracy_block("dense", 0, "a")
    logits = block.logits.copy()
    logits[2, 1] = np.nan
    with Store.open(tmp_path / FILE) as store:
        toy.record_head(store, toy.study())
        store.record(dataclasses.replace(block, logits=logits))
    predictions = load(tmp_path).predictions
    assert predictions.loc[~predictions["correct"], "predicted"].tolist() == [-1]
    assert predictions.loc[~predictions["correct"], "clip_id"].tolist() == ["c2"]


def test_answers_on_clips_that_the_fold_does_not_hold_are_refused(tmp_path):
    block = toy.accuracy_block("dense", 0, "a")
    with Store.open(tmp_path / FILE) as store:
        toy.record_head(store, toy.study())
        store.record(dataclasses.replace(block, clip_index=block.clip_index + 100))
    with pytest.raises(ResultsError, match=r"measured on other clips .* run the same command again"):
        load(tmp_path)


def test_a_run_that_has_measured_nothing_yet_has_empty_frames_with_their_columns(tmp_path):
    with Store.open(tmp_path / FILE) as store:
        store.record_study(toy.study())
    run = load(tmp_path)
    assert [len(frame) for frame in (run.blocks, run.timings, run.predictions, run.summary)] == [0, 0, 0, 2]
    assert {"clip_ns", "round"} <= set(run.timings.columns)
    assert pd.isna(run.summary.loc[0, "accuracy"])


def test_loading_changes_nothing_in_the_folder(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    load(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["missing", ""])
def test_a_folder_without_results_is_named(tmp_path, name):
    with pytest.raises(ResultsError, match=r"results.sqlite: no such file"):
        load(tmp_path / name)


def test_a_live_run_can_be_loaded_while_it_is_measured(folder):
    with Store.open(folder / FILE) as store:
        store.record(toy.memory_block("tt", 7000, round_=1))
        blocks = load(folder).blocks
        assert blocks[blocks["pass"] == str(Pass.MEMORY)]["memory_peak_bytes"].tolist() == [5000, 5000, 7000]
