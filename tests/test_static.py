import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fercompress.compress.quantize import this_cpu_bits
from fercompress.compress.static import outputs, round_weight, rounded
from fercompress.errors import ModelError
from fercompress.export import onnx_file, packing


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 96, 3, stride=2, padding=1), nn.ReLU()]
    return onnx_file.extractor_model(nn.Sequential(*layers).eval(), 1, 16)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((24, 1, 16, 16)).astype(np.float32)


def _weights(graph: onnx.ModelProto) -> list[np.ndarray]:
    return [onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer if len(tensor.dims) == 4]


@pytest.mark.parametrize("kernel_bits", [7, 8])
def test_the_int8_extractor_is_close_and_its_weights_are_int8(model, frames, kernel_bits):
    found = rounded(model, frames[:16], frames[16:], kernel_bits)
    assert found.error == min(found.errors.values())
    if kernel_bits <= this_cpu_bits():  # else 8-bit products saturate here, which is why 7 bits are used
        assert found.error < 0.002
    assert [weight.dtype for weight in _weights(found.model)] == [np.int8, np.int8]
    assert max(np.abs(weight.astype(int)).max() for weight in _weights(found.model)) <= 2 ** (kernel_bits - 1)


def test_four_bits_leave_fifteen_values_and_err_more_than_eight(model, frames):
    coarse = rounded(model, frames[:16], frames[16:], 7, bits=4)
    assert all(len(np.unique(weight)) <= 15 for weight in _weights(coarse.model))
    assert rounded(model, frames[:16], frames[16:], 7).error < coarse.error < 0.1


def test_mean_bits_give_the_most_tolerant_layers_four_bits(model, frames):
    mixed = rounded(model, frames[:16], frames[16:], 7, mean_bits=6)
    sizes = [weight.size for weight in _weights(mixed.model)]
    assert set(mixed.layer_bits) <= {4, 8}
    assert sum(bits * size for bits, size in zip(mixed.layer_bits, sizes, strict=True)) <= 6 * sum(sizes)
    assert rounded(model, frames[:16], frames[16:], 7, mean_bits=8).layer_bits == (8, 8)


@pytest.mark.parametrize(("calibration", "held_out", "name"), [(1, 8, "calibration"), (8, 1, "held-out")])
def test_too_few_frames_are_refused_by_name(model, frames, calibration, held_out, name):
    with pytest.raises(ModelError, match=f"1 {name} frames are too few"):
        rounded(model, frames[:calibration], frames[:held_out], 8)


def test_nothing_is_written_to_standard_output_or_error(model, frames, capfd):
    rounded(model, frames[:8], frames[8:], 8)
    assert capfd.readouterr() == ("", "")


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 8), st.integers(0, 10_000), st.floats(0.01, 100))
def test_a_rounded_weight_has_few_values_per_channel_and_no_more_error_than_half_a_step(bits, seed, scale):
    torch.manual_seed(seed)
    weight = torch.randn(3, 20) * scale
    found = round_weight(weight, bits)
    for before, after in zip(weight, found, strict=True):
        assert len(after.unique()) <= 2**bits - 1
        step = before.abs().max() / (2 ** (bits - 1) - 1)
        assert (before - after).square().sum() <= ((before - (before / step).round() * step).square().sum()) * (
            1 + 1e-4
        )  # the step itself is rounded


@pytest.mark.parametrize("bits", [8, 4])
def test_the_packed_graph_is_smaller_and_computes_the_same_up_to_the_scales_last_digits(model, frames, bits):
    graph = rounded(model, frames[:16], frames[16:], 7, bits).model
    small = packing.packed(graph)
    onnx.checker.check_model(small)
    wanted = outputs(graph, frames[16:])
    assert np.abs(outputs(small, frames[16:]) - wanted).max() <= 0.02 * np.abs(wanted).max()
    plain_bytes, packed_bytes = (len(onnx_file.tidy(each).SerializeToString()) for each in (graph, small))
    assert packed_bytes < plain_bytes * (0.97 if bits == 8 else 0.75)


def test_a_packed_graph_runs_as_int8_convolutions_after_loading(model, frames, tmp_path):
    import onnxruntime

    graph = packing.packed(rounded(model, frames[:16], frames[16:], 7, 4).model)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert operators.count("QLinearConv") == 2
    assert not {"Gather", "Div", "Mod", "Split", "Cast", "Conv"} & set(operators)


def test_an_odd_number_of_codes_is_packed_too(frames):
    torch.manual_seed(0)
    extractor = nn.Sequential(nn.Conv2d(1, 11, 3, stride=2), nn.ReLU(), nn.Conv2d(11, 13, 3, stride=2)).eval()
    graph = rounded(onnx_file.extractor_model(extractor, 1, 16), frames[:16], frames[16:], 7, 4).model
    assert (11 * 9 + 13 * 11 * 9) % 2 == 0
    graph_odd = rounded(onnx_file.extractor_model(extractor[:2], 1, 16), frames[:16], frames[16:], 7, 4).model
    for each in (graph, graph_odd):
        small = onnx_file.tidy(packing.packed(each))
        wanted = outputs(each, frames[16:])
        assert np.abs(outputs(small, frames[16:]) - wanted).max() <= 0.02 * np.abs(wanted).max()


def test_a_float_graph_is_packed_as_it_is(model):
    assert packing.packed(model) == model
