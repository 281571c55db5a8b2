"""A study falls into tasks: what shares a training or an extractor is done once, and nothing begins before what it needs."""

import pytest

from fercompress.studyfile import load_study, parse_study, shipped_studies
from fercompress.tasks import TEACHER, tasks

HEAD = """
[study]
name = "mine"
baseline = "dense"
[data]
name = "synthetic"
[[variant]]
name = "dense"
"""
TT = '{ step = "tensor-train", rank = 4 }'
EXTRACTOR = '{ step = "quantize", part = "extractor" }'
PREDICTOR = '{ step = "quantize", part = "predictor" }'


def tasks_of(**recipes: str):
    text = HEAD + "".join(f'[[variant]]\nname = "{name.replace("_", "-")}"\nrecipe = [{recipe}]\n' for name, recipe in recipes.items())
    return tasks(parse_study(text, "mine.toml").variants)


def groups(found) -> list[tuple[str, ...]]:
    return [task.variants for task in found if task.kind == "variants"]


def test_variants_that_differ_in_rounding_alone_are_one_task():
    found = tasks_of(tt=TT, tt_int8=f"{TT}, {EXTRACTOR}, {PREDICTOR}", dense_int8=PREDICTOR)
    assert groups(found) == [("dense", "dense-int8"), ("tt", "tt-int8")]
    assert [task.kind for task in found] == ["teacher", "extractor", "variants", "variants"]
    assert len(next(task for task in found if task.kind == "extractor").wishes) == 1


def test_variants_on_a_low_rank_extractor_wait_for_it_and_for_the_teacher_s_own_features():
    found = tasks_of(low=f'{{ step = "low-rank", ratio = 2.0 }}, {TT}')
    own, low = (task for task in found if task.kind == "extractor")
    assert (own.step, low.step.ratio) == (None, 2.0)
    assert next(task for task in found if "low" in task.variants).needs == (TEACHER.name, own.name, low.name)


def test_a_control_waits_for_the_variant_that_it_is_as_large_as():
    found = tasks_of(control='{ step = "small-dense", bytes_of = "tt" }', tt=TT)
    control, model = (next(task for task in found if name in task.variants) for name in ("control", "tt"))
    assert model.name in control.needs
    assert found.index(control) > found.index(model)


def test_what_the_npu_runs_is_left_to_this_machine_with_what_is_sized_after_it():
    found = tasks_of(npu='{ step = "quantize", part = "extractor", npu = "u8" }', control='{ step = "small-dense", bytes_of = "npu" }')
    assert groups(found) == [("dense",)]


@pytest.mark.parametrize("name", shipped_studies())
def test_every_variant_of_a_shipped_study_is_in_one_task_after_all_that_it_needs(name):
    study = load_study(name)
    found = tasks(study.variants)
    made = [variant for task in found for variant in task.variants]
    assert len(made) == len(set(made))
    on_npu = {variant.name for variant in study.variants if any(getattr(step, "npu", None) for step in variant.recipe)}
    assert set(made) == {variant.name for variant in study.variants} - on_npu
    seen: set[str] = set()
    for task in found:
        assert set(task.needs) <= seen
        seen.add(task.name)
