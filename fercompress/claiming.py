"""What a study can claim within so much of a target's time: a study and minutes in, per target its rounds, percentiles and smallest effects out.

Nothing is measured or written. Noise comes from the target's calibration, where there is one; without one no effect is promised. How long a block
takes is known of an earlier run's blocks, else estimated from the study's settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fercompress import calibrating, config, stats
from fercompress.gate.calibration import Calibration
from fercompress.gate.metrics import METRICS
from fercompress.measure import board
from fercompress.measure.board import Board
from fercompress.measuring import TIMED, settled
from fercompress.pace import Pace, paces
from fercompress.results.store import FILE, Store
from fercompress.results.tables import read_tables
from fercompress.tier import BLOCKS_PER_ROUND, LOOKS

BLOCK_START_S = 0.6  # about, per block: a fresh process imports the runtime and loads the bundle
SLOWDOWN = 0.05  # the example whose chance to be found is told
WARMUP_SHARE = 0.2  # about, of a block's timed part, on top: clips run before anything is timed


@dataclass(frozen=True)
class Power:
    """Of one metric, by the target's calibration; shares.

    smallest: change that may matter there at all; found_from: change that is called worse nine times in ten, None below six rounds
    found: chance that a slowdown by SLOWDOWN is called worse; equivalent: chance that no change is called so; rounds: that a SLOWDOWN takes to be
    found nine times in ten, None where none would do
    """

    smallest: float
    found_from: float | None
    found: float
    equivalent: float
    rounds: int | None


@dataclass(frozen=True)
class Promise:
    """Of one target.

    wanted: rounds that the study asks for, with a tier the most that it may need; fitting: rounds of all variants that the minutes hold; rounds: the
    fewer of both; block_s: about, a block from start to end, the variants' mean; paced_by: what tells that; timed_clips: of a variant at the least
    percentiles: "p50" -> whether so many timed clips support it; powers: timed metric -> what its rounds can tell, None where the noise is not known;
    note: what a reader must know of that
    """

    target: str
    minutes: float
    variants: int
    wanted: int
    fitting: int
    rounds: int
    block_s: float
    paced_by: str
    about_minutes: float
    timed_clips: int
    percentiles: dict[str, bool]
    intervals: bool
    powers: dict[str, Power | None]
    note: str
    sentence: str

    @property
    def table(self) -> dict[str, Any]:
        return asdict(self)


def claims(study: config.Study, minutes: float, run: Path | None = None) -> list[Promise]:
    """minutes: of latency blocks, on each target; run: a run's folder, whose blocks tell how long one takes where they were measured on that target

    raises: StudyError, InputError for targets that are not known; ResultsError
    """
    asked = settled(study)
    tables = None
    if run is not None:
        with Store.open(run / FILE, writable=False) as store:
            tables = read_tables(store)
    return [_promise(asked, target, minutes, {} if tables is None else paces(tables, target.name)) for target in board.load_boards(study.targets)]


def _block_s(study: config.Study, measured: Mapping[str, Pace]) -> tuple[float, str]:
    """Of the variants' mean block, and what tells it. A variant that was not measured is taken to be as the others are."""
    known = {variant.name: measured[variant.name] for variant in study.variants if variant.name in measured}
    if not known:
        return study.measure.block_s * (1 + WARMUP_SHARE) + BLOCK_START_S, "estimated from the study's settings"
    blocks, missing = sum(pace.blocks for pace in known.values()), len(study.variants) - len(known)
    beside = f"; {missing} of {len(study.variants)} variants were not measured there" if missing else ""
    return float(np.mean([pace.block_s(study.measure) for pace in known.values()])), f"{blocks} blocks of an earlier run{beside}"


def _promise(study: config.Study, target: Board, minutes: float, measured: Mapping[str, Pace]) -> Promise:
    measure, variants = study.measure, len(study.variants)
    block_s, paced_by = _block_s(study, measured)
    fitting = stats.rounds_within(60 * minutes, variants, block_s)
    wanted = LOOKS[-1] if measure.tier else measure.rounds
    rounds = min(fitting, wanted)
    if measure.tier and rounds >= LOOKS[0]:  # verdicts are tried at these alone
        rounds = max(look for look in LOOKS if look <= rounds)
    calibrated, told = calibrating.current(target.name)
    powers = {name: _power(calibrated, name, rounds) for name in TIMED}
    clips = BLOCKS_PER_ROUND * rounds * measure.block_clips
    supported = stats.claimable(clips)
    percentiles = {f"p{round(100 * q)}": q in supported for q in stats.FLOORS}
    intervals = rounds >= stats.FEWEST_ROUNDS
    said = ", ".join(f"{name} {'yes' if can else 'no'}" for name, can in percentiles.items())
    sentence = f"{minutes:g} minutes of {target.name}: these {variants} variants x {rounds} rounds; {said}"
    if not intervals:
        sentence += f"; no interval and no verdict: that takes {stats.FEWEST_ROUNDS} rounds"
    return Promise(
        target.name, minutes, variants, wanted, fitting, rounds, round(block_s, 3), paced_by,
        round(rounds * BLOCKS_PER_ROUND * variants * block_s / 60, 2), clips, percentiles, intervals, powers,
        told[0] if told else f"noise of its calibration of {calibrated.created if calibrated else ''}", sentence,
    )  # fmt: skip


def _power(calibrated: Calibration | None, metric: str, rounds: int) -> Power | None:
    if calibrated is None or metric not in calibrated.round_sd:
        return None
    noise, metrics = calibrated.round_sd[metric], len(METRICS)
    smallest = calibrated.smallest_effect(metric, max(rounds, 1))
    return Power(
        smallest,
        stats.claims(rounds, 1, noise, smallest=smallest, metrics=metrics).effect,
        stats.gate_power(SLOWDOWN, noise, rounds, smallest=smallest, metrics=metrics),
        stats.equivalence_power(noise, rounds, smallest=smallest),
        stats.rounds_needed(SLOWDOWN, noise, smallest=smallest, metrics=metrics),
    )
