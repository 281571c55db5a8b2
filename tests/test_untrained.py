"""Studies in which nothing is trained: random weights have sizes, latency and memory, and no accuracy; weights of one's own keep theirs."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from fercompress import study as whole
from fercompress.errors import StudyError
from fercompress.model import zoo
from fercompress.progress import Reporter
from fercompress.results.store import Store
from fercompress.studyfile import load_study, parse_study
from fercompress.verify import verify

STUDY = """
[study]
name = "untrained"
baseline = "dense-fp32"

[data]
name = "synthetic"
train_clips = 14
validation_clips = 14
test_clips = 14
frames = 4
size = 32

[model]
zoo = "small"
hidden = 16

[train]
epochs = 0

[fine_tune]
epochs = 0
extractor_epochs = 0

[measure]
rounds = 1
block_clips = 12
block_s = 0.01
warmup_clips = 1
passes = ["latency", "memory"]

[[variant]]
name = "dense-fp32"

[[variant]]
name = "tt-r2"
recipe = [{ step = "tensor-train", rank = 2 }]

[[variant]]
name = "lowrank-tt-r2-int8"
recipe = [
    { step = "low-rank", ratio = 2.0, calibration_clips = 2 },
    { step = "tensor-train", rank = 2, layout = "balanced" },
    { step = "quantize", part = "extractor", calibration_clips = 2 },
    { step = "quantize", part = "predictor" },
]

[[variant]]
name = "bottleneck-r2"
recipe = [{ step = "bottleneck", rank = 2 }]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("untrained") / "out"
    with Reporter(Console(quiet=True)) as tell:
        whole.run(whole.Request(parse_study(STUDY, "untrained.toml"), out), tell)
    return out


def rows_of(out: Path) -> dict[str, dict]:
    return {row["variant"]: row for row in json.loads((out / "summary.json").read_text())["rows"]}


def test_random_weights_have_no_accuracy_and_the_reason_stands_beside_it(finished: Path) -> None:
    for row in rows_of(finished).values():
        for column in ("accuracy", "validation_accuracy", "accuracy_best_epoch", "train_epoch_s"):
            assert row[column] is None
            assert row["reasons"][column] == "the weights are random: nothing was trained (epochs = 0 under [train])"
    assert "the weights are random" in (finished / "index.html").read_text()


def test_sizes_latency_and_memory_are_measured_all_the_same(finished: Path) -> None:
    rows = rows_of(finished)
    for row in rows.values():
        assert min(row["latency_clip_p50_ns"], row["speedup_predictor"], row["memory_peak_bytes"], row["stored_bytes"]) > 0
    # D = 256 maps of 2 x 2, H = 16: matrices of 64 x 1024 and 64 x 16, and an LSTM's two biases of 64.
    assert rows["dense-fp32"]["params_lstm"] == 64 * 1024 + 64 * 16 + 128
    assert rows["tt-r2"]["ratio_tt_params"] > 10
    assert rows["lowrank-tt-r2-int8"]["ratio_model_bytes"] > 10


def test_ways_do_not_speak_of_a_training_that_was_not(finished: Path) -> None:
    ways = {name: row["way_text"] for name, row in rows_of(finished).items()}
    assert ways["dense-fp32"] == "dense, with random weights"
    assert ways["tt-r2"] == "decomposed, not trained further"
    (manifest,) = (finished / "bundles").glob("lowrank-*/manifest.json")
    assert json.loads(manifest.read_text())["way"] == "low-rank convolutions not trained further; predictor: decomposed, not trained further"
    assert ways["bottleneck-r2"].endswith("before a dense LSTM, at random")


def test_a_run_without_training_can_be_verified(finished: Path) -> None:
    assert not verify(finished).differences


def test_nothing_was_trained_but_every_bundle_is_told_of(finished: Path) -> None:
    with Store.open(finished / "results.sqlite", writable=False) as store:
        assert [training.history.train_loss for training in store.trainings()] == [()] * 4
        assert {stored.variant for stored in store.bundles()} == set(rows_of(finished))


def test_weights_of_ones_own_are_kept_as_they_are_where_the_teacher_has_no_epochs(tmp_path: Path) -> None:
    """Accuracy is theirs then: the fresh network's weights, saved and given, answer as that network does."""
    plain = parse_study(STUDY, "untrained.toml")
    network = zoo.build(plain.model, 1, 32, 4, 7, 0.0, seed=5)
    weights = {f"extractor.{name}": value for name, value in network.extractor.state_dict().items()}
    weights |= {f"predictor.{name}": value for name, value in network.predictor.state_dict().items()}
    torch.save(weights, tmp_path / "own.pt")
    wishes = [f"model.weights={tmp_path / 'own.pt'}", 'measure.passes=["accuracy"]']
    own = parse_study(STUDY.split('[[variant]]\nname = "bottleneck')[0], "own.toml", wishes)
    with Reporter(Console(quiet=True)) as tell:
        whole.run(whole.Request(own, tmp_path / "out"), tell)
        kept = whole.train_only(whole.Request(own, tmp_path / "out"), tell)[0]
    from safetensors.torch import load_file

    loaded = load_file(kept["weights"])
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())
    assert (kept["epochs"], kept["validation_accuracy"]) == (0, None)
    row = rows_of(tmp_path / "out")["dense-fp32"]
    assert row["accuracy"] is not None
    assert row["way_text"] == "dense, with the weights given"


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ('measure.passes=["accuracy"]', 'leave "accuracy" out of measure.passes'),
        ("fine_tune.epochs=1", "there is nothing to learn from"),
        ("fine_tune.extractor_epochs=1", "there is nothing to learn from"),
    ],
)
def test_random_weights_are_asked_for_no_accuracy_and_taught_nothing(wish: str, words: str) -> None:
    with pytest.raises(StudyError, match="random") as caught:
        parse_study(STUDY, "untrained.toml", [wish])
    assert words in str(caught.value)


def test_what_starts_at_random_must_be_trained_beside_a_trained_teacher() -> None:
    with pytest.raises(StudyError, match=r"'bottleneck-r2': bottleneck starts at random and fine_tune.epochs is 0"):
        parse_study(STUDY, "untrained.toml", ["train.epochs=1"])


def test_the_study_at_the_papers_scale_has_the_shapes_it_speaks_of() -> None:
    """VGG-16's maps of a 224-pixel frame are 7 x 7 x 512 = 25088 numbers (Simonyan and Zisserman 2015); its convolutions hold 14,713,536 weights
    for one channel in place of three: 14,710,464 published for three, less 2 x 576, and no biases."""
    study = load_study("paper_scale")
    assert study.untrained
    with torch.device("meta"):
        extractor = zoo.ZOO["vgg16-face"](1)
        assert extractor(torch.empty(1, 1, study.data.size, study.data.size)).shape == (1, 512, 7, 7)
    kernels = sum(parameter.numel() for parameter in extractor.parameters() if parameter.ndim == 4)
    assert kernels == 14_714_688 - 4_224 - 2 * 576  # Keras counts 14,714,688 without the head, 4,224 of them biases
    assert study.model.hidden == 256
