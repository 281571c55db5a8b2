"""The plain yardstick for the GFE study: an LSTM that reads the 200 normalised coordinates themselves, in the study's own folds.

    python benchmarks/gfe_coordinates.py --data-root DIR [--protocol contiguous|modulo] [--seeds 3]

prints JSON: accuracy pooled over the folds for every seed, their mean, and what was trained how. Clips and folds are the study's;
the epoch is chosen from the validation clips by the study's own rule, and the test part chooses nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fercompress.data import folds, gfe
from fercompress.dataconfig import GfeData
from fercompress.errors import InputError
from fercompress.model.optimise import best_epoch
from fercompress.records import Float32, Fold, Int64
from fercompress.studyfile import load_study

CUT = {"contiguous": folds.contiguous, "modulo": folds.modulo}


class CoordinateLstm(nn.Module):
    """float32 (B, T, 200) -> logits (B, classes)"""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(200, hidden, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, moves: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(moves)
        return self.classifier(self.dropout(states[:, -1]))


def tested(moves: Float32, labels: Int64, fold: Fold, hidden: int, epochs: int, seed: int) -> dict[str, int]:
    """Train on one fold; how many test clips are right, at the epoch that the validation clips choose and at the last."""
    torch.manual_seed(seed)
    inputs, targets = torch.from_numpy(moves / moves[fold.train].std()), torch.from_numpy(labels)
    model = CoordinateLstm(hidden, int(labels.max()) + 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    train = torch.from_numpy(fold.train)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, epochs=epochs, steps_per_epoch=-(-len(train) // 16))
    validated, right = [], []
    for _ in range(epochs):
        model.train()
        for batch in train[torch.randperm(len(train))].split(16):
            optimiser.zero_grad()
            functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimiser.step()
            schedule.step()
        model.eval()
        with torch.inference_mode():
            hits = model(inputs).argmax(1) == targets
        validated.append(float(hits[fold.validation].float().mean()))
        right.append(int(hits[fold.test].sum()))
    return {"best": right[best_epoch(validated, len(fold.validation))], "last": right[-1]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--protocol", choices=sorted(CUT), default="contiguous")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = load_study("gfe").data
    assert isinstance(config, GfeData)
    try:
        moves, clips = gfe.coordinates(config, arguments.data_root)
        cut = CUT[arguments.protocol](clips, config.folds)
    except InputError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    right = [
        [tested(moves, clips.labels, fold, arguments.hidden, arguments.epochs, 100 * seed + turn) for turn, fold in enumerate(cut)]
        for seed in range(arguments.seeds)
    ]
    clips_tested = sum(len(fold.test) for fold in cut)
    accuracy = {when: [sum(fold[when] for fold in seed) / clips_tested for seed in right] for when in ("best", "last")}
    report = {
        "model": f"LSTM({arguments.hidden}) on 200 coordinates, {arguments.epochs} epochs",
        "protocol": arguments.protocol,
        "folds": [{"name": fold.name, "train": len(fold.train), "validation": len(fold.validation), "test": len(fold.test)} for fold in cut],
        "clips": clips_tested,
        "chance": 1 / len(clips.classes),
        "seeds": arguments.seeds,
        "accuracy": float(np.mean(accuracy["best"])),
        "accuracy_per_seed": accuracy["best"],
        "accuracy_last_epoch_per_seed": accuracy["last"],
        "right_per_fold": [[fold["best"] for fold in seed] for seed in right],
    }
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
