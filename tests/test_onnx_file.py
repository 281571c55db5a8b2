import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fercompress.errors import ModelError
from fercompress.export import onnx_file, runtime
from fercompress.tt.layers import TTLSTM
from fercompress.tt.shape import TTShape, asymmetric, balanced

STEPS, INPUT, HIDDEN, CLASSES = 6, 48, 16, 5
LAYERS = {
    "dense": lambda: nn.LSTM(INPUT, HIDDEN, batch_first=True),
    "asymmetric": lambda: TTLSTM(INPUT, HIDDEN, asymmetric(64, 48, 4, last=12), asymmetric(64, 16, 4), batch_first=True),
    "balanced": lambda: TTLSTM(INPUT, HIDDEN, balanced(64, 48, 3, cores=3), balanced(64, 16, 3, cores=3), batch_first=True),
    "input only": lambda: TTLSTM(INPUT, HIDDEN, asymmetric(64, 48, 4, last=12), None, batch_first=True),
    "hidden only": lambda: TTLSTM(INPUT, HIDDEN, None, asymmetric(64, 16, 4), batch_first=True),
    "without bias": lambda: TTLSTM(INPUT, HIDDEN, asymmetric(64, 48, 4, last=12), None, bias=False, batch_first=True),
}


class Predictor(nn.Module):
    def __init__(self, lstm: nn.Module) -> None:
        super().__init__()
        self.lstm, self.classifier = lstm, nn.Linear(HIDDEN, CLASSES)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.lstm(features)[0][:, -1])  # type: ignore[no-any-return]


class UsesStates(nn.Module):
    """Time first, a learned initial state, and the last cell state beside the mean of all hidden states."""

    def __init__(self, lstm: nn.Module) -> None:
        super().__init__()
        self.lstm, self.start, self.head = lstm, nn.Parameter(torch.randn(1, 1, HIDDEN)), nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        states, (_, cell) = self.lstm(features.transpose(0, 1), (self.start, torch.tanh(self.start)))
        return self.head(torch.cat([states.mean(0), cell[0]], 1))  # type: ignore[no-any-return]


def _run(model: onnx.ModelProto, value: torch.Tensor) -> torch.Tensor:
    session = runtime.session(model.SerializeToString())
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: value.numpy()})[0])


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_the_engine_computes_what_torch_computes(kind: str) -> None:
    torch.manual_seed(0)
    predictor = Predictor(LAYERS[kind]()).eval()
    features = torch.randn(1, STEPS, INPUT)
    torch.testing.assert_close(_run(onnx_file.predictor_model(predictor, STEPS, INPUT), features), predictor(features).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(set(LAYERS) - {"dense"}))
def test_int8_cores_stay_close_to_torch(kind: str) -> None:
    torch.manual_seed(0)
    predictor = Predictor(LAYERS[kind]()).eval()
    predictor.lstm.quantize_(kernel_bits=7)  # exact on every CPU: full range saturates where there are no 8-bit dot products
    features = torch.randn(1, STEPS, INPUT)
    model = onnx_file.predictor_model(predictor, STEPS, INPUT)
    assert "DynamicQuantizeLSTM" in [node.op_type for node in model.graph.node]
    torch.testing.assert_close(_run(model, features), predictor(features).detach(), rtol=0, atol=0.03)


def test_a_users_own_predictor_with_states_and_time_first_is_exported_too() -> None:
    torch.manual_seed(0)
    predictor = UsesStates(TTLSTM(INPUT, HIDDEN, asymmetric(64, 48, 4, last=12), asymmetric(64, 16, 4))).eval()
    features = torch.randn(1, STEPS, INPUT)
    torch.testing.assert_close(_run(onnx_file.predictor_model(predictor, STEPS, INPUT), features), predictor(features).detach(), rtol=1e-5, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(2, 5), st.integers(1, 7), st.integers(1, 2), st.booleans())
def test_any_asymmetric_shape_is_exported_right(height: int, width: int, channels: int, hidden: int, rank: int, int8: bool) -> None:
    torch.manual_seed(0)
    size = height * width * channels
    lstm = TTLSTM(size, hidden, asymmetric(4 * hidden, size, rank, last=channels), None, batch_first=True)
    if int8:
        lstm.quantize_(kernel_bits=7)
    predictor = nn.Sequential(lstm, _Last(hidden)).eval()
    features = torch.randn(1, 3, size)
    torch.testing.assert_close(
        _run(onnx_file.predictor_model(predictor, 3, size), features), predictor(features).detach(), rtol=1e-5, atol=0.05 if int8 else 1e-5
    )


def _several(layers: int, **options: bool) -> TTLSTM:
    torch.manual_seed(0)
    deeper = [(balanced(64, 16, 3, cores=3), asymmetric(64, 16, 4)), (None, asymmetric(64, 16, 4))]
    return TTLSTM(INPUT, HIDDEN, asymmetric(64, 48, 4, last=12), None, deeper=deeper[: layers - 1], batch_first=True, **options)


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("layers", [2, 3])
def test_several_layers_compute_what_torch_computes(layers: int, batch: int, opset: int) -> None:
    predictor = Predictor(_several(layers)).eval()
    features = torch.randn(batch, STEPS, INPUT)
    for execution in (None, "asymmetric", "dense"):
        model = onnx_file.predictor_model(predictor, STEPS, INPUT, execution=execution, opset=opset, batch=batch)
        torch.testing.assert_close(_run(model, features), predictor(features).detach(), rtol=1e-5, atol=1e-5)


def test_several_layers_are_stored_as_their_cores_and_start_from_zeros_that_are_not_stored() -> None:
    predictor = Predictor(_several(3, bias=False)).eval()
    model = onnx_file.predictor_model(predictor, STEPS, INPUT)
    operators = [node for node in model.graph.node if node.op_type == "LSTM"]
    assert len(operators) == 3
    assert not any(name for node in operators for name in node.input[5:7])
    assert onnx_file.lstm_numbers(model) == predictor.lstm.stored_numbers


@pytest.mark.parametrize("bits", [8, 4])
def test_several_int8_layers_stay_close_to_torch(bits: int) -> None:
    predictor = Predictor(_several(2)).eval()
    predictor.lstm.quantize_(kernel_bits=7, bits=bits)
    features = torch.randn(1, STEPS, INPUT)
    model = onnx_file.predictor_model(predictor, STEPS, INPUT)
    assert [node.op_type for node in model.graph.node].count("DynamicQuantizeLSTM") == 2
    torch.testing.assert_close(_run(model, features), predictor(features).detach(), rtol=0, atol=0.03)


class _Ends(nn.Module):
    """Starts from learned states, and reads what the last step left in every layer, or in one."""

    def __init__(self, lstm: nn.Module, layer: int | None = None) -> None:
        super().__init__()
        self.lstm, self.layer, self.start = lstm, layer, nn.Parameter(torch.randn(2, 1, HIDDEN))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        _, (hidden, cell) = self.lstm(features, (self.start, torch.tanh(self.start)))
        ends = torch.cat([hidden, cell], 2)
        return ends.transpose(0, 1).flatten(1) if self.layer is None else ends[self.layer]


@pytest.mark.parametrize("layer", [None, 0, -1])
def test_states_of_several_layers_go_in_and_out_of_the_graph(layer: int | None) -> None:
    predictor = _Ends(_several(2), layer).eval()
    features = torch.randn(1, STEPS, INPUT)
    torch.testing.assert_close(_run(onnx_file.predictor_model(predictor, STEPS, INPUT), features), predictor(features).detach(), rtol=1e-5, atol=1e-5)


class _Last(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.head = nn.Linear(hidden, 2)

    def forward(self, result: tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        return self.head(result[0][:, -1])  # type: ignore[no-any-return]


@pytest.mark.parametrize("int8", [False, True])
def test_the_file_stores_the_cores_and_the_engine_merges_them_when_it_loads(tmp_path: Path, int8: bool) -> None:
    torch.manual_seed(0)
    predictor = Predictor(LAYERS["asymmetric"]()).eval()
    if int8:
        predictor.lstm.quantize_()
    model = onnx_file.predictor_model(predictor, STEPS, INPUT)
    sizes = [list(tensor.dims) for tensor in model.graph.initializer]
    assert [1, 64, INPUT] not in sizes
    assert [1, 64, HIDDEN] not in sizes
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    loaded = onnx.load(tmp_path / "loaded.onnx")
    kinds = {node.op_type for node in loaded.graph.node}
    assert not kinds & {"Cast", "Mul", "Div", "Round", "ReduceMax", "Pad"}
    lstm = next(node for node in loaded.graph.node if "LSTM" in node.op_type)
    constants = {tensor.name: tensor for tensor in loaded.graph.initializer}
    assert {lstm.input[1], lstm.input[2], lstm.input[3]} <= set(constants)
    assert list(constants[lstm.input[2]].dims) == ([1, HIDDEN, 64] if int8 else [1, 64, HIDDEN])


def test_every_stored_number_is_counted_once() -> None:
    predictor = Predictor(LAYERS["asymmetric"]())
    model = onnx_file.predictor_model(predictor, STEPS, INPUT)
    assert onnx_file.lstm_numbers(model) == predictor.lstm.stored_numbers
    assert onnx_file.stored_numbers(model) == predictor.lstm.stored_numbers + HIDDEN * CLASSES + CLASSES


def test_int8_cores_count_their_scales_and_the_kernels_range() -> None:
    predictor = Predictor(LAYERS["asymmetric"]())
    predictor.lstm.quantize_()
    # The largest code of the kernel, the smallest scale that a row of zeros may have, and the zero point.
    assert onnx_file.lstm_numbers(onnx_file.predictor_model(predictor, STEPS, INPUT)) == predictor.lstm.stored_numbers + 3


def test_a_row_of_zeros_survives_rounding() -> None:
    predictor = Predictor(LAYERS["input only"]()).eval()
    with torch.no_grad():
        predictor.lstm.hidden.values[0][3] = 0
    predictor.lstm.quantize_()
    features = torch.randn(1, STEPS, INPUT)
    found = _run(onnx_file.predictor_model(predictor, STEPS, INPUT), features)
    torch.testing.assert_close(found, predictor(features).detach(), rtol=0, atol=0.05)


def test_a_dense_lstm_counts_both_bias_vectors_and_stores_no_zero_states() -> None:
    model = onnx_file.predictor_model(Predictor(LAYERS["dense"]()), STEPS, INPUT)
    assert onnx_file.lstm_numbers(model) == 4 * HIDDEN * (INPUT + HIDDEN + 2)


def test_batch_norm_is_folded_and_features_come_channels_last() -> None:
    torch.manual_seed(0)
    extractor = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU()).eval()
    extractor[1].running_mean.uniform_(-1, 1)
    model = onnx_file.extractor_model(extractor, 1, 8)
    frame = torch.randn(1, 1, 8, 8)
    wanted = extractor(frame).permute(0, 2, 3, 1).reshape(1, -1).detach()
    torch.testing.assert_close(_run(model, frame), wanted, rtol=1e-5, atol=1e-5)
    assert onnx_file.stored_numbers(model) == 27 + 3
    assert [tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in (*model.graph.input, *model.graph.output)] == [
        (1, 1, 8, 8),
        (1, 48),
    ]


def test_the_graph_key_ignores_numbers_and_sees_shapes() -> None:
    def key(rank: int, seed: int) -> str:
        torch.manual_seed(seed)
        lstm = TTLSTM(INPUT, HIDDEN, asymmetric(64, 48, rank, last=12), None, batch_first=True)
        return onnx_file.graph_sha256(onnx_file.predictor_model(Predictor(lstm), STEPS, INPUT))

    assert key(4, 0) == key(4, 1) != key(3, 0)


def test_equal_weights_give_equal_bytes_in_another_process() -> None:
    code = (
        "import hashlib, torch; from torch import nn; from fercompress.export import onnx_file; torch.manual_seed(0)\n"
        "model = onnx_file.extractor_model(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)), 1, 8)\n"
        "print(hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


def test_a_predictor_that_calls_its_lstm_twice_is_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = TTLSTM(4, 4, TTShape.uniform((4, 4), (2, 2), 2), None, batch_first=True), nn.Linear(4, 2)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return self.head(self.lstm(self.lstm(features)[0])[0][:, -1])  # type: ignore[no-any-return]

    with pytest.raises(ModelError, match="calls its LSTM 2 times"):
        onnx_file.predictor_model(Twice(), 3, 4)


def test_the_checker_accepts_what_is_written_and_nothing_unneeded_is_in_it() -> None:
    model = onnx_file.predictor_model(Predictor(LAYERS["asymmetric"]()), STEPS, INPUT)
    onnx.checker.check_model(model, full_check=True)
    assert not model.producer_name
    assert not model.metadata_props
    assert not any(node.doc_string or node.name for node in model.graph.node)
    assert model.opset_import[0].version == 17


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_the_frames_of_one_clip_are_put_in_order_without_a_copy(kind: str) -> None:
    torch.manual_seed(0)
    predictor = Predictor(LAYERS[kind]()).eval()
    model = onnx_file.predictor_model(predictor, STEPS, INPUT)
    assert not any(node.op_type == "Transpose" and "features" in node.input for node in model.graph.node)
    features = torch.randn(1, STEPS, INPUT)
    torch.testing.assert_close(_run(model, features), predictor(features).detach(), rtol=1e-4, atol=1e-5)


def test_of_several_clips_the_projections_are_put_in_order_not_the_features() -> None:
    torch.manual_seed(0)
    predictor = Predictor(LAYERS["asymmetric"]()).eval()
    model = onnx_file.predictor_model(predictor, STEPS, INPUT, execution="asymmetric", batch=3)
    assert not any(node.op_type == "Transpose" and "features" in node.input for node in model.graph.node)
    features = torch.randn(3, STEPS, INPUT)
    torch.testing.assert_close(_run(model, features), predictor(features).detach(), rtol=1e-4, atol=1e-5)


def test_exporting_leaves_the_module_as_it_was() -> None:
    predictor = Predictor(LAYERS["asymmetric"]()).train()
    before = {name: value.clone() for name, value in predictor.state_dict().items()}
    onnx_file.predictor_model(predictor, STEPS, INPUT)
    assert predictor.training
    assert isinstance(predictor.lstm, TTLSTM)
    assert all(torch.equal(before[name], value) for name, value in predictor.state_dict().items())


def test_numbers_of_a_shape_are_not_counted() -> None:
    node = onnx.helper.make_node("Reshape", ["x", "s"], ["y"])
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, [4])], [value("y", 1, [2, 2])], [onnx.numpy_helper.from_array(np.array([2, 2]), "s")])
    assert onnx_file.stored_numbers(onnx.helper.make_model(graph)) == 0
