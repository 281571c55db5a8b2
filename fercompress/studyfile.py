"""A study's file: TOML and wishes in, one validated, frozen `Study` out; unknown keys are errors that name their neighbour."""

from __future__ import annotations

import importlib.resources
import itertools
import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fercompress.config import (
    Augment,
    Bottleneck,
    FineTune,
    LowRank,
    Measure,
    Model,
    Quantize,
    SmallDense,
    Study,
    TensorTrain,
    Train,
    Variant,
    bytes_of,
)
from fercompress.dataconfig import AfewData, CkPlusData, Faces, FolderData, GfeData, MmiData, SyntheticData
from fercompress.errors import StudyError
from fercompress.section import Section, did_you_mean


def load_study(name_or_path: str, wishes: Sequence[str] = ()) -> Study:
    """Read a shipped study by name, or a file by path; wishes: as in `parse_study`. raises: StudyError"""
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StudyError(f"{path}: cannot read the study ({error}); shipped studies: {', '.join(shipped_studies())}") from error
        return parse_study(text, str(path), wishes)
    names = shipped_studies()
    if name_or_path not in names:
        raise StudyError(f"no study named {name_or_path!r}{did_you_mean(name_or_path, names)}; shipped: {', '.join(names)}; or give a .toml file")
    shipped = importlib.resources.files("fercompress_studies").joinpath(f"{name_or_path}.toml")
    return parse_study(shipped.read_text(encoding="utf-8"), name_or_path, wishes)


def restricted(study: Study, only: tuple[str, ...], targets: tuple[str, ...], seeds: int | None) -> Study:
    """The study with fewer variants (the baseline, and what a control is sized after, stay), other targets or another number of seeds."""
    names = [variant.name for variant in study.variants]
    for name in only:
        if name not in names:
            raise StudyError(f"--only {name!r} is not a variant of {study.name!r}{did_you_mean(name, names)} (variants: {', '.join(names)})")
    kept = {*only, study.baseline}
    kept |= {model for variant in study.variants if variant.name in kept and (model := bytes_of(variant))}
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


def parse_study(text: str, source: str, wishes: Sequence[str] = ()) -> Study:
    """text: TOML; source: its name in messages; wishes: "table.key=value", each in place of what the file says, and checked like it.

    raises: StudyError, one line per mistake
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{source}: not valid TOML: {error}") from error
    for wish in wishes:
        _set(table, wish)
    source += f" with --set {' --set '.join(wishes)}" if wishes else ""
    variants = _expand(table.pop("variant", []), source)
    head = table.pop("study", {})
    if not isinstance(head, dict):
        raise StudyError(f"{source}: [study] must be a table with at least name and baseline")
    try:
        # JSON mode: TOML arrays may fill tuples, everything else stays strict.
        return Study.model_validate_json(json.dumps({**head, **table, "variants": variants}, default=str))
    except ValidationError as error:
        raise StudyError("\n".join(f"{source}: {_sentence(detail)}" for detail in error.errors())) from error


def _set(table: dict[str, Any], wish: str) -> None:
    """wish: "data.protocol=modulo"; the value is TOML or, where it is not, a word; a key without a table, "seeds=[0, 1]", is one of [study]'s."""
    key, equals, value = (part.strip() for part in wish.partition("="))
    *tables, name = key.split(".")
    if not equals or not all((*tables, name)):
        raise StudyError(f"--set {wish!r}: write KEY=VALUE, as in data.protocol=modulo")
    if (tables or [name])[0] in ("variant", "variants"):
        raise StudyError(f"--set {wish!r}: a variant's recipe cannot be set; choose with --only, or write a study file (fercompress init)")
    node = table
    for part in tables or ([] if name in table else ["study"]):
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise StudyError(f"--set {wish!r}: {part!r} is a value, not a table")
    try:
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        parsed = {"value": value}
    node[name] = parsed["value"] if len(parsed) == 1 else value  # a line break would begin another key


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


_SECTIONS: dict[str, type[Section]] = {
    "data.synthetic": SyntheticData, "data.gfe": GfeData, "data.ckplus": CkPlusData, "data.mmi": MmiData, "data.afew": AfewData,
    "data.folder": FolderData, "ckplus.faces": Faces, "mmi.faces": Faces, "afew.faces": Faces, "folder.faces": Faces,
    "model": Model, "train": Train, "train.augment": Augment, "fine_tune": FineTune, "measure": Measure, "variants": Variant,
    "recipe.low-rank": LowRank, "recipe.tensor-train": TensorTrain, "recipe.bottleneck": Bottleneck, "recipe.small-dense": SmallDense,
    "recipe.quantize": Quantize,
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
