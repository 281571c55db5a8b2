"""Is it the motion that a study's model reads? The same network, trained alike, on one frame of every clip beside the whole clips.

    python benchmarks/frame_controls.py --study default [--seeds 3] [--data-root DIR] [--set KEY=VALUE] [--quick]

prints JSON: for the whole clip, its first frame alone and its apex alone (the frame farthest from the first), test accuracy with a 95 % interval over
subjects and the points that the whole clip gains. Every network is trained by the study's own rule; the epoch is chosen from the validation clips.
With `difference = true` a clip of one frame has an empty second channel: no second picture helps.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fercompress import config, stats, studyfile
from fercompress.data import source
from fercompress.errors import InputError
from fercompress.model import inference, train, zoo
from fercompress.records import Clips, Fold, Int64

QUICK = {
    "synthetic": ("data.train_clips=240", "data.validation_clips=60", "data.test_clips=300", "train.epochs=5"),
    "gfe": ("train.epochs=10",),
}  # to see the script work: too few to conclude anything from


def apex(clips: Clips) -> Int64:
    """int64 (N,): the frame of each clip that differs most from its first, by the mean absolute difference of the pixels; no label takes part."""
    return np.array([np.abs(clip.astype(np.int16) - clip[:1]).mean(axis=(1, 2)).argmax() for clip in clips.frames], dtype=np.int64)


def one_frame(clips: Clips, which: Int64) -> Clips:
    """The clips cut down to one frame each; which: int64 (N,)"""
    return replace(clips, frames=np.ascontiguousarray(clips.frames[np.arange(len(clips)), which][:, None]))


SEEN: dict[str, Callable[[Clips], Clips]] = {
    "whole clip": lambda clips: clips,
    "first frame": lambda clips: one_frame(clips, np.zeros(len(clips), np.int64)),
    "apex frame": lambda clips: one_frame(clips, apex(clips)),
}


def right(clips: Clips, fold: Fold, study: config.Study, seed: int) -> np.ndarray[Any, Any]:
    """bool (len(fold.test),): which test clips a network is right about that was trained on what is left of the clips."""
    preprocess = train.preprocess_for(clips, fold, study.data.difference)
    frames, size = clips.frames.shape[1:3]
    network = zoo.build(study.model, preprocess.channels, size, frames, len(clips.classes), study.train.dropout, seed)
    with tempfile.TemporaryDirectory() as folder:
        trained = train.fit(network, clips, fold, preprocess, study.train, seed, Path(folder) / "checkpoint", lambda *_: None)
    nn.ModuleDict({"extractor": network.extractor, "predictor": network.predictor}).load_state_dict(trained.best)
    logits = inference.predict(network, clips.frames[fold.test], preprocess)
    return np.asarray(logits.argmax(1) == clips.labels[fold.test])


def compare(study: config.Study, clips: Clips, folds: list[Fold], tell: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """The report, ready for JSON."""
    tested = np.unique(np.concatenate([fold.test for fold in folds]))
    clusters = [clips.clusters[row] for row in tested]
    scores: dict[str, np.ndarray[Any, Any]] = {}
    for name, cut in SEEN.items():
        seen = cut(clips)
        scores[name] = np.full((len(study.seeds), len(clips)), np.nan)
        for index, seed in enumerate(study.seeds):
            for fold in folds:
                scores[name][index, fold.test] = right(seen, fold, study, seed)
                tell(f"{name}, seed {seed}, fold {fold.name}: {scores[name][index, fold.test].mean():.1%}")
    whole = stats.seed_mean(scores["whole clip"][:, tested])
    rows = []
    for name, of_all in scores.items():
        accuracy = stats.seed_mean(of_all[:, tested])
        low, high = stats.accuracy_interval(of_all[:, tested], clusters)
        rows.append(
            {"seen": name, "accuracy": accuracy, "accuracy_ci95": [low, high], "accuracy_per_seed": np.nanmean(of_all[:, tested], axis=1).tolist(),
             "whole_clip_gains_points": 100 * (whole - accuracy)}
        )  # fmt: skip
    counts = np.bincount(clips.labels[tested], minlength=len(clips.classes))
    return {
        "study": study.name, "data": study.data.model_dump(mode="json"), "epochs": study.train.epochs, "seeds": list(study.seeds),
        "test_clips": len(tested), "clusters": len(set(clusters)), "chance": 1 / len(clips.classes),
        "largest_class": float(counts.max() / counts.sum()), "rows": rows,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="default", help="a shipped study or a study file")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--set", dest="wishes", action="append", default=[], metavar="KEY=VALUE", help="as in `fercompress run`")
    parser.add_argument("--quick", action="store_true", help="few clips and epochs: to see it work, not to conclude")
    wanted = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        name = studyfile.load_study(wanted.study).data.name
        study = studyfile.load_study(wanted.study, [*(QUICK[name] if wanted.quick else ()), *wanted.wishes])
        study = studyfile.restricted(study, (), (), wanted.seeds)
        with tempfile.TemporaryDirectory() as cache:
            clips = source.load(study.data, wanted.data_root, Path(cache))
            folds = source.SOURCES[study.data.name].folds(study.data, clips)
            report = compare(study, clips, folds, lambda line: print(line, file=sys.stderr, flush=True))
    except InputError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps({**report, "quick": wanted.quick}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
