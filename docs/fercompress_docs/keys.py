"""Keys of files that a person writes: pydantic models in, one Markdown table per section out.

What a key means is taken from where the code says it: the model's docstring ("key: ..."), the remark beside or above the field, and for a study
the commented template that `fercompress init` writes.
"""

from __future__ import annotations

import importlib.resources
import inspect
import json
import re
import sys
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from fercompress.config import Augment, Bottleneck, FineTune, LowRank, Measure, Model, Quantize, Ranks, Retrain, SmallDense, Study, TensorTrain, Train
from fercompress.config import Variant as VariantSection
from fercompress.dataconfig import AfewData, CkPlusData, Faces, FolderData, GfeData, MmiData, SyntheticData
from fercompress.measure.board import Board
from fercompress.measure.power import Power
from fercompress.measure.simchannel import Faults, Simulation


@dataclass(frozen=True)
class Place:
    """A section: its heading, what it is in the file, its model; skip: keys that have a section of their own."""

    heading: str
    model: type[BaseModel]
    template: str = ""  # the table of the commented template that explains its keys
    skip: tuple[str, ...] = ()


# What a key means where the code leaves it to its name; `Model.key` before `key`.
WORDS = {
    "title": "stands at the top of the report",
    "name": "which data set",
    "Variant.name": "small letters, digits, `.`, `_` and `-`; stands in every table",
    "train_clips": "rendered clips to train on",
    "test_clips": "rendered clips that nothing chooses by",
    "frames": "of a clip",
    "size": "pixels, height and width of a frame",
    "seed": "of what is drawn at random",
    "difference": "a second channel: each frame minus the clip's first",
    "folds": "how many times the clips are cut into training and test parts",
    "protocol": "how they are cut. `subjects`: dealt out so that every class is about equally often in each; `subjects-ascending`: the i-th fold "
    "tests every k-th subject in ascending order of ids, as published lists do; `subjects-shuffled`: dealt out at random; `leave-one-subject-out`; "
    "`given`: the split that comes with the data; `leaky-image`: cut without regard to people, not a fair test, and marked so wherever its "
    "numbers appear",
    "GfeData.protocol": "`contiguous`: folds of neighbouring performances; `modulo`: every k-th performance; `across-persons`: each person is "
    "tested by models that never saw them",
    "faces": "how faces are found and cut out, see below",
    "epochs": "at most so many",
    "batch": "clips in a step",
    "learning_rate": "at its highest",
    "weight_decay": "of AdamW",
    "dropout": "before the last layer, in training",
    "patience": "epochs without a better validation accuracy before training stops",
    "class_weights": "rare classes weigh more in the loss",
    "augment": "random changes of the training clips, see below",
    "device": "where the teacher is trained",
    "scale": "larger or smaller by up to this share",
    "rotate_deg": "turned by up to so many degrees",
    "flip": "half of the clips are mirrored",
    "temperature": "of the teacher's soft labels",
    "warmup_clips": "that a block runs before it times",
    "memory_blocks": "fresh processes of which the memory is read; their median counts",
    "passes": "what is measured; what is left out is n/a",
    "recipe": "steps in order, see below; empty: the teacher as it is",
    "step": "which step this is",
    "TensorTrain.part": "which matrix of the LSTM: what it reads, its own state, or both",
    "layout": "see the explanation of tensor trains",
    "start": "what the cores begin as",
    "Quantize.part": "which network",
    "mean_bits": "in the place of `bits`, for the extractor: so many on average",
    "calibration_clips": "training clips from which the ranges are read",
    "Bottleneck.rank": "channels that are left",
    "SmallDense.bytes_of": "the variant whose stored bytes it may take",
    "host": "name or address, also one of `~/.ssh/config`",
    "user": "that logs in; left out: as `~/.ssh/config` says, else your own name",
    "Board.python": "that runs the agent; of a board `python3`",
    "threads": "of the runtime; of a target left out: as the study says",
    "accuracy_processes": "accuracy is not timed: so many processes share it",
    "unreachable_s": "so long a link that broke is tried again",
    "command": "of `source = \"command\"`: the program and its arguments",
    "load_s": "how long the load lasts; below 60 a figure is marked",
    "idle_s": "how long each idle lasts, before and after the load",
    "at": "number of the job -> what goes wrong",
    "share": "what goes wrong -> how often, 0 to 1",
}  # fmt: skip

STUDY = (
    Place("[study]", Study, "study", ("data", "model", "train", "fine_tune", "measure", "variants")),
    Place('[data] name = "synthetic"', SyntheticData, "data"),
    Place('[data] name = "gfe"', GfeData),
    Place('[data] name = "ckplus"', CkPlusData),
    Place('[data] name = "mmi"', MmiData),
    Place('[data] name = "afew"', AfewData),
    Place('[data] name = "folder"', FolderData),
    Place("[data.faces]", Faces),
    Place("[model]", Model, "model"),
    Place("[train]", Train, "train"),
    Place("[train.augment]", Augment),
    Place("[fine_tune]", FineTune, "fine_tune"),
    Place("[measure]", Measure, "measure"),
    Place("[[variant]]", VariantSection),
    Place('step = "tensor-train"', TensorTrain),
    Place("rank = { ... }", Ranks),
    Place('step = "low-rank"', LowRank),
    Place('step = "quantize"', Quantize),
    Place('step = "bottleneck"', Bottleneck),
    Place('step = "small-dense"', SmallDense),
    Place('step = "retrain"', Retrain),
)
TARGET = (
    Place("The target", Board, "", ("name", "power", "simulation", "faults")),
    Place("[power]", Power),
    Place("[simulation]", Simulation),
    Place("[faults]", Faults),
)


def page(places: tuple[Place, ...]) -> str:
    return "\n".join(section(place) for place in places)


def section(place: Place) -> str:
    """A heading, what the model's docstring says of the whole, a row per key."""
    intro, _ = split_docstring(place.model)
    of_keys = {key: words for each in reversed(_sections(place.model)) for key, words in split_docstring(each)[1].items()}
    beside = remarks(place.model)
    explained = template_remarks(place.template) if place.template else {}
    schema = place.model.model_json_schema()
    definitions = schema.get("$defs", {})
    lines = [f"## `{place.heading}`", "", intro, ""]
    rows = []
    for key, field in place.model.model_fields.items():
        if key in place.skip:
            continue
        told = schema["properties"][key]
        own = f"{place.model.__name__}.{key}"
        meaning = WORDS.get(own) or of_keys.get(key) or beside.get(key) or explained.get(key) or WORDS.get(key) or ""
        meaning = re.sub(r"\bNone\b", "left out", meaning)
        default = "**required**" if field.is_required() else _default(field.get_default(call_default_factory=True))
        rows.append(f"| `{key}` | {_escaped(allowed(told, definitions))} | {default} | {_escaped(meaning)} |")
    if rows:
        lines += ["| key | value | default | |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def models(root: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Every model that a file of this model may hold, the root too."""
    found: dict[type[BaseModel], None] = {}

    def walk(annotation: object) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in found:
            found[annotation] = None
            for field in annotation.model_fields.values():
                walk(field.annotation)
        for part in typing.get_args(annotation):
            walk(part)

    walk(root)
    yield from found


def split_docstring(model: type[BaseModel]) -> tuple[str, Mapping[str, str]]:
    """Text of the whole, and key -> text of the lines `key: ...` (further lines of one are indented, or follow a comma)."""
    text = inspect.cleandoc(model.__doc__ or "") if "__doc__" in vars(model) else ""
    intro: list[str] = []
    of_keys: dict[str, str] = {}
    last = ""
    several = re.compile(r"; (?=(\w+): )")  # `key: ...; other: ...` on one line
    lines = [part for line in text.splitlines() for part in _parted(line, several, model)]
    for line in lines:
        found = re.match(r"(\w+)(?:: | (?=\"))(.*)", line)
        if found and found[1] in model.model_fields:
            last = found[1]
            of_keys[last] = found[2]
        elif last and line.strip():
            of_keys[last] += f" {line.strip()}"
        else:
            last = ""
            intro.append(line)
    return "\n".join(intro).strip(), of_keys


def _sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and those that it inherits keys from."""
    return [each for each in model.__mro__ if issubclass(each, BaseModel) and each is not BaseModel]


def _parted(line: str, several: re.Pattern[str], model: type[BaseModel]) -> list[str]:
    """A line of a docstring, cut where another key of the model begins."""
    parts, begin = [], 0
    for found in several.finditer(line):
        if found[1] in model.model_fields:
            parts.append(line[begin : found.start()])
            begin = found.end()
    return [*parts, line[begin:]]


def remarks(model: type[BaseModel]) -> Mapping[str, str]:
    """Field -> the remark on its line, else those right above it; of the models that it inherits from too."""
    found: dict[str, str] = {}
    for each in reversed(_sections(model)):
        above: list[str] = []
        for line in inspect.getsource(each).splitlines():
            stripped = line.strip()
            field = re.match(r"    (\w+): .*?(?:  # (.*))?$", line)
            if stripped.startswith("# "):
                above.append(stripped[2:])
            elif field and field[1] in each.model_fields:
                words = field[2] or " ".join(above)
                found = {**found, **({field[1]: words} if words else {})}
                above = []
            else:
                above = []
    return found


def template_remarks(table: str) -> Mapping[str, str]:
    """Key -> the remark beside it in the commented study that `fercompress init` writes."""
    text = importlib.resources.files("fercompress_templates").joinpath("study.toml").read_text(encoding="utf-8")
    found, inside = {}, False
    for line in text.splitlines():
        if line.startswith("["):
            inside = line.split("]")[0].strip("[") == table
        row = re.match(r"(?:# )?(\w+) = .*?\s# (.*)", line)
        if inside and row:
            found.setdefault(row[1], row[2])
    return found


def allowed(schema: Mapping[str, typing.Any], definitions: Mapping[str, typing.Any]) -> str:
    """The values that a key takes, from its JSON Schema."""
    if "$ref" in schema:
        return f"table ({schema['$ref'].rpartition('/')[2]})"
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return ", or ".join(dict.fromkeys(allowed(each, definitions) for each in schema[several] if each.get("type") != "null"))
    kind = schema.get("type")
    if kind == "array":
        return f"list of {allowed(schema.get('items', {}), definitions)}" if "prefixItems" not in schema else "list"
    if kind == "object":
        return "table"
    limits = [f"{sign} {schema[key]:g}" for key, sign in _LIMITS.items() if key in schema]
    if "multipleOf" in schema:
        limits.append(f"a multiple of {schema['multipleOf']}")
    word = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}.get(str(kind), "value")
    return f"{word} {', '.join(limits)}".strip()


_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _default(value: object) -> str:
    if value == sys.executable:
        return "the Python that runs fercompress"
    text = json.dumps(value, default=lambda each: each.model_dump(mode="json") if isinstance(each, BaseModel) else str(each))
    return "" if text in ("{}", "null", '""') else "this table's defaults" if text.startswith("{") else f"`{text}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
