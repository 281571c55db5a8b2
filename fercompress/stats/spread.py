"""How values scatter: variation, drift, outliers and two modes, counted; nothing is ever removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fercompress.stats.centre import Floats

FAR = 10 * 1.4826  # median absolute deviations (1.4826 of them are a normal SD) beyond which a value is an outlier, as hyperfine has it
FENCE = 1.5  # interquartile ranges beyond the quartiles (Tukey 1977)
FEWEST_FOR_MODES = 12
MODE_SHARE = 0.2  # of the values that the smaller mode holds at least: fewer are outliers


def coefficient_of_variation(values: Sequence[float] | Floats) -> float | None:
    """Standard deviation (n - 1) over mean; None below two values."""
    return float(np.std(values, ddof=1) / np.mean(values)) if len(values) > 1 else None


def drift(values: Sequence[float] | Floats) -> float | None:
    """Median of the later half over the median of the earlier half, less 1 (the middle of an odd number is in neither); None below four values."""
    half = len(values) // 2
    return float(np.median(values[-half:]) / np.median(values[:half]) - 1) if half >= 2 else None


@dataclass(frozen=True)
class Outliers:
    """n: values; far: of them by the modified z-score; fenced: of them by Tukey's fences; largest: the highest value over the median"""

    n: int
    far: int
    fenced: int
    largest: float


def outliers(values: Sequence[float] | Floats) -> Outliers | None:
    """Counts, never removes; None below 4 values. Where more than half the values are equal every other value is far. values: positive"""
    x = np.asarray(values, np.float64)
    if len(x) < 4:
        return None
    median = float(np.median(x))
    away = np.abs(x - median)
    low, high = np.quantile(x, (0.25, 0.75))
    reach = FENCE * (high - low)
    return Outliers(
        len(x),
        int((away > FAR * np.median(away)).sum()),
        int(((x < low - reach) | (x > high + reach)).sum()),
        float(x.max()) / median,
    )


def mode_distance(values: Sequence[float] | Floats) -> float | None:
    """How far apart the two best halves of the values lie (Ashman et al. 1994): distance of their means over the root mean square of their spreads.

    The cut is the one that leaves the least spread within (Otsu 1979), either part MODE_SHARE of the values or more. A normal sample's distance is
    about 2.7, that of two modes five standard deviations apart about 5. None below 12 values; infinite for two values repeated.
    """
    x = np.sort(np.asarray(values, np.float64))
    n = len(x)
    if n < FEWEST_FOR_MODES:
        return None
    fewest = int(np.ceil(MODE_SHARE * n))
    cuts = range(fewest, n - fewest + 1)
    cut = min(cuts, key=lambda k: float(x[:k].var() * k + x[k:].var() * (n - k)))
    apart = float(x[cut:].mean() - x[:cut].mean())
    within = float(np.sqrt((x[:cut].var(ddof=1) + x[cut:].var(ddof=1)) / 2))
    if apart == 0:
        return 0.0
    return apart / within if within else float("inf")
