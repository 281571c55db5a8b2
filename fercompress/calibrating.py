"""A target's calibration: one bundle against itself, session after session; and the canary that tells whether the target is still what it was."""

from __future__ import annotations

import datetime
from pathlib import Path

from fercompress import sides
from fercompress.contest import Plan, contest, forget
from fercompress.data import source
from fercompress.errors import FercompressError
from fercompress.examination import SYNTHETIC, Wanted
from fercompress.gate import calibration
from fercompress.gate.calibration import Calibration
from fercompress.measure import board
from fercompress.progress import Reporter
from fercompress.tier import TIERS, Tier

CANARY_S = 10.0  # of timed clips, of either side


def calibrate(what: str, target: str, out: Path, tell: Reporter, *, sessions: int, rounds: int, tier: str, wanted: Wanted | None) -> Calibration:
    """what: RUN:VARIANT or a bundle's folder. Measured against itself, and what that tells of the target is kept.

    raises: InputError, ResultsError, BundleError, DataError, TargetError
    """
    where = board.load_board(target)
    side = sides.one(what, "--with")
    examination = sides.examination([side], wanted, source.user_cache, tell.note)
    plan = Plan((rounds,), TIERS[tier])
    found = []
    for number in range(sessions):
        tell.note(f"session {number + 1} of {sessions}: {side.name} against itself")
        found.append(contest(side, side, examination, where, plan, out / f"session-{number}", tell, lambda *_: True))
    name = str(Path(what).resolve()) if side.run is None else f"{side.run.folder.resolve()}:{side.variant}"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    made = calibration.calibrate(found, today, name, *_told(wanted))
    calibration.write(file(where.name), made)
    forget(out)
    return made


def _told(wanted: Wanted | None) -> tuple[str | None, str | None, str | None]:
    """data, data_root and inputs, the paths from anywhere on this machine."""
    if wanted is None:
        return None, None, None
    if wanted.data is not None:
        return wanted.data, None if wanted.data_root is None else str(wanted.data_root.resolve()), None
    return None, None, wanted.inputs if wanted.inputs == SYNTHETIC else str(Path(wanted.inputs).resolve())


def _wanted(made: Calibration) -> Wanted | None:
    if made.data is None and made.inputs is None:
        return None
    return Wanted(made.inputs or SYNTHETIC, made.data, None if made.data_root is None else Path(made.data_root))


def current(target: str) -> tuple[Calibration | None, list[str]]:
    """target: the target's own name. returns: its calibration, None where there is none or an expired one, and what a reader must know of that

    raises: ResultsError
    """
    found = calibration.read(file(target))
    if found is None:
        return None, [f"target {target} is not calibrated: what it can tell apart is not known; see fercompress calibrate"]
    if found.expired(datetime.datetime.now(datetime.UTC).date()):
        return None, [
            f"target {target}: its calibration of {found.created} expired on {found.expires} and is not used: calibrate again (fercompress calibrate)"
        ]
    return found, []


def file(target: str) -> Path:
    """Where this machine keeps the calibration of the target of that name."""
    return board.known_hosts().with_name("calibrations") / f"{target}.json"


def canary(calibrated: Calibration, target: str, out: Path, tell: Reporter) -> list[str]:
    """The calibration's own bundle for some twenty seconds: notes, if the target is not what it was then, or if that cannot be told."""
    try:
        side = sides.one(calibrated.bundle, "the calibration's bundle")
        examination = sides.examination([side], _wanted(calibrated), source.user_cache, tell.note)
    except FercompressError as error:
        return [f"no canary: {error}"]
    plan = Plan((2,), Tier(1, CANARY_S), passes=("latency",))
    shown, _ = contest(side, side, examination, board.load_board(target), plan, out, tell, lambda *_: True)
    moved = calibration.shifted(calibrated, shown)
    return [f"canary: the target is not as it was calibrated on {calibrated.created} ({', '.join(moved)}); calibrate again"] if moved else []
