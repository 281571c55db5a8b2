"""A product's own ONNX file, opened: a path in, a loaded session with one input out; what cannot be measured is refused with the reason."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from fercompress.errors import BundleError
from fercompress.export.bundle import MANIFEST

DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


@dataclass(frozen=True)
class File:
    """An ONNX file that onnxruntime has loaded, with one input; shape: None where an axis is open."""

    path: Path
    model: onnx.ModelProto
    session: onnxruntime.InferenceSession
    name: str
    shape: tuple[int | None, ...]
    dtype: str
    extra: Mapping[str, bytes]  # files with external data, by the names under which it looks for them

    def run(self, given: Any) -> Any:
        """raises: BundleError"""
        try:
            return self.session.run([self.output], {self.name: given})[0]
        except Exception as error:  # onnxruntime's errors have no common root
            raise BundleError(f"{self.path}: fails on an input of {given.dtype} {given.shape}: {first_line(error)}") from error

    @property
    def output(self) -> str:
        return str(self.session.get_outputs()[0].name)


def opened(path: Path) -> File:
    """raises: BundleError for what is no ONNX file, lacks a file, or needs what this onnxruntime has not"""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's errors differ between its implementations
        raise BundleError(f"{path}: not an ONNX file ({first_line(error)})") from error
    if not model.graph.node or not model.opset_import:
        raise BundleError(f"{path}: not an ONNX file, or one without any operator")
    extra = _external(path, model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        said = first_line(error)
        lacks = re.search(
            r"not a registered function|No Op registered|NOT_IMPLEMENTED|Could not find an implementation|opset .* is under development", said
        )
        why = "needs operators that it lacks" if lacks else "cannot be loaded"
        raise BundleError(f"{path}: with onnxruntime {onnxruntime.__version__} it {why}: {said}") from error
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs) or "none"
        raise BundleError(
            f"{path}: has {len(inputs)} inputs ({names}); export it with one: a state, where there is one, begins at zero inside the graph"
        )
    if inputs[0].type not in DTYPES:
        raise BundleError(f"{path}: {inputs[0].name} is {inputs[0].type}; frames can be given as {', '.join(DTYPES.values())}")
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in inputs[0].shape)
    return File(path, model, session, inputs[0].name, shape, DTYPES[inputs[0].type], extra)


def opened_predictor(path: Path) -> File:
    """As `opened`, of what takes a clip's features. raises: BundleError"""
    file = opened(path)
    if file.dtype != "float32":
        raise BundleError(f"{path}: takes {file.dtype}, and features are float32: export it with float32 inputs")
    if len(file.shape) < 3:
        raise BundleError(f"{path}: {file.name} {axes_text(file.shape)} has no axis of time: a predictor takes (1, T, features), all frames at once")
    return file


def _external(path: Path, model: onnx.ModelProto) -> dict[str, bytes]:
    names = {
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    found: dict[str, bytes] = {}
    for name in sorted(names):
        if Path(name).name != name or name in (MANIFEST, "extractor.onnx", "predictor.onnx", "model.onnx"):
            raise BundleError(f"{path}: keeps weights in {name!r}: save it as one file (onnx.save), or with a plain name beside it")
        try:
            found[name] = (path.parent / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{path}: its external data are missing: {path.parent / name} ({error.strerror}); copy that file beside it") from error
    return found


def axes_text(shape: Sequence[int | None]) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
