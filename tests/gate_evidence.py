"""Evidence of two sides out of a small model of a noisy machine: what a gate's tests and its simulation feed it with."""

from __future__ import annotations

import numpy as np

from fercompress.gate.evidence import STAGES, Answers, Evidence

CLASSES = ("calm", "glad", "sad")


def answers(right: np.ndarray, *, people: int = 30, seed: int = 0) -> Answers:
    """right: bool (n,); labels go round the classes, wrong answers are the next class."""
    n = len(right)
    labels = np.arange(n) % len(CLASSES)
    predicted = np.where(right, labels, (labels + 1) % len(CLASSES))
    clips = tuple(f"c{i}" for i in range(n))
    people_of = tuple(f"p{i % people}" for i in range(n))
    return Answers(np.full(n, seed), clips, people_of, labels, predicted, CLASSES)


def pair(
    random: np.random.Generator, rounds: int = 8, *, slower: float = 0.0, noise: float = 0.01, drift: float = 0.0, right=None, right_now=None
) -> tuple[Evidence, Evidence]:
    """(candidate, baseline) of one session.

    noise: of a block's log median; drift: of the machine from the first block to the last (0.08: 8 % slower); slower: of the candidate, everywhere
    right, right_now: bool, which clips baseline and candidate answer rightly
    """
    blocks = np.arange(4 * rounds).reshape(rounds, 4)
    trend = np.log1p(drift) * blocks / max(1, blocks.max())
    values = {}
    for stage in (*STAGES, "tail"):
        logs = 14 + trend + random.normal(0, noise, blocks.shape)
        first = random.integers(0, 2, rounds).astype(bool)
        outer, inner = logs[:, [0, 3]].mean(axis=1), logs[:, [1, 2]].mean(axis=1)
        mine, theirs = np.where(first, outer, inner) + np.log1p(slower), np.where(first, inner, outer)
        values[stage] = [dict(enumerate(side.tolist())) for side in (mine, theirs)]

    def side(place: int, name: str, known) -> Evidence:
        memory = tuple(60e6 * np.exp(random.normal(0, noise / 5, 6)))
        return Evidence(
            name, "lab", (name,), 1000, None if known is None else answers(known), {stage: values[stage][place] for stage in STAGES},
            values["tail"][place], np.exp(np.array(list(values["clip"][place].values()))), memory,
        )  # fmt: skip

    return side(0, "new", right if right_now is None else right_now), side(1, "old", right)
