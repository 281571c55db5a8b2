"""Does `fercompress search` find more than a grid in the same time? Both arms make variants from one teacher, by the study's own rule.

    python benchmarks/search_against_grid.py --out DIR [--study default] [--minutes 20] [--seeds 3] [--data-root DIR] [--set KEY=VALUE]

The grid is ranks x bits, data-aware, on the teacher's own extractor: all bonds alike, 32, 8 and 4 bits in both parts; ranks 1, 2, 3, 4, 6, 8, 12, 16
first, then what lies between and above, until the minutes are over. Each arm works in a folder of its own, and its minutes are of all that it does
after the teacher is trained: low-rank extractors, features, trainings, export and validation. A variant counts if it was finished in time.

prints JSON: per seed each arm's front and its hypervolume: the area between what its variants reach and a worst point, in points of validation
accuracy (of the exported bundle, rounding included) times decades of stored bytes. The worst point is FLOOR below the baseline's accuracy, at its
bytes; it was set before the first run. The best of many trials is too high by luck on validation data, in both arms: test data tells what a front is
worth. A seed is a sample: teacher, trainings and proposals have it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from fercompress import choice, config, searching, stats, studyfile
from fercompress.errors import InputError
from fercompress.progress import Reporter
from fercompress.search import optimise
from fercompress.search.trial import Budget
from fercompress.study import Request, preparing

RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 5, 10, 7, 14, 20, 9, 11, 13, 18)
BITS = (32, 8, 4)
FLOOR = 0.05  # share: who loses more than five points has not compressed the model

Point = tuple[float, int]  # validation accuracy, stored bytes


def grid() -> Iterator[config.Variant]:
    """Rank by rank, so that variants of one training follow each other."""
    for rank, bits in itertools.product(RANKS, BITS):
        rounding = [{"step": "quantize", "part": part, "bits": bits} for part in ("extractor", "predictor") if bits < 32]
        recipe = ({"step": "tensor-train", "rank": rank, "start": "data-aware"}, *rounding)
        yield config.Variant.model_validate({"name": f"tt-r{rank}-{bits}", "recipe": recipe})


def front_of(points: list[Point]) -> list[Point]:
    return sorted({p for p in points if not any(q != p and q[0] >= p[0] and q[1] <= p[1] for q in points)}, key=lambda point: point[1])


def volume(points: list[Point], baseline: Point) -> float:
    """In points of accuracy times decades of bytes."""
    placed = [(100 * accuracy, math.log10(size)) for accuracy, size in points]
    return stats.hypervolume(placed, (100 * (baseline[0] - FLOOR), math.log10(baseline[1])))


def in_time(bench: searching.TrialBench, seconds: float, clock: Callable[[], float] = time.monotonic) -> dict[str, Point]:
    start, found = clock(), {}
    for variant in grid():
        point = bench.whole(variant)
        if clock() - start > seconds:
            break
        found[variant.name] = point
    return found


def searched(bench: searching.TrialBench, out: Path, study: config.Study, seconds: float, seed: int, margin: float) -> dict[str, Point]:
    """The clock is of the whole arm, not of the trials' own seconds alone."""
    start = time.monotonic()
    found: dict[str, Point] = {}

    def told(ended: Any, _: Any) -> None:
        if ended.whole and time.monotonic() - start <= seconds:
            found[ended.name] = (ended.validation_accuracy, ended.stored_bytes)

    wish = optimise.Wish(seconds, None, seed, Budget(), margin)
    optimise.search(bench.space(), bench, out / "search.jsonl", wish, searching.others(study), told)
    return found


def seed_row(study: config.Study, out: Path, seed: int, minutes: float, data_root: Path | None, tell: Reporter) -> dict[str, Any]:
    one = study.model_copy(update={"seeds": (seed,)})
    arms: dict[str, dict[str, Point]] = {}
    baseline: Point | None = None
    teacher = out / f"seed-{seed}-teacher"
    with preparing(Request(searching.alone(one), teacher, data_root), tell) as prepared:
        baseline = searching.TrialBench(prepared, tell).whole(searching.alone(one).variants[0])
        validated = len(prepared.folds[0].validation)
    margin = choice.standard_error(baseline[0], baseline[0], validated)
    for arm in ("grid", "search") if seed % 2 else ("search", "grid"):  # neither is always the first
        folder = out / f"seed-{seed}-{arm}"
        shutil.rmtree(folder, ignore_errors=True)
        for path in teacher.glob("work/teacher-*"):
            shutil.copytree(path, folder / "work" / path.name)
        with preparing(Request(searching.alone(one), folder, data_root), tell) as prepared:
            bench = searching.TrialBench(prepared, tell)
            arms[arm] = in_time(bench, 60 * minutes) if arm == "grid" else searched(bench, folder, one, 60 * minutes, seed, margin)
            bench.clear()
    volumes = {arm: volume(list(points.values()), baseline) for arm, points in arms.items()}
    return {
        "seed": seed, "baseline": baseline, "validation_clips": validated, "hypervolume": volumes,
        "ratio": volumes["search"] / volumes["grid"] if volumes["grid"] else None,
        "variants": {arm: len(points) for arm, points in arms.items()},
        "front": {arm: front_of(list(points.values())) for arm, points in arms.items()},
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--study", default="default", help="a shipped study or a study file")
    parser.add_argument("--minutes", type=float, default=20.0, help="of each arm and seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="that torch computes with, in both arms")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--set", dest="wishes", action="append", default=[], metavar="KEY=VALUE", help="as in `fercompress run`")
    wanted = parser.parse_args(arguments)
    torch.set_num_threads(wanted.threads)
    try:
        study = studyfile.load_study(wanted.study, wanted.wishes)
        with Reporter(Console(stderr=True)) as tell:
            rows = [seed_row(study, wanted.out, seed, wanted.minutes, wanted.data_root, tell) for seed in range(wanted.seeds)]
    except InputError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    ratios = [row["ratio"] for row in rows if row["ratio"]]
    told = {"study": study.name, "minutes": wanted.minutes, "threads": wanted.threads, "floor": FLOOR, "ratios": ratios, "rows": rows}
    print(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
