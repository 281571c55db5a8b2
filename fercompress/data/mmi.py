"""The MMI facial expression database: downloaded `Sessions/<number>/` in, every session that shows one of six basic emotions out.

A session's folder holds `session.xml` (which `view`: 0 front, 1 profile, 2 both beside each other), a video `S001-002.avi` or a still picture,
`S001-002.xml` (`<Metatag Name="Emotion" Value="1"/>`) and, where action units were coded, `S001-002-oao_aucs.xml`. Most sessions show single action
units and have no emotion; codes above 6 are none of the basic ones. A clip goes from neutral to the peak and back.

Who a session shows is taken from the first of these that tells it of every clip, since one person under two kinds of names would be two:
the study's table `subjects`; a Metatag named subject, subject id, subject number, person or person id; an element `subject` with an attribute id,
subjectId or number; the name of the video (S001-002 is the second sequence of S001).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

from fercompress.data import copies, detectors, media, oao, table, tree, xmlfile
from fercompress.data import view as view_of
from fercompress.data.listing import FoundClip, Listing, Media
from fercompress.dataconfig import MmiData
from fercompress.errors import DataError
from fercompress.records import LeftOut

CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")  # codes 1 to 6
# "Over 2900 videos and high-resolution still images of 75 subjects", says its description; downloads hold what was asked for.
PUBLISHED = {"sessions": 2900, "subjects": 75}
_SUBJECT_TAGS = {"subject", "subjectid", "subjectnumber", "person", "personid"}
_SUBJECT_ATTRIBUTES = {"id", "subjectid", "number"}

Side = Literal["whole", "left", "right"]
Turn = Literal[0, 90]


@dataclass(frozen=True)
class _Session:
    """A session that shows a basic emotion, and who it may show, by each way to tell."""

    clip: FoundClip
    remarks: tuple[str, ...]
    subjects: tuple[str, str, str, str]


class _NotUsedError(Exception):
    """Why a session is left out."""


def find(config: MmiData, data_root: Path) -> Listing:
    """Sessions in ascending order of their numbers. raises: DataError"""
    folders = _sessions(tree.required(data_root, "Sessions"))
    if not folders:
        raise DataError(f"{data_root}: no Sessions/<number>/session.xml here or below; give the folder that holds MMI's Sessions with --data-root")
    if config.half == "seen":
        detectors.fingerprint(config.faces.detector)  # refused here, not once in every session
    wanted = table.subjects(data_root / config.subjects) if config.subjects else {}
    sessions: dict[str, _Session] = {}
    left_out = []
    for folder in folders:
        name = folder.name
        try:
            video = _video(folder)
            name = f"{folder.name}/{video.stem}"
            if name in sessions:
                name = str(folder.relative_to(data_root))
                raise _NotUsedError(
                    f"session {folder.name} is there twice, the other time in {sessions[f'{folder.name}/{video.stem}'].clip.media.files[0].parent}"
                )
            sessions[name] = _session(config, folder, video, name, wanted)
        except _NotUsedError as error:
            left_out.append(LeftOut(name, str(error)))
        except DataError as error:
            left_out.append(LeftOut(name, str(error).replace(f"{folder}/", "")))
    named, anonymous = _named(list(sessions.values()), bool(wanted))
    kept, twice = copies.without_copies(named)
    remarks = [LeftOut(session.clip.clip_id, remark) for session in sessions.values() for remark in session.remarks] + anonymous
    used = {clip.clip_id for clip in kept}
    counted = Counter(clip.label for clip in named)
    found = {
        "sessions": len(folders),
        "subjects": len({clip.subject for clip in kept if clip.subject}),
        **{label: counted[label] for label in CLASSES},
        "turned upright": sum(clip.media.turn_deg != 0 for clip in kept),
        "halves of two views": sum(clip.media.side != "whole" for clip in kept),
        "with onset, apex and offset": sum(clip.moments is not None for clip in kept),
    }
    noted = tuple(row for row in remarks if row.clip in used)
    return Listing(config.name, data_root, CLASSES, tuple(kept), (*left_out, *twice), found, PUBLISHED, noted)


def _sessions(root: Path) -> list[Path]:
    """Every folder with a session.xml, or directly in one called Sessions, in the order of their numbers."""
    found: list[Path] = []
    waiting = [(root, 0)]
    while waiting:
        folder, depth = waiting.pop()
        below, files = tree.inside(folder)
        if folder.parent.name.lower() == "sessions" or any(path.name.lower() == "session.xml" for path in files):
            found.append(folder)
        elif depth < tree.DEEPEST:
            waiting += [(path, depth + 1) for path in below]
    return sorted(found, key=lambda path: (tree.natural(path), path))


def _video(folder: Path) -> Path:
    """The one video of a session."""
    _, files = tree.inside(folder)
    videos = [path for path in files if media.is_video(path)]
    labelled = [path for path in videos if path.with_suffix(".xml").is_file()]
    if len(videos) > 1:
        videos = labelled
    if not videos:
        still = any(media.is_picture(path) for path in files)
        raise _NotUsedError("a still picture: it has no course in time" if still else "no video")
    if len(videos) > 1:
        raise _NotUsedError(f"several videos: {', '.join(path.name for path in videos)}")
    return videos[0]


def _session(config: MmiData, folder: Path, video: Path, clip_id: str, wanted: dict[str, str]) -> _Session:
    labels = _xml(video.with_suffix(".xml"))
    label = CLASSES[_code(labels) - 1]
    session = _xml(folder / "session.xml")
    side, turn, doubt = _stored(config, session, video)
    moments, remark = oao.moments(video.with_name(f"{video.stem}-oao_aucs.xml"))
    clip = FoundClip(clip_id, label, "", Media((video,), True, side, turn), clip_id, moments=moments)
    tagged = _of_tags(labels) or _of_tags(session)
    by_name = re.match(r"(S\d+)-\d+$", video.stem, re.IGNORECASE)
    named = by_name[1].upper() if by_name else ""
    return _Session(
        clip, tuple(filter(None, (remark, doubt))), (wanted.get(folder.name, ""), tagged, _of_element(session) or _of_element(labels), named)
    )


def _xml(path: Path) -> Element:
    if not path.is_file():
        raise _NotUsedError(f"no {path.name}")
    return xmlfile.read(path)


def _code(labels: Element) -> int:
    """1 to 6"""
    values = {element.get("Value", "").strip() for element in labels.iter("Metatag") if element.get("Name", "").strip().lower() == "emotion"}
    if not values:
        raise _NotUsedError("no emotion label")
    if len(values) > 1:
        raise _NotUsedError(f"several emotion labels: {', '.join(sorted(values))}")
    (value,) = values
    if not re.fullmatch(r"\d{1,3}", value, re.ASCII):
        raise _NotUsedError(f"the emotion label {value[:20]!r} is not a code")
    if not 1 <= int(value) <= len(CLASSES):
        raise _NotUsedError(f"emotion {int(value)} is none of the six basic ones")
    return int(value)


def _stored(config: MmiData, session: Element, video: Path) -> tuple[Side, Turn, str]:
    """Which part of the stored picture shows the front, how it must be turned to stand upright, and a doubt about that."""
    tracks = list(session.iter("track"))
    track = next((one for one in tracks if one.get("filename", "").lower() == video.name.lower()), tracks[0] if tracks else None)
    view = None if track is None else track.get("view")
    if view == "2":
        if config.half != "seen":
            return config.half, 0, ""
        half, doubt = view_of.front(video, config.faces.detector)
        return half, 0, doubt
    if view != "0":
        raise _NotUsedError(
            "session.xml names no view" if view is None else f"view {view}{' (profile)' if view == '1' else ''}: the face is not seen from the front"
        )
    annotations = [element.get("filename", "") for element in session.iter("annotation")]
    coded = bool(annotations) and annotations[-1].lower().endswith("oao_aucs.xml")
    return "whole", 90 if config.turn == "always" or (config.turn == "coding" and not coded) else 0, ""


def _of_tags(root: Element) -> str:
    for element in root.iter("Metatag"):
        if re.sub(r"[\s_-]", "", element.get("Name", "").lower()) in _SUBJECT_TAGS:
            return element.get("Value", "").strip()
    return ""


def _of_element(root: Element) -> str:
    for element in root.iter():
        if element.tag.lower() == "subject":
            for name, value in element.items():
                if name.lower() in _SUBJECT_ATTRIBUTES:
                    return value.strip()
    return ""


def _named(sessions: list[_Session], by_table: bool) -> tuple[list[FoundClip], list[LeftOut]]:
    """Clips with their subjects, all told in one way; and a remark on each that this way does not name."""
    ways = range(1) if by_table else range(1, 4)
    way = max(ways, key=lambda one: (sum(bool(session.subjects[one]) for session in sessions), -one))
    clips = [replace(session.clip, subject=session.subjects[way]) for session in sessions]
    where = "the table of subjects does not name its session" if by_table else "nothing tells who it shows: name a table with [data] subjects"
    return clips, [LeftOut(clip.clip_id, where) for clip in clips if not clip.subject]
