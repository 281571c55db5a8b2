"""What runs a bundle: one class per runtime, listed in `ENGINES`; a job's engine is one of them, or "a+b": a's extractor and b's predictor.

A class has one half or both, as its `parts` say. Both halves have
    parts, modules (what must be importable), language ("array": see `Arrays`; halves of one language can be paired)
    Class(threads); start(): import the runtime, raises Problem where it is missing; versions() -> {"numpy": "1.26.4", ...}
The extractor's half has, in the order of use:
    load_extractor(folder, manifest)
    frames(pixels, shape) -> T extractor inputs; pixels: one clip's bytes, uint8 (T, H, W) = shape
    extract(frame) -> features; join(T features) -> predictor input; to_bytes(joined) -> float32 little-endian (T, D)
The predictor's half:
    load_predictor(folder, manifest)
    from_bytes(bytes) -> joined; predict(joined) -> logits; numbers(logits) -> list of float, one per class
    optional: streams: whether the loaded predictor can run step by step; state() -> that before the first frame;
        step(features of one frame, state) -> logits, the next state
A half that knows more of itself than the agent can measure has own_facts() -> facts, asked after the clips; for_memory is set before loading where
they are to be of memory.
"""

import importlib.util

from fercompress_agent import Problem
from fercompress_agent.engine_numpy import Numpy
from fercompress_agent.engine_onnxruntime import OnnxRuntime
from fercompress_agent.engine_onnxruntime_c import OnnxRuntimeC
from fercompress_agent.engine_rknn import Rknn, RknnLite

BOTH = ("extractor", "predictor")


class Null:
    """No model at all: what it measures is the cost of the timing loop itself, and it needs no numpy."""

    parts = BOTH
    modules = ()
    language = "nothing"

    def __init__(self, threads):
        self.threads = threads

    def start(self):
        pass

    def versions(self):
        return {}

    def load_extractor(self, folder, manifest):
        pass

    def load_predictor(self, folder, manifest):
        self.logits = [float(index + 1) for index in range(len(manifest["classes"]))]

    def frames(self, pixels, shape):
        size = shape[1] * shape[2]
        return [pixels[t * size : (t + 1) * size] for t in range(shape[0])]

    def extract(self, frame):
        return frame[:4]

    def join(self, features):
        return b"".join(features)

    def predict(self, joined):
        return self.logits

    def numbers(self, logits):
        return list(logits)

    def to_bytes(self, joined):
        return joined

    def from_bytes(self, data):
        return data


class Stored:
    """No extractor: a clip's features were computed elsewhere and are read from the job's features file."""

    parts = ("extractor",)
    modules = ()
    language = "bytes"  # what every predictor's half makes its input from

    def __init__(self, threads):
        self.threads = threads

    def start(self):
        pass

    def versions(self):
        return {}

    def load_extractor(self, folder, manifest):
        pass

    def frames(self, pixels, shape):
        return [pixels]

    def extract(self, frame):
        return frame

    def join(self, features):
        return features[0]

    def to_bytes(self, joined):
        return joined


class Engine:
    """An extractor's and a predictor's half as one; where a class has both, they are one object.

    The halves' methods are this object's own attributes, so that a timed call costs nothing more.
    """

    def __init__(self, name, extractor, predictor):
        self.name = name
        self.halves = [extractor] if extractor is predictor else [extractor, predictor]
        self.first, self.second = extractor, predictor
        self.stored = extractor.language == "bytes"
        self.answers = extractor.language != "nothing"  # whether there is a model behind the logits
        self.frames, self.extract, self.join, self.to_bytes = extractor.frames, extractor.extract, extractor.join, extractor.to_bytes
        self.predict, self.numbers, self.from_bytes = predictor.predict, predictor.numbers, predictor.from_bytes
        if self.stored:
            self.join = self._from_stored

    def _from_stored(self, features):
        return self.second.from_bytes(features[0])

    def start(self):
        for half in self.halves:
            half.start()

    def versions(self):
        found = {}
        for half in self.halves:
            found.update(half.versions())
        return found

    def load(self, folder, manifest):
        self.first.load_extractor(folder, manifest)
        self.second.load_predictor(folder, manifest)

    def own_facts(self):
        found = {}
        for half in self.halves:
            found.update(getattr(half, "own_facts", dict)())
        return found

    @property
    def streams(self):
        return not self.stored and getattr(self.second, "streams", False)


ENGINES = {
    "rknnlite": RknnLite,
    "rknn": Rknn,
    "onnxruntime": OnnxRuntime,
    "onnxruntime-c": OnnxRuntimeC,
    "numpy": Numpy,
    "stored": Stored,
    "null": Null,
}


def make(name, threads):
    """A job's engine, not started yet. raises: Problem"""
    one, plus, other = name.partition("+")
    for half in (one, other) if plus else (one,):
        if half not in ENGINES:
            raise Problem("no engine named {!r}, this agent has {}".format(half, ", ".join(sorted(ENGINES))))
    if not fits(one, other or one):
        raise Problem("engine {!r}: {}".format(name, _misfit(one, other or one)))
    extractor = ENGINES[one](threads)
    return Engine(name, extractor, ENGINES[other](threads) if other not in ("", one) else extractor)


def fits(one, other):
    """Whether an extractor's half and a predictor's half, by their names, can work together."""
    first, second = ENGINES[one], ENGINES[other]
    return "extractor" in first.parts and "predictor" in second.parts and (first.language == second.language or first.language == "bytes")


def _misfit(one, other):
    for name, part in ((one, "extractor"), (other, "predictor")):
        if part not in ENGINES[name].parts:
            return "{} runs no {}: name a pair, as in onnxruntime+numpy".format(name, part)
    return "what {} gives as features, {} cannot read".format(one, other)


def missing(name):
    """The modules that an engine's class needs and this Python does not have, without importing any."""
    lost = [module for module in ENGINES[name].modules if importlib.util.find_spec(module) is None]
    return lost or getattr(ENGINES[name], "lacking", list)()
