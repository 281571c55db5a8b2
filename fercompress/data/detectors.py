"""Where faces are: a grey picture in, boxes out, by OpenCV's cascade or an ONNX detector of one's own; each process loads a detector once."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fercompress.errors import DataError
from fercompress.records import Float32, UInt8

LONGEST = 480  # pixels: larger pictures are shrunk to it before the cascade looks, which finds faces from a twentieth of it on
_SMALLEST = 24  # pixels: what the cascade was trained on
_AROUND, _GROWTH = 0.5, 1.3  # from one frame to the next a face moves by less than half its width, and grows by less than this factor
_YUNET_SIDE = 320  # pictures are shrunk into a square of it
_SURE = 0.6  # a network's least score


@dataclass(frozen=True)
class Box:
    """In pixels of the picture; the left and upper edges of the corner pixel are at 0."""

    left: float
    top: float
    width: float
    height: float

    def scaled(self, factor: float) -> Box:
        return Box(self.left * factor, self.top * factor, self.width * factor, self.height * factor)

    def overlap(self, other: Box) -> float:
        """Intersection over union, 0..1."""
        width = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        height = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        shared = max(width, 0) * max(height, 0)
        union = self.width * self.height + other.width * other.height - shared
        return shared / union if union > 0 else 0.0


class Detector(Protocol):
    def __call__(self, picture: UInt8, near: Box | None = None) -> list[Box]:
        """picture: uint8 (H, W), grey; near: where the face was in the frame before; a detector may look there first, and elsewhere if it is gone"""


def fingerprint(name: str) -> str:
    """sha256 (hex) of what `detector(name)` loads. raises: DataError"""
    try:
        return hashlib.sha256(_cascade_file().read_bytes() if name == "cascade" else Path(name).read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(
            f'faces.detector {name!r}: cannot be read ({error.strerror}); give "cascade", or the path of an ONNX face detector such as YuNet'
        ) from error


@functools.lru_cache(maxsize=2)
def detector(name: str) -> Detector:
    """name: "cascade", or the path of an ONNX file: YuNet (run by OpenCV), or a network whose outputs `scores` (1, N, 2) and `boxes` (1, N, 4;
    left, top, right, bottom as shares of the picture) are those of UltraFace (run by onnxruntime).

    raises: DataError
    """
    fingerprint(name)
    if name == "cascade":
        return _cascade()
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(name, providers=["CPUExecutionProvider"], sess_options=_one_thread())
    except Exception as error:  # onnxruntime's own, one for each way in which a file can be wrong
        raise DataError(f"faces.detector {name!r}: not an ONNX file that runs ({str(error).splitlines()[0]})") from error
    outputs = {each.name for each in session.get_outputs()}
    if "cls_8" in outputs:
        return _yunet(name)
    if {"scores", "boxes"} <= outputs:
        return _scores_and_boxes(session)
    raise DataError(f"faces.detector {name!r}: its outputs are {', '.join(sorted(outputs))}; need YuNet's (cls_8, ...), or scores and boxes")


def _one_thread() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # processes share the cores already
    return options


def _cascade_file() -> Path:
    import cv2.data

    return Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"


def _cascade() -> Detector:
    import cv2

    network = cv2.CascadeClassifier(str(_cascade_file()))

    def look(picture: UInt8, factor: float, least: float, most: float) -> list[Box]:
        size = (max(1, round(picture.shape[1] / factor)), max(1, round(picture.shape[0] / factor)))
        small = picture if factor == 1 else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        sides = [(round(side / factor),) * 2 for side in (max(least, _SMALLEST * factor), most)]
        found = network.detectMultiScale(small, scaleFactor=1.1, minNeighbors=4, minSize=sides[0], maxSize=sides[1])
        return [Box(*map(float, box)).scaled(factor) for box in found]

    def find(picture: UInt8, near: Box | None = None) -> list[Box]:
        factor = max(1.0, max(picture.shape) / LONGEST)
        if near is not None:  # a part of the picture and of the sizes takes a part of the time
            top, left = (max(0, round(edge - _AROUND * near.width)) for edge in (near.top, near.left))
            around = picture[top : round(near.top + (1 + _AROUND) * near.width), left : round(near.left + (1 + _AROUND) * near.width)]
            if found := look(around, factor, near.width / _GROWTH, near.width * _GROWTH):
                return [Box(box.left + left, box.top + top, box.width, box.height) for box in found]
        return look(picture, factor, 0, max(picture.shape))

    return find


def _yunet(path: str) -> Detector:
    import cv2

    network = cv2.FaceDetectorYN.create(path, "", (_YUNET_SIDE, _YUNET_SIDE), _SURE)

    def find(picture: UInt8, near: Box | None = None) -> list[Box]:  # noqa: ARG001  a network is as fast everywhere
        factor = max(picture.shape) / _YUNET_SIDE
        size = (max(1, round(picture.shape[1] / factor)), max(1, round(picture.shape[0] / factor)))
        square = np.zeros((_YUNET_SIDE, _YUNET_SIDE), np.uint8)
        square[: size[1], : size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor > 1 else cv2.INTER_LINEAR)
        faces = network.detect(cv2.cvtColor(square, cv2.COLOR_GRAY2BGR))[1]
        return [] if faces is None else [Box(*map(float, face[:4])).scaled(factor) for face in faces]

    return find


def _scores_and_boxes(session: Any) -> Detector:
    import cv2

    (given,) = session.get_inputs()
    rows, columns = (side if isinstance(side, int) else fallback for side, fallback in zip(given.shape[2:], (240, 320), strict=True))

    def find(picture: UInt8, near: Box | None = None) -> list[Box]:  # noqa: ARG001  a network is as fast everywhere
        shrunk = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA if picture.shape[0] > rows else cv2.INTER_LINEAR)
        pixels = (shrunk.astype(np.float32) - 127) / 128
        scores, boxes = session.run(["scores", "boxes"], {given.name: np.repeat(pixels[None, None], 3, axis=1)})
        return _kept(scores[0, :, 1], boxes[0], picture.shape[1], picture.shape[0])

    return find


def _kept(scores: Float32, corners: Float32, width: int, height: int) -> list[Box]:
    """The surest of every group of boxes that overlap by more than 0.3."""
    kept: list[Box] = []
    for index in np.argsort(-scores):
        if scores[index] < _SURE:
            break
        left, top, right, bottom = map(float, corners[index])
        box = Box(left * width, top * height, (right - left) * width, (bottom - top) * height)
        if all(box.overlap(other) <= 0.3 for other in kept):
            kept.append(box)
    return kept
