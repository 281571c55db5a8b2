from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from torch import nn

from fercompress.errors import ModelError, ShapeError
from fercompress.export import onnx_file, onnx_two_gemm, runtime
from fercompress.export.onnx_build import Builder
from fercompress.export.onnx_lstm import plan_of
from fercompress.export.onnx_train import matrices
from fercompress.tt.layers import TTLSTM
from fercompress.tt.plan import ONNXRUNTIME, Plan
from fercompress.tt.shape import TTShape, asymmetric, balanced

STEPS, INPUT, HIDDEN, CLASSES = 6, 48, 16, 5
BALANCED, ASYMMETRIC = balanced(64, 48, 3, cores=3), asymmetric(64, 48, 4, last=12)
HIDDEN_SHAPES = {"dense": None, "balanced": balanced(64, 16, 3, cores=3), "asymmetric": asymmetric(64, 16, 4)}
# What may be left to do for every clip once a file is loaded, per execution: nothing that only prepares weights.
RUN_TIME = {
    "dense": {"Reshape", "LSTM", "Squeeze", "Gemm"},
    "asymmetric": {"Reshape", "MatMul", "LSTM", "Squeeze", "Gemm"},
    "two-gemm": {"Transpose", "Reshape", "MatMul", "LSTM", "Squeeze", "Gemm"},
}
DIGITS = {"Abs", "ReduceMax", "Max", "Div", "QuantizeLinear", "DequantizeLinear", "Sub", "Concat"}


class Predictor(nn.Module):
    def __init__(self, lstm: nn.Module) -> None:
        super().__init__()
        self.lstm, self.classifier = lstm, nn.Linear(lstm.hidden_size, CLASSES)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.lstm(features)[0][:, -1])  # type: ignore[no-any-return]


class Everything(nn.Module):
    """Reads all hidden states, and both last states."""

    def __init__(self, lstm: nn.Module) -> None:
        super().__init__()
        self.lstm, self.head = lstm, nn.Linear(3 * lstm.hidden_size, CLASSES)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        states, (hidden, cell) = self.lstm(features)
        return self.head(torch.cat([states.mean(1), hidden[0], cell[0]], 1))  # type: ignore[no-any-return]


def _run(model: onnx.ModelProto, features: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(runtime.session(model.SerializeToString()).run(None, {"features": features.numpy()})[0])


def _layer(execution: str, hidden: str = "dense", **options: bool) -> TTLSTM:
    torch.manual_seed(0)
    return TTLSTM(INPUT, HIDDEN, ASYMMETRIC if execution == "asymmetric" else BALANCED, HIDDEN_SHAPES[hidden], batch_first=True, **options)


@pytest.mark.parametrize("opset", [11, 12, 13, 17])
@pytest.mark.parametrize("hidden", sorted(HIDDEN_SHAPES))
@pytest.mark.parametrize("execution", sorted(RUN_TIME))
def test_every_execution_layout_and_opset_equals_torch(execution: str, hidden: str, opset: int) -> None:
    predictor = Predictor(_layer(execution, hidden)).eval()
    model = onnx_file.predictor_model(predictor, STEPS, INPUT, execution=execution, opset=opset)
    onnx.checker.check_model(model, full_check=True)
    assert (model.opset_import[0].version, model.ir_version) == (opset, {11: 6, 12: 6, 13: 7, 17: 8}[opset])
    features = torch.randn(1, STEPS, INPUT)
    torch.testing.assert_close(_run(model, features), predictor(features).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [11, 12])
def test_old_opsets_hold_plain_operators_and_merged_matrices_only(opset: int) -> None:
    layer = _layer("dense", "balanced")
    layer.quantize_(kernel_bits=7)
    predictor = Predictor(layer).eval()
    model = onnx_file.predictor_model(predictor, STEPS, INPUT, opset=opset)
    assert {node.op_type for node in model.graph.node} <= RUN_TIME["dense"] | {"Pad", "Reshape"}
    assert not any(node.domain for node in model.graph.node)
    assert [1, 4 * HIDDEN, INPUT] in [list(tensor.dims) for tensor in model.graph.initializer]
    features = torch.randn(1, STEPS, INPUT)
    torch.testing.assert_close(_run(model, features), predictor(features).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [11, 12, 13, 17])
def test_an_extractor_equals_torch_at_every_opset(opset: int) -> None:
    torch.manual_seed(0)
    extractor = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1)).eval()
    model = onnx_file.extractor_model(extractor, 2, 16, opset=opset)
    frame = torch.randn(1, 2, 16, 16)
    found = runtime.session(model.SerializeToString()).run(None, {"frame": frame.numpy()})[0]
    np.testing.assert_allclose(found, extractor(frame).permute(0, 2, 3, 1).flatten(1).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert model.opset_import[0].version == opset


def test_an_opset_that_is_not_tested_is_refused() -> None:
    with pytest.raises(ModelError, match="opset 18 cannot be written: choose one from 11 to 17"):
        onnx_file.predictor_model(Predictor(_layer("dense")), STEPS, INPUT, opset=18)


@pytest.mark.parametrize("bits", [32, 8])
@pytest.mark.parametrize("execution", sorted(RUN_TIME))
def test_a_batch_gives_what_its_clips_give_alone(execution: str, bits: int) -> None:
    layer = _layer(execution)
    if bits == 8:
        layer.quantize_(kernel_bits=7)
    predictor = Predictor(layer).eval()
    features = torch.randn(3, STEPS, INPUT)
    found = _run(onnx_file.predictor_model(predictor, STEPS, INPUT, execution=execution, batch=3), features)
    # The int8 operator scales its input by the whole batch's range.
    torch.testing.assert_close(found, predictor(features).detach(), rtol=1e-5, atol=1e-5 if bits == 32 else 0.03)


@pytest.mark.parametrize("execution", sorted(RUN_TIME))
def test_all_states_come_out_of_every_execution(execution: str) -> None:
    predictor = Everything(_layer(execution)).eval()
    features = torch.randn(1, STEPS, INPUT)
    found = _run(onnx_file.predictor_model(predictor, STEPS, INPUT, execution=execution), features)
    torch.testing.assert_close(found, predictor(features).detach(), rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_cut_in_both_orders_projects_as_the_dense_matrix_does(data: st.DataObject) -> None:
    torch.manual_seed(0)
    cores = data.draw(st.integers(2, 4))
    factors = st.lists(st.integers(1, 4), min_size=cores, max_size=cores)
    outputs, inputs = data.draw(factors), data.draw(factors)
    outputs[data.draw(st.integers(0, cores - 1))] *= 4
    rank = data.draw(st.sampled_from([1, 2]))
    try:
        shape = TTShape.uniform(outputs, inputs, rank)
    except ShapeError:
        shape = TTShape.uniform(outputs, inputs, 1)
    layer = TTLSTM(shape.columns, shape.rows // 4, shape, None, bias=False)
    place = data.draw(st.integers(1, cores - 1))
    split = [candidate for candidate in Plan.of(shape, 6, costs=ONNXRUNTIME).candidates if candidate.cut == place]
    cuts = [onnx_two_gemm.Cut.of(shape, candidate) for candidate in split]
    assert {cut.right_first for cut in cuts} == {True, False}
    sequence = torch.randn(3, 2, shape.columns)
    i, f, g, o = (sequence @ layer.input.dense().detach().T).chunk(4, -1)
    for cut in cuts:
        build = Builder("t")
        matrix, _, _ = matrices(build, layer)
        merged = onnx_two_gemm.halves(build, matrix, cut)
        name = onnx_two_gemm.projected(build, "x", list(merged), cut, layer.hidden_size, matrix.ordered)
        ends = [helper.make_tensor_value_info(name, 1, size) for name, size in (("x", [3, 2, shape.columns]), (name, None))]
        graph = helper.make_graph(build.nodes, "g", ends[:1], ends[1:], build.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        found = runtime.session(model.SerializeToString()).run(None, {"x": sequence.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(found), torch.cat([i, o, f, g], -1), rtol=1e-4, atol=1e-5)


def test_the_plan_of_a_balanced_train_is_two_products_and_that_of_an_asymmetric_one_its_projection() -> None:
    for shape, wanted in ((balanced(1024, 4096, 4), "two-gemm"), (asymmetric(1024, 4096, 4, last=256), "asymmetric")):
        plan = plan_of(TTLSTM(4096, 256, shape, None), 16)
        assert plan is not None
        assert plan.execution == wanted
    assert plan_of(TTLSTM(64, 16, None, asymmetric(64, 16, 2)), 16) is None


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 2), st.floats(0.01, 30))
def test_int8_sums_keep_sixteen_bits(batch: int, spread: float) -> None:
    """One step from a zero state: the cell is a known function of the sums, and no product with hidden weights is in it."""
    torch.manual_seed(0)
    layer = _layer("two-gemm")
    layer.quantize_(kernel_bits=7)
    predictor = Everything(layer).eval()
    features = torch.randn(batch, 1, INPUT) * spread
    found = _run(onnx_file.predictor_model(predictor, 1, INPUT, execution="two-gemm", batch=batch), features)
    largest = float((features @ layer.input.dense().T).abs().max())
    torch.testing.assert_close(found, predictor(features).detach(), rtol=0, atol=2e-4 * max(1.0, largest))


@pytest.mark.parametrize("hidden", sorted(HIDDEN_SHAPES))
@pytest.mark.parametrize("execution", sorted(RUN_TIME))
@pytest.mark.parametrize("bits", [32, 8])
def test_nothing_but_run_time_operators_is_left_once_the_file_is_loaded(tmp_path: Path, execution: str, hidden: str, bits: int) -> None:
    layer = _layer(execution, hidden)
    if bits < 32:
        layer.quantize_(kernel_bits=7)
    model = onnx_file.predictor_model(Predictor(layer).eval(), STEPS, INPUT, execution=execution)
    kinds = _loaded(model, tmp_path)
    allowed = RUN_TIME[execution] | ({"DynamicQuantizeLSTM"} if bits < 32 else set()) | (DIGITS if bits < 32 and execution == "two-gemm" else set())
    assert set(kinds) <= allowed
    assert kinds.count("MatMul") == {"dense": 0, "asymmetric": 1, "two-gemm": 2}[execution]


def _loaded(model: onnx.ModelProto, folder: Path) -> list[str]:
    """The operators of the graph that onnxruntime really runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "loaded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "loaded.onnx").graph.node]


@pytest.mark.parametrize(
    ("shape", "execution", "message"),
    [
        (BALANCED, "asymmetric", "needs an asymmetric train, but the layer's input-to-hidden matrix is a train of outputs"),
        (
            None,
            "two-gemm",
            "needs a train without padding, of two cores at least, but the layer's input-to-hidden matrix is a dense matrix",
        ),
        (BALANCED, "fast", "no execution is called 'fast': choose one of dense, two-gemm, asymmetric"),
    ],
)
def test_an_execution_that_a_layer_does_not_allow_is_refused(shape: TTShape | None, execution: str, message: str) -> None:
    layer = TTLSTM(INPUT, HIDDEN, shape, HIDDEN_SHAPES["balanced"], batch_first=True)
    with pytest.raises(ModelError, match=message):
        onnx_file.predictor_model(Predictor(layer), STEPS, INPUT, execution=execution)


@pytest.mark.parametrize("hidden", sorted(HIDDEN_SHAPES))
@pytest.mark.parametrize("execution", sorted(RUN_TIME))
def test_four_bits_stay_close_to_torch_and_fold_completely(tmp_path: Path, execution: str, hidden: str) -> None:
    layer = _layer(execution, hidden)
    layer.quantize_(kernel_bits=7, bits=4)
    predictor = Predictor(layer).eval()
    model = onnx_file.predictor_model(predictor, STEPS, INPUT, execution=execution)
    features = torch.randn(1, STEPS, INPUT)
    torch.testing.assert_close(_run(model, features), predictor(features).detach(), rtol=0, atol=0.03)
    assert set(_loaded(model, tmp_path)) <= RUN_TIME[execution] | {"DynamicQuantizeLSTM"} | (DIGITS if execution == "two-gemm" else set())


@pytest.mark.parametrize(("features", "hidden"), [(74, 41), (101, 16), (96, 37)])
def test_a_padded_train_is_cropped_and_equals_torch(features: int, hidden: int) -> None:
    torch.manual_seed(0)
    shape = balanced(4 * hidden, features, 2, cores=3)
    assert shape.padding > 0
    predictor = Predictor(TTLSTM(features, hidden, shape, None, batch_first=True)).eval()
    clip = torch.randn(1, STEPS, features)
    torch.testing.assert_close(_run(onnx_file.predictor_model(predictor, STEPS, features), clip), predictor(clip).detach(), rtol=1e-5, atol=1e-5)
    with pytest.raises(ModelError, match="needs a train without padding"):
        onnx_file.predictor_model(predictor, STEPS, features, execution="two-gemm")
