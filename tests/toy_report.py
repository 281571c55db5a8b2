"""A report's input that can be worked out by hand: 40 clips of 20 people, one target, six rounds; variants, answers and times as given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fercompress.report import ReportInput

N = 40
LABELS = np.arange(N) % 2


def quantize(bits: int = 8) -> list[dict[str, Any]]:
    return [{"step": "quantize", "part": part, "bits": bits} for part in ("extractor", "predictor")]


def train(rank: int, start: str = "decompose") -> dict[str, Any]:
    return {"step": "tensor-train", "rank": rank, "part": "both", "layout": "asymmetric", "start": start}


def predictions(variant: str, wrong: Sequence[int], seeds: Sequence[int] = (0,)) -> pd.DataFrame:
    """Logits are 1 for the answer and 0 for the other class."""
    answers = np.where(np.isin(np.arange(N), wrong), 1 - LABELS, LABELS)
    return pd.concat(
        pd.DataFrame({
            "variant": variant, "target": "here", "seed": seed, "fold": "only", "clip_id": [f"c{i}" for i in range(N)],
            "cluster": [f"p{i // 2}" for i in range(N)], "label": LABELS, "predicted": answers, "logit_0": 1.0 - answers, "logit_1": answers * 1.0,
        })
        for seed in seeds
    )  # fmt: skip


def timings(variant: str, predictor_us: float, extractor_us: float = 100.0) -> pd.DataFrame:
    places = [(round_, position) for round_ in range(6) for position in (0, 1)]
    return pd.DataFrame({
        "variant": variant, "target": "here", "round": [round_ for round_, _ in places], "position": [position for _, position in places],
        "extractor_ns": extractor_us * 1e3, "predictor_ns": predictor_us * 1e3, "clip_ns": (extractor_us + predictor_us) * 1e3,
    })  # fmt: skip


def epochs(variant: str, validation_accuracy: Sequence[float], epoch_s: float, seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame({
        "variant": variant, "seed": seed, "fold": "only", "epoch": range(len(validation_accuracy)),
        "validation_accuracy": validation_accuracy, "epoch_s": epoch_s,
    })  # fmt: skip


def report(variants: Mapping[str, Mapping[str, Any]], **changes: Any) -> ReportInput:
    """variants: name -> {"recipe", "wrong" (clips), "stored_bytes", "predictor_us", ...further columns of the row}; the first is the baseline"""
    rows, recipes = [], {}
    for name, given in variants.items():
        recipe, wrong = list(given.get("recipe", [])), list(given.get("wrong", ()))
        step = next((step for step in recipe if step["step"] == "tensor-train"), None)
        bits = {step["part"]: step["bits"] for step in recipe if step["step"] == "quantize"}
        way = {"decompose": "decomposed"}.get(step["start"], step["start"]) if step else "as-trained"
        kinds = {step["step"] for step in recipe}
        accuracy = 1 - len(wrong) / N
        rows.append({
            "variant": name, "target": "here", "accuracy": accuracy, "accuracy_ci95": [accuracy - 0.05, min(1.0, accuracy + 0.05)], "n_clips": N,
            "majority_share": 0.5, "stored_bytes": 1000, "way": "control" if kinds & {"bottleneck", "small-dense"} else way,
            "tt_rank": step and step["rank"], "extractor_bits": bits.get("extractor", 32), "predictor_bits": bits.get("predictor", 32),
            "latency_clip_p50_ns": 1000 * (100 + given.get("predictor_us", 100)), "blocks": 12, "timed_clips": 12, "doubts": [], "reasons": {},
            **{key: value for key, value in given.items() if key not in ("recipe", "wrong", "predictor_us")},
        })  # fmt: skip
        recipes[name] = recipe
    settings: dict[str, Any] = {
        "study": "toy", "title": "", "created_utc": "2026-01-05T10:00:00Z", "baseline": next(iter(variants)), "rows": rows, "recipes": recipes,
        "timings": pd.concat([timings(name, given.get("predictor_us", 100)) for name, given in variants.items()]),
        "predictions": pd.concat([predictions(name, given.get("wrong", ())) for name, given in variants.items()]),
        "manifests": {}, "host": {}, "settings": {},
        "data": {
            "name": "toy", "simulated": False, "fingerprint": "0", "classes": ("calm", "glad"), "left_out": 0,
            "folds": [{"name": "only", "train": 10, "validation": 10, "test": N}],
        },
    }  # fmt: skip
    return ReportInput(**(settings | changes))
