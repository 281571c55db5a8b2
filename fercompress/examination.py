"""The clips that bundles are asked about: bundles and what a person says of clips in, clips that fit them, labels or none, and their folds out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fercompress import studyfile
from fercompress.data import source
from fercompress.dataconfig import Data, SyntheticData
from fercompress.errors import BundleError, DataError
from fercompress.records import Bundle, Clips, Fold, Int64, UInt8, digest

INPUTS = 64  # clips that are made where none are given: as many as are timed
FOLD = "given"  # the name of the only fold
SYNTHETIC = "synthetic"  # as inputs: rendered faces of the bundles' own size, without labels


@dataclass(frozen=True)
class Wanted:
    """What a person says of the clips.

    inputs: an .npz file with frames (N, T, H, W) uint8 and perhaps labels (N,), or "synthetic"; data: a data set or study whose test clips are
    used, labels and all, in the place of inputs
    """

    inputs: str = SYNTHETIC
    data: str | None = None
    data_root: Path | None = None


@dataclass(frozen=True)
class Examination:
    """The clips that all sides are asked about, the parts that they come in, and why accuracy cannot be told of them ("" where it can).

    protocol: how they were cut into those parts; None where there is one way only
    """

    clips: Clips
    folds: tuple[Fold, ...]
    unlabelled: str = ""
    protocol: str | None = None


def of_bundles(bundles: Sequence[Bundle], wanted: Wanted, cache: Path, note: Callable[[str], None], data: Data | None = None) -> Examination:
    """One fold of test clips, in the shape and the classes of the bundles, which are alike in both.

    data: what `wanted.data` stands for, where it was set otherwise than by its name; note: takes what a reader must know
    raises: DataError
    """
    shape, classes = clip_shape(bundles[0]), tuple(bundles[0].manifest["classes"])
    if wanted.data is not None:
        clips, unlabelled = _of_data_set(wanted, shape, classes, cache, note, data), ""
    elif wanted.inputs == SYNTHETIC:
        clips, unlabelled = _synthetic(shape, classes, cache), "the clips are rendered ones without labels of the bundle's classes"
    else:
        clips, labelled = _of_file(Path(wanted.inputs), shape, classes)
        unlabelled = "" if labelled else f"the clips of {wanted.inputs} have no labels"
    test = np.arange(len(clips))
    return Examination(clips, (Fold(FOLD, test[:0], test[:0], test),), unlabelled)


def check_alike(bundles: Sequence[Bundle]) -> None:
    """raises: BundleError where bundles cannot stand beside each other: they take other clips or name other classes"""
    first = bundles[0]
    for each in bundles[1:]:
        if clip_shape(each) != clip_shape(first):
            raise BundleError(
                f"{each.variant} takes clips of {clip_shape(each)}, {first.variant} of {clip_shape(first)} (frames, rows, columns): "
                "side by side they must see the same clips; measure them in two runs"
            )
        if each.manifest["classes"] != first.manifest["classes"]:
            raise BundleError(
                f"{each.variant} and {first.variant} name other classes: import them with the same --labels, or measure them in two runs"
            )


def check_fits(bundle: Bundle, clips: Clips, name: str) -> None:
    """raises: BundleError where a bundle cannot be asked about clips; name: of its side"""
    if clip_shape(bundle) != clips.frames.shape[1:]:
        raise BundleError(
            f"{name} takes clips of {clip_shape(bundle)}, those of {clips.name} are {clips.frames.shape[1:]} (frames, rows, columns): "
            "give clips of its size with --inputs, or a data set with --data"
        )
    mine = tuple(bundle.manifest["classes"])
    if mine != clips.classes and not (len(mine) == len(clips.classes) and mine == _unnamed(len(mine))):
        raise BundleError(f"{name}: its classes are {', '.join(mine)}, those of {clips.name} are {', '.join(clips.classes)}, in this order")


def clip_shape(given: Bundle) -> tuple[int, int, int]:
    """(T, H, W)"""
    told = given.manifest["extractor"]["input"]
    rows, columns = told.get("picture") or told["shape"][2:]
    return int(given.manifest["frames"]), int(rows), int(columns)


def _unnamed(classes: int) -> tuple[str, ...]:
    """The names that an import without labels gives."""
    return tuple(f"class{number}" for number in range(classes))


def _of_data_set(
    wanted: Wanted, shape: tuple[int, int, int], classes: tuple[str, ...], cache: Path, note: Callable[[str], None], data: Data | None
) -> Clips:
    assert wanted.data is not None
    length, rows, columns = shape
    given = studyfile.load_study(wanted.data).data if wanted.data not in source.SOURCES else data
    table = {"name": wanted.data} if given is None else given.model_dump()
    try:
        chosen = source.SOURCES[table["name"]].config.model_validate({**table, "frames": length, "size": rows})
    except ValueError as error:
        raise DataError(f"--data {wanted.data}: cannot give {length} frames of {rows} x {columns}: {error}") from error
    clips = source.load(chosen, wanted.data_root, cache)
    if clips.frames.shape[1:] != shape:
        raise DataError(f"--data {wanted.data}: gives clips of {clips.frames.shape[1:]}, the bundles take {shape}")
    tested: Int64 = np.unique(np.concatenate([fold.test for fold in source.SOURCES[chosen.name].folds(chosen, clips)]))
    names = ("clip_ids", "subjects", "clusters", "recordings", "positions", "face_rates", "parts")
    columns_ = {name: tuple(column[i] for i in tested) for name in names if (column := getattr(clips, name))}
    labels = _labels(clips.labels[tested], clips.classes, classes, f"--data {wanted.data}", note)
    fingerprint = digest(clips.fingerprint, tested.tolist(), classes)
    return replace(clips, frames=np.asarray(clips.frames[tested]), labels=labels, classes=classes, fingerprint=fingerprint, **columns_)  # type: ignore[arg-type]


def _labels(labels: Int64, theirs: tuple[str, ...], mine: tuple[str, ...], where: str, note: Callable[[str], None]) -> Int64:
    """Indices into the bundle's classes. raises: DataError where the names do not tell which is which"""
    if set(theirs) == set(mine):
        return np.array([mine.index(name) for name in theirs], np.int64)[labels]
    if mine == _unnamed(len(mine)) and len(mine) == len(theirs):
        note(f"the bundle's classes have no names: taken in this order: {', '.join(theirs)}")
        return labels
    raise DataError(
        f"{where}: its classes are {', '.join(theirs)}; the bundle's are {', '.join(mine)}: import it with --labels in its outputs' order"
    )


def _synthetic(shape: tuple[int, int, int], classes: tuple[str, ...], cache: Path) -> Clips:
    """Rendered faces at the next size that can be rendered, then the nearest of its pixels."""
    length, rows, columns = shape
    side = min(256, max(32, -(-max(rows, columns) // 16) * 16))
    rendered = SyntheticData(name="synthetic", train_clips=14, validation_clips=14, test_clips=INPUTS, frames=max(2, length), size=side)
    clips = source.load(rendered, None, cache)
    frames = np.asarray(clips.frames[-INPUTS:])[:, :length]
    at_rows, at_columns = (np.arange(size) * side // size for size in (rows, columns))
    frames = np.ascontiguousarray(frames[:, :, at_rows][:, :, :, at_columns])
    return _unlabelled("synthetic", frames, np.zeros(len(frames), np.int64), classes, digest(clips.fingerprint, shape), simulated=True)


def _of_file(path: Path, shape: tuple[int, int, int], classes: tuple[str, ...]) -> tuple[Clips, bool]:
    """raises: DataError"""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError, EOFError) as error:
        raise DataError(f"--inputs {path}: cannot be read as .npz ({error})") from error
    frames: UInt8 | None = arrays.get("frames")
    if frames is None or frames.dtype != np.uint8 or frames.shape[1:] != shape or not len(frames):
        found = "no frames" if frames is None else f"{frames.dtype} {frames.shape}"
        raise DataError(f"--inputs {path}: needs frames, uint8 (N, {', '.join(map(str, shape))}), grey; it has {found}")
    fingerprint = hashlib.sha256(frames.tobytes()).hexdigest()
    labels = arrays.get("labels")
    if labels is None:
        return _unlabelled(path.stem, frames, np.zeros(len(frames), np.int64), classes, fingerprint, simulated=False), False
    if labels.shape != (len(frames),):
        raise DataError(f"--inputs {path}: labels are {labels.shape} for {len(frames)} clips")
    if labels.dtype.kind == "U":
        names = tuple(sorted(set(labels.tolist())))
        if unknown := [name for name in names if name not in classes]:
            raise DataError(f"--inputs {path}: label {unknown[0]!r} is none of the bundle's classes: {', '.join(classes)}")
        labels = np.array([classes.index(name) for name in labels.tolist()], np.int64)
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(f"--inputs {path}: labels are names of classes or whole numbers from 0 to {len(classes) - 1}")
    labels = labels.astype(np.int64)
    clips = _unlabelled(path.stem, frames, labels, classes, digest(fingerprint, labels.tolist()), simulated=False)
    subjects = arrays.get("subjects")
    if subjects is not None and subjects.shape == (len(frames),):
        people = tuple(map(str, subjects.tolist()))
        clips = replace(clips, subjects=people, clusters=people)
    return clips, True


def _unlabelled(name: str, frames: UInt8, labels: Int64, classes: tuple[str, ...], fingerprint: str, *, simulated: bool) -> Clips:
    names = tuple(f"{name}-{number}" for number in range(len(frames)))
    return Clips(name, frames, labels, classes, names, names, names, names, (0,) * len(frames), fingerprint, simulated)
