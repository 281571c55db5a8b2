import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fercompress.compress.quantize import kernel_bits, predictor_rewrite, rounded_cores, this_cpu_bits
from fercompress.export import onnx_file, runtime
from fercompress.tt.layers import TTLSTM
from fercompress.tt.shape import asymmetric


class Predictor(nn.Module):
    def __init__(self, lstm: nn.Module) -> None:
        super().__init__()
        self.lstm, self.classifier = lstm, nn.Linear(32, 7)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.lstm(features)[0][:, -1])  # type: ignore[no-any-return]


def _run(model: onnx.ModelProto, value: np.ndarray) -> np.ndarray:
    session = runtime.session(model.SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: value})[0]


@pytest.mark.parametrize(
    ("cpuinfo", "bits"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni", 8),
        ("flags : fpu avx2 avx_vnni", 8),
        ("Features\t: fp asimd asimddp", 8),
        ("flags\t\t: fpu avx2", 7),
        ("model name\t: avx_vnni", 7),
        ("", 7),
    ],
)
def test_full_range_only_where_the_cpu_has_exact_int8_products(cpuinfo: str, bits: int) -> None:
    assert kernel_bits(cpuinfo) == bits


@given(st.text())
def test_any_cpuinfo_gives_seven_or_eight(cpuinfo: str) -> None:
    assert kernel_bits(cpuinfo) in (7, 8)


def test_nothing_is_written_to_standard_output_or_error(capfd: pytest.CaptureFixture[str]) -> None:
    predictor_rewrite(8)(onnx_file.predictor_model(Predictor(nn.LSTM(48, 32, batch_first=True)), 5, 48))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_dense_lstm_becomes_the_int8_operator() -> None:
    torch.manual_seed(0)
    model = onnx_file.predictor_model(Predictor(nn.LSTM(48, 32, batch_first=True)), 5, 48)
    rounded = onnx_file.tidy(predictor_rewrite(this_cpu_bits())(model))
    assert "DynamicQuantizeLSTM" in [node.op_type for node in rounded.graph.node]
    features = np.random.default_rng(0).standard_normal((1, 5, 48)).astype(np.float32)
    assert np.abs(_run(rounded, features) - _run(model, features)).max() < 0.03
    assert len(rounded.SerializeToString()) < 0.45 * len(model.SerializeToString())


def test_rounded_cores_are_a_copy_and_a_dense_predictor_stays_itself() -> None:
    predictor = Predictor(TTLSTM(48, 32, asymmetric(128, 48, 4, last=12), asymmetric(128, 32, 4), batch_first=True))
    rounded = rounded_cores(predictor, 7)
    assert isinstance(rounded.lstm, TTLSTM)
    assert isinstance(predictor.lstm, TTLSTM)
    assert rounded.lstm.quantized
    assert rounded.lstm.kernel_bits == 7
    assert not predictor.lstm.quantized
    dense = Predictor(nn.LSTM(48, 32))
    assert rounded_cores(dense, 8) is dense
