"""Statistics of blocks, clips and persons: plain arrays in; estimates, intervals, verdicts and doubts out; None where a sample is too small to say.

The block (a fresh process), the round and the person are the samples here, never the single inference or clip:
inferences of one process and clips of one person resemble each other, and counting them as independent finds differences that are not there.

    centre       Hodges-Lehmann and the signed rank's interval; the trimmed mean and its tests, on which verdicts rest
    percentiles  where a sample supports them; bounds and intervals
    bootstrap    resampling of persons, seeds and blocks
    accuracy     shares of right clips, paired changes, McNemar
    classes      confusion, recalls, macro-F1, calibration, and their changes
    flips        answers that changed; identical outputs
    front        who is beaten by nobody in two quantities, how likely, and how good a front is
    spread       variation, drift, outliers, modes
    looks        which rounds a gate looks at, what a look may spend; Holm's rule
    evidence     a metric's change, ready to be judged
    verdict      better, worse, equivalent, inconclusive
    planner      what so many rounds can show
    doubts       why a number is weaker than it looks

What is imported below is what other parts of fercompress use.
"""

from fercompress.stats.accuracy import accuracy_change, accuracy_interval, change_interval, drop_limit, mcnemar, seed_mean, wilson_interval
from fercompress.stats.bootstrap import MIN_UNITS, ResampledChange, drawn_counts
from fercompress.stats.centre import Floats, Interval, TrimmedMean, hodges_lehmann, median_of_medians, signed_rank_interval, trimmed_mean
from fercompress.stats.classes import (
    class_change,
    confusion_matrix,
    expected_calibration_error,
    macro_f1,
    recalls,
    unweighted_average_recall,
    worst_class_recall,
)
from fercompress.stats.doubts import block_doubts, condition_doubts, sample_doubts
from fercompress.stats.evidence import Evidence, ExactChange, PairedRounds
from fercompress.stats.flips import Flips, NegativeFlips, flips, identical, largest_difference, negative_flips
from fercompress.stats.front import front_probabilities, hypervolume, on_front
from fercompress.stats.looks import FEWEST_ROUNDS, Looks, holm
from fercompress.stats.percentiles import FLOORS, claimable, percentile, percentile_interval
from fercompress.stats.planner import (
    ALPHA,
    Claims,
    claims,
    detectable_effect,
    equivalence_power,
    gate_power,
    rounds_needed,
    rounds_within,
    smallest_effect,
)
from fercompress.stats.spread import Outliers, coefficient_of_variation, drift, mode_distance, outliers
from fercompress.stats.verdict import Comparison, Direction, Outcome, Scale, Verdict, confirmed, decide, paired_rounds

__all__ = [
    "ALPHA",
    "FEWEST_ROUNDS",
    "FLOORS",
    "MIN_UNITS",
    "Claims",
    "Comparison",
    "Direction",
    "Evidence",
    "ExactChange",
    "Flips",
    "Floats",
    "Interval",
    "Looks",
    "NegativeFlips",
    "Outcome",
    "Outliers",
    "PairedRounds",
    "ResampledChange",
    "Scale",
    "TrimmedMean",
    "Verdict",
    "accuracy_change",
    "accuracy_interval",
    "block_doubts",
    "change_interval",
    "claimable",
    "claims",
    "class_change",
    "coefficient_of_variation",
    "condition_doubts",
    "confirmed",
    "confusion_matrix",
    "decide",
    "detectable_effect",
    "drawn_counts",
    "drift",
    "drop_limit",
    "equivalence_power",
    "expected_calibration_error",
    "flips",
    "front_probabilities",
    "gate_power",
    "hodges_lehmann",
    "holm",
    "hypervolume",
    "identical",
    "largest_difference",
    "macro_f1",
    "mcnemar",
    "median_of_medians",
    "mode_distance",
    "negative_flips",
    "on_front",
    "outliers",
    "paired_rounds",
    "percentile",
    "percentile_interval",
    "recalls",
    "rounds_needed",
    "rounds_within",
    "sample_doubts",
    "seed_mean",
    "signed_rank_interval",
    "smallest_effect",
    "trimmed_mean",
    "unweighted_average_recall",
    "wilson_interval",
    "worst_class_recall",
]
