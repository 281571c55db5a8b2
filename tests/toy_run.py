"""A run with numbers that can be worked out by hand: 24 test clips of 12 people in two folds, variants `dense` (baseline) and `tt`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from fercompress.records import Block, BlockKey, Bundle, Clips, Fold, History, LeftOut, Pass, Size, Status
from fercompress.results.store import Store, Training

CLASSES = ("calm", "glad")
RECIPES: dict[str, list[dict]] = {"dense": [], "tt": [{"step": "tensor-train", "rank": 4, "start": "decompose"}]}
TESTS = {"a": np.arange(0, 12), "b": np.arange(12, 24)}
LABELS = np.array([0, 1, 1] * 10)
SIZES = {
    "dense": Size(0, 0, 2000, 2000, 500, 2600, 2600, 3000, 9000),
    "tt": Size(100, 1800, 250, 2000, 500, 850, 2600, 1000, 500),
}


def clips() -> Clips:
    names = tuple(f"c{i}" for i in range(30))
    people = tuple(f"p{i // 2}" for i in range(30))
    frames = np.zeros((30, 2, 4, 4), np.uint8)
    return Clips("toy", frames, LABELS, CLASSES, names, people, people, names, (0,) * 30, "f" * 64, False, (LeftOut("c99", "no face"),))


def folds() -> list[Fold]:
    rest = np.arange(24, 30)
    return [Fold(name, np.setdiff1d(np.arange(24), test), rest, test) for name, test in TESTS.items()]


def study(seeds=(0,), rounds=6, passes=("accuracy", "latency", "memory", "power")) -> dict:
    return {
        "name": "toy", "title": "A toy", "seeds": list(seeds), "targets": ["localhost"], "baseline": "dense",
        "measure": {"rounds": rounds, "passes": list(passes)}, "variants": [{"name": name, "recipe": recipe} for name, recipe in RECIPES.items()],
    }  # fmt: skip


def key(variant, pass_, seed=0, fold="a", round_=0, position=0) -> BlockKey:
    return BlockKey(variant, "localhost", pass_, seed, fold, round_, position, "s")


def sha256(variant, seed=0, fold="a") -> str:
    return f"{variant}-{seed}-{fold}"


def accuracy_block(variant, seed, fold, wrong=()) -> Block:
    """wrong: the clips (rows) that are answered with the other class."""
    index = TESTS[fold]
    answers = np.where(np.isin(index, wrong), 1 - LABELS[index], LABELS[index])
    return Block(
        key(variant, Pass.ACCURACY, seed, fold), sha256(variant, seed, fold), Status.OK, logits=np.eye(2, dtype=np.float32)[answers], clip_index=index
    )


def latency_block(variant, round_, half, clip_us=100, predictor_us=40, clips=16, **facts) -> Block:
    extractor, predictor = (clip_us - predictor_us) * 1000, predictor_us * 1000
    position = half if variant == "dense" else 3 - half  # of two variants; the second half mirrors the first
    return Block(
        key(variant, Pass.LATENCY, 0, "a", round_, position), sha256(variant), Status.OK, "",
        (extractor,) * clips, (predictor,) * clips, (clip_us * 1000,) * clips, (extractor // 2,) * 2 * clips, facts=facts,
    )  # fmt: skip


def memory_block(variant, peak=5000, round_=0) -> Block:
    steps = {"interpreter": 1000, "runtime": 2000, "model": 3000, "peak": peak, "model_anonymous": 1800, "model_file": 1200}
    steps |= {"peak_anonymous": peak - 1500, "peak_file": 1400}
    return Block(key(variant, Pass.MEMORY, round_=round_), sha256(variant), Status.OK, memory_bytes=steps)


def measured_power(variant, **figures) -> Block:
    """A load of 60 s at 5 W over an idle of 2 W, ten clips a second of sixteen frames, unless said otherwise."""
    power = {
        "power_w": 5.0, "idle_w": 2.0, "idle_before_w": 2.0, "idle_after_w": 2.0, "net_w": 3.0, "energy_per_clip_j": 0.5,
        "energy_per_clip_net_j": 0.3, "energy_per_inference_j": 0.03125, "energy_per_inference_net_j": 0.01875, "clips": 600, "seconds": 60.0,
        "samples": 30000, "rate_hz": 500.0, "gap_s": 0.002, "counter": 0, **figures,
    }  # fmt: skip
    facts = {"power_source": "hwmon", "power_side": "board", "power_scope": "what flows through ina219: power1_input"}
    return Block(key(variant, Pass.POWER), sha256(variant), Status.OK, power=power, facts=facts)


def power_block(variant, watts=None, reason="n/a: no sensor found") -> Block:
    return Block(key(variant, Pass.POWER), sha256(variant), Status.OK, "" if watts else reason, power={"power_w": watts} if watts else {})


def failed(block: Block, reason="the agent was killed") -> Block:
    return Block(block.key, block.bundle_sha256, Status.FAILED, reason)


def record_head(store: Store, the_study: dict, *, ranks_vary: bool = False) -> None:
    """Everything but the blocks; ranks_vary: every bundle has a graph of its own."""
    store.record_study(the_study)
    store.record_clips(clips(), folds())
    for variant, size in SIZES.items():
        for seed in the_study["seeds"]:
            for fold in TESTS:
                manifest = {
                    "graph_key": f"{variant} {fold}" if ranks_vary else variant,
                    "way": f"way of {variant}", "size": dataclasses.asdict(size), "recipe": RECIPES[variant],
                    "engine": "onnxruntime", "opset": 17, "made_with": {"torch": "2"}, "layers": [],
                    "files": {"extractor.onnx": {"bytes": size.bytes_extractor}, "predictor.onnx": {"bytes": size.bytes_predictor}},
                }  # fmt: skip
                bundle = Bundle(Path("bundles"), sha256(variant, seed, fold), variant, "onnxruntime", manifest, size)
                store.record_bundle(bundle, seed, fold, timed=(seed, fold) == (the_study["seeds"][0], "a"))
                epoch_s = (0.1, 0.1) if variant == "dense" else (0.2, 0.3)
                history = History((1.0, 0.5), (0.5 + seed / 10, 0.4), epoch_s, 0)
                store.record_training(
                    Training(variant, seed, fold, f"way of {variant}", history, 0.25, best_epoch_accuracy=0.85, last_epoch_accuracy=0.75)
                )


def record_blocks(store: Store, the_study: dict, wrong=(3, 4)) -> None:
    """`dense` is right on every clip, `tt` wrong on `wrong`; `tt` is twice as fast in the predictor in every round."""
    for seed in the_study["seeds"]:
        for fold in TESTS:
            store.record(accuracy_block("dense", seed, fold))
            store.record(accuracy_block("tt", seed, fold, wrong))
    for round_ in range(the_study["measure"]["rounds"]):
        for half in (0, 1):
            store.record(latency_block("dense", round_, half, 100 + round_ % 3, 40))
            store.record(latency_block("tt", round_, half, 80 + round_ % 3, 20))
    for variant in SIZES:
        store.record(memory_block(variant))
        store.record(power_block(variant))
