"""How often the gate's verdicts err, and what they find: seeded simulated runs, judged by the very code that judges measured ones.

    python -m verdict_simulation [--runs 2000] [--seed 1] [--out benchmarks/results/verdicts.json]   (a table beside it: verdicts.md)

A run is rounds of four blocks (ABBA or BAAB, by a coin) of two variants. A block has an offset (1 % standard deviation, autocorrelated from
block to block, half of it common to the stages), one block in a hundred is an outlier (10 to 30 % slower), and the whole run drifts (0, 3 or 8 %,
most of it early, as a board warms up). Within a block inferences are autocorrelated, and one in fifty straggles.
Accuracy: 300 clips of 20 persons, 7 classes, 3 seeds; a variant that has not changed answers one clip in twenty anew.
Beside the verdicts, on the same inferences: the rule "mean slower by 5 %" (pytest-benchmark's --benchmark-compare-fail=mean:5%) and a Mann-Whitney
test; and both once more where all blocks of A come before all of B, as runs against a stored baseline do.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats as distributions

from fercompress import stats
from fercompress.stats import Comparison, Direction, Looks, Outcome, Scale

Floats = npt.NDArray[np.float64]

NOISE = 0.01  # of blocks; of inferences within a block too
FROM_BLOCK_TO_BLOCK, WITHIN_BLOCK = 0.5, 0.3  # autocorrelations
OUTLIER_BLOCKS, STRAGGLERS = 0.01, 0.02
INFERENCES = 48  # per block
STAGES = {"extractor": 20e6, "predictor": 5e6}  # ns
BLOCK_METRICS = ("memory_peak_bytes", "energy_clip_j")  # one value per block
SMALLEST = 0.02  # of every timed or weighed metric: what `smallest_effect` gives at 1 % noise
ACCURACY_SMALLEST = {"accuracy": 0.01, "worst_class_recall": 0.05, "negative_flips": 0.02}
CLIPS, PERSONS, CLASSES, SEEDS, ANEW = 300, 20, 7, 3, 0.05
TIMED = ("latency_extractor_p50_ns", "latency_predictor_p50_ns", "latency_clip_p50_ns", "latency_clip_p90_ns")
ROUND_METRICS = (*TIMED, *BLOCK_METRICS)
RESAMPLES = 2000
CHUNK = 200  # runs simulated at once: 150 MB


@dataclass(frozen=True)
class World:
    """changes: true log ratio of variant over baseline, by stage or block metric; drop: true loss of accuracy (share)"""

    drift: float = 0.0
    changes: tuple[tuple[str, float], ...] = ()
    drop: float = 0.0
    autocorrelation: float = FROM_BLOCK_TO_BLOCK


@dataclass(frozen=True)
class Figure:
    """A share of simulated runs with its Wilson interval; holds: whether it keeps the limit, None where none is set"""

    name: str
    share: float
    interval: tuple[float, float]
    runs: int
    limit: str
    holds: bool | None


def figure(name: str, hits: Sequence[bool] | npt.NDArray[np.bool_], limit: str = "") -> Figure:
    """limit: "<= 0.025" or ">= 0.95" """
    n, count = len(hits), int(np.sum(hits))
    holds = None if not limit else (count / n <= float(limit[3:]) if limit.startswith("<=") else count / n >= float(limit[3:]))
    return Figure(name, count / n, stats.wilson_interval(count, n), n, limit, holds)


def correlated(random: np.random.Generator, shape: tuple[int, ...], rho: float) -> Floats:
    """Standard normal, autocorrelated along the last axis."""
    made = random.standard_normal(shape)
    for i in range(1, shape[-1]):
        made[..., i] = rho * made[..., i - 1] + np.sqrt(1 - rho * rho) * made[..., i]
    return made


@dataclass(frozen=True)
class Runs:
    """logs: by round metric, float (runs, rounds): log(variant / baseline); inferences: by stage and clip, (runs, 2 variants, inferences), ns"""

    logs: dict[str, Floats]
    inferences: dict[str, Floats]


def simulate(world: World, runs: int, rounds: int, random: np.random.Generator, one_after_the_other: bool = False) -> Runs:
    """one_after_the_other: all blocks of A, then all of B; its rounds' ratios mean nothing"""
    blocks = 4 * rounds
    if one_after_the_other:
        variant = np.broadcast_to(np.arange(blocks) >= blocks // 2, (runs, blocks))
    else:
        abba = np.array([False, True, True, False])
        variant = (abba ^ random.integers(0, 2, (runs, rounds, 1)).astype(bool)).reshape(runs, blocks)
    place = np.arange(blocks) / blocks
    drift = np.log1p(world.drift * (1 - np.exp(-3 * place)) / (1 - np.exp(-3)))
    outlier = (random.random((runs, blocks)) < OUTLIER_BLOCKS) * np.log1p(random.uniform(0.1, 0.3, (runs, blocks)))
    shared = correlated(random, (runs, blocks), world.autocorrelation)
    changes = dict(world.changes)

    def offsets(name: str) -> Floats:
        own = correlated(random, (runs, blocks), world.autocorrelation)
        noise = NOISE * (shared + own) / np.sqrt(2)
        return np.asarray(noise + outlier + (drift if name != "memory_peak_bytes" else 0.0) + changes.get(name, 0.0) * variant)

    times = {}
    for stage, typical in STAGES.items():
        within = NOISE * correlated(random, (runs, blocks, INFERENCES), WITHIN_BLOCK)
        within += np.log(1.2) * (random.random(within.shape) < STRAGGLERS)
        times[stage] = typical * np.exp(offsets(stage)[..., None] + within)
    times["clip"] = times["extractor"] + times["predictor"]
    per_block = {f"latency_{stage}_p50_ns": np.log(np.median(values, axis=-1)) for stage, values in times.items()}
    per_block["latency_clip_p90_ns"] = np.log(np.quantile(times["clip"], 0.9, axis=-1))
    per_block |= {name: offsets(name) for name in BLOCK_METRICS}
    sign = np.where(variant, 1.0, -1.0)
    logs = {name: (values * sign).reshape(runs, rounds, 4).sum(axis=-1) / 2 for name, values in per_block.items()}
    order = np.argsort(variant, axis=1, kind="stable")  # A's blocks, then B's
    pooled = {stage: np.take_along_axis(values, order[..., None], 1).reshape(runs, 2, -1) for stage, values in times.items()}
    return Runs(logs, pooled)


def accuracy_comparisons(world: World, random: np.random.Generator) -> list[Comparison]:
    """One draw of persons, clips, seeds and answers."""
    labels = random.integers(0, CLASSES, CLIPS)
    persons = np.repeat(np.arange(PERSONS), CLIPS // PERSONS)
    chance = np.clip(random.beta(9, 1, PERSONS)[persons] * random.beta(18, 2, CLASSES)[labels], 0, 1)

    def answers() -> npt.NDArray[np.int64]:
        wrong = (labels + random.integers(1, CLASSES, (SEEDS, CLIPS))) % CLASSES
        return np.where(random.random((SEEDS, CLIPS)) < chance, labels, wrong)

    before = answers()
    after = np.where(random.random((SEEDS, CLIPS)) < ANEW, answers(), before)
    lost = (random.random((SEEDS, CLIPS)) < world.drop / chance.mean()) & (after == labels)
    after = np.where(lost, (labels + 1) % CLASSES, after)
    names = [str(person) for person in persons]
    right = [(predicted == labels).astype(np.float64) for predicted in (before, after)]
    seed = int(random.integers(2**31))
    evidence: dict[str, stats.Evidence] = {
        "accuracy": stats.accuracy_change(right[0], right[1], names, resamples=RESAMPLES, seed=seed),
        "worst_class_recall": stats.class_change(
            stats.worst_class_recall, labels, before, after, names, CLASSES, resamples=RESAMPLES, seed=seed
        ),
        "negative_flips": stats.negative_flips(labels, before, after, names, resamples=RESAMPLES, seed=seed),
    }  # fmt: skip
    return [
        Comparison(name, Direction.LOWER if name == "negative_flips" else Direction.HIGHER, Scale.DIFFERENCE, ACCURACY_SMALLEST[name], found)
        for name, found in evidence.items()
    ]


EXACT = [Comparison(name, Direction.LOWER, Scale.RATIO, 0.0, stats.ExactChange(1000, 1000)) for name in ("stored_bytes", "params")]


@dataclass(frozen=True)
class Judged:
    """One gate: its verdicts by metric when it stopped, and after how many rounds"""

    verdicts: dict[str, stats.Verdict]
    rounds: int

    def any_worse(self) -> bool:
        return any(verdict.outcome is Outcome.WORSE for verdict in self.verdicts.values())


def judge(logs: dict[str, Floats], run: int, looks: Looks, others: Sequence[Comparison]) -> Judged:
    """As a gate runs: look by look, until every metric that rounds can decide is decided."""
    for rounds in looks.rounds:
        measured = [
            Comparison(name, Direction.LOWER, Scale.RATIO, SMALLEST, stats.paired_rounds(logs[name][run, :rounds].tolist(), looks))
            for name in ROUND_METRICS
        ]
        verdicts = {verdict.metric: verdict for verdict in stats.decide([*measured, *others, *EXACT])}
        if all(verdicts[name].outcome is not Outcome.INCONCLUSIVE for name in ROUND_METRICS):
            break
    return Judged(verdicts, rounds)


def mean_rule(inferences: dict[str, Floats]) -> npt.NDArray[np.bool_]:
    """bool (runs,): the mean of any stage is more than 5 % higher."""
    slower = [values[:, 1].mean(axis=-1) > 1.05 * values[:, 0].mean(axis=-1) for values in inferences.values()]
    return np.asarray(np.any(slower, axis=0))


def mann_whitney(inferences: dict[str, Floats]) -> npt.NDArray[np.bool_]:
    """bool (runs,): single inferences of any stage are slower, two-sided p < 0.01."""
    p = [distributions.mannwhitneyu(v[:, 1], v[:, 0], alternative="greater", axis=-1, method="asymptotic").pvalue for v in inferences.values()]
    return np.asarray(np.min(p, axis=0) < 0.005)


@dataclass(frozen=True)
class Outcomes:
    gates: list[Judged]
    mean: npt.NDArray[np.bool_]
    ranks: npt.NDArray[np.bool_]


def play(world: World, runs: int, looks: Looks, others: Sequence[Sequence[Comparison]], random: np.random.Generator) -> Outcomes:
    """others: the accuracy metrics of each run, used in turn."""
    gates: list[Judged] = []
    mean, ranks = [], []
    for start in range(0, runs, CHUNK):
        made = simulate(world, min(CHUNK, runs - start), looks.rounds[-1], random)
        gates += [judge(made.logs, run, looks, others[(start + run) % len(others)]) for run in range(len(made.logs[TIMED[0]]))]
        mean.append(mean_rule(made.inferences))
        ranks.append(mann_whitney(made.inferences))
    return Outcomes(gates, np.concatenate(mean), np.concatenate(ranks))


def in_sequence(world: World, runs: int, rounds: int, random: np.random.Generator) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The two other rules, where all of A is measured before all of B."""
    made = [simulate(world, min(CHUNK, runs - start), rounds, random, True).inferences for start in range(0, runs, CHUNK)]
    return np.concatenate([mean_rule(each) for each in made]), np.concatenate([mann_whitney(each) for each in made])


def covered(gates: Sequence[Judged], truth: dict[str, float]) -> list[bool]:
    """Whether each interval, of each run and metric, holds the true ratio; the intervals at whichever look the run stopped."""
    found = []
    for gate in gates:
        for name, change in truth.items():
            interval = gate.verdicts[name].interval
            assert interval is not None
            found.append(interval[0] <= np.exp(change) <= interval[1])
    return found


def study(runs: int, seed: int) -> list[Figure]:
    random = np.random.default_rng(seed)
    unchanged = [accuracy_comparisons(World(), random) for _ in range(runs)]
    edge = World(0.03, tuple((name, float(np.log1p(SMALLEST))) for name in (*STAGES, *BLOCK_METRICS)), ACCURACY_SMALLEST["accuracy"])
    at_edge = [accuracy_comparisons(edge, random) for _ in range(runs)]
    once, twice = Looks((8,)), Looks((8, 16))
    nothing = dict.fromkeys(ROUND_METRICS, 0.0)
    figures: list[Figure] = []
    for drift in (0.0, 0.03, 0.08):
        where = f"nothing changed, {100 * drift:g} % drift"
        world = World(drift)
        found = play(world, runs, twice, unchanged, random)
        same = [all(gate.verdicts[name].outcome is Outcome.EQUIVALENT for name in ROUND_METRICS) for gate in found.gates]
        mean, ranks = in_sequence(world, runs, twice.rounds[-1], random)
        figures += [
            figure(f"{where}: gate says worse of any metric", [gate.any_worse() for gate in found.gates], "<= 0.025"),
            figure(f"{where}: gate says equivalent of all timed and weighed metrics, 16 rounds", same, ">= 0.8"),
            figure(f"{where}: decided after 8 rounds", [gate.rounds == once.rounds[0] for gate in found.gates]),
            figure(f"{where}: interval holds the truth", covered(found.gates, nothing), ">= 0.94"),
            figure(f"{where}: mean:5% says worse", found.mean),
            figure(f"{where}: Mann-Whitney on inferences says worse", found.ranks),
            figure(f"{where}: mean:5% says worse, A before B", mean),
            figure(f"{where}: Mann-Whitney on inferences says worse, A before B", ranks),
        ]
    found = play(edge, runs, twice, at_edge, random)
    truth = dict.fromkeys((*TIMED[:2], *BLOCK_METRICS), float(np.log1p(SMALLEST)))
    figures += [
        figure("every metric worse by just its smallest effect, 3 % drift: gate says worse of any", [g.any_worse() for g in found.gates], "<= 0.025"),
        figure("every metric worse by just its smallest effect, 3 % drift: interval holds the truth", covered(found.gates, truth), ">= 0.94"),
    ]
    for effect, looks, rho, limit in (
        (0.05, once, FROM_BLOCK_TO_BLOCK, ">= 0.95"), (0.05, once, 0.0, ""), (0.05, twice, 0.0, ">= 0.95"),
        (0.03, twice, FROM_BLOCK_TO_BLOCK, ">= 0.6"), (0.03, twice, 0.0, ""),
    ):  # fmt: skip
        change = float(np.log1p(effect))
        found = play(World(0.03, (("predictor", change),), autocorrelation=rho), runs, looks, unchanged, random)
        where = f"predictor {100 * effect:g} % slower, at most {looks.rounds[-1]} rounds, 3 % drift, blocks correlated {rho:g}"
        hits = [gate.verdicts[TIMED[1]].outcome is Outcome.WORSE for gate in found.gates]
        figures += [
            figure(f"{where}: gate says worse of it", hits, limit),
            figure(f"{where}: interval holds the truth", covered(found.gates, {TIMED[0]: 0.0, TIMED[1]: change}), ">= 0.94"),
            figure(f"{where}: mean:5% says worse", found.mean),
            figure(f"{where}: Mann-Whitney on inferences says worse", found.ranks),
        ]
    for drop, outcome, limit in ((0.0, Outcome.EQUIVALENT, ""), (0.01, Outcome.WORSE, ""), (0.1, Outcome.WORSE, ">= 0.9")):
        known = {World().drop: unchanged, edge.drop: at_edge}
        others = known.get(drop) or [accuracy_comparisons(World(drop=drop), random) for _ in range(runs)]
        gates = play(World(0.03), runs, once, others, random).gates
        where = f"accuracy {100 * drop:g} points lower, {CLIPS} clips, {PERSONS} persons"
        figures += [
            figure(f"{where}: gate says {outcome} of it", [gate.verdicts["accuracy"].outcome is outcome for gate in gates], limit),
            figure(f"{where}: gate says inconclusive of it", [gate.verdicts["accuracy"].outcome is Outcome.INCONCLUSIVE for gate in gates]),
        ]
    return figures


def document(runs: int, seed: int) -> dict[str, Any]:
    """Ready for JSON."""
    settings = {
        "runs": runs, "seed": seed, "alpha": stats.ALPHA, "noise": NOISE, "outlier_blocks": OUTLIER_BLOCKS, "inferences_per_block": INFERENCES,
        "correlation_between_blocks": FROM_BLOCK_TO_BLOCK, "correlation_within_blocks": WITHIN_BLOCK,
        "smallest_effects": {**dict.fromkeys(ROUND_METRICS, SMALLEST), **ACCURACY_SMALLEST, "stored_bytes": 0.0, "params": 0.0},
        "clips": CLIPS, "persons": PERSONS, "training_seeds": SEEDS, "looks": [8, 16],
    }  # fmt: skip
    return {"schema": 1, "settings": settings, "figures": [asdict(each) for each in study(runs, seed)]}


def markdown(made: dict[str, Any]) -> str:
    """The figures as a table; what has a limit says whether it is kept."""
    settings = made["settings"]
    head = f"Simulated gates, {settings['runs']} runs each, seed {settings['seed']} (`python -m verdict_simulation`); 95 %: of the simulation itself."
    lines = [head, "", "| what | share | 95 % | limit |", "|---|---|---|---|"]
    for each in made["figures"]:
        low, high = (f"{100 * bound:.2f}" for bound in each["interval"])
        kept = "" if each["holds"] is None else f"{each['limit']}: {'kept' if each['holds'] else 'broken'}"
        lines.append(f"| {each['name']} | {100 * each['share']:.2f} % | {low} to {high} % | {kept} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    start = time.monotonic()
    made = document(options.runs, options.seed)
    for each in made["figures"]:
        low, high = each["interval"]
        verdict = "" if each["holds"] is None else f"  [{each['limit']}: {'holds' if each['holds'] else 'FAILS'}]"
        print(f"{100 * each['share']:6.2f} %  ({100 * low:5.2f} to {100 * high:5.2f})  {each['name']}{verdict}")
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)
    if options.out:
        options.out.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        options.out.with_suffix(".md").write_text(markdown(made), encoding="utf-8")
    return 0 if all(each["holds"] is not False for each in made["figures"]) else 1


if __name__ == "__main__":
    sys.exit(main())
