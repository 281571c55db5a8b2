"""What runs a bundle: one class per runtime, listed in `ENGINES`.

An engine has, in the order of use:
    Engine(threads)
    start(): import the runtime; raises Problem where it is missing
    versions() -> {"numpy": "1.26.4", ...}
    load(folder, manifest): make the models ready
    frames(pixels, shape) -> T extractor inputs; pixels: one clip's bytes, uint8 (T, H, W) = shape
    extract(frame) -> features; join(T features) -> predictor input; predict(joined) -> logits
    numbers(logits) -> list of float, one per class
    to_bytes(joined) / from_bytes(bytes) -> joined, float32 little-endian (T, D)
"""

import importlib.util
import os

from fercompress_agent import Problem


class OnnxRuntime:
    """Both graphs in onnxruntime on the CPU: sequential, `threads` intra-op threads, everything else as the runtime ships."""

    modules = ("numpy", "onnxruntime")

    def __init__(self, threads):
        self.threads = threads
        self.numpy = self.runtime = None

    def start(self):
        for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[pool] = str(self.threads)  # numpy starts its pool when it is imported
        try:
            import numpy
            import onnxruntime
        except ImportError as error:
            raise Problem("the target's Python cannot import what the onnxruntime engine needs ({}): pip install numpy onnxruntime".format(error))
        self.numpy, self.runtime = numpy, onnxruntime

    def versions(self):
        return {"numpy": self.numpy.__version__, "onnxruntime": self.runtime.__version__}

    def load(self, folder, manifest):
        self.preprocess = manifest["preprocess"]
        self.extractor, self.frame_name, self.feature_names = self._session(folder, manifest["extractor"])
        self.predictor, self.features_name, self.logit_names = self._session(folder, manifest["predictor"])
        self.joined_shape = tuple(manifest["predictor"]["input"]["shape"])

    def _session(self, folder, part):
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = self.runtime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        # Spinning is the runtime's default and what a user gets; with one thread there is nothing to wait for.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if self.threads > 1 else "0")
        session = self.runtime.InferenceSession(os.path.join(folder, part["file"]), options, providers=["CPUExecutionProvider"])
        return session, part["input"]["name"], [part["output"]["name"]]

    def frames(self, pixels, shape):
        """The same arithmetic, in float32, as the host's records.Preprocess."""
        numpy = self.numpy
        frames = numpy.frombuffer(pixels, numpy.uint8).reshape(shape).astype(numpy.float32) / numpy.float32(255)
        planes = [(frames - numpy.float32(self.preprocess["mean"])) / numpy.float32(self.preprocess["std"])]
        if self.preprocess["difference"]:
            planes.append((frames - frames[:1]) / numpy.float32(self.preprocess["std"]))
        clip = numpy.stack(planes, axis=1)
        return [clip[t : t + 1] for t in range(len(clip))]

    def extract(self, frame):
        return self.extractor.run(self.feature_names, {self.frame_name: frame})[0]

    def join(self, features):
        return self.numpy.stack(features, axis=1)

    def predict(self, joined):
        return self.predictor.run(self.logit_names, {self.features_name: joined})[0]

    def numbers(self, logits):
        return [float(value) for value in logits.ravel()]

    def to_bytes(self, joined):
        return joined.astype("<f4").tobytes()

    def from_bytes(self, data):
        return self.numpy.frombuffer(data, "<f4").reshape(self.joined_shape)


class Null:
    """No model at all: what it measures is the cost of the timing loop itself, and it needs no numpy."""

    modules = ()

    def __init__(self, threads):
        self.threads = threads

    def start(self):
        pass

    def versions(self):
        return {}

    def load(self, folder, manifest):
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


ENGINES = {"onnxruntime": OnnxRuntime, "null": Null}


def missing(name):
    """The modules that an engine needs and this Python does not have, without importing any."""
    return [module for module in ENGINES[name].modules if importlib.util.find_spec(module) is None]
