from collections import Counter

import numpy as np
import pytest
import tiny_bundle
from hypothesis import given
from hypothesis import strategies as st

from fercompress.config import Measure
from fercompress.measure.board import load_board
from fercompress.measure.schedule import ClipsFile, MeasuredBundle, Schedule, mirrored_round
from fercompress.records import Bundle, Pass

FILE = ClipsFile("clips/x.npy", "x", {0: 0, 3: 1, 4: 2, 7: 3, 8: 4})
MACHINE = {"machine": "x86_64", "cpu": "one", "python": "3.11"}
ENGINES = {"onnxruntime": {"onnxruntime": "1.0"}}


def schedule(**more) -> Schedule:
    bundles = {}
    for variant in ("a", "b"):
        bundle = Bundle(None, f"sha-{variant}", variant, "onnxruntime", {"graph_key": "g"}, tiny_bundle.SIZE)
        bundles[variant] = [MeasuredBundle(bundle, 0, "f", np.array([3, 0, 8]))]
    board = load_board("localhost")
    given = {
        "bundles": bundles, "settings": Measure(rounds=2), "board": board, "machine": MACHINE, "engines": ENGINES, "fingerprint": "p",
        "all_clips": FILE, "few_clips": FILE, "seed": 0, **more,
    }  # fmt: skip
    return Schedule(**given)


@given(st.sets(st.text(max_size=5), min_size=1, max_size=9), st.integers(0, 50), st.integers(0, 5))
def test_a_round_holds_every_variant_once_in_each_half_and_reads_the_same_backwards(variants, round_, seed):
    order = mirrored_round(list(variants), round_, seed)
    assert Counter(order) == Counter(dict.fromkeys(variants, 2))
    assert order == order[::-1]
    assert set(order[: len(variants)]) == variants


@given(st.permutations(["a", "b", "c", "d"]), st.integers(0, 9))
def test_a_round_is_the_same_whatever_order_the_variants_are_named_in(names, round_):
    assert mirrored_round(names, round_, 1) == mirrored_round(sorted(names), round_, 1)


def test_rounds_and_seeds_differ_in_order():
    names = [f"v{i}" for i in range(8)]
    assert len({tuple(mirrored_round(names, round_, seed)) for round_ in range(5) for seed in range(5)}) == 25


def test_a_linear_drift_is_the_same_for_every_variant_in_a_round():
    order = mirrored_round(["a", "b", "c"], 0, 0)
    means = {name: np.mean([place for place, other in enumerate(order) if other == name]) for name in order}
    assert set(means.values()) == {2.5}


def test_rows_are_those_of_the_file_in_the_order_of_the_clips():
    cell = next(cell for cell in schedule().cells() if cell.key.pass_ is Pass.ACCURACY)
    assert cell.job["rows"] == [1, 0, 4]


def test_passes_that_the_settings_leave_out_have_no_cells():
    cells = schedule(settings=Measure(passes=("memory",), memory_blocks=3)).cells()
    assert Counter(cell.key.pass_ for cell in cells) == {Pass.MEMORY: 6}


@pytest.mark.parametrize(
    ("changed", "passes"),
    [
        ({"fingerprint": "q"}, {Pass.ACCURACY}),
        ({"machine": {**MACHINE, "cpu": "two"}}, {Pass.LATENCY, Pass.MEMORY, Pass.POWER}),
        ({"engines": {"onnxruntime": {"onnxruntime": "1.1"}}}, set(Pass)),
        ({"settings": Measure(rounds=2, threads=2)}, set(Pass)),
        ({"settings": Measure(rounds=2, block_s=0.7)}, {Pass.LATENCY}),
        ({"settings": Measure(rounds=2, deadline_s=9.0)}, set()),
        ({"few_clips": ClipsFile("clips/y.npy", "y", FILE.place)}, {Pass.LATENCY, Pass.MEMORY, Pass.POWER}),
        ({"all_clips": ClipsFile("clips/y.npy", "y", FILE.place)}, set()),
    ],
)
def test_a_block_is_measured_again_when_and_only_when_something_changed_that_it_depends_on(changed, passes):
    before = {cell.key for cell in schedule().cells()}
    after = {cell.key for cell in schedule(**changed).cells()}
    assert {key.pass_ for key in after - before} == passes
    assert {key.pass_ for key in after & before} == set(Pass) - passes
