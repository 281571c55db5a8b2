"""Which blocks a session runs, in which order, and what each block's numbers depend on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fercompress_agent

from fercompress.config import Measure
from fercompress.measure.board import Board
from fercompress.records import BlockKey, Bundle, Int64, Pass, digest

TIMED_CLIPS = 64  # at most so many different clips are timed, one after the other and again
MEMORY_CLIPS = 4  # run before a process's high-water mark is read
WARMUP_CAP_S = 2.0  # or four times block_s, where that is longer


@dataclass(frozen=True)
class MeasuredBundle:
    """A variant's bundle of one seed and fold; clip_index: int64, the rows of `Clips` that its accuracy is measured on."""

    bundle: Bundle
    seed: int
    fold: str
    clip_index: Int64


Bundles = Mapping[str, Sequence[MeasuredBundle]]  # by variant; the first of each is the one that is timed


@dataclass(frozen=True)
class ClipsFile:
    """Rows of the `Clips` as a file on the target; place: row of the `Clips` -> row of the file."""

    remote: str
    sha256: str
    place: Mapping[int, int]


@dataclass(frozen=True)
class Cell:
    """One block to come: its key, its bundle, and the agent's job."""

    key: BlockKey
    measured: MeasuredBundle
    job: Mapping[str, Any]


@dataclass(frozen=True)
class Schedule:
    """machine, engines: the target's facts; fingerprint: of the clips

    all_clips: the rows of every accuracy run, None without an accuracy pass; few_clips: what is timed
    """

    bundles: Bundles
    settings: Measure
    board: Board
    machine: Mapping[str, Any]
    engines: Mapping[str, Mapping[str, str]]
    fingerprint: str
    all_clips: ClipsFile | None
    few_clips: ClipsFile
    seed: int

    @property
    def threads(self) -> int:
        return self.board.threads or self.settings.threads

    def cells(self) -> list[Cell]:
        """Pass by pass: accuracy, latency, memory, power."""
        passes: dict[str, Callable[[], Iterator[Cell]]] = {
            "accuracy": self._accuracy, "latency": self._latency, "memory": self._memory, "power": self._power,
        }  # fmt: skip
        return [cell for name, cells in passes.items() if name in self.settings.passes for cell in cells()]

    def _accuracy(self) -> Iterator[Cell]:
        assert self.all_clips is not None
        for measured in every(self.bundles):
            rows = [self.all_clips.place[int(row)] for row in measured.clip_index]
            # Not the file's own sha256: that changes with the other bundles' rows.
            yield self._cell(Pass.ACCURACY, measured, self.all_clips, rows, {}, 0, 0, [self.fingerprint, measured.clip_index.tolist()])

    def _latency(self) -> Iterator[Cell]:
        keys = ("block_clips", "block_s", "warmup_clips")
        job = {**{key: getattr(self.settings, key) for key in keys}, "warmup_cap_s": max(WARMUP_CAP_S, 4 * self.settings.block_s)}
        # A job that asks for no streams is the same as before there were any.
        job |= {"stream_clips": self.settings.stream_clips} if self.settings.stream_clips else {}
        # A ratio pairs blocks of one round: if any variant changes, all are measured anew, beside each other.
        beside = sorted((variant, several[0].bundle.sha256) for variant, several in self.bundles.items())
        for round_ in range(self.settings.rounds):
            for position, variant in enumerate(mirrored_round(list(self.bundles), round_, self.seed)):
                yield self._few(Pass.LATENCY, variant, job, round_, position, [beside, self.seed])

    def _memory(self) -> Iterator[Cell]:
        for position in range(self.settings.memory_blocks):
            for variant in self.bundles:
                yield self._few(Pass.MEMORY, variant, {}, 0, position, [])

    def _power(self) -> Iterator[Cell]:
        job = {"power": self.board.power.model_dump(mode="json"), "warmup_clips": self.settings.warmup_clips, "warmup_cap_s": WARMUP_CAP_S}
        for variant in self.bundles:
            yield self._few(Pass.POWER, variant, job, 0, 0, [])

    def _few(self, pass_: Pass, variant: str, job: Mapping[str, Any], round_: int, position: int, depends: list[Any]) -> Cell:
        """Where time, memory or energy counts, the machine and its Python do too."""
        rows = list(self.few_clips.place.values())[: MEMORY_CLIPS if pass_ is Pass.MEMORY else None]
        machine = [self.machine.get(fact) for fact in ("machine", "cpu", "python")]
        # Asked for where clocks matter; a job that asks for none is the same as before there was such a wish.
        job = {**job, "governor": self.board.governor} if self.board.governor != "leave" else job
        depends = [*depends, machine, self.few_clips.sha256, rows]
        return self._cell(pass_, self.bundles[variant][0], self.few_clips, rows, job, round_, position, depends)

    def _cell(
        self,
        pass_: Pass,
        measured: MeasuredBundle,
        clips: ClipsFile,
        rows: list[int],
        job: Mapping[str, Any],
        round_: int,
        position: int,
        depends: list[Any],
    ) -> Cell:
        """depends: what the block's numbers depend on, beside the bundle, the job's settings, the engine's versions and the agent's loop.

        Of the agent, MEASURE counts, which is raised when a change may change numbers, not its sha256: a new comment measures nothing anew.
        """
        bundle = measured.bundle
        versions = self.engines[bundle.engine]
        settings = digest(fercompress_agent.MEASURE, bundle.sha256, bundle.engine, versions, self.board.cores, self.threads, job, depends)
        key = BlockKey(bundle.variant, self.board.name, pass_, measured.seed, measured.fold, round_, position, settings)
        common = {
            "job": pass_.value, "engine": bundle.engine, "threads": self.threads, "bundle": remote_folder(bundle), "bundle_sha256": bundle.sha256,
            "clips": clips.remote, "clips_sha256": clips.sha256, "rows": rows,
        }  # fmt: skip
        return Cell(key, measured, {**common, **job})


def mirrored_round(variants: Sequence[str], round_: int, seed: int) -> list[str]:
    """A random order of all variants, then the same backwards: two blocks each, ABBA for two variants.

    A drift that is linear in time adds the same to every variant's mean, so ratios within a round are free of it.
    The order depends on the names, the round and the seed alone, so a stopped session finds its place again.
    """
    order = sorted(variants)
    random.Random(digest("round", round_, seed)).shuffle(order)
    return order + order[::-1]


def every(bundles: Bundles) -> list[MeasuredBundle]:
    return [measured for several in bundles.values() for measured in several]


def remote_folder(bundle: Bundle) -> str:
    return f"bundles/{bundle.sha256[:32]}"
