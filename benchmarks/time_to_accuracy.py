"""How long until a predictor in tensor-train form is as good as the dense one? Both are trained on the same cached features, by the study's own rule.

    python benchmarks/time_to_accuracy.py --out DIR [--study default] [--seeds 3] [--rank 4] [--data-root DIR] [--set KEY=VALUE]

prints JSON: per seed the dense predictor's validation accuracy at the epoch that the study's rule chooses, and the seconds (epochs) until each
contestant first reached it: `dense` and `from-scratch` start at random, `decompose` and `data-aware` at the teacher's matrices, as a study's variants
do. Contestants take turns in random order, one thread. The teacher is trained in DIR, or found there. One seed is a sample; the interval over
seeds is the exact Wilcoxon one (six seeds are its least number).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from fercompress import config, stats, studyfile
from fercompress.compress import distill, recipe
from fercompress.data import source
from fercompress.desk import Desk
from fercompress.errors import InputError
from fercompress.extraction import Extraction
from fercompress.making import Maker
from fercompress.model import inference, train
from fercompress.model.predictor import LstmPredictor
from fercompress.progress import Reporter
from fercompress.records import Fold, History, Int64
from fercompress.tt.place import only_lstm
from fercompress.workspace import Workspace

DENSE = "dense"
CONTESTANTS = (DENSE, *recipe.WAYS)


def seconds_until(history: History, accuracy: float) -> tuple[float, int] | None:
    """Seconds and epochs of training until a validation accuracy was first reached, or None."""
    for epoch, found in enumerate(history.validation_accuracy):
        if found >= accuracy:
            return sum(history.epoch_s[: epoch + 1]), epoch + 1
    return None


def contest(study: config.Study, maker: Maker, seed: int, fold: Fold, rank: int, tell: Reporter) -> dict[str, Any]:
    """One seed's row."""
    teacher = maker.teacher(seed, fold)
    extraction = Extraction(Desk(maker.workspace, study, maker.clips, teacher, tell, maker.name(seed, fold)), None)
    features = extraction.features
    answers = torch.from_numpy(inference.logits_of(teacher.network.predictor, features.train))
    labels = torch.from_numpy(features.train_labels)
    states = inference.states_of(teacher.network.predictor, features.train)
    rows = np.linspace(0, len(features.train) - 1, min(1000, len(features.train))).astype(int)
    context = recipe.Context(
        feature_map=extraction.feature_map, classes=len(maker.clips.classes), dropout=study.train.dropout,
        byte_budget=lambda _: 0, predictor_bytes=lambda *_: 0,
        samples=lambda: (inference.rows_of(features.train, rows).flatten(0, 1), torch.from_numpy(states[rows, :-1]).float().flatten(0, 1)),
        validation_loss=lambda _: 0.0,
    )  # fmt: skip

    def loss(logits: Tensor, _states: Tensor, of: Int64) -> Tensor:
        return distill.loss(
            logits, labels[of], answers[of], weight=study.fine_tune.distill, temperature=study.fine_tune.temperature,
            class_weights=train.class_weights(labels.numpy(), len(maker.clips.classes)),
        )  # fmt: skip

    def start(name: str) -> nn.Module:
        torch.manual_seed(seed)
        lstm = only_lstm(teacher.network.predictor)[1]
        if name == DENSE:
            return LstmPredictor(lstm.input_size, lstm.hidden_size, len(maker.clips.classes), study.train.dropout)
        variant = config.Variant(name=name, recipe=(config.TensorTrain(step="tensor-train", rank=rank, start=name),))  # type: ignore[arg-type]
        return recipe.apply(variant, teacher.network.predictor, context, lambda predictor: predictor)[0]

    histories: dict[str, History] = {}
    for name in random.Random(seed).sample(CONTESTANTS, len(CONTESTANTS)):
        with tempfile.TemporaryDirectory() as folder, tell.stage(f"train {name} (seed {seed})", study.fine_tune.epochs) as bar:
            histories[name] = train.fit_predictor(
                start(name), features, study.fine_tune, loss, seed, Path(folder) / "checkpoint", lambda done, of, _history: bar.done(done, of)
            ).history
    target = histories[DENSE].validation_accuracy[histories[DENSE].best_epoch]
    reached = {name: seconds_until(history, target) for name, history in histories.items()}
    return {
        "seed": seed, "validation_accuracy": target, "validation_clips": len(features.validation_labels),
        "seconds": {name: found and found[0] for name, found in reached.items()},
        "epochs": {name: found and found[1] for name, found in reached.items()},
        "epoch_s": {name: float(np.median(history.epoch_s)) for name, history in histories.items()},
        "best_validation_accuracy": {name: max(history.validation_accuracy) for name, history in histories.items()},
    }  # fmt: skip


def ratios(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Per contestant: its seconds / the dense predictor's, median over the seeds that reached the accuracy, with what interval there is."""
    found = {}
    for name in CONTESTANTS[1:]:
        logs = [float(np.log(row["seconds"][name] / row["seconds"][DENSE])) for row in rows if row["seconds"][name] and row["seconds"][DENSE]]
        interval = stats.signed_rank_interval(logs) if logs else None
        found[name] = {
            "ratio": float(np.exp(np.median(logs))) if logs else None, "seeds_that_reached_it": len(logs), "of": len(rows),
            "ci95": None if interval is None else [float(np.exp(end)) for end in interval],
        }  # fmt: skip
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the teachers")
    parser.add_argument("--study", default="default", help="a shipped study or a study file")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--set", dest="wishes", action="append", default=[], metavar="KEY=VALUE", help="as in `fercompress run`")
    wanted = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        study = studyfile.restricted(studyfile.load_study(wanted.study, wanted.wishes), (), (), wanted.seeds)
        workspace = Workspace(wanted.out)
        with workspace.locked(), Reporter(Console(stderr=True)) as tell:
            clips = source.load(study.data, wanted.data_root, workspace.root / "work")
            folds = source.SOURCES[study.data.name].folds(study.data, clips)
            maker = Maker(workspace, study, clips, folds, tell)
            rows = [contest(study, maker, seed, fold, wanted.rank, tell) for seed, fold in maker.cells()]
    except InputError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps({"study": study.name, "rank": wanted.rank, "threads": 1, "ratios": ratios(rows), "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
