import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fercompress.errors import BundleError, InputError
from fercompress.export import bundle
from fercompress.export.rknn_file import Converted
from fercompress.export.runtime import Runner
from fercompress.records import Bundle, Preprocess
from fercompress.tt.layers import TTLSTM
from fercompress.tt.shape import asymmetric

CLIPS = np.random.default_rng(0).integers(0, 256, (3, 4, 16, 16), dtype=np.uint8)
INPUTS = bundle.Inputs(Preprocess(0.5, 0.25, difference=True), frames=4, size=16, classes=("a", "b", "c"))


class Predictor(nn.Module):
    def __init__(self, lstm: nn.Module) -> None:
        super().__init__()
        self.lstm, self.classifier = lstm, nn.Linear(8, 3)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.lstm(features)[0][:, -1])  # type: ignore[no-any-return]


def _networks(seed: int = 0) -> tuple[nn.Module, nn.Module, nn.Module]:
    torch.manual_seed(seed)
    extractor = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU(), nn.AvgPool2d(4)).eval()
    dense = Predictor(nn.LSTM(16, 8, batch_first=True)).eval()
    train = Predictor(TTLSTM(16, 8, asymmetric(32, 16, 2, last=4), asymmetric(32, 8, 2), batch_first=True)).eval()
    return extractor, dense, train


def _write(root: Path, seed: int = 0, **changes: Any) -> Bundle:
    extractor, dense, train = _networks(seed)
    size = bundle.DenseSize.of(extractor, dense, INPUTS)
    arguments = {"recipe": [{"step": "tensor-train", "rank": 2}], "way": "from scratch", **changes}
    return bundle.write(root, "tt-r2", extractor, train, INPUTS, size, CLIPS, **arguments)


def test_what_is_written_is_loaded_again(tmp_path: Path) -> None:
    made = _write(tmp_path)
    assert bundle.load(made.folder) == made
    assert sorted(path.name for path in made.folder.iterdir()) == ["extractor.onnx", "manifest.json", "predictor.onnx"]
    assert made.folder.name == f"tt-r2-{made.sha256[:12]}"


def test_sizes_equal_the_files_to_the_byte_and_parameters_the_layers(tmp_path: Path) -> None:
    made = _write(tmp_path)
    assert made.size.bytes_extractor == (made.folder / "extractor.onnx").stat().st_size
    assert made.size.bytes_predictor == (made.folder / "predictor.onnx").stat().st_size
    extractor, _, train = _networks()
    assert made.size.params_lstm == train.lstm.stored_numbers
    assert made.size.params_tt == train.lstm.stored_numbers - 32
    assert made.size.params_tt_dense == 32 * 16 + 32 * 8
    assert made.size.params_lstm_dense == 32 * (16 + 8 + 2)
    assert made.size.params_extractor == sum(parameter.numel() for parameter in extractor.parameters())
    assert made.size.params_model == made.size.params_extractor + made.size.params_lstm + 8 * 3 + 3
    assert made.size.params_model_dense == made.size.params_extractor + made.size.params_lstm_dense + 8 * 3 + 3


def test_the_manifest_tells_shapes_agreement_and_layers(tmp_path: Path) -> None:
    manifest = json.loads((_write(tmp_path).folder / "manifest.json").read_text())
    assert manifest["extractor"]["input"] == {"name": "frame", "shape": [1, 2, 16, 16], "dtype": "float32"}
    assert manifest["predictor"]["input"]["shape"] == [1, 4, 16]
    assert manifest["predictor"]["output"] == {"name": "logits", "shape": [1, 3], "dtype": "float32"}
    assert manifest["agreement"]["clips"] == 3
    assert 0 < manifest["agreement"]["extractor_max_abs"] + manifest["agreement"]["predictor_max_abs"] < 1e-4
    assert manifest["layers"][0]["name"] == "lstm"
    layer = manifest["layers"][0]
    assert layer["input"]["storage"] == "asymmetric tensor train, float32 cores"
    # Stored as a train, run merged: a matrix of 32 x 16 is not worth two products.
    assert layer["execution"] == min(layer["plan_us"], key=layer["plan_us"].get) == "dense"


def test_the_manifest_has_a_row_for_every_layer_of_a_deep_lstm(tmp_path: Path) -> None:
    extractor, dense, _ = _networks()
    lstm = TTLSTM(16, 8, asymmetric(32, 16, 2, last=4), None, deeper=[(asymmetric(32, 8, 2), None)], batch_first=True)
    with torch.no_grad():
        lstm.layers[1].bias += 1  # biases that are equal are stored once
    size = bundle.DenseSize.of(extractor, dense, INPUTS)
    made = bundle.write(tmp_path, "deep", extractor, Predictor(lstm).eval(), INPUTS, size, CLIPS, recipe=[], way="from scratch")
    rows = json.loads((made.folder / "manifest.json").read_text())["layers"]
    assert [row["name"] for row in rows] == ["lstm", "lstm.deeper.0"]
    assert sum(row["stored_numbers"] for row in rows) == made.size.params_lstm == lstm.stored_numbers


def test_predictions_are_torchs_probabilities(tmp_path: Path) -> None:
    made = _write(tmp_path)
    extractor, _, train = _networks()
    with torch.no_grad():
        pixels = torch.from_numpy(INPUTS.preprocess(CLIPS))
        features = torch.stack([extractor(clip).permute(0, 2, 3, 1).flatten(1) for clip in pixels])
        wanted = train(features).softmax(1)
    found = Runner(made).predict(CLIPS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)
    assert Runner(made).predict(CLIPS[:0]).shape == (0, 3)


def test_clips_of_another_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"expects uint8 clips \(N, 4, 16, 16\), got uint8 \(3, 3, 16, 16\)"):
        Runner(_write(tmp_path)).predict(CLIPS[:, :3])


def test_the_graph_key_is_shared_by_seeds_and_differs_between_recipes(tmp_path: Path) -> None:
    first, second = _write(tmp_path, seed=0), _write(tmp_path, seed=1)
    assert first.graph_key == second.graph_key
    assert first.sha256 != second.sha256
    assert _write(tmp_path, recipe=[]).graph_key != first.graph_key


def test_the_same_content_is_written_once(tmp_path: Path) -> None:
    first = _write(tmp_path)
    before = (first.folder / "predictor.onnx").stat().st_mtime_ns
    assert _write(tmp_path) == first
    assert (first.folder / "predictor.onnx").stat().st_mtime_ns == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["extractor.onnx", "predictor.onnx"])
def test_a_changed_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    made = _write(tmp_path)
    path = made.folder / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name}: sha256 is .* it changed; delete .* and run"):
        bundle.load(made.folder)


def test_a_missing_file_or_manifest_is_refused_by_name(tmp_path: Path) -> None:
    made = _write(tmp_path)
    (made.folder / "predictor.onnx").unlink()
    with pytest.raises(BundleError, match=r"predictor.onnx: cannot be read"):
        bundle.load(made.folder)
    with pytest.raises(BundleError, match=r"manifest.json: cannot be read"):
        bundle.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"), [("{", "not a bundle's manifest"), ("{}", "not a bundle's manifest"), ("[]", "not a bundle's manifest")]
)
def test_a_broken_manifest_is_refused(tmp_path: Path, content: str, message: str) -> None:
    made = _write(tmp_path)
    (made.folder / "manifest.json").write_text(content)
    with pytest.raises(BundleError, match=message):
        bundle.load(made.folder)


def test_a_manifest_newer_than_this_version_names_the_remedy(tmp_path: Path) -> None:
    made = _write(tmp_path)
    manifest = {**made.manifest, "schema": 99}
    (made.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="schema 99, but this version reads 1; upgrade fercompress"):
        bundle.load(made.folder)


def test_a_folder_that_cannot_be_made_is_refused_and_nothing_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot be written"):
        _write(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_same_weights_give_the_same_folder_wherever_it_lies(tmp_path: Path) -> None:
    assert _write(tmp_path / "one").sha256 == _write(tmp_path / "two").sha256


def test_a_bundle_for_the_npu_holds_the_converted_file_and_says_how_its_frames_lie(tmp_path: Path) -> None:
    file = tmp_path / "made.rknn"
    file.write_bytes(b"as converted")
    npu = Converted(file, "float32", "rknn-toolkit 1.7.5", tmp_path / "log", 11)
    made = _write(tmp_path, engine="rknnlite+onnxruntime", npu=npu)
    assert bundle.load(made.folder) == made
    assert sorted(path.name for path in made.folder.iterdir()) == ["extractor.rknn", "manifest.json", "predictor.onnx"]
    assert (made.folder / "extractor.rknn").read_bytes() == b"as converted"
    assert made.size.bytes_extractor == len(b"as converted")
    assert made.size.params_extractor == _write(tmp_path).size.params_extractor
    extractor = made.manifest["extractor"]
    assert (extractor["engine"], extractor["file"]) == ("rknnlite", "extractor.rknn")
    assert extractor["input"] == {"name": "frame", "shape": [1, 2, 16, 16], "dtype": "float32", "layout": "nhwc"}
    assert made.manifest["made_with"]["converter"] == "rknn-toolkit 1.7.5"
    assert (extractor["opset"], made.manifest["opset"]) == (11, onnx.load(made.folder / "predictor.onnx").opset_import[0].version)
    without_graph = _write(tmp_path, engine="rknnlite+numpy", npu=npu).manifest
    assert (without_graph["extractor"]["opset"], without_graph["opset"]) == (11, 11), "no file there is of another"
    for engine, given, words in (("onnxruntime", npu, "cannot run"), ("rknn+numpy", None, "needs")):
        with pytest.raises(InputError, match=words):
            _write(tmp_path, engine=engine, npu=given)
