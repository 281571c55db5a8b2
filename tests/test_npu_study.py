"""Studies that use the NPU, whole, by the command line: a strict stand-in plays rknn-toolkit and the NPU's runtime; no board is in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import fercompress
from fercompress.results.summary import json_schema

HERE = Path(__file__).parent
FAKE = HERE / "fake_rknn"
STUDY = """
[study]
name = "npu"
baseline = "dense-fp32"
targets = ["npu.toml", "plain.toml"]

[data]
name = "synthetic"
train_clips = 42
validation_clips = 14
test_clips = 28
frames = 4
size = 32
difference = {difference}

[model]
{model}
hidden = 16

[train]
epochs = 2

[fine_tune]
epochs = 2
extractor_epochs = 1

[measure]
rounds = 2
block_clips = 2
block_s = 0.01
warmup_clips = 1
passes = ["accuracy", "latency", "memory"]

[[variant]]
name = "dense-fp32"

[[variant]]
name = "dense-int8"
recipe = [{{ step = "quantize", part = "extractor", calibration_clips = 4 }}, {{ step = "quantize", part = "predictor" }}]

[[variant]]
name = "dense-npu-fp16"
recipe = [{{ step = "quantize", part = "extractor", npu = "fp16" }}]

[[variant]]
name = "tt-npu-u8"
engine = "rknn+numpy"
recipe = [{{ step = "tensor-train", rank = 2 }}, {{ step = "quantize", part = "extractor", npu = "u8", calibration_clips = 4 }}]

[[variant]]
name = "small-dense"
recipe = [{{ step = "small-dense", bytes_of = "tt-npu-u8" }}, {{ step = "quantize", part = "extractor", calibration_clips = 4 }}]
"""
ON_NPU = ("dense-npu-fp16", "tt-npu-u8")


def lab(folder: Path, model: str = 'zoo = "small"', difference: bool = True) -> Path:
    """A folder with the study, two targets and the toolkit's Python; both Pythons find the stand-in, this process does not."""
    site = folder / "site" / "rknn_toolkit-1.7.5.dist-info"
    site.mkdir(parents=True)
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: rknn-toolkit\nVersion: 1.7.5\n")
    for name, more in (("rknn-python", f':{folder / "site"}"'), ("board-python", '" FAKE_RKNN_BOARD=1')):
        (folder / name).write_text(f'#!/bin/sh\nexport PYTHONPATH="{FAKE}{more}\nexec "{sys.executable}" "$@"\n')
        (folder / name).chmod(0o755)
    board = f'python = "{folder / "board-python"}"\nengines = ["rknnlite", "rknn", "onnxruntime", "numpy"]\n'
    (folder / "npu.toml").write_text(f'kind = "local"\ncool_down_s = 0\n{board}')
    (folder / "plain.toml").write_text('kind = "local"\ncool_down_s = 0\nengines = ["onnxruntime"]\n')
    (folder / "npu-study.toml").write_text(STUDY.format(model=model, difference=str(difference).lower()))
    return folder


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FAKE_RKNN", "FERCOMPRESS_RKNN"))}
    return subprocess.run(
        [sys.executable, "-m", "fercompress", *arguments], cwd=folder, env={**clean, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = lab(tmp_path_factory.mktemp("npu"))
    done = run(folder, "run", "npu-study.toml", "--out", "out", "--rknn-python", "./rknn-python")
    assert done.returncode == 0, done.stderr
    return folder, done


def rows_of(folder: Path) -> dict[tuple[str, str], dict]:
    summary = json.loads((folder / "out/summary.json").read_text())
    jsonschema.validate(summary, json_schema())
    return {(row["variant"], row["target"]): row for row in summary["rows"]}


def test_every_variant_is_measured_by_its_own_engine_where_the_target_runs_it(finished):
    rows = rows_of(finished[0])
    for (variant, target), row in rows.items():
        if target == "plain" and variant in ON_NPU:
            assert (row["accuracy"], row["latency_clip_p50_ns"], row["memory_peak_bytes"]) == (None, None, None)
            assert row["reasons"]["accuracy"].startswith("n/a: plain runs onnxruntime; this variant needs rknn")
        else:
            assert row["n_clips"] == 28
            assert row["latency_clip_p50_ns"] > 0
            assert row["rounds"] == 2
    assert rows["dense-npu-fp16", "npu"]["speedup_clip"] > 0


def test_fp16_on_the_stand_in_answers_as_onnxruntime_does(finished):
    run_ = fercompress.load(finished[0] / "out")
    logits = {}
    for variant in ("dense-fp32", "dense-npu-fp16"):
        mine = run_.predictions[(run_.predictions["variant"] == variant) & (run_.predictions["target"] == "npu")].sort_values("clip")
        logits[variant] = mine[[column for column in mine if column.startswith("logit_")]].to_numpy()
    worst = np.abs(logits["dense-npu-fp16"] - logits["dense-fp32"]).max()
    # Weights of 11 bits.
    assert 0 < worst < 5e-3 * np.abs(logits["dense-fp32"]).max()
    rows = rows_of(finished[0])
    assert abs(rows["dense-npu-fp16", "npu"]["accuracy"] - rows["dense-fp32", "npu"]["accuracy"]) <= 1 / 28
