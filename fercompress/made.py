"""What became of a variant of one seed and fold: a bundle, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fercompress.records import Bundle, Fold, History


@dataclass(frozen=True)
class Made:
    """One variant's bundle and the training that led to it."""

    bundle: Bundle
    seed: int
    fold: Fold
    way: str
    history: History
    # None where the weights are random:
    train_epoch_s: float | None
    best_epoch_accuracy: float | None  # on the test clips, in torch; chose nothing
    last_epoch_accuracy: float | None


@dataclass(frozen=True)
class Unmade:
    """A variant that has no bundle, and why ("not made: ..."): a result too."""

    seed: int
    fold: Fold
    reason: str


def stored_bytes(others: Mapping[str, Made | Unmade], name: str) -> int:
    other = others[name]
    assert isinstance(other, Made)  # or the control would not be made
    return other.bundle.size.stored_bytes
