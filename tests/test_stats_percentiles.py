import numpy as np
import pytest
from scipy import stats as oracle

from fercompress import stats


def test_interval_of_a_mean_is_scipys_bca():
    values = np.random.default_rng(0).exponential(size=25)
    found = stats.bca_interval([np.array([v]) for v in values], lambda pooled: float(pooled.mean()), resamples=20_000)
    theirs = oracle.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    assert found == pytest.approx((theirs.low, theirs.high), rel=0.02)


def test_a_skewed_samples_interval_reaches_further_to_the_long_side():
    values = np.random.default_rng(2).lognormal(sigma=1, size=30)
    low, high = stats.bca_interval([np.array([v]) for v in values], lambda pooled: float(pooled.mean()))
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
        stats.bca_interval([np.array([])] * 6, lambda pooled: float(pooled.mean()))


@pytest.mark.parametrize(("samples", "percentiles"), [(10, ()), (64, (0.5, 0.9)), (661, (0.5, 0.9, 0.95)), (662, (0.5, 0.9, 0.95, 0.99))])
def test_percentiles_that_a_sample_supports(samples, percentiles):
    assert stats.claimable(samples) == percentiles
