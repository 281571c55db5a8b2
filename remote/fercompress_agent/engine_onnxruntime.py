"""Graphs in onnxruntime on the CPU, by its Python package; and `Arrays`, what every half that works on numpy arrays shares."""

import os

from fercompress_agent import Problem
from fercompress_agent.layouts import Layouts, Passing


class Arrays:
    """Frames, features and logits as numpy arrays of float32.

    frame: (1, channels, H, W); features of a frame: (1, D); joined: (1, T, D); logits: any shape that holds one number per class
    """

    parts = ("extractor", "predictor")
    language = "array"
    modules = ("numpy",)
    layouts = None  # of an imported bundle

    def __init__(self, threads):
        self.threads = threads
        self.numpy = None

    def start(self):
        for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[pool] = str(self.threads)  # numpy starts its pool when it is imported
        self.numpy = imported("numpy")

    def versions(self):
        return {"numpy": self.numpy.__version__}

    def frames(self, pixels, shape):
        """The same arithmetic, in float32, as the host's records.Preprocess."""
        if self.layouts:
            return self.layouts.frames(pixels, shape)
        numpy = self.numpy
        frames = numpy.frombuffer(pixels, numpy.uint8).reshape(shape).astype(numpy.float32) / numpy.float32(255)
        planes = [(frames - numpy.float32(self.preprocess["mean"])) / numpy.float32(self.preprocess["std"])]
        if self.preprocess["difference"]:
            planes.append((frames - frames[:1]) / numpy.float32(self.preprocess["std"]))
        clip = numpy.stack(planes, axis=1)
        return [clip[t : t + 1] for t in range(len(clip))]

    def join(self, features):
        if self.layouts:
            return self.layouts.join(features)
        return self.numpy.stack(features, axis=1)

    def numbers(self, logits):
        return [float(value) for value in logits.ravel()]

    def to_bytes(self, joined):
        return joined.astype("<f4").tobytes()

    def from_bytes(self, data):
        return self.numpy.frombuffer(data, "<f4").reshape(self.joined_shape)


class OnnxRuntime(Arrays):
    """Sequential, `threads` intra-op threads, everything else as the runtime ships.

    Arena, memory pattern, prepacking and initializers' allocator stay at their defaults: none of them changed the peak by more than the spread.
    """

    modules = ("numpy", "onnxruntime")

    def start(self):
        Arrays.start(self)
        self.runtime = imported("onnxruntime")

    def versions(self):
        return {"numpy": self.numpy.__version__, "onnxruntime": self.runtime.__version__}

    def load_extractor(self, folder, manifest):
        self.preprocess = manifest["preprocess"]
        if "layout" in manifest["extractor"]["input"]:
            self.layouts = Layouts(self.numpy, manifest)
        if manifest.get("one_file"):
            self.extractor, self.frame_name, self.feature_names = Passing(), "frame", ["frame"]
            return
        self.extractor, self.frame_name, self.feature_names = self._session(folder, manifest["extractor"])

    def load_predictor(self, folder, manifest):
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

    def extract(self, frame):
        return self.extractor.run(self.feature_names, {self.frame_name: frame})[0]

    def predict(self, joined):
        return self.predictor.run(self.logit_names, {self.features_name: joined})[0]


def imported(module):
    """raises: Problem"""
    try:
        return __import__(module)
    except ImportError as error:
        raise Problem("the target's Python cannot import {} ({}): pip install {}".format(module, error, module))
