"""The embedded data set: rendered faces whose seven expressions unfold over a clip; a `SyntheticData` in, `Clips` out, equal for equal configs.

Three presets are named after the protocols that they imitate: `posed` (CK+: neutral to apex), `return` (MMI: neutral, onset, apex, offset, neutral)
and `wild` (AFEW: large poses, hard light, occlusions, clips that begin anywhere in the onset). Only the motion and its apex know the class; all
else is drawn alike.
"""

from __future__ import annotations

import ctypes
import functools
import math
import multiprocessing
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from fercompress.data import expressions, face, person
from fercompress.data.interrupts import without_interrupts
from fercompress.dataconfig import SyntheticData
from fercompress.errors import TargetError
from fercompress.records import Clips, Fold, Int64, UInt8, digest

Job = tuple[int, int, int, int]  # part, subject, clip, label

RENDERER_VERSION = 1  # raise when the same config would draw other pixels
PARTS = ("train", "validation", "test")
INTENSITY = 0.95  # mean share of a prototype's activation: faint enough that no single cue decides
CLIPS_PER_PROCESS = 100  # the fewest that are worth a process, which takes half a second to start
_CLIPS_PER_SUBJECT = (3, 6)
_LABELS, _SUBJECT, _CLIP, _NOISE = range(4)  # streams of randomness


def load(config: SyntheticData) -> Clips:
    """All clips, those of the train, validation and test parts one after the other; a part's clips do not depend on the other parts' sizes."""
    labels: list[int] = []
    subjects: list[str] = []
    positions: list[int] = []
    jobs: list[Job] = []
    for part, count in enumerate(_sizes(config)):
        part_labels, part_subjects = assign(config.seed, part, count)
        for clip, (label, subject) in enumerate(zip(part_labels, part_subjects, strict=True)):
            positions.append(clip - part_subjects.index(subject))
            labels.append(label)
            subjects.append(f"{PARTS[part]}-{subject:04d}")
            jobs.append((part, subject, clip, label))
    names = tuple(subjects)
    return Clips(
        name=f"synthetic-{config.preset}",
        frames=rendered(config, jobs),
        labels=np.array(labels, np.int64),
        classes=expressions.CLASSES,
        clip_ids=tuple(f"{subject}-{position}" for subject, position in zip(subjects, positions, strict=True)),
        subjects=names,
        clusters=names,
        recordings=names,
        positions=tuple(positions),
        fingerprint=fingerprint(config),
        simulated=True,
    )


def fingerprint(config: SyntheticData) -> str:
    """sha256 (hex) of all that the clips are made from, without rendering them."""
    return digest("synthetic", RENDERER_VERSION, config.model_dump(exclude={"difference", "protocol", "folds", "deal"}))


def fold(config: SyntheticData, clips: Clips) -> Fold:
    """The one fold that `load` laid out; subjects of its parts are disjoint."""
    train, validation, test = np.split(np.arange(len(clips), dtype=np.int64), np.cumsum(_sizes(config))[:2])
    return Fold("subjects", train, validation, test, clips.subjects)


def counts(config: SyntheticData) -> tuple[int, int]:
    """How many clips are trained on, at most, and in how many folds; without rendering one."""
    if config.protocol == "parts":
        return config.train_clips, 1
    subjects = sum(len(set(assign(config.seed, part, count)[1])) for part, count in enumerate(_sizes(config)))
    return sum(_sizes(config)), subjects if config.protocol == "leave-one-subject-out" else config.folds


def rendered(config: SyntheticData, jobs: Sequence[Job]) -> UInt8:
    """The clips of all jobs, uint8 (N, T, size, size), by as many processes as there are cores: threads would wait for one another's interpreter.

    raises: TargetError where a process ended before its clips were done
    """
    shape = (len(jobs), config.frames, config.size, config.size)
    crew = min(os.cpu_count() or 1, len(jobs) // CLIPS_PER_PROCESS)
    if crew < 2:
        frames = np.empty(shape, np.uint8)
        _render_into(frames, config, jobs, 0, 1)
        return frames
    context = multiprocessing.get_context("spawn")
    memory: Any = context.RawArray(ctypes.c_uint8, math.prod(shape))
    workers = [context.Process(target=_work, args=(memory, shape, config, jobs, first, crew), daemon=True) for first in range(crew)]
    try:
        with without_interrupts():  # Ctrl-C is this process's to handle, and theirs from their first instruction to the last to ignore
            for worker in workers:
                worker.start()
        for worker in workers:
            worker.join()
    finally:
        for worker in workers:
            worker.kill()
    if ended := [worker.exitcode for worker in workers if worker.exitcode]:
        raise TargetError(f"drawing the clips ended early (exit code {ended[0]}); is there memory for {len(jobs)} clips?")
    return np.frombuffer(memory, np.uint8).reshape(shape)


def _work(memory: Any, shape: tuple[int, ...], config: SyntheticData, jobs: Sequence[Job], first: int, crew: int) -> None:
    _render_into(np.frombuffer(memory, np.uint8).reshape(shape), config, jobs, first, crew)


def _render_into(frames: UInt8, config: SyntheticData, jobs: Sequence[Job], first: int, crew: int) -> None:
    for index in range(first, len(jobs), crew):
        frames[index] = render(config, *jobs[index])


def render(config: SyntheticData, part: int, subject: int, clip: int, label: int) -> UInt8:
    """One clip, uint8 (T, size, size). The label decides nothing but the curves of the action units."""
    someone = _someone(config.seed, part, subject)
    rng = _stream(config.seed, _CLIP, part, clip)
    shot = person.shot(rng, config.preset, config.frames)
    motion = expressions.curves(expressions.CLASSES[label], expressions.draw(rng, INTENSITY, config.preset), config.frames)
    return face.film(someone, shot, motion, config.size, _stream(config.seed, _NOISE, part, clip))


@functools.lru_cache(maxsize=64)  # a subject's clips follow one another
def _someone(seed: int, part: int, subject: int) -> person.Person:
    return person.person(_stream(seed, _SUBJECT, part, subject))


def assign(seed: int, part: int, count: int) -> tuple[list[int], list[int]]:
    """A label and a subject (0, 1, ...) for each of a part's clips: classes as frequent as in CK+, dealt out to subjects blindly."""
    labels = np.repeat(np.arange(len(expressions.CLASSES)), class_counts(count))
    rng = _stream(seed, _LABELS, part)
    rng.shuffle(labels)
    subjects: list[int] = []
    while len(subjects) < count:
        subject = subjects[-1] + 1 if subjects else 0
        subjects += [subject] * int(rng.integers(_CLIPS_PER_SUBJECT[0], _CLIPS_PER_SUBJECT[1] + 1))
    return [int(label) for label in labels], subjects[:count]


def class_counts(count: int) -> Int64:
    """Clips per class, (classes,), in CK+'s proportions by largest remainders."""
    exact = np.array(expressions.COUNTS) * count / sum(expressions.COUNTS)
    whole = np.floor(exact).astype(np.int64)
    rest = np.argsort(whole - exact, kind="stable")[: count - int(whole.sum())]
    whole[rest] += 1
    return whole


def _sizes(config: SyntheticData) -> tuple[int, int, int]:
    return config.train_clips, config.validation_clips, config.test_clips


def _stream(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)
