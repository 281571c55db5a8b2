import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fercompress.measure import simulate
from fercompress.measure.simlayers import Layer
from fercompress.measure.simulate import PARAMETERS, VALIDATED, Validity

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RESULT = json.loads((BENCHMARKS / "results" / "board_model.json").read_text()) if BENCHMARKS.is_dir() else {}
beside_the_source = pytest.mark.skipif(not RESULT, reason="benchmarks/ is not beside the tests")


def load(name):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@beside_the_source
@pytest.mark.parametrize(
    ("name", "mega_macs", "mega_weights"),
    [  # as their papers and the model zoos' cards count them
        ("alexnet", 724, 61.0), ("googlenet", 1580, 7.0), ("mobilenet v1", 569, 4.2), ("mobilenet v1 0.25-128", 14, 0.47), ("mobilenet v2", 300, 3.5),
        ("mobilenet v2 1.4", 582, 6.1), ("resnet18", 1820, 11.7), ("resnet50", 3860, 25.6), ("resnet50 v2", 4090, 25.6), ("squeezenet", 388, 1.24),
        ("vgg16", 15470, 138.4), ("yolov5n", 2250, 1.9), ("yolov5s", 8250, 7.2), ("yolov5m", 24500, 21.2),
        ("yolov8n", 4350, 3.2), ("yolov8s", 14300, 11.2), ("yolov8m", 39450, 25.9),
    ],
)  # fmt: skip
def test_each_layer_table_adds_up_to_the_published_counts(name, mega_macs, mega_weights):
    layers = load("board_networks").network(name)
    assert sum(layer.macs for layer in layers) / 1e6 == pytest.approx(mega_macs, rel=0.035)
    assert sum(layer.weights for layer in layers) / 1e6 == pytest.approx(mega_weights, rel=0.03)


@beside_the_source
def test_the_parameters_and_their_validity_are_those_that_the_benchmark_wrote():
    assert asdict(PARAMETERS) == RESULT["parameters"]
    assert {family: asdict(told) for family, told in VALIDATED.items()} == RESULT["validated"]


@beside_the_source
def test_validity_follows_anew_from_the_published_rows_and_the_parameters():
    load("board_networks")
    model = load("board_model")
    for family, told in VALIDATED.items():
        assert model.validity([row for row in model.ROWS if row.held_out and row.family == family], PARAMETERS) == told


@beside_the_source
def test_no_network_is_on_both_sides_of_a_family_of_latencies():
    sides = {True: set(), False: set()}
    for row in RESULT["rows"]:
        if row["family"] != "power":
            sides[row["held_out"]].add((row["family"], row["network"]))
    assert not sides[True] & sides[False]


@beside_the_source
def test_over_all_latencies_that_were_held_out_the_goal_is_met():
    told = Validity(**RESULT["all_latency"])
    assert told.median_error <= 0.35
    assert told.spearman >= 0.8


def test_families_with_few_published_figures_are_not_valid():
    assert {family for family, told in VALIDATED.items() if told.valid} == {"cpu fp32", "cpu int8", "npu int8"}
    assert not Validity(7, 3, 0.1, 1.0).valid
    assert not Validity(8, 2, 0.1, 1.0).valid
    assert not Validity(8, 3, 0.36, 1.0).valid
    assert not Validity(8, 3, 0.1, 0.79).valid
    assert Validity(8, 3, 0.35, 0.8).valid


def test_a_compute_bound_layer_takes_operations_over_peak():
    layer = Layer("dense", 1e9, 0, 0, 0)
    assert simulate.cpu_ms([layer], "a72", 1) == pytest.approx(2e9 / (PARAMETERS.cpu_dense * 14.4e9) * 1e3)


def test_a_bandwidth_bound_layer_takes_bytes_over_bandwidth():
    assert simulate.cpu_ms([Layer("move", 0, 0, 700e3, 700e3)], "a72", 1) == pytest.approx(1.0)  # 5.6 MB at 5.6 GB/s


@given(st.floats(1e3, 1e9), st.floats(0, 1e6), st.sampled_from(["winograd", "dense", "depthwise", "linear"]))
def test_more_cores_are_faster_and_the_little_ones_slower(macs, moved, kind):
    layers = [Layer(kind, macs, moved, moved, moved)]
    assert simulate.cpu_ms(layers, "a72", 2) < simulate.cpu_ms(layers, "a72", 1) < simulate.cpu_ms(layers, "a53", 1)
    assert simulate.npu_ms(layers, "int8") > PARAMETERS.npu_call_ms


def test_cores_that_the_cluster_has_not_are_refused():
    with pytest.raises(ValueError, match="a72 cluster has 2 cores, 3"):
        simulate.cpu_ms([], "a72", 3)
