"""Imported models measured side by side: an ordinary run folder, sealed and verified, with what cannot be told apart marked so."""

from __future__ import annotations

import io
import json
from pathlib import Path

import foreign_models as models
import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from foreign_models import SIDE, T
from rich.console import Console

from fercompress import bundlerun, cli, verify
from fercompress.bundlerun import BundleRequest
from fercompress.errors import BundleError, DataError, InputError
from fercompress.export import foreign
from fercompress.export.foreign_axes import Wishes
from fercompress.progress import Reporter
from fercompress.results.summary import json_schema

LABELS = ("a", "b", "c", "d")
QUICK = ("measure.rounds=1", "measure.block_clips=2", "measure.block_s=0.001", "measure.warmup_clips=1")
FRAMES = np.random.default_rng(5).integers(0, 256, (12, T, SIDE, SIDE), dtype=np.uint8)


def tell() -> Reporter:
    return Reporter(Console(file=io.StringIO()))


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    files = models.extractor(tmp_path / "x.onnx"), models.predictor(tmp_path / "y.onnx")
    return foreign.imported(*files, Wishes("pair", LABELS, T), tmp_path / "bundles").folder


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return foreign.imported_whole(models.whole(tmp_path / "both.onnx"), Wishes("whole", LABELS, T), tmp_path / "bundles").folder


def test_two_imported_models_are_measured_side_by_side_and_the_run_verifies(tmp_path: Path, pair: Path, whole: Path) -> None:
    answers = models.expected(FRAMES).argmax(axis=1)
    answers[:3] = (answers[:3] + 1) % 4  # three labels that both models miss
    np.savez(tmp_path / "in.npz", frames=FRAMES, labels=np.array(LABELS)[answers])
    passes = 'measure.passes=["accuracy", "latency", "memory"]'
    document = bundlerun.run(BundleRequest((pair, whole), tmp_path / "out", (), (*QUICK, passes), str(tmp_path / "in.npz")), tell())
    jsonschema.validate(document, json_schema())
    first, second = document["rows"]
    assert [row["accuracy"] for row in (first, second)] == [0.75, 0.75]
    assert first["stored_bytes"] == sum((tmp_path / name).stat().st_size for name in ("x.onnx", "y.onnx"))
    assert second["stored_bytes"] == (tmp_path / "both.onnx").stat().st_size
    for row in (first, second):
        assert row["latency_clip_p50_ns"] > 0
        assert row["memory_peak_bytes"] > 1_000_000
        assert row["params_dense"] is None
    assert first["latency_extractor_p50_ns"] > 0
    for column in ("latency_extractor_p50_ns", "latency_predictor_p50_ns", "speedup_predictor", "bytes_predictor"):
        assert second[column] is None
        assert second["reasons"][column].startswith("n/a: one file for both stages")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Predictor latency: one clip, medians: pair" in text
    assert ", whole" not in next(line for line in text.splitlines() if "Predictor latency" in line)
    assert verify.verify(tmp_path / "out").differences == ()


def test_without_labels_accuracy_is_left_out_and_clips_of_the_right_size_are_made(tmp_path: Path, whole: Path) -> None:
    document = bundlerun.run(BundleRequest((whole,), tmp_path / "out", (), (*QUICK, 'measure.passes=["accuracy", "latency"]')), tell())
    (row,) = document["rows"]
    assert row["accuracy"] is None
    assert "without labels" in row["reasons"]["accuracy"]
    assert row["latency_clip_p50_ns"] > 0
    assert document["data"]["simulated"] is True


def test_what_cannot_stand_side_by_side_or_be_read_is_refused(tmp_path: Path, pair: Path) -> None:
    def refused(words: str, *folders: Path, inputs: str = "synthetic", data: str | None = None) -> None:
        with pytest.raises((BundleError, DataError), match=words):
            bundlerun.run(BundleRequest(folders or (pair,), tmp_path / "out", (), QUICK, inputs, data), tell())

    files = models.extractor(tmp_path / "x.onnx"), models.predictor(tmp_path / "y.onnx", (1, 2 * T, models.D))
    refused("two bundles are named 'pair'", pair, pair)
    refused(r"other takes clips of \(8, 8, 8\)", pair, foreign.imported(*files, Wishes("other", LABELS), tmp_path / "bundles").folder)
    (tmp_path / "text.npz").write_text("frames")
    refused(r"cannot be read as \.npz", inputs=str(tmp_path / "text.npz"))
    np.savez(tmp_path / "wrong.npz", frames=FRAMES[:, :2])
    refused(r"needs frames, uint8 \(N, 4, 8, 8\), grey; it has uint8 \(12, 2, 8, 8\)", inputs=str(tmp_path / "wrong.npz"))
    np.savez(tmp_path / "names.npz", frames=FRAMES, labels=np.array(["z"] * len(FRAMES)))
    refused("label 'z' is none of the bundle's classes: a, b, c, d", inputs=str(tmp_path / "names.npz"))
    refused("--data synthetic: cannot give 4 frames of 8 x 8", data="synthetic")


def test_the_command_takes_bundles_alone_or_one_study(tmp_path: Path, pair: Path) -> None:
    def invoked(*arguments: str) -> None:
        CliRunner().invoke(cli.app, ["measure", *arguments], catch_exceptions=False, standalone_mode=False)

    with pytest.raises(InputError, match="default is no bundle: give bundles alone, or one study"):
        invoked(str(pair), "default")
    with pytest.raises(InputError, match="--only and --seeds are a study's"):
        invoked(str(pair), "--seeds", "2")
    with pytest.raises(InputError, match="--inputs and --data are for bundles"):
        invoked("default", "--data", "gfe")
    invoked(str(pair), "--out", str(tmp_path / "out"), *(word for wish in QUICK for word in ("--set", wish)), "--set", 'measure.passes=["latency"]')
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["rows"][0]["variant"] == "pair"
