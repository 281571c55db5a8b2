import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from fercompress import stats
from fercompress.stats import percentiles
from fercompress.stats.bootstrap import bca_limits


def pooled_bootstrap(units, statistic, resamples=2000):
    """The plain way: every resample's samples pooled, one after the other."""
    n = len(units)
    drawn = np.random.default_rng(0).integers(0, n, (resamples, n))
    draws = np.array([statistic(np.concatenate([units[i] for i in row])) for row in drawn])
    without = np.array([statistic(np.concatenate(units[:i] + units[i + 1 :])) for i in range(n)])
    return bca_limits(statistic(np.concatenate(units)), draws, without, 0.95)


def test_interval_of_a_mean_is_scipys_bca():
    values = np.random.default_rng(0).exponential(size=25)
    found = pooled_bootstrap([np.array([v]) for v in values], lambda pooled: float(pooled.mean()), resamples=20_000)
    theirs = oracle.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    assert found == pytest.approx((theirs.low, theirs.high), rel=0.02)


def test_a_skewed_samples_interval_reaches_further_to_the_long_side():
    values = np.random.default_rng(2).lognormal(sigma=1, size=30)
    low, high = pooled_bootstrap([np.array([v]) for v in values], lambda pooled: float(pooled.mean()))
    assert high - values.mean() > 1.3 * (values.mean() - low)


def test_p95_of_blocks_that_differ_is_less_sure_than_that_of_as_many_independent_samples():
    random = np.random.default_rng(1)
    differing = [random.normal(offset, 0.01, 64) for offset in random.normal(1, 0.05, 16)]
    pooled = np.concatenate(differing)
    alike = list(random.permutation(pooled).reshape(16, 64))
    wide, narrow = (high - low for low, high in (stats.percentile_interval(blocks, 0.95) for blocks in (differing, alike)))
    assert wide > 2 * narrow


def test_the_interval_of_a_p95_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(4)
    truth = oracle.norm.ppf(0.95)
    found = [stats.percentile_interval(list(random.normal(size=(10, 40))), 0.95, resamples=300, seed=i) for i in range(200)]
    assert np.mean([low <= truth <= high for low, high in found]) >= 0.88  # 10 blocks: the bootstrap of few units runs short


def test_no_interval_below_the_floor_or_with_five_blocks():
    assert stats.percentile_interval([[1.0] * 20] * 6, 0.95) is None  # 120 of 130
    assert stats.percentile_interval([[1.0] * 40] * 5, 0.95) is None
    assert stats.percentile_interval([[1.0] * 22] * 6, 0.95) == (1, 1)


def test_an_empty_block_is_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        stats.percentile_interval([[1.0] * 200, *[[]] * 6], 0.95)


@pytest.mark.parametrize(("samples", "percentiles"), [(10, ()), (64, (0.5, 0.9)), (661, (0.5, 0.9, 0.95)), (662, (0.5, 0.9, 0.95, 0.99))])
def test_percentiles_that_a_sample_supports(samples, percentiles):
    assert stats.claimable(samples) == percentiles


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=12), min_size=1, max_size=6), st.sampled_from([0.5, 0.9, 0.95, 0.99]), st.data())
def test_quantiles_of_pools_are_numpys_of_the_pooled_samples(blocks, q, data):
    arrays = [np.sort(np.array(block, float)) for block in blocks]
    counts = np.array([data.draw(st.lists(st.integers(0, 3), min_size=len(blocks), max_size=len(blocks))) for _ in range(3)])
    counts[:, 0] += 1  # a pool holds something
    expected = [np.quantile(np.concatenate([np.repeat(a, c) for a, c in zip(arrays, row, strict=True)]), q, method="inverted_cdf") for row in counts]
    assert percentiles.pooled_quantiles(arrays, counts, q).tolist() == expected


def test_the_interval_of_a_percentile_is_the_generic_bootstraps():
    random = np.random.default_rng(3)
    blocks = [random.normal(offset, 0.02, 40) for offset in random.normal(1, 0.05, 12)]
    generic = pooled_bootstrap(blocks, lambda pooled: float(np.quantile(pooled, 0.95, method="inverted_cdf")), resamples=2000)
    assert stats.percentile_interval(blocks, 0.95) == generic
