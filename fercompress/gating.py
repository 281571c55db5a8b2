"""A gate, top to bottom: two sides -> evidence of each -> a verdict per metric and limit -> an exit code. Only this module knows the order."""

from __future__ import annotations

import datetime
import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fercompress import calibrating, sides
from fercompress.contest import Plan, contest, evidence, forget
from fercompress.data import source
from fercompress.errors import InputError, ResultsError
from fercompress.examination import Wanted
from fercompress.gate import baseline as baselines
from fercompress.gate import headline, judge, render
from fercompress.gate.baseline import NEWEST, RELEASE, Accepted
from fercompress.gate.calibration import Calibration
from fercompress.gate.evidence import Evidence
from fercompress.gate.finding import Judgement
from fercompress.measure import board
from fercompress.progress import Reporter
from fercompress.sides import Side
from fercompress.stats import FEWEST_ROUNDS, Looks
from fercompress.tier import LOOKS, TIERS


class ExitCode(enum.IntEnum):
    PASSED = 0
    REGRESSION = 1
    INCONCLUSIVE = 3


@dataclass(frozen=True)
class Request:
    """candidate, baseline: RUN, RUN:VARIANT or a bundle's folder; baseline may be a baseline file as well

    effects: metric -> the smallest change that matters, as written ("2%"); limits: column -> the most (or the least) that is allowed, as written
    wanted: the clips to ask about, None: those of the run that a side comes from
    looks: rounds in all, after which a verdict is tried; budget_s: no further look is begun after so many seconds
    compares: every metric gets its verdict and nothing fails
    """

    candidate: str
    baseline: str
    out: Path
    target: str = "localhost"
    tier: str = "quick"
    looks: tuple[int, ...] = LOOKS
    budget_s: float = math.inf
    wanted: Wanted | None = None
    effects: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    fail_on_inconclusive: bool = True
    confirm: bool = True
    pinned: bool = False
    compares: bool = False

    @property
    def places(self) -> tuple[str, str]:
        """How the command calls the two sides, for messages."""
        return ("A", "B") if self.compares else ("--candidate", "--baseline")


@dataclass(frozen=True)
class Outcome:
    """notes: what a reader must know beside the verdicts; compares: nothing passes or fails here"""

    judgements: tuple[Judgement, ...]
    exit_code: ExitCode
    notes: tuple[str, ...] = ()
    compares: bool = False

    @property
    def headline(self) -> str:
        """The outcome in one sentence."""
        if self.compares:
            return headline.compared(self.judgements)
        said = {ExitCode.PASSED: "gate passed", ExitCode.REGRESSION: "gate FAILED", ExitCode.INCONCLUSIVE: "gate INCONCLUSIVE"}[self.exit_code]
        return headline.gated(self.judgements, said)

    @property
    def hardening(self) -> str:
        """Whether the noise allows to let a gate fail for what it finds."""
        unsure = [found for each in self.judgements for found in each.findings if found.metric.kind == "paired" and found.verdict == "inconclusive"]
        if not unsure:
            return "every timed metric got a verdict: the noise here allows to enforce the gate (leave --advisory out)"
        names = ", ".join(dict.fromkeys(found.metric.name for found in unsure))
        return f"too noisy to enforce yet: {names} stayed inconclusive; a quieter runner, a longer --tier or a larger --effect helps"


def gate(request: Request, tell: Reporter) -> Outcome:
    """`verdicts`, kept as gate.json (of a comparison: compare.json) in the output folder. What was stopped goes on, a finished one is measured anew.

    raises: as `verdicts`
    """
    finished = request.out / ("compare.json" if request.compares else "gate.json")
    if finished.exists():
        forget(request.out)
        finished.unlink(missing_ok=True)
    outcome = verdicts(request, tell)
    finished.parent.mkdir(parents=True, exist_ok=True)
    finished.write_text(render.json_text(outcome.judgements, outcome.notes, outcome.exit_code), encoding="utf-8")
    return outcome


def verdicts(request: Request, tell: Reporter) -> Outcome:
    """raises: InputError, ResultsError, BundleError, DataError, TargetError, ComparabilityError (exit codes 2, 4 and 5)"""
    if request.tier not in TIERS:
        raise InputError(f"no tier named {request.tier!r} (known: {', '.join(TIERS)})")
    calibrated, told = calibrating.current(board.load_board(request.target).name)
    noise = {} if calibrated is None else {name: calibrated.noise(name, request.looks[0]) for name in calibrated.round_sd}
    session_sd = judge.SESSION_SD if calibrated is None else calibrated.session_sd
    rules = judge.Rules.of(request.effects, request.limits, request.metrics, request.looks, noise, session_sd)
    stored = Path(request.baseline)
    if stored.is_file() or stored.suffix == ".json":
        judgements, notes = _against_file(request, stored, rules, tell)
    else:
        judgements, notes = _side_by_side(request, rules, calibrated, tell)
    notes += told
    return Outcome(tuple(judgements), _exit_code(request, judgements), tuple(notes), request.compares)


def _exit_code(request: Request, judgements: list[Judgement]) -> ExitCode:
    if request.compares:
        return ExitCode.PASSED
    if any(each.regressed for each in judgements):
        return ExitCode.REGRESSION
    if request.fail_on_inconclusive and any(each.open for each in judgements):
        return ExitCode.INCONCLUSIVE
    return ExitCode.PASSED


def _side_by_side(
    request: Request, rules: judge.Rules, calibrated: Calibration | None, tell: Reporter
) -> tuple[list[Judgement], list[str]]:  # fmt: skip
    judgements, notes = [], []
    sung = False
    for candidate, baseline in _pairs(request):
        if "accuracy" in rules.passes:
            sides.check_protocols(candidate, baseline)
        found = _recorded(candidate, baseline, request.target)
        if found is not None:
            notes.append(
                f"{candidate.name}: measured beside {baseline.name} in one run already; its {len(found[0].rounds['clip'])} rounds are judged"
            )
            adaptive = candidate.run is not None and bool(candidate.run.tables.study.get("measure", {}).get("tier"))
            judgements.append(judge.judge(*found, _over(rules, found, adaptive=adaptive)))
            continue
        if calibrated is not None and not sung:
            notes += calibrating.canary(calibrated, request.target, request.out / "canary", tell)
            sung = True
        first = _measured(candidate, baseline, request, rules, request.out / candidate.variant, tell)
        if not first.to_confirm or not request.confirm:
            judgements.append(first)
            continue
        tell.note(f"worse: {', '.join(first.to_confirm)}; measured again, in a fresh run, before it counts")
        again = _measured(candidate, baseline, request, rules, request.out / f"{candidate.variant}-confirm", tell)
        judgements.append(first.confirmed_by(again))
    return judgements, notes


def _pairs(request: Request) -> list[tuple[Side, Side]]:
    """One pair, or each variant that two runs have in common."""
    candidates = sides.find(request.candidate, request.places[0])
    against = sides.find(request.baseline, request.places[1])
    if len(candidates) == 1 and len(against) == 1:
        return [(candidates[0], against[0])]
    if len(candidates) > 1 and len(against) > 1:
        known = {side.variant: side for side in against}
        common = [(side, known[side.variant]) for side in candidates if side.variant in known]
        if common:
            return common
        raise InputError(f"{request.candidate} and {request.baseline} have no variant in common; name one of each, as RUN:VARIANT")
    several, option = (request.candidate, request.places[0]) if len(candidates) > 1 else (request.baseline, request.places[1])
    raise InputError(f"{option} {several} has several variants: name one, as {several}:VARIANT")


def _recorded(candidate: Side, baseline: Side, target: str) -> tuple[Evidence, Evidence] | None:
    """Of one run, whose rounds held both: nothing needs to be measured."""
    if candidate.run is None or baseline.run is None or candidate.run.folder.resolve() != baseline.run.folder.resolve():
        return None
    if candidate.variant == baseline.variant:
        raise InputError(f"{candidate.name} is compared with itself: a run measures a variant once; for the noise of a target: fercompress calibrate")
    found = tuple(evidence(candidate.run.tables, side.variant, target, side.name) for side in (candidate, baseline))
    return (found[0], found[1]) if all(side.rounds["clip"] for side in found) else None


def _measured(candidate: Side, baseline: Side, request: Request, rules: judge.Rules, out: Path, tell: Reporter) -> Judgement:
    examination = sides.examination([candidate, baseline], request.wanted, source.user_cache, tell.note)
    plan = Plan(request.looks, TIERS[request.tier], request.budget_s, rules.passes)
    found = contest(
        candidate, baseline, examination, board.load_board(request.target), plan, out, tell,
        lambda mine, theirs: _settled(request, judge.judge(mine, theirs, rules)),
    )  # fmt: skip
    return judge.judge(*found, rules)


def _over(rules: judge.Rules, found: tuple[Evidence, Evidence], *, adaptive: bool) -> judge.Rules:
    """Of a run that is over: its rounds were looked at once, or, where rounds were added until verdicts stood, at each of its looks."""
    rounds = len(found[0].rounds["clip"].keys() & found[1].rounds["clip"].keys())
    if rounds < FEWEST_ROUNDS:
        return rules
    looked = tuple(look for look in LOOKS if look <= rounds) if adaptive else ()
    return replace(rules, looks=Looks(looked, most=LOOKS[-1]).ended(rounds) if looked else Looks((rounds,)))


def _settled(request: Request, now: Judgement) -> bool:
    """Whether more rounds would change nothing. A gate that fails needs no more; a comparison wants every verdict."""
    return now.decided or (now.regressed and not request.compares)


def _against_file(request: Request, path: Path, rules: judge.Rules, tell: Reporter) -> tuple[list[Judgement], list[str]]:
    stored = baselines.read(path)
    name = RELEASE if request.pinned else NEWEST
    if name not in stored.entries:
        raise ResultsError(f"{path}: it has no entry {name!r}; accept one with --update{' --pin' if request.pinned else ''}")
    entry = stored.entries[name]
    if entry.expired(_today()):
        raise ResultsError(f"{path}: the baseline expired on {entry.expires} (owner: {entry.owner}); accept it anew with --update --reason ...")
    mine = stored_evidence(request, tell)
    baselines.check_comparable(mine, entry.evidence)
    found = judge.judge(mine, replace(entry.evidence, name=f"{path} ({name}: {entry.evidence.name})"), rules, paired=False)
    return [found], [f"baseline accepted {entry.created} by {entry.owner} ({entry.reason}), expires {entry.expires}"]


def stored_evidence(request: Request, tell: Reporter) -> Evidence:
    """Of the candidate alone: what its run holds, or a measurement against itself where it is a bare bundle."""
    side = sides.one(request.candidate, request.places[0])
    if side.run is not None:
        found = evidence(side.run.tables, side.variant, request.target, side.name)
        if not found.rounds["clip"]:
            raise ResultsError(f"{side.name}: not measured on target {request.target!r}; run the study there, or give another --target")
        return found
    examination = sides.examination([side], request.wanted, source.user_cache, tell.note)
    plan = Plan(request.looks[:1], TIERS[request.tier], request.budget_s)
    return contest(side, side, examination, board.load_board(request.target), plan, request.out / "alone", tell, lambda *_: True)[0]


def update(request: Request, path: Path, owner: str, reason: str, days: int, pin: bool, tell: Reporter) -> Accepted:
    """Accept the candidate as the baseline file's newest state (and, with `pin`, as its release)."""
    if not owner.strip() or not reason.strip():
        raise InputError("--update needs --owner (who answers for the baseline) and --reason (why it changes)")
    entries = dict(baselines.read(path).entries) if path.exists() else {}
    today = _today()
    expires = today + datetime.timedelta(days=days)
    entry = Accepted(stored_evidence(request, tell), owner.strip(), reason.strip(), today.isoformat(), expires.isoformat())
    entries[NEWEST] = entry
    if pin or RELEASE not in entries:
        entries[RELEASE] = entry
    baselines.write(path, entry.evidence.target, entries)
    return entry


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
