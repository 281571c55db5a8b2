"""Figures of single classes: labels and predictions in; confusion matrix, recalls, macro-F1, calibration and their paired changes out.

Predictions are int (S seeds, N clips), UNSEEN where a seed did not see a clip; labels int (N,).
A confusion counts label (row) by prediction (column). A figure of a class that no clip has is NaN and takes no part in a mean or minimum.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from fercompress.stats.accuracy import paired_share
from fercompress.stats.bootstrap import RESAMPLES, ResampledChange, drawn_counts
from fercompress.stats.centre import Floats

Ints = npt.NDArray[np.integer]
Figure = Callable[[Floats], Floats]  # confusions (..., C, C) in, figures (...,) out
UNSEEN = -1


def confusion_matrix(labels: Ints, predicted: Ints, classes: int) -> Floats:
    """labels: (N,); predicted: (N,) or (S, N). returns: float (C, C), all seeds' answers counted"""
    tallies = _tallies(labels, np.atleast_2d(predicted), np.zeros(len(labels), np.int64), 1, classes)
    return np.asarray(tallies.sum(axis=(0, 1)), np.float64)


def recalls(confusion: Floats) -> Floats:
    """Share of each class's clips that are recognised: (..., C, C) to (..., C)"""
    return _ratio(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1))


def unweighted_average_recall(confusion: Floats) -> Floats:
    """Mean of the classes' recalls: each class counts once, however rare it is."""
    return _over_classes(np.nanmean, recalls(confusion))


def worst_class_recall(confusion: Floats) -> Floats:
    return _over_classes(np.nanmin, recalls(confusion))


def macro_f1(confusion: Floats) -> Floats:
    """Mean over classes of the harmonic mean of precision and recall; a class that is neither a label nor an answer takes no part."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    return _over_classes(np.nanmean, _ratio(2 * right, confusion.sum(axis=-1) + confusion.sum(axis=-2)))


def expected_calibration_error(logits: Floats, labels: Ints, bins: int = 15) -> float:
    """Mean distance of confidence and accuracy over bins of equal width, weighted by their clips (Naeini et al. 2015; Guo et al. 2017).

    logits: float (N, C), before softmax; labels: (N,). A bin holds its upper edge.
    """
    if not len(logits):
        raise ValueError("needs at least one clip")
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = shifted.max(axis=1) / shifted.sum(axis=1)
    right = logits.argmax(axis=1) == labels
    which = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(which, confidence - right, bins)
    return float(np.abs(gaps).sum() / len(labels))


def class_change(
    figure: Figure, labels: Ints, baseline: Ints, variant: Ints, clusters: Sequence[str], classes: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> ResampledChange:
    """How much higher `figure` (one of this module's) is for `variant` than for `baseline`, with its tests: clusters and seeds drawn alike for both.

    labels: (N,); baseline, variant: (S, N), the same seeds and clips. Never surer than independent clips would be, of the variant's worst class for
    `worst_class_recall`, of all classes for the means.
    raises: ValueError where the shapes differ, or where a label is no class
    """
    if baseline.shape != variant.shape or baseline.shape[1:] != labels.shape:
        raise ValueError(f"needs the same seeds and clips, got {baseline.shape} and {variant.shape} for {labels.shape} labels")
    unseen = (baseline == UNSEEN) | (variant == UNSEEN)
    before, after = np.where(unseen, UNSEEN, baseline), np.where(unseen, UNSEEN, variant)
    names, which = np.unique(np.asarray(clusters, str), return_inverse=True)
    tallies = [_tallies(labels, predicted, which, len(names), classes) for predicted in (before, after)]
    whole = [tally.sum(axis=(0, 1)) for tally in tallies]
    value = float(figure(whole[1]) - figure(whole[0]))
    draws = None
    if len(names) > 1:
        drawn, weight = drawn_counts(len(names), len(baseline), resamples, seed)
        pair = [figure(_weighted(tally, drawn, weight)) for tally in tallies]
        draws = pair[1] - pair[0]
        draws = draws[np.isfinite(draws)]
    return ResampledChange(value, draws, len(names), len(labels), value, _error(figure, labels, before, after, whole[1], classes))


def _tallies(labels: Ints, predicted: Ints, which: Ints, clusters: int, classes: int) -> Floats:
    """float (S, clusters, C, C)"""
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"labels reach outside the {classes} classes")
    made = np.zeros((len(predicted), clusters * classes * classes))
    for row, answers in enumerate(predicted):
        seen = answers != UNSEEN
        made[row] = np.bincount((which[seen] * classes + labels[seen]) * classes + answers[seen], minlength=made.shape[1])
    return made.reshape((len(predicted), clusters, classes, classes))


def _weighted(tally: Floats, drawn: Floats, weight: Floats) -> Floats:
    """tally: (S, K, C, C), drawn: (R, K), weight: (R, S). returns: (R, C, C)"""
    seeds, clusters, classes, _ = tally.shape
    total = np.zeros((len(drawn), classes * classes))
    for seed in range(seeds):
        total += weight[:, seed, None] * (drawn @ tally[seed].reshape(clusters, -1))
    return total.reshape((len(drawn), classes, classes))


def _error(figure: Figure, labels: Ints, before: Ints, after: Ints, confusion: Floats, classes: int) -> float:
    """Standard error of the change for independent clips, by the paired shares of the classes."""
    seeds = len(before)
    errors = np.full(classes, np.nan)
    for class_ in range(classes):
        mine = labels == class_
        seen = before[:, mine] != UNSEEN
        n = int(seen.any(axis=0).sum())
        if n:
            was, now = before[:, mine] == class_, after[:, mine] == class_
            lost, won = (float((one & ~other & seen).sum()) / seeds for one, other in ((was, now), (now, was)))
            errors[class_] = paired_share(lost, won, n)[1]
    if figure is worst_class_recall:
        return float(errors[int(np.nanargmin(recalls(confusion)))])
    known = errors[np.isfinite(errors)]
    return math.sqrt(float((known**2).sum())) / len(known)


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0), np.float64)


def _over_classes(reduce: Callable[..., Floats], figures: Floats) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no class at all is NaN, not news
        return np.asarray(reduce(figures, axis=-1), np.float64)
