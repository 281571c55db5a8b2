"""The results journal: records of a run in, the same records out, whenever the process was killed.

One SQLite file per run folder. Everything is appended, nothing is changed: a thing recorded twice alike is recorded once,
and of a thing recorded again with other content the newest counts. Raw samples are kept whole; tables are computed elsewhere.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from fercompress.errors import ResultsError
from fercompress.records import Block, BlockKey, Bundle, Clips, Fold, History, Int64, LeftOut, Pass, Size, Status
from fercompress.results import journal, rows
from fercompress.results.rows import json_text

FILE = "results.sqlite"  # its name in a run folder


@dataclass(frozen=True)
class FoldFacts:
    """A fold's test clips: index int64 (n,) into the `Clips`, labels int64 (n,), n strings each; and how many clips the other parts hold."""

    name: str
    train_clips: int
    validation_clips: int
    index: Int64
    labels: Int64
    clip_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    clusters: tuple[str, ...]


@dataclass(frozen=True)
class ClipFacts:
    """What the results need to know of the `Clips`, pictures left out."""

    name: str
    fingerprint: str
    simulated: bool
    classes: tuple[str, ...]
    folds: tuple[FoldFacts, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class StoredBundle:
    """A bundle as recorded; timed: latency, memory and power are measured on this one."""

    variant: str
    seed: int
    fold: str
    engine: str
    sha256: str
    timed: bool
    size: Size
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Training:
    """One training of a variant's predictor (the baseline's is the teacher's own).

    way: how the variant came about, as reports say it ("decomposed, fine-tuned with distillation")
    train_epoch_s: seconds of one epoch of the predictor on cached features; None where it has no such epoch
    best_epoch_accuracy, last_epoch_accuracy: test accuracy (share, 0..1) in torch, where known; neither chose anything
    """

    variant: str
    seed: int
    fold: str
    way: str
    history: History
    train_epoch_s: float | None = None
    best_epoch_accuracy: float | None = None
    last_epoch_accuracy: float | None = None


@dataclass(frozen=True)
class Entry:
    """A block as it stands in the journal: its number, when it was recorded (UTC, ISO 8601), whether results count it."""

    id: int
    recorded: str
    counted: bool
    block: Block


def _utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


class Store:
    """with Store.open(folder / store.FILE) as store: store.record(block)"""

    def __init__(self, db: sqlite3.Connection, path: Path, clock: Callable[[], str] = _utc_now) -> None:
        self._db = db
        self.path = path
        self._clock = clock

    @classmethod
    def open(cls, path: Path, *, writable: bool = True, clock: Callable[[], str] = _utc_now) -> Self:
        """Open or make the journal. raises: ResultsError (damaged, foreign, newer, not writable), DiskFullError"""
        return cls(journal.connect(path, writable=writable), path, clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    # What is recorded. All raise DiskFullError and ResultsError; what returned is on the disk.

    def record_study(self, study: Mapping[str, Any]) -> None:
        """study: JSON-able, `Study.model_dump(mode="json")`."""
        self._append_if_new("studies", {}, {"study": json_text(study)})

    def record_plan(self, keys: Iterable[BlockKey]) -> None:
        """Which blocks the study consists of: once a plan is recorded, results count its blocks only."""
        self._append_if_new("plans", {}, {"keys": json_text(sorted(rows.key_row(key) for key in keys))})

    def record_clips(self, clips: Clips, folds: Sequence[Fold]) -> None:
        facts = {
            "name": clips.name, "fingerprint": clips.fingerprint, "simulated": clips.simulated, "classes": clips.classes,
            "left_out": [dataclasses.asdict(left_out) for left_out in clips.left_out],
            "folds": [
                {
                    "name": fold.name, "train_clips": len(fold.train), "validation_clips": len(fold.validation),
                    "index": fold.test.tolist(), "labels": clips.labels[fold.test].tolist(),
                    **{column: [getattr(clips, column)[i] for i in fold.test] for column in ("clip_ids", "subjects", "clusters")},
                }
                for fold in folds
            ],
        }  # fmt: skip
        self._append_if_new("clips", {}, {"facts": json_text(facts)})

    def record_bundle(self, bundle: Bundle, seed: int, fold: str, *, timed: bool) -> None:
        cell = {"variant": bundle.variant, "seed": seed, "fold": fold, "engine": bundle.engine}
        size, manifest = json_text(dataclasses.asdict(bundle.size)), json_text(bundle.manifest)
        self._append_if_new("bundles", cell, {"sha256": bundle.sha256, "timed": int(timed), "size": size, "manifest": manifest})

    def record_training(self, training: Training) -> None:
        facts = dataclasses.asdict(training)
        cell = {name: facts.pop(name) for name in ("variant", "seed", "fold")}
        self._append_if_new("trainings", cell, {"facts": json_text(facts)})

    def record(self, block: Block) -> bool:
        """Append a block. returns: False, and nothing is written, where that bundle's block of that key is finished already."""
        row = rows.block_row(block)
        with journal.transaction(self._db, self.path) as db:
            columns = f"recorded, crc32, {', '.join(rows.COLUMNS)}"
            values = (self._clock(), rows.crc32(row), *row)
            cursor = db.execute(f"INSERT INTO blocks ({columns}) VALUES ({', '.join('?' * len(values))}) ON CONFLICT DO NOTHING", values)
            return cursor.rowcount == 1

    # What is read back. All raise ResultsError.

    def study(self) -> dict[str, Any]:
        """The study that was recorded last."""
        found = self._rows("SELECT study FROM studies ORDER BY id DESC LIMIT 1")
        if not found:
            raise ResultsError(f"{self.path}: holds no study yet; run `fercompress run` again with the same --out")
        study: dict[str, Any] = self._parsed(found[0][0])
        return study

    def created(self) -> str:
        """When this run was begun: UTC, ISO 8601; "" before the first study."""
        found = self._rows("SELECT recorded FROM studies ORDER BY id LIMIT 1")
        return str(found[0][0]) if found else ""

    def clips(self) -> ClipFacts | None:
        found = self._rows("SELECT facts FROM clips ORDER BY id DESC LIMIT 1")
        if not found:
            return None
        facts = self._parsed(found[0][0])
        folds = tuple(
            FoldFacts(
                fold["name"], fold["train_clips"], fold["validation_clips"], np.array(fold["index"], np.int64), np.array(fold["labels"], np.int64),
                tuple(fold["clip_ids"]), tuple(fold["subjects"]), tuple(fold["clusters"]),
            )
            for fold in facts["folds"]
        )  # fmt: skip
        return ClipFacts(
            facts["name"],
            facts["fingerprint"],
            facts["simulated"],
            tuple(facts["classes"]),
            folds,
            tuple(LeftOut(**each) for each in facts["left_out"]),
        )

    def bundles(self) -> list[StoredBundle]:
        """The newest bundle of every variant, seed, fold and engine, in the order recorded."""
        newest = "SELECT max(id) FROM bundles GROUP BY variant, seed, fold, engine"
        columns = "variant, seed, fold, engine, sha256, timed, size, manifest"
        return [
            StoredBundle(variant, seed, fold, engine, sha256, bool(timed), Size(**self._parsed(size)), self._parsed(manifest))
            for variant, seed, fold, engine, sha256, timed, size, manifest in self._rows(
                f"SELECT {columns} FROM bundles WHERE id IN ({newest}) ORDER BY id"
            )
        ]

    def trainings(self) -> list[Training]:
        """The newest training of every variant, seed and fold, in the order recorded."""
        newest = "SELECT max(id) FROM trainings GROUP BY variant, seed, fold"
        found = []
        for variant, seed, fold, text in self._rows(f"SELECT variant, seed, fold, facts FROM trainings WHERE id IN ({newest}) ORDER BY id"):
            facts = self._parsed(text)
            history = facts.pop("history")
            columns = {name: tuple(history[name]) for name in ("train_loss", "validation_accuracy", "epoch_s")}
            found.append(Training(variant, seed, fold, history=History(**columns, best_epoch=history["best_epoch"]), **facts))
        return found

    def done(self) -> set[BlockKey]:
        """Keys that need no measuring: finished, on the bundle that is current. A failed block is not done: it is tried again."""
        current, cells = self._current_bundles()
        finished = self._rows(f"SELECT {', '.join(rows.KEY)}, bundle_sha256 FROM blocks WHERE status = 'ok'")
        keys = ((rows.key_from(row[:-1]), row[-1]) for row in finished)
        return {key for key, sha256 in keys if sha256 in current or (key.variant, key.seed, key.fold) not in cells}

    def plan(self) -> set[BlockKey] | None:
        """The keys recorded last as the study's; None before any were."""
        found = self._rows("SELECT keys FROM plans ORDER BY id DESC LIMIT 1")
        return {rows.key_from(row) for row in self._parsed(found[0][0])} if found else None

    def blocks(self, *, variant: str | None = None, target: str | None = None, pass_: Pass | None = None) -> list[Block]:
        """The blocks that results count, in the order recorded; failed ones too, where nothing better is known of their key."""
        counted = (entry.block for entry in self.entries() if entry.counted)
        return [
            block
            for block in counted
            if variant in (None, block.key.variant) and target in (None, block.key.target) and pass_ in (None, block.key.pass_)
        ]

    def entries(self) -> Iterator[Entry]:
        """Every block ever recorded. Results count one per place of the schedule: the newest finished one, else the newest.

        Blocks outside the plan, and those of bundles that were replaced, are not counted.
        """
        plan = self.plan()
        current, cells = self._current_bundles()
        best: dict[tuple[Any, ...], tuple[bool, int]] = {}
        places = {}
        for number, status, sha256, *row in self._rows(f"SELECT id, status, bundle_sha256, {', '.join(rows.KEY)} FROM blocks ORDER BY id"):
            key = rows.key_from(row)
            places[number] = tuple(row[:-1])  # settings left out: other settings are another try at the same place
            if (plan is None or key in plan) and (sha256 in current or (key.variant, key.seed, key.fold) not in cells):
                best[places[number]] = max(best.get(places[number], (False, 0)), (status == Status.OK, number))
        for number, place in places.items():
            (row,) = self._rows(f"SELECT recorded, crc32, {', '.join(rows.COLUMNS)} FROM blocks WHERE id = ?", (number,))
            recorded, crc32, *values = row
            if rows.crc32(values) != crc32:
                raise journal.damaged(self.path, f"block {number} does not match its checksum")
            yield Entry(number, recorded, best.get(place, (False, 0))[1] == number, rows.block_from(values))

    def _current_bundles(self) -> tuple[set[str], set[tuple[str, int, str]]]:
        """sha256 of the current bundles; the (variant, seed, fold) that have one."""
        bundles = self.bundles()
        return {bundle.sha256 for bundle in bundles}, {(bundle.variant, bundle.seed, bundle.fold) for bundle in bundles}

    def _append_if_new(self, table: str, cell: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        """Append a row unless the newest one of the same cell says the same."""
        where = " AND ".join(f"{name} = ?" for name in cell) or "1"
        with journal.transaction(self._db, self.path) as db:
            newest = db.execute(f"SELECT {', '.join(content)} FROM {table} WHERE {where} ORDER BY id DESC LIMIT 1", tuple(cell.values())).fetchone()
            if newest != tuple(content.values()):
                row = {"recorded": self._clock(), **cell, **content}
                db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with journal.named_errors(self.path):
            return self._db.execute(query, values).fetchall()

    def _parsed(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise journal.damaged(self.path, str(error)) from error
