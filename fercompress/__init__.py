"""Benchmark and analyse compressed video expression models: quantization and tensor trains, measured on real machines.

import fercompress
run = fercompress.load("reports/default")            # tidy pandas frames of everything that was measured
bundle = fercompress.load_bundle("reports/default/bundles/...")
probabilities = bundle.predict(frames)               # uint8 (N, T, H, W) -> float32 (N, classes)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fercompress.export.runtime import Runner
    from fercompress.results.frame import Run

__version__ = "0.1.0"
__all__ = ["__version__", "load", "load_bundle"]

# Imported at first use: `fercompress --help` must not wait for onnxruntime and pandas.


def load(run_folder: str | Path) -> Run:
    """A run's output folder as tidy pandas frames. raises: ResultsError"""
    from fercompress.results import frame

    return frame.load(run_folder)


def load_bundle(folder: str | Path) -> Runner:
    """A bundle, its files checked against their sha256, ready to `predict`. raises: BundleError"""
    from fercompress.export import bundle, runtime

    return runtime.Runner(bundle.load(Path(folder)))
