"""A bundle on a video: frames in, one by one, what the network sees after each and how long each stage took out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fercompress.data import container, faces, media
from fercompress.dataconfig import Faces
from fercompress.errors import DataError, InputError
from fercompress.export import bundle
from fercompress.export.runtime import Runner, Stream
from fercompress.progress import Reporter
from fercompress.records import Bundle, Doubt, Int64, UInt8
from fercompress.report import timeline
from fercompress.report.timeline import Timeline
from fercompress.workspace import check_out, full_disk_is_an_error

STAGES = ("decode", "face", "extractor", "predictor")
PERCENTILE_FRAMES = 64  # fewer frames have no p90
OWN_CROPS = {"ckplus": "its data set's landmarks", "afew": "its data set's aligned crops"}  # where a study leaves faces.by out
Crop = Callable[[UInt8], UInt8 | None]


@dataclass(frozen=True)
class VideoRequest:
    """faces: "cascade", the path of an ONNX detector, "centre" or "none"; margin: around a face; None: as the bundle's study says, see `cutting`

    rates_fps: that the whole is to keep up with; restart: begin a new clip after so many frames with a face, None: the whole video is one
    """

    video: Path
    bundle: Path
    out: Path
    faces: str | None = None
    margin: float | None = None
    rates_fps: tuple[float, ...] = (25.0, 30.0)
    restart: int | None = None


@dataclass(frozen=True)
class Cutting:
    """How faces are cut out of a video; doubt: in what that differs from what the network learned, or ""."""

    faces: str
    margin: float
    doubt: str


@dataclass(frozen=True)
class Watched:
    """What came of a video. spent_ns: int64 (F, 4), each frame's time in each of `STAGES`; 0 where a frame without a face ended

    fault: why no more frames could be decoded, "" where the video ended by itself
    """

    timeline: Timeline
    spent_ns: Int64
    fault: str = ""


def run(request: VideoRequest, tell: Reporter) -> dict[str, Any]:
    """Writes timeline.png and timeline.csv, and returns what was found, ready for JSON.

    raises: DataError for a video that cannot be read, BundleError, ModelError for a bundle that cannot stream, InputError
    """
    check_out(request.out)
    if not request.video.is_file():
        raise DataError(f"{request.video}: no such file; give a video")
    given = bundle.load(request.bundle)
    stream = Runner(given).stream()
    if len(set(stream.size)) != 1:
        raise InputError(f"{given.variant}: takes frames of {stream.size}; faces are cut as squares")
    cut = cutting(request, given)
    crop = faces.tracker(cut.faces, stream.size[0], cut.margin)
    with tell.stage(f"predict {request.video.name}") as bar:
        watched = watch(request.video, stream, crop, tuple(given.manifest["classes"]), request.restart, bar.done)
    title = f"{request.video.name}: {given.variant}"
    drawn = timeline.picture(watched.timeline, title)
    files = {"timeline.png": drawn.png, "timeline.csv": timeline.table(watched.timeline).encode()}
    try:
        with full_disk_is_an_error(request.out):
            request.out.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (request.out / name).write_bytes(content)
    except OSError as error:
        raise InputError(f"--out {request.out}: cannot be written ({error.strerror}); choose a folder of your own") from error
    return found(request, given, watched, cut) | {"files": [str(request.out / name) for name in files]}


def watch(
    video: Path, stream: Stream, crop: Crop, classes: tuple[str, ...], restart: int | None = None, done: Callable[[int], None] = lambda _: None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Watched:  # fmt: skip
    """Frame by frame, as a camera would give them: what comes after a frame cannot change its answer. raises: DataError

    The first frame is run once before the clock starts, since a library's first call also loads it.
    """
    _warm(video, stream, crop)
    times: list[float] = []
    rows: list[Any] = []
    spent: list[tuple[int, int, int, int]] = []
    pushed, fault = 0, ""
    coming = media.frames(video)
    while True:
        start = clock()
        try:
            got = next(coming, None)
        except DataError as error:
            fault = str(error)  # what was seen before it stands: an answer knows no later frame
            break
        if got is None:
            break
        decoded = clock()
        face = crop(got[1])
        cut = extracted = predicted = clock()
        answer = None
        if face is not None:
            if restart and pushed and pushed % restart == 0:
                stream.reset()
            features = stream.features(face)
            extracted = clock()
            answer = stream.step(features)
            predicted = clock()
            pushed += 1
        times.append(got[0])
        rows.append(np.full(len(classes), np.nan, np.float32) if answer is None else answer)
        spent.append((decoded - start, cut - decoded, extracted - cut, predicted - extracted))
        done(len(times))
    return Watched(Timeline(classes, np.array(times), np.stack(rows).astype(np.float32)), np.array(spent, np.int64), fault)


def _warm(video: Path, stream: Stream, crop: Crop) -> None:
    first: Iterator[tuple[float, UInt8]] = media.frames(video)
    got = next(first, None)
    if got is None:
        raise DataError(f"{video}: a video without a frame; copy it again")
    crop(got[1])
    stream.push(np.zeros(stream.size, np.uint8))
    stream.reset()


def cutting(request: VideoRequest, given: Bundle) -> Cutting:
    """What was asked for; else what the study of the run that holds the bundle says of its faces; else the cascade and a margin of 0.25."""
    data = (_summary(given).get("config") or {}).get("data") or {}
    learned = Faces.model_validate(data["faces"]) if data.get("faces") else None
    by_study = Faces() if learned is None else learned
    name = request.faces or ("none" if by_study.by == "none" else by_study.detector)
    margin = by_study.margin if request.margin is None else request.margin
    if not data:
        doubt = f"the bundle lies in no run folder: how the faces were cut that it learned is not known here; --margin is {margin:g}"
    elif learned is None:
        doubt = f"the network learned drawn pictures ({data.get('name')}), no camera's: its answers on a video say little"
    elif learned.by == "none":
        doubt = "" if name == "none" else "the network learned whole pictures; --faces none gives it such"
    elif learned.by in ("aligned", "landmarks") or (learned.by is None and data.get("name") in OWN_CROPS):
        own = learned.by or f"{OWN_CROPS[data['name']]}, where they are there"
        doubt = f"the network learned faces cut by {own}; a video has none, so its crops differ from those"
    elif (name, margin) != (learned.detector, learned.margin):
        doubt = f"the network learned faces found by {learned.detector} with a margin of {learned.margin:g}"
    else:
        doubt = ""
    return Cutting(name, margin, doubt)


def found(request: VideoRequest, given: Bundle, watched: Watched, cut: Cutting) -> dict[str, Any]:
    """The answer over time, frames per second, missed deadlines by stage; ready for JSON."""
    line, spent = watched.timeline, watched.spent_ns
    whole = spent.sum(axis=1)
    frames, seen = len(whole), int(line.face.sum())
    return {
        "video": str(request.video),
        "bundle": str(given.folder),
        "variant": given.variant,
        "frames": frames,
        "frames_with_face": seen,
        "faces": cut.faces,
        "margin": cut.margin,
        "labels": [asdict(each) for each in timeline.stretches(line)],
        "frames_per_second": frames / (int(whole.sum()) / 1e9),
        "frame_ms": _times(whole),
        "stages_ms": {name: _times(spent[:, place]) for place, name in enumerate(STAGES)},
        "deadlines": [_deadline(rate, spent) for rate in request.rates_fps],
        "study_latency": study_latency(given),
        "fault": watched.fault,
        "notes": [*([cut.doubt] if cut.doubt else []), *_notes(request, given, watched)],
    }


def _times(spent_ns: Int64) -> dict[str, float | None]:
    """p50, p90 (None for few frames) and largest, in ms."""
    p90 = float(np.percentile(spent_ns, 90)) / 1e6 if len(spent_ns) >= PERCENTILE_FRAMES else None
    return {"p50": float(np.median(spent_ns)) / 1e6, "p90": p90, "max": float(spent_ns.max()) / 1e6}


def _deadline(rate_fps: float, spent_ns: Int64) -> dict[str, Any]:
    """How many frames took longer than the time until the next one, and which stage took the most of it in each of them."""
    late = spent_ns[spent_ns.sum(axis=1) > 1e9 / rate_fps]
    longest = late.argmax(axis=1)
    by_stage = {name: int((longest == place).sum()) for place, name in enumerate(STAGES)}
    return {"fps": rate_fps, "frame_ms": 1000 / rate_fps, "missed": len(late), "of": len(spent_ns), "longest_stage": by_stage}


def study_latency(given: Bundle) -> list[dict[str, Any]]:
    """What the bundle's own run measured for its variant, one row per target; empty where it lies in no run folder, or latency was not measured."""
    rows: list[Mapping[str, Any]] = _summary(given).get("rows") or []
    keys = ("latency_clip_p50_ns", "latency_stream_frame_p50_ns")
    kept = [row for row in rows if row.get("variant") == given.variant and row.get(keys[0]) is not None]
    return [
        {
            "target": row["target"],
            "simulated": str(Doubt.SIMULATED_TARGET) in (row.get("doubts") or ()),
            "frames_per_clip": given.manifest["frames"],
            **{key: row.get(key) for key in keys},
        }
        for row in kept
    ]


def _summary(given: Bundle) -> Mapping[str, Any]:
    """summary.json of the run folder that the bundle lies in, empty where it lies in none."""
    try:
        content = json.loads((given.folder.resolve().parent.parent / "summary.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _notes(request: VideoRequest, given: Bundle, watched: Watched) -> list[str]:
    length, frames, seen = given.manifest["frames"], len(watched.spent_ns), int(watched.timeline.face.sum())
    notes = ["frames per second include decoding and face search; the networks ran on one thread of this process; a study's latency is theirs alone"]
    if watched.fault:
        notes.append(f"after {frames} frames: {watched.fault}")
    if short := container.shortfall(request.video):
        notes.append(f"the video ends early ({short}): {frames} frames are what could be decoded")
    if not seen:
        notes.append("no face was found in any frame: try --faces centre, or another detector")
    elif seen < frames:
        notes.append(f"no face in {frames - seen} of {frames} frames: they were left out, the state waited")
    if request.restart is None and seen > length:
        notes.append(
            f"the network learned clips of {length} frames and ran {seen} in a row here: --restart {length} begins a new clip every {length}"
        )
    return notes
