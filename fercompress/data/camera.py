"""Clips of a camera data set: a `Listing` in, a cache folder of face crops out, decoded by several processes.

Every clip that is ready is appended to one file at once, so a build that was stopped goes on where it was. A folder belongs to one manifest: the
source files by name, size and time of change, the labels, the wish, the versions of what decodes. When any of that changes, the clips are made anew
in another folder.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import multiprocessing
import os
import time
import traceback
from collections.abc import Container, Generator, Iterator, Sequence
from dataclasses import asdict, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from fercompress.data import cache, detectors, faces, prepared
from fercompress.data.cache import Progress
from fercompress.data.interrupts import without_interrupts
from fercompress.data.listing import FoundClip, Listing
from fercompress.data.prepared import Prepared
from fercompress.dataconfig import Video
from fercompress.errors import DataError, TargetError
from fercompress.records import Clips, LeftOut, UInt8, digest
from fercompress.workspace import full_disk_is_an_error

FORMAT = 2  # one more whenever the same manifest would give other clips
CLIPS_PER_PROCESS = 8  # the fewest that a process is given
CREW_WORTH_S = 10  # of work left for one process: below that, starting others takes longer than it saves
_DECODERS = ("av", "opencv-python-headless", "pillow")

Job = tuple[int, FoundClip]


def manifest(config: Video, listing: Listing) -> dict[str, Any]:
    """All that the clips depend on, as JSON takes it. raises: DataError (what the study asks for is not there)"""
    by = faces.way(config.faces, listing.clips)
    files = sorted({path for clip in listing.clips for path in _files(clip, by)})
    return {
        "format": [FORMAT, faces.VERSION],
        "name": listing.name,
        "classes": listing.classes,
        "faces": {**config.faces.model_dump(), "by": by, "detector": detectors.fingerprint(config.faces.detector) if by == "detect" else ""},
        "frames": config.frames,
        "size": config.size,
        "take": config.take,
        "versions": {name: _version(name) for name in _DECODERS},
        "clips": [[*asdict(clip).values()] for clip in listing.clips],
        "left_out": [asdict(row) for row in listing.left_out],
        "files": [_stamp(path, listing.root) for path in files],
    }


def _files(clip: FoundClip, by: faces.Way) -> tuple[Path, ...]:
    return clip.aligned if by == "aligned" else (*clip.media.files, *clip.landmarks) if by == "landmarks" else clip.media.files


def _stamp(path: Path, root: Path) -> list[Any]:
    """[name, bytes, time of its last change in ns]; a file that is gone has none: its clip will say so"""
    name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    try:
        facts = path.stat()
    except OSError:
        return [name, None, None]
    return [name, facts.st_size, facts.st_mtime_ns]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # installed under another name: opencv-python, say
        return "unknown"


def build(config: Video, listing: Listing, folder: Path, progress: Progress = cache.silent, processes: int | None = None) -> None:
    """Fill a folder that the caller holds; goes on where an earlier build of the same folder was stopped.

    processes: how many decode, fewer where the clips are few; None: as many as there are cores, once that is worth their start
    raises: DataError where no clip is usable, DiskFullError, TargetError where a process was ended from outside
    """
    if not listing.clips:
        raise DataError(f"{listing.root}: no clip of {listing.name} there; see what was left out: fercompress data check {listing.name}")
    by = faces.way(config.faces, listing.clips)
    if by == "detect":
        detectors.detector(config.faces.detector)  # refused here, not once in every clip
    ready = folder / "clips.ready"
    with full_disk_is_an_error(folder):
        done = prepared.whole(ready)
        lost = 0
        with ready.open("ab") as file, contextlib.closing(_prepared(config, by, _left(listing, done), processes)) as arriving:
            progress(len(done), len(listing.clips))
            for count, clip in enumerate(arriving, len(done) + 1):
                prepared.append(file, clip)
                lost += not len(clip.frames)
                progress(count, len(listing.clips), f"{lost} left out" if lost else "")
        _assemble(config, listing, ready, folder)
        ready.unlink()


def _left(listing: Listing, done: Container[int]) -> list[Job]:
    return [(number, clip) for number, clip in enumerate(listing.clips) if number not in done]


def _assemble(config: Video, listing: Listing, ready: Path, folder: Path) -> None:
    """The clips in their listing's order, whatever the order in which they became ready."""
    places = prepared.whole(ready)
    shape = (sum(rows for _, rows in places.values()), config.frames, config.size, config.size)
    facts: list[Prepared] = []

    def rows() -> Iterator[UInt8]:
        with ready.open("rb") as file:
            for number in range(len(listing.clips)):
                file.seek(places[number][0])
                clip = next(prepared.read(file))
                facts.append(replace(clip, frames=np.empty((len(clip.frames), 0, 0, 0), np.uint8)))
                yield from clip.frames

    content = cache.write_frames(rows(), shape, folder)
    left_out = (*listing.left_out, *(LeftOut(clip.clip_id, reason) for clip in facts for reason in clip.reasons))
    if not shape[0]:
        some = f"{left_out[-1].clip}: {left_out[-1].reason}"
        raise DataError(f"{listing.root}: none of {len(listing.clips)} clips of {listing.name} can be used; the last one is {some}")
    of_row = [(listing.clips[clip.number], clip, row) for clip in facts for row in range(len(clip.frames))]
    recordings = tuple(found.recording or found.clip_id for found, _, _ in of_row)
    labels = np.array([listing.classes.index(clip.label) for _, clip, _ in of_row], np.int64)
    rates = tuple(clip.face_rates[row] for _, clip, row in of_row if clip.face_rates)
    texts = {
        "clip_ids": tuple(clip.clip_id for _, clip, _ in of_row),
        "subjects": tuple(found.subject for found, _, _ in of_row),
        "parts": tuple(found.part for found, _, _ in of_row) if any(found.part for found, _, _ in of_row) else (),
    }
    clips = Clips(
        name=listing.name,
        frames=np.empty((len(of_row), 0, 0, 0), np.uint8),  # they are on disk already
        labels=labels,
        classes=listing.classes,
        clusters=tuple(found.subject or recording for (found, _, _), recording in zip(of_row, recordings, strict=True)),
        recordings=recordings,
        positions=tuple(found.position for found, _, _ in of_row),
        fingerprint=digest("camera", content, shape, labels.tolist(), listing.classes, texts),
        simulated=False,
        left_out=left_out,
        face_rates=rates,
        **texts,
    )
    cache.save_facts(clips, folder)


def _prepared(config: Video, by: faces.Way, jobs: Sequence[Job], processes: int | None) -> Generator[Prepared]:
    """Every clip as it becomes ready, in no order."""
    crew = min(processes or os.cpu_count() or 1, len(jobs) // CLIPS_PER_PROCESS)
    if crew < 2:
        return (prepared.prepare(config, by, number, clip) for number, clip in jobs)
    return _by_crew(config, by, jobs, crew) if processes else _here_or_by_crew(config, by, jobs, crew)


def _here_or_by_crew(config: Video, by: faces.Way, jobs: Sequence[Job], crew: int) -> Generator[Prepared]:
    """In this process for as long as what is left is not worth the others' start."""
    begun = time.monotonic()
    for count, (number, clip) in enumerate(jobs, 1):
        yield prepared.prepare(config, by, number, clip)
        if (time.monotonic() - begun) / count * (len(jobs) - count) > CREW_WORTH_S:
            yield from _by_crew(config, by, jobs[count:], crew)
            return


def _by_crew(config: Video, by: faces.Way, jobs: Sequence[Job], crew: int) -> Generator[Prepared]:
    context = multiprocessing.get_context("spawn")
    waiting = iter(jobs)
    at_work: dict[Connection, FoundClip] = {}
    workers = []

    def give(line: Connection) -> None:
        job = next(waiting, None)
        at_work.pop(line, None)
        if job is None:
            line.close()
        else:
            at_work[line] = job[1]
            line.send(job)

    try:
        with without_interrupts():
            for _ in range(crew):
                mine, theirs = context.Pipe()
                worker = context.Process(target=_work, args=(theirs, config, by), daemon=True)
                workers.append(worker)
                worker.start()
                theirs.close()  # so that its end is the line's end
                give(mine)
        while at_work:
            for line in wait(list(at_work)):
                assert isinstance(line, Connection)
                yield _answer(line, at_work[line])
                give(line)
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _answer(line: Connection, clip: FoundClip) -> Prepared:
    try:
        answer = line.recv()
    except (EOFError, OSError) as error:
        raise TargetError(
            f"{clip.clip_id}: the process that decoded it ({clip.media.files[0]}) was ended; is there memory? "
            "run again to go on where it stopped, or move the file away if it happens again"
        ) from error
    if isinstance(answer, str):
        raise RuntimeError(f"{clip.clip_id}: {answer}")
    assert isinstance(answer, Prepared)
    return answer


def _work(line: Connection, config: Video, by: faces.Way) -> None:
    """Prepare clips until the line is closed; answers each with a `Prepared`, or with a mistake of ours as a text."""
    import cv2

    cv2.setNumThreads(1)  # the crew has the cores already
    while True:
        try:
            number, clip = line.recv()
        except (EOFError, OSError):
            return
        try:
            line.send(prepared.prepare(config, by, number, clip))
        except BrokenPipeError:
            return
        except Exception:  # the parent raises it: here nobody would see it
            line.send(traceback.format_exc())
