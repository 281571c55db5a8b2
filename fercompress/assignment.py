"""Which engine runs each variant of a study, and where: the study and its targets in, an `Assignment` out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fercompress import config
from fercompress.errors import InputError, StudyError
from fercompress.export.part import MAKEABLE, SUFFIXES, engines_of
from fercompress.measure import board
from fercompress.measure.board import Board
from fercompress.records import NOT_HERE
from fercompress.section import did_you_mean

NPU = tuple(name for name, suffix in SUFFIXES["extractor"].items() if suffix == "rknn")
PROCESSOR = tuple(name for name in MAKEABLE if name.partition("+")[0] not in NPU)


@dataclass(frozen=True)
class Assignment:
    """engines: variant -> what its bundle is made for; absent: target -> variant -> why it is not measured there, "not run here: ..."

    default: the engine of variants that name none and stay on the processor; converted: variants whose extractor must become a .rknn file
    """

    engines: Mapping[str, str]
    absent: Mapping[str, Mapping[str, str]]
    default: str
    converted: tuple[str, ...]

    @property
    def made(self) -> Mapping[str, str]:
        """`engines` of the variants that at least one target runs: no bundle is made for nobody."""
        return {name: engine for name, engine in self.engines.items() if not all(name in there for there in self.absent.values())}


def assign(study: config.Study, targets: Sequence[Board]) -> Assignment:
    """raises: StudyError where a recipe and its engine do not fit; InputError where a target does not run the baseline, or the study's engine"""
    asked = study.measure.engine
    plain = [variant for variant in study.variants if variant.engine is None and config.npu_step(variant) is None]
    if asked is not None and plain:
        _check_fit(plain[0], asked, f"[measure] engine = {asked!r}")
    # Where every variant names its own, or is the NPU's, the targets need none in common.
    default = board.common_engine(targets, MAKEABLE if asked else PROCESSOR, asked) if plain else asked or "onnxruntime"
    engines = {variant.name: _engine(variant, default, targets) for variant in study.variants}
    absent = {
        target.name: {
            name: f"{NOT_HERE}{target.name} runs {', '.join(target.engines)}; this variant needs {engine}"
            for name, engine in engines.items()
            if not target.runs(engine)
        }
        for target in targets
    }
    for there in absent.values():
        if study.baseline in there:
            raise InputError(f"the baseline {study.baseline!r}: {there[study.baseline].removeprefix(NOT_HERE)}; nothing can be compared without it")
    on_npu = [variant.name for variant in study.variants if config.npu_step(variant) is not None]
    found = Assignment(engines, absent, default, ())
    return Assignment(engines, absent, default, tuple(name for name in on_npu if name in found.made))


def _engine(variant: config.Variant, default: str, targets: Sequence[Board]) -> str:
    if variant.engine is not None:
        if variant.engine not in MAKEABLE:
            near = did_you_mean(variant.engine, list(MAKEABLE))
            raise StudyError(f"variant {variant.name!r}: engine: no bundle is made for {variant.engine!r}{near}; known: {', '.join(MAKEABLE)}")
        _check_fit(variant, variant.engine, f"engine = {variant.engine!r}")
        return variant.engine
    return default if config.npu_step(variant) is None else _npu_engine(default, targets)


def _check_fit(variant: config.Variant, engine: str, said: str) -> None:
    on_npu, converted = engine.partition("+")[0] in NPU, config.npu_step(variant) is not None
    if on_npu and not converted:
        raise StudyError(
            f"variant {variant.name!r}: {said} runs the extractor on the NPU: add a step to its recipe, "
            '{ step = "quantize", part = "extractor", npu = "fp16" }, or "u8"; or give it an engine of its own'
        )
    if converted and not on_npu:
        raise StudyError(f"variant {variant.name!r}: npu in its recipe needs an engine of the NPU, and {said} has none; leave engine out")


def _npu_engine(default: str, targets: Sequence[Board]) -> str:
    """The study's own where that is the NPU's; else the first pair that a target has, in its order, with the default's predictor if it can be."""
    if default.partition("+")[0] in NPU:
        return default
    predictor = engines_of(default)["predictor"]
    for target in targets:
        for pair in _pairs(target, predictor):
            if pair in MAKEABLE and target.runs(pair):
                return pair
    return f"{NPU[0]}+{predictor}" if f"{NPU[0]}+{predictor}" in MAKEABLE else f"{NPU[0]}+onnxruntime"


def _pairs(target: Board, predictor: str) -> Iterator[str]:
    for name in target.engines:
        first, plus, _ = name.partition("+")
        if first in NPU:
            yield from (name,) if plus else (f"{first}+{other}" for other in (predictor, *target.engines))
