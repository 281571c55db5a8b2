"""The extractor on the RK3399Pro's NPU: by RKNNLite, or by the full toolkit, which also tells the NPU's own time and memory.

Both log their errors and return -1 or None: every answer is looked at, and each that is none becomes a Problem. One context per process.
"""

import atexit
import contextlib
import io
import os
import re

from fercompress_agent import Problem
from fercompress_agent.engine_onnxruntime import Arrays, imported

# As printed without and with perf_debug; microseconds.
_PRINTED = re.compile(r"(?:Average inference Time|Total Time)\(us\):\s*([0-9.]+)")


class RknnLite(Arrays):
    """frame: (1, H, W, channels), uint8 as the clip has it or float32 as preprocessed, whichever the manifest's extractor takes."""

    parts = ("extractor",)
    modules = ("numpy", "rknnlite")
    package, class_name, distribution = "rknnlite.api", "RKNNLite", "rknn_toolkit_lite-"
    for_memory = False  # whether eval_memory will be asked: init_runtime must know

    def __init__(self, threads):
        Arrays.__init__(self, threads)
        self.runtime = None
        self.sdk = None

    def start(self):
        Arrays.start(self)
        imported(self.package)
        self.module = __import__(self.package, fromlist=[self.class_name])

    def versions(self):
        found = {"numpy": self.numpy.__version__, self.package.split(".")[0]: self._version()}
        if self.sdk is not None:
            found["npu"] = self.sdk
        return found

    def _version(self):
        place = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(self.module.__file__))))
        names = sorted(name for name in os.listdir(place) if name.startswith(self.distribution) and name.endswith("-info"))
        return names[-1][len(self.distribution) :].rsplit(".", 1)[0] if names else "not known"

    def load_extractor(self, folder, manifest):
        part = manifest["extractor"]
        self.preprocess = manifest["preprocess"]
        self.dtype = part["input"]["dtype"]
        # An imported file may take the grey picture three times.
        self.times = 3 if part["input"].get("channels") == 3 else 1
        self.shape = (1, part["output"]["shape"][1])
        self.release()
        runtime = getattr(self.module, self.class_name)()
        self._checked("load_rknn", runtime.load_rknn(os.path.join(folder, part["file"])))
        try:
            code = runtime.init_runtime(**({"eval_mem": True} if self.for_memory else {}))
        except AttributeError as error:  # RKNNLite on a machine without the NPU
            raise Problem("{}: no NPU found ({}): is this an RK3399Pro, with its driver?".format(self.class_name, error))
        self._checked("init_runtime", code)
        self.runtime = runtime
        atexit.register(self.release)
        # Two lines and a blank: one line of text for a table.
        self.sdk = " ".join(str(runtime.get_sdk_version() or "no version told").split())

    def release(self):
        if self.runtime is not None:
            self.runtime.release()
            self.runtime = None

    def _checked(self, step, code):
        if code != 0:
            raise Problem("{}.{} failed with {!r}: see its log; was the file made for RK3399Pro, and does npu_transfer_proxy run?".format(self.class_name, step, code))

    def frames(self, pixels, shape):
        if self.dtype == "uint8":  # mean and std are in the file
            clip = self.numpy.frombuffer(pixels, self.numpy.uint8).reshape(tuple(shape) + (1,))
            clip = clip if self.times == 1 else clip.repeat(self.times, axis=3)
            return [clip[t : t + 1] for t in range(len(clip))]
        ascontiguous, times = self.numpy.ascontiguousarray, self.times
        return [ascontiguous(frame.transpose(0, 2, 3, 1).repeat(times, axis=3)) for frame in Arrays.frames(self, pixels, shape)]

    def extract(self, frame):
        found = self.runtime.inference(inputs=[frame], data_type=self.dtype, data_format="nhwc")
        if found is None:
            raise Problem("{}.inference gave nothing: see its log".format(self.class_name))
        return found[0].reshape(self.shape)

    def join(self, features):
        joined = Arrays.join(self, features)
        if not joined.any():
            raise Problem("the NPU gave zeros for every frame of a clip: the file does not work on this target")
        return joined

    def own_facts(self):
        """What the runtime itself tells, after the timed clips."""
        reason = "n/a: RKNNLite has neither eval_perf nor eval_memory"
        return {"npu_memory": reason} if self.for_memory else {"npu_ns": reason}


class Rknn(RknnLite):
    modules = ("numpy", "rknn")
    package, class_name, distribution = "rknn.api", "RKNN", "rknn_toolkit-"

    def own_facts(self):
        if self.for_memory:
            return {"npu_memory": self._memory()}
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            told = self.runtime.eval_perf(is_print=True)
        microseconds = parsed(told, printed.getvalue())
        if microseconds is None:
            return {"npu_ns": "n/a: eval_perf told no time ({!r})".format(told)}
        return {"npu_ns": int(microseconds * 1000 + 0.5)}

    def _memory(self):
        """Most and all bytes per kind, as eval_memory names them."""
        with contextlib.redirect_stdout(io.StringIO()):
            told = self.runtime.eval_memory(is_print=True)
        if not isinstance(told, dict):
            return "n/a: eval_memory told nothing (driver 0.9.4 or newer is needed)"
        return {
            kind: {name: int(size) for name, size in sizes.items() if isinstance(size, (int, float))}
            for kind, sizes in told.items()
            if isinstance(sizes, dict)
        }


def parsed(told, printed):
    """Microseconds of one inference, from what eval_perf returned (a dict, a text) or else printed; None where neither says."""
    if isinstance(told, dict) and isinstance(told.get("total_time"), (int, float)):
        return float(told["total_time"])
    for text in (told, printed):
        found = _PRINTED.search(text) if isinstance(text, str) else None
        if found:
            return float(found.group(1))
    return None
