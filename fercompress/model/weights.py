"""Pretrained weights: a local file and a module in, the module with the file's numbers out, or an error that shows what does not fit, and its cure.

A file is a .safetensors file or a state_dict that `torch.load(weights_only=True)` takes, bare or as the entry `state_dict` of a checkpoint: nothing
in it is ever executed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fercompress.errors import ModelError

SHOWN = 8  # names of each kind that an error lists
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which training scripts save their weights beside an optimiser's state
# Counters that hold no weight: files of old torch versions lack them.
_COUNTERS = "num_batches_tracked"

State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


def load_into(module: nn.Module, path: Path, *, prefix: str = "", part: str | None = None) -> None:
    """Copy a file's tensors into a module; every name and every shape must fit.

    prefix: only entries whose names begin so are taken, without it ("module.", "features.")
    part: of the module, "extractor": it alone is loaded, from entries that are named after the part ("extractor.0.weight", others are left) or all
        after what is in it ("0.weight")
    raises: ModelError
    """
    named = read(path)
    target: nn.Module = module if part is None else module.get_submodule(part)
    given = _below(named, prefix)
    if not given:
        begins = ", ".join(sorted({name.split(".")[0] + "." for name in named})[:SHOWN])
        raise ModelError(f"model.weights {path}: no name begins with weights_prefix {prefix!r}; names begin with {begins}")
    if part is not None and any(name.startswith(f"{part}.") for name in given):
        given = _below(given, f"{part}.")
    state = target.state_dict()
    wanted = {name: shape for name, shape in _shapes(state).items() if name in given or not name.endswith(_COUNTERS)}
    found = _shapes(given)
    if wanted != found:
        raise ModelError(f"model.weights {path} does not fit {part or 'the model'}{_difference(wanted, found)}{_cure(wanted, module, named, part)}")
    target.load_state_dict({**state, **given})


def read(path: Path) -> State:
    """raises: ModelError for a file that is no weights file"""
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for one cause: the file is not what it should be
        raise ModelError(f"model.weights {path}: cannot be read as safetensors or as a plain state_dict ({type(error).__name__}: {error})") from error
    if isinstance(content, Mapping) and not _tensors(content):
        inner = [content[name] for name in _WRAPPERS if name in content and _tensors(content[name])]
        if len(inner) == 1:
            content = inner[0]
    if not _tensors(content):
        held = ", ".join(map(str, list(content)[:SHOWN])) if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ModelError(f"model.weights {path}: holds {held or 'nothing'}, not names and tensors; save `model.state_dict()` alone")
    return dict(content)


def _tensors(content: object) -> bool:
    return isinstance(content, Mapping) and bool(content) and all(isinstance(name, str) and isinstance(content[name], Tensor) for name in content)


def _below(state: Mapping[str, Tensor], prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _difference(wanted: Shapes, found: Shapes) -> str:
    """What is missing, what is unexpected, what has another shape: one line each, and names in the model's order."""
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    differing = [name for name in wanted if name in found and wanted[name] != found[name]]
    fit = len(wanted) - len(missing) - len(differing)
    kinds = {
        "missing in the file": [f"{name} {wanted[name]}" for name in missing],
        "unexpected in the file": [f"{name} {found[name]}" for name in unexpected],
        "other shapes": [f"{name}: model {wanted[name]}, file {found[name]}" for name in differing],
    }
    lines = [f"\n  {kind} ({len(names)}): {_listed(names)}" for kind, names in kinds.items() if names]
    return f": {fit} of its {len(wanted)} entries do" + "".join(lines)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return "; ".join(names[:SHOWN]) + (f"; and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _cure(wanted: Shapes, module: nn.Module, named: State, part: str | None) -> str:
    """The setting under which most entries of the file would fit, if it is better than what was asked for."""
    found = _shapes(named)
    best, said = sum(found.get(name) == shape for name, shape in wanted.items()), ""
    parts: dict[str | None, Shapes] = {part: wanted}
    if part is None:
        parts |= {name: _shapes(child.state_dict()) for name, child in module.named_children() if name == "extractor"}
    for name, shapes in parts.items():
        for prefix in sorted({"".join(f"{word}." for word in key.split(".")[:depth]) for key in found for depth in range(4)}):
            fits = sum(found.get(prefix + key) == shape for key, shape in shapes.items())
            # What names the part itself needs no prefix, and a part is only proposed where it fits as a whole.
            if fits <= best or prefix == f"{name}." or (name != part and fits < len(shapes) - _counters(shapes)):
                continue
            settings = [f'weights_prefix = "{prefix}"'] * bool(prefix) + [f'weights_part = "{name}"'] * (name != part)
            best, said = fits, f"\n  did you mean [model] {' and '.join(settings)}? {fits} of {len(shapes)} entries fit then" if settings else ""
    return said


def _counters(shapes: Shapes) -> int:
    return sum(name.endswith(_COUNTERS) for name in shapes)
