"""Everything that a journal holds, as tidy tables: one line per block, per timed clip, per prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fercompress import stats
from fercompress.errors import ResultsError
from fercompress.records import Block, Int64, Pass, Status
from fercompress.results import conditions
from fercompress.results.store import ClipFacts, Entry, FoldFacts, Store, StoredBundle, Training

STAGES = ("extractor", "predictor", "clip")
MEMORY_STEPS = ("interpreter", "runtime", "model", "peak")
MEMORY_PARTS = tuple(f"{step}_{part}" for step in MEMORY_STEPS for part in ("anonymous", "file"))
# Column -> key of a block's power
POWER = {
    "power_w": "power_w", "power_idle_w": "idle_w", "power_net_w": "net_w",
    "power_idle_before_w": "idle_before_w", "power_idle_after_w": "idle_after_w", "power_load_s": "seconds",
    "power_samples": "samples", "power_rate_hz": "rate_hz", "power_gap_s": "gap_s", "power_counter": "counter",
    "energy_clip_j": "energy_per_clip_j", "energy_clip_net_j": "energy_per_clip_net_j",
    "energy_inference_j": "energy_per_inference_j", "energy_inference_net_j": "energy_per_inference_net_j",
}  # fmt: skip

CONDITIONS = {"hot_start": conditions.hot_start, "clock_changed": conditions.clock_changed, "throttled": conditions.throttled}

_PLACE = ("variant", "target", "pass", "seed", "fold", "round", "position")
_BLOCKS = (
    "block", "recorded", "counted", *_PLACE, "settings_sha256", "bundle_sha256", "status", "reason", "clips",
    *(f"{stage}_p50_ns" for stage in STAGES), *(f"memory_{step}_bytes" for step in (*MEMORY_STEPS, *MEMORY_PARTS)), *POWER,
    "power_source", "host_busy_share", "stream_frame_p50_ns", "stream_reason", "npu_frame_ns", "npu_memory_peak_bytes", "npu_reason",
    "hot_start", "clock_changed", "throttled",
)  # fmt: skip
_TIMINGS = ("block", "variant", "target", "seed", "fold", "round", "position", "call", "extractor_ns", "predictor_ns", "clip_ns")
_PREDICTIONS = ("block", "variant", "target", "seed", "fold", "clip", "clip_id", "subject", "cluster", "label", "predicted", "correct")
_EPOCHS = ("variant", "seed", "fold", "epoch", "train_loss", "validation_accuracy", "epoch_s", "kept")


@dataclass(frozen=True)
class Tables:
    """Everything that a journal holds, read once.

    blocks: one line per block ever recorded; `counted` tells which ones results are made of; columns that a pass does not measure are NaN
    timings: one line per timed clip of the counted latency blocks, in call order, nanoseconds as int64
    predictions: one line per test clip of the counted accuracy blocks; label, predicted: index into the classes
        (predicted -1 where the logits were not finite numbers, which is wrong); logit_0, logit_1, ...: float32, one column per class
    facts: target -> the facts of its newest finished block
    """

    study: Mapping[str, Any]
    created: str
    clips: ClipFacts | None
    bundles: Sequence[StoredBundle]
    trainings: Sequence[Training]
    blocks: pd.DataFrame
    timings: pd.DataFrame
    predictions: pd.DataFrame
    facts: Mapping[str, Mapping[str, Any]]

    def bundle(self, variant: str) -> StoredBundle | None:
        """The bundle that stands for a variant: the timed one, else the first."""
        mine = [bundle for bundle in self.bundles if bundle.variant == variant]
        return next((bundle for bundle in mine if bundle.timed), mine[0] if mine else None)

    def trainings_of(self, variant: str) -> list[Training]:
        return [each for each in self.trainings if each.variant == variant]

    @property
    def protocol(self) -> str | None:
        """How clips were cut into folds; None where the data set has one way only."""
        protocol = (self.study.get("data") or {}).get("protocol")
        return None if protocol in (None, "parts") else str(protocol)  # rendered clips in their own three parts: nothing was chosen

    @property
    def epochs(self) -> pd.DataFrame:
        """One line per epoch of every training: shares, seconds; kept: the epoch whose weights were exported."""
        lines = [
            (each.variant, each.seed, each.fold, epoch, loss, accuracy, seconds, epoch == each.history.best_epoch)
            for each in self.trainings
            for epoch, (loss, accuracy, seconds) in enumerate(
                zip(each.history.train_loss, each.history.validation_accuracy, each.history.epoch_s, strict=True)
            )
        ]
        return pd.DataFrame(lines, columns=list(_EPOCHS))


def read_tables(store: Store) -> Tables:
    """raises: ResultsError"""
    clips = store.clips()
    folds = {fold.name: fold for fold in clips.folds} if clips else {}
    blocks: list[tuple[Any, ...]] = []
    timings, predictions = [pd.DataFrame(columns=list(_TIMINGS))], [pd.DataFrame(columns=list(_PREDICTIONS))]
    facts: dict[str, Mapping[str, Any]] = {}
    for entry in store.entries():
        block = entry.block
        blocks.append(_block_line(entry))
        if not entry.counted or block.status is not Status.OK:
            continue
        facts[block.key.target] = block.facts or {}
        if block.key.pass_ is Pass.LATENCY:
            timings.append(_timing_lines(entry))
        if block.key.pass_ is Pass.ACCURACY:
            predictions.append(_prediction_lines(entry, folds, store))
    return Tables(
        store.study(), store.created(), clips, store.bundles(), store.trainings(),
        pd.DataFrame(blocks, columns=list(_BLOCKS)), _joined(timings), _joined(predictions), facts,
    )  # fmt: skip


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """The first frame is empty and has the columns alone: its types must not decide those of the others."""
    return pd.concat(frames[1:], ignore_index=True) if frames[1:] else frames[0]


def _place(entry: Entry) -> dict[str, Any]:
    key = entry.block.key
    return {
        "block": entry.id, "variant": key.variant, "target": key.target, "pass": str(key.pass_), "seed": key.seed, "fold": key.fold,
        "round": key.round, "position": key.position,
    }  # fmt: skip


def _block_line(entry: Entry) -> tuple[Any, ...]:
    block, nan = entry.block, float("nan")
    line = {
        **_place(entry), "recorded": entry.recorded, "counted": entry.counted, "settings_sha256": block.key.settings_sha256,
        "bundle_sha256": block.bundle_sha256, "status": str(block.status), "reason": block.reason, "clips": len(block.clip_ns),
        **{f"{stage}_p50_ns": _median(block, stage) for stage in STAGES},
        **{f"memory_{step}_bytes": (block.memory_bytes or {}).get(step, nan) for step in (*MEMORY_STEPS, *MEMORY_PARTS)},
        **{column: (block.power or {}).get(key, nan) for column, key in POWER.items()},
        "stream_frame_p50_ns": _stream_median(block.facts or {}), "stream_reason": str((block.facts or {}).get("stream_reason", "")),
        **_npu(block.facts or {}),
        "power_source": _power_source(block.facts or {}),
        "host_busy_share": _number(block.facts or {}, "host_busiest_percent_during") / 100,  # of one core, by the busiest other process
        **{name: told(block.facts or {}) for name, told in CONDITIONS.items()},
    }  # fmt: skip
    return tuple(line[column] for column in _BLOCKS)


def _stream_median(facts: Mapping[str, Any]) -> float:
    """Nanoseconds of one frame of a stream, extractor and one step of the predictor; NaN where none was timed."""
    samples = facts.get("stream_ns")
    return float(np.median(samples)) if isinstance(samples, list) and samples else float("nan")


def _npu(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the NPU's runtime told of itself; where it could not, why."""
    time_ns, memory = facts.get("npu_ns"), facts.get("npu_memory")
    total = memory.get("total_memory") if isinstance(memory, Mapping) else None
    return {
        "npu_frame_ns": _number(facts, "npu_ns"),
        "npu_memory_peak_bytes": _number(total, "maximum_allocation") if isinstance(total, Mapping) else float("nan"),
        "npu_reason": next((told for told in (time_ns, memory) if isinstance(told, str)), ""),
    }


def _power_source(facts: Mapping[str, Any]) -> str:
    """ "hwmon, board side: what flows through ina219: ..."; "" where there was no meter."""
    source, side, scope = (facts.get(f"power_{key}") for key in ("source", "side", "scope"))
    return f"{source}, {side} side: {scope}" if source and side and scope else ""


def _number(facts: Mapping[str, Any], key: str) -> float:
    """Facts come from a target: what is no number tells nothing."""
    value = facts.get(key)
    return float(value) if isinstance(value, int | float) else float("nan")


def _median(block: Block, stage: str) -> float:
    samples = getattr(block, f"{stage}_ns")
    return float(np.median(samples)) if samples else float("nan")


def _timing_lines(entry: Entry) -> pd.DataFrame:
    block = entry.block
    samples = {f"{stage}_ns": np.array(getattr(block, f"{stage}_ns"), np.int64) for stage in STAGES}
    return pd.DataFrame({**_place(entry), "call": np.arange(len(block.clip_ns)), **samples})[list(_TIMINGS)]


def _prediction_lines(entry: Entry, folds: Mapping[str, FoldFacts], store: Store) -> pd.DataFrame:
    block = entry.block
    assert block.logits is not None  # a finished accuracy block has both
    assert block.clip_index is not None
    fold = folds.get(block.key.fold)
    if fold is None or not np.isin(block.clip_index, fold.index).all():
        raise ResultsError(
            f"{store.path}: block {entry.id} ({block.key.variant}, fold {block.key.fold!r}) was measured on other clips than the run now has; "
            "run the same command again so that it is measured anew"
        )
    at = _positions(block.clip_index, fold.index)
    first, answers = stats.pooled([fold.clip_ids[place] for place in at], block.logits)
    index, at = block.clip_index[first], at[first]
    predicted = np.where(np.isfinite(answers).all(axis=1), answers.argmax(axis=1), -1)
    names = {
        column: np.array(values, object)[at]
        for column, values in (("clip_id", fold.clip_ids), ("subject", fold.subjects), ("cluster", fold.clusters))
    }
    lines = {
        **_place(entry),
        "clip": index,
        **names,
        "label": fold.labels[at],
        "predicted": predicted,
        "correct": fold.labels[at] == predicted,
        **{f"logit_{k}": logits for k, logits in enumerate(answers.T)},
    }
    return pd.DataFrame(lines)[[*_PREDICTIONS, *(f"logit_{k}" for k in range(answers.shape[1]))]]


def _positions(wanted: Int64, index: Int64) -> Int64:
    order = np.argsort(index)
    return np.asarray(order[np.searchsorted(index, wanted, sorter=order)], np.int64)
