"""Run a bundle in this process: frames in, class probabilities out. Timing is the agent's task, not this module's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import onnx
import onnxruntime
from fercompress_agent.engine_numpy import Numpy

from fercompress.errors import BundleError, ModelError
from fercompress.export import numpy_file
from fercompress.export.agent_engine import AgentEngine
from fercompress.export.session import session
from fercompress.export.streaming import STATE, streaming
from fercompress.records import Bundle, Float32, Preprocess, UInt8

__all__ = ["Runner", "Stream", "session"]


class Runner:
    """A loaded bundle; both graphs stay in memory."""

    def __init__(self, bundle: Bundle) -> None:
        """raises: BundleError for a file that this process cannot run"""
        self.bundle = bundle
        manifest = bundle.manifest
        # Imported files may have any axes and names: the agent's engine, which times them, knows these.
        self._imported = AgentEngine(bundle) if manifest.get("foreign") else None
        if self._imported is not None:
            return
        if manifest["extractor"]["file"].endswith(".rknn"):
            raise BundleError(f"{bundle.variant}: its extractor is for the NPU of a board and cannot be run here; give the bundle for onnxruntime")
        self._preprocess = Preprocess(**manifest["preprocess"])
        self._extractor = session((bundle.folder / manifest["extractor"]["file"]).read_bytes())
        content = (bundle.folder / manifest["predictor"]["file"]).read_bytes()
        self._numpy: Numpy | None = None
        if manifest["predictor"]["file"].endswith(".npz"):
            engine = self._numpy = numpy_file.engine_of(content, *manifest["predictor"]["input"]["shape"][1:])
            self._predict: Callable[[Float32], Float32] = lambda features: engine.predict(features)[None]
        else:
            predictor = session(content)
            self._predict = lambda features: predictor.run(None, {"features": features})[0]

    def logits(self, frames: UInt8) -> Float32:
        """frames: uint8 (N, T, H, W); returns float32 (N, classes). raises: BundleError for other shapes than the bundle was made for"""
        manifest = self.bundle.manifest
        told = manifest["extractor"]["input"]
        wanted = (manifest["frames"], *(told.get("picture") or told["shape"][2:]))
        if frames.dtype != np.uint8 or frames.shape[1:] != wanted:
            raise BundleError(f"{self.bundle.variant}: expects uint8 clips (N, {', '.join(map(str, wanted))}), got {frames.dtype} {frames.shape}")
        if self._imported is not None:
            return self._imported.logits(frames)
        results = [np.zeros((0, len(manifest["classes"])), np.float32)]
        return np.concatenate([*results, *(self.answers(self.features(clip)[None]) for clip in frames)])

    def features(self, clip: UInt8) -> Float32:
        """The extractor's half of `logits`, of a bundle that was not imported. clip: uint8 (T, H, W); returns float32 (T, D)"""
        return np.concatenate([self._extractor.run(None, {"frame": frame[None]})[0] for frame in self._preprocess(clip)])

    def answers(self, features: Float32) -> Float32:
        """The predictor's half. features: float32 (1, T, D); returns float32 (1, classes)"""
        return self._predict(features)

    def predict(self, frames: UInt8) -> Float32:
        """frames: uint8 (N, T, H, W); returns float32 (N, classes), probabilities. raises: BundleError"""
        return _probabilities(self.logits(frames))

    def stream(self) -> Stream:
        """Frames one by one instead of clips, at one step's cost each. raises: ModelError if the predictor cannot be run step by step"""
        manifest = self.bundle.manifest
        if self._imported is not None:
            raise ModelError(f"{self.bundle.variant}: an imported bundle is not streamed: what carries its state from frame to frame is not known")
        height, width = manifest["extractor"]["input"]["shape"][2:]
        if self._numpy is not None:
            if not self._numpy.streams:
                raise ModelError(
                    f"{self.bundle.variant}: the predictor reads the hidden states of all steps: only a head on the last can be streamed"
                )
            step: Step = _NumpyStep(self._numpy)
        else:
            step = _OnnxStep(streaming(onnx.load(self.bundle.folder / manifest["predictor"]["file"])))
        extractor = self._extractor
        return Stream(lambda frame: extractor.run(None, {"frame": frame})[0], step, self._preprocess, (height, width))


class Step(Protocol):
    """A predictor's next step; its state is within."""

    def reset(self) -> None:
        """The next step is the first."""

    def __call__(self, features: Float32) -> Float32:
        """features: float32 (1, D) -> logits float32 (classes,)"""


class Stream:
    """One running clip: its first frame and the LSTM's state. A network that was trained on clips of T frames knows streams of about T frames."""

    def __init__(self, extract: Callable[[Float32], Float32], step: Step, preprocess: Preprocess, size: tuple[int, int]) -> None:
        """extract: float32 (1, channels, H, W) -> (1, D)"""
        self._extract, self._step, self._preprocess, self.size = extract, step, preprocess, size
        self.reset()

    def reset(self) -> None:
        """The next frame is the first of a new clip."""
        self._first: UInt8 | None = None
        self._step.reset()

    def push(self, frame: UInt8) -> Float32:
        """frame: uint8 (H, W); returns float32 (classes,), the probabilities after this frame. raises: BundleError for another shape or dtype"""
        return self.step(self.features(frame))

    def features(self, frame: UInt8) -> Float32:
        """The extractor's half of `push`. frame: uint8 (H, W); returns float32 (1, D). raises: BundleError"""
        if frame.dtype != np.uint8 or frame.shape != self.size:
            raise BundleError(f"a stream takes uint8 frames {self.size}, got {frame.dtype} {frame.shape}")
        if self._first is None:
            self._first = frame.copy()
        # The difference is to the clip's first frame, which goes through the same arithmetic.
        return self._extract(self._preprocess(np.stack([self._first, frame]))[1:])

    def step(self, features: Float32) -> Float32:
        """The predictor's half of `push`. features: float32 (1, D); returns float32 (classes,), the probabilities after this frame"""
        return _probabilities(self._step(features))


class _OnnxStep:
    def __init__(self, predictor: onnx.ModelProto) -> None:
        """predictor: a step graph, see `streaming`"""
        self._session: onnxruntime.InferenceSession = session(predictor.SerializeToString())
        self._hidden = predictor.graph.input[1].type.tensor_type.shape.dim[2].dim_value

    def reset(self) -> None:
        self._state = [np.zeros((1, 1, self._hidden), np.float32) for _ in STATE]

    def __call__(self, features: Float32) -> Float32:
        logits, *self._state = self._session.run(None, {"features": features[None], STATE[0]: self._state[0], STATE[1]: self._state[1]})
        return logits[0]  # type: ignore[no-any-return]


class _NumpyStep:
    def __init__(self, predictor: Numpy) -> None:
        self._predictor = predictor

    def reset(self) -> None:
        self._state = self._predictor.state()

    def __call__(self, features: Float32) -> Float32:
        logits, self._state = self._predictor.step(features, self._state)
        return np.asarray(logits)


def _probabilities(logits: Float32) -> Float32:
    """(..., classes): softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]
