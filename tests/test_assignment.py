"""Which engine runs which variant where: from recipes, the study's wish and what the targets list."""

import pytest

from fercompress.assignment import assign
from fercompress.errors import InputError, StudyError
from fercompress.measure.board import load_boards, parse_board
from fercompress.studyfile import load_study, parse_study

STUDY = """
[study]
name = "mine"
baseline = "dense"

[data]
name = "synthetic"

[measure]
{measure}

[[variant]]
name = "dense"
{dense}

[[variant]]
name = "npu"
recipe = [{{ step = "quantize", part = "extractor", npu = "u8" }}]
{npu}
"""


def study(measure="", dense="", npu=""):
    return parse_study(STUDY.format(measure=measure, dense=dense, npu=npu), "mine")


def target(name, *engines):
    return parse_board(f'kind = "local"\nengines = {list(engines)}'.replace("'", '"'), name, name)


BOARD, PI = target("board", "rknnlite", "rknn", "onnxruntime", "numpy"), target("pi", "onnxruntime", "numpy")


def test_an_npu_variant_takes_the_first_npu_engine_that_a_target_lists_and_the_study_s_predictor():
    assert assign(study(), [BOARD]).engines == {"dense": "onnxruntime", "npu": "rknnlite+onnxruntime"}
    full = target("full", "rknn", "onnxruntime")
    assert assign(study(), [PI, full]).engines["npu"] == "rknn+onnxruntime"
    assert assign(study('engine = "onnxruntime+numpy"'), [BOARD]).engines == {"dense": "onnxruntime+numpy", "npu": "rknnlite+numpy"}
    assert assign(study(), [target("listed", "rknn+numpy", "onnxruntime")]).engines["npu"] == "rknn+numpy"


def test_what_a_target_does_not_run_is_told_and_only_what_some_target_runs_is_made():
    both = assign(study(), [BOARD, PI])
    assert both.absent == {"board": {}, "pi": {"npu": "not run here: pi runs onnxruntime, numpy; this variant needs rknnlite+onnxruntime"}}
    assert both.made == both.engines
    assert both.converted == ("npu",)
    alone = assign(study(), [PI])
    assert dict(alone.made) == {"dense": "onnxruntime"}
    assert alone.converted == ()


def test_a_variant_s_own_engine_stands_before_the_study_s():
    found = assign(study('engine = "onnxruntime"', dense='engine = "onnxruntime+numpy"', npu='engine = "rknn+numpy"'), [BOARD])
    assert found.engines == {"dense": "onnxruntime+numpy", "npu": "rknn+numpy"}
    # The study's engine may be the NPU's where the variants that stay on the processor name their own.
    found = assign(study('engine = "rknn+onnxruntime"', dense='engine = "onnxruntime"'), [BOARD, PI])
    assert found.engines == {"dense": "onnxruntime", "npu": "rknn+onnxruntime"}
    assert list(found.absent["pi"]) == ["npu"]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"measure": 'engine = "rknnlite+onnxruntime"'}, StudyError, "variant 'dense': .* runs the extractor on the NPU: add a step to its recipe"),
        ({"dense": 'engine = "rknn+numpy"'}, StudyError, "variant 'dense': engine = 'rknn.numpy' runs the extractor on the NPU"),
        ({"npu": 'engine = "onnxruntime"'}, StudyError, "variant 'npu': npu in its recipe needs an engine of the NPU"),
        ({"npu": 'engine = "rknnlite"'}, StudyError, "variant 'npu': engine: no bundle is made for 'rknnlite'; did you mean 'rknnlite.numpy'"),
        ({"dense": 'engine = "onnxruntime-c"'}, InputError, "baseline 'dense': board runs .*; this variant needs onnxruntime-c; nothing can be"),
    ],
)
def test_a_recipe_and_an_engine_that_do_not_fit_are_refused(given, error, words):
    with pytest.raises(error, match=words):
        assign(study(**given), [BOARD])


def test_the_shipped_boards_study_runs_every_variant_on_the_rk3399pro_and_half_of_them_on_the_pi():
    shipped = load_study("boards")
    found = assign(shipped, load_boards(shipped.targets, reached=False))
    assert found.absent["rk3399pro-debian10"] == {}
    assert set(found.absent["rpi4"]) == {"dense-npu-fp16", "dense-npu-u8", "tt-r4-npu-fp16", "tt-r4-npu-u8"} == set(found.converted)
    assert {found.engines[name] for name in found.converted} == {"rknnlite+onnxruntime"}
