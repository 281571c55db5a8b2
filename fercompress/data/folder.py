"""One's own clips: a tree `<label>/<subject>/<clip>`, or a table of clips, in; every clip that can be used out.

A clip is a video, or a folder of pictures in the order in which people number them (frame_2 before frame_10). The table is a CSV file with the
columns clip,label,subject and, if there is a split, part (train or test); a clip's path is relative to --data-root. An id is that path.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Literal

from fercompress.data import copies, media, table, tree
from fercompress.data.listing import FoundClip, Listing, Media
from fercompress.dataconfig import FolderData
from fercompress.errors import DataError
from fercompress.records import LeftOut

Part = Literal["train", "test", ""]


def find(config: FolderData, data_root: Path) -> Listing:
    """In the order of the tree or table; classes in alphabetical order. raises: DataError"""
    root = tree.required(data_root, "your clips")
    clips, left_out = _of_table(root, root / config.manifest) if config.manifest else _of_tree(root)
    kept, twice = copies.without_copies(clips)
    classes = tuple(sorted({clip.label for clip in kept}))
    if len(classes) < 2:
        why = f"; left out: {left_out[0].clip} ({left_out[0].reason})" if left_out else ""
        what = f"clips of one label alone ({classes[0]})" if classes else "no clip"
        raise DataError(f"{data_root}: {what} named <label>/<subject>/<clip>, a video or a folder of pictures{why}")
    counted = Counter(clip.label for clip in clips)
    found = {
        "clips": len(clips),
        "subjects": len({clip.subject for clip in clips if clip.subject}),
        **{f"clips of {label}": counted[label] for label in sorted(counted)},
        **({part: sum(clip.part == part for clip in clips) for part in ("train", "test")} if any(clip.part for clip in clips) else {}),
    }
    remarks = tuple(LeftOut(clip.clip_id, "the table names no subject") for clip in kept if not clip.subject)
    return Listing(config.name, data_root, classes, tuple(kept), (*left_out, *twice), found, {}, remarks)


def _of_tree(root: Path) -> tuple[list[FoundClip], list[LeftOut]]:
    clips, left_out = [], []
    labels, _ = tree.inside(root)
    for label in labels:
        subjects, stray = tree.inside(label)
        left_out += [LeftOut(_name(root, path), "no subject: it lies in its label's folder, not in a subject's") for path in stray]
        for subject in subjects:
            folders, files = tree.inside(subject)
            for path in sorted([*folders, *files], key=tree.natural):
                found, reason = _media(path)
                if found is None:
                    left_out.append(LeftOut(_name(root, path), reason))
                else:
                    name = _name(root, path)
                    clips.append(FoundClip(name, label.name, subject.name, found, name))
    return clips, left_out


def _of_table(given_root: Path, path: Path) -> tuple[list[FoundClip], list[LeftOut]]:
    root = Path(os.path.abspath(given_root))
    clips: dict[str, FoundClip] = {}
    left_out = []
    for line, row in table.rows(path, ("clip", "label", "subject"), ("part",)):
        place = f"{path}:{line}"
        if not row["clip"] or not row["label"]:
            raise DataError(f"{place}: a row needs a clip and a label")
        part = _part(row.get("part", ""), place)
        clip = Path(os.path.abspath(root / row["clip"]))
        if not clip.is_relative_to(root):
            raise DataError(f"{place}: {row['clip']!r} lies outside {root}; move it there, or link it")
        name = _name(root, clip)
        if name in clips:
            raise DataError(f"{place}: clip {name!r} is in an earlier row, too")
        found, reason = _media(clip)
        if found is None:
            left_out.append(LeftOut(name, reason))
        else:
            clips[name] = FoundClip(name, row["label"], row["subject"], found, name, part=part)
    if clips and len({bool(clip.part) for clip in clips.values()}) > 1:
        bare = next(clip.clip_id for clip in clips.values() if not clip.part)
        raise DataError(f"{path}: clip {bare!r} has no part, though others have one; give all of them train or test")
    return list(clips.values()), left_out


def _part(text: str, place: str) -> Part:
    known: dict[str, Part] = {"": "", "train": "train", "test": "test"}
    if text not in known:
        raise DataError(f"{place}: part {text[:40]!r}; it is train, test, or empty (validation is cut out of train)")
    return known[text]


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _media(path: Path) -> tuple[Media | None, str]:
    """(a clip's files, "") or (None, why it is none)"""
    if path.is_dir():
        pictures = tuple(file for file in tree.inside(path)[1] if media.is_picture(file))
        return (Media(pictures, video=False), "") if pictures else (None, "a folder with no picture directly in it")
    if not path.is_file():
        return None, "no such file or folder"
    if media.is_video(path):
        return Media((path,), video=True), ""
    return None, "a single picture; a clip is a folder of them" if media.is_picture(path) else "neither a video nor a folder of pictures"
