"""An extractor's `.rknn` file: an ONNX graph and calibration clips in, the file or the reason why there is none out.

The conversion runs in a Python of its own that has rknn-toolkit 1.7 (`fercompress_convert`, a stand-alone script); here is what it is fed with and
what becomes of its answer. Plain frames go in as the pixels they are (uint8, a quarter of the bytes over the NPU's link), mean and std being the
toolkit's to apply. Difference frames have a second channel that no pixel format holds: they go in as float32, preprocessed (mean 0, std 1 in the
toolkit's terms).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from fercompress.errors import InputError, ShapeError
from fercompress.export.onnx_tidy import opset_of
from fercompress.export.rknn_operators import VERSIONS, refusals
from fercompress.export.rknn_toolkit import Converter, script
from fercompress.records import Preprocess, UInt8

TARGET_PLATFORM = "rk3399pro"
OPSET = 11  # that an extractor is exported with for conversion: the one that all versions read
LAYER_DTYPES = ("dynamic_fixed_point-i8", "dynamic_fixed_point-i16", "float32")  # for layers of a u8 file; float32 is fp16 on the NPU


@dataclass(frozen=True)
class Rounding:
    """fp16, or u8 per tensor (1.x knows no scales per channel).

    layers: of a u8 file, layer name in the toolkit's terms -> one of LAYER_DTYPES, the same for all (a model mixes at most two methods)
    batch: of the calibration, not of the model; a large one is what conversions run out of memory by
    samples: frames for calibration at most; 200 to 500 are advised
    """

    npu: Literal["fp16", "u8"]
    layers: Mapping[str, str] = field(default_factory=dict)
    batch: int = 8
    samples: int = 300

    def __post_init__(self) -> None:
        dtypes = set(self.layers.values())
        if self.layers and self.npu != "u8":
            raise InputError("layers of their own dtype need npu = 'u8': an fp16 file has nothing to mix")
        if unknown := sorted(dtypes - set(LAYER_DTYPES)):
            raise InputError(f"layer dtype {unknown[0]!r} is not known: choose one of {', '.join(LAYER_DTYPES)}")
        if len(dtypes) > 1:
            raise InputError(f"layers in {', '.join(sorted(dtypes))}: beside u8 a model takes one other dtype only")
        if self.batch < 1 or self.samples < 1:
            raise InputError(f"batch {self.batch} and samples {self.samples}: both must be at least 1")


@dataclass(frozen=True)
class Converted:
    """input_dtype: of the frames (1, H, W, C) that the file takes; toolkit: as it names itself; opset: of the graph that it converted"""

    path: Path
    input_dtype: Literal["uint8", "float32"]
    toolkit: str
    log: Path
    opset: int


@dataclass(frozen=True)
class Unconvertible:
    """A conversion that failed: a result, not an error. log: None where it was refused before the toolkit was asked."""

    reason: str
    log: Path | None


def ready(model: onnx.ModelProto, toolkit: str) -> onnx.ModelProto:
    """A copy as the toolkit wants it: IR version capped, weights not among the inputs, no Identity; the opset is the exporter's business."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = min(model.ir_version, VERSIONS[toolkit][1])
    weights = {item.name: item for item in copy.graph.initializer}
    inputs = [item for item in copy.graph.input if item.name not in weights]
    del copy.graph.input[:]
    copy.graph.input.extend(inputs)
    _drop_identities(copy, weights)
    return copy


def convert(
    model: onnx.ModelProto, clips: UInt8, preprocess: Preprocess, rounding: Rounding, converter: Converter, folder: Path
) -> Converted | Unconvertible:
    """Write `folder`/extractor.rknn, beside it everything that the toolkit was given and said.

    model: "frame" float32 (1, C, H, W) -> "features", exported with `OPSET`; clips: uint8 (n, T, H, W), real ones, for calibration
    raises: ShapeError for clips that are not the model's
    """
    wanted = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
    found = [1, preprocess.channels, *clips.shape[2:]]
    if clips.ndim != 4 or not clips.size or (all(wanted) and wanted != found):
        raise ShapeError(f"calibration clips {clips.shape} give frames {found}, the extractor takes {wanted}: give the clips that it is trained on")
    prepared = ready(model, converter.toolkit)
    if against := refusals(prepared, converter.toolkit):
        return Unconvertible("; ".join(against), None)
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()  # the script runs there
    for stale in ("answer.json", "extractor.rknn"):
        (folder / stale).unlink(missing_ok=True)
    onnx.save(prepared, str(folder / "extractor.onnx"))
    pixels = not preprocess.difference
    job: dict[str, Any] = {
        "model": "extractor.onnx",
        "output": "extractor.rknn",
        "answer": "answer.json",
        "verbose_file": "toolkit.log",
        "target_platform": TARGET_PLATFORM,
        # The toolkit computes (pixel - mean) / std on 0 to 255, `Preprocess` on 0 to 1.
        "mean": [preprocess.mean * 255] if pixels else [0.0] * preprocess.channels,
        "std": [preprocess.std * 255] if pixels else [1.0] * preprocess.channels,
        "batch_size": rounding.batch,
        "dataset": _calibration(clips, preprocess, rounding.samples, folder) if rounding.npu == "u8" else None,
        "layers": dict(rounding.layers),
    }
    (folder / "job.json").write_text(json.dumps(job, indent=1))
    answer, log = _asked(folder, converter)
    if isinstance(answer, str):
        return Unconvertible(answer, log)
    return Converted(folder / "extractor.rknn", "uint8" if pixels else "float32", str(answer["toolkit"]), log, opset_of(prepared))


def kept(folder: Path, preprocess: Preprocess) -> Converted | None:
    """What an earlier `convert` into the folder gave, if it succeeded."""
    path = folder / "extractor.rknn"
    try:
        answer = json.loads((folder / "answer.json").read_text())
    except (OSError, ValueError):
        return None
    if not answer["ok"] or not path.is_file():
        return None
    opset = opset_of(onnx.load(folder / "extractor.onnx", load_external_data=False))
    return Converted(path, "float32" if preprocess.difference else "uint8", str(answer["toolkit"]), folder / "conversion.log", opset)


def _drop_identities(model: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto]) -> None:
    # The exporter stores equal biases once and names the others by Identity: a converter that looks for a stored bias finds none.
    outputs = {item.name for item in model.graph.output}
    names: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        if node.op_type == "Identity" and node.output[0] not in outputs:
            names[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    copies: list[onnx.TensorProto] = []
    for node in kept:
        for place, name in enumerate(node.input):
            if name in weights and name in names.values() and place:
                copy = onnx.TensorProto()
                copy.CopyFrom(weights[name])
                copy.name = node.input[place] = f"{name}_of_{node.output[0]}"  # its own, so that no two layers share one
                copies.append(copy)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    read = {name for node in nodes for name in node.input}
    stored = [onnx.TensorProto.FromString(item.SerializeToString()) for item in model.graph.initializer if item.name in read]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend([*stored, *copies])


def _calibration(clips: UInt8, preprocess: Preprocess, samples: int, folder: Path) -> str:
    """Evenly spaced frames of the clips, one file each, and their list; returns the list's name."""
    count = clips.shape[0] * clips.shape[1]
    for stale in folder.glob("frame-*.npy"):
        stale.unlink()
    names: list[str] = []
    for index in np.unique(np.linspace(0, count - 1, min(samples, count)).astype(int)):
        clip, frame = divmod(int(index), clips.shape[1])
        # Channels last whatever the model's order: the toolkit takes every 4-D .npy as NHWC.
        if preprocess.difference:
            values = preprocess(clips[clip : clip + 1])[0, frame].transpose(1, 2, 0)[None]
        else:
            values = clips[clip, frame][None, :, :, None]
        names.append(f"frame-{len(names):04d}.npy")
        np.save(folder / names[-1], np.ascontiguousarray(values))
    (folder / "dataset.txt").write_text("".join(f"{name}\n" for name in names))
    return "dataset.txt"


def _asked(folder: Path, converter: Converter) -> tuple[dict[str, Any] | str, Path]:
    """The script's answer, or why there is none; and the log."""
    log = folder / "conversion.log"
    with script() as path, log.open("wb") as stream:
        try:
            code = subprocess.run(
                [converter.python, str(path), "job.json"],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, timeout=converter.deadline_s, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"the conversion took longer than {converter.deadline_s:g} s and was ended", log
        except OSError as error:
            return f"{converter.python} cannot be run ({error.strerror}): give the Python that has rknn-toolkit", log
    try:
        answer: dict[str, Any] = json.loads((folder / "answer.json").read_text())
    except (OSError, ValueError):
        return f"the conversion ended with code {code} and no answer (killed for memory? 16 GB are advised)", log
    return answer if answer["ok"] else str(answer["reason"]), log
