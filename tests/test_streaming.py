from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fercompress.compress.quantize import predictor_rewrite
from fercompress.errors import BundleError, ModelError
from fercompress.export import bundle, onnx_file
from fercompress.export.runtime import Runner
from fercompress.export.streaming import steps, streaming
from fercompress.records import Bundle, Preprocess
from fercompress.tt.layers import TTLSTM
from fercompress.tt.shape import asymmetric, balanced

STEPS, INPUT, HIDDEN, CLASSES = 6, 48, 16, 5
EXECUTIONS = ("dense", "asymmetric", "two-gemm")


class Predictor(nn.Module):
    def __init__(self, lstm: nn.Module, read: str = "last") -> None:
        super().__init__()
        self.lstm, self.classifier, self.read = lstm, nn.Linear(HIDDEN, CLASSES), read
        self.start = nn.Parameter(torch.ones(1, 1, HIDDEN))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.read == "start":
            return self.classifier(self.lstm(features, (self.start, self.start))[0][:, -1])  # type: ignore[no-any-return]
        if self.read == "features":
            return self.classifier(self.lstm(features)[0][:, -1] + features.mean(1)[:, :HIDDEN])  # type: ignore[no-any-return]
        states = self.lstm(features)[0]
        return self.classifier(states[:, -1] if self.read == "last" else states.mean(1))  # type: ignore[no-any-return]


def _predictor(execution: str, bits: int = 32) -> nn.Module:
    torch.manual_seed(0)
    shape = asymmetric(64, 48, 4, last=12) if execution == "asymmetric" else balanced(64, 48, 3, cores=3)
    layer = TTLSTM(INPUT, HIDDEN, shape, None, batch_first=True)
    if bits < 32:
        layer.quantize_(kernel_bits=7)
    return Predictor(layer).eval()


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_the_carried_state_gives_the_clips_logits_after_every_step(execution: str, opset: int) -> None:
    predictor = _predictor(execution)
    step = streaming(onnx_file.predictor_model(predictor, STEPS, INPUT, execution=execution, opset=opset))
    onnx.checker.check_model(step, full_check=True)
    features = torch.randn(STEPS, INPUT)
    wanted = torch.cat([predictor(features[None, : t + 1]) for t in range(STEPS)]).detach().numpy()
    np.testing.assert_allclose(steps(step, features.numpy()), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_int8_steps_stay_close_to_torch(execution: str) -> None:
    predictor = _predictor(execution, 8)
    step = streaming(onnx_file.predictor_model(predictor, STEPS, INPUT, execution=execution))
    assert "DynamicQuantizeLSTM" in [node.op_type for node in step.graph.node]
    features = torch.randn(STEPS, INPUT)
    wanted = predictor(features[None]).detach()[0].softmax(0)
    # The input is rounded by the range of one step instead of all.
    np.testing.assert_allclose(torch.tensor(steps(step, features.numpy())[-1]).softmax(0).numpy(), wanted.numpy(), rtol=0, atol=0.01)


@pytest.mark.parametrize("int8", [False, True])
def test_a_dense_lstm_streams_too(int8: bool) -> None:
    torch.manual_seed(0)
    predictor = Predictor(nn.LSTM(INPUT, HIDDEN, batch_first=True)).eval()
    model = onnx_file.predictor_model(predictor, STEPS, INPUT)
    step = streaming(predictor_rewrite(7)(model) if int8 else model)
    features = torch.randn(STEPS, INPUT)
    np.testing.assert_allclose(steps(step, features.numpy())[-1], predictor(features[None]).detach().numpy()[0], rtol=0, atol=0.02 if int8 else 1e-6)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 12))
def test_a_stream_may_be_longer_or_shorter_than_the_clips(length: int) -> None:
    predictor = _predictor("two-gemm")
    step = streaming(onnx_file.predictor_model(predictor, STEPS, INPUT, execution="two-gemm"))
    features = torch.randn(length, INPUT)
    np.testing.assert_allclose(steps(step, features.numpy())[-1], predictor(features[None]).detach().numpy()[0], rtol=1e-6, atol=1e-6)


def test_the_ends_of_the_step_graph_are_named_and_the_clip_graph_is_left_alone() -> None:
    clip = onnx_file.predictor_model(_predictor("two-gemm"), STEPS, INPUT, execution="two-gemm")
    before = clip.SerializeToString(deterministic=True)
    step = streaming(clip)
    assert clip.SerializeToString(deterministic=True) == before
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (*step.graph.input, *step.graph.output)}
    state = [1, 1, HIDDEN]
    assert shapes == {"features": [1, 1, INPUT], "hidden": state, "cell": state, "logits": [1, CLASSES], "next_hidden": state, "next_cell": state}


@pytest.mark.parametrize(
    ("read", "message"),
    [
        ("all", "reads the hidden states of all steps: only a head on the last state"),
        ("start", "starts from a state of its own"),
        ("features", "looks at time outside its LSTM"),
    ],
)
def test_a_predictor_that_cannot_be_run_step_by_step_is_refused(read: str, message: str) -> None:
    torch.manual_seed(0)
    model = onnx_file.predictor_model(Predictor(nn.LSTM(INPUT, HIDDEN, batch_first=True), read).eval(), STEPS, INPUT)
    with pytest.raises(ModelError, match=message):
        streaming(model)


def test_a_batch_two_directions_and_two_lstms_are_refused() -> None:
    torch.manual_seed(0)
    one = Predictor(nn.LSTM(INPUT, HIDDEN, batch_first=True)).eval()
    with pytest.raises(ModelError, match="export it with batch=1"):
        streaming(onnx_file.predictor_model(one, STEPS, INPUT, batch=2))
    both = Predictor(nn.LSTM(INPUT, HIDDEN // 2, batch_first=True, bidirectional=True)).eval()
    with pytest.raises(ModelError, match="reads its clip backwards"):
        streaming(onnx_file.predictor_model(both, STEPS, INPUT))
    deep = Predictor(nn.LSTM(INPUT, HIDDEN, num_layers=2, batch_first=True)).eval()
    with pytest.raises(ModelError, match="has exactly one LSTM, this one has 2"):
        streaming(onnx_file.predictor_model(deep, STEPS, INPUT))
    trains = Predictor(TTLSTM(INPUT, HIDDEN, None, None, deeper=[(None, asymmetric(64, 16, 4))], batch_first=True)).eval()
    with pytest.raises(ModelError, match="exactly one LSTM, this one has 2"):
        streaming(onnx_file.predictor_model(trains, STEPS, INPUT))


CLIP = np.random.default_rng(0).integers(0, 256, (4, 16, 16), dtype=np.uint8)


def _bundle(folder: Path) -> Bundle:
    torch.manual_seed(0)
    extractor = nn.Sequential(nn.Conv2d(2, 12, 3, stride=2, padding=1), nn.ReLU(), nn.AvgPool2d(4)).eval()
    inputs = bundle.Inputs(Preprocess(0.5, 0.25, difference=True), frames=4, size=16, classes=("a", "b", "c", "d", "e"))
    predictor = _predictor("asymmetric")
    size = bundle.DenseSize.of(extractor, predictor, inputs)
    return bundle.write(folder, "tt", extractor, predictor, inputs, size, CLIP[None], recipe=[], way="from scratch")


def test_pushed_frames_give_the_clips_probabilities_again_after_a_reset(tmp_path: Path) -> None:
    runner = Runner(_bundle(tmp_path))
    stream = runner.stream()
    wanted = runner.predict(CLIP[None])[0]
    for _ in range(2):
        found = [stream.push(frame) for frame in CLIP]
        np.testing.assert_allclose(found[-1], wanted, rtol=1e-5, atol=1e-6)
        assert (found[0].shape, found[0].dtype) == ((5,), np.float32)
        stream.reset()
    assert np.abs(stream.push(CLIP[-1]) - wanted).max() > 1e-4  # a new clip, whose first frame is another


def test_a_frame_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"a stream takes uint8 frames \(16, 16\), got uint8 \(8, 16\)"):
        Runner(_bundle(tmp_path)).stream().push(np.zeros((8, 16), np.uint8))
