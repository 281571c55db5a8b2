"""Pretrained weights: what fits is loaded to the last digit, what does not is told in a way that a person can act on."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fercompress import config, making, studyfile
from fercompress.errors import ModelError, StudyError
from fercompress.model import zoo
from fercompress.model.zoo import Network

State = dict[str, Tensor]


def _network(seed: int, **settings: str) -> Network:
    return zoo.build(config.Model(hidden=4, **settings), 1, 32, 2, 2, 0, seed)  # type: ignore[arg-type]


def _state(network: Network) -> State:
    return nn.ModuleDict({"extractor": network.extractor, "predictor": network.predictor}).state_dict()


def _saved(path: Path, change: Callable[[State], object]) -> str:
    torch.save(change(_state(_network(1))), path)
    return str(path)


def _extractor_alone(state: State) -> State:
    return {name.removeprefix("extractor."): tensor for name, tensor in state.items() if name.startswith("extractor.")}


def _equal(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_whole_model_comes_back(tmp_path: Path, suffix: str) -> None:
    state = _state(_network(1))
    path = tmp_path / f"w.{suffix}"
    if suffix == "pt":
        torch.save(state, path)
    else:
        save_file(state, path)
    again, wanted = _network(2, weights=str(path)), _network(1)
    assert _equal(again.extractor, wanted.extractor)
    assert _equal(again.predictor, wanted.predictor)


@pytest.mark.parametrize(
    "change",
    [lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}}, lambda state: {"model": state, "best": 0.9}],
    ids=["state_dict", "model"],
)
def test_a_checkpoints_weights_are_found_beside_its_optimiser(tmp_path: Path, change: Callable[[State], object]) -> None:
    assert _equal(_network(2, weights=_saved(tmp_path / "w.pt", change)).predictor, _network(1).predictor)


@pytest.mark.parametrize(
    ("change", "prefix"),
    [
        (lambda state: state, ""),
        (_extractor_alone, ""),
        (lambda state: {f"module.{name}": tensor for name, tensor in state.items()}, "module."),
        (lambda state: {f"features.{name}": tensor for name, tensor in _extractor_alone(state).items()} | {"fc.weight": torch.zeros(3)}, "features."),
    ],
    ids=["whole model", "extractor alone", "whole model, wrapped", "beside another head"],
)
def test_an_extractor_alone_is_loaded_and_the_predictor_starts_as_without_it(tmp_path: Path, change: Callable[[State], State], prefix: str) -> None:
    path = _saved(tmp_path / "w.pt", change)
    partly = _network(2, weights=path, weights_part="extractor", weights_prefix=prefix)
    assert _equal(partly.extractor, _network(1).extractor)
    assert _equal(partly.predictor, _network(2).predictor)


def test_a_file_without_batch_counters_still_fits(tmp_path: Path) -> None:
    path = _saved(tmp_path / "w.pt", lambda state: {name: tensor for name, tensor in state.items() if "num_batches" not in name})
    assert torch.equal(next(_network(2, weights=path).extractor.parameters()), next(_network(1).extractor.parameters()))


def test_what_is_missing_unexpected_or_of_another_shape_is_listed(tmp_path: Path) -> None:
    def change(state: State) -> State:
        del state["predictor.classifier.bias"]
        return {**state, "predictor.classifier.weight": torch.zeros(7, 4), "fc.weight": torch.zeros(3)}

    with pytest.raises(ModelError) as error:
        _network(2, weights=_saved(tmp_path / "w.pt", change))
    entries = len(_state(_network(1)))
    assert f"does not fit the model: {entries - 2} of its {entries} entries do\n" in str(error.value)
    assert "\n  missing in the file (1): predictor.classifier.bias (2,)\n" in str(error.value)
    assert "\n  unexpected in the file (1): fc.weight (3,)\n" in str(error.value)
    assert str(error.value).endswith("\n  other shapes (1): predictor.classifier.weight: model (2, 4), file (7, 4)")


def test_a_long_difference_is_cut(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pt")
    entries = sum("num_batches" not in name for name in _state(_network(1)))
    with pytest.raises(ModelError, match=rf"missing in the file \({entries}\): extractor\.0.*; and {entries - 8} more\n"):
        _network(2, weights=str(tmp_path / "w.pt"))


@pytest.mark.parametrize(
    ("change", "part", "words"),
    [
        (lambda s: {f"module.{name}": tensor for name, tensor in s.items()}, {}, 'did you mean [model] weights_prefix = "module."?'),
        (_extractor_alone, {}, 'did you mean [model] weights_part = "extractor"?'),
        (
            lambda s: {f"features.{name}": tensor for name, tensor in _extractor_alone(s).items()},
            {},
            'did you mean [model] weights_prefix = "features." and weights_part = "extractor"?',
        ),
        (
            lambda s: {f"net.features.{name}": tensor for name, tensor in _extractor_alone(s).items()},
            {"weights_part": "extractor"},
            'did you mean [model] weights_prefix = "net.features."?',
        ),
    ],
    ids=["module", "part", "part and prefix", "prefix of the part"],
)
def test_the_setting_that_would_fit_is_proposed(tmp_path: Path, change: Callable[[State], State], part: dict[str, str], words: str) -> None:
    path = _saved(tmp_path / "w.pt", change)
    with pytest.raises(ModelError) as error:
        _network(2, weights=path, **part)
    assert words in str(error.value)


def test_nothing_is_proposed_where_nothing_fits(tmp_path: Path) -> None:
    torch.save({"module.a": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(ModelError) as error:
        _network(2, weights=str(tmp_path / "w.pt"))
    assert "did you mean" not in str(error.value)


def test_a_prefix_that_no_name_has_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    path = _saved(tmp_path / "w.pt", lambda state: state)
    with pytest.raises(ModelError, match=r"no name begins with weights_prefix 'modul\.'; names begin with extractor\., predictor\."):
        _network(2, weights=path, weights_prefix="modul.")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"module": nn.Linear(1, 1)}, "cannot be read"),  # a pickle, which is not executed
        ({"epoch": 3, "lr": 0.1}, "holds epoch, lr, not names and tensors"),
        ([torch.zeros(1)], "holds a list"),
        ({}, "holds nothing"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, content: object, words: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=words):
        _network(2, weights=str(tmp_path / "w.pt"))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        _network(2, weights=str(tmp_path / "none.safetensors"))


def test_a_part_without_a_file_is_refused() -> None:
    with pytest.raises(StudyError, match="give weights too"):
        studyfile.load_study("default", ["model.weights_part=extractor"])


STUDY = """
[study]
name = "first"
baseline = "dense"
[data]
name = "synthetic"
train_clips = 14
validation_clips = 14
test_clips = 14
frames = 2
size = 32
[model]
hidden = 4
[train]
epochs = 1
[[variant]]
name = "dense"
"""


def test_one_study_starts_from_the_weights_that_another_prints(tmp_path: Path) -> None:
    (tmp_path / "first.toml").write_text(STUDY)

    def trained(*wishes: str) -> dict[str, str]:
        command = [sys.executable, "-m", "fercompress", "train", "first.toml", "--json", *wishes]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        (found,) = json.loads(done.stdout)
        return dict(found)

    row = trained()
    again = trained("--set", f"model.weights={row['weights']}", "--out", "second")  # the whole model
    assert Path(again["weights"]).parent.name != Path(row["weights"]).parent.name  # another teacher
    # Other classes and another hidden size: the extractor alone is taken.
    model = config.Model(hidden=8, weights=str(tmp_path / row["weights"]), weights_part="extractor")
    found = zoo.build(model, 1, 32, 2, 5, 0, seed=3)
    wanted = load_file(tmp_path / row["weights"])
    for name, tensor in found.extractor.state_dict().items():
        assert torch.equal(tensor, wanted[f"extractor.{name}"])


def test_weights_are_refused_before_the_long_work(tmp_path: Path) -> None:
    (tmp_path / "first.toml").write_text(STUDY)
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pt")
    part = ["model.weights_part=extractor"]
    for words, wishes in (("does not fit extractor", part), ("cannot be read", [])):
        path = tmp_path / ("w.pt" if wishes else "first.toml")
        study = studyfile.load_study(str(tmp_path / "first.toml"), [f"model.weights={path}", *wishes])
        with pytest.raises(ModelError, match=words):
            making.check(study)
