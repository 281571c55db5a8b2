"""The gate's judgement of made-up evidence: what is worse, better, equivalent or not known, and how often it errs."""

import dataclasses
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from gate_evidence import CLASSES, answers, pair

from fercompress import gating
from fercompress.errors import InputError
from fercompress.gate import judge, metrics, render
from fercompress.gate.finding import Judgement
from fercompress.gate.judge import Rules
from fercompress.records import Doubt

RULES = Rules.of({}, {}, (), (8, 16))
ALL_RIGHT = np.ones(300, bool)


def judged(candidate, baseline, rules=RULES, **options) -> Judgement:
    return judge.judge(candidate, baseline, rules, **options)


def verdict(judgement: Judgement, name: str) -> str:
    return next(each.verdict for each in judgement.findings if each.metric.name == name)


def wrong(*places, n=300) -> np.ndarray:
    right = np.ones(n, bool)
    right[list(places)] = False
    return right


def test_a_candidate_that_is_half_as_fast_again_is_worse_in_every_stage():
    found = judged(*pair(np.random.default_rng(0), slower=0.5))
    assert {"latency_extractor_p50_ns", "latency_predictor_p50_ns", "latency_clip_p50_ns", "latency_clip_p90_ns"} == set(found.regressed_metrics)
    assert found.regressed


def test_a_candidate_that_is_faster_is_better_and_does_not_regress():
    found = judged(*pair(np.random.default_rng(0), slower=-0.3))
    assert verdict(found, "latency_clip_p50_ns") == "better"
    assert not found.regressed


def test_sixteen_quiet_rounds_without_a_change_are_equivalent():
    found = judged(*pair(np.random.default_rng(1), rounds=16, right=ALL_RIGHT))
    assert [verdict(found, name) for name in ("latency_clip_p50_ns", "accuracy", "memory_peak_bytes", "stored_bytes")] == ["equivalent"] * 4
    assert found.decided


def test_noise_makes_a_verdict_inconclusive_and_says_how_many_more_rounds_would_decide():
    candidate, baseline = pair(np.random.default_rng(2), slower=0.01, noise=0.1)
    found = judged(dataclasses.replace(candidate, round_s=30.0), baseline)
    finding = next(each for each in found.findings if each.metric.name == "latency_clip_p50_ns")
    assert finding.verdict == "inconclusive"
    assert finding.need.startswith("about ")
    assert "more rounds" in finding.need
    assert "min" in finding.need
    assert found.open
    assert not found.decided


def test_fewer_than_six_rounds_decide_nothing():
    found = judged(*pair(np.random.default_rng(0), rounds=5, slower=0.5))
    assert verdict(found, "latency_clip_p50_ns") == "inconclusive"


def test_identical_answers_are_equivalent_without_statistics():
    found = judged(*pair(np.random.default_rng(0), right=wrong(1, 2, 3)))
    finding = next(each for each in found.findings if each.metric.name == "accuracy")
    assert (finding.verdict, finding.reason) == ("equivalent", "the same answer to every clip")


def test_a_drop_of_one_point_in_300_clips_is_not_known_to_be_worse_and_one_of_ten_points_is():
    random = np.random.default_rng(3)
    lost = random.permutation(300)
    one = judged(*pair(random, right=ALL_RIGHT, right_now=wrong(*lost[:3])))
    ten = judged(*pair(random, right=ALL_RIGHT, right_now=wrong(*lost[:30])))
    assert verdict(one, "accuracy") == "inconclusive"
    # Of 3 lost and none won: 2 (1/2)^3 less half of P(0) on either side is 1/8.
    assert "3 clips lost, 0 won (McNemar's mid-p, of clips as if independent: 0.12)" in next(
        each.reason for each in one.findings if each.metric.name == "accuracy"
    )
    assert verdict(ten, "accuracy") == "worse"
    assert verdict(ten, "negative_flips") in ("worse", "inconclusive")


def test_a_doubt_says_its_name_once():
    candidate, baseline = pair(np.random.default_rng(0), right=ALL_RIGHT)
    found = judged(dataclasses.replace(candidate, doubts={"accuracy": frozenset({Doubt.SIMULATED, Doubt.ONE_SEED})}), baseline)
    assert render.doubt_lines(found) == [f"one seed: {Doubt.ONE_SEED}", str(Doubt.SIMULATED)]


def test_one_class_that_is_lost_is_found_though_the_accuracy_hardly_moves():
    labels = np.arange(3000) % len(CLASSES)
    now = np.ones(3000, bool)
    now[np.flatnonzero(labels == 2)[:150]] = False
    found = judged(*pair(np.random.default_rng(4), right=np.ones(3000, bool), right_now=now))
    assert verdict(found, "worst_class_recall") == "worse"
    finding = next(each for each in found.findings if each.metric.name == "worst_class_recall")
    assert (finding.baseline, round(finding.candidate, 3)) == (1.0, 0.85)


def test_people_are_the_sample_of_accuracy_and_not_their_clips():
    """Thirty lost clips of one person say less about new people than thirty lost clips of thirty people."""
    one_person, many = wrong(*range(0, 300, 10)), wrong(*range(30))
    found = []
    for now in (one_person, many):
        sides = [dataclasses.replace(side, answers=answers(right, people=10)) for side, right in zip(
            pair(np.random.default_rng(5)), (now, ALL_RIGHT), strict=True)]  # fmt: skip
        found.append(next(each for each in judged(*sides).findings if each.metric.name == "accuracy"))
    assert found[0].estimate == found[1].estimate
    assert found[0].high - found[0].low > 2 * (found[1].high - found[1].low)


def test_bytes_are_counted_and_not_estimated():
    candidate, baseline = pair(np.random.default_rng(0), rounds=16)
    sizes = {1009: "equivalent", 1011: "worse", 985: "better"}
    for size, expected in sizes.items():
        assert verdict(judged(dataclasses.replace(candidate, stored_bytes=size), baseline), "stored_bytes") == expected


def test_what_a_person_calls_the_smallest_effect_decides():
    candidate, baseline = pair(np.random.default_rng(6), rounds=16, slower=0.05)
    assert verdict(judged(candidate, baseline), "latency_clip_p50_ns") == "worse"
    lenient = Rules.of({"latency_clip_p50_ns": "10%"}, {}, (), (8, 16))
    assert verdict(judged(candidate, baseline, lenient), "latency_clip_p50_ns") == "equivalent"


def test_a_calibrated_target_raises_the_smallest_effect_to_twice_its_noise():
    rules = Rules.of({"accuracy": "2pt"}, {}, (), (8, 16), noise={"latency_clip_p50_ns": 0.03, "accuracy": 0.0})
    assert rules.effects["latency_clip_p50_ns"] == pytest.approx(0.06)
    assert rules.effects["accuracy"] == 0.02
    assert rules.effects["latency_predictor_p50_ns"] == 0.02


def test_limits_hold_whatever_the_baseline_was():
    candidate, baseline = pair(np.random.default_rng(7), right=ALL_RIGHT, right_now=ALL_RIGHT)
    limits = {"latency_clip_p50_ns": "1ms", "memory_peak_bytes": "70MB", "accuracy": "98 %", "energy_clip_j": "1J"}
    found = judged(candidate, baseline, Rules.of({}, limits, (), (8, 16)))
    assert {each.column: each.verdict for each in found.limits} == {
        "latency_clip_p50_ns": "broken", "memory_peak_bytes": "kept", "accuracy": "kept", "energy_clip_j": "n/a"
    }  # fmt: skip
    assert found.regressed
    assert found.open, "a limit on what was not measured is not kept"


def test_a_simulated_target_is_called_so_in_every_output():
    candidate, baseline = (dataclasses.replace(side, simulated=True) for side in pair(np.random.default_rng(0)))
    found = judged(candidate, baseline)
    for text in (render.markdown([found], [], "x"), render.junit([found], fail_on_inconclusive=True), render.json_text([found], [], 0)):
        assert "lab (times simulated)" in text


def test_a_worse_counts_if_a_fresh_run_repeats_it_and_else_the_fresh_run_is_believed():
    slow, calm = (judged(*pair(np.random.default_rng(8), rounds=16, slower=slower)) for slower in (0.2, 0.0))
    fresh = judged(*pair(np.random.default_rng(9), rounds=16, slower=0.3))
    stands = next(each for each in slow.confirmed_by(fresh).findings if each.metric.name == "latency_clip_p50_ns")
    assert (stands.verdict, stands.estimate) == ("worse", pytest.approx(0.3, abs=0.02))
    assert stands.reason.endswith("; also in a first run")
    cleared = next(each for each in slow.confirmed_by(calm).findings if each.metric.name == "latency_clip_p50_ns")
    assert cleared.verdict == verdict(calm, "latency_clip_p50_ns") == "equivalent"
    assert cleared.reason.endswith("; a first run said worse, a fresh one does not")
    assert cleared.estimate == pytest.approx(0.0, abs=0.02)


def test_a_worse_that_no_fresh_run_looks_at_is_not_known():
    slow = judged(*pair(np.random.default_rng(8), rounds=16, slower=0.2))
    blind = dataclasses.replace(slow, findings=())
    found = slow.confirmed_by(blind)
    assert found.open
    assert not found.regressed


def test_doubts_stand_beside_the_number_that_they_weaken_in_every_output():
    candidate, baseline = pair(np.random.default_rng(8), right=ALL_RIGHT)
    candidate = dataclasses.replace(candidate, doubts={"latency_clip_p50_ns": frozenset({Doubt.NOISY}), "accuracy": frozenset({Doubt.FEW_PEOPLE})})
    baseline = dataclasses.replace(baseline, doubts={"latency": frozenset({Doubt.THROTTLED})})
    found = judged(candidate, baseline)
    shown = {row["metric"]: row["doubts"] for row in render.rows(found)}
    assert shown["latency_clip_p50_ns"] == "noisy, throttled"
    assert shown["latency_predictor_p50_ns"] == "throttled"
    assert shown["accuracy"] == "few people"
    assert shown["stored_bytes"] == ""
    assert f"- noisy: {Doubt.NOISY}" in render.markdown([found], [], "x")
    suite = ElementTree.fromstring(render.junit([found], fail_on_inconclusive=False).split("\n", 1)[1]).find("testsuite")
    case = next(case for case in suite if case.get("name") == "latency_clip_p50_ns")
    assert str(Doubt.NOISY) in ElementTree.tostring(case, encoding="unicode")
    told = {each["metric"]: each for each in json.loads(render.json_text([found], [], 0))["judgements"][0]["findings"]}
    assert told["latency_clip_p50_ns"]["doubts"] == [str(Doubt.NOISY), str(Doubt.THROTTLED)]
    assert "said" not in told["latency_clip_p50_ns"]


def test_a_baseline_of_another_day_is_judged_with_the_spread_between_days():
    candidate, baseline = pair(np.random.default_rng(9), rounds=16, slower=0.05)
    assert verdict(judged(candidate, baseline), "latency_clip_p50_ns") == "worse"
    assert verdict(judged(candidate, baseline, paired=False), "latency_clip_p50_ns") == "inconclusive"
    assert verdict(judged(*pair(np.random.default_rng(9), rounds=16, slower=0.5), paired=False), "latency_clip_p50_ns") == "worse"


@pytest.mark.parametrize("drift", [0.0, 0.08])
def test_a_gate_hardly_ever_alarms_where_nothing_changed(drift):
    """The whole of it, accuracy too, is benchmarks/verdict_simulation.py; 300 gates of the timed metrics and memory here."""
    random = np.random.default_rng(10)
    alarms = sum(judged(*pair(random, drift=drift)).regressed for _ in range(300))
    assert alarms <= 15, "2.5 % of 300 are 7.5; more than 15 would come once in 200 times"


def test_a_true_slowdown_of_five_percent_is_found_in_eight_rounds():
    random = np.random.default_rng(12)
    found = sum(judged(*pair(random, slower=0.05)).regressed for _ in range(100))
    assert found >= 90


@pytest.mark.parametrize(
    ("effects", "limits", "names", "said"),
    [
        ({"latency_clip_p50": "2%"}, {}, (), "did you mean 'latency_clip_p50_ns'"),
        ({"accuracy": "2ms"}, {}, (), "2% or 1pt"),
        ({"accuracy": "0%"}, {}, (), "between 0 and 100"),
        ({}, {"latency": "2ms"}, (), "no such metric"),
        ({}, {}, ("acuracy",), "did you mean 'accuracy'"),
    ],
)
def test_wishes_that_cannot_be_meant_are_refused(effects, limits, names, said):
    with pytest.raises(InputError, match=said):
        Rules.of(effects, limits, names, (8, 16))


def test_every_output_tells_every_metric():
    candidate, baseline = pair(np.random.default_rng(13), slower=0.5, right=ALL_RIGHT)
    found = judged(candidate, baseline, Rules.of({}, {"memory_peak_bytes": "1MB"}, (), (8, 16)))
    names = [*metrics.METRICS, "memory_peak_bytes"]
    assert [row["metric"] for row in render.rows(found)] == names
    markdown = render.markdown([found], ["a note"], "gate FAILED")
    assert all(f"| {name} |" in markdown for name in names)
    assert "- a note" in markdown
    suite = ElementTree.fromstring(render.junit([found], fail_on_inconclusive=True).split("\n", 1)[1]).find("testsuite")
    assert len(suite) == len(names) == int(suite.get("tests"))
    failed = {case.get("name") for case in suite if case.find("failure") is not None}
    assert {"latency_clip_p50_ns", "limit memory_peak_bytes"} <= failed
    assert "accuracy" not in failed
    assert json.loads(render.json_text([found], [], 1))["judgements"][0]["findings"][0]["metric"] == "accuracy"


def test_what_is_not_known_fails_or_is_skipped_as_asked():
    found = judged(*pair(np.random.default_rng(2), noise=0.2))
    for fail, tag in ((True, "failure"), (False, "skipped")):
        suite = ElementTree.fromstring(render.junit([found], fail_on_inconclusive=fail).split("\n", 1)[1]).find("testsuite")
        case = next(case for case in suite if case.get("name") == "latency_clip_p50_ns")
        assert case.find(tag) is not None


def test_a_run_whose_rounds_were_added_look_by_look_is_judged_with_what_each_look_may_spend():
    found = pair(np.random.default_rng(0), rounds=12)
    added, fixed = (gating._over(RULES, found, adaptive=adaptive).looks for adaptive in (True, False))
    assert (added.rounds, added.most) == ((8, 12), 24)
    assert added.share(12) == pytest.approx((12**2 - 8**2) / 24**2)
    assert (fixed.rounds, fixed.share(12)) == ((12,), 1.0)
    assert gating._over(RULES, pair(np.random.default_rng(0), rounds=5), adaptive=True) is RULES
