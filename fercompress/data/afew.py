"""AFEW 7.0 (Dhall et al.): `Train_AFEW/<Class>/<id>.avi` and `Val_AFEW/` as unpacked in, every clip with its part, actor and movie out.

The validation part is the test part here, as in the literature: the labels of the real test part are not public. The label is the folder of the
video. Ready crops lie elsewhere, by id: `AlignedFaces_LBPTOP_Points[_Val]/Faces/<id>/*.jpg`, often one folder deeper than packed, and the
validation part's at times under `Train_AFEW`. `Train_6.xml` and `Val_6.xml` name actor and movie.

A clip without ready crops stays, and is told: what becomes of it is for the study's way of finding faces. Black crops are found when they are cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from fercompress.data import afewxml, copies, media, tree
from fercompress.data.listing import FoundClip, Listing, Media
from fercompress.dataconfig import AfewData
from fercompress.errors import DataError
from fercompress.records import LeftOut

CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
Part = Literal["train", "test"]
PARTS: tuple[Part, Part] = ("train", "test")
_FOLDERS: dict[Part, str] = {"train": "Train_AFEW", "test": "Val_AFEW"}
# How names of folders begin; the part without labels is none of the two.
_BEGINNINGS: tuple[tuple[str, Part | Literal["none"]], ...] = (("train", "train"), ("val", "test"), ("test", "none"))
# As counted for EmotiW 2016, whose two parts AFEW 7.0 keeps; of the test part only the validation clips are meant.
_OF_CLASSES = {"train": (133, 74, 81, 150, 144, 117, 74), "test": (64, 40, 46, 63, 63, 61, 46)}
PUBLISHED = {"train": 773, "test": 383} | {
    f"{part} {name}": count for part, counts in _OF_CLASSES.items() for name, count in zip(CLASSES, counts, strict=True)
}
_DEEPEST = 4  # folders between the root and a class's folder


@dataclass
class _Places:
    """Where a part's things lie."""

    classes: list[tuple[str, Path]] = field(default_factory=list)
    crops: dict[str, Path] = field(default_factory=dict)  # id -> folder
    annotations: list[Path] = field(default_factory=list)


def find(config: AfewData, data_root: Path) -> Listing:
    """Training clips, then the validation part's; classes and ids ascending. raises: DataError"""
    places: dict[Part, _Places] = {"train": _Places(), "test": _Places()}
    _look(tree.required(data_root, "Train_AFEW and Val_AFEW"), "", 0, places)
    for part, name in _FOLDERS.items():
        if not places[part].classes:
            there = ", ".join(path.name for path in tree.inside(data_root)[0]) or "no folder"
            raise DataError(f"{data_root}: no {name}/<Class> ({', '.join(CLASSES)}) here or below, only {there}; unpack {name}.zip there")
    clips: list[FoundClip] = []
    left_out: list[LeftOut] = []
    remarks: list[LeftOut] = []
    for part in PARTS:
        of_part, strange = _clips(part, places[part])
        clips += of_part
        left_out += strange
    counted = Counter((clip.part, clip.label) for clip in clips)
    kept, twice = copies.without_copies(clips)
    named = []
    for part in PARTS:
        of_part = [clip for clip in kept if clip.part == part]
        with_people, unread = _with_people(of_part, places[part])
        with_crops, without = _with_crops(with_people, places[part])
        named += with_crops
        remarks += [*unread, *without]
    found: dict[str, int] = {part: sum(clip.part == part for clip in clips) for part in PARTS}
    found |= {f"{part} {name}": counted[part, name] for part in PARTS for name in CLASSES}
    found |= {
        "with ready crops": sum(bool(clip.aligned) for clip in named),
        "with an actor": sum(bool(clip.subject) for clip in named),
        "with a movie": sum(clip.recording != clip.clip_id for clip in named),
    }
    return Listing(config.name, data_root, CLASSES, tuple(named), (*left_out, *twice), found, PUBLISHED, tuple(remarks))


def _look(folder: Path, part: Part | Literal["", "none"], depth: int, places: dict[Part, _Places]) -> None:
    """Sort what lies in a folder and below into the two parts; the test part without labels is none of them."""
    below, files = tree.inside(folder)
    name = folder.name.lower()
    if name.startswith("alignedfaces"):
        of: Part = "test" if name.endswith("_val") or part == "test" else "train"
        for faces in _named_faces(folder, 0):
            for crops in tree.inside(faces)[0]:
                places[of].crops.setdefault(crops.name, crops)
        return
    if depth:  # the root may have any name
        part = next((told for beginning, told in _BEGINNINGS if name.startswith(beginning)), part)
    if part in ("train", "test"):
        places[part].annotations += [path for path in files if path.suffix.lower() == ".xml"]
    of_name = {name.lower(): name for name in CLASSES}
    for path in below:
        if (label := of_name.get(path.name.lower())) and part in ("train", "test"):
            places[part].classes.append((label, path))
        elif depth < _DEEPEST:
            _look(path, part, depth + 1, places)


def _named_faces(folder: Path, depth: int) -> Iterator[Path]:
    for path in tree.inside(folder)[0]:
        if path.name.lower() == "faces":
            yield path
        elif depth < _DEEPEST and path.name.lower().startswith("alignedfaces"):
            yield from _named_faces(path, depth + 1)


def _clips(part: Part, places: _Places) -> tuple[list[FoundClip], list[LeftOut]]:
    found: dict[str, FoundClip] = {}
    left_out = []
    for label, folder in sorted(places.classes):
        for path in tree.inside(folder)[1]:
            clip_id = f"{part}/{label}/{path.stem}"
            if not media.is_video(path):
                left_out.append(LeftOut(f"{part}/{label}/{path.name}", "not a video"))
            elif clip_id in found:
                left_out.append(
                    LeftOut(f"{part}/{label}/{path.name}", f"a second video of this class and id; the first is {found[clip_id].media.files[0]}")
                )
            else:
                found[clip_id] = FoundClip(clip_id, label, "", Media((path,), video=True), clip_id, part=part)
    return list(found.values()), left_out


def _with_crops(clips: list[FoundClip], places: _Places) -> tuple[list[FoundClip], list[LeftOut]]:
    """Crops are stored by id alone: where two clips of a part share theirs, nobody can say whose they are."""
    if not places.crops:
        return clips, []
    shared = {name for name, count in Counter(_video_id(clip) for clip in clips).items() if count > 1}
    done, remarks = [], []
    for clip in clips:
        folder = places.crops.get(_video_id(clip))
        pictures = tuple(path for path in tree.inside(folder)[1] if media.is_picture(path)) if folder else ()
        reason = ""
        if _video_id(clip) in shared:
            pictures, reason = (), "no ready crops: another clip has the same id"
        elif not pictures:
            reason = "no ready crops: their folder is empty" if folder else "no ready crops: they have no folder"
        if reason:
            remarks.append(LeftOut(clip.clip_id, reason))
        done.append(replace(clip, aligned=pictures))
    return done, remarks


def _with_people(clips: list[FoundClip], places: _Places) -> tuple[list[FoundClip], list[LeftOut]]:
    """Actor and movie by id; `recording` is the movie, `position` the place within it. An id that two clips share says nothing."""
    ids = Counter(_video_id(clip) for clip in clips)
    known: dict[str, afewxml.Told] = {}
    remarks = []
    for path in places.annotations:
        try:
            known |= afewxml.people(path, {name for name, count in ids.items() if count == 1})
        except DataError as error:
            remarks.append(LeftOut(path.name, f"actors and movies are not used: {error}"))
    done = []
    positions: Counter[str] = Counter()
    for clip in sorted(clips, key=_video_id):  # an id is the time at which the clip begins in its movie
        told = known.get(_video_id(clip), afewxml.Told("", ""))
        recording = told.movie or clip.clip_id
        done.append(replace(clip, subject=told.actor, recording=recording, position=positions[recording]))
        positions[recording] += 1
    order = {clip.clip_id: index for index, clip in enumerate(clips)}
    return sorted(done, key=lambda clip: order[clip.clip_id]), remarks


def _video_id(clip: FoundClip) -> str:
    return clip.media.files[0].stem
