import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn
from onnx import helper, numpy_helper

from fercompress.errors import ShapeError
from fercompress.export import runtime
from fercompress.export.onnx_build import Builder
from fercompress.export.onnx_pack import Coded, coded_columns, matrices_packed, packed
from fercompress.export.onnx_tidy import tidy


def _values(build: Builder, names: list[str]) -> list[np.ndarray]:
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names]
    graph = helper.make_graph(build.nodes, "g", [], outputs, build.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", build.opset)], ir_version=6)
    return list(runtime.session(model.SerializeToString()).run(names, {}))


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from([4, 8]), st.sampled_from([11, 12, 13, 17]))
def test_what_is_decoded_is_codes_times_scales_at_every_opset(data: st.DataObject, bits: int, opset: int) -> None:
    largest = 7 if bits == 4 else 127
    weights = []
    for _ in range(data.draw(st.integers(1, 3))):
        shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
        codes = data.draw(hn.arrays(np.int8, shape, elements=st.integers(-largest, largest)))
        scales = data.draw(hn.arrays(np.float16, shape[data.draw(st.integers(0, len(shape) - 1)) :], elements=st.floats(0, 2, width=16)))
        weights.append(Coded(codes, scales))
    vector = data.draw(hn.arrays(np.float16, 3, elements=st.floats(-2, 2, width=16)))
    build = Builder("t", opset)
    values, vectors = packed(build, weights, bits, [vector])
    found = _values(build, values + vectors)
    for weight, value in zip(weights, found, strict=False):
        np.testing.assert_array_equal(value, weight.codes.astype(np.float32) * weight.scales.astype(np.float32))
    np.testing.assert_array_equal(found[-1], vector.astype(np.float32))


def test_two_codes_of_four_bits_share_a_byte() -> None:
    build = Builder("t")
    packed(build, [Coded(np.arange(-7, 8, dtype=np.int8), np.ones(15, np.float16))], 4)
    stored = [numpy_helper.to_array(tensor) for tensor in build.initializers if tensor.data_type == onnx.TensorProto.UINT8]
    # By hand: codes + 8, the first half in the high digits; the sixteenth code is a zero that fills the last byte.
    assert [array.tolist() for array in stored] == [[0x19, 0x2A, 0x3B, 0x4C, 0x5D, 0x6E, 0x7F, 0x88]]


def test_codes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="codes of 4 bits lie between -7 and 7, but one is 9"):
        packed(Builder("t"), [Coded(np.array([9], np.int8), np.ones(1, np.float16))], 4)
    with pytest.raises(ShapeError, match=r"scales of shape \(2,\) must have the last axes of the codes, whose shape is \(2, 3\)"):
        Coded(np.zeros((2, 3), np.int8), np.zeros(2, np.float16))


@pytest.mark.parametrize(("bits", "steps"), [(8, 127), (4, 7)])
def test_a_column_is_off_by_half_a_step_at_most(bits: int, steps: int) -> None:
    matrix = np.random.default_rng(0).standard_normal((96, 5)).astype(np.float32)
    code = coded_columns(matrix, bits)
    decoded = (code.codes * code.scales.astype(np.float32)).reshape(matrix.shape)
    # Half a step of the largest number; scales are one part in 1000 larger, and float16.
    assert np.all(np.abs(decoded - matrix) <= np.abs(matrix).max(axis=0) / steps * 0.5 * 1.002)
    assert code.scales.shape == ((5,) if bits == 8 else (3, 5))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("bits", "bytes_per_number"), [(8, 1), (4, 0.5)])
def test_matrices_of_a_graph_are_packed_and_small_ones_stay(transposed: bool, bits: int, bytes_per_number: float) -> None:
    rng = np.random.default_rng(0)
    large, small = rng.standard_normal((64, 32)).astype(np.float32), rng.standard_normal((32, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "large"], ["y"], **({"transB": 1} if transposed else {})),
        helper.make_node("MatMul", ["y", "small"], ["z"]),
    ]
    value = helper.make_tensor_value_info
    constants = [numpy_helper.from_array(np.ascontiguousarray(large.T if transposed else large), "large"), numpy_helper.from_array(small, "small")]
    graph = helper.make_graph(nodes, "g", [value("x", 1, [1, 64])], [value("z", 1, [1, 4])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    rounded = tidy(matrices_packed(model, bits))
    code = coded_columns(large, bits)
    x = rng.standard_normal((1, 64)).astype(np.float32)
    found = runtime.session(rounded.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(found, x @ (code.codes * code.scales.astype(np.float32)).reshape(64, 32) @ small, rtol=1e-4, atol=1e-4)
    assert model.graph.initializer[0].dims == ([32, 64] if transposed else [64, 32])
    # 512 bytes for the small matrix; scales of 2 bytes; less than 500 bytes of graph.
    assert rounded.ByteSize() < 64 * 32 * bytes_per_number + code.scales.nbytes + small.nbytes + 500
