import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fercompress.errors import ShapeError
from fercompress.tt.plan import ONNXRUNTIME, TORCH, Plan
from fercompress.tt.shape import TTShape, asymmetric, balanced


def _named(plan: Plan) -> dict[str, object]:
    return {candidate.name: candidate for candidate in plan.candidates}


def test_products_and_bytes_of_one_cut_worked_out_by_hand() -> None:
    # (6, 10) as left (2, 5, r) and right (r, 3, 2) with r = 3, three rows of input.
    found = _named(Plan.of(TTShape.uniform((2, 3), (5, 2), 3), rows=3, costs=ONNXRUNTIME))
    left, right, dense = found["two-gemm, cut 1, left first"], found["two-gemm, cut 1, right first"], found["dense"]
    assert dense.macs == 3 * 60
    assert left.macs == 3 * (2 * 3 * 5 * 2 + 2 * 3 * 2 * 3)
    assert right.macs == 3 * (5 * 2 * 3 * 3 + 2 * 5 * 3 * 3)
    assert left.bytes_written == 4 * 3 * (2 * 3 * 2 + 6)
    assert right.bytes_written == 4 * 3 * (5 * 3 * 3 + 6)
    assert left.bytes_read == right.bytes_read == 4 * (2 * 5 * 3 + 3 * 3 * 2)
    assert (dense.calls, left.calls) == (1, 2)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([asymmetric(1024, 4096, 4, last=256), balanced(1024, 4096, 4), balanced(64, 48, 3, cores=3), asymmetric(64, 48, 4)]),
    st.integers(1, 64),
    st.integers(1, 40),
    st.sampled_from([32, 8, 4]),
    st.booleans(),
    st.sampled_from([TORCH, ONNXRUNTIME]),
)
def test_what_is_chosen_is_the_cheapest_and_never_dearer_than_dense(shape, steps, batch, bits, training, costs) -> None:
    plan = Plan.for_lstm(shape, steps, batch, bits=bits, training=training, costs=costs)
    dense = next(candidate for candidate in plan.candidates if candidate.execution == "dense")
    assert plan.chosen.cost_ns <= dense.cost_ns
    assert plan.chosen.cost_ns == min(candidate.cost_ns for candidate in plan.candidates)


def test_every_cut_and_either_order_is_considered_once() -> None:
    names = [candidate.name for candidate in Plan.of(balanced(1024, 4096, 4), 16).candidates]
    assert sorted(names) == sorted(
        ["dense", *(f"two-gemm, cut {cut}, {first} first" for cut, first in itertools.product((1, 2, 3), ("left", "right")))]
    )


def test_a_large_asymmetric_train_runs_as_a_projection_and_a_large_balanced_one_by_two_products() -> None:
    assert Plan.for_lstm(asymmetric(1024, 4096, 4, last=256), steps=16).execution == "asymmetric"
    for costs in (TORCH, ONNXRUNTIME):
        chosen = Plan.for_lstm(balanced(1024, 4096, 4), steps=16, costs=costs).chosen
        assert (chosen.execution, chosen.cut) == ("two-gemm", 2)


def test_a_tiny_train_is_merged() -> None:
    assert Plan.for_lstm(balanced(64, 48, 3, cores=3), steps=16).execution == "dense"
    assert Plan.of(asymmetric(16, 8, 2), rows=1).execution == "dense"


def test_a_train_of_one_core_can_only_be_dense() -> None:
    assert [candidate.execution for candidate in Plan.of(TTShape((6,), (4,), (1, 1)), 3).candidates] == ["dense"]


def test_int8_makes_the_dense_candidate_cheaper_where_a_runtime_multiplies_in_int8() -> None:
    shape = balanced(1024, 4096, 4)
    costs = [_named(Plan.of(shape, 16, bits=bits, costs=ONNXRUNTIME))["dense"].cost_ns for bits in (32, 8)]
    assert costs[1] < 0.6 * costs[0]


def test_a_measured_plan_takes_the_median_of_interleaved_calls() -> None:
    plan = Plan.of(TTShape.uniform((2, 3), (5, 2), 3), rows=3)
    dense, right = _named(plan)["dense"], _named(plan)["two-gemm, cut 1, right first"]
    order, now = [], 0

    # Rounds of 3: right takes 5, 1000 and 7 (an outlier), dense 9 each time.
    takes = {"right": iter([1, 5, 1000, 7]), "dense": iter([1, 9, 9, 9])}

    def run(name: str) -> None:
        nonlocal now
        order.append(name)
        now += next(takes[name])

    measured = plan.measured({dense: lambda: run("dense"), right: lambda: run("right")}, rounds=3, clock=lambda: now)
    assert order == ["dense", "right"] * 4
    assert [(candidate.name, candidate.cost_ns) for candidate in measured.candidates] == [("two-gemm, cut 1, right first", 7.0), ("dense", 9.0)]
    assert "median of 3" in measured.source


def test_a_candidate_of_another_plan_cannot_be_measured() -> None:
    other = Plan.of(balanced(64, 48, 3), 16).chosen
    with pytest.raises(ShapeError, match="no candidate of this plan"):
        Plan.of(asymmetric(1024, 4096, 4), 16).measured({other: lambda: None})


def test_the_explanation_is_an_aligned_table_that_marks_the_choice() -> None:
    plan = Plan.of(balanced(1024, 4096, 4), 16)
    *table, source = plan.explain().splitlines()
    assert len(table) == 1 + len(plan.candidates)
    assert len({len(line) for line in table}) == 1
    assert [line[0] for line in table] == [" ", ">", *" " * (len(table) - 2)]
    assert plan.chosen.name in table[1]
    assert "Zen 3" in source


def test_plans_that_cannot_be_are_refused() -> None:
    with pytest.raises(ShapeError, match="at least one row"):
        Plan.of(balanced(64, 48, 3), 0)
    with pytest.raises(ShapeError, match="2 bits"):
        Plan.of(balanced(64, 48, 3), 1, bits=2)
    with pytest.raises(ShapeError, match="at least one candidate"):
        Plan((), "nothing")
