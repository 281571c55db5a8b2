import copy

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from fercompress.compress import pruning
from fercompress.compress.lowrank import low_rank
from fercompress.compress.static import rounded
from fercompress.errors import ModelError
from fercompress.export import onnx_file
from fercompress.model import extractor as extractors
from fercompress.model.predictor import LstmPredictor
from fercompress.tt.layers import TTLSTM
from fercompress.tt.shape import asymmetric


@pytest.fixture
def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return extractors.small(1).eval(), LstmPredictor(4096, 8, 3)


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((16, 1, 64, 64)).astype(np.float32)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_rounded_low_rank_extractor_keeps_every_unit_and_drops_no_weight(networks, frames, bits):
    low = low_rank(networks[0], 2.0, torch.from_numpy(frames))
    plain = onnx_file.extractor_model(low, 1, 64)
    found = pruning.check(networks, (low, networks[1]), (plain, rounded(plain, frames[:8], frames[8:], 7, bits).model))
    assert found["units_dropped"] == found["weights_pruned"] == 0
    assert found["rounded_to_zero"] < (0.05 if bits == 8 else 0.3) * found["extractor_weights"]
    assert "predictor.lstm.weight_hh_l0" in found["matrices"]


def test_a_dropped_channel_is_found(networks):
    plain = onnx_file.extractor_model(networks[0], 1, 64)
    pruned = copy.deepcopy(networks[0])
    with torch.no_grad():
        pruned[1][0].weight[3] = 0
    with pytest.raises(ModelError, match="dropped 1 inputs or outputs and 0 weights"):
        pruning.check(networks, (pruned, networks[1]), (plain, plain))


def test_a_large_weight_that_is_stored_as_zero_is_found(networks, frames):
    plain = onnx_file.extractor_model(networks[0], 1, 64)
    graph = rounded(plain, frames[:8], frames[8:], 7).model
    for tensor in graph.graph.initializer:
        codes = numpy_helper.to_array(tensor)
        if codes.ndim == 4:
            cut = codes.copy()
            cut[0][np.abs(cut[0]) > 20] = 0
            tensor.CopyFrom(numpy_helper.from_array(cut, tensor.name))
    with pytest.raises(ModelError, match=r"0 inputs or outputs and [1-9]\d* weights"):
        pruning.check(networks, networks, (plain, graph))


def test_a_unit_dropped_from_a_layer_above_the_first_is_found(networks):
    teacher = nn.Sequential(nn.LSTM(48, 16, 2, batch_first=True))
    trains = [(asymmetric(64, size, 4), asymmetric(64, 16, 4)) for size in (48, 16)]
    variant = nn.Sequential(TTLSTM.from_dense(teacher[0], *trains[0], deeper=trains[1:]))
    plain = onnx_file.extractor_model(networks[0], 1, 64)
    found = pruning.check((networks[0], teacher), (networks[0], variant), (plain, plain))
    assert {f"predictor.0.weight_{part}_l{layer}" for part in ("ih", "hh") for layer in (0, 1)} <= set(found["matrices"])
    with torch.no_grad():
        variant[0].layers[1].input.values[0][:, 3] = 0
    with pytest.raises(ModelError, match=r"dropped [1-9]"):
        pruning.check((networks[0], teacher), (networks[0], variant), (plain, plain))
