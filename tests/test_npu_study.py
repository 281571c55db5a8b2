"""Studies that use the NPU, whole, by the command line: a strict stand-in plays rknn-toolkit and the NPU's runtime; no board is in it."""

import json
import sys
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
import small_study
from small_study import run
from stand_in import FAKE

import fercompress
from fercompress import sides
from fercompress.errors import ResultsError
from fercompress.results.summary import json_schema

HERE = Path(__file__).parent
VARIANTS = """
[[variant]]
name = "dense-int8"
recipe = [{ step = "quantize", part = "extractor", calibration_clips = 4 }, { step = "quantize", part = "predictor" }]

[[variant]]
name = "dense-npu-fp16"
recipe = [{ step = "quantize", part = "extractor", npu = "fp16" }]

[[variant]]
name = "tt-npu-u8"
engine = "rknn+numpy"
recipe = [{ step = "tensor-train", rank = 2 }, { step = "quantize", part = "extractor", npu = "u8", calibration_clips = 4 }]

[[variant]]
name = "small-dense"
recipe = [{ step = "small-dense", bytes_of = "tt-npu-u8" }, { step = "quantize", part = "extractor", calibration_clips = 4 }]
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
    where, frames = 'targets = ["npu.toml", "plain.toml"]', f"difference = {str(difference).lower()}"
    (folder / "npu-study.toml").write_text(small_study.text("npu", VARIANTS, model=model, study=where, data=frames))
    return folder


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


def test_manifests_name_the_opset_that_each_file_was_made_from(finished):
    out = finished[0] / "out"
    converted = {onnx.load(path).opset_import[0].version for path in out.glob("work/rknn-*/extractor.onnx")}
    told = [json.loads(path.read_text()) for path in out.glob("bundles/*/manifest.json")]
    on_npu = [manifest for manifest in told if manifest["extractor"]["file"].endswith(".rknn")]
    assert on_npu
    assert {manifest["extractor"]["opset"] for manifest in on_npu} == converted
    for manifest in on_npu:
        graphs = [onnx.load(path).opset_import[0].version for path in out.glob(f"bundles/{manifest['variant']}-*/*.onnx")]
        assert manifest["opset"] == (graphs[0] if graphs else 11), "numpy's predictor is no graph"
    assert "extractor converted from opset 11" in (out / "report.md").read_text()


def test_every_variant_is_measured_by_its_own_engine_where_the_target_runs_it(finished):
    rows = rows_of(finished[0])
    for (variant, target), row in rows.items():
        if target == "plain" and variant in ON_NPU:
            assert (row["accuracy"], row["latency_clip_p50_ns"], row["memory_peak_bytes"]) == (None, None, None)
            assert row["reasons"]["accuracy"].startswith("not run here: plain runs onnxruntime; this variant needs rknn")
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


def test_a_row_names_its_engine_and_what_the_npu_tells_of_itself_or_why_it_does_not(finished):
    rows = rows_of(finished[0])
    assert {key: row["engine"] for key, row in rows.items()} == {
        ("dense-fp32", "npu"): "onnxruntime", ("dense-int8", "npu"): "onnxruntime", ("small-dense", "npu"): "onnxruntime",
        ("dense-npu-fp16", "npu"): "rknnlite+onnxruntime", ("tt-npu-u8", "npu"): "rknn+numpy",
        ("dense-fp32", "plain"): "onnxruntime", ("dense-int8", "plain"): "onnxruntime", ("small-dense", "plain"): "onnxruntime",
        ("dense-npu-fp16", "plain"): None, ("tt-npu-u8", "plain"): None,
    }  # fmt: skip
    full, lite, processor = (rows[name, "npu"] for name in ("tt-npu-u8", "dense-npu-fp16", "dense-fp32"))
    # What the stand-in's eval_perf and eval_memory say.
    assert (full["npu_frame_ns"], full["npu_memory_peak_bytes"]) == (5_438_980, 3000)
    assert (lite["npu_frame_ns"], lite["npu_memory_peak_bytes"]) == (None, None)
    assert "RKNNLite has neither eval_perf nor eval_memory" in lite["reasons"]["npu_frame_ns"]
    assert "does not run on an NPU" in processor["reasons"]["npu_memory_peak_bytes"]
    assert (full["extractor_bits"], lite["extractor_bits"], processor["extractor_bits"]) == (8, 16, 32)
    assert rows["small-dense", "npu"]["stored_bytes"] <= full["stored_bytes"]


def test_manifest_page_and_table_name_the_npu_s_rounding_and_every_engine(finished):
    folder, done = finished
    (manifest,) = [json.loads(path.read_text()) for path in (folder / "out/bundles").glob("tt-npu-u8-*/manifest.json")]
    assert manifest["checks"]["rounding"] == {"npu": "u8", "by": "rknn-toolkit 1.7.5", "calibration_clips": 4}
    assert manifest["recipe"][1]["npu"] == "u8"
    assert "extractor converted for the NPU, u8" in manifest["way"]
    report = (folder / "out/report.md").read_text()
    for text in ("rknnlite+onnxruntime", "rknn+numpy", "NPU alone, one frame", "npu u8", "5.44 ms", "plain runs onnxruntime"):
        assert text in report
        assert text in done.stdout or "+" not in text
    # A bundle that a target does not run is not its answer, and no fault.
    assert "Faults met" not in report
    assert "Use **dense-npu" not in report[report.index("# On plain") :]


def test_run_again_it_converts_nothing_and_measures_nothing(finished):
    folder, _ = finished
    before = (folder / "out/results.sqlite").read_bytes()
    (folder / "no-conversions").write_text(f'#!/bin/sh\n[ "$2" = --version ] || exit 9\nexec "{folder / "rknn-python"}" "$@"\n')
    (folder / "no-conversions").chmod(0o755)
    done = run(folder, "run", "npu-study.toml", "--out", "out", FERCOMPRESS_RKNN_PYTHON="./no-conversions")
    assert done.returncode == 0, done.stderr
    assert (folder / "out/results.sqlite").read_bytes() == before
    assert run(folder, "verify", "out").returncode == 0


def test_without_the_toolkit_one_line_says_what_to_do_before_anything_is_written(finished, tmp_path):
    for name in ("npu.toml", "plain.toml", "npu-study.toml"):
        (tmp_path / name).write_text((finished[0] / name).read_text())
    cases = [
        ([], "dense-npu-fp16, tt-npu-u8: their extractors must be converted for the NPU; give the Python that has rknn-toolkit 1.7 (--rknn-python"),
        (["--rknn-python", "./nowhere"], "./nowhere: no such program"),
        (["--rknn-python", sys.executable], "cannot import rknn-toolkit (ModuleNotFoundError: No module named 'rknn'"),
    ]
    for arguments, words in cases:
        done = run(tmp_path, "run", "npu-study.toml", "--out", "out", *arguments)
        assert (done.returncode, words in " ".join(done.stderr.split())) == (2, True), done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()
    # Where no target has an NPU no toolkit is needed, and the plan says what is left out.
    plan = json.loads(run(tmp_path, "run", "npu-study.toml", "--target", "plain.toml", "--plan", "--json").stdout)
    assert [row["what"] for row in plan if row["stage"] == "n/a"] == [
        "dense-npu-fp16, tt-npu-u8 on plain, which does not run rknnlite+onnxruntime, rknn+numpy"
    ]
    assert [row for row in plan if row["stage"] == "convert"] == []


def test_an_extractor_that_the_npu_cannot_take_is_a_result_and_the_others_go_on(tmp_path):
    folder = lab(tmp_path, 'factory = "soft_model:make"', difference=False)
    own = (HERE / "own_model.py").read_text()
    (folder / "soft_model.py").write_text(own.replace("padding=1), nn.ReLU())", "padding=1), nn.Softplus())"))
    done = run(folder, "run", "npu-study.toml", "--out", "out", "--target", "npu.toml", "--rknn-python", "./rknn-python")
    assert done.returncode == 0, done.stderr
    rows = {variant: row for (variant, _), row in rows_of(folder).items()}
    for name in (*ON_NPU, "small-dense"):
        row = rows[name]
        assert (row["accuracy"], row["stored_bytes"], row["latency_clip_p50_ns"], row["engine"]) == (None, None, None, None)
    for name in ON_NPU:
        assert rows[name]["reasons"]["accuracy"].startswith("not made: its extractor cannot be converted for the NPU: node")
        assert "operator Softplus" in rows[name]["reasons"]["stored_bytes"]
    assert rows["small-dense"]["reasons"]["engine"] == "not made: it is to be as large as tt-npu-u8, which was not made"
    assert rows["dense-int8"]["speedup_clip"] > 0
    report = (folder / "out/report.md").read_text()
    assert report.count("Faults met") == 1
    assert "accuracy, latency, memory on npu" in report
    assert run(folder, "verify", "out").returncode == 0
    assert [side.variant for side in sides.find(str(folder / "out"), "--baseline")] == ["dense-fp32", "dense-int8"]
    with pytest.raises(ResultsError, match="dense-npu-fp16: has no bundle, it was not made: its extractor cannot be converted"):
        sides.find(f"{folder / 'out'}:dense-npu-fp16", "--baseline")
    rows = json.loads(
        run(folder, "compress", "npu-study.toml", "--out", "out", "--target", "npu.toml", "--rknn-python", "./rknn-python", "--json").stdout
    )
    assert {row["variant"]: row["stored_bytes"] is None for row in rows} == {
        "dense-fp32": False, "dense-int8": False, "dense-npu-fp16": True, "tt-npu-u8": True, "small-dense": True,
    }  # fmt: skip


def test_the_shipped_boards_study_can_be_planned_without_any_board(tmp_path):
    done = run(tmp_path, "run", "boards", "--plan", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert [row["times"] for row in plan if row["stage"] == "convert"] == [2]  # one extractor, fp16 and u8
    assert [row["what"].split(" ")[0] for row in plan if row["stage"] == "missing"] == ["rk3399pro-debian10", "rpi4"]
    assert not (tmp_path / "reports").exists()
