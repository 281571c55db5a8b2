"""A product's own ONNX files become bundles that compute what the files do, or are refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import foreign_models as models
import numpy as np
import pytest
from click.testing import CliRunner
from foreign_models import SIDE, D, K, T
from onnx import TensorProto

from fercompress import cli
from fercompress.errors import BundleError, InputError
from fercompress.export import bundle, foreign, foreign_file
from fercompress.export.agent_engine import AgentEngine
from fercompress.export.foreign_axes import Wishes

CLIPS = np.random.default_rng(3).integers(0, 256, (2, T, SIDE, SIDE), dtype=np.uint8)
WISHES = Wishes("mine", frames=T)


@pytest.mark.parametrize(
    ("shape", "channels", "order", "layout"),
    [
        ((1, 1, SIDE, SIDE), 1, (0, 1, 2, 3), "NCHW"),
        (("n", 3, SIDE, SIDE), 3, (0, 1, 2, 3), "NCHW"),
        ((1, SIDE, SIDE, 2), 2, (0, 3, 1, 2), "NHWC"),
        ((T, 1, SIDE, SIDE), 1, (0, 1, 2, 3), "TCHW"),
        ((T, SIDE, SIDE, 3), 3, (0, 3, 1, 2), "THWC"),
    ],
)
def test_an_extractor_of_any_layout_gives_what_numpy_gives(tmp_path: Path, shape, channels, order, layout) -> None:
    first = models.extractor(tmp_path / "x.onnx", shape, channels, order)
    made = foreign.imported(first, models.predictor(tmp_path / "y.onnx"), Wishes("mine", mean=0.25, std=0.5, frames=T), tmp_path / "out")
    assert made.manifest["extractor"]["input"]["layout"] == layout
    assert (made.folder / "extractor.onnx").read_bytes() == first.read_bytes()
    np.testing.assert_allclose(AgentEngine(made).logits(CLIPS), models.expected(CLIPS, channels, 0.25, 0.5), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "time", "features", "order"),
    [((1, T, D), 1, 2, "NTD"), (("n", "t", D), 1, 2, "NTD"), ((T, 1, D), 0, 2, "TND"), ((1, D, T), 2, 1, "NDT")],
)
def test_a_predictor_of_any_order_gives_what_numpy_gives(tmp_path: Path, shape, time, features, order) -> None:
    files = models.extractor(tmp_path / "x.onnx"), models.predictor(tmp_path / "y.onnx", shape, time, features)
    made = foreign.imported(*files, WISHES, tmp_path / "out")
    assert made.manifest["predictor"]["input"]["layout"] == order
    np.testing.assert_allclose(AgentEngine(made).logits(CLIPS), models.expected(CLIPS), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "order", "layout"),
    [
        ((1, T, 1, SIDE, SIDE), (0, 1, 2, 3, 4), "NTCHW"),
        ((1, 1, T, SIDE, SIDE), (0, 2, 1, 3, 4), "NCTHW"),
        (("n", "t", "h", "w", 1), (0, 1, 4, 2, 3), "NTHWC"),
    ],
)
def test_one_file_for_both_gives_what_numpy_gives(tmp_path: Path, shape, order, layout) -> None:
    made = foreign.imported_whole(models.whole(tmp_path / "x.onnx", shape, order), Wishes("mine", frames=T, side=SIDE), tmp_path / "out")
    assert (made.manifest["one_file"], made.manifest["extractor"]["input"]["layout"], made.size.bytes_extractor) == (True, layout, 0)
    np.testing.assert_allclose(AgentEngine(made).logits(CLIPS), models.expected(CLIPS), rtol=1e-4, atol=1e-3)


def test_weights_beside_the_file_come_along_and_count(tmp_path: Path) -> None:
    first = models.extractor(tmp_path / "x.onnx", save_as_external_data=True, location="x.weights", size_threshold=0)
    made = foreign.imported(first, models.predictor(tmp_path / "y.onnx"), WISHES, tmp_path / "out")
    assert made.size.bytes_extractor == first.stat().st_size + (tmp_path / "x.weights").stat().st_size
    assert bundle.load(made.folder).sha256 == made.sha256
    np.testing.assert_allclose(AgentEngine(made).logits(CLIPS), models.expected(CLIPS), rtol=1e-4, atol=1e-3)
    (tmp_path / "x.weights").unlink()
    with pytest.raises(BundleError, match=r"external data are missing: .*x\.weights"):
        foreign_file.opened(first)


def test_the_same_files_give_the_same_bundle_and_numbers_are_counted(tmp_path: Path) -> None:
    files = models.extractor(tmp_path / "x.onnx"), models.predictor(tmp_path / "y.onnx")
    made = [foreign.imported(*files, WISHES, tmp_path / "out") for _ in range(2)]
    assert made[0].sha256 == made[1].sha256
    assert (made[0].size.params_extractor, made[0].size.params_model) == (SIDE * SIDE * D, SIDE * SIDE * D + D * K)
    assert made[0].manifest["classes"] == ["class0", "class1", "class2", "class3"]


def refused(tmp_path: Path, words: str, extractor: Path | None = None, predictor: Path | None = None, wishes: Wishes = WISHES) -> None:
    first, second = extractor or models.extractor(tmp_path / "fine.onnx"), predictor or models.predictor(tmp_path / "good.onnx")
    with pytest.raises(BundleError, match=words):
        foreign.imported(first, second, wishes, tmp_path / "out")


def test_what_cannot_be_measured_is_refused_with_the_reason(tmp_path: Path) -> None:
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"\x89PNG and so on")
    refused(tmp_path, "junk.onnx: not an ONNX file", junk)
    refused(tmp_path, r"nowhere\.onnx: cannot be read", tmp_path / "nowhere.onnx")
    refused(tmp_path, r"\(64, 5\) has 2 axes", models.save(tmp_path / "a.onnx", [models.node("MatMul", "x w", "y")], (64, 5), models.SECOND))
    refused(
        tmp_path,
        r"\(1, 5\) has no axis of time",
        predictor=models.save(tmp_path / "b.onnx", [models.node("MatMul", "x w", "y")], (1, D), models.SECOND),
    )
    refused(
        tmp_path,
        r"gives 5 features per frame.*takes \(1, 4, 6\): they do not fit",
        predictor=models.predictor(tmp_path / "c.onnx", (1, T, D + 1), weight=np.zeros((D + 1, K), np.float32)),
    )
    refused(tmp_path, r"takes 2 at a time", models.extractor(tmp_path / "d.onnx", (2, 1, SIDE, SIDE)), wishes=Wishes("m", layout="NCHW", frames=T))
    refused(tmp_path, r"leaves the picture's size open: give it with --side", models.extractor(tmp_path / "e.onnx", (1, 1, "h", "w")))
    refused(tmp_path, r"--labels gives 2 different names, .* gives 4 numbers", wishes=Wishes("m", ("a", "b"), T))
    odd = models.save(tmp_path / "f.onnx", [models.node("Vanish", "x", "y")], (1, 1, SIDE, SIDE), models.SECOND)
    refused(tmp_path, "needs operators that it lacks: .*Vanish", odd)
    chosen = [models.node("ReduceMean", "x", "m", axes=[1], keepdims=0), models.node("MatMul", "m w", "p"), models.node("ArgMax", "p", "y", axis=1)]
    labels = models.save(tmp_path / "g.onnx", chosen, (1, T, D), models.SECOND, gives=TensorProto.INT64)
    refused(tmp_path, "it gives labels, and one number per class is needed", predictor=labels)
    cast = [models.node("Cast", "x", "c", to=TensorProto.FLOAT), models.node("Flatten", "c", "f"), models.node("MatMul", "f w", "y")]
    whole_numbers = models.save(tmp_path / "h.onnx", cast, (1, 1, SIDE, SIDE), models.FIRST[1], kind=TensorProto.INT64)
    refused(tmp_path, r"x is tensor\(int64\); frames can be given as float32, float16, uint8", whole_numbers)
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_bundles_folder_and_what_it_assumes(tmp_path: Path) -> None:
    files = ["--extractor", str(models.extractor(tmp_path / "My Net.onnx")), "--predictor", str(models.predictor(tmp_path / "My LSTM.onnx"))]
    arguments = ["bundle", "import", *files, "--labels", "a,b, c,d", "--out", str(tmp_path / "out")]
    said = CliRunner().invoke(cli.app, arguments, catch_exceptions=False).output
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name.startswith("my-lstm-")
    assert f"fercompress measure {folder}" in said
    assert "NCHW (1, 1, 8, 8) float32, (pixel / 255 - 0) / 1; 4 frames a clip" in said
    told = json.loads(CliRunner().invoke(cli.app, [*arguments, "--json"], catch_exceptions=False).output)
    assert told["manifest"]["classes"] == ["a", "b", "c", "d"]
    with pytest.raises(InputError, match="give --extractor and --predictor, or --model alone"):
        CliRunner().invoke(cli.app, ["bundle", "import", "--extractor", "x.onnx"], catch_exceptions=False, standalone_mode=False)
