"""A target's calibration: one bundle against itself, session after session; and the canary that tells whether the target is still what it was."""

from __future__ import annotations

import datetime
from pathlib import Path

from fercompress import sides
from fercompress.contest import TIERS, Plan, Tier, contest, forget
from fercompress.data import source
from fercompress.errors import FercompressError
from fercompress.gate import calibration
from fercompress.gate.calibration import Calibration
from fercompress.measure import board
from fercompress.progress import Reporter

CANARY_S = 10.0  # of timed clips, of either side


def calibrate(
    what: str, target: str, out: Path, tell: Reporter, *, sessions: int, rounds: int, tier: str, data: str | None, data_root: Path | None
) -> Calibration:
    """what: RUN:VARIANT or a bundle's folder. Measured against itself, and what that tells of the target is kept.

    raises: InputError, ResultsError, BundleError, DataError, TargetError
    """
    where = board.load_board(target)
    side = sides.one(what, "--with")
    examination = sides.examination([side], data, data_root, source.user_cache)
    plan = Plan((rounds,), TIERS[tier])
    found = []
    for number in range(sessions):
        tell.note(f"session {number + 1} of {sessions}: {side.name} against itself")
        found.append(contest(side, side, examination, where, plan, out / f"session-{number}", tell, lambda *_: True))
    name = str(Path(what).resolve()) if side.run is None else f"{side.run.folder.resolve()}:{side.variant}"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    made = calibration.calibrate(found, today, name, data, str(data_root.resolve()) if data_root else None)
    calibration.write(file(target), made)
    forget(out)
    return made


def known(target: str) -> Calibration | None:
    """A target's calibration; None where there is none. raises: ResultsError"""
    return calibration.read(file(target))


def file(target: str) -> Path:
    """Where this machine keeps a target's calibration."""
    return board.known_hosts().with_name("calibrations") / f"{board.load_board(target).name}.json"


def canary(calibrated: Calibration, target: str, out: Path, tell: Reporter) -> list[str]:
    """The calibration's own bundle for some twenty seconds: notes, if the target is not what it was then, or if that cannot be told."""
    try:
        side = sides.one(calibrated.bundle, "the calibration's bundle")
        examination = sides.examination([side], calibrated.data, Path(calibrated.data_root) if calibrated.data_root else None, source.user_cache)
    except FercompressError as error:
        return [f"no canary: {error}"]
    plan = Plan((2,), Tier(1, CANARY_S), passes=("latency",))
    shown, _ = contest(side, side, examination, board.load_board(target), plan, out, tell, lambda *_: True)
    moved = calibration.shifted(calibrated, shown)
    return [f"canary: the target is not as it was calibrated on {calibrated.created} ({', '.join(moved)}); calibrate again"] if moved else []
