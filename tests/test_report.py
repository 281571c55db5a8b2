"""The report: what a person and a script find in the folder that `render` writes."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt

from fercompress.errors import ResultsError
from fercompress.records import Doubt
from fercompress.report import ReportInput, render
from fercompress.report.story import pick, speed_words, tell

CLASSES = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")
TT = {"step": "tensor-train", "rank": 4, "hidden_rank": None, "part": "both", "layout": "asymmetric", "start": "decompose"}
INT8 = [{"step": "quantize", "part": part, "bits": 8, "calibration_clips": 32} for part in ("extractor", "predictor")]
NO_POWER = "no sensor found: looked for /sys/class/powercap/intel-rapl*"

# name, recipe, accuracy, validation accuracy, extractor bytes, predictor bytes, LSTM params, extractor ms, predictor ms
VARIANTS: list[tuple[str, list[dict[str, Any]], float, float, int, int, int, float, float]] = [
    ("dense-fp32", [], 0.962, 0.961, 291_340, 17_845_120, 4_457_472, 9.1, 6.6),
    ("dense-int8", INT8, 0.960, 0.959, 88_210, 4_480_760, 4_457_472, 5.2, 2.4),
    ("tt-r2", [TT | {"rank": 2}], 0.931, 0.936, 291_340, 62_410, 12_300, 9.1, 0.9),
    ("tt-r4", [TT], 0.958, 0.957, 291_340, 99_720, 21_540, 9.1, 1.05),
    ("tt-r8", [TT | {"rank": 8}], 0.961, 0.960, 291_340, 184_230, 42_620, 9.1, 1.5),
    ("tt-r4-int8", [TT, *INT8], 0.957, 0.956, 88_210, 44_310, 21_540, 5.2, 1.1),
    ("bottleneck-r4", [{"step": "bottleneck", "rank": 4}], 0.955, 0.954, 291_340, 2_120_400, 526_000, 9.1, 1.3),
    ("small-dense-int8", [{"step": "small-dense", "bytes_of": "tt-r4-int8"}, *INT8], 0.948, 0.949, 88_210, 44_900, 40_100, 5.2, 0.5),
]


def build(simulated: bool = True, rename: dict[str, str] | None = None) -> ReportInput:
    """A finished run of the default study's eight variants, with figures of a likely size."""
    random = np.random.default_rng(5)
    rename = rename or {}
    n, dense = 1500, VARIANTS[0]
    labels = random.choice(7, n, p=[0.14, 0.06, 0.18, 0.08, 0.21, 0.09, 0.24])
    rows, timings, predictions, manifests = [], [], [], {}
    for name, recipe, accuracy, validation, extractor, predictor, lstm, extractor_ms, predictor_ms in VARIANTS:
        name, half = rename.get(name, name), 1.96 * (accuracy * (1 - accuracy) / n) ** 0.5
        reasons = {"power_w": NO_POWER}
        speed = {}
        for stage, ratio in {
            "extractor": dense[7] / extractor_ms, "predictor": dense[8] / predictor_ms, "clip": (dense[7] + dense[8]) / (extractor_ms + predictor_ms),
        }.items():  # fmt: skip
            speed |= {f"speedup_{stage}": ratio, f"speedup_{stage}_ci95": [ratio * 0.96, ratio * 1.03]}
        tt = lstm if any(step["step"] == "tensor-train" for step in recipe) else None
        if tt is None:
            reasons["ratio_tt_params"] = "no matrix is in tensor-train form"
        peak = 92e6 + 1.3 * (extractor + predictor)
        rows.append({
            "variant": name, "target": "localhost", "accuracy": accuracy, "accuracy_ci95": [accuracy - half, accuracy + half], "n_clips": n,
            "chance": 1 / 7, "majority_share": 0.24, "params": 72_000 + lstm, "stored_bytes": extractor + predictor,
            "ratio_tt_params": tt and dense[6] / tt, "ratio_lstm_params": dense[6] / lstm, "ratio_model_params": (72_000 + dense[6]) / (72_000 + lstm),
            "ratio_model_bytes": (dense[4] + dense[5]) / (extractor + predictor), "latency_extractor_p50_ns": extractor_ms * 1e6,
            "latency_predictor_p50_ns": predictor_ms * 1e6, "latency_clip_p50_ns": (extractor_ms + predictor_ms) * 1e6,
            "latency_clip_p90_ns": (extractor_ms + predictor_ms) * 1.12e6, **speed, "memory_interpreter_bytes": 11_200_000, "memory_runtime_bytes": 71_400_000,
            "memory_model_bytes": int(0.8 * peak) + 4_000_000, "memory_peak_bytes": int(peak), "power_w": None, "power_reason": NO_POWER, "blocks": 12, "timed_clips": 480, "bytes_extractor": extractor, "bytes_predictor": predictor,
            "train_epoch_s": 3.1 if tt is None else 2.2, "seeds": 1, "doubts": [Doubt.ONE_SEED.value, *([Doubt.SIMULATED.value] if simulated else []), *([Doubt.NOISY.value] if name == "tt-r8" else [])],
            "way": "trained", "accuracy_drop": 100 * (dense[2] - accuracy), "accuracy_drop_limit95": 100 * (dense[2] - accuracy) + 0.4, "accuracy_last_epoch": accuracy - 0.002,
            "validation_accuracy": validation, "reasons": reasons,
        })  # fmt: skip
        for round_ in range(6):
            for position in (0, 15):
                shape = random.normal(1, 0.02) * (1 + random.gamma(1.2, 0.03, 40))
                a, b = extractor_ms * 1e6 * shape, predictor_ms * 1e6 * shape
                timings.append(pd.DataFrame({"variant": name, "target": "localhost", "round": round_, "position": position, "extractor_ns": a, "predictor_ns": b, "clip_ns": a + b}))
        wrong = random.random(n) > accuracy
        answers = np.where(wrong, (labels + random.integers(1, 3, n)) % 7, labels)
        predictions.append(pd.DataFrame({
            "variant": name, "target": "localhost", "seed": 0, "fold": "only", "clip_id": [f"c{i}" for i in range(n)], "cluster": [f"s{i // 10}" for i in range(n)], "label": labels, "predicted": answers,
        }))  # fmt: skip
        manifests[name] = {
            "variant": name, "engine": "onnxruntime", "opset": 17, "recipe": recipe, "way": "decomposed, fine-tuned with distillation" if recipe else "trained", "made_with": {"torch": "2.13", "onnxruntime": "1.24"},
            "layers": [{"name": "lstm.input", "kind": "tensor-train", "shape": [4096, 1024], "ranks": [1, 4, 1], "params": lstm, "bits": 32}],
        }  # fmt: skip
    return ReportInput(
        study="default", title="Posed synthetic expressions, small model", created_utc="2026-01-05 10:00 UTC", baseline=rename.get("dense-fp32", "dense-fp32"),
        rows=rows, timings=pd.concat(timings), predictions=pd.concat(predictions), manifests=manifests,
        data={"name": "synthetic", "simulated": simulated, "fingerprint": "5e" * 32, "classes": CLASSES, "left_out": 0, "folds": [{"name": "only", "train": 1200, "validation": 300, "test": 1500}]},
        host={"localhost": {"cpu": "Example CPU, 2 cores", "python": "3.11.2", "onnxruntime": "1.24.1", "load_before": 0.03}},
        settings={"rounds": 6, "block_clips": 16, "threads": 1},
        faults=[{"variant": "tt-r2", "target": "localhost", "pass": "latency", "status": "excluded", "reason": "the machine was suspended during the block"}],
    )  # fmt: skip


if __name__ == "__main__":
    import sys
    import time

    started = time.perf_counter()
    print(len(render(build(), Path(sys.argv[1]))), f"{time.perf_counter() - started:.1f} s")
