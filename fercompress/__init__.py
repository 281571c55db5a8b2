"""Benchmark and analyse compressed video expression models: quantization and tensor trains, measured on real machines.

import fercompress
run = fercompress.load("reports/default")            # tidy pandas frames of everything that was measured
bundle = fercompress.load_bundle("reports/default/bundles/...")
probabilities = bundle.predict(frames)               # uint8 (N, T, H, W) -> float32 (N, classes)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fercompress.export.runtime import load_bundle
    from fercompress.results.frame import load

__version__ = "0.1.0"
__all__ = ["__version__", "load", "load_bundle"]

# Imported at first use: `fercompress --help` must not wait for onnxruntime and pandas.
_HOMES = {"load": "fercompress.results.frame", "load_bundle": "fercompress.export.runtime"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fercompress' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
