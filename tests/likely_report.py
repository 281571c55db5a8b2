"""A report's input as the default study gives it: eight variants, figures of a likely size, 1500 clips; more variants and targets where asked for."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pandas as pd

from fercompress.records import Doubt
from fercompress.report import ReportInput

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
    ("small-dense-int8", [{"step": "small-dense", "bytes_of": "tt-r4-int8"}, *INT8], 0.948, 0.939, 88_210, 44_900, 40_100, 5.2, 0.5),
]


def build(simulated: bool = True, rename: dict[str, str] | None = None) -> ReportInput:
    """A finished run of the default study's eight variants, with figures of a likely size."""
    random = np.random.default_rng(5)
    rename = rename or {}
    n, dense = 1500, VARIANTS[0]
    labels = random.choice(7, n, p=[0.14, 0.06, 0.18, 0.08, 0.21, 0.09, 0.24])
    rows, timings, predictions, recipes, manifests = [], [], [], {}, {}
    for name, recipe, accuracy, validation, extractor, predictor, lstm, extractor_ms, predictor_ms in VARIANTS:
        name, half = rename.get(name, name), 1.96 * (accuracy * (1 - accuracy) / n) ** 0.5
        reasons = {"power_w": NO_POWER}
        tt = lstm if any(step["step"] == "tensor-train" for step in recipe) else None
        if tt is None:
            reasons["ratio_tt_params"] = "nothing is in tensor-train form"
        drop = 100 * (dense[2] - accuracy)
        row = {
            "variant": name, "target": "localhost", "accuracy": accuracy, "accuracy_ci95": [accuracy - half, accuracy + half], "n_clips": n,
            "chance": 1 / 7, "majority_share": 0.24, "seeds": 1, "accuracy_drop": drop, "accuracy_drop_limit95": drop + 0.4,
            "accuracy_last_epoch": accuracy - 0.002, "validation_accuracy": validation, "way_text": "trained",
            "way": "decomposed" if tt else "control" if "bytes_of" in str(recipe) or "bottleneck" in str(recipe) else "as-trained",
            "tt_rank": recipe[0]["rank"] if tt else None, "extractor_bits": 8 if "quantize" in str(recipe) else 32,
            "predictor_bits": 8 if "quantize" in str(recipe) else 32,
            "train_epoch_s": 2.2 if tt else 3.1, "train_epochs": 20, "train_total_s": 44.0, "time_to_dense_s": 30.0 if tt else None,
            "params": 72_000 + lstm, "params_lstm": lstm, "params_tt": tt or 0,
            "params_dense": 72_000 + dense[6], "params_lstm_dense": dense[6], "params_tt_dense": dense[6] if tt else 0,
            "stored_bytes": extractor + predictor, "bytes_extractor": extractor, "bytes_predictor": predictor,
            "ratio_tt_params": tt and dense[6] / tt, "ratio_lstm_params": dense[6] / lstm,
            "ratio_model_params": (72_000 + dense[6]) / (72_000 + lstm), "ratio_model_bytes": (dense[4] + dense[5]) / (extractor + predictor),
            "memory_interpreter_bytes": 11_200_000, "memory_runtime_bytes": 71_400_000, "memory_model_bytes": 78_000_000 + extractor + predictor,
            "memory_peak_bytes": 90_000_000 + int(1.3 * (extractor + predictor)), "power_w": None, "power_reason": NO_POWER,
            "blocks": 12, "timed_clips": 480, "doubts": [Doubt.ONE_SEED.value], "reasons": reasons,
        }  # fmt: skip
        row["doubts"] += [Doubt.SIMULATED.value] * simulated + [Doubt.NOISY.value] * (name == "tt-r8")
        for stage, milliseconds in {"extractor": extractor_ms, "predictor": predictor_ms, "clip": extractor_ms + predictor_ms}.items():
            base = {"extractor": dense[7], "predictor": dense[8], "clip": dense[7] + dense[8]}[stage]
            row |= {f"latency_{stage}_p50_ns": milliseconds * 1e6, f"latency_{stage}_p90_ns": milliseconds * 1.06e6}
            row |= {f"speedup_{stage}": base / milliseconds, f"speedup_{stage}_ci95": [base / milliseconds * 0.97, base / milliseconds * 1.02]}
        rows.append(row)
        for round_, position in itertools.product(range(6), (0, 15)):
            shape = (1 + 0.01 * np.sin(7 * round_ + position)) * (0.985 + random.gamma(1.2, 0.02, 40))
            a, b = extractor_ms * 1e6 * shape, predictor_ms * 1e6 * shape
            place = {"variant": name, "target": "localhost", "round": round_, "position": position}
            timings.append(pd.DataFrame({**place, "extractor_ns": a, "predictor_ns": b, "clip_ns": a + b}))
        wrong = random.random(n) > accuracy
        answers = np.where(wrong, (labels + random.integers(1, 3, n)) % 7, labels)
        predictions.append(pd.DataFrame({
            "variant": name, "target": "localhost", "seed": 0, "fold": "only", "clip_id": [f"c{i}" for i in range(n)],
            "cluster": [f"s{i // 10}" for i in range(n)], "label": labels, "predicted": answers,
        }))  # fmt: skip
        recipes[name] = recipe
        manifests[name] = {
            "variant": name, "engine": "onnxruntime", "opset": 17, "recipe": recipe, "made_with": {"torch": "2.13", "onnxruntime": "1.24"},
            "way": "decomposed, fine-tuned with distillation" if recipe else "trained",
            "layers": [{"name": "lstm.input", "kind": "tensor-train", "shape": [4096, 1024], "ranks": [1, 4, 1], "params": lstm, "bits": 32}],
        }  # fmt: skip
    return ReportInput(
        study="default", title="Posed synthetic expressions, small model", created_utc="2026-01-05T10:00:00Z",
        baseline=rename.get("dense-fp32", "dense-fp32"), rows=rows, recipes=recipes, manifests=manifests,
        timings=pd.concat(timings), predictions=pd.concat(predictions),
        data={
            "name": "synthetic", "simulated": simulated, "fingerprint": "5e" * 32, "classes": CLASSES, "left_out": 0,
            "folds": [{"name": "only", "train": 1200, "validation": 3000, "test": 1500}],
        },
        host={"localhost": {"cpu": "Example CPU, 2 cores", "python": "3.11.2", "onnxruntime": "1.24.1", "clock": {"before_mhz": 2600}}},
        settings={"rounds": 6, "block_clips": 16, "threads": 1},
        faults=[{"variant": "tt-r2", "target": "localhost", "pass": "latency", "status": "excluded", "reason": "the machine was suspended"}],
    )  # fmt: skip


def beside(given: ReportInput, target: str, slower: float) -> ReportInput:
    """The same run on a second target too, `slower` times slower, where memory and energy are not measured."""
    there = []
    for row in given.rows:
        times = {key: value * slower for key, value in row.items() if key.startswith("latency_") and value}
        why = {"memory_peak_bytes": "the board does not tell it"}
        there.append(dict(row) | times | {"target": target, "memory_peak_bytes": None, "reasons": dict(row["reasons"]) | why})
    columns = ["extractor_ns", "predictor_ns", "clip_ns"]
    timings = given.timings.assign(target=target, **{column: given.timings[column] * slower for column in columns})
    return dataclasses.replace(
        given, rows=[*given.rows, *there], timings=pd.concat([given.timings, timings]),
        predictions=pd.concat([given.predictions, given.predictions.assign(target=target)]),
    )  # fmt: skip


def many(given: ReportInput, count: int) -> ReportInput:
    """The same run with as many variants: beyond its own they are copies under other names, a little larger each."""
    rows, timings, predictions = list(given.rows), [given.timings], [given.predictions]
    recipes, manifests = dict(given.recipes), dict(given.manifests)
    for number in range(len(given.recipes), count):
        old = VARIANTS[number % len(VARIANTS)][0]
        new = f"{old}-copy-{number}"
        larger = 1 + number / 20
        rows += [dict(row) | {"variant": new, "stored_bytes": int(row["stored_bytes"] * larger)} for row in given.rows if row["variant"] == old]
        timings.append(given.timings[given.timings["variant"] == old].assign(variant=new))
        predictions.append(given.predictions[given.predictions["variant"] == old].assign(variant=new))
        recipes[new], manifests[new] = given.recipes[old], {**given.manifests[old], "variant": new}
    return dataclasses.replace(
        given, rows=rows, timings=pd.concat(timings), predictions=pd.concat(predictions), recipes=recipes, manifests=manifests
    )  # fmt: skip
