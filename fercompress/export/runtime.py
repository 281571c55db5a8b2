"""Run a bundle in this process: frames in, class probabilities out. Timing is the agent's task, not this module's."""

from __future__ import annotations

import numpy as np
import onnxruntime

from fercompress.errors import BundleError
from fercompress.records import Bundle, Float32, Preprocess, UInt8


def session(content: bytes) -> onnxruntime.InferenceSession:
    """One thread on the CPU: the results then do not depend on the machine's core count."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


class Runner:
    """A loaded bundle; both graphs stay in memory."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        manifest = bundle.manifest
        self._preprocess = Preprocess(**manifest["preprocess"])
        self._extractor, self._predictor = (session((bundle.folder / manifest[part]["file"]).read_bytes()) for part in ("extractor", "predictor"))

    def logits(self, frames: UInt8) -> Float32:
        """frames: uint8 (N, T, H, W); returns float32 (N, classes). raises: BundleError for other shapes than the bundle was made for"""
        manifest = self.bundle.manifest
        wanted = (manifest["frames"], *manifest["extractor"]["input"]["shape"][2:])
        if frames.dtype != np.uint8 or frames.shape[1:] != wanted:
            raise BundleError(f"{self.bundle.variant}: expects uint8 clips (N, {', '.join(map(str, wanted))}), got {frames.dtype} {frames.shape}")
        results = [np.zeros((0, len(manifest["classes"])), np.float32)]
        for clip in frames:
            pixels = self._preprocess(clip)
            features = np.concatenate([self._extractor.run(None, {"frame": frame[None]})[0] for frame in pixels])
            results.append(self._predictor.run(None, {"features": features[None]})[0])
        return np.concatenate(results)

    def predict(self, frames: UInt8) -> Float32:
        """frames: uint8 (N, T, H, W); returns float32 (N, classes), probabilities. raises: BundleError"""
        logits = self.logits(frames)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]
