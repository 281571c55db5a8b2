"""A study: one TOML file in, one validated, frozen `Study` out; unknown keys are errors that name their neighbour."""

from __future__ import annotations

import difflib
import importlib.resources
import itertools
import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fercompress.errors import StudyError

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=60)]
Share = Annotated[float, Field(ge=0, le=1)]
Rank = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SyntheticData(Section):
    """Rendered faces; subjects of the three parts are disjoint."""

    name: Literal["synthetic"]
    preset: Literal["posed", "return", "wild"] = "posed"
    train_clips: Annotated[int, Field(ge=14)] = 1200
    validation_clips: Annotated[int, Field(ge=14)] = 300
    test_clips: Annotated[int, Field(ge=14)] = 1500
    frames: Annotated[int, Field(ge=2, le=256)] = 16
    size: Annotated[int, Field(ge=32, le=256, multiple_of=16)] = 64
    seed: Annotated[int, Field(ge=0)] = 0
    difference: bool = False


class GfeData(Section):
    """Grammatical facial expressions (UCI): `<person>_<expression>_datapoints.txt` and `_targets.txt` under `--data-root`."""

    name: Literal["gfe"]
    protocol: Literal["contiguous", "modulo", "across-persons"] = "contiguous"
    folds: Annotated[int, Field(ge=2, le=50)] = 5
    persons: list[str] | None = None  # None: all that are there
    expressions: list[str] | None = None  # None: all that are there
    frames: Annotated[int, Field(ge=2, le=256)] = 16
    context: Annotated[int, Field(ge=0, le=16)] = 4  # frames taken along on each side of a performance
    size: Annotated[int, Field(ge=32, le=256, multiple_of=16)] = 64
    difference: bool = True


Data = Annotated[SyntheticData | GfeData, Field(discriminator="name")]


class Model(Section):
    """`zoo` names a row of `fercompress.model.zoo.ZOO`; `factory = "package:function"` is a model of one's own.

    A factory is called with keyword arguments channels, size, frames, classes, hidden and returns two nn.Modules:
    extractor, float32 (N, channels, size, size) -> (N, c, h, w), and predictor, float32 (B, T, h*w*c) -> (B, classes), which holds one nn.LSTM.
    """

    zoo: str | None = "small"
    factory: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    weights: str | None = None  # a .safetensors file, or a state_dict that torch.load(weights_only=True) takes
    hidden: Annotated[int, Field(ge=1)] = 256

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.factory is not None and "zoo" in self.model_fields_set:
            raise ValueError("give zoo or factory, not both")
        return self


class Augment(Section):
    """One random affine map per clip (the same for all its frames), never on validation or test."""

    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # share of the picture's side
    scale: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    rotate_deg: Annotated[float, Field(ge=0, le=45)] = 0.0
    flip: bool = False


class Train(Section):
    """How the teacher is trained (AdamW, one-cycle learning rate, best epoch by validation accuracy)."""

    epochs: Annotated[int, Field(ge=1)] = 10
    batch: Annotated[int, Field(ge=1)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    patience: Annotated[int, Field(ge=1)] = 5  # epochs without a better validation accuracy before training stops
    class_weights: bool = True
    augment: Augment = Augment()
    device: Literal["cpu", "cuda"] = "cpu"


class FineTune(Section):
    """How every compressed predictor and every control is trained: on the frozen extractor's cached features, all alike."""

    epochs: Annotated[int, Field(ge=1)] = 20
    batch: Annotated[int, Field(ge=1)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    patience: Annotated[int, Field(ge=1)] = 10
    distill: Share = 0.5  # weight of the teacher's soft labels; the rest is the labels' cross-entropy
    temperature: Annotated[float, Field(gt=0)] = 3.0
    match_states: Annotated[float, Field(ge=0)] = 0.0  # weight of the squared distance to the teacher's hidden states, where sizes agree
    copies: Annotated[int, Field(ge=1, le=64)] = 1  # augmented copies of every training clip in the feature cache, the plain one included


class TensorTrain(Section):
    """Put the LSTM's matrices into tensor-train form; `from-scratch` starts at random, `decompose` at the teacher's TT-SVD."""

    step: Literal["tensor-train"]
    rank: Rank  # every bond of the input-to-hidden train
    hidden_rank: Rank | None = None  # every bond of the hidden-to-hidden train; None: the same
    part: Literal["input", "hidden", "both"] = "both"
    layout: Literal["asymmetric", "balanced"] = "asymmetric"
    start: Literal["decompose", "from-scratch"] = "decompose"
    input_modes: list[Annotated[int, Field(ge=1)]] | None = None  # factors of D; None: chosen
    output_modes: list[Annotated[int, Field(ge=1)]] | None = None  # factors of 4H; None: chosen


class Bottleneck(Section):
    """Control: a 1x1 convolution to `rank` channels, then a small dense LSTM, trained like the variants."""

    step: Literal["bottleneck"]
    rank: Rank


class SmallDense(Section):
    """Control: a pooled dense LSTM as large as another variant's stored bytes allow, trained like the variants."""

    step: Literal["small-dense"]
    bytes_of: str


class Quantize(Section):
    """int8, no weight dropped: static for the extractor; TT cores where there are any, else the LSTM operator, for the predictor."""

    step: Literal["quantize"]
    part: Literal["extractor", "predictor"]
    bits: Literal[8] = 8
    calibration_clips: Annotated[int, Field(ge=1)] = 32


Step = Annotated[TensorTrain | Bottleneck | SmallDense | Quantize, Field(discriminator="step")]


class Variant(Section):
    name: Name
    recipe: tuple[Step, ...] = ()

    @model_validator(mode="after")
    def _order(self) -> Self:
        kinds = [step.step for step in self.recipe]
        if sum(kind != "quantize" for kind in kinds) > 1:
            raise ValueError("a recipe holds at most one of tensor-train, bottleneck and small-dense")
        if "quantize" in kinds and any(kind != "quantize" for kind in kinds[kinds.index("quantize") :]):
            raise ValueError("quantize comes last in a recipe")
        parts = [step.part for step in self.recipe if isinstance(step, Quantize)]
        if len(parts) != len(set(parts)):
            raise ValueError("a recipe quantizes each part once")
        return self


class Measure(Section):
    """What is measured on each target, and for how long."""

    rounds: Annotated[int, Field(ge=1)] = 6  # each is a random order of all variants and its mirror: two blocks per variant
    block_clips: Annotated[int, Field(ge=1)] = 16  # a block times at least so many clips ...
    block_s: Annotated[float, Field(gt=0)] = 0.5  # ... and at least so long
    warmup_clips: Annotated[int, Field(ge=0)] = 10
    threads: Annotated[int, Field(ge=1)] = 1
    deadline_s: Annotated[float, Field(gt=0)] = 600.0  # one agent process may take so long
    memory_blocks: Annotated[int, Field(ge=1)] = 1
    passes: tuple[Literal["accuracy", "latency", "memory", "power"], ...] = ("accuracy", "latency", "memory", "power")


class Study(Section):
    name: Name
    title: str = ""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("localhost",)
    baseline: str
    data: Data
    model: Model = Model()
    train: Train = Train()
    fine_tune: FineTune = FineTune()
    measure: Measure = Measure()
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    ladder: tuple[str, ...] = ()  # variants whose steps the report tells one by one; empty: all but the controls, in order

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [variant.name for variant in self.variants]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two variants are named {name!r}")
        if self.baseline not in names:
            raise ValueError(f"baseline {self.baseline!r} is not a variant{did_you_mean(self.baseline, names)}")
        for variant in self.variants:
            for step in variant.recipe:
                if isinstance(step, SmallDense):
                    if step.bytes_of not in names:
                        raise ValueError(f"variant {variant.name!r}: bytes_of {step.bytes_of!r} is not a variant{did_you_mean(step.bytes_of, names)}")
                    if any(isinstance(s, SmallDense) for v in self.variants if v.name == step.bytes_of for s in v.recipe):
                        raise ValueError(f"variant {variant.name!r}: bytes_of {step.bytes_of!r} is itself a small-dense control")
        for name in self.ladder:
            if name not in names:
                raise ValueError(f"ladder: {name!r} is not a variant{did_you_mean(name, names)}")
            if self.ladder.count(name) > 1:
                raise ValueError(f"ladder holds {name!r} twice")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds holds a seed twice")
        return self


def load_study(name_or_path: str) -> Study:
    """Read a shipped study by name, or a file by path. raises: StudyError"""
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StudyError(f"{path}: cannot read the study ({error}); shipped studies: {', '.join(shipped_studies())}") from error
        return parse_study(text, str(path))
    names = shipped_studies()
    if name_or_path not in names:
        raise StudyError(f"no study named {name_or_path!r}{did_you_mean(name_or_path, names)}; shipped: {', '.join(names)}; or give a .toml file")
    return parse_study(importlib.resources.files("fercompress_studies").joinpath(f"{name_or_path}.toml").read_text(encoding="utf-8"), name_or_path)


def restricted(study: Study, only: tuple[str, ...], targets: tuple[str, ...], seeds: int | None) -> Study:
    """The study with fewer variants (the baseline, and what a control is sized after, stay), other targets or another number of seeds."""
    names = [variant.name for variant in study.variants]
    for name in only:
        if name not in names:
            raise StudyError(f"--only {name!r} is not a variant of {study.name!r}{did_you_mean(name, names)} (variants: {', '.join(names)})")
    kept = {*only, study.baseline}
    kept |= {step.bytes_of for variant in study.variants if variant.name in kept for step in variant.recipe if isinstance(step, SmallDense)}
    changes: dict[str, Any] = {}
    if only:
        changes["variants"] = tuple(variant for variant in study.variants if variant.name in kept)
        changes["ladder"] = tuple(name for name in study.ladder if name in kept)
    if targets:
        changes["targets"] = tuple(dict.fromkeys(targets))
    if seeds is not None:
        changes["seeds"] = tuple(range(seeds))
    return study.model_copy(update=changes)


def shipped_studies() -> list[str]:
    return sorted(
        entry.name.removesuffix(".toml") for entry in importlib.resources.files("fercompress_studies").iterdir() if entry.name.endswith(".toml")
    )


def parse_study(text: str, source: str) -> Study:
    """text: TOML; source: its name in messages. raises: StudyError, one line per mistake"""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{source}: not valid TOML: {error}") from error
    variants = _expand(table.pop("variant", []), source)
    head = table.pop("study", {})
    if not isinstance(head, dict):
        raise StudyError(f"{source}: [study] must be a table with at least name and baseline")
    try:
        # JSON mode: TOML arrays may fill tuples, everything else stays strict.
        return Study.model_validate_json(json.dumps({**head, **table, "variants": variants}, default=str))
    except ValidationError as error:
        raise StudyError("\n".join(f"{source}: {_sentence(detail)}" for detail in error.errors())) from error


def _expand(variants: Any, source: str) -> list[Any]:
    """Each [[variant]] with `matrix = {rank = [2, 4]}` becomes one variant per combination; "{rank}" stands for the value."""
    if not isinstance(variants, list):
        raise StudyError(f"{source}: write variants as [[variant]] tables")
    expanded: list[Any] = []
    for variant in variants:
        matrix = variant.pop("matrix", {}) if isinstance(variant, dict) else {}
        if not isinstance(matrix, dict) or not all(isinstance(values, list) and values for values in matrix.values()):
            raise StudyError(f"{source}: variant {variant.get('name', '?')!r}: matrix must map names to non-empty lists, as in {{rank = [2, 4]}}")
        combinations = itertools.product(*matrix.values())
        expanded.extend(_substitute(variant, dict(zip(matrix, values, strict=True)), source) for values in combinations)
    return expanded


def _substitute(node: Any, values: dict[str, Any], source: str) -> Any:
    if isinstance(node, dict):
        return {key: _substitute(value, values, source) for key, value in node.items()}
    if isinstance(node, list):
        return [_substitute(value, values, source) for value in node]
    if not isinstance(node, str):
        return node
    if (whole := re.fullmatch(r"\{(\w+)\}", node)) and whole[1] in values:
        return values[whole[1]]
    for name in re.findall(r"\{(\w+)\}", node):
        if name not in values:
            raise StudyError(f"{source}: {node!r} uses {{{name}}}, which the variant's matrix does not hold")
    return re.sub(r"\{(\w+)\}", lambda match: str(values[match[1]]), node)


def did_you_mean(word: str, words: list[str]) -> str:
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


_SECTIONS: dict[str, type[Section]] = {
    "data.synthetic": SyntheticData, "data.gfe": GfeData, "model": Model, "train": Train, "train.augment": Augment, "fine_tune": FineTune,
    "measure": Measure, "variants": Variant, "recipe.tensor-train": TensorTrain, "recipe.bottleneck": Bottleneck,
    "recipe.small-dense": SmallDense, "recipe.quantize": Quantize,
}  # fmt: skip


def _sentence(detail: Any) -> str:
    """One pydantic error as one line in the words of the TOML file."""
    place = [str(part) for part in detail["loc"]]
    where = ".".join(place).replace("variants.", "variant.") or "study"
    if detail["type"] == "extra_forbidden":
        key = place[-1]
        words = [part for part in place[:-1] if not part.isdigit()]
        section = _SECTIONS.get(".".join(words)) or _SECTIONS.get(".".join(words[-2:]))
        known = list((section or Study).model_fields)
        if section is None:
            known = [name for name in known if name != "variants"] + ["variant", "study"]
        return f"unknown key {key!r} in [{'.'.join(words) or 'study'}]{did_you_mean(key, known)} (known: {', '.join(sorted(known))})"
    message = str(detail["msg"]).removeprefix("Value error, ")
    given = detail.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{where}: {message[0].lower() + message[1:]}{shown}"
