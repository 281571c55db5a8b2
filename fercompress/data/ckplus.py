"""The extended Cohn-Kanade data set (Lucey et al. 2010): a folder as it was unpacked in, every sequence with its label out.

The names of its files say all (`S005_001_00000011.png`, `..._emotion.txt`, `..._landmarks.txt`: subject, sequence, frame), so it does not matter by
what names, or how often one within the other, the folders were unpacked. A sequence runs from the neutral face to the peak; its one label belongs to
the last picture. The other form found on disk is `CK+48/<class>/S005_001_00000011.png`: the last three pictures of each labelled sequence, cut to
the face, 48 x 48; these count as ready crops.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from fercompress.data import copies, media, tree
from fercompress.data.listing import FoundClip, Listing, Media
from fercompress.dataconfig import CkPlusData
from fercompress.errors import DataError
from fercompress.records import LeftOut

CLASSES = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")  # codes 1 to 7; 0 is neutral
# From the distribution's description, and counted in the list of labels that Emotion-FAN publishes.
_OF_CLASSES = dict(zip(CLASSES, (45, 18, 59, 25, 69, 28, 83), strict=True))
PUBLISHED = {"sequences": 593, "subjects": 123, "labelled sequences": 327, "subjects with a label": 118, **_OF_CLASSES}
PUBLISHED_48 = {"pictures": 981, "labelled sequences": 327, "subjects with a label": 118, **_OF_CLASSES}
_NAME = re.compile(r"(S\d{3,})_(\d{3})_(\d{8})(|_emotion|_landmarks)", re.ASCII)

Sequence = tuple[str, str]  # subject, number
Numbered = dict[int, Path]  # frame -> file


@dataclass
class _Files:
    """What a root holds, by sequence; pictures and their copies by folder, CK+48's pictures by class."""

    pictures: defaultdict[Sequence, defaultdict[Path, Numbered]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(dict)))
    small: defaultdict[Sequence, defaultdict[str, Numbered]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(dict)))
    emotions: defaultdict[Sequence, list[tuple[int, Path]]] = field(default_factory=lambda: defaultdict(list))
    landmarks: defaultdict[Sequence, Numbered] = field(default_factory=lambda: defaultdict(dict))


def find(config: CkPlusData, data_root: Path) -> Listing:
    """Every labelled sequence, subjects and sequences ascending. raises: DataError"""
    files = _files(tree.required(data_root, "cohn-kanade-images, Emotion and Landmarks (or CK+48)"))
    if files.small and files.pictures:
        raise DataError(
            f"{data_root}: holds both the sequences of CK+ and the cut pictures of CK+48; give the folder of one of them with --data-root"
        )
    if files.small:
        return _of_small(config, data_root, files)
    if not files.pictures:
        raise DataError(f"{data_root}: no picture named like S005_001_00000011.png here or below; give the folder that holds cohn-kanade-images")
    if not files.emotions:
        raise DataError(f"{data_root}: no label named like S005_001_00000011_emotion.txt here or below; unpack Emotion_labels.zip there too")
    labels, left_out = _labels(files)
    clips, remarks = [], []
    for sequence in sorted(labels):
        subject, number = sequence
        clip_id, label = f"{subject}/{number}", labels[sequence]
        pictures, notes = _pictures(files, sequence)
        remarks += [LeftOut(clip_id, note) for note in notes]
        points = [files.landmarks[sequence][frame] for frame in pictures if frame in files.landmarks[sequence]]
        if len(points) < len(pictures) and files.landmarks:
            remarks.append(LeftOut(clip_id, f"landmarks for {len(points)} of its {len(pictures)} pictures: none is used"))
            points = []
        if label == "contempt" and not config.contempt:
            left_out.append(LeftOut(clip_id, "contempt, which contempt = false leaves out"))
            continue
        place = Media(tuple(pictures.values()), video=False)
        clips.append(FoundClip(clip_id, label, subject, place, clip_id, landmarks=tuple(points)))
    kept, twice = copies.without_copies(clips)
    found = {"sequences": len(files.pictures), "subjects": len({subject for subject, _ in files.pictures}), **_counts(labels)}
    return _listing(config, data_root, kept, [*left_out, *twice], remarks, found, PUBLISHED)


def _listing(
    config: CkPlusData,
    root: Path,
    clips: list[FoundClip],
    left_out: list[LeftOut],
    remarks: list[LeftOut],
    found: dict[str, int],
    published: dict[str, int],
) -> Listing:
    classes = CLASSES if config.contempt else tuple(name for name in CLASSES if name != "contempt")
    used = {clip.clip_id for clip in clips}
    noted = tuple(row for row in remarks if row.clip in used)
    return Listing(config.name, root, classes, tuple(clips), tuple(sorted(left_out, key=lambda row: row.clip)), found, published, noted)


def _counts(labels: dict[Sequence, str]) -> dict[str, int]:
    counted = Counter(labels.values())
    subjects = {subject for subject, _ in labels}
    return {"labelled sequences": len(labels), "subjects with a label": len(subjects), **{name: counted[name] for name in CLASSES}}


def _files(root: Path) -> _Files:
    files = _Files()
    for path in tree.files(root):
        match = _NAME.fullmatch(path.stem)
        if not match:
            continue
        sequence, frame, kind = (match[1], match[2]), int(match[3]), match[4]
        if not kind and media.is_picture(path):
            label = path.parent.name.lower()
            if label in CLASSES:
                files.small[sequence][label][frame] = path
                continue
            _require_own_folder(path, sequence)
            files.pictures[sequence][path.parent][frame] = path
        elif kind == "_emotion" and path.suffix.lower() == ".txt":
            files.emotions[sequence].append((frame, path))
        elif kind == "_landmarks" and path.suffix.lower() == ".txt":
            files.landmarks[sequence].setdefault(frame, path)
    return files


def _require_own_folder(path: Path, sequence: Sequence) -> None:
    folder = path.parent.parent.name, path.parent.name
    if re.fullmatch(r"S\d{3,}", folder[0]) and re.fullmatch(r"\d{3}", folder[1]) and folder != sequence:
        raise DataError(f"{path}: its name says {'/'.join(sequence)}, its folder {'/'.join(folder)}; one of them is wrong: unpack the archive again")


def _labels(files: _Files) -> tuple[dict[Sequence, str], list[LeftOut]]:
    """Of every sequence that has pictures and one label, which belongs to its last picture; the others are left out."""
    labels, left_out = {}, []
    for sequence in sorted(files.pictures.keys() | files.emotions.keys()):
        label, reason = _label(files, sequence)
        if label:
            labels[sequence] = label
        else:
            left_out.append(LeftOut("/".join(sequence), reason))
    return labels, left_out


def _label(files: _Files, sequence: Sequence) -> tuple[str, str]:
    """(label, "") or ("", why there is none)"""
    if sequence not in files.pictures:
        return "", "labelled, but its pictures are not there"
    if sequence not in files.emotions:
        return "", "no emotion label"
    codes = set()
    for frame, path in files.emotions[sequence]:
        last = max(max(numbered) for numbered in files.pictures[sequence].values())
        if frame > last:
            return "", f"the label belongs to picture {frame}, the last one there is {last}: pictures are missing"
        code, fault = _code(path)
        if fault:
            return "", f"{path.name}: {fault}"
        codes.add(code)
    if len(codes) > 1:
        return "", f"several labels: {', '.join(map(str, sorted(codes)))}"
    (code,) = codes
    if not 1 <= code <= len(CLASSES):
        return "", f"label {code}{' (neutral)' if code == 0 else ''} is none of 1 to {len(CLASSES)}"
    return CLASSES[code - 1], ""


def _code(path: Path) -> tuple[int, str]:
    """The file holds one number, written as a float. (code, "") or (0, what is wrong)"""
    try:
        text = path.read_text(encoding="ascii").strip()
        value = float(text)
    except OSError as error:
        return 0, f"cannot be read ({error.strerror or error})"
    except ValueError:
        return 0, "not a number"
    if not math.isfinite(value) or value != int(value) or abs(value) > 99:
        return 0, f"{text[:20]!r} is not a code"
    return int(value), ""


def _pictures(files: _Files, sequence: Sequence) -> tuple[Numbered, list[str]]:
    """In the order of their numbers, and what is odd about them. raises: DataError where two copies of a sequence differ"""
    notes = []
    (folder, chosen), *others = sorted(files.pictures[sequence].items())
    for other, numbered in others:
        if numbered.keys() != chosen.keys() or any(copies.sha256(numbered[frame]) != copies.sha256(path) for frame, path in chosen.items()):
            raise DataError(f"{folder} and {other} hold different pictures of one sequence; remove one of them")
        notes.append(f"unpacked twice: {other} holds the same pictures as {folder}")
    ordered = dict(sorted(chosen.items()))
    if len(ordered) != max(ordered) - min(ordered) + 1:
        notes.append(f"the numbers of its pictures jump: {len(ordered)} between {min(ordered)} and {max(ordered)}")
    return ordered, notes


def _of_small(config: CkPlusData, root: Path, files: _Files) -> Listing:
    clips, left_out, labels = [], [], {}
    for (subject, number), by_label in sorted(files.small.items()):
        clip_id = f"{subject}/{number}"
        if len(by_label) > 1:
            left_out.append(LeftOut(clip_id, f"in two classes: {', '.join(sorted(by_label))}"))
            continue
        ((label, numbered),) = by_label.items()
        labels[subject, number] = label
        if label == "contempt" and not config.contempt:
            left_out.append(LeftOut(clip_id, "contempt, which contempt = false leaves out"))
            continue
        pictures = tuple(path for _, path in sorted(numbered.items()))
        clips.append(FoundClip(clip_id, label, subject, Media(pictures, video=False), clip_id, aligned=pictures))
    kept, twice = copies.without_copies(clips)
    pictures_there = sum(len(numbered) for by_label in files.small.values() for numbered in by_label.values())
    found = {"pictures": pictures_there, **_counts(labels)}
    return _listing(config, root, kept, [*left_out, *twice], [], found, PUBLISHED_48)
