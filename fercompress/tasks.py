"""What of a study can be done apart: a study's variants in, the tasks of one seed and fold out, each with those that come before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fercompress import config
from fercompress.records import digest


@dataclass(frozen=True)
class Task:
    """One piece of work on one seed and fold.

    name: unique within them; needs: names of the tasks whose results it takes
    kind: "teacher": it is trained; "extractor": the teacher's own or a low-rank one is trained where it learns, and its features are cached;
        "variants": those that differ in rounding alone, which share a training
    step: of an "extractor" task, None for the teacher's own; wishes: roundings of it that may need a training
    """

    name: str
    kind: str
    needs: tuple[str, ...] = ()
    step: config.LowRank | None = None
    wishes: tuple[config.Quantize, ...] = ()
    variants: tuple[str, ...] = ()

    @property
    def trains(self) -> bool:
        return self.kind != "variants"


TEACHER = Task("teacher", "teacher")


def tasks(variants: Sequence[config.Variant]) -> tuple[Task, ...]:
    """Of one seed and fold, each after those that it needs. Variants for an NPU are not among them: their converter is this machine's."""
    here = [variant for variant in variants if config.npu_step(variant) is None]
    if not here:
        return ()
    extractors: dict[str, Task] = {}
    steps = list(dict.fromkeys([None, *(_low_rank(variant) for variant in here)]))  # the teacher's own features are what every training imitates
    for place, step in enumerate(steps):
        mine = [variant for variant in here if _low_rank(variant) == step]
        wishes = tuple(
            dict.fromkeys(wish for variant in mine for wish in variant.recipe if isinstance(wish, config.Quantize) and wish.part == "extractor")
        )
        extractors[_key(step)] = Task(f"extractor-{place}", "extractor", (TEACHER.name,), step, wishes)
    groups: dict[str, list[config.Variant]] = {}
    for variant in here:
        groups.setdefault(_training(variant), []).append(variant)
    names = {variant.name: f"variants-{place}" for place, group in enumerate(groups.values()) for variant in group}
    found = []
    for group in groups.values():
        needs = [TEACHER.name, extractors[_key(None)].name, extractors[_key(_low_rank(group[0]))].name]
        if (like := config.bytes_of(group[0])) is not None:
            if like not in names:  # an NPU's: this machine makes it, and what is to be as large
                continue
            needs.append(names[like])
        found.append(Task(names[group[0].name], "variants", tuple(dict.fromkeys(needs)), variants=tuple(variant.name for variant in group)))
    return (TEACHER, *extractors.values(), *sorted(found, key=lambda task: any(need.startswith("variants") for need in task.needs)))


def _low_rank(variant: config.Variant) -> config.LowRank | None:
    return next((step for step in variant.recipe if isinstance(step, config.LowRank)), None)


def _training(variant: config.Variant) -> str:
    """Equal for variants that share their predictor's training; a control's size depends on its rounding."""
    alone = config.bytes_of(variant) is not None
    return digest([step.model_dump() for step in variant.recipe if alone or not isinstance(step, config.Quantize)])


def _key(step: config.LowRank | None) -> str:
    return digest(None if step is None else step.model_dump())
