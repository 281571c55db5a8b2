"""The same onnxruntime as engine_onnxruntime, by its C interface: no numpy and no Python package around it, for targets with little memory."""

import array
import ctypes
import glob
import importlib.util
import os

from fercompress_agent import Problem, npyfile, onnxruntime_c


class OnnxRuntimeC:
    """Frames are tensors over memory of their own; features are written where the predictor reads them, logits are a list of float."""

    parts = ("extractor", "predictor")
    modules = ("onnxruntime",)
    language = "tensor"

    def __init__(self, threads):
        self.threads = threads

    @staticmethod
    def library_path():
        """Of the shared library inside the installed wheel; None where the wheel, an old one, has none."""
        found = importlib.util.find_spec("onnxruntime")
        folders = (found.submodule_search_locations if found else None) or []
        for folder in folders:
            for path in sorted(glob.glob(os.path.join(glob.escape(folder), "capi", "libonnxruntime.so.*"))):
                return path
        return None

    @classmethod
    def lacking(cls):
        """What is missing though the module is there."""
        return [] if cls.library_path() else ["onnxruntime with capi/libonnxruntime.so (newer wheels have it)"]

    def start(self):
        path = self.library_path()
        if path is None:
            raise Problem("the target's Python has no onnxruntime that ships capi/libonnxruntime.so: use the engine onnxruntime")
        self.library = onnxruntime_c.Library(path)

    def versions(self):
        return {"onnxruntime": self.library.version, "onnxruntime interface": "C"}

    def load_extractor(self, folder, manifest):
        part = manifest["extractor"]
        self.preprocess = manifest["preprocess"]
        self.frame_shape = part["input"]["shape"]
        self.extractor = self._session(folder, part)
        self.frame_names, self.feature_names = (onnxruntime_c.names(part[end]["name"]) for end in ("input", "output"))
        self._planes = _Planes(self.preprocess)
        self.joined = self._joined(manifest)
        size = part["output"]["shape"][-1]
        self.slots = [self.library.tensor(self.joined.floats, (1, size), t * size) for t in range(manifest["frames"])]

    def load_predictor(self, folder, manifest):
        part = manifest["predictor"]
        self.predictor = self._session(folder, part)
        self.joined_names, self.logit_names = (onnxruntime_c.names(part[end]["name"]) for end in ("input", "output"))
        self.joined = getattr(self, "joined", None) or self._joined(manifest)
        shape = part["output"]["shape"]
        self.logits = self.library.tensor((ctypes.c_float * npyfile.product(shape))(), shape)

    def _session(self, folder, part):
        return self.library.session(os.fsencode(os.path.join(folder, part["file"])), self.threads)

    def _joined(self, manifest):
        shape = manifest["predictor"]["input"]["shape"]
        return self.library.tensor((ctypes.c_float * npyfile.product(shape))(), shape)

    def frames(self, pixels, shape):
        """The same numbers as `Arrays.frames` gives, to the last bit."""
        size = shape[1] * shape[2]
        first = pixels[:size]
        made = []
        for t in range(shape[0]):
            numbers = self._planes.of(pixels[t * size : (t + 1) * size], first)
            made.append((self.library.tensor((ctypes.c_float * len(numbers)).from_buffer(numbers), self.frame_shape), self.slots[t]))
        return made

    def extract(self, frame):
        source, slot = frame
        status = self.library.run(self.extractor, None, self.frame_names, source.place, 1, self.feature_names, 1, slot.place)
        if status:
            self.library.check(status)
        return slot

    def join(self, features):
        return self.joined  # each frame's slot lies in it

    def predict(self, joined):
        status = self.library.run(self.predictor, None, self.joined_names, joined.place, 1, self.logit_names, 1, self.logits.place)
        if status:
            self.library.check(status)
        return self.logits.floats[:]

    def numbers(self, logits):
        return list(logits)

    def to_bytes(self, joined):
        return bytes(joined.floats)

    def from_bytes(self, data):
        ctypes.memmove(self.joined.floats, data, ctypes.sizeof(self.joined.floats))
        return self.joined


class _Planes:
    """A frame's bytes to its float32 planes: every byte, and every pair of bytes, is worked out once."""

    def __init__(self, preprocess):
        self.mean, self.std = single(preprocess["mean"]), single(preprocess["std"])
        self.difference = preprocess["difference"]
        self.shares = [single(value / 255.0) for value in range(256)]
        self.plain = array.array("f", [single(single(share - self.mean) / self.std) for share in self.shares])
        self.changed = {}  # byte of the first frame -> for each byte of this one

    def of(self, frame, first):
        numbers = array.array("f", map(self.plain.__getitem__, frame))
        if self.difference:
            numbers.extend(self._row(before)[now] for before, now in zip(first, frame))
        return numbers

    def _row(self, before):
        if before not in self.changed:
            start = self.shares[before]
            self.changed[before] = array.array("f", [single(single(share - start) / self.std) for share in self.shares])
        return self.changed[before]


def single(value):
    """Rounded to float32. A quotient or difference of two float32 worked out in float64 and rounded is the float32 one."""
    return ctypes.c_float(value).value
