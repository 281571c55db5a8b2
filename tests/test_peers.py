"""The peers' benchmark without the peers: pairing, stopping, keys, files, tables; and that what needs no peer computes what it should."""

import dataclasses
import json
import math
import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rich")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # last: the installed wheel stays what is tested
from peers import decomposition, entry, memory, predictor, projection, render, rounds, training  # noqa: E402
from peers.contest import Contest, Difference, Goal, Row  # noqa: E402
from peers.table import GRID, TABLE  # noqa: E402

from fercompress.errors import ComparabilityError, ResultsError  # noqa: E402
from fercompress.tt import cores as train  # noqa: E402
from fercompress.tt.shape import TTShape  # noqa: E402


def rounds_of(*pairs):
    return [{"ours": ours, "peer": peer} for ours, peer in pairs]


GOALS = (Goal(("peer",), 2.0),)


def a_row(goals=GOALS, prepare=lambda **_: Contest({}), **changes):
    return Row(**{"group": "g", "name": "n", "ours": "ours", "goals": goals, "shape": {"d": 4}, "packages": ("numpy",), "prepare": prepare} | changes)


# Pairing


def test_a_round_samples_everyone_in_an_order_and_then_in_its_mirror():
    asked = []
    samples = {name: lambda name=name: asked.append(name) or 1.0 for name in "abc"}
    rounds.one_round(samples, random.Random(3))
    assert sorted(asked[:3]) == ["a", "b", "c"]
    assert asked[3:] == asked[:3][::-1]


def test_the_order_differs_from_round_to_round():
    starts = set()
    for seed in range(20):
        asked = []
        rounds.one_round({name: lambda name=name, asked=asked: asked.append(name) or 1.0 for name in "ab"}, random.Random(seed))
        starts.add(asked[0])
    assert starts == {"a", "b"}


def test_a_machine_that_slows_down_steadily_does_not_move_the_ratio():
    ticks = iter(range(10**6))

    def slower(factor):
        return lambda: factor * math.exp(0.01 * next(ticks))

    found = rounds.run({"ours": slower(1.0), "peer": slower(3.0)}, "ours", rounds.Limits(12, 12), random.Random(0))
    assert all(taken["peer"] / taken["ours"] == pytest.approx(3.0) for taken in found)


def test_the_ratio_is_the_median_of_paired_ratios_whatever_the_rounds_lengths():
    found = rounds.ratio(rounds_of((1, 2), (10, 20), (5, 10), (1, 3), (2, 4), (7, 7), (1, 2)), "ours", "peer")
    assert found.value == pytest.approx(2.0)
    assert found.rounds == 7


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=6, max_size=20))
def test_swapping_the_sides_inverts_the_ratio_and_its_interval(pairs):
    taken = rounds_of(*pairs)
    there, back = rounds.ratio(taken, "ours", "peer"), rounds.ratio(taken, "peer", "ours")
    assert (back.value, back.low, back.high) == pytest.approx((1 / there.value, 1 / there.high, 1 / there.low))


def test_six_rounds_give_the_widest_interval_and_five_give_none():
    taken = rounds_of(*((1, 2 + k) for k in range(6)))
    found = rounds.ratio(taken, "ours", "peer")
    assert (found.low, found.high) == pytest.approx((2, 7))
    with pytest.raises(ValueError, match="at least 6"):
        rounds.ratio(taken[:5], "ours", "peer")


# Stopping


def test_steady_ratios_end_after_the_least_number_of_rounds():
    found = rounds.run({"ours": lambda: 1.0, "peer": lambda: 2.0}, "ours", rounds.Limits(least=12, most=60), random.Random(0))
    assert len(found) == 12


def test_wide_intervals_go_on_to_the_most():
    noise = random.Random(0)
    samples = {"ours": lambda: 1.0, "peer": lambda: math.exp(noise.gauss(0, 2))}
    assert len(rounds.run(samples, "ours", rounds.Limits(least=12, most=20), random.Random(0))) == 20


def test_one_unsettled_peer_keeps_all_going():
    noise = random.Random(0)
    samples = {"ours": lambda: 1.0, "steady": lambda: 2.0, "noisy": lambda: math.exp(noise.gauss(0, 2))}
    assert len(rounds.run(samples, "ours", rounds.Limits(least=12, most=15), random.Random(0))) == 15


def test_the_cap_ends_the_rounds_but_not_below_six():
    seconds = iter(range(0, 10**6, 100))
    found = rounds.run({"ours": lambda: 1.0, "peer": lambda: 2.0}, "ours", rounds.Limits(cap_s=1.0), random.Random(0), clock=lambda: next(seconds))
    assert len(found) == 6


def test_a_contestant_alone_is_refused():
    with pytest.raises(ValueError, match="compared with"):
        rounds.run({"ours": lambda: 1.0}, "ours", rounds.Limits(), random.Random(0))


def test_a_sample_is_the_agents_time_of_the_call():
    calls = []
    sample = rounds.timed(lambda: calls.append(sum(range(2000))), warm_up_s=0.01)
    before = len(calls)
    assert sample() > 0
    assert len(calls) - before >= 5


# Entries


def test_of_several_peers_the_one_closest_to_ours_counts():
    goal = Goal(("slow", "fast", "absent"), 2.0)
    contest = Contest({"ours": int, "slow": int, "fast": int}, missing={"absent": "not installed"})
    taken = [{"ours": 1.0, "slow": 9.0, "fast": 3.0}] * 6
    found = entry.measured(a_row((goal,)), goal, contest, taken, "k")
    assert (found["peer"], found["ratio"], found["verdict"]) == ("fast", pytest.approx(3.0), "met")
    assert found["among"] == {"slow": pytest.approx(9), "fast": pytest.approx(3)}
    assert found["missing"] == {"absent": "not installed"}


def test_a_goal_against_absent_peers_only_is_not_available_with_the_reason():
    goal = Goal(("absent",), 2.0)
    found = entry.measured(a_row((goal,)), goal, Contest({"ours": int}, missing={"absent": "not on PyPI"}), [], "k")
    assert (found["verdict"], found["reason"]) == ("n/a", "not on PyPI")
    assert "n/a, absent: not on PyPI." in render.markdown([found], {})


@pytest.mark.parametrize(("low", "high", "said"), [(2.0, 3.0, "met"), (1.0, 1.9, "missed"), (1.9, 2.1, "inconclusive")])
def test_a_verdict_needs_the_whole_interval(low, high, said):
    assert entry.verdict(Goal(("peer",), 2.0), low, high) == said


def test_the_key_moves_with_what_the_figures_depend_on_and_with_nothing_else():
    row = a_row()
    goal = row.goals[0]
    first = entry.key(row, goal, "code", "machine", False)
    assert first == entry.key(a_row(prepare=print, note="other words"), goal, "code", "machine", False)
    others = [
        entry.key(a_row(shape={"d": 5}), goal, "code", "machine", False),
        entry.key(a_row(packages=("numpy", "scipy")), goal, "code", "machine", False),
        entry.key(row, Goal(("peer",), 3.0), "code", "machine", False),
        entry.key(row, goal, "other", "machine", False),
        entry.key(row, goal, "code", "other", False),
        entry.key(row, goal, "code", "machine", True),
    ]
    assert len({first, *others}) == 7


def test_the_code_hash_follows_what_is_measured_and_ignores_how_it_is_printed(tmp_path):
    folders = {name: tmp_path / name for name in ("tt", "peers")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "rounds.py").write_text("1")
        (folder / "render.py").write_text("1")
    first = entry.code_sha256(folders)
    (folders["peers"] / "render.py").write_text("2")
    assert entry.code_sha256(folders) == first
    (folders["tt"] / "render.py").write_text("2")
    second = entry.code_sha256(folders)
    (folders["peers"] / "rounds.py").write_text("2")
    assert len({first, second, entry.code_sha256(folders)}) == 3


def test_an_absent_package_is_listed_as_absent():
    assert entry.versions(("numpy", "no-such-distribution")) == {"python": entry.versions(())["python"], "numpy": np.__version__} | {
        "no-such-distribution": "absent"
    }


def test_saved_entries_come_back(tmp_path):
    found = entry.not_available(a_row(), Goal(("peer",), 2.0), "why", "k")
    entry.save(tmp_path / "peers.json", [found], "code")
    assert entry.load(tmp_path / "peers.json") == [found]
    assert entry.load(tmp_path / "none.json") == []
    assert entry.identity(found) == ("g", "n", "peer")


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"schema": 99, "comparisons": []})])
def test_a_file_of_another_kind_or_schema_is_refused_with_the_remedy(tmp_path, text):
    (tmp_path / "peers.json").write_text(text)
    with pytest.raises(ResultsError, match="move it away"):
        entry.load(tmp_path / "peers.json")


# Contests


@pytest.mark.parametrize("value", [0.2, math.nan])
def test_contestants_that_compute_something_else_are_never_timed(value):
    contest = Contest({"ours": int}, differences={"peer": Difference("largest difference", value, 0.1)})
    with pytest.raises(ComparabilityError, match="peer does not compute the same"):
        a_row(prepare=lambda **_: contest).contest()


def test_no_two_goals_of_the_table_share_an_identity_and_every_shape_is_plain():
    seen = [(row.group, row.name, goal.peers) for row in TABLE for goal in row.goals]
    assert len(set(seen)) == len(seen)
    for row in TABLE:
        assert json.loads(json.dumps(dict(row.shape))) == dict(row.shape)
    assert sum(row.group == GRID for row in TABLE) >= 60


def test_the_predictors_agree_and_the_agreement_is_counted_over_the_clips_asked_for():
    contest = predictor.asymmetric(features=64, hidden=16, rank=2, last=16, frames=4, batch=1, clips=21)
    assert set(contest.calls) == {predictor.OURS, predictor.FP32, predictor.INT8}
    assert contest.facts["agreement"][predictor.FP32]["clips"] == 21
    assert contest.differences[predictor.FP32].value < 1e-5
    assert 0 < contest.differences[predictor.OURS].value < 0.05
    for call in contest.calls.values():
        assert np.isfinite(call()).all()


def test_features_are_half_zero_alike_over_time_and_the_same_for_the_same_seed():
    first, second = (np.concatenate(list(predictor.clip_features(6, 5, 400, 2, seed))) for seed in (1, 1))
    assert (first == second).all()
    assert first.shape == (6, 5, 400)
    assert 0.4 < (first == 0).mean() < 0.6
    assert np.corrcoef(first[0, 0], first[0, 4])[0, 1] > 0.5 > np.corrcoef(first[0, 0], first[1, 0])[0, 1]


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # torch's own flags() warns on CPUs
def test_every_dense_training_contestant_gives_the_logits_and_gradients_of_torch():
    contest = training.contest(features=24, hidden=8, rank=2, last=4, frames=5, batch=3)
    assert set(contest.differences) == {training.OURS, training.PLAIN, *training.BEST_DENSE}
    for difference in contest.differences.values():
        difference.check("row", "contestant")
    for call in contest.calls.values():
        call()


def test_the_recurrence_written_by_hand_has_the_gradients_of_finite_differences():
    # Its buffers take torch's default dtype; finite differences need double.
    torch.set_default_dtype(torch.float64)
    try:
        random_numbers = torch.Generator().manual_seed(0)
        inputs, w_hh = (torch.randn(size, generator=random_numbers, requires_grad=True) for size in ((3, 2, 12), (12, 3)))
        assert torch.autograd.gradcheck(training._Recurrence.apply, (inputs, w_hh))
    finally:
        torch.set_default_dtype(torch.float32)


def test_both_decompositions_leave_out_the_noise_and_little_else():
    contest = decomposition.contest([4, 4, 4], [4, 4, 8], rank=2)
    assert set(contest.calls) == {decomposition.OURS, decomposition.TENSORLY}
    # Noise of a tenth of the norm in 2048 numbers, of which the train's 160 can take their share.
    for error in contest.facts["relative_error"].values():
        assert 0.085 < error < 0.1
    contest.differences[decomposition.OURS].check("row", decomposition.OURS)


@pytest.mark.parametrize("name", [projection.DENSE])
@pytest.mark.parametrize("learns", [False, True])
def test_the_dense_projection_is_the_merged_matrix(name, learns):
    cores = train.random(TTShape.uniform((2, 3), (4, 2), 2), 0.1, torch.Generator().manual_seed(0))
    project, parameters = projection.PEERS[name](cores, learns)
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(project(x), x @ train.to_dense(cores).T, atol=1e-6)
    assert all(parameter.requires_grad == learns for parameter in parameters)


def test_the_equation_given_to_the_contraction_libraries_is_the_projection():
    cores = train.random(TTShape.uniform((2, 3, 2), (4, 2, 3), 2), 0.1, torch.Generator().manual_seed(0))
    equation, inputs, outputs = projection._equation(cores)
    x = torch.randn(5, 24, generator=torch.Generator().manual_seed(1))
    y = torch.einsum(equation, x.reshape(5, *inputs), *projection._squeezed(cores))
    assert outputs == [2, 3, 2]
    assert torch.allclose(y.reshape(5, 12), x @ train.to_dense(cores).T, atol=1e-6)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_peak_memory_of_a_dense_step_holds_at_least_the_weights_their_gradients_and_adams_moments(monkeypatch):
    import_path = os.pathsep.join([str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", import_path)
    features, hidden = 4096, 128
    found = memory.contest(features=features, hidden=hidden, rank=2, last=64, frames=2, batch=2).calls[training.PLAIN]()
    numbers = 4 * hidden * (features + hidden)
    assert 0.98 * 4 * 4 * numbers <= found < 10 * 4 * numbers


# Tables


def an_entry(name, low, high, group="g", goal=2.0):
    wanted = Goal(("peer",), goal)
    taken = [{"ours": 1e6, "peer": 1e6 * math.exp(t)} for t in np.linspace(math.log(low), math.log(high), 6)]
    row = dataclasses.replace(a_row((wanted,)), group=group, name=name)
    return entry.measured(row, wanted, Contest({"ours": int, "peer": int}), taken, "k")


def test_the_table_shows_ratio_interval_rounds_goal_and_mark():
    lines = render.markdown([an_entry("fast", 3, 5)], {"machine": "M"}).splitlines()
    assert "* machine: M" in lines
    assert "| fast | ours 1 ms | peer 3.88 ms | ≥ 2 | **3.87** | 3 to 5 | 6 | ✓ |" in lines


def test_the_grid_says_how_many_points_are_slower_without_a_doubt():
    entries = [an_entry("a", 0.5, 0.8, GRID, 1.0), an_entry("b", 0.9, 1.2, GRID, 1.0), an_entry("c", 2, 3, GRID, 1.0)]
    said = render.never_slower(entries)
    assert said.startswith("3 of 3 points measured, 1 with an interval wholly below 1 (a)")


def test_the_picture_is_drawn_with_grid_points_and_not_without_any_ratio(tmp_path):
    missing = entry.not_available(a_row(), Goal(("peer",), 2.0), "why", "k")
    render.picture([missing], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    render.picture([an_entry("x", 3, 5), an_entry("a", 0.5, 0.8, GRID, 1.0), missing], tmp_path / "peers.png")
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
