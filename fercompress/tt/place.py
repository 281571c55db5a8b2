"""The LSTM's place in a model: a predictor in, its one LSTM and where it sits out, and another module put there."""

from __future__ import annotations

from torch import nn

from fercompress.errors import ModelError
from fercompress.tt.layers import TTLSTM


def only_lstm(model: nn.Module) -> tuple[str, nn.LSTM | TTLSTM]:
    """The name and the module of the one LSTM that a predictor holds. raises: ModelError if there is none or more than one"""
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.LSTM | TTLSTM)]
    if len(found) != 1:
        names = ", ".join(repr(name) for name, _ in found) or "none"
        raise ModelError(f"{type(model).__name__} must hold exactly one nn.LSTM; found {len(found)} ({names})")
    return found[0]


def replaced(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """Put `module` in place of the submodule called `name`, in the model itself; returns the model, or the module where name is ''."""
    if not name:
        return module
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
    return model
