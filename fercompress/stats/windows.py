"""Windows of one clip answer together: a line of logits per window in, one per clip out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def pooled(ids: Sequence[str], logits: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """ids: of each window's clip, n of them; logits: float32 (n, classes)

    returns: the place of each clip's first window, int64 (m,), rising; and the mean of its windows' logits, float32 (m, classes). Where every clip
    has one window, these are the logits themselves, to the bit.
    """
    _, first, group = np.unique(np.asarray(ids, str), return_index=True, return_inverse=True)
    if len(first) == len(ids):
        return np.arange(len(ids)), logits
    order = np.argsort(first)
    summed = np.zeros((len(first), logits.shape[1]))
    np.add.at(summed, group, logits)
    return first[order], (summed / np.bincount(group)[:, None])[order].astype(np.float32)
