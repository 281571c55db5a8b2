"""A product's own ONNX files through import, measure and gate: a slower one is worse, a copy is not, and what cannot be told says why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import foreign_models as models
import numpy as np
import pytest
from click.testing import CliRunner
from foreign_models import SIDE, T

import fercompress
from fercompress import cli
from fercompress.errors import BundleError, FercompressError, ModelError

LABELS = "a,b,c,d"
FRAMES = np.random.default_rng(5).integers(0, 256, (12, T, SIDE, SIDE), dtype=np.uint8)
QUICK = ("--tier", "smoke", "--rounds", "6", "--no-confirm", "--on-inconclusive", "warn")
# So busy a machine varies by less than the planted work costs.
TIMED = ("--effect", "latency_clip_p50_ns=50%", "--effect", "latency_clip_p90_ns=80%", "--effect", "latency_predictor_p50_ns=50%")
TIMED += ("--effect", "latency_extractor_p50_ns=50%", "--effect", "memory_peak_bytes=20%", "--effect", "stored_bytes=90%")
BUSY = 300


@dataclass
class Done:
    code: int
    out: str
    error: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pair, slow-pair, whole, slow-whole, each imported; labelled.npz, bare.npz."""
    folder = tmp_path_factory.mktemp("imported")
    first, second = models.extractor(folder / "x.onnx"), models.predictor(folder / "y.onnx")
    both = models.whole(folder / "both.onnx")
    options = ["--labels", LABELS, "--frames", str(T), "--out", str(folder / "bundles"), "--json"]
    for name, files in {
        "pair": ["--extractor", str(first), "--predictor", str(second)],
        "slow-pair": ["--extractor", str(first), "--predictor", str(models.busy(second, folder / "slow.onnx", BUSY))],
        "whole": ["--model", str(both)],
        "slow-whole": ["--model", str(models.busy(both, folder / "slow-both.onnx", BUSY))],
    }.items():
        done = invoked(folder, "bundle", "import", *files, "--name", name, *options)
        Path(json.loads(done.out)["folder"]).rename(folder / name)
    np.savez(folder / "labelled.npz", frames=FRAMES, labels=models.expected(FRAMES).argmax(axis=1))
    np.savez(folder / "bare.npz", frames=FRAMES)
    return folder


def invoked(folder: Path, *arguments: str | Path) -> Done:
    environment = {"XDG_CONFIG_HOME": str(folder / "config"), "XDG_CACHE_HOME": str(folder / "cache"), "NO_COLOR": "1"}
    result = CliRunner().invoke(cli.app, [str(each) for each in arguments], env=environment)
    if isinstance(result.exception, FercompressError):
        return Done(result.exception.exit_code, result.stdout, str(result.exception))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return Done(result.exit_code, result.stdout, result.stderr)


def judged(place: Path, candidate: str, baseline: str, inputs: str, *more: str) -> tuple[Done, dict[str, Any]]:
    """returns: what was said, and metric -> its finding"""
    out = place / f"gate-{candidate}-{Path(inputs).stem}"
    sides = ("--candidate", place / candidate, "--baseline", place / baseline)
    given = inputs if inputs == "synthetic" else place / inputs
    done = invoked(place, "gate", *sides, "--inputs", given, "--out", out, "--json", *QUICK, *TIMED, *more)
    return done, {each["metric"]: each for each in json.loads(done.out)["judgements"][0]["findings"]}


def only(*metrics: str) -> tuple[str, ...]:
    return tuple(word for metric in metrics for word in ("--metric", metric))


def test_a_slower_imported_pair_is_worse_and_its_equal_answers_are_equivalent(place: Path) -> None:
    done, found = judged(place, "slow-pair", "pair", "labelled.npz", *only("latency_predictor_p50_ns", "latency_clip_p50_ns", "accuracy"))
    assert done.code == 1, done.error
    assert found["latency_predictor_p50_ns"]["verdict"] == found["latency_clip_p50_ns"]["verdict"] == "worse"
    assert (found["accuracy"]["verdict"], found["accuracy"]["candidate"]) == ("equivalent", 1.0)


def test_a_copy_of_an_imported_pair_is_not_worse(place: Path) -> None:
    done, found = judged(place, "pair", "pair", "labelled.npz", *only("latency_clip_p50_ns", "accuracy", "stored_bytes"))
    assert done.code == 0, done.error
    assert found["latency_clip_p50_ns"]["verdict"] in ("equivalent", "inconclusive")
    assert found["accuracy"]["verdict"] == found["stored_bytes"]["verdict"] == "equivalent"


def test_one_file_for_both_is_judged_by_the_whole_clip_and_says_why_not_by_its_stages(place: Path) -> None:
    timed = (f"latency_{stage}_p50_ns" for stage in ("extractor", "predictor", "clip"))
    done, found = judged(place, "slow-whole", "whole", "labelled.npz", *only(*timed))
    assert done.code == 1, done.error
    assert found["latency_clip_p50_ns"]["verdict"] == "worse"
    for stage in ("extractor", "predictor"):
        told = found[f"latency_{stage}_p50_ns"]
        assert (told["verdict"], told["reason"]) == ("n/a", "one file for both stages: they are not told apart")


def test_without_labels_accuracy_is_not_judged_and_the_reason_is_told(place: Path) -> None:
    for inputs, words in (("bare.npz", "bare.npz have no labels"), ("synthetic", "rendered ones without labels")):
        done, found = judged(place, "whole", "pair", inputs, *only("accuracy", "worst_class_recall", "negative_flips", "stored_bytes"))
        assert done.code == 0, done.error
        for metric in ("accuracy", "worst_class_recall", "negative_flips"):
            assert found[metric]["verdict"] == "n/a"
            assert words in found[metric]["reason"]


def test_a_run_of_imported_bundles_is_a_side_with_its_own_clips(place: Path) -> None:
    measured = ("measure", place / "pair", place / "whole", "--inputs", place / "labelled.npz", "--out", place / "run")
    settings = ("measure.rounds=1", "measure.block_clips=2", "measure.block_s=0.001", 'measure.passes=["accuracy", "latency"]')
    done = invoked(place, *measured, *(word for each in settings for word in ("--set", each)))
    assert done.code == 0, done.error
    sides = ("--candidate", f"{place / 'run'}:pair", "--baseline", place / "pair", "--metric", "accuracy", "--out", place / "from-run")
    done = invoked(place, "gate", *sides, *QUICK, "--json")
    assert done.code == 0, done.error
    (found,) = json.loads(done.out)["judgements"][0]["findings"]
    assert (found["verdict"], found["candidate"]) == ("equivalent", 1.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give --data STUDY (or the name of a data set), --inputs FILE.npz, or --inputs synthetic"),
        (("--inputs", "synthetic", "--data", "gfe"), "--data and --inputs both say which clips to run"),
        (("--data-root", "somewhere"), "--data-root says where a data set lies, not which"),
        (("--inputs", "nowhere.npz"), "cannot be read as .npz"),
        (("--data", "synthetic"), "cannot give 4 frames of 8 x 8"),
    ],
)
def test_clips_that_cannot_be_meant_are_refused(place: Path, arguments: tuple[str, ...], said: str) -> None:
    done = invoked(place, "gate", "--candidate", place / "pair", "--baseline", place / "whole", "--out", place / "refused", *arguments)
    assert done.code == 2, done.error
    assert said in done.error.replace("\n", " ")


def test_an_imported_bundle_predicts_what_its_files_compute(place: Path) -> None:
    logits = models.expected(FRAMES)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    for name in ("pair", "whole"):
        loaded = fercompress.load_bundle(place / name)
        np.testing.assert_allclose(loaded.predict(FRAMES), powers / powers.sum(axis=1, keepdims=True), rtol=1e-3, atol=1e-5)
        with pytest.raises(BundleError, match=r"expects uint8 clips \(N, 4, 8, 8\)"):
            loaded.predict(FRAMES[:, :2])
        with pytest.raises(ModelError, match="an imported bundle is not streamed"):
            loaded.stream()
