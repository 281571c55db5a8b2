"""Which axis of a foreign file is what: an opened file and a person's wishes in, a layout and the length of every axis out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fercompress.errors import BundleError
from fercompress.export.foreign_file import File, axes_text

CHANNELS = (1, 2, 3)  # grey; grey and its difference to the clip's first frame; grey three times
LAYOUTS = {3: ("CHW", "HWC", "NHW"), 4: ("NCHW", "NHWC"), 5: ("NTCHW", "NCTHW", "NTHWC")}  # in order of preference


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


def layout_of(file: File, wishes: Wishes, *, whole: bool = False) -> str:
    rank = len(file.shape)
    if wishes.layout:
        if len(wishes.layout) != rank or len(set(wishes.layout)) != rank or not {"H", "W"} <= set(wishes.layout) <= set("NTCHW"):
            raise BundleError(f"--layout {wishes.layout}: {file.path} takes {rank} axes {axes_text(file.shape)}; name each once: N, T, C, H, W")
        if whole and "T" not in wishes.layout:
            raise BundleError(f"--layout {wishes.layout}: one model for both takes whole clips: which of its axes {axes_text(file.shape)} is T?")
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
        f"{file.path}: {file.name} {axes_text(file.shape)} has {rank} axes, which do not tell frames with 1, 2 or 3 channels; "
        f"it should take {takes}; where that is so, name the axes: --layout NTHWC"
    )


def lengths(file: File, layout: str, wishes: Wishes, length: int) -> dict[str, int]:
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
        raise BundleError(f"{file.path}: {file.name} {axes_text(file.shape)} leaves the picture's size open: give it with --side")
    if file.dtype == "uint8" and told["C"] == 2:
        raise BundleError(f"{file.path}: takes uint8 with 2 channels: a difference between frames is no uint8")
    return {axis: int(size or 1) for axis, size in told.items()}


def fitted(first: File, second: File, layout: str, wishes: Wishes) -> tuple[dict[str, int], Any, tuple[int, ...], str]:
    """The axes' lengths, an output of the extractor, and the predictor's input, for the first number of frames that fits both files."""
    own = first.shape[layout.index("T")] if "T" in layout else None
    batch, rows, columns, *_ = second.shape
    # An open axis may be any number of frames: the wished one then goes before what another axis would suggest.
    guesses = [rows, batch, wishes.frames, columns] if None in second.shape else [rows, batch, columns, wishes.frames]
    counts = [own] if own else [size for size in guesses if size is not None and size > 1]
    misfit: BundleError | None = None
    for length in dict.fromkeys(counts):
        places = lengths(first, layout, wishes, length)
        found = first.run(random_input(layout, places, first.dtype))
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
        f"{extractor} gives {features} features per frame, {length} frames a clip; {predictor.path} takes {axes_text(predictor.shape)}: "
        f"they do not fit; (1, {length}, {features}), ({length}, 1, {features}) or (1, {features}, {length}) would"
    )


def random_input(layout: str, places: Mapping[str, int], dtype: str) -> Any:
    values = np.random.default_rng(0).integers(0, 256, [places[axis] for axis in layout])
    return values.astype(np.uint8) if dtype == "uint8" else (values / 255).astype(dtype)
