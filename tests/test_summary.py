import csv
import dataclasses
import json
import math
import os

import jsonschema
import numpy as np
import pytest
import toy_run as toy

from fercompress import stats
from fercompress.errors import DiskFullError, ResultsError
from fercompress.records import Doubt, History
from fercompress.results import summary
from fercompress.results.store import FILE, Store, Training


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / FILE, clock=lambda: "2026-01-02T03:04:05.678+00:00") as opened:
        yield opened


def written(store, the_study=None, **blocks):
    the_study = the_study or toy.study()
    toy.record_head(store, the_study)
    toy.record_blocks(store, the_study, **blocks)
    return rows_of(store)


def rows_of(store):
    made = summary.write_summary(store, store.path.parent)
    jsonschema.Draft202012Validator(summary.json_schema()).validate(made)
    for row in made["rows"]:
        nulls = {column for column, value in row.items() if value is None}
        assert nulls == set(row["reasons"]), row["variant"]
    return {row["variant"]: row for row in made["rows"]}


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(summary.json_schema())


def test_every_column_is_described():
    for name, column in summary.json_schema()["$defs"]["row"]["properties"].items():
        assert len(column["description"]) > 10, name


def test_a_misspelt_column_does_not_pass_the_schema(store):
    written(store)
    made = json.loads((store.path.parent / "summary.json").read_text())
    made["rows"][0]["acuracy"] = made["rows"][0].pop("accuracy")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(summary.json_schema()).validate(made)


def test_the_file_holds_what_the_function_returns_and_says_what_it_is_of(store):
    toy.record_head(store, toy.study())
    toy.record_blocks(store, toy.study())
    made = summary.write_summary(store, store.path.parent)
    assert json.loads((store.path.parent / "summary.json").read_text(encoding="utf-8")) == made
    assert (made["schema"], made["study"], made["title"], made["baseline"]) == (4, "toy", "A toy", "dense")
    assert made["created"] == "2026-01-02T03:04:05.678+00:00"
    assert made["data"]["folds"] == [{"name": name, "train": 12, "validation": 6, "test": 12, "shared": 0} for name in "ab"]
    assert made["data"]["left_out"] == 1
    assert made["data"]["protocol"] is None
    assert made["config"] == toy.study()


def test_equal_journals_give_equal_bytes(store, tmp_path):
    written(store)
    first = (tmp_path / "summary.json").read_bytes(), (tmp_path / "summary.csv").read_bytes()
    rows_of(store)
    assert ((tmp_path / "summary.json").read_bytes(), (tmp_path / "summary.csv").read_bytes()) == first


def test_accuracy_pools_the_folds_and_knows_chance_and_the_largest_class(store):
    rows = written(store)
    assert rows["dense"]["accuracy"] == 1
    assert rows["tt"]["accuracy"] == 22 / 24
    low, high = rows["tt"]["accuracy_ci95"]
    wilson = stats.wilson_interval(22, 24)
    assert low <= wilson[0] < 22 / 24 < wilson[1] <= high
    assert (rows["tt"]["n_clips"], rows["tt"]["seeds"], rows["tt"]["chance"], rows["tt"]["majority_share"]) == (24, 1, 0.5, 16 / 24)
    assert Doubt.ONE_SEED in rows["tt"]["doubts"]


def test_folds_stand_by_themselves_beside_the_pooled_accuracy(store):
    toy.record_head(store, toy.study(seeds=(0, 1)))
    for seed, wrong in ((0, (0, 13)), (1, (0, 1, 13))):
        for fold in "ab":
            store.record(toy.accuracy_block("tt", seed, fold, wrong))
    row = rows_of(store)["tt"]
    first, second = 1 - 3 / 24, 1 - 2 / 24  # two seeds of twelve clips in each fold
    assert row["accuracy_folds"] == pytest.approx([first, second])
    assert row["accuracy_fold_mean"] == pytest.approx((first + second) / 2)
    assert row["accuracy_fold_sd"] == pytest.approx((second - first) / math.sqrt(2))
    assert row["accuracy"] == pytest.approx(1 - 5 / 48)
    lines = csv.DictReader((store.path.parent / "summary.csv").read_text(encoding="utf-8").splitlines())
    text = next(line for line in lines if line["variant"] == "tt")["accuracy_folds"]
    assert [float(share) for share in text.split("; ")] == pytest.approx([first, second], abs=1e-6)


def test_a_single_fold_has_no_spread_and_says_so(store):
    the_study = toy.study()
    clips, fold = toy.clips(), toy.folds()[0]
    store.record_study(the_study)
    store.record_clips(clips, [fold])
    store.record(toy.accuracy_block("tt", 0, "a", [0]))
    row = rows_of(store)["tt"]
    assert row["accuracy_folds"] == [11 / 12]
    assert (row["accuracy_fold_mean"], row["accuracy_fold_sd"]) == (None, None)
    assert row["reasons"]["accuracy_fold_sd"].startswith("one fold")


def test_unweighted_recall_counts_a_rare_class_as_much_as_a_common_one(store):
    calm = [row for row in range(24) if toy.LABELS[row] == 0]
    rows = written(store, wrong=calm[:4])  # four of eight calm clips; sixteen glad ones are right
    assert rows["tt"]["unweighted_recall"] == pytest.approx((1 / 2 + 1) / 2)
    assert rows["tt"]["accuracy"] == pytest.approx(20 / 24)


def recorded(store, protocol, people=None):
    the_study = {**toy.study(), "data": {"name": "toy", "protocol": protocol}}
    clips = toy.clips() if people is None else dataclasses.replace(toy.clips(), subjects=tuple(people))
    toy.record_head(store, the_study)
    store.record_clips(clips, toy.folds())
    toy.record_blocks(store, the_study)
    return rows_of(store)


@pytest.mark.parametrize(
    ("protocol", "people", "doubt"),
    [
        ("leaky-image", None, Doubt.LEAKY_FOLDS),
        ("given", ["p"] * 30, Doubt.SHARED_PEOPLE),
        ("given", None, None),
        ("given", [""] * 30, None),  # not known
        ("subjects-ascending", None, None),
        ("contiguous", ["p"] * 30, None),  # within one person, as it says
    ],
)
def test_a_leak_is_a_doubt_about_every_accuracy(store, protocol, people, doubt):
    rows = recorded(store, protocol, people)
    for row in rows.values():
        assert {each for each in row["doubts"] if each in (Doubt.LEAKY_FOLDS, Doubt.SHARED_PEOPLE)} == ({doubt} if doubt else set())
    made = summary.write_summary(store, store.path.parent)
    assert made["data"]["protocol"] == protocol


def test_test_clips_of_trained_people_are_counted(store):
    people = [f"p{row}" for row in range(30)]
    people[0] = people[5] = people[20]  # two tested rows of fold a, one of fold b
    rows = recorded(store, "given", people)
    made = summary.write_summary(store, store.path.parent)
    assert [fold["shared"] for fold in made["data"]["folds"]] == [2, 1]
    assert Doubt.SHARED_PEOPLE in rows["tt"]["doubts"]


def test_accuracy_averages_the_seeds(store):
    the_study = toy.study(seeds=(0, 1, 2))
    toy.record_head(store, the_study)
    for seed, wrong in ((0, ()), (1, (0, 13)), (2, (0, 1, 2, 14))):
        for fold in "ab":
            store.record(toy.accuracy_block("dense", seed, fold))
            store.record(toy.accuracy_block("tt", seed, fold, wrong))
    row = rows_of(store)["tt"]
    assert row["accuracy"] == pytest.approx(1 - 6 / 72)
    assert (row["n_clips"], row["seeds"]) == (24, 3)
    assert Doubt.ONE_SEED not in row["doubts"]
    assert row["accuracy_drop"] == pytest.approx(100 * 6 / 72)


def test_macro_f1_and_the_calibration_error_are_the_answers_own(store):
    tt = written(store)["tt"]
    # One clip of each class, of 8 and of 16, is answered with the other one: 7 of 8 and 15 of 16 are found, and as many answers are right.
    assert tt["macro_f1"] == pytest.approx((7 / 8 + 15 / 16) / 2)
    # Every answer is as sure, e / (1 + e), and 22 of 24 are right.
    assert tt["calibration_error"] == pytest.approx(22 / 24 - math.e / (1 + math.e))


def test_a_drop_is_in_points_and_its_limit_lies_above_it(store):
    rows = written(store)
    assert rows["tt"]["accuracy_drop"] == pytest.approx(100 * 2 / 24)
    assert 100 * 2 / 24 < rows["tt"]["accuracy_drop_limit95"] < 30
    assert rows["dense"]["accuracy_drop"] == 0
    assert rows["dense"]["reasons"]["accuracy_drop_limit95"] == "this is the baseline"


def test_a_drop_compares_the_clips_and_seeds_that_both_were_tested_on(store):
    the_study = toy.study(seeds=(0, 1))
    toy.record_head(store, the_study)
    store.record(toy.accuracy_block("dense", 0, "a"))
    store.record(toy.accuracy_block("tt", 0, "a", wrong=[0]))
    store.record(toy.accuracy_block("tt", 0, "b", wrong=range(12, 24)))
    store.record(toy.accuracy_block("tt", 1, "a", wrong=range(12)))
    row = rows_of(store)["tt"]
    assert row["accuracy_drop"] == pytest.approx(100 / 12)
    assert Doubt.INCOMPLETE in row["doubts"]


def test_without_the_baselines_answers_there_is_no_drop(store):
    toy.record_head(store, toy.study())
    store.record(toy.accuracy_block("tt", 0, "a"))
    row = rows_of(store)["tt"]
    assert row["accuracy_drop"] is None
    assert "the baseline dense was tested on no common seed and clip" in row["reasons"]["accuracy_drop"]


def test_sizes_and_their_ratios_come_from_the_manifest(store):
    rows = written(store)
    tt = rows["tt"]
    assert (tt["params"], tt["params_lstm"], tt["params_tt"], tt["stored_bytes"], tt["bytes_predictor"]) == (850, 250, 100, 1500, 500)
    assert (tt["params_dense"], tt["params_lstm_dense"], tt["params_tt_dense"]) == (2600, 2000, 1800)
    assert tt["ratio_tt_params"] == 18
    assert tt["ratio_lstm_params"] == 8
    assert tt["ratio_model_params"] == pytest.approx(2600 / 850)
    assert tt["ratio_model_bytes"] == 8
    assert rows["dense"]["ratio_tt_params"] is None
    assert rows["dense"]["reasons"]["ratio_tt_params"] == "nothing is in tensor-train form"


def test_latencies_are_medians_of_block_medians_in_nanoseconds(store):
    tt = written(store)["tt"]
    assert tt["latency_clip_p50_ns"] == 81_000
    assert tt["latency_predictor_p50_ns"] == 20_000
    assert tt["latency_extractor_p50_ns"] == 61_000
    assert tt["latency_clip_p90_ns"] == 82_000
    # Of 12 blocks, whose clips all take 80, 81 or 82 us, 4 are of each: the 95 % of any draw of blocks without one of 82 us (0.8 %) is lower.
    assert (tt["latency_clip_p95_ns"], tt["latency_clip_p95_ns_ci95"][1]) == (82_000, 82_000)
    assert tt["latency_clip_p95_ns_ci95"][0] in (81_000, 82_000)
    assert (tt["blocks"], tt["rounds"], tt["timed_clips"]) == (12, 6, 192)
    assert tt["doubts"] == [str(Doubt.ONE_SEED)]


def test_speedups_are_paired_within_rounds(store):
    """Every round is slower than the one before, for both alike: the ratio stays 2 and knows no doubt about it."""
    toy.record_head(store, toy.study(rounds=8))
    for round_ in range(8):
        for half in (0, 1):
            store.record(toy.latency_block("dense", round_, half, clip_us=100 * 2**round_, predictor_us=40))
            store.record(toy.latency_block("tt", round_, half, clip_us=50 * 2**round_, predictor_us=20))
    rows = rows_of(store)
    assert rows["tt"]["speedup_clip"] == pytest.approx(2)
    assert rows["tt"]["speedup_clip_ci95"] == pytest.approx([2, 2])
    assert {str(Doubt.NOISY), str(Doubt.DRIFT)} <= set(rows["tt"]["doubts"])
    assert rows["dense"]["speedup_clip"] == 1
    assert rows["dense"]["reasons"]["speedup_clip_ci95"] == "this is the baseline"


def test_a_speedup_and_its_interval_are_the_hodges_lehmann_and_signed_rank_ones(store):
    toy.record_head(store, toy.study(rounds=7))
    factors = [2.0, 2.5, 1.9, 3.0, 2.2, 2.1, 2.4]
    for round_, factor in enumerate(factors):
        for half in (0, 1):
            store.record(toy.latency_block("dense", round_, half, clip_us=200, predictor_us=50))
            store.record(toy.latency_block("tt", round_, half, clip_us=200 / factor, predictor_us=50 / factor))
    logs = np.log(factors)
    row = rows_of(store)["tt"]
    assert row["speedup_predictor"] == pytest.approx(math.exp(stats.hodges_lehmann(logs)), rel=1e-4)
    assert row["speedup_predictor_ci95"] == pytest.approx(np.exp(stats.signed_rank_interval(logs)).tolist(), rel=1e-4)


def test_a_steady_drift_within_a_round_cancels_in_its_mirrored_halves(store):
    """Order dense, tt, tt, dense; each block is 3 % slower than the one before."""
    toy.record_head(store, toy.study(rounds=6))
    for round_ in range(6):
        for half, (dense, tt) in enumerate([(1.0, 1.03), (1.03**3, 1.03**2)]):
            store.record(toy.latency_block("dense", round_, half, clip_us=1000 * dense))
            store.record(toy.latency_block("tt", round_, half, clip_us=1000 * tt))
    assert rows_of(store)["tt"]["speedup_clip"] == pytest.approx(1, abs=1e-5)


def test_a_round_with_a_failed_half_is_not_paired(store):
    toy.record_head(store, toy.study())
    toy.record_blocks(store, toy.study(rounds=5))
    store.record(toy.latency_block("dense", 5, 0))
    store.record(toy.latency_block("dense", 5, 1))
    store.record(toy.latency_block("tt", 5, 0))
    store.record(toy.failed(toy.latency_block("tt", 5, 1)))
    row = rows_of(store)["tt"]
    assert (row["blocks"], row["rounds"]) == (11, 5)
    assert row["speedup_clip_ci95"] is None
    assert row["reasons"]["speedup_clip_ci95"] == "5 paired rounds: a 95 % interval needs at least 6"
    assert {str(Doubt.FEW_BLOCKS), str(Doubt.INCOMPLETE)} <= set(row["doubts"])


@pytest.mark.parametrize("vary", [True, False])
def test_ranks_that_differ_between_folds_are_a_doubt_about_the_sizes(store, vary):
    toy.record_head(store, toy.study(), ranks_vary=vary)
    assert (Doubt.SHAPES_VARY in rows_of(store)["tt"]["doubts"]) == vary


def test_a_percentile_is_not_claimed_below_its_floor(store):
    toy.record_head(store, toy.study(rounds=1))
    for half in (0, 1):
        for variant in ("dense", "tt"):
            store.record(toy.latency_block(variant, 0, half, clips=31 if variant == "tt" else 5))
    rows = rows_of(store)
    assert rows["tt"]["latency_clip_p50_ns"] == 100_000
    assert rows["tt"]["latency_clip_p90_ns"] is None
    assert rows["tt"]["reasons"]["latency_clip_p90_ns"] == "62 timed clips: a p90 needs at least 64"
    assert rows["tt"]["reasons"]["latency_clip_p95_ns"] == "62 timed clips: a p95 needs at least 130"
    assert Doubt.FEW_SAMPLES in rows["tt"]["doubts"]
    assert rows["dense"]["reasons"]["latency_clip_p50_ns"] == "10 timed clips: a p50 needs at least 11"


@pytest.mark.parametrize(("percent", "doubted"), [(9.9, False), (10.0, True)])
def test_a_busy_host_is_a_doubt_from_a_tenth_of_a_core_on(store, percent, doubted):
    toy.record_head(store, toy.study())
    for half in (0, 1):
        store.record(toy.latency_block("dense", 0, half, host_busiest_percent_during=percent))
    assert (Doubt.BUSY_HOST in rows_of(store)["dense"]["doubts"]) == doubted


def test_blocks_that_vary_by_a_tenth_are_a_doubt(store):
    toy.record_head(store, toy.study())
    for round_, clip_us in enumerate((100, 130, 100, 130, 100, 130)):
        for half in (0, 1):
            store.record(toy.latency_block("dense", round_, half, clip_us))
    doubts = rows_of(store)["dense"]["doubts"]
    assert Doubt.NOISY in doubts


def test_memory_is_the_median_of_its_blocks_step_by_step(store):
    toy.record_head(store, toy.study())
    for round_, peak in enumerate((5000, 9000, 6000)):
        store.record(toy.memory_block("tt", peak, round_))
    row = rows_of(store)["tt"]
    assert [row[f"memory_{step}_bytes"] for step in ("interpreter", "runtime", "model", "peak")] == [1000, 2000, 3000, 6000]


def test_power_is_watts_or_the_reason_why_not(store):
    toy.record_head(store, toy.study())
    store.record(toy.power_block("tt", 5.67))
    store.record(toy.power_block("dense", reason="n/a: no sensor found; looked for /sys/class/powercap"))
    rows = rows_of(store)
    assert (rows["tt"]["power_w"], rows["tt"]["power_reason"]) == (5.67, "")
    assert rows["dense"]["power_w"] is None
    assert rows["dense"]["power_reason"] == rows["dense"]["reasons"]["power_w"] == "n/a: no sensor found; looked for /sys/class/powercap"


def test_power_comes_with_idle_net_and_joules(store):
    toy.record_head(store, toy.study())
    store.record(toy.measured_power("tt"))
    row = rows_of(store)["tt"]
    assert (row["power_w"], row["power_idle_w"], row["power_net_w"]) == (5.0, 2.0, 3.0)
    assert (row["energy_clip_j"], row["energy_clip_net_j"]) == (0.5, 0.3)
    assert (row["energy_inference_j"], row["energy_inference_net_j"]) == (0.03125, 0.01875)
    assert row["power_source"] == "hwmon, board side: what flows through ina219: power1_input"
    assert not {Doubt.IDLE_DRIFT, Doubt.SHORT_POWER, Doubt.SLOW_METER} & set(row["doubts"])


@pytest.mark.parametrize(
    ("figures", "doubt"),
    [
        ({"idle_before_w": 1.8, "idle_after_w": 2.2}, Doubt.IDLE_DRIFT),
        ({"net_w": -0.1}, Doubt.IDLE_DRIFT),
        ({"seconds": 59.0}, Doubt.SHORT_POWER),
        ({"rate_hz": 349.0}, Doubt.SLOW_METER),
        ({"rate_hz": 20.0, "counter": 1}, None),
        ({"idle_before_w": 1.9, "idle_after_w": 2.1}, None),
    ],
)
def test_what_weakens_a_power_figure_is_said(store, figures, doubt):
    toy.record_head(store, toy.study())
    store.record(toy.measured_power("tt", **figures))
    found = {Doubt.IDLE_DRIFT, Doubt.SHORT_POWER, Doubt.SLOW_METER} & set(rows_of(store)["tt"]["doubts"])
    assert found == ({doubt} if doubt else set())


def test_training_columns_average_over_seeds_and_folds(store):
    row = written(store, toy.study(seeds=(0, 1)))["tt"]
    assert row["train_epoch_s"] == 0.25
    assert row["validation_accuracy"] == pytest.approx(0.55)  # 0.5 and 0.6, at the kept epoch
    assert row["accuracy_best_epoch"] == pytest.approx(0.85)
    assert row["accuracy_last_epoch"] == pytest.approx(0.75)
    assert row["way_text"] == "way of tt"


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ([], ("as-trained", None, 32, 32)),
        ([{"step": "retrain"}], ("control", None, 32, 32)),
        ([{"step": "quantize", "part": "extractor", "bits": 8}], ("as-trained", None, 8, 32)),
        ([{"step": "tensor-train", "rank": 4, "start": "decompose"}, {"step": "quantize", "part": "predictor", "bits": 4}], ("decomposed", 4, 32, 4)),
        ([{"step": "tensor-train", "rank": 2, "start": "from-scratch"}], ("from-scratch", 2, 32, 32)),
        ([{"step": "low-rank", "energy": 0.9}, {"step": "tensor-train", "rank": 8, "start": "data-aware"}], ("data-aware", 8, 32, 32)),
        ([{"step": "bottleneck", "rank": 4}], ("control", None, 32, 32)),
        ([{"step": "tensor-train", "rank": {"ratio": None, "relative_error": 0.1}, "start": "decompose"}], ("decomposed", None, 32, 32)),
        ([{"step": "quantize", "part": "extractor", "bits": 8, "mean_bits": 5.5}], ("as-trained", None, 5.5, 32)),
        ([{"step": "small-dense", "bytes_of": "tt"}, {"step": "quantize", "part": "predictor"}], ("control", None, 32, 8)),
    ],
)
def test_way_rank_and_bits_come_from_the_recipe(store, monkeypatch, recipe, expected):
    monkeypatch.setitem(toy.RECIPES, "tt", recipe)
    toy.record_head(store, toy.study())
    row = rows_of(store)["tt"]
    assert (row["way"], row["tt_rank"], row["extractor_bits"], row["predictor_bits"]) == expected


def test_a_journal_without_recipes_has_no_way_and_says_so(store):
    the_study = toy.study()
    for variant in the_study["variants"]:
        del variant["recipe"]
    store.record_study(the_study)
    assert rows_of(store)["tt"]["reasons"]["way"] == "the recipe is not recorded"


def test_a_training_takes_the_sum_of_its_epochs_and_the_time_to_the_teachers_best_is_counted_to_the_end_of_an_epoch(store):
    """The teacher reaches 0.6 at most; the variant does so after its third epoch, 1 + 2 + 3 seconds on."""
    store.record_study(toy.study())
    for fold in "ab":
        store.record_training(Training("dense", 0, fold, "", History((1.0, 1.0), (0.6, 0.4), (50.0, 50.0), 0)))
        store.record_training(Training("tt", 0, fold, "", History((1.0,) * 4, (0.3, 0.5, 0.6, 0.9), (1.0, 2.0, 3.0, 4.0), 3)))
    rows = rows_of(store)
    assert (rows["tt"]["train_epochs"], rows["tt"]["train_total_s"], rows["tt"]["time_to_dense_s"]) == (4, 10, 6)
    assert rows["dense"]["time_to_dense_s"] is None
    assert "training took 100 s, extractor included" in rows["dense"]["reasons"]["time_to_dense_s"]


def test_where_one_training_does_not_reach_the_teachers_best_no_time_is_claimed(store):
    store.record_study(toy.study())
    for fold, best in (("a", 0.6), ("b", 0.5)):
        store.record_training(Training("dense", 0, fold, "", History((1.0,), (0.6,), (50.0,), 0)))
        store.record_training(Training("tt", 0, fold, "", History((1.0,), (best,), (1.0,), 0)))
    row = rows_of(store)["tt"]
    assert row["time_to_dense_s"] is None
    assert row["reasons"]["time_to_dense_s"] == "1 of 2 trainings reached the dense teacher's best validation accuracy"


def test_a_variant_that_is_only_rounded_has_no_training_of_its_own(store, monkeypatch):
    monkeypatch.setitem(toy.RECIPES, "tt", [{"step": "quantize", "part": "extractor", "bits": 8}])
    history = History((1.0,), (0.6,), (50.0,), 0)
    store.record_study(toy.study())
    for variant in ("dense", "tt"):
        store.record_training(Training(variant, 0, "a", "", history))
    assert "no training of its own" in rows_of(store)["tt"]["reasons"]["train_total_s"]


def test_a_streams_frame_is_the_median_of_the_blocks_medians_or_has_its_reason(store):
    toy.record_head(store, {**toy.study(), "measure": {"rounds": 6, "passes": ["latency"], "stream_clips": 1}})
    for half, samples in enumerate(([10, 20, 900], [40, 60, 50])):
        store.record(toy.latency_block("tt", 0, half, stream_ns=samples))
    store.record(toy.latency_block("dense", 0, 0, stream_reason="it takes whole clips"))
    rows = rows_of(store)
    assert rows["tt"]["latency_stream_frame_p50_ns"] == 35
    assert rows["dense"]["reasons"]["latency_stream_frame_p50_ns"] == "it takes whole clips"


def test_a_study_that_asks_for_no_streams_has_none(store):
    toy.record_head(store, toy.study())
    store.record(toy.latency_block("tt", 0, 0))
    assert rows_of(store)["tt"]["reasons"]["latency_stream_frame_p50_ns"].startswith("the study does not ask for streams")


def test_a_variant_that_failed_everywhere_is_a_row_with_its_reasons_not_a_hole(store):
    toy.record_head(store, toy.study())
    for block in (toy.accuracy_block("tt", 0, "a"), toy.latency_block("tt", 0, 0), toy.memory_block("tt"), toy.power_block("tt")):
        store.record(toy.failed(block, "onnxruntime: operator Einsum is not there"))
    row = rows_of(store)["tt"]
    for column in ("accuracy", "latency_clip_p50_ns", "speedup_clip", "memory_peak_bytes", "power_w"):
        assert row[column] is None
        assert row["reasons"][column] == "1 of 1 blocks did not finish: onnxruntime: operator Einsum is not there"
    assert row["blocks"] == 0
    assert row["stored_bytes"] == 1500


def test_a_pass_that_the_study_does_not_ask_for_is_named_as_such(store):
    toy.record_head(store, toy.study(passes=("latency",)))
    row = rows_of(store)["tt"]
    assert row["reasons"]["memory_peak_bytes"] == "the study does not ask for the memory pass"
    assert row["reasons"]["latency_clip_p50_ns"] == "not measured yet"


def test_rows_exist_before_anything_else_does(store):
    store.record_study(toy.study())
    rows = rows_of(store)
    assert list(rows) == ["dense", "tt"]
    assert rows["tt"]["reasons"]["stored_bytes"] == "no bundle was exported"


def test_simulated_clips_are_marked_on_every_row(store):
    store.record_study(toy.study())
    store.record_clips(dataclasses.replace(toy.clips(), simulated=True), toy.folds())
    assert all(str(Doubt.SIMULATED) in row["doubts"] for row in rows_of(store).values())


def test_a_simulated_target_marks_its_rows_though_the_clips_are_real(store):
    store.record_study(toy.study())
    store.record_clips(toy.clips(), toy.folds())
    store.record(toy.latency_block("dense", 0, 0))
    assert not any(str(Doubt.SIMULATED_TARGET) in row["doubts"] for row in rows_of(store).values())
    store.record(toy.latency_block("dense", 0, 1, simulated=True))
    assert all(str(Doubt.SIMULATED_TARGET) in row["doubts"] for row in rows_of(store).values())


def test_the_csv_is_flat_with_intervals_in_two_columns(store):
    made = written(store)
    with (store.path.parent / "summary.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["variant"] for line in lines] == ["dense", "tt"]
    assert [float(lines[1]["accuracy_ci95_lo"]), float(lines[1]["accuracy_ci95_hi"])] == made["tt"]["accuracy_ci95"]
    assert lines[0]["speedup_clip_ci95_lo"] == ""
    assert "this is the baseline" in lines[0]["reasons"]
    assert lines[1]["doubts"] == str(Doubt.ONE_SEED)


def test_a_summary_that_cannot_be_written_leaves_the_old_one(store, tmp_path):
    written(store)
    before = (tmp_path / "summary.json").read_bytes()
    os.symlink("/dev/full", tmp_path / ".summary.json.part")  # a disk without a byte left
    with pytest.raises(DiskFullError, match=r"summary.json: no space left"):
        summary.write_summary(store, tmp_path)
    assert (tmp_path / "summary.json").read_bytes() == before
    assert not (tmp_path / ".summary.json.part").is_symlink()


def test_a_folder_that_is_gone_is_named(store, tmp_path):
    written(store)
    with pytest.raises(ResultsError, match=r"gone/summary.json: No such file"):
        summary.write_summary(store, tmp_path / "gone")


def test_anonymous_and_file_backed_memory_are_medians_of_their_own_and_n_a_where_a_block_does_not_tell_them(store):
    toy.record_head(store, toy.study())
    for round_, peak in enumerate((5000, 6000, 7000)):
        store.record(toy.memory_block("tt", peak, round_))
    row = rows_of(store)["tt"]
    assert (row["memory_model_anonymous_bytes"], row["memory_model_file_bytes"]) == (1800, 1200)
    assert (row["memory_peak_anonymous_bytes"], row["memory_peak_file_bytes"]) == (4500, 1400)
    assert row["memory_runtime_file_bytes"] is None
    assert "kernel does not tell anonymous from file-backed pages" in row["reasons"]["memory_runtime_file_bytes"]
