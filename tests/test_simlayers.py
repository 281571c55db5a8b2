import numpy as np
import onnx
import pytest
import tiny_bundle
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fercompress.errors import BundleError
from fercompress.measure.simlayers import Layer, layers


def graph(nodes, inputs, outputs, weights):
    value = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in each] for each in (inputs, outputs)]
    tensors = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights]
    return helper.make_model(helper.make_graph(nodes, "g", *value, tensors), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def conv(weight, out, **attributes):
    return graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], **attributes)], [("x", [1, 4, 8, 8])], [("y", out)], [("w", weight)]
    )  # fmt: skip


def test_a_convolution_costs_what_its_loops_count():
    (layer,) = layers(conv([6, 4, 3, 3], [1, 6, 8, 8], pads=[1, 1, 1, 1]))
    assert layer == Layer("winograd", 6 * 8 * 8 * 4 * 9, 6 * 4 * 9, 4 * 64, 6 * 64)


def test_strided_one_by_one_and_depthwise_convolutions_are_told_apart():
    assert layers(conv([6, 4, 3, 3], [1, 6, 4, 4], pads=[1, 1, 1, 1], strides=[2, 2]))[0].kind == "dense"
    assert layers(conv([6, 4, 1, 1], [1, 6, 8, 8]))[0].kind == "dense"
    depthwise = layers(conv([4, 1, 3, 3], [1, 4, 8, 8], pads=[1, 1, 1, 1], group=4))[0]
    assert (depthwise.kind, depthwise.macs) == ("depthwise", 4 * 64 * 9)


@given(st.integers(1, 9), st.integers(1, 30), st.integers(1, 30))
def test_a_matrix_product_is_rows_times_shared_times_columns(rows, shared, columns):
    model = graph([helper.make_node("MatMul", ["x", "w"], ["y"])], [("x", [rows, shared])], [("y", [rows, columns])], [("w", [shared, columns])])
    (layer,) = layers(model)
    assert (layer.macs, layer.weights) == (rows * shared * columns, shared * columns)


def test_an_lstm_multiplies_four_gates_by_input_and_state_at_every_step():
    model = graph(
        [helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=5)],
        [("x", [7, 1, 3])], [("y", [7, 1, 1, 5])], [("w", [1, 20, 3]), ("r", [1, 20, 5])],
    )  # fmt: skip
    assert layers(model)[0].macs == 7 * 4 * 5 * (3 + 5)


def test_what_follows_from_constants_alone_is_free():
    model = graph(
        [helper.make_node("MatMul", ["a", "b"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", [1, 4])], [("y", [1, 6])], [("a", [4, 2]), ("b", [2, 6])],
    )  # fmt: skip
    assert [layer.macs for layer in layers(model)] == [24]


def test_a_shape_that_is_not_static_is_refused():
    model = graph([helper.make_node("MatMul", ["x", "w"], ["y"])], [("x", ["n", 4])], [("y", ["n", 6])], [("w", [4, 6])])
    with pytest.raises(BundleError, match="'x' is not static"):
        layers(model)


def test_a_bundles_graphs_are_read(tmp_path):
    bundle = tiny_bundle.write(tmp_path / "b")
    macs = [layer.macs for layer in layers(onnx.load(bundle.folder / "extractor.onnx"))]
    assert macs == [2 * tiny_bundle.SIDE**2 * tiny_bundle.FEATURES]
