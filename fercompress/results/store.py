"""The results journal: records of a run in, the same records out, whenever the process was killed.

One SQLite file per run folder. Everything is appended, nothing is changed: a thing recorded twice alike is recorded once,
and of a thing recorded again with other content the newest counts. Raw samples are kept whole; tables are computed elsewhere.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from fercompress.errors import ResultsError
from fercompress.records import Block, BlockKey, Bundle, Clips, Fold, History, LeftOut, Pass, Size, Status
from fercompress.results import journal, rows
from fercompress.results.facts import ClipFacts, Entry, FoldFacts, StoredBundle, Training, face_rates, shared_clips
from fercompress.results.rows import json_text

__all__ = ["FILE", "ClipFacts", "Entry", "FoldFacts", "Store", "StoredBundle", "Training"]

FILE = "results.sqlite"  # its name in a run folder


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
        """Which blocks the newest study consists of: once that is recorded, results count these only."""
        self._append_if_new("plans", {}, {"study": self._study_id(), "keys": json_text(sorted(rows.key_row(key) for key in keys))})

    def record_clips(self, clips: Clips, folds: Sequence[Fold]) -> None:
        facts = {
            "name": clips.name, "fingerprint": clips.fingerprint, "simulated": clips.simulated, "classes": clips.classes,
            "left_out": [dataclasses.asdict(left_out) for left_out in clips.left_out],
            **({"face_rates": face_rates(clips)} if clips.face_rates else {}),
            "folds": [
                {
                    "name": fold.name, "train_clips": len(set(clips.ids(fold.train))), "validation_clips": len(set(clips.ids(fold.validation))),
                    "index": fold.test.tolist(), "labels": clips.labels[fold.test].tolist(),
                    **{column: [getattr(clips, column)[i] for i in fold.test] for column in ("clip_ids", "subjects", "clusters")},
                    "shared_clips": shared_clips(clips, fold),
                }
                for fold in folds
            ],
        }  # fmt: skip
        self._append_if_new("clips", {}, {"facts": json_text(facts)})

    def record_bundle(self, bundle: Bundle, seed: int, fold: str, *, timed: bool) -> None:
        cell = {"variant": bundle.variant, "seed": seed, "fold": fold}
        size, manifest = json_text(dataclasses.asdict(bundle.size)), json_text(bundle.manifest)
        self._append_if_new(
            "bundles", cell, {"engine": bundle.engine, "sha256": bundle.sha256, "timed": int(timed), "size": size, "manifest": manifest}
        )

    def record_no_bundle(self, variant: str, seed: int, fold: str) -> None:
        """A variant that could not be made this time: a bundle that an earlier recipe gave is its bundle no more."""
        for stored in self.bundles():
            if (stored.variant, stored.seed, stored.fold) == (variant, seed, fold):
                cell = {"variant": variant, "seed": seed, "fold": fold}
                size, manifest = json_text(dataclasses.asdict(stored.size)), json_text({})
                self._append_if_new("bundles", cell, {"engine": stored.engine, "sha256": "", "timed": 0, "size": size, "manifest": manifest})

    def record_training(self, training: Training) -> None:
        facts = dataclasses.asdict(training)
        cell = {name: facts.pop(name) for name in ("variant", "seed", "fold")}
        self._append_if_new("trainings", cell, {"facts": json_text(facts)})

    def record(self, block: Block) -> bool:
        """Append a block. returns: False, and nothing is written, where that bundle's block of that key is finished already."""
        row = rows.block_row(block)
        with journal.transaction(self._db, self.path) as db:
            columns = f"recorded, crc32, {', '.join(rows.COLUMNS)}"
            recorded = self._clock()
            values = (recorded, rows.crc32((recorded, *row)), *row)
            cursor = db.execute(f"INSERT INTO blocks ({columns}) VALUES ({', '.join('?' * len(values))}) ON CONFLICT DO NOTHING", values)
            return cursor.rowcount == 1

    # What is read back. All raise ResultsError.

    def study(self) -> dict[str, Any]:
        """The study that was recorded last."""
        found = self._newest("studies", "study")
        if not found:
            raise ResultsError(f"{self.path}: holds no study yet; run `fercompress run` again with the same --out")
        study: dict[str, Any] = json.loads(found[0][0])
        return study

    def created(self) -> str:
        """When this run was begun: UTC, ISO 8601; "" before the first study."""
        first = self._checked("studies", "study", "ORDER BY id LIMIT 1")
        return str(first[0][1]) if first else ""

    def clips(self) -> ClipFacts | None:
        found = self._newest("clips", "facts")
        if not found:
            return None
        facts = json.loads(found[0][0])
        folds = tuple(
            FoldFacts(
                fold["name"], fold["train_clips"], fold["validation_clips"], np.array(fold["index"], np.int64), np.array(fold["labels"], np.int64),
                tuple(fold["clip_ids"]), tuple(fold["subjects"]), tuple(fold["clusters"]),
                fold.get("shared_clips"),
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
            facts.get("face_rates"),
        )

    def bundles(self) -> list[StoredBundle]:
        """The newest bundle of every variant, seed and fold, whatever its engine, in the order recorded; none where the last attempt failed."""
        return [
            StoredBundle(variant, seed, fold, engine, sha256, bool(timed), Size(**json.loads(size)), json.loads(manifest))
            for variant, seed, fold, engine, sha256, timed, size, manifest in self._newest(
                "bundles", "variant, seed, fold, engine, sha256, timed, size, manifest", per="variant, seed, fold"
            )
            if sha256
        ]

    def trainings(self) -> list[Training]:
        """The newest training of every variant, seed and fold, in the order recorded."""
        found = []
        for variant, seed, fold, text in self._newest("trainings", "variant, seed, fold, facts", per="variant, seed, fold"):
            facts = json.loads(text)
            history = facts.pop("history")
            columns = {name: tuple(history[name]) for name in ("train_loss", "validation_accuracy", "epoch_s")}
            found.append(Training(variant, seed, fold, history=History(**columns, best_epoch=history["best_epoch"]), **facts))
        return found

    def done(self) -> set[BlockKey]:
        """Keys that need no measuring: finished, on the bundle that is current. A failed block is not done: it is tried again."""
        current, cells = self._current_bundles()
        finished = self._rows(f"SELECT {', '.join(rows.KEY)}, bundle_sha256 FROM blocks WHERE status = 'ok'")
        keys = ((self._key(row[:-1]), row[-1]) for row in finished)
        return {key for key, sha256 in keys if sha256 in current or (key.variant, key.seed, key.fold) not in cells}

    def tried(self) -> Counter[BlockKey]:
        """How many blocks were recorded of each key, finished or not."""
        return Counter(self._key(row) for row in self._rows(f"SELECT {', '.join(rows.KEY)} FROM blocks"))

    def plan(self) -> set[BlockKey] | None:
        """The keys recorded last, if for the newest study; else None: another study's plan says nothing about this one's blocks."""
        found = self._newest("plans", "study, keys")
        if not found or found[0][0] != self._study_id():
            return None
        return {rows.key_from(row) for row in json.loads(found[0][1])}

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
        found = self._checked("blocks", ", ".join(rows.COLUMNS), "ORDER BY id")
        best: dict[tuple[Any, ...], tuple[bool, int]] = {}
        for number, _, *values in found:
            key, place = self._key(values[: len(rows.KEY)]), _place(values)
            bundle_sha256, status = values[len(rows.KEY) : len(rows.KEY) + 2]
            if (plan is None or key in plan) and (bundle_sha256 in current or (key.variant, key.seed, key.fold) not in cells):
                best[place] = max(best.get(place, (False, 0)), (status == Status.OK, number))
        for number, recorded, *values in found:
            yield Entry(number, recorded, best.get(_place(values), (False, 0))[1] == number, rows.block_from(values))

    def _current_bundles(self) -> tuple[set[str], set[tuple[str, int, str]]]:
        """sha256 of the current bundles; the (variant, seed, fold) that have one."""
        bundles = self.bundles()
        return {bundle.sha256 for bundle in bundles}, {(bundle.variant, bundle.seed, bundle.fold) for bundle in bundles}

    def _newest(self, table: str, columns: str, per: str = "") -> list[Any]:
        """columns: all that were given to `_append_if_new`, in its order; per: one row for each of these, in the order recorded, else one in all"""
        grouped = f"GROUP BY {per}" if per else ""
        found = self._checked(table, columns, f"WHERE id IN (SELECT max(id) FROM {table} {grouped}) ORDER BY id")
        return [values for _, _, *values in found]

    def _checked(self, table: str, columns: str, which: str) -> list[Any]:
        """returns: id, recorded, *columns. raises: ResultsError where a row is not as it was recorded"""
        found = self._rows(f"SELECT id, crc32, recorded, {columns} FROM {table} {which}")
        for number, crc32, *values in found:
            if rows.crc32(values) != crc32:
                raise journal.damaged(self.path, f"{table}: row {number} does not match its checksum")
        return [(number, *values) for number, _, *values in found]

    def _key(self, row: Sequence[Any]) -> BlockKey:
        try:
            return rows.key_from(row)
        except ValueError as error:
            raise journal.damaged(self.path, str(error)) from error

    def _study_id(self) -> int:
        """0 before the first study."""
        return int(self._rows("SELECT coalesce(max(id), 0) FROM studies")[0][0])

    def _append_if_new(self, table: str, cell: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        """Append a row unless the newest one of the same cell says the same."""
        where = " AND ".join(f"{name} = ?" for name in cell) or "1"
        with journal.transaction(self._db, self.path) as db:
            newest = db.execute(f"SELECT {', '.join(content)} FROM {table} WHERE {where} ORDER BY id DESC LIMIT 1", tuple(cell.values())).fetchone()
            if newest != tuple(content.values()):
                row = {"recorded": self._clock(), **cell, **content}
                row["crc32"] = rows.crc32(tuple(row.values()))
                db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with journal.named_errors(self.path):
            return self._db.execute(query, values).fetchall()


def _place(values: Sequence[Any]) -> tuple[Any, ...]:
    """A block's place in the schedule; settings left out: with others it is another try at the same place."""
    return tuple(values[: len(rows.KEY) - 1])
