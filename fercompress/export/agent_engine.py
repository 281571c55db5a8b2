"""A bundle run in this process by the agent's own engine: the same calls in the same order as where it is timed."""

from __future__ import annotations

from typing import Any

import numpy as np
from fercompress_agent import engines

from fercompress.errors import BundleError
from fercompress.records import Bundle, Float32, UInt8


class AgentEngine:
    """A loaded bundle. raises: BundleError if its engine, or a module that this needs, is not on this machine, or the files cannot be loaded"""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        lost = sorted({module for half in bundle.engine.split("+") if half in engines.ENGINES for module in engines.missing(half)})
        if lost:
            raise BundleError(
                f"{bundle.folder}: its engine {bundle.engine!r} needs {', '.join(lost)}, which this machine has not: measure it on a board"
            )
        try:
            self._engine: Any = engines.make(bundle.engine, 1)
            self._engine.start()
            self._engine.load(str(bundle.folder), bundle.manifest)
        except Exception as error:  # each engine's runtime has errors of its own
            raise self._failure(error) from error

    def logits(self, frames: UInt8) -> Float32:
        """frames: uint8 (N, T, H, W); returns float32 (N, classes). raises: BundleError"""
        found = [np.zeros((0, len(self.bundle.manifest["classes"])), np.float32)]
        engine = self._engine
        for clip in frames:
            try:
                features = [engine.extract(frame) for frame in engine.frames(clip.tobytes(), clip.shape)]
                numbers = engine.numbers(engine.predict(engine.join(features)))
            except Exception as error:
                raise self._failure(error) from error
            found.append(np.asarray([numbers], np.float32))
        return np.concatenate(found)

    def _failure(self, error: Exception) -> BundleError:
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        return BundleError(f"{self.bundle.folder}: the agent's engine cannot run it: {said}")
