"""A whole study, small but real at every stage: train, compress, export, measure, report; stopped, killed, resumed, refused."""

import functools
import json
import random
import signal
import subprocess
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import small_study

import fercompress
from fercompress.data import source
from fercompress.results.store import FILE, Store
from fercompress.results.summary import json_schema
from fercompress.studyfile import load_study

HERE = Path(__file__).parent
INT8 = '{ step = "quantize", part = "extractor", calibration_clips = 4 }, { step = "quantize", part = "predictor" }'
VARIANTS_TEXT = f"""
[[variant]]
name = "tt-r{{rank}}"
matrix = {{ rank = [1, 2] }}
recipe = [{{ step = "tensor-train", rank = "{{rank}}" }}]

[[variant]]
name = "tt-r2-int8"
recipe = [{{ step = "tensor-train", rank = 2 }}, {INT8}]

[[variant]]
name = "dense-int8"
recipe = [{INT8}]

[[variant]]
name = "bottleneck-r2"
recipe = [{{ step = "bottleneck", rank = 2 }}]

[[variant]]
name = "small-dense-int8"
recipe = [{{ step = "small-dense", bytes_of = "tt-r2-int8" }}, {INT8}]

[[variant]]
name = "lowrank-tt-r2-int4"
recipe = [
    {{ step = "low-rank", ratio = 2.0 }},
    {{ step = "tensor-train", rank = 2, start = "data-aware" }},
    {{ step = "quantize", part = "extractor", mean_bits = 5.0, qat = "always", calibration_clips = 4 }},
    {{ step = "quantize", part = "predictor", bits = 4 }},
]
"""
VARIANTS = ["dense-fp32", "tt-r1", "tt-r2", "tt-r2-int8", "dense-int8", "bottleneck-r2", "small-dense-int8", "lowrank-tt-r2-int4"]
# What a clock, or the host's load, decides; everything else must be the same however often a run was stopped.
TIMED = (
    "timed_clips", "latency_", "speedup_", "memory_", "power_", "energy_", "train_epoch_s", "train_total_s", "time_to_dense_s",
    "front_probability_latency_", "doubts", "reasons",
)  # fmt: skip


def study(model: str = 'zoo = "small"', name: str = "small") -> str:
    return small_study.text(name, VARIANTS_TEXT, ("accuracy", "latency", "memory", "power"), model=model)


def untimed(rows: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if not key.startswith(TIMED)} for row in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder in which the small study ran once, uninterrupted, with the model that ships."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.toml").write_text(study())
    done = small_study.run(folder, "run", "small.toml", "--out", "out")
    assert done.returncode == 0, done.stderr
    return folder


def test_every_variant_has_a_row_that_fits_the_schema(finished):
    summary = json.loads((finished / "out/summary.json").read_text())
    jsonschema.validate(summary, json_schema())
    assert [row["variant"] for row in summary["rows"]] == VARIANTS
    for row in summary["rows"]:
        assert row["n_clips"] == 28
        assert row["latency_clip_p50_ns"] > 0
        assert row["memory_peak_bytes"] > 0
        assert row["stored_bytes"] > 0


def test_stored_bytes_are_the_bytes_on_disk(finished):
    rows = {row["variant"]: row for row in json.loads((finished / "out/summary.json").read_text())["rows"]}
    for manifest in (finished / "out/bundles").glob("*/manifest.json"):
        files = [path for path in manifest.parent.iterdir() if path.name != "manifest.json"]
        assert sum(path.stat().st_size for path in files) == rows[json.loads(manifest.read_text())["variant"]]["stored_bytes"]


def test_the_size_control_is_as_large_as_its_model_and_not_larger(finished):
    rows = {row["variant"]: row for row in json.loads((finished / "out/summary.json").read_text())["rows"]}
    control, model = rows["small-dense-int8"]["stored_bytes"], rows["tt-r2-int8"]["stored_bytes"]
    assert 0.97 * model <= control <= model


def test_every_manifest_says_that_nothing_was_pruned_and_how_the_extractor_was_rounded(finished):
    manifests = [json.loads(path.read_text()) for path in (finished / "out/bundles").glob("*/manifest.json")]
    for manifest in manifests:
        checked = manifest["checks"]["pruning_free"]
        assert checked["units_dropped"] == checked["weights_pruned"] == 0
        assert any(name.startswith("extractor.") for name in checked["matrices"])
    rounding = {manifest["variant"]: manifest["checks"]["rounding"] for manifest in manifests}
    assert rounding["dense-fp32"] == {}
    assert rounding["tt-r2-int8"]["calibration"] in rounding["tt-r2-int8"]["relative_error"]
    low_rank = rounding["lowrank-tt-r2-int4"]
    assert 4 in low_rank["layer_bits"]
    assert low_rank["quantization_aware_training"] in ("used", "tried, not better")
    assert set(low_rank["validation_accuracy"]) == {"float32", "rounded", "trained_and_rounded"}


def test_low_rank_and_four_bits_make_the_smallest_bundle_and_name_themselves(finished):
    rows = {row["variant"]: row for row in json.loads((finished / "out/summary.json").read_text())["rows"]}
    assert rows["lowrank-tt-r2-int4"]["stored_bytes"] == min(row["stored_bytes"] for row in rows.values())
    (manifest,) = [json.loads(path.read_text()) for path in (finished / "out/bundles").glob("lowrank-tt-r2-int4-*/manifest.json")]
    assert "low-rank convolutions" in manifest["way"]
    assert "weighted by the inputs' covariance" in manifest["way"]


def test_the_page_is_one_file_that_loads_nothing(finished):
    page = (finished / "out/index.html").read_text()
    assert all(variant in page for variant in VARIANTS)
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert (finished / "out/report.md").stat().st_size > 1000
    assert list((finished / "out/figures").glob("*.svg"))


def test_a_finished_run_is_not_run_again(finished):
    before = (finished / "out/results.sqlite").read_bytes()
    again = small_study.run(finished, "run", "small.toml", "--out", "out", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == json.loads((finished / "out/summary.json").read_text())
    assert (finished / "out/results.sqlite").read_bytes() == before


def test_a_run_reads_back_as_tidy_frames(finished):
    run = fercompress.load(finished / "out")
    assert list(run.summary["variant"]) == VARIANTS
    assert len(run.predictions) == 28 * len(VARIANTS)
    assert set(run.timings["variant"]) == set(VARIANTS)


def test_a_loaded_bundle_gives_the_measured_predictions(finished):
    study = load_study(str(finished / "small.toml"))
    clips = source.load(study.data, None, finished / "out/work")
    run = fercompress.load(finished / "out")
    (folder,) = (finished / "out/bundles").glob("tt-r2-int8-*")
    found = run.predictions[run.predictions["variant"] == "tt-r2-int8"].sort_values("clip")
    probabilities = fercompress.load_bundle(folder).predict(np.asarray(clips.frames[found["clip"].to_numpy()]))
    assert probabilities.shape == (28, 7)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert (probabilities.argmax(1) == found["predicted"].to_numpy()).all()


def test_the_report_renders_again_from_the_results_alone(finished):
    before = (finished / "out/index.html").read_bytes()
    (finished / "out/index.html").unlink()
    done = small_study.run(finished, "report", "out")
    assert done.returncode == 0, done.stderr
    assert (finished / "out/index.html").read_bytes() == before


def test_killed_at_random_moments_it_ends_with_the_same_rows(finished, tmp_path):
    (tmp_path / "small.toml").write_text(study())
    whole = json.loads((finished / "out/summary.json").read_text())["rows"]
    chance = random.Random(5)
    blocks = 0
    for _ in range(4):
        process = subprocess.Popen(
            small_study.command("run", "small.toml", "--out", "out"),
            cwd=tmp_path,
            env=small_study.environment(),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(3, 15))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (tmp_path / "out/results.sqlite").exists():
            found = finished_blocks(tmp_path / "out")
            assert found >= blocks, "a finished block was lost"
            blocks = found
    done = small_study.run(tmp_path, "run", "small.toml", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert untimed(json.loads((tmp_path / "out/summary.json").read_text())["rows"]) == untimed(whole)


def finished_blocks(out: Path) -> int:
    with Store.open(out / FILE) as store:
        return len(store.done())


def test_ctrl_c_says_that_it_can_go_on(tmp_path):
    (tmp_path / "small.toml").write_text(study())
    heed = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # a test in a shell's background ignores Ctrl-C
    process = subprocess.Popen(
        small_study.command("run", "small.toml", "--out", "out"),
        cwd=tmp_path,
        env=small_study.environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed,
    )
    while not (tmp_path / "out/results.sqlite").exists() and process.poll() is None:  # from here on there is something to go on with
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on where it was" in told
    assert "Traceback" not in told


def test_a_model_of_ones_own_goes_through_the_whole_study(tmp_path):
    (tmp_path / "own_model.py").write_text((HERE / "own_model.py").read_text())
    (tmp_path / "own.toml").write_text(study('factory = "own_model:make"', "own"))
    done = small_study.run(tmp_path, "run", "own.toml", "--out", "out", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["variant"] for row in rows] == VARIANTS
    assert all(row["accuracy"] is not None and row["latency_predictor_p50_ns"] is not None for row in rows)
    tensor_trains = [row for row in rows if row["variant"].startswith("tt-")]
    assert all(row["ratio_tt_params"] > 1 for row in tensor_trains)
