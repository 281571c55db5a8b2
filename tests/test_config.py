"""A study file either becomes a frozen Study or an error that says which key, in which table, and what was probably meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fercompress.config import Quantize, TensorTrain
from fercompress.errors import StudyError
from fercompress.studyfile import load_study, parse_study, restricted, shipped_studies

STUDY = """
[study]
name = "mine"
baseline = "dense"
seeds = [0, 1]

[data]
name = "synthetic"
preset = "posed"

[[variant]]
name = "dense"

[[variant]]
name = "tt-{layout}-r{rank}"
matrix = { rank = [2, 4], layout = ["asymmetric", "balanced"] }
recipe = [{ step = "tensor-train", rank = "{rank}", layout = "{layout}" }, { step = "quantize", part = "predictor" }]
"""


def error_of(old: str, new: str) -> str:
    assert old in STUDY
    with pytest.raises(StudyError) as caught:
        parse_study(STUDY.replace(old, new), "mine.toml")
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_matrix_expands_into_one_variant_per_combination_with_typed_values():
    study = parse_study(STUDY, "mine.toml")
    assert [v.name for v in study.variants] == ["dense", "tt-asymmetric-r2", "tt-balanced-r2", "tt-asymmetric-r4", "tt-balanced-r4"]
    assert study.variants[-1].recipe == (TensorTrain(step="tensor-train", rank=4, layout="balanced"), Quantize(step="quantize", part="predictor"))


@pytest.mark.parametrize("name", shipped_studies())
def test_every_shipped_study_is_valid_and_named_like_its_file(name):
    assert load_study(name).name == name


def test_an_unknown_key_names_its_neighbour():
    assert "unknown key 'presett' in [data.synthetic]; did you mean 'preset'?" in error_of("preset =", "presett =")
    assert "unknown key 'sedes' in [study]; did you mean 'seeds'?" in error_of("seeds =", "sedes =")


def test_an_unknown_key_of_a_recipe_step_names_its_neighbour():
    message = error_of('part = "predictor"', 'part = "predictor", bist = 8')
    assert "unknown key 'bist' in [variants.recipe.quantize]; did you mean 'bits'?" in message


def test_an_unknown_table_names_its_neighbour():
    assert "did you mean 'measure'?" in error_of("[data]", "[mesure]\nrounds = 3\n[data]")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seeds = [0, 1]", 'seeds = "0"', "seeds: input should be a valid array"),
        ("seeds = [0, 1]", "seeds = [0, 0]", "a seed twice"),
        ("seeds = [0, 1]", "seeds = []", "seeds"),
        ("rank = [2, 4]", "rank = [0]", "greater than or equal to 1 (given: 0)"),
        ("rank = [2, 4]", "rank = [2.5]", "valid integer"),
        ("rank = [2, 4]", "rank = 2", "matrix must map names to non-empty lists"),
        ('rank = "{rank}"', 'rank = "{rnak}"', "{rnak}, which the variant's matrix does not hold"),
        ('baseline = "dense"', 'baseline = "dens"', "baseline 'dens' is not a variant; did you mean 'dense'?"),
        ('name = "dense"', 'name = "Dense Model"', "variant"),
        ('name = "mine"', 'name = "../mine"', "name"),
        ("[study]", "[study", "not valid TOML"),
        ('preset = "posed"', 'preset = "poses"', "'posed', 'return' or 'wild'"),
        ('name = "synthetic"', 'name = "sinthetic"', "'synthetic'"),
    ],
)
def test_wrong_values_are_named(old, new, words):
    assert words in error_of(old, new)


def test_quantize_comes_last():
    steps = 'recipe = [{ step = "quantize", part = "predictor" }, { step = "bottleneck", rank = 2 }]'
    assert "quantize comes last" in error_of('name = "dense"\n', f'name = "dense"\n{steps}\n')


NPU = 'step = "quantize", npu = "u8", part = '


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (NPU + '"predictor"', "npu is for the extractor"),
        (NPU + '"extractor", bits = 8', "bits: not with npu, whose converter does the rounding itself"),
        (NPU + '"extractor", mean_bits = 5.0, qat = "never"', "mean_bits, qat: not with npu"),
        ('step = "quantize", npu = "fp16", part = "extractor", calibration_clips = 4', "calibration_clips: not with npu = 'fp16'"),
        ('step = "quantize", npu = "fp8", part = "extractor"', "input should be 'fp16' or 'u8' (given: 'fp8')"),
    ],
)
def test_the_npu_rounds_extractors_alone_and_by_itself(step, words):
    assert words in error_of('name = "dense"\n', f'name = "dense"\nrecipe = [{{ {step} }}]\n')


def test_a_study_that_is_not_there_names_those_that_ship():
    with pytest.raises(StudyError, match=r"no study named 'defualt'; did you mean 'default'\?"):
        load_study("defualt")
    with pytest.raises(StudyError, match="cannot read the study"):
        load_study("nowhere/study.toml")


def test_a_wish_replaces_what_the_file_says_and_keeps_the_rest():
    wishes = ["data.preset=wild", "train.epochs=3", "train.augment.flip=true", "seeds=[4, 5]", "study.title=An evening's try", "model.zoo=resnet18"]
    study, plain = parse_study(STUDY, "mine.toml", wishes), parse_study(STUDY, "mine.toml")
    assert (study.data.preset, study.train.epochs, study.train.augment.flip, study.seeds) == ("wild", 3, True, (4, 5))
    assert (study.title, study.model.zoo) == ("An evening's try", "resnet18")
    assert study.variants == plain.variants
    assert study.train.augment.shift == plain.train.augment.shift


def test_of_two_wishes_for_one_key_the_last_counts():
    assert parse_study(STUDY, "mine.toml", ["train.epochs=3", "train.epochs=4"]).train.epochs == 4


def test_the_shipped_gfe_study_runs_by_the_other_protocol():
    study, plain = load_study("gfe", ["data.protocol=modulo"]), load_study("gfe")
    assert study == plain.model_copy(update={"data": plain.data.model_copy(update={"protocol": "modulo"})})


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ("data.preset", "write KEY=VALUE"),
        ("=3", "write KEY=VALUE"),
        ("data..preset=wild", "write KEY=VALUE"),
        ("data.presett=wild", "unknown key 'presett' in [data.synthetic]; did you mean 'preset'?"),
        ("sedes=[1]", "unknown key 'sedes' in [study]; did you mean 'seeds'?"),
        ("trian.epochs=3", "did you mean 'train'?"),
        ("train.epochs=many", "train.epochs: input should be a valid integer (given: 'many')"),
        ("train.epochs=-1", "greater than or equal to 0 (given: -1)"),
        ("train.epochs=3\nbatch=2", "train.epochs: input should be a valid integer"),
        ("data.preset.kind=wild", "'preset' is a value, not a table"),
        ("data=wild", "data"),
        ("variant.rank=3", "a variant's recipe cannot be set"),
    ],
)
def test_a_wish_is_checked_like_the_file(wish, words):
    with pytest.raises(StudyError) as caught:
        parse_study(STUDY, "mine.toml", [wish])
    assert words in str(caught.value)
    assert "--set" in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_a_study_or_a_study_error(text):
    try:
        study = parse_study(text, "any.toml")
    except StudyError as error:
        message = str(error)
    else:
        message = f"any.toml gives {study.name}"
    assert message.startswith("any.toml")


def test_a_ladder_names_variants_each_once():
    ladder = STUDY.replace("seeds = [0, 1]", 'ladder = ["dense", "tt-asymmetric-r2"]')
    assert parse_study(ladder, "mine.toml").ladder == ("dense", "tt-asymmetric-r2")
    message = error_of("seeds = [0, 1]", 'ladder = ["dense", "tt-asymetric-r2"]')
    assert "ladder: 'tt-asymetric-r2' is not a variant; did you mean 'tt-asymmetric-r2'?" in message
    assert "ladder holds 'dense' twice" in error_of("seeds = [0, 1]", 'ladder = ["dense", "dense"]')


def test_a_restricted_study_keeps_the_rungs_that_are_left():
    study = parse_study(STUDY.replace("seeds = [0, 1]", 'ladder = ["dense", "tt-asymmetric-r2", "tt-balanced-r4"]'), "mine.toml")
    assert restricted(study, ("tt-balanced-r4",), (), None).ladder == ("dense", "tt-balanced-r4")
