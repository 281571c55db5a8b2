"""Variants that are not measured: which blocks say so, and what a journal makes of them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from toy_run import SIZES, folds, latency_block, record_blocks, record_head, study

from fercompress import absence
from fercompress.assignment import Assignment
from fercompress.made import Unmade
from fercompress.measure.schedule import MeasuredBundle
from fercompress.records import Block, BlockKey, Bundle, Pass, Status
from fercompress.results import pareto
from fercompress.results.faults import faults
from fercompress.results.store import FILE, Store
from fercompress.results.summary import rows
from fercompress.results.tables import read_tables

FOLDS = folds()
STUDY = SimpleNamespace(
    seeds=(0, 1),
    measure=SimpleNamespace(passes=("accuracy", "latency")),
    variants=[SimpleNamespace(name=name) for name in ("whole", "elsewhere", "part", "none")],
)


def measured(seed, fold):
    return MeasuredBundle(SimpleNamespace(sha256=f"{seed}{fold}"), seed, fold, np.arange(2))


def test_every_way_of_not_being_measured_has_its_blocks():
    assignment = Assignment({}, {"board": {}, "pi": {"elsewhere": "not run here: pi"}}, "onnxruntime", ())
    every = [measured(seed, fold.name) for seed in (0, 1) for fold in FOLDS]
    bundles = {"whole": every, "elsewhere": every, "part": every[1:], "none": []}
    gone = [Unmade(seed, fold, "not made: it") for seed in (0, 1) for fold in FOLDS]
    unmade = {"part": gone[:1], "none": gone}

    def told(target):
        found = absence.blocks(STUDY, target, assignment, bundles, unmade, (0, "a"))
        return [(block.key.variant, str(block.key.pass_), block.key.seed, block.key.fold, block.bundle_sha256, str(block.status)) for block in found]

    part, none = [("part", "accuracy", 0, "a", "", "failed")], [("none", name, 0, "a", "", "failed") for name in ("accuracy", "latency")]
    assert told("board") == part + none
    assert told("pi") == [("elsewhere", name, 0, "a", "0a", "excluded") for name in ("accuracy", "latency")] + part + none


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / FILE) as opened:
        the_study = study()
        record_head(opened, the_study)
        record_blocks(opened, the_study)
        yield opened


def row_of(store, variant):
    return next(row for row in rows(read_tables(store)) if row["variant"] == variant)


def not_made(reason="not made: its extractor cannot be converted"):
    passes = (Pass.ACCURACY, Pass.LATENCY, Pass.MEMORY, Pass.POWER)
    return [Block(BlockKey("tt", "localhost", pass_, 0, "a", 0, 0, reason), "", Status.FAILED, reason) for pass_ in passes]


def test_a_variant_that_cannot_be_made_any_more_keeps_no_figure_of_its_earlier_bundle(store):
    assert row_of(store, "tt")["stored_bytes"] == 1500
    baseline = row_of(store, "dense")
    plan = store.done()
    for fold in FOLDS:
        store.record_no_bundle("tt", 0, fold.name)
    for block in not_made():
        store.record(block)
    store.record_plan([*(key for key in plan if key.variant == "dense"), *(block.key for block in not_made())])
    row = row_of(store, "tt")
    for column in ("accuracy", "stored_bytes", "latency_clip_p50_ns", "speedup_clip", "memory_peak_bytes", "engine", *pareto.COLUMNS):
        assert row[column] is None
        assert row["reasons"][column] == "not made: its extractor cannot be converted"
    # What else there is decides whether a variant is on the front, and nothing else of its row.
    assert {**row_of(store, "dense"), **dict.fromkeys(pareto.COLUMNS)} == {**baseline, **dict.fromkeys(pareto.COLUMNS)}
    (line,) = faults(read_tables(store).blocks)
    assert (line["variant"], line["pass"], line["times"]) == ("tt", "accuracy, latency, memory, power", 4)


def test_made_after_all_it_counts_again(store):
    before = row_of(store, "tt")
    for fold in FOLDS:
        store.record_no_bundle("tt", 0, fold.name)
    assert [bundle.variant for bundle in store.bundles()] == ["dense", "dense"]
    record_head(store, study())  # the same bundles as before
    assert row_of(store, "tt") == before


def test_a_target_that_does_not_run_a_variant_is_no_fault_and_leaves_its_size_known(store):
    reason = "not run here: localhost runs onnxruntime; this variant needs rknn+numpy"
    passes = (Pass.ACCURACY, Pass.LATENCY, Pass.MEMORY, Pass.POWER)
    blocks = [Block(BlockKey("tt", "localhost", pass_, 0, "a", 0, 0, "n"), "tt-0-a", Status.EXCLUDED, reason) for pass_ in passes]
    for block in blocks:
        store.record(block)
    store.record_plan([*(key for key in store.done() if key.variant == "dense"), *(block.key for block in blocks)])
    row = row_of(store, "tt")
    assert (row["stored_bytes"], row["engine"], row["accuracy"]) == (1500, None, None)
    assert row["reasons"]["latency_clip_p50_ns"] == row["reasons"]["npu_frame_ns"] == reason
    assert faults(read_tables(store).blocks) == []


def test_what_an_npu_tells_of_itself_is_the_median_of_its_blocks(tmp_path):
    with Store.open(tmp_path / FILE) as store:
        the_study = study()
        record_head(store, the_study)
        for round_, npu_ns in enumerate((5_000_000, 7_000_000, 6_000_000)):
            store.record(latency_block("tt", round_, 0, npu_ns=npu_ns))
        memory = {"npu_memory": {"maximum_allocation": 20}, "total_memory": {"maximum_allocation": 30, "total_allocation": 99}}
        steps = {"interpreter": 1, "runtime": 2, "model": 3, "peak": 4}
        key = BlockKey("tt", "localhost", Pass.MEMORY, 0, "a", 0, 0, "s")
        store.record(Block(key, "tt-0-a", Status.OK, memory_bytes=steps, facts={"npu_memory": memory}))
        row = row_of(store, "tt")
    assert (row["npu_frame_ns"], row["npu_memory_peak_bytes"]) == (6_000_000, 30)


def test_made_for_another_engine_and_back_a_variant_has_the_newest_bundle_alone(store):
    before = store.bundles()
    other = Bundle(Path("bundles"), "other", "tt", "rknn+numpy", {"graph_key": "x", "recipe": []}, SIZES["tt"])
    first = next(stored for stored in before if (stored.variant, stored.fold) == ("tt", "a"))
    store.record_bundle(other, 0, "a", timed=True)
    assert row_of(store, "tt")["engine"] == "rknn+numpy"
    assert [stored.sha256 for stored in store.bundles() if stored.variant == "tt"] == ["tt-0-b", "other"]
    store.record_bundle(Bundle(Path("bundles"), first.sha256, "tt", first.engine, first.manifest, first.size), 0, "a", timed=True)
    assert sorted(map(str, store.bundles())) == sorted(map(str, before))
