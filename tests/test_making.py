"""Bundles made for another engine than the default one, for every kind of variant that a study has."""

from pathlib import Path

import numpy as np
import pytest
import test_study
from rich.console import Console

from fercompress.data import source
from fercompress.export.runtime import Runner
from fercompress.made import Made
from fercompress.making import Maker
from fercompress.progress import Reporter
from fercompress.studyfile import load_study
from fercompress.workspace import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Made]]:
    folder: Path = tmp_path_factory.mktemp("making")
    file = folder / "small.toml"
    file.write_text(test_study.study())
    study = load_study(str(file))
    clips = source.load(study.data, None, folder)
    folds = source.SOURCES[study.data.name].folds(study.data, clips)
    workspace = Workspace(folder / "out")
    names = [variant.name for variant in study.variants]
    found = {}
    with workspace.locked(), Reporter(Console(quiet=True)) as tell:
        for engine in ("onnxruntime", "onnxruntime+numpy"):
            found[engine] = Maker(workspace, study, clips, folds, tell, dict.fromkeys(names, engine)).bundles(study.seeds[0], folds[0])
    return found


def test_every_variant_has_a_bundle_for_numpy_beside_the_one_for_onnxruntime_with_the_same_labels(made: dict[str, dict[str, Made]]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, 4, 32, 32), dtype=np.uint8)
    for name, plain in made["onnxruntime"].items():
        other = made["onnxruntime+numpy"][name].bundle
        assert (other.engine, other.manifest["predictor"]["file"]) == ("onnxruntime+numpy", "predictor.npz")
        assert other.manifest["extractor"]["file"] == "extractor.onnx"
        if "small-dense" not in name:  # which is as large as its budget allows, in either form
            first, second = Runner(plain.bundle).logits(frames), Runner(other).logits(frames)
            assert np.array_equal(first.argmax(1), second.argmax(1))
            assert np.abs(first - second).max() < (0.05 if "int" in name else 1e-5)
