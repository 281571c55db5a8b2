"""A journal's own doubts of one side: by pass where they weaken all of its numbers, by metric where they weaken one."""

import pytest
import toy_run as toy

from fercompress.doubting import doubts
from fercompress.records import Doubt
from fercompress.results.store import Store
from fercompress.results.tables import STAGES, read_tables


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "results.sqlite") as made:
        toy.record_head(made, toy.study())
        yield made


def found(store, stages=STAGES):
    return doubts(read_tables(store), "tt", "localhost", stages)


def timed(store, rounds=6, clip_us=(80,) * 12, **more):
    """clip_us: of each block, in the order measured"""
    for block in range(2 * rounds):
        store.record(toy.latency_block("tt", *divmod(block, 2), clip_us[block], 20, **more))


def test_quiet_blocks_of_one_machine_leave_no_doubt_of_the_times(store):
    timed(store)
    assert {doubt for name, several in found(store).items() if name.startswith("latency") for doubt in several} == set()


def test_noise_is_a_doubt_of_the_stages_that_are_noisy(store):
    timed(store, clip_us=[80, 120] * 6)
    told = found(store)
    assert Doubt.NOISY in told["latency_clip_p50_ns"]
    assert Doubt.NOISY in told["latency_extractor_p50_ns"]
    assert told["latency_predictor_p50_ns"] == frozenset(), "it takes 20 us in every block"


def test_a_drift_is_told_in_the_order_measured(store):
    timed(store, clip_us=range(80, 92))
    assert found(store)["latency_clip_p50_ns"] == {Doubt.DRIFT}


def test_few_rounds_and_few_clips_weaken_what_needs_them(store):
    timed(store, rounds=1, clips=20)
    told = found(store)
    assert told["latency"] == {Doubt.FEW_BLOCKS}
    assert Doubt.FEW_SAMPLES in told["latency_clip_p90_ns"]
    assert Doubt.FEW_SAMPLES not in told["latency_clip_p50_ns"]


def test_what_happened_to_the_target_is_a_doubt_of_all_its_times(store):
    facts = {"host_busiest_percent_during": 50.0, "cooling_start": {"fan": 0}, "cooling_end": {"fan": 1}, "cool_down_over_mc": 2000}
    timed(store, **facts)
    assert found(store)["latency"] == {Doubt.BUSY_HOST, Doubt.THROTTLED, Doubt.HOT_START}


def test_times_of_a_simulated_target_are_called_so(store):
    timed(store, simulated=True)
    assert Doubt.SIMULATED_TARGET in found(store)["latency"]


def test_few_people_weaken_the_accuracy_alone(store):
    store.record(toy.accuracy_block("tt", 0, "a"))
    told = found(store)
    assert told["accuracy"] == {Doubt.FEW_PEOPLE}, "a fold's twelve clips are of six people"
