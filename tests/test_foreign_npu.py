"""A product's own .rknn extractor becomes a bundle for the NPU, run here by a stand-in for the board's runtime; no board is in it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import foreign_models as models
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from foreign_models import SIDE, D, T

import fercompress
from fercompress import cli
from fercompress.errors import BundleError, InputError
from fercompress.export import foreign_npu
from fercompress.export.foreign_axes import Wishes
from fercompress.export.foreign_npu import Npu

CLIPS = np.random.default_rng(3).integers(0, 256, (2, T, SIDE, SIDE), dtype=np.uint8)


def converted(path: Path, channels: int, *, normalises: bool) -> Path:
    """A stand-in's file of `models.extractor`; normalises: mean and std are in it, as for pixels."""
    graph = onnx.load(models.extractor(path.with_suffix(".onnx"), (1, channels, SIDE, SIDE), channels))
    head = {"mean": [[0.0] * channels], "std": [[255.0 if normalises else 1.0] * channels]}
    path.write_bytes(importlib.import_module("fake_npu").pack(graph, head))
    return path


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (3, "uint8"), (1, "float32"), (2, "float32"), (3, "float32")])
def test_an_imported_npu_file_gives_what_numpy_gives(tmp_path, channels, dtype):
    first = converted(tmp_path / "x.rknn", channels, normalises=dtype == "uint8")
    scale = {} if dtype == "uint8" else {"mean": 0.25, "std": 0.5}
    wishes = Wishes("npu", frames=T, side=SIDE, **scale)
    made = foreign_npu.imported(first, models.predictor(tmp_path / "y.onnx"), wishes, Npu(channels, dtype), tmp_path / "out")
    assert made.engine == "rknnlite+onnxruntime"
    assert (made.folder / "extractor.rknn").read_bytes() == first.read_bytes()
    assert made.size.stored_bytes == first.stat().st_size + (tmp_path / "y.onnx").stat().st_size
    found = fercompress.load_bundle(made.folder).logits(CLIPS)
    np.testing.assert_allclose(found, models.expected(CLIPS, channels, **scale), rtol=1e-4, atol=1e-3)


@pytest.mark.usefixtures("board")
def test_what_was_not_stated_or_cannot_be_is_refused(tmp_path):
    first, second = converted(tmp_path / "x.rknn", 1, normalises=True), models.predictor(tmp_path / "y.onnx")
    open_features = models.predictor(tmp_path / "open.onnx", (1, T, "d"))

    def refused(words, *, predictor=second, npu=Npu(), file=first, **wishes):  # noqa: B008
        with pytest.raises(BundleError, match=words):
            foreign_npu.imported(file, predictor, Wishes("npu", **{"frames": T, "side": SIDE, **wishes}), npu, tmp_path / "out")

    refused("does not tell its picture's size: give it with --side", side=None)
    refused("takes uint8 with 2 channels", npu=Npu(2))
    refused("mean and std are in the file", mean=0.5, std=0.5)
    refused("leaves open how many features", predictor=open_features)
    refused(r"--features 9: .* takes \(1, 4, 5\), 5 for a frame", npu=Npu(features=9))
    refused(r"takes \(4, 1, 5\); after an .rknn file", predictor=models.predictor(tmp_path / "t.onnx", (T, 1, D), 0))
    refused("nowhere.rknn: cannot be read", file=tmp_path / "nowhere.rknn")
    refused("--labels gives 2 different names", labels=("a", "b"))
    (tmp_path / "empty.rknn").write_bytes(b"")
    refused("is empty", file=tmp_path / "empty.rknn")
    assert not (tmp_path / "out").exists()


def test_the_command_says_that_the_file_was_not_run_and_a_target_without_the_engine_is_refused(tmp_path):
    (tmp_path / "x.rknn").write_bytes(b"of a real board")
    predictor = models.predictor(tmp_path / "y.onnx", (1, T, "d"))
    files = ["--extractor", str(tmp_path / "x.rknn"), "--predictor", str(predictor), "--out", str(tmp_path / "out")]
    said = CliRunner().invoke(cli.app, ["bundle", "import", *files, "--side", str(SIDE), "--features", str(D)], catch_exceptions=False).output
    (folder,) = (tmp_path / "out").iterdir()
    assert "the extractor was not run" in said
    assert json.loads((folder / "manifest.json").read_text())["extractor"]["input"]["dtype"] == "uint8"
    with pytest.raises(BundleError, match="needs rknnlite, which this machine has not"):
        fercompress.load_bundle(folder)
    for command in (["measure", str(folder)], ["gate", "--candidate", str(folder), "--baseline", str(folder), "--inputs", "synthetic"]):
        arguments = [*command, "--out", str(tmp_path / command[0])]
        with pytest.raises(InputError, match=r"target 'localhost' runs onnxruntime.*, the bundle needs 'rknnlite\+onnxruntime'"):
            CliRunner().invoke(cli.app, arguments, catch_exceptions=False, standalone_mode=False)
    onnx_files = ["--extractor", "x.onnx", "--predictor", "y.onnx", "--channels", "1"]
    with pytest.raises(InputError, match=r"are for an extractor that is an \.rknn file"):
        CliRunner().invoke(cli.app, ["bundle", "import", *onnx_files], catch_exceptions=False, standalone_mode=False)
