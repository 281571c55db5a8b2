"""The columns of a summary row on how a variant came about: its recipe, its trainings' epochs and what they took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fercompress.results.facts import StoredBundle
from fercompress.results.row import Row
from fercompress.results.store import Training
from fercompress.results.tables import Tables

FLOAT_BITS = 32
WAYS = {"decompose": "decomposed", "from-scratch": "from-scratch", "data-aware": "data-aware"}  # a tensor-train step's start -> column `way`
CONTROLS = ("bottleneck", "small-dense", "retrain")
NPU_BITS = {"fp16": 16, "u8": 8}


def recipe(row: Row) -> None:
    """Short names of what the recipe did, so that rows can be sorted and drawn by them."""
    steps = _steps(row)
    if steps is None:
        row.lack("the recipe is not recorded", "way", "tt_rank", "extractor_bits", "predictor_bits")
        return
    train = next((step for step in steps if step["step"] == "tensor-train"), None)
    if train is None:
        row.lack("nothing is in tensor-train form", "tt_rank")
    elif isinstance(train["rank"], int):
        row.put(tt_rank=train["rank"])
    else:
        row.lack(f"ranks were chosen bond by bond, by {chosen_by(train['rank'])}: the layers list them", "tt_rank")
    row.put(way=_way(steps, train))
    bits = {
        step["part"]: NPU_BITS[step["npu"]] if step.get("npu") else step.get("mean_bits") or step.get("bits", 8)
        for step in steps
        if step["step"] == "quantize"
    }
    row.put(extractor_bits=bits.get("extractor", FLOAT_BITS), predictor_bits=bits.get("predictor", FLOAT_BITS))


def chosen_by(ranks: Mapping[str, Any]) -> str:
    """A step's table of a way to choose ranks, in words: "relative error 0.1"."""
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in ranks.items() if value is not None)


def _steps(row: Row) -> Sequence[Mapping[str, Any]] | None:
    """The recipe that the exported bundle names, else the study's."""
    bundle = row.tables.bundle(row.variant)
    if bundle is not None and "recipe" in bundle.manifest:
        found: Sequence[Mapping[str, Any]] = bundle.manifest["recipe"]
        return found
    return next((variant.get("recipe") for variant in row.tables.study["variants"] if variant["name"] == row.variant), None)


def _way(steps: Sequence[Mapping[str, Any]], train: Mapping[str, Any] | None) -> str:
    kinds = {step["step"] for step in steps}
    if kinds & set(CONTROLS):
        return "control"
    if train is not None:
        return WAYS[train.get("start", "decompose")]
    return "decomposed" if "low-rank" in kinds else "as-trained"


def training(row: Row) -> None:
    trainings = row.tables.trainings_of(row.variant)
    bundle = row.tables.bundle(row.variant)
    words = "; ".join(dict.fromkeys(each.way for each in trainings)) or (str(bundle.manifest.get("way", "")) if bundle else "")
    if words:
        row.put(way_text=words)
    else:
        row.lack("not recorded", "way_text")
    trainings = [each for each in trainings if each.history.train_loss]
    if not trainings:
        columns = (
            "train_epoch_s",
            "train_epochs",
            "train_total_s",
            "time_to_dense_s",
            "validation_accuracy",
            "accuracy_best_epoch",
            "accuracy_last_epoch",
        )
        row.lack(row.tables.study.get("lacking", {}).get("accuracy", "no training of its own"), *columns)
        return
    row.put(validation_accuracy=_mean(trainings, [each.history.validation_accuracy[each.history.best_epoch] for each in trainings]))
    seconds = [each.train_epoch_s for each in trainings if each.train_epoch_s is not None]
    if seconds:
        row.put(train_epoch_s=float(np.median(seconds)))
    else:
        row.lack("no epoch on cached features was timed", "train_epoch_s")
    _tested(row, trainings, "accuracy_best_epoch", [each.best_epoch_accuracy for each in trainings], "at the epoch that was kept")
    _tested(row, trainings, "accuracy_last_epoch", [each.last_epoch_accuracy for each in trainings], "after its last epoch")
    _durations(row, trainings, bundle)


def _tested(row: Row, trainings: Sequence[Training], column: str, found: Sequence[float | None], when: str) -> None:
    known = [share for share in found if share is not None]
    if len(known) == len(trainings):
        row.put(**{column: _mean(trainings, known, _test_clips(row.tables))})
    else:
        row.lack(f"not every training was tested {when}", column)


def _durations(row: Row, trainings: Sequence[Training], bundle: StoredBundle | None) -> None:
    """Of the training on cached features; the teacher's, which trains the extractor along, is named in the reason instead."""
    teachers = {(each.seed, each.fold): each.history for each in row.tables.trainings_of(row.baseline) if each.history.train_loss}
    own = [each for each in trainings if row.variant != row.baseline and each.history != teachers.get((each.seed, each.fold))]
    if not own:
        total = float(np.median([sum(each.history.epoch_s) for each in trainings]))
        row.lack(
            f"no training of its own: it is the dense teacher, whose training took {total:.3g} s, extractor included",
            "train_epochs", "train_total_s", "time_to_dense_s",
        )  # fmt: skip
        return
    if bundle is not None and all(step["step"] in ("low-rank", "quantize") for step in bundle.manifest.get("recipe", ())):
        total = float(np.median([sum(each.history.epoch_s) for each in own]))
        row.lack(f"its predictor was not trained; its extractor took {total:.3g} s", "train_epochs", "train_total_s", "time_to_dense_s")
        return
    row.put(
        train_epochs=float(np.median([len(each.history.epoch_s) for each in own])),
        train_total_s=float(np.median([sum(each.history.epoch_s) for each in own])),
    )
    known = [(each, teachers[each.seed, each.fold]) for each in own if (each.seed, each.fold) in teachers]
    if not known:
        row.lack(f"the training of the baseline {row.baseline} is not recorded", "time_to_dense_s")
        return
    reached = [seconds_to(each.history.validation_accuracy, each.history.epoch_s, max(teacher.validation_accuracy)) for each, teacher in known]
    times = [seconds for seconds in reached if seconds is not None]
    if len(times) == len(reached):
        row.put(time_to_dense_s=float(np.median(times)))
        return
    row.lack(f"{len(times)} of {len(reached)} trainings reached the dense teacher's best validation accuracy", "time_to_dense_s")


def seconds_to(validation_accuracy: Sequence[float], epoch_s: Sequence[float], wanted: float) -> float | None:
    """Seconds of training until the end of the first epoch whose validation accuracy is `wanted` or more; None where there is none."""
    for accuracy, passed_s in zip(validation_accuracy, np.cumsum(epoch_s), strict=True):
        if accuracy >= wanted:
            return float(passed_s)
    return None


def _mean(trainings: Sequence[Training], values: list[float], clips: Mapping[str, int] | None = None) -> float:
    """Over folds (each counts as much as its test clips, if given), then over seeds."""
    frame = pd.DataFrame(
        {"seed": [each.seed for each in trainings], "value": values, "weight": [(clips or {}).get(each.fold, 1) for each in trainings]}
    )
    sums = frame.assign(value=frame["value"] * frame["weight"]).groupby("seed")[["value", "weight"]].sum()
    return float((sums["value"] / sums["weight"]).mean())


def _test_clips(tables: Tables) -> dict[str, int]:
    return {fold.name: len(set(fold.clip_ids)) for fold in tables.clips.folds} if tables.clips else {}
