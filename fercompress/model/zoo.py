"""The models that ship, as a plain table, and the way to bring one's own."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fercompress import config
from fercompress.errors import ModelError, StudyError
from fercompress.model import extractor, weights
from fercompress.model.predictor import LstmPredictor


@dataclass(frozen=True)
class Network:
    """extractor: float32 (N, channels, size, size) -> (N, c, h, w); predictor: float32 (B, T, D = h*w*c) -> (B, classes)."""

    extractor: nn.Module
    predictor: nn.Module


ZOO: dict[str, Callable[[int], nn.Module]] = {
    "small": extractor.small,
    "mobilenet-like": extractor.mobilenet_like,
    "resnet18": extractor.resnet18,
    "vgg16-face": extractor.vgg16_face,
}


def build(model: config.Model, channels: int, size: int, frames: int, classes: int, dropout: float, seed: int) -> Network:
    """A freshly initialised network (or `model.weights`), the same for the same seed. raises: StudyError, ModelError"""
    torch.manual_seed(seed)
    if model.factory is not None:
        network = _own(model.factory, channels=channels, size=size, frames=frames, classes=classes, hidden=model.hidden)
    else:
        backbone = _from_zoo(model.zoo)(channels)
        network = Network(backbone, LstmPredictor(extractor.feature_size(backbone, channels, size), model.hidden, classes, dropout))
    _check_shapes(network, model.factory or str(model.zoo), channels, size, frames, classes)
    if model.weights is not None:
        both = nn.ModuleDict({"extractor": network.extractor, "predictor": network.predictor})
        weights.load_into(both, Path(model.weights), prefix=model.weights_prefix, part=model.weights_part)
    return network


def _from_zoo(name: str | None) -> Callable[[int], nn.Module]:
    if name not in ZOO:
        near = difflib.get_close_matches(str(name), ZOO, n=1, cutoff=0.4)
        raise StudyError(f"model.zoo: no model named {name!r}{f'; did you mean {near[0]!r}?' if near else ''} (known: {', '.join(ZOO)})")
    return ZOO[name]


def _own(factory: str, **arguments: int) -> Network:
    """Call `package:function`; the current folder counts as a place to import from, as with `python -m`."""
    package, function = factory.split(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        made = getattr(importlib.import_module(package), function)(**arguments)
    except (ImportError, AttributeError, TypeError) as error:
        raise ModelError(f"model.factory {factory!r} failed: {error}; it must be importable and take {', '.join(arguments)} as keywords") from error
    if not (isinstance(made, tuple | list) and len(made) == 2 and all(isinstance(part, nn.Module) for part in made)):
        raise ModelError(f"model.factory {factory!r} must return two nn.Modules (extractor, predictor), got {type(made).__name__}")
    return Network(*made)


def _check_shapes(network: Network, name: str, channels: int, size: int, frames: int, classes: int) -> None:
    with torch.no_grad():
        for module in (network.extractor, network.predictor):
            module.eval()
        try:
            feature_map = network.extractor(torch.zeros(2, channels, size, size))
            if feature_map.ndim != 4:
                raise ModelError(
                    f"model {name!r}: the extractor must map (N, {channels}, {size}, {size}) to (N, c, h, w), got {tuple(feature_map.shape)}"
                )
            features = extractor.flatten(feature_map).shape[1]
            logits = network.predictor(torch.zeros(2, frames, features))
        except RuntimeError as error:
            raise ModelError(f"model {name!r}: a forward pass failed: {str(error).splitlines()[0]}") from error
    if logits.shape != (2, classes):
        raise ModelError(f"model {name!r}: the predictor must map (B, {frames}, {features}) to (B, {classes}), got {tuple(logits.shape)}")
