"""What both fakes share: a made-up model file that holds its ONNX graph, and the context that runs it; nothing here is a board or knows its times.

Environment: FAKE_RKNN_TOOLKIT, the version that is played (1.7.5); FAKE_RKNN_BOARD=1, the process is on a board, else on x86;
FAKE_RKNN_ANSWER=none or zeros, what every inference gives instead of features; FAKE_RKNN_PERF=dict, text or printed, what eval_perf gives.
Not known of the real ones, and refused here: an array whose dtype is not the one named in `data_type`.
"""

import json
import os
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

MAGIC = b"FAKE RKNN, not for any board\n"
FEEDBACK = "log_feedback_to_the_rknn_toolkit_dev_team.log"
DATA_TYPES = ("float32", "float16", "int8", "uint8", "int16")
# toolkit: highest opset, highest IR version
TABLE = {"1.6.0": (11, 6), "1.7.0": (11, 6), "1.7.1": (11, 6), "1.7.3": (11, 6), "1.7.5": (12, 7)}


def version():
    return os.environ.get("FAKE_RKNN_TOOLKIT", "1.7.5")


def on_board():
    return os.environ.get("FAKE_RKNN_BOARD") == "1"


class Log:
    def __init__(self, verbose_file):
        self.path = verbose_file

    def error(self, text):
        """Logged, not raised; returns -1 as the real calls do."""
        print(f"E {text}", file=sys.stderr)
        for path in (self.path, FEEDBACK):
            if path:
                with open(path, "a") as stream:
                    stream.write(f"E {text}\n")
        return -1


def pack(model, head):
    return MAGIC + json.dumps(head).encode() + b"\n" + model.SerializeToString()


def unpack(content):
    """(graph, head). raises: ValueError"""
    if not content.startswith(MAGIC):
        raise ValueError("not a file of this fake")
    head, graph = content[len(MAGIC) :].split(b"\n", 1)
    return onnx.load_from_string(graph), json.loads(head)


def half(model):
    """The graph with its weights rounded to fp16."""
    for item in model.graph.initializer:
        if item.data_type == onnx.TensorProto.FLOAT:
            rounded = numpy_helper.to_array(item).astype(np.float16).astype(np.float32)
            item.CopyFrom(numpy_helper.from_array(rounded, item.name))
    return model


class Context:
    """What RKNN and RKNNLite have in common once there is a file."""

    def __init__(self, verbose, verbose_file):
        assert isinstance(verbose, bool)
        self.log = Log(verbose_file)
        self.graph = self.head = self.session = None
        self.released = False

    def load_rknn(self, path, load_model_in_npu=False):
        try:
            with open(path, "rb") as stream:
                self.graph, self.head = unpack(stream.read())
        except (OSError, ValueError):
            return self.log.error(f"Catch exception when loading RKNN model [{path}]!")
        return 0

    def _start(self, target):
        if self.released or self.graph is None:
            return self.log.error("Catch exception when init runtime!")
        if target is not None:
            return self.log.error("Catch exception when init runtime! on the board the target is None")
        self.session = onnxruntime.InferenceSession(self.graph.SerializeToString(), providers=["CPUExecutionProvider"])
        return 0

    def inference(self, inputs, data_type=None, data_format=None, inputs_pass_through=None, get_frame_id=False):
        if self.session is None or self.released:
            self.log.error("Runtime environment is not inited, please call init_runtime to init it first!")
            return None
        data_type, data_format = data_type or "uint8", data_format or "nhwc"
        channels = self.graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value
        try:
            (given,) = inputs
            assert isinstance(inputs, list), f"inputs is a {type(inputs).__name__}, a list is wanted"
            assert data_type in DATA_TYPES, f"data_type {data_type}"
            assert data_format in ("nhwc", "nchw"), f"data_format {data_format}"
            assert given.dtype == np.dtype(data_type), f"the array is {given.dtype}, data_type is {data_type}"
            assert given.ndim == 4, f"{given.ndim} axes"
            values = given.astype(np.float32)
            if data_format == "nhwc":
                values = values.transpose(0, 3, 1, 2)
            assert values.shape[:2] == (1, channels), f"shape {given.shape} as {data_format} for {channels} channels"
            values = normalised(values, self.head)
        except (AssertionError, AttributeError, TypeError, ValueError) as error:
            self.log.error(f"Catch exception when setting inputs. {error}")
            return None
        answer = os.environ.get("FAKE_RKNN_ANSWER")
        if answer == "none":
            self.log.error("Catch exception when running RKNN model.")
            return None
        found = [output.astype(np.float32) for output in self.session.run(None, {self.session.get_inputs()[0].name: values})]
        return [np.zeros_like(output) for output in found] if answer == "zeros" else found

    def get_sdk_version(self):
        if self.session is None:
            self.log.error("Runtime environment is not inited, please call init_runtime to init it first!")
            return None
        return f"RKNN VERSION:\n  API: FAKE {version()} (no board)\n  DRV: FAKE {version()} (no board)"

    def release(self):
        self.session, self.released = None, True


def normalised(values, head):
    """values: float32 (N, C, H, W)"""
    mean, std = (np.array(head[key][0], np.float32).reshape(1, -1, 1, 1) for key in ("mean", "std"))
    return (values - mean) / std
