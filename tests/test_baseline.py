"""A baseline file gives back what was accepted, doubts too; a file of every version is read; what differs is named."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from gate_evidence import pair

from fercompress.errors import ComparabilityError, ResultsError
from fercompress.gate import baseline, judge, render
from fercompress.gate.baseline import NEWEST, Accepted
from fercompress.gate.judge import Rules
from fercompress.records import Doubt

DATA = Path(__file__).parent / "data"
RULES = Rules.of({}, {}, ("accuracy", "latency_clip_p50_ns"), (8,))
DOUBTS = {"latency": frozenset({Doubt.BUSY_HOST, Doubt.THROTTLED}), "accuracy": frozenset({Doubt.FEW_PEOPLE}), "memory": frozenset()}


def sides(protocol="subjects", **more):
    right = np.arange(12) % 4 > 0
    return [
        dataclasses.replace(side, conditions={"machine": ["x86_64"], "protocol": protocol}, **more)
        for side in pair(np.random.default_rng(1), right=right, right_now=right)
    ]


def kept(path, side):
    baseline.write(path, side.target, {NEWEST: Accepted(side, "ann", "first", "2026-11-24", "2027-02-22")})
    return baseline.read(path).entries[NEWEST].evidence


def test_what_was_accepted_comes_back_with_its_doubts(tmp_path):
    side, _ = sides(doubts=DOUBTS)
    found = kept(tmp_path / "b.json", side)
    assert found.doubts == {"latency": DOUBTS["latency"], "accuracy": DOUBTS["accuracy"]}
    assert (found.rounds, found.tails, found.memory_bytes, found.conditions) == (side.rounds, side.tails, side.memory_bytes, side.conditions)
    assert found.answers.predicted.tolist() == side.answers.predicted.tolist()


def test_a_gate_prints_the_doubts_of_the_numbers_that_a_baseline_stores(tmp_path):
    quiet, doubted = sides()[0], sides(doubts=DOUBTS)[1]
    found = judge.judge(quiet, kept(tmp_path / "b.json", doubted), RULES, paired=False)
    shown = {row["metric"]: row["doubts"] for row in render.rows(found)}
    assert shown == {"accuracy": "few people", "latency_clip_p50_ns": "busy host, throttled"}
    assert f"- throttled: {Doubt.THROTTLED}" in render.markdown([found], [], "x")


def test_a_file_of_the_first_version_is_read_and_has_no_doubts():
    found = baseline.read(DATA / "baseline-v1.json").entries
    assert sorted(found) == ["newest", "release"]
    evidence = found[NEWEST].evidence
    assert (evidence.name, evidence.target, len(evidence.rounds["clip"]), len(evidence.answers)) == ("reports/mine:tt", "lab", 8, 12)
    assert evidence.doubts == {}


def test_a_file_of_a_later_version_is_refused_with_the_remedy(tmp_path):
    table = json.loads((DATA / "baseline-v1.json").read_text())
    table["schema"] = baseline.SCHEMA + 1
    (tmp_path / "b.json").write_text(json.dumps(table))
    with pytest.raises(ResultsError, match=f"baseline schema {baseline.SCHEMA + 1}, this version reads 1 to {baseline.SCHEMA}; accept it anew"):
        baseline.read(tmp_path / "b.json")


@pytest.mark.parametrize(("then", "now"), [("subjects", "leaky-image"), ("leaky-image", "subjects"), ("leaky-image", None)])
def test_a_leaky_baseline_and_a_fair_candidate_are_not_comparable_nor_the_other_way_round(tmp_path, then, now):
    old = kept(tmp_path / "b.json", sides(then)[1])
    said = f"how the clips are cut into folds: {then} then, {now or 'unknown'} now"
    with pytest.raises(ComparabilityError, match=said) as told:
        baseline.check_comparable(sides(now)[0], old)
    assert told.value.exit_code == 5
    baseline.check_comparable(sides(then)[0], old)


def test_a_baseline_that_does_not_say_how_its_clips_were_cut_is_compared_with_fair_candidates_alone():
    old = baseline.read(DATA / "baseline-v1.json").entries[NEWEST].evidence
    now = dataclasses.replace(old, conditions={**old.conditions, "protocol": "subjects"})
    baseline.check_comparable(now, old)
    with pytest.raises(ComparabilityError, match="unknown then, leaky-image now"):
        baseline.check_comparable(dataclasses.replace(now, conditions={**old.conditions, "protocol": "leaky-image"}), old)
