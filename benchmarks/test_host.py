"""Host micro-benchmarks: what a person waits for on the machine that compresses. Models are timed by the agent alone, never here."""

import numpy as np
import pytest
import torch

from fercompress.data import synthetic
from fercompress.dataconfig import SyntheticData
from fercompress.tt import shape as tt_shape
from fercompress.tt.cores import to_dense
from fercompress.tt.decompose import tt_svd
from fercompress.tt.layers import TTLSTM


@pytest.mark.parametrize("backend", ["gram", "tensorly"])
def test_tt_svd_of_an_input_to_hidden_matrix(benchmark, backend):
    weight = torch.randn(1024, 512, generator=torch.Generator().manual_seed(0))
    cores = benchmark(tt_svd, weight, tt_shape.asymmetric(1024, 512, 4), backend)
    assert to_dense(cores).shape == weight.shape


@pytest.mark.parametrize("form", ["dense", "asymmetric", "balanced"])
def test_a_training_step_of_an_lstm_layer(benchmark, form):
    torch.manual_seed(0)
    sequence = torch.randn(32, 16, 2048)
    shapes = {"asymmetric": tt_shape.asymmetric, "balanced": tt_shape.balanced}
    layer = torch.nn.LSTM(2048, 128, batch_first=True)
    if form != "dense":
        layer = TTLSTM(2048, 128, shapes[form](512, 2048, 4), shapes[form](512, 128, 4), batch_first=True)

    def step():
        layer.zero_grad()
        layer(sequence)[0].sum().backward()

    benchmark(step)
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())


def test_rendering_a_clip(benchmark):
    frames = benchmark(synthetic.render, SyntheticData(name="synthetic"), 0, 0, 0, 0)
    assert frames.dtype == np.uint8
