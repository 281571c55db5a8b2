"""A product's own ONNX files in, an ordinary bundle out, proven to run; what is not as it can be measured is a `BundleError` that says why."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from fercompress_agent import engines

from fercompress.errors import BundleError
from fercompress.export import onnx_file
from fercompress.export.bundle import ENGINE, MANIFEST, SCHEMA, load, write_once
from fercompress.records import Bundle, Float32, Preprocess, Size, UInt8, digest

CHANNELS = (1, 2, 3)  # grey; grey and its difference to the clip's first frame; grey three times
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
LAYOUTS = {3: ("CHW", "HWC", "NHW"), 4: ("NCHW", "NHWC"), 5: ("NTCHW", "NCTHW", "NTHWC")}  # in order of preference
NPU_ENGINE = "rknnlite"


@dataclass(frozen=True)
class Wishes:
    """What a file does not say. frames, side: of a clip, where the file's axes are open; layout: of the extractor's input, "" to find it out

    mean, std: of pixel / 255: 0 and 1 give 0..1, 0.5 and 0.5 give -1..1, 0 and 0.00392157 give 0..255
    """

    name: str
    labels: tuple[str, ...] = ()
    frames: int = 16
    side: int | None = None
    layout: str = ""
    mean: float = 0.0
    std: float = 1.0


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
            raise BundleError(f"{self.path}: fails on an input of {given.dtype} {given.shape}: {_first_line(error)}") from error

    @property
    def output(self) -> str:
        return str(self.session.get_outputs()[0].name)


def imported(extractor: Path, predictor: Path, wishes: Wishes, root: Path) -> Bundle:
    """A folder below root made of a frame's extractor and a clip's predictor. raises: BundleError"""
    if extractor.suffix == ".rknn":
        _refuse_npu(extractor)
    first, second = opened(extractor), opened(predictor)
    if second.dtype != "float32":
        raise BundleError(f"{predictor}: takes {second.dtype}, and features are float32: export it with float32 inputs")
    if len(second.shape) < 3:
        raise BundleError(
            f"{predictor}: {second.name} {_axes(second.shape)} has no axis of time: a predictor takes (1, T, features), all frames at once"
        )
    layout = _layout(first, wishes)
    places, found, shape, order = _fitted(first, second, layout, wishes)
    logits = second.run(np.random.default_rng(0).random(shape, dtype=np.float32))
    parts = {
        "extractor": _part("extractor.onnx", first, layout, places, found),
        "predictor": {
            "file": "predictor.onnx",
            "engine": ENGINE,
            "input": {"name": second.name, "shape": list(shape), "dtype": "float32", "layout": order},
            "output": {"name": second.output, "shape": list(logits.shape), "dtype": str(logits.dtype)},
        },
    }
    return _written(root, wishes, {"extractor.onnx": first, "predictor.onnx": second}, parts, places, logits, one_file=False)


def imported_whole(model: Path, wishes: Wishes, root: Path) -> Bundle:
    """A folder below root made of one file from a clip's frames to its logits. raises: BundleError"""
    if model.suffix == ".rknn":
        _refuse_npu(model)
    only = opened(model)
    layout = _layout(only, wishes, whole=True)
    places = _sizes(only, layout, wishes, only.shape[layout.index("T")] or wishes.frames)
    given = _random(layout, places, only.dtype)
    logits = only.run(given)
    part = _part("model.onnx", only, layout, places, logits)
    passed = {"name": "frame", "shape": list(given.shape), "dtype": only.dtype}
    parts = {"extractor": {**part, "output": passed}, "predictor": part}
    return _written(root, wishes, {"model.onnx": only}, parts, places, logits, one_file=True)


def opened(path: Path) -> File:
    """raises: BundleError for what is no ONNX file, lacks a file, or needs what this onnxruntime has not"""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's errors differ between its implementations
        raise BundleError(f"{path}: not an ONNX file ({_first_line(error)})") from error
    if not model.graph.node or not model.opset_import:
        raise BundleError(f"{path}: not an ONNX file, or one without any operator")
    extra = _external(path, model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        said = _first_line(error)
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


def logits_of(bundle: Bundle, frames: UInt8) -> Float32:
    """frames: uint8 (N, T, H, W); returns float32 (N, classes), as the agent's engine computes them. raises: BundleError"""
    engine = engines.make(bundle.engine, 1)
    try:
        engine.start()
        engine.load(str(bundle.folder), bundle.manifest)
        found = []
        for clip in frames:
            inputs = engine.frames(clip.tobytes(), clip.shape)
            found.append(engine.numbers(engine.predict(engine.join([engine.extract(frame) for frame in inputs]))))
    except Exception as error:
        raise BundleError(f"{bundle.folder}: the agent's engine cannot run it: {_first_line(error)}") from error
    return np.array(found, np.float32)


def _refuse_npu(path: Path) -> None:
    # The place for NPU files: they say no shapes, so that --side, --layout and the predictor's features must, and only the board can prove them.
    has = f"the agent's engine {NPU_ENGINE} is not wired to it yet" if NPU_ENGINE in engines.ENGINES else f"the agent has no engine {NPU_ENGINE}"
    raise BundleError(f"{path}: an .rknn file cannot be imported: {has}; import the ONNX file that it was converted from")


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


def _layout(file: File, wishes: Wishes, *, whole: bool = False) -> str:
    rank = len(file.shape)
    if wishes.layout:
        if len(wishes.layout) != rank or len(set(wishes.layout)) != rank or not {"H", "W"} <= set(wishes.layout) <= set("NTCHW"):
            raise BundleError(f"--layout {wishes.layout}: {file.path} takes {rank} axes {_axes(file.shape)}; name each once: N, T, C, H, W")
        if whole and "T" not in wishes.layout:
            raise BundleError(f"--layout {wishes.layout}: one model for both takes whole clips: which of its axes {_axes(file.shape)} is T?")
        return wishes.layout
    known = ("NTHW", "TCHW", "THWC") if whole and rank == 4 else LAYOUTS.get(rank, ())
    if not whole and rank == 4 and file.shape[0] not in (None, 1):
        known = ("TCHW", "THWC")
    if whole and rank == 4 and file.shape[0] not in (None, 1):
        known = known[1:]
    for layout in known:
        fits = "C" not in layout or file.shape[layout.index("C")] in CHANNELS
        if fits and not (whole and "T" not in layout):
            return layout
    takes = "a whole clip, 4 or 5 axes with T among them" if whole else "a frame (1, C, H, W) or a clip, 3 to 5 axes"
    raise BundleError(
        f"{file.path}: {file.name} {_axes(file.shape)} has {rank} axes, which do not tell frames with 1, 2 or 3 channels; "
        f"it should take {takes}; where that is so, name the axes: --layout NTHWC"
    )


def _sizes(file: File, layout: str, wishes: Wishes, length: int) -> dict[str, int]:
    """The length of every axis; T: of a clip, also where the layout has none."""
    told: dict[str, int | None] = {"N": 1, "T": length, "H": wishes.side, "W": wishes.side, "C": 1}
    for axis, size in zip(layout, file.shape, strict=True):
        if axis == "N" and size not in (None, 1):
            raise BundleError(f"{file.path}: takes {size} at a time: export it for a batch of one, or an open one; a product sees one clip")
        told[axis] = size if size is not None else told[axis] if axis != "C" else None
    if told["C"] not in CHANNELS:
        raise BundleError(
            f"{file.path}: takes {told['C'] or 'an open number of'} channels; clips here are grey: 1, 2 (with the difference) or 3 (grey thrice)"
        )
    if told["H"] is None or told["W"] is None:
        raise BundleError(f"{file.path}: {file.name} {_axes(file.shape)} leaves the picture's size open: give it with --side")
    if file.dtype == "uint8" and told["C"] == 2:
        raise BundleError(f"{file.path}: takes uint8 with 2 channels: a difference between frames is no uint8")
    return {axis: int(size or 1) for axis, size in told.items()}


def _fitted(first: File, second: File, layout: str, wishes: Wishes) -> tuple[dict[str, int], Any, tuple[int, ...], str]:
    """The axes' lengths, an output of the extractor, and the predictor's input, for the first number of frames that fits both files."""
    own = first.shape[layout.index("T")] if "T" in layout else None
    batch, rows, columns, *_ = second.shape
    # An open axis may be any number of frames: the wished one then goes before what another axis would suggest.
    guesses = [rows, batch, wishes.frames, columns] if None in second.shape else [rows, batch, columns, wishes.frames]
    lengths = [own] if own else [size for size in guesses if size is not None and size > 1]
    misfit: BundleError | None = None
    for length in dict.fromkeys(lengths):
        places = _sizes(first, layout, wishes, length)
        found = first.run(_random(layout, places, first.dtype))
        try:
            shape, order = _predictor_input(second, length, found.size // (length if "T" in layout else 1), first.path)
        except BundleError as error:
            misfit = misfit or error
            continue
        return places, found, shape, order
    assert misfit is not None
    raise misfit


def _predictor_input(predictor: File, length: int, features: int, extractor: Path) -> tuple[tuple[int, ...], str]:
    """Its shape with every axis known, and the order of its axes."""
    first, second, *rest = predictor.shape
    fits = [wanted in (None, given) for wanted, given in ((first, 1), (second, length))]
    if all(fits) and (None in rest or math.prod(size or 1 for size in rest) == features) and rest.count(None) <= 1:
        known = math.prod(size for size in rest if size is not None)
        if features % known == 0:
            return (1, length, *(features // known if size is None else size for size in rest)), "NTD"
    if len(predictor.shape) == 3:
        if first in (None, length) and second in (None, 1) and rest[0] in (None, features):
            return (length, 1, features), "TND"
        if first in (None, 1) and second in (None, features) and rest[0] in (None, length):
            return (1, features, length), "NDT"
    raise BundleError(
        f"{extractor} gives {features} features per frame, {length} frames a clip; {predictor.path} takes {_axes(predictor.shape)}: "
        f"they do not fit; (1, {length}, {features}), ({length}, 1, {features}) or (1, {features}, {length}) would"
    )


def _part(name: str, file: File, layout: str, places: Mapping[str, int], found: Any) -> dict[str, Any]:
    return {
        "file": name,
        "engine": ENGINE,
        "input": {
            "name": file.name,
            "shape": [places[axis] for axis in layout],
            "dtype": file.dtype,
            "layout": layout,
            "channels": places["C"],
            "picture": [places["H"], places["W"]],
        },
        "output": {"name": file.output, "shape": list(found.shape), "dtype": str(found.dtype)},
    }


def _random(layout: str, places: Mapping[str, int], dtype: str) -> Any:
    values = np.random.default_rng(0).integers(0, 256, [places[axis] for axis in layout])
    return values.astype(np.uint8) if dtype == "uint8" else (values / 255).astype(dtype)


def _written(
    root: Path, wishes: Wishes, files: Mapping[str, File], parts: Mapping[str, Any], places: Mapping[str, int], logits: Any, *, one_file: bool
) -> Bundle:
    last = list(files.values())[-1]
    if not np.issubdtype(logits.dtype, np.floating):
        raise BundleError(
            f"{last.path}: {last.output} is {logits.dtype}: it gives labels, and one number per class is needed; export it without ArgMax"
        )
    if logits.size != logits.shape[-1]:
        raise BundleError(
            f"{last.path}: {last.output} is {logits.shape}: one row of numbers, one per class, is needed; an answer per frame is not measured"
        )
    labels = wishes.labels or tuple(f"class{number}" for number in range(logits.size))
    if len(labels) != logits.size or len(set(labels)) != len(labels):
        raise BundleError(f"--labels gives {len(set(labels))} different names, {last.path} gives {logits.size} numbers per clip")
    contents: dict[str, bytes] = {}
    for name, file in files.items():
        for each, content in {name: file.path.read_bytes(), **file.extra}.items():
            if contents.get(each, content) != content:
                raise BundleError(f"{file.path}: both files keep weights in {each!r}, and these differ; save each as one file (onnx.save)")
            contents[each] = content
    preprocess = Preprocess(wishes.mean, wishes.std, difference=places["C"] == 2)
    manifest: dict[str, Any] = {
        "schema": SCHEMA, "variant": wishes.name, "engine": ENGINE, "foreign": True, "one_file": one_file,
        "graph_key": digest(ENGINE, [onnx_file.graph_sha256(file.model) for file in files.values()]),
        "recipe": [], "way": f"imported: {', '.join(file.path.name for file in files.values())}",
        "files": {name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for name, content in contents.items()},
        "preprocess": asdict(preprocess), "frames": places["T"], "calls": 1 if "T" in parts["extractor"]["input"]["layout"] else places["T"],
        "size_px": places["H"], "classes": list(labels),
        "size": asdict(_size(files, contents, one_file)), "layers": [], "checks": {},
        "opset": max(entry.version for file in files.values() for entry in file.model.opset_import if entry.domain in ("", "ai.onnx")),
        "made_with": {"onnxruntime": onnxruntime.__version__, **{f"{name} by": file.model.producer_name or "?" for name, file in files.items()}},
        **parts,
    }  # fmt: skip
    content = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
    sha256 = hashlib.sha256(content).hexdigest()
    folder = root / f"{wishes.name}-{sha256[:12]}"
    write_once(folder, {**contents, MANIFEST: content})
    made = load(folder)
    clips = np.random.default_rng(1).integers(0, 256, (2, places["T"], places["H"], places["W"]), dtype=np.uint8)
    answers = logits_of(made, clips)
    if not np.isfinite(answers).all():
        raise BundleError(
            f"{folder}: its answers to random frames are not finite: {answers[0].tolist()}; are --mean and --std what it was trained with?"
        )
    return made


def _size(files: Mapping[str, File], contents: Mapping[str, bytes], one_file: bool) -> Size:
    """The dense twins are not known: 0."""
    numbers = {
        name: sum(math.prod(tensor.dims) for tensor in file.model.graph.initializer if tensor.data_type != onnx.TensorProto.INT64)
        for name, file in files.items()
    }
    first = 0 if one_file else len(contents["extractor.onnx"]) + sum(map(len, files["extractor.onnx"].extra.values()))
    lstm = onnx_file.lstm_numbers(list(files.values())[-1].model)
    whole = sum(map(len, contents.values()))
    return Size(0, 0, lstm, 0, numbers.get("extractor.onnx", 0), sum(numbers.values()), 0, first, whole - first)


def _axes(shape: Sequence[int | None]) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
