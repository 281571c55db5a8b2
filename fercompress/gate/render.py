"""Judgements as a table for a terminal, Markdown for a pull request, JUnit XML for a CI server, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from fercompress.gate.finding import Finding, Judgement, LimitFinding
from fercompress.records import Doubt

SCHEMA = 1
SIDES = ("candidate", "baseline")
MARKS = {"worse": "✗", "better": "✓", "equivalent": "=", "inconclusive": "?", "n/a": "·", "kept": "✓", "broken": "✗", "unsure": "?"}


def rows(judgement: Judgement, sides: tuple[str, str] = SIDES) -> list[dict[str, str]]:
    """One row of text per metric and limit; sides: what the columns of the candidate's and the baseline's values are called"""
    mine, theirs = sides
    found = [
        {
            "": MARKS[each.verdict], "metric": each.metric.name, "verdict": each.verdict, theirs: amount(each.metric.name, each.baseline),
            mine: amount(each.metric.name, each.candidate), "change": _change(each), "matters from": _effect(each),
            "doubts": ", ".join(map(short, each.doubts)), "why": _why(each),
        }
        for each in judgement.findings
    ]  # fmt: skip
    for limit in judgement.limits:
        bound = f"{'at most' if limit.most else 'at least'} {amount(limit.column, limit.limit)}"
        found.append(
            {
                "": MARKS[limit.verdict], "metric": limit.column, "verdict": limit.verdict, theirs: "",
                mine: amount(limit.column, limit.value), "change": "", "matters from": bound, "doubts": ", ".join(map(short, limit.doubts)),
                "why": _limit_why(limit),
            }
        )  # fmt: skip
    return found


def markdown(judgements: Sequence[Judgement], notes: Sequence[str], headline: str, sides: tuple[str, str] = SIDES) -> str:
    """For a pull request's comment. sides: as for `rows`"""
    lines = [f"### {headline}", ""]
    for judgement in judgements:
        lines += [f"`{judgement.candidate}` against `{judgement.baseline}` on **{judgement.target}**, {judgement.rounds} rounds", ""]
        table = rows(judgement, sides)
        lines += ["| " + " | ".join(table[0]) + " |", "|" + "---|" * len(table[0])]
        lines += ["| " + " | ".join(value.replace("|", "\\|") for value in row.values()) + " |" for row in table]
        lines += ["", f"_{judgement.note}_", ""] if judgement.note else [""]
        lines += [f"- {line}" for line in doubt_lines(judgement)]
    lines += [f"- {note}" for note in notes]
    return "\n".join(lines).rstrip() + "\n"


def short(doubt: Doubt) -> str:
    """ "clock changed", to stand beside a number; `doubt_lines` say what it means."""
    return doubt.name.lower().replace("_", " ")


def doubt_lines(judgement: Judgement) -> list[str]:
    """What each doubt of a judgement means, and what to do."""
    told = [each.doubts for each in judgement.findings] + [each.doubts for each in judgement.limits]
    seen = {doubt for doubts in told for doubt in doubts}
    return [str(doubt) if doubt.startswith(f"{short(doubt)}:") else f"{short(doubt)}: {doubt}" for doubt in Doubt if doubt in seen]


def junit(judgements: Sequence[Judgement], *, fail_on_inconclusive: bool) -> str:
    """One test case per metric and limit; what the gate fails on is a failure there, what is not known is skipped with its reason."""
    suites = ElementTree.Element("testsuites", name="fercompress gate")
    for judgement in judgements:
        suite = ElementTree.SubElement(suites, "testsuite", name=f"{judgement.candidate} against {judgement.baseline}")
        counts = {"tests": 0, "failures": 0, "skipped": 0}
        for name, verdict, text in _cases(judgement):
            case = ElementTree.SubElement(suite, "testcase", classname=f"fercompress.{judgement.target}", name=name)
            counts["tests"] += 1
            unsure = verdict in ("inconclusive", "unsure")
            if verdict in ("worse", "broken") or (unsure and fail_on_inconclusive):
                ElementTree.SubElement(case, "failure", message=f"{verdict}: {text}", type=verdict)
                counts["failures"] += 1
            elif unsure or verdict == "n/a":
                ElementTree.SubElement(case, "skipped", message=f"{verdict}: {text}")
                counts["skipped"] += 1
            elif "; doubt: " in text:
                ElementTree.SubElement(case, "system-out").text = text
        suite.attrib.update({key: str(value) for key, value in counts.items()})
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def document(judgements: Sequence[Judgement], notes: Sequence[str], exit_code: int) -> dict[str, Any]:
    """JSON-able."""
    return {"schema": SCHEMA, "exit_code": exit_code, "notes": list(notes), "judgements": [_table(each) for each in judgements]}


def json_text(judgements: Sequence[Judgement], notes: Sequence[str], exit_code: int) -> str:
    return json.dumps(document(judgements, notes, exit_code), indent=1, ensure_ascii=False) + "\n"


def amount(column: str, value: float | None) -> str:
    """A value of a column in a unit that reads well."""
    if value is None:
        return "n/a"
    if column.endswith("_ns"):
        return f"{value / 1e6:.3f} ms"
    if column.endswith("_bytes"):
        return f"{value / 1e6:,.3f} MB"
    if column.endswith("_j"):
        return f"{value:.4g} J"
    return f"{100 * value:.2f} %"


def _change(finding: Finding) -> str:
    if finding.estimate is None or finding.low is None or finding.high is None:
        return "n/a"
    around = f" [{100 * finding.low:+.2f}, {100 * finding.high:+.2f}]" if finding.low != finding.high else ""
    return f"{100 * finding.estimate:+.2f}{around} {finding.metric.unit}"


def _effect(finding: Finding) -> str:
    return f"{100 * finding.effect:.3g} {finding.metric.unit}"


def _why(finding: Finding) -> str:
    return f"{finding.reason}; {finding.need}" if finding.need else finding.reason


def _limit_why(limit: LimitFinding) -> str:
    if limit.low is None or limit.high is None:
        return "not measured"
    if limit.low == limit.high:
        return ""
    return f"95 % interval {amount(limit.column, limit.low)} to {amount(limit.column, limit.high)}"


def _cases(judgement: Judgement) -> list[tuple[str, str, str]]:
    found = [(each.metric.name, each.verdict, f"{_change(each)}; {_why(each)}{_doubts(each)}") for each in judgement.findings]
    return found + [
        (f"limit {each.column}", each.verdict, f"{amount(each.column, each.value)}; {_limit_why(each)}{_doubts(each)}") for each in judgement.limits
    ]


def _doubts(finding: Finding | LimitFinding) -> str:
    return "".join(f"; doubt: {doubt}" for doubt in finding.doubts)


def _table(judgement: Judgement) -> dict[str, Any]:
    table = asdict(judgement)
    for finding in table["findings"]:
        finding["metric"] = finding["metric"]["name"]
        finding["doubts"] = [str(doubt) for doubt in finding["doubts"]]
        del finding["said"]
    return table
