"""An outcome in one sentence: judgements in; what a gate says (it passed or not), or what a comparison says (nothing passes or fails there), out."""

from __future__ import annotations

from collections.abc import Sequence

from fercompress.gate.finding import Judgement

# A comparison's words for each verdict on A beside B, in the order in which they are said.
SAID = {"better": "better in", "worse": "worse in", "equivalent": "equivalent in", "inconclusive": "not known to be either in", "n/a": "n/a:"}


def gated(judgements: Sequence[Judgement], said: str) -> str:
    """said: what the gate does, "gate passed" and the like; what it found worse, broken or inconclusive follows."""
    worse = [name for each in judgements for name in each.regressed_metrics]
    broken = [limit.column for each in judgements for limit in each.limits if limit.verdict == "broken"]
    unsure = [found.metric.name for each in judgements for found in each.findings if found.verdict == "inconclusive"]
    unsure += [f"limit {limit.column}" for each in judgements for limit in each.limits if limit.verdict in ("unsure", "n/a")]
    parts = [f"{words}: {', '.join(names)}" for words, names in (("worse", worse), ("limit broken", broken), ("inconclusive", unsure)) if names]
    return f"{said} ({'; '.join(parts)})" if parts else said


def compared(judgements: Sequence[Judgement]) -> str:
    """Of A beside B: which metrics got which verdict. One part per pair of variants."""
    return ". ".join(f"{each.candidate} beside {each.baseline}: {_verdicts(each)}" for each in judgements)


def _verdicts(judgement: Judgement) -> str:
    names = {verdict: [found.metric.name for found in judgement.findings if found.verdict == verdict] for verdict in SAID}
    return "; ".join(f"{SAID[verdict]} {', '.join(several)}" for verdict, several in names.items() if several)
