import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fercompress.errors import ShapeError
from fercompress.tt import cores as train
from fercompress.tt.decompose import tt_svd
from fercompress.tt.ranks import POLICIES, Spectrum, chosen, within_bytes
from fercompress.tt.shape import TTShape

OUTPUTS, INPUTS = (4, 3, 4), (3, 4, 3)


def _weight(seed: int, decay: float = 0.6) -> torch.Tensor:
    """A matrix whose bonds have decaying singular values: a train of large ranks with shrinking rank indices."""
    shape = TTShape.uniform(OUTPUTS, INPUTS, 8)
    cores = train.random(shape, 1.0, torch.Generator().manual_seed(seed))
    fall = decay ** torch.arange(8.0)
    return train.to_dense([cores[0] * fall, cores[1] * fall, cores[2]]).double()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.sampled_from([0.0, 0.01, 0.1, 0.4, 0.9]), st.sampled_from([0.3, 0.9]))
def test_a_relative_error_is_kept_by_the_decomposition_with_the_ranks_chosen_for_it(seed: int, error: float, decay: float) -> None:
    weight = _weight(seed, decay)
    spectrum = Spectrum.of(weight, OUTPUTS, INPUTS)
    ranks = chosen(spectrum, "relative-error", error)
    made = train.to_dense(tt_svd(weight, TTShape(OUTPUTS, INPUTS, ranks), "tensorly"))
    assert float((made - weight).norm()) <= (error + 1e-9) * float(weight.norm())


def test_a_matrix_of_known_ranks_gets_them_back_when_no_error_is_allowed() -> None:
    weight = train.to_dense(train.random(TTShape(OUTPUTS, INPUTS, (1, 2, 3, 1)), 1.0, torch.Generator().manual_seed(1))).double()
    assert chosen(Spectrum.of(weight, OUTPUTS, INPUTS), "relative-error", 1e-6) == (1, 2, 3, 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.floats(1.2, 4.0))
def test_a_target_ratio_is_met_and_no_bond_could_still_grow(seed: int, ratio: float) -> None:
    spectrum = Spectrum.of(_weight(seed), OUTPUTS, INPUTS)
    ranks = chosen(spectrum, "ratio", ratio)
    dense = math.prod(OUTPUTS) * math.prod(INPUTS)
    assert dense / spectrum.shape(ranks).params >= ratio
    for bond in (1, 2):
        larger = [rank + (k == bond) for k, rank in enumerate(ranks)]
        try:
            params = spectrum.shape(larger).params
        except ShapeError:
            continue
        assert params > dense / ratio or ranks[bond] >= 8  # the weight has rank 8 at both bonds


def test_a_budget_goes_to_the_bond_that_holds_more_weight() -> None:
    spectrum = Spectrum((4, 4, 4), (4, 4, 4), ((10.0, 9.0, 8.0, 7.0), (10.0, 0.1, 0.01, 0.001)))
    ranks = chosen(spectrum, "bytes", 300)
    assert ranks[1] > ranks[2]
    assert spectrum.shape(ranks).stored_bytes(8) <= 300


def test_no_rank_of_equal_bytes_has_a_bound_much_below_the_greedy_choice() -> None:
    spectrum = Spectrum.of(_weight(3, 0.5), OUTPUTS, INPUTS)
    budget = spectrum.shape((1, 4, 4, 1)).stored_bytes(8)
    found = spectrum.error_bound(chosen(spectrum, "bytes", budget))
    best = math.inf
    for left, right in itertools.product(range(1, 13), repeat=2):
        try:
            shape = spectrum.shape((1, left, right, 1))
        except ShapeError:
            continue
        if shape.stored_bytes(8) <= budget:
            best = min(best, spectrum.error_bound(shape.ranks))
    assert found <= 1.3 * best


def test_fixed_refuses_where_clipped_lowers() -> None:
    spectrum = Spectrum.of(torch.randn(8, 8), (2, 2, 2), (2, 2, 2))
    assert chosen(spectrum, "clipped", 6) == (1, 4, 4, 1)
    assert chosen(spectrum, "fixed", 3) == (1, 3, 3, 1)
    with pytest.raises(ShapeError, match="rank 6 at bond 1"):
        chosen(spectrum, "fixed", 6)


def test_ranks_of_every_bond_are_taken_as_they_are_and_checked() -> None:
    spectrum = Spectrum.of(torch.randn(8, 8), (2, 2, 2), (2, 2, 2))
    assert chosen(spectrum, "per-bond", (2, 3)) == (1, 2, 3, 1)
    with pytest.raises(ShapeError, match="each of the 2 inner bonds"):
        chosen(spectrum, "per-bond", (2, 3, 4))
    with pytest.raises(ShapeError, match="rank 5 at bond 2"):
        chosen(spectrum, "per-bond", (2, 5))


def test_wishes_that_cannot_be_met_say_what_could() -> None:
    spectrum = Spectrum.of(torch.randn(8, 8), (2, 2, 2), (2, 2, 2))
    with pytest.raises(ShapeError, match=r"at rank 1 it is 5\.33"):  # 64 / 12
        chosen(spectrum, "ratio", 6)
    with pytest.raises(ShapeError, match="rank 1 takes 36 in 8 bits"):  # 12 codes, 12 scales of 2 bytes
        chosen(spectrum, "bytes", 35)
    with pytest.raises(ShapeError, match=r"relative error of 1 "):
        chosen(spectrum, "relative-error", 1)
    with pytest.raises(ShapeError, match=", ".join(POLICIES)):
        chosen(spectrum, "best", 1)
    with pytest.raises(ShapeError, match="takes one number"):
        chosen(spectrum, "fixed", (2, 2))


def test_a_spectrum_that_does_not_fit_or_is_not_sorted_is_refused() -> None:
    with pytest.raises(ShapeError, match="one for every inner bond"):
        Spectrum((2, 2), (2, 2), ())
    with pytest.raises(ShapeError, match="at bond 1 must be at least one number, largest first"):
        Spectrum((2, 2), (2, 2), ((1.0, 2.0),))


def test_bytes_go_to_the_layer_whose_loss_falls_most_per_byte() -> None:
    sizes = {"input": {2: 100, 4: 200, 8: 400}, "hidden": {2: 10, 4: 20, 8: 40}}
    loss = {"input": {2: 1.0, 4: 0.5, 8: 0.45}, "hidden": {2: 0.3, 4: 0.29, 8: 0.0}}
    asked = []

    def loss_of(layer: str, rank: int) -> float:
        asked.append((layer, rank))
        return loss[layer][rank]

    # By hand: hidden to 8 saves 0.3 for 30 bytes (its step to 4 alone looks poor), input to 4 saves 0.5 for 100, input to 8 0.05 for 200.
    assert within_bytes(sizes, loss_of, 110) == {"input": 2, "hidden": 2}
    assert within_bytes(sizes, loss_of, 140) == {"input": 2, "hidden": 8}
    assert within_bytes(sizes, loss_of, 240) == {"input": 4, "hidden": 8}
    assert within_bytes(sizes, loss_of, 439) == {"input": 4, "hidden": 8}
    assert within_bytes(sizes, loss_of, 440) == {"input": 8, "hidden": 8}
    assert len(asked) == 5 * 6


def test_bytes_that_buy_nothing_are_not_spent() -> None:
    assert within_bytes({"a": {1: 10, 2: 20}}, lambda _, rank: float(rank), 1000) == {"a": 1}


def test_a_budget_below_the_smallest_ranks_is_refused_with_what_they_take() -> None:
    with pytest.raises(ShapeError, match="take 110 bytes together"):
        within_bytes({"a": {2: 100}, "b": {2: 10}}, lambda *_: 0.0, 109)
    with pytest.raises(ShapeError, match="layer 'b' has no rank"):
        within_bytes({"a": {2: 100}, "b": {}}, lambda *_: 0.0, 109)
