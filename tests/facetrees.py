"""Folders as CK+, MMI, AFEW and one's own clips lie on disk, made on the spot: rendered faces, no content of any data set.

`ckplus`, `mmi`, `afew` and `folder` write a tree and return what a reader must find in it. With `traps`, everything that was seen to go wrong with
real copies is planted beside the good clips: never in place of one, so that the good clips are the same with and without.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from fercompress.data import person, synthetic
from fercompress.data.expressions import CLASSES
from fercompress.dataconfig import SyntheticData

UInt8 = Any  # uint8 (H, W), grey
AFEW_CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
MMI_CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
ROWS, COLUMNS, FACE = 112, 144, 96  # of a picture, and the side of the face's square within it
PLACE = (10, 24)  # row and column of that square's corner


@dataclass
class Tree:
    """root: for --data-root; clips: id -> (label, subject) of every clip that must be found; left_out: id -> part of the reason told"""

    root: Path
    clips: dict[str, tuple[str, str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


# Pictures and videos


def video(path: Path, pictures: Iterable[UInt8], codec: str = "mjpeg", options: dict[str, str] | None = None) -> Path:
    """pictures: uint8 (H, W) each, H and W even"""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as out:
        stream: Any = out.add_stream(codec, rate=25)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        shown = list(pictures)
        stream.height, stream.width = shown[0].shape
        for grey in shown:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.repeat(grey[:, :, None], 3, axis=2), "rgb24")))
        out.mux(stream.encode())
    return path


def picture(path: Path, grey: UInt8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(path)
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def faces(subject: int, clip: int, label: int, frames: int, preset: str = "posed") -> list[UInt8]:
    """Rendered frames, uint8 (FACE, FACE); label: index into expressions.CLASSES"""
    return list(synthetic.render(_config(frames, preset), 0, subject, clip, label))


def scenes(crops: Sequence[UInt8]) -> list[UInt8]:
    """Each face at PLACE in a larger picture, uint8 (ROWS, COLUMNS)."""
    shown = []
    for crop in crops:
        scene = np.full((ROWS, COLUMNS), int(crop[0].mean()), np.uint8)
        scene[PLACE[0] : PLACE[0] + FACE, PLACE[1] : PLACE[1] + FACE] = crop
        shown.append(scene)
    return shown


def landmarks(subject: int, clip: int, frames: int, preset: str = "posed") -> list[np.ndarray]:
    """float64 (68, 2) for each of `scenes(faces(...))`: x, y in pixels, eyes and chin where they are drawn, the mouth as at rest."""
    config = _config(frames, preset)
    someone = synthetic._someone(config.seed, 0, subject)
    shot = person.shot(synthetic._stream(config.seed, synthetic._CLIP, 0, clip), preset, frames)
    x, y = _at_rest(someone).T
    return [_pixels(x, y, shot, frame) for frame in range(frames)]


def _config(frames: int, preset: str) -> SyntheticData:
    return SyntheticData(name="synthetic", preset=preset, frames=frames, size=FACE)


def _at_rest(someone: person.Person) -> np.ndarray:
    """The 68 points in face units, from the picture's left to its right."""
    turn = np.linspace(np.pi, 0, 17)
    jaw = np.column_stack([someone.width * np.cos(turn), someone.chin * np.sin(turn) - 0.05])
    along = np.linspace(-1, 1, 5)
    brows = [np.column_stack([sign * someone.eye_x + 0.2 * along, np.full(5, someone.brow_y)]) for sign in (-1, 1)]
    bridge = np.column_stack([np.zeros(4), np.linspace(someone.eye_y, someone.nose_y - 0.08, 4)])
    nostrils = np.column_stack([someone.nose_width * along, np.full(5, someone.nose_y)])
    corners = np.array([[-1, 0], [-0.4, -0.8], [0.4, -0.8], [1, 0], [0.4, 0.8], [-0.4, 0.8]]) * [someone.eye_width, someone.eye_open]
    eyes = [corners + np.array([sign * someone.eye_x, someone.eye_y]) for sign in (-1, 1)]
    lips = [
        np.column_stack([-width * np.cos(angles), someone.mouth_y - height * np.sin(angles)])
        for width, height, count in ((someone.mouth_width, 0.1, 12), (0.8 * someone.mouth_width, 0.03, 8))
        for angles in [np.arange(count) * 2 * np.pi / count]
    ]
    points = np.concatenate([jaw, *brows, bridge, nostrils, *eyes, *lips])
    assert points.shape == (68, 2)
    return points


def _pixels(x: np.ndarray, y: np.ndarray, shot: person.Shot, frame: int) -> np.ndarray:
    """The way back of `face._planes`, for points in front of the face."""
    depth = np.sqrt(np.maximum(1 - (x / 0.85) ** 2 - (y / 1.2) ** 2, 0))
    x, y = x + 2 * shot.yaw[frame] * depth, y + 2 * shot.pitch[frame] * depth
    cos, sin = np.cos(shot.roll[frame]), np.sin(shot.roll[frame])
    u, v = x * cos - y * sin + shot.shift_x[frame], y * cos + x * sin + shot.shift_y[frame] - 0.1
    side = 0.55 * FACE * shot.scale[frame]
    return np.column_stack([u * side + FACE / 2 - 0.5 + PLACE[1], v * side + FACE / 2 - 0.5 + PLACE[0]])


# CK+


def ckplus(root: Path, subjects: int = 4, sequences: int = 4, frames: int = 5, traps: bool = True, renamed: bool = False) -> Tree:
    """`cohn-kanade-images/`, `Emotion/`, `Landmarks/`, `FACS/`; classes go round: subject i's k-th sequence is of class (i * sequences + k) % 7.

    renamed: the folders as some programs unpack them, one within the other and by other names
    """
    tree = Tree(root)
    pictures = root / ("extended-cohn-kanade-images/cohn-kanade-images" if renamed else "cohn-kanade-images")
    emotions = root / ("Emotion_Labels/Emotion" if renamed else "Emotion")
    points = root / "Landmarks/Landmarks" if renamed else root / "Landmarks"
    names = ["S005", "S010", "S011", "S014", "S022", "S026", "S028", "S029", "S032", "S034", "S035", "S037", "S501", "S506", "S895", "S999"]
    for person_index, subject in enumerate(names[:subjects]):
        for sequence in range(1, sequences + 1):
            label = (person_index * sequences + sequence - 1) % len(CLASSES)
            clip = person_index * sequences + sequence
            name = f"{subject}/{sequence:03d}"
            stem = f"{subject}_{sequence:03d}"
            _ckplus_pictures(pictures / name, stem, faces(person_index, clip, label, frames))
            _ckplus_landmarks(points / name, stem, landmarks(person_index, clip, frames))
            text(emotions / name / f"{stem}_{frames:08d}_emotion.txt", f"   {label_code(label)}.0000000e+00\n")
            text(root / "FACS" / name / f"{stem}_{frames:08d}_facs.txt", "   9.0000000e+00   4.0000000e+00\n")
            tree.clips[name] = (CLASSES[label], subject)
    if traps:
        _ckplus_traps(tree, pictures, emotions, points, names[0], frames)
    return tree


def label_code(label: int) -> int:
    """CK+'s: 1 anger, 2 contempt, ..., 7 surprise, the order of `CLASSES`"""
    return label + 1


def _ckplus_pictures(folder: Path, stem: str, crops: Sequence[UInt8], first: int = 1) -> None:
    for number, scene in enumerate(scenes(crops), start=first):
        picture(folder / f"{stem}_{number:08d}.png", scene)


def _ckplus_landmarks(folder: Path, stem: str, points: Sequence[np.ndarray]) -> None:
    for number, of_frame in enumerate(points, start=1):
        rows = "".join(f"   {x:.7e}   {y:.7e}\n" for x, y in of_frame)
        text(folder / f"{stem}_{number:08d}_landmarks.txt", rows)


def _ckplus_traps(tree: Tree, pictures: Path, emotions: Path, points: Path, subject: str, frames: int) -> None:
    def sequence(number: int, label: str | None, last: int = frames) -> str:
        name, stem = f"{subject}/{number:03d}", f"{subject}_{number:03d}"
        _ckplus_pictures(pictures / name, stem, faces(0, 100 + number, number % 7, frames))
        _ckplus_landmarks(points / name, stem, landmarks(0, 100 + number, frames))
        if label is not None:
            text(emotions / name / f"{stem}_{last:08d}_emotion.txt", label)
        return name

    tree.left_out[sequence(51, None)] = "no emotion label"
    tree.left_out[sequence(52, None)] = "no emotion label"
    (emotions / subject / "052").mkdir(parents=True)  # a folder, but no file in it
    tree.left_out[sequence(53, "   0.0000000e+00\n")] = "label 0"
    tree.left_out[sequence(54, "happy\n")] = "not a number"
    tree.left_out[sequence(55, "   3.0000000e+00\n", last=frames + 2)] = "pictures are missing"
    tree.left_out[sequence(56, "   9.0000000e+00\n")] = "label 9"
    text(emotions / subject / "057" / f"{subject}_057_00000009_emotion.txt", "   5.0000000e+00\n")
    tree.left_out[f"{subject}/057"] = "its pictures are not there"
    first = f"{subject}/001"
    copy = pictures / subject / "058"
    for number, path in enumerate(sorted((pictures / first).iterdir()), start=1):
        copy.mkdir(exist_ok=True)
        shutil.copy(path, copy / f"{subject}_058_{number:08d}.png")
    text(emotions / subject / "058" / f"{subject}_058_{frames:08d}_emotion.txt", f"   {label_code(0)}.0000000e+00\n")
    tree.left_out[f"{subject}/058"] = f"same bytes as {first}"
    text(pictures / first / ".DS_Store", "\0\0\0\1Bud1")
    text(pictures / ".DS_Store", "\0\0\0\1Bud1")
    text(pictures / first / f"._{subject}_001_00000001.png", "\0\5\x16\7")
    text(tree.root / "__MACOSX" / "cohn-kanade-images" / first / f"{subject}_001_00000001.png", "\0\5\x16\7")
    text(emotions / subject / ".DS_Store", "\0\0\0\1Bud1")
    text(pictures / first / "Thumbs.db", "\0")


def ck48(root: Path, subjects: int = 4, traps: bool = True) -> Tree:
    """`CK+48/<class>/S010_004_00000017.png`, the last three frames of each clip, 48 x 48."""
    tree = Tree(root)
    for person_index in range(subjects):
        for label, name in enumerate(CLASSES):
            subject, sequence = f"S{10 + person_index:03d}", label + 1
            for number, crop in enumerate(faces(person_index, label, label, 5)[-3:], start=15):
                picture(root / "CK+48" / name / f"{subject}_{sequence:03d}_{number:08d}.png", np.asarray(Image.fromarray(crop).resize((48, 48))))
            tree.clips[f"{subject}/{sequence:03d}"] = (name, subject)
    if traps:
        text(root / "CK+48" / "anger" / ".DS_Store", "\0")
        for name in ("anger", "happy"):
            picture(root / "CK+48" / name / "S099_001_00000009.png", faces(9, 1, 1, 2)[0][:48, :48])
        tree.left_out["S099/001"] = "in two classes"
    return tree


# MMI


def mmi(root: Path, subjects: int = 3, clips: int = 6, frames: int = 9, traps: bool = True) -> Tree:
    """`<download>/Sessions/<number>/` with session.xml, <sid>.xml and <sid>.avi; sessions of views 0 (coded; rotated) and 2 take turns."""
    tree = Tree(root)
    folder = root / "mmi-facial-expression-database_download_2019-04-27_05_06_23" / "Sessions"
    session = 0
    for subject in range(1, subjects + 1):
        for number in range(1, clips + 1):
            session += 1
            code = (session - 1) % 6 + 1
            sid = f"S{subject:03d}-{number:03d}"
            kind = ("rotated", "dual", "coded")[number % 3]
            mmi_session(folder / str(session), sid, code, kind, faces(subject, session, _of_mmi(code), frames, "return"))
            tree.clips[f"{session}/{sid}"] = (MMI_CLASSES[code - 1], f"S{subject:03d}")
    if traps:
        _mmi_traps(tree, folder, frames)
    return tree


def _of_mmi(code: int) -> int:
    return CLASSES.index({"happiness": "happy"}.get(MMI_CLASSES[code - 1], MMI_CLASSES[code - 1]))


def mmi_session(folder: Path, sid: str, code: int | str | None, kind: str, crops: Sequence[UInt8]) -> None:
    """kind: coded (view 0, upright, with onset, apex and offset), rotated (view 0, lying on its side), dual (view 2, the front on the right)"""
    shown = scenes(crops)
    if kind == "rotated":
        shown = [np.ascontiguousarray(np.rot90(scene)) for scene in shown]
    elif kind == "dual":
        shown = [np.concatenate([np.full_like(scene, 70), scene], axis=1) for scene in shown]
    video(folder / f"{sid}.avi", shown)
    annotations = [f"{sid}.xml"]
    if kind == "coded":
        annotations.append(f"{sid}-oao_aucs.xml")
        text(folder / annotations[-1], oao({1: (2, 4, 6, 8), 12: (3, 5, 7, 9)}))
    view = "2" if kind == "dual" else "0"
    text(folder / "session.xml", session_xml(sid, view, annotations))
    text(folder / f"{sid}.xml", labels_xml(code))


def session_xml(sid: str, view: str, annotations: Sequence[str]) -> str:
    inner = "".join(f'\n    <annotation type="FACS" filename="{name}"/>' for name in annotations)
    track = f'<track type="Video" filename="{sid}.avi" view="{view}">{inner}\n  </track>'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<session id="1">\n  {track}\n</session>\n'


def labels_xml(code: int | str | None) -> str:
    emotion = "" if code is None else f'\n  <Metatag Name="Emotion" Value="{code}"/>'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<SessionMetadata>\n  <Metatag Name="Lighting" Value="1"/>{emotion}\n</SessionMetadata>\n'


def oao(units: dict[int, tuple[int, int, int, int]]) -> str:
    """units: action unit -> frames, from 1, at which its onset, apex and offset begin and it is back at rest"""
    rows = []
    for unit, (onset, apex, offset, rest) in units.items():
        markers = "".join(f'<Marker Frame="{at}" Type="{kind}"/>' for at, kind in ((1, 0), (onset, 1), (apex, 2), (offset, 3), (rest, 0)))
        rows.append(f'  <ActionUnit Number="{unit}">{markers}</ActionUnit>\n')
    return '<?xml version="1.0"?>\n<FacsAnnotation>\n' + "".join(rows) + "</FacsAnnotation>\n"


def _mmi_traps(tree: Tree, folder: Path, frames: int) -> None:
    def session(number: int, code: int | str | None = 1, kind: str = "coded") -> Path:
        sid = f"S090-{number:03d}"
        mmi_session(folder / str(number), sid, code, kind, faces(90, number, 1, frames, "return"))
        return folder / str(number)

    def left_out(place: Path, reason: str) -> None:
        tree.left_out[f"{place.name}/S090-{place.name}"] = reason

    left_out(session(901, None), "no emotion label")
    left_out(session(902, 7), "emotion 7")
    left_out(session(903, "cheerful"), "'cheerful'")
    profile = session(904)
    text(profile / "session.xml", session_xml("S090-904", "1", []))
    left_out(profile, "view 1")
    bare = session(905)
    (bare / "session.xml").unlink()
    left_out(bare, "no session.xml")
    still = session(906)
    (still / "S090-906.avi").unlink()
    picture(still / "S090-906.jpg", scenes(faces(90, 906, 1, 2))[0])
    tree.left_out["906"] = "still picture"
    unlabelled = session(907)
    (unlabelled / "S090-907.xml").unlink()
    left_out(unlabelled, "no S090-907.xml")
    bomb = session(908)
    text(bomb / "S090-908.xml", '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><a><Metatag Name="Emotion" Value="1"/>&b;</a>')
    left_out(bomb, "entities")
    broken = session(909)
    text(broken / "session.xml", "<session><track view='0'>")
    left_out(broken, "not well-formed")
    copy = session(910, 1)
    original = folder / "1" / "S001-001.avi"
    shutil.copy(original, copy / "S090-910.avi")
    left_out(copy, "same bytes as 1/S001-001")
    empty = folder / "911"
    empty.mkdir()
    tree.left_out["911"] = "no video"
    text(folder / ".DS_Store", "\0")
    text(folder / "1" / "._S001-001.avi", "\0\5\x16\7")


# AFEW


def afew(root: Path, train: int = 3, val: int = 2, frames: int = 8, traps: bool = True, doubled: bool = False, actors: bool = True) -> Tree:
    """`Train_AFEW/<Class>/<id>.avi` and `Val_AFEW/`, so many clips of each class, ready crops of the face, Train_6.xml and Val_6.xml.

    doubled: the folder of crops within a folder of its name, as some programs unpack it; ids are the clip's start within its movie (HHMMSSmmm)
    """
    tree = Tree(root)
    for part, folder, count, crops, xml in (
        ("train", "Train_AFEW", train, "AlignedFaces_LBPTOP_Points", "Train_6.xml"),
        ("test", "Val_AFEW", val, "AlignedFaces_LBPTOP_Points_Val", "Val_6.xml"),
    ):
        ready = root / folder / crops / (crops if doubled else "") / "Faces"
        records = []
        for label, name in enumerate(AFEW_CLASSES):
            for number in range(count):
                clip = (0 if part == "train" else 500) + label * count + number
                stem = afew_id(clip)
                drawn = faces(clip, clip, label, frames, "wild")
                video(root / folder / name / f"{stem}.avi", scenes(drawn), "mpeg4")
                for frame, crop in enumerate(drawn, start=1):
                    picture(ready / stem / f"{frame:03d}.jpg", crop)
                actor, movie = f"Actor {part} {clip // 2}", f"Movie {part} {clip // 4}"
                start = f"{stem[:2]}:{stem[2:4]}:{stem[4:6]},{stem[6:]}"
                records.append(
                    f'  <Clip StartTime="{start}" MovieTitle="{movie}">\n    <Length>{frames}</Length>\n'
                    f'    <Person NameOfActor="{actor}" Pose="0"/>\n  </Clip>\n'
                )
                tree.clips[f"{part}/{name}/{stem}"] = (name, actor if actors else "")
        (root / folder / crops / "LBPTOP").mkdir(parents=True, exist_ok=True)
        if actors:
            text(root / folder / xml, '<?xml version="1.0" encoding="utf-8"?>\n<Expressions>\n' + "".join(records) + "</Expressions>\n")
    if traps:
        _afew_traps(tree, doubled)
    return tree


def afew_id(clip: int) -> str:
    """Never twice within a tree: minutes, seconds and milliseconds of the clip's number."""
    return f"00{clip // 60:02d}{clip % 60:02d}{clip * 7 % 1000:03d}"


def _afew_traps(tree: Tree, doubled: bool) -> None:
    ready = tree.root / "Train_AFEW/AlignedFaces_LBPTOP_Points" / ("AlignedFaces_LBPTOP_Points" if doubled else "") / "Faces"
    train = tree.root / "Train_AFEW"
    # No crops for this one, an empty folder for the next: both are found, without ready crops.
    for number, name in ((900, "Angry"), (901, "Sad")):
        video(train / name / f"{afew_id(number)}.avi", scenes(faces(number, number, 0, 4, "wild")), "mpeg4")
        tree.clips[f"train/{name}/{afew_id(number)}"] = (name, "")
    (ready / afew_id(901)).mkdir(parents=True)
    text(ready / afew_id(901) / "desktop.ini", "")
    test_clip = tree.root / "Val_AFEW/Happy" / f"{afew_id(500 + 3 * _count(tree, 'test'))}.avi"
    shutil.copy(test_clip, train / "Happy" / f"{afew_id(902)}.avi")
    tree.left_out[f"train/Happy/{afew_id(902)}"] = f"same bytes as test/Happy/{test_clip.stem}"
    text(train / "Happy" / "desktop.ini", "")
    text(train / "Happy" / ".DS_Store", "\0")
    text(train / "Happy" / "notes.txt", "mine")
    tree.left_out["train/Happy/notes.txt"] = "not a video"
    video(tree.root / "Test_AFEW" / f"{afew_id(903)}.avi", scenes(faces(903, 903, 0, 4, "wild")), "mpeg4")


def _count(tree: Tree, part: str) -> int:
    return sum(name.startswith(f"{part}/Angry/") for name in tree.clips)


# One's own clips


def folder(
    root: Path, subjects: int = 4, clips: int = 2, frames: int = 6, traps: bool = True, labels: Sequence[str] = ("glad", "sad", "calm")
) -> Tree:
    """`<label>/<subject>/<clip>`: videos and folders of pictures take turns; frame_2 comes before frame_10."""
    tree = Tree(root)
    for number, label in enumerate(labels):
        for subject in range(subjects):
            for clip in range(clips):
                name = f"{label}/p{subject:02d}/c{clip}"
                shown = scenes(faces(subject, number * clips + clip, number, frames))
                if (number + subject + clip) % 2:
                    name += ".mp4"
                    video(root / name, shown, "libx264")
                else:
                    for frame, scene in enumerate(shown, start=8):  # from one digit to two
                        picture(root / name / f"frame_{frame}.png", scene)
                tree.clips[name] = (label, f"p{subject:02d}")
    if traps:
        _folder_traps(tree, labels[0])
    return tree


def _folder_traps(tree: Tree, label: str) -> None:
    person_folder = tree.root / label / "p00"
    (person_folder / "empty").mkdir()
    tree.left_out[f"{label}/p00/empty"] = "no picture"
    text(person_folder / "notes.txt", "mine")
    tree.left_out[f"{label}/p00/notes.txt"] = "neither a video nor a folder of pictures"
    picture(person_folder / "single.JPG", scenes(faces(0, 70, 0, 2))[0])
    tree.left_out[f"{label}/p00/single.JPG"] = "a single picture"
    video(tree.root / label / "nobody.MP4", scenes(faces(0, 71, 0, 3)), "libx264")
    tree.left_out[f"{label}/nobody.MP4"] = "no subject"
    first = next(name for name in tree.clips if name.endswith(".mp4"))
    shutil.copy(tree.root / first, tree.root / Path(first).parent / "zz_copy.mp4")
    tree.left_out[str(Path(first).parent / "zz_copy.mp4")] = f"same bytes as {first}"
    text(person_folder / ".DS_Store", "\0")
    text(tree.root / ".DS_Store", "\0")
    text(tree.root / "README.txt", "of the whole")


def manifest(tree: Tree, name: str = "clips.csv", parts: bool = False) -> Path:
    """The tree's clips as a table clip,label,subject[,part]; the last quarter of each label's subjects is the test part."""
    rows = ["clip,label,subject" + (",part" if parts else "")]
    people = sorted({subject for _, subject in tree.clips.values()})
    held_out = set(people[-max(1, len(people) // 4) :])
    for clip, (label, subject) in tree.clips.items():
        rows.append(f"{clip},{label},{subject}" + ((",test" if subject in held_out else ",train") if parts else ""))
    return text(tree.root / name, "\n".join(rows) + "\n")
