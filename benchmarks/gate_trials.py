"""How often the gate errs on a real machine: `python -m gate_trials RUN:VARIANT [--rounds N] [--replays N] [--live N] [--out FOLDER]`.

Records rounds of a bundle against a copy of itself, calibrates from them, plants a slowdown of twice the minimum detectable effect into a twin
(more work in its graph, the same answers), records rounds of that, and replays gates from rounds drawn with replacement. Beside it, on the same
draws: pytest-benchmark's `--benchmark-compare-fail=mean:5%` and a Mann-Whitney test, both on the raw inferences of eight rounds. Then accuracy, on
300 test clips: a copy, and twins whose answers lose about one point and ten. Writes gate_trials.json and gate_trials.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import planted
from rich.console import Console
from scipy import stats as distributions

from fercompress import sides
from fercompress.contest import Plan, contest
from fercompress.data import source
from fercompress.gate import calibration, judge
from fercompress.gate.calibration import Calibration
from fercompress.gate.evidence import STAGES, Evidence
from fercompress.gate.judge import Rules
from fercompress.measure.board import load_board
from fercompress.progress import Reporter
from fercompress.records import Pass
from fercompress.results.store import FILE, Store
from fercompress.sides import Side
from fercompress.stats import wilson_interval
from fercompress.tier import TIERS

METRIC = "latency_predictor_p50_ns"
TIMED = tuple(f"latency_{stage}_p50_ns" for stage in STAGES)
LOOKS = (8, 12, 16)
CLIPS, LOST = 300, (0.01, 0.10)
MEAN_RULE = 0.05
MANN_WHITNEY = 0.01


@dataclass(frozen=True)
class Recorded:
    """Both sides' evidence, and by round each side's raw inferences of METRIC (ns) in the order measured"""

    candidate: Evidence
    baseline: Evidence
    raw: dict[int, tuple[np.ndarray, np.ndarray]]

    @property
    def rounds(self) -> list[int]:
        return sorted(self.raw)


def record(candidate: Side, baseline: Side, rounds: int, target: str, out: Path, tell: Reporter) -> Recorded:
    examination = sides.examination([candidate, baseline], None, source.user_cache, lambda _: None)
    # A block as long as that of a gate whose first look comes after eight rounds.
    plan = Plan((LOOKS[0], rounds), TIERS["quick"], passes=("latency",))
    found = contest(candidate, baseline, examination, load_board(target), plan, out, tell, lambda *_: False)
    raw: dict[int, list[list[int]]] = {}
    with Store.open(out / FILE, writable=False) as store:
        for block in store.blocks(pass_=Pass.LATENCY):
            pair = raw.setdefault(block.key.round, [[], []])
            pair[block.key.variant == "baseline"].extend(block.predictor_ns)
    whole = {number: (np.array(mine), np.array(theirs)) for number, (mine, theirs) in raw.items() if number in found[0].rounds["clip"]}
    return Recorded(found[0], found[1], whole)


def drawn(recorded: Recorded, numbers: Sequence[int]) -> tuple[Evidence, Evidence]:
    """Both sides as if these rounds had been measured, one after the other."""

    def of(side: Evidence) -> Evidence:
        rounds = {stage: {place: side.rounds[stage][number] for place, number in enumerate(numbers)} for stage in STAGES}
        tails = {place: side.tails[number] for place, number in enumerate(numbers)}
        return replace(side, rounds=rounds, tails=tails, answers=None)

    return of(recorded.candidate), of(recorded.baseline)


def replay(recorded: Recorded, rules: Rules, random: np.random.Generator) -> dict[str, bool]:
    """One gate of rounds drawn with replacement, and the two other rules on the same rounds."""
    numbers = random.choice(recorded.rounds, LOOKS[-1])
    worse = False
    for look in LOOKS:
        found = judge.judge(*drawn(recorded, numbers[:look]), rules)
        worse = bool(found.regressed_metrics)
        if worse or found.decided:
            break
    mine, theirs = (np.concatenate([recorded.raw[number][side] for number in numbers[: LOOKS[0]]]) for side in (0, 1))
    means = mine.mean() / theirs.mean() - 1
    test = distributions.mannwhitneyu(mine, theirs, alternative="greater")
    return {"gate": worse, "mean": bool(means > MEAN_RULE), "mann_whitney": bool(test.pvalue < MANN_WHITNEY)}


def rates(recorded: Recorded, rules: Rules, replays: int, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    found = [replay(recorded, rules, random) for _ in range(replays)]
    counts = {name: sum(each[name] for each in found) for name in found[0]}
    return {name: {"called_worse": n, "of": replays, "share": n / replays, "ci95": list(wilson_interval(n, replays))} for name, n in counts.items()}


def twin(side: Side, slowdown: float, target: str, out: Path, tell: Reporter) -> tuple[Side, int]:
    """A twin that is slower in METRIC by about `slowdown`; returns it, and how many products were planted."""
    trial = 32
    folder = side.bundles[0][0].folder
    probe = Side("probe", sides.find(str(planted.slower(folder, out / "probe", trial)), "the probe")[0].bundles, None)
    seen = record(probe, side, LOOKS[0], target, out / "measured", tell)
    step = (seen.candidate.value(METRIC) or 0.0) / (seen.baseline.value(METRIC) or 1.0) - 1
    products = max(1, round(trial * slowdown / max(step, 1e-9)))
    made = sides.find(str(planted.slower(folder, out / "twin", products)), "the twin")[0]
    return Side(f"{side.name} with {products} more products", made.bundles, None), products


def live(candidate: Side, baseline: Side, count: int, rules: Rules, target: str, out: Path, tell: Reporter) -> list[dict[str, bool]]:
    """Whole gates, each measured anew: whether it called the candidate worse, and whether a fresh run said so again."""
    examination = sides.examination([candidate, baseline], None, source.user_cache, lambda _: None)

    def worse(name: str) -> bool:
        plan = Plan(LOOKS, TIERS["quick"], passes=("latency",))
        shown = contest(
            candidate, baseline, examination, load_board(target), plan, out / name, tell,
            lambda mine, theirs: (now := judge.judge(mine, theirs, rules)).decided or now.regressed,
        )  # fmt: skip
        return bool(judge.judge(*shown, rules).regressed_metrics)

    found = []
    for number in range(count):
        alarmed = worse(f"{number}")
        found.append({"worse": alarmed, "confirmed": alarmed and worse(f"{number}-again")})
    return found


def answers(side: Side, target: str, out: Path, tell: Reporter) -> list[dict[str, Any]]:
    """What a gate of accuracy says of a copy, and of twins that lose about so much as LOST on the first CLIPS test clips."""
    whole = sides.examination([side], None, source.user_cache, lambda _: None)
    asked = replace(whole, folds=(replace(whole.folds[0], test=whole.folds[0].test[:CLIPS]), *whole.folds[1:]))
    one = Side(side.name, side.bundles[:1], side.run)
    rules = Rules.of({}, {}, ("accuracy",), LOOKS)
    shutil.rmtree(out, ignore_errors=True)

    def gate(candidate: Side, name: str) -> dict[str, Any]:
        plan = Plan((LOOKS[0],), TIERS["quick"], passes=("accuracy",))
        found = judge.judge(*contest(candidate, one, asked, load_board(target), plan, out / name, tell, lambda *_: True), rules).findings[0]
        lost = (found.baseline or math.nan) - (found.candidate or math.nan)
        return {"lost": lost, "verdict": found.verdict, "reason": found.reason, "interval": [found.low, found.high]}

    def twin_of(noise: float, name: str) -> Side:
        return sides.find(str(planted.worse(one.bundles[0][0].folder, out / f"bundle-{name}", noise)), "a twin")[0]

    told = [{"planted": 0.0, **gate(one, "copy")}]
    for lost in LOST:
        low, high, tried = 1e-3, 1e2, list[dict[str, Any]]()
        for step in range(14):  # more noise, more lost, but for a clip or two
            noise = math.sqrt(low * high)
            tried.append({"planted": lost, "noise": noise, **gate(twin_of(noise, f"{lost}-{step}"), f"{lost}-{step}")})
            low, high = (low, noise) if tried[-1]["lost"] > lost else (noise, high)
        told.append(min(tried, key=lambda each: abs(each["lost"] - lost)))
    return told


def table(document: dict[str, Any]) -> str:
    """Markdown."""
    names = {"gate": "this gate", "mean": "`--benchmark-compare-fail=mean:5%`", "mann_whitney": "Mann-Whitney on raw inferences, p < .01"}
    lines = ["| rule | A/A: called worse | planted: called worse |", "|---|---|---|"]
    for name, title in names.items():
        cells = []
        for pair in ("same", "planted"):
            told = document["replayed"][pair][name]
            low, high = told["ci95"]
            cells.append(f"{told['share']:.1%} [{low:.1%}, {high:.1%}]")
        lines.append(f"| {title} | {cells[0]} | {cells[1]} |")
    if "live" in document:
        for key, title in (("worse", "this gate, live, before a fresh run confirms it"), ("confirmed", "this gate, live, confirmed")):
            cells = [f"{sum(each[key] for each in document['live'][pair])} of {len(document['live'][pair])}" for pair in ("same", "planted")]
            lines.append(f"| {title} | {cells[0]} | {cells[1]} |")
    lines += ["", f"| accuracy lost on {CLIPS} clips | the gate says |", "|---|---|"]
    lines += [f"| {100 * each['lost']:.1f} points | {each['verdict']}: {each['reason']} |" for each in document["answers"]]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("side", help="RUN:VARIANT")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--live", type=int, default=0, help="whole gates of either pair, measured anew")
    parser.add_argument("--target", default="localhost")
    parser.add_argument("--out", type=Path, default=Path("reports/gate_trials"))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    side = sides.one(asked.side, "SIDE")
    with Reporter(Console(stderr=True)) as tell:
        same = record(side, side, asked.rounds, asked.target, asked.out / "same", tell)
        known: Calibration = calibration.calibrate([(same.candidate, same.baseline)], _today(), asked.side, None, None)
        slowdown = 2 * known.detectable(METRIC, LOOKS[0])
        shutil.rmtree(asked.out / "twin", ignore_errors=True)
        slow, products = twin(side, slowdown, asked.target, asked.out / "twin", tell)
        other = record(slow, side, asked.rounds, asked.target, asked.out / "planted", tell)
        noise = {name: known.noise(name, LOOKS[0]) for name in known.round_sd}
        rules = Rules.of({}, {}, TIMED, LOOKS, noise)
        shown = math.expm1(float(np.median([other.candidate.rounds["predictor"][n] - other.baseline.rounds["predictor"][n] for n in other.rounds])))
        document: dict[str, Any] = {
            "schema": 1, "side": asked.side, "target": asked.target, "machine": same.candidate.conditions["machine"], "rounds": asked.rounds,
            "blocks": 4 * (len(same.rounds) + len(other.rounds)), "metric": METRIC, "round_sd": known.round_sd[METRIC],
            "detectable": known.detectable(METRIC, LOOKS[0]), "smallest_effect": rules.effects[METRIC], "products": products,
            "planted": slowdown, "planted_measured": shown,
            "replayed": {"same": rates(same, rules, asked.replays, 0), "planted": rates(other, rules, asked.replays, 1)},
        }  # fmt: skip
        document["answers"] = answers(side, asked.target, asked.out / "answers", tell)
        if asked.live:
            document["live"] = {
                "same": live(side, side, asked.live, rules, asked.target, asked.out / "live-same", tell),
                "planted": live(slow, side, asked.live, rules, asked.target, asked.out / "live-planted", tell),
            }
    asked.results.mkdir(parents=True, exist_ok=True)
    (asked.results / "gate_trials.json").write_text(json.dumps(document, indent=1) + "\n")
    (asked.results / "gate_trials.md").write_text(table(document))
    print(json.dumps(document, indent=1))
    print(table(document))


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


if __name__ == "__main__":
    main()
