"""Facial expressions as FACS action units over time: a class and a clip's random draws in, activations (T, units, 2 sides) out.

Two pairs of classes share their apex and differ only in how the face gets there: surprise is sudden, fear slow and led by brows and lids; anger
moves the brows before the mouth and sadness the mouth before the brows. Every other class takes one of these four ways at random, so that the way
says nothing about it.
Units and prototypes: Ekman, Friesen and Hager, Facial Action Coding System, 2002.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fercompress.data.paint import smoothstep
from fercompress.records import Float32

CLASSES = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")
COUNTS = (45, 18, 59, 25, 69, 28, 83)  # CK+ (Lucey et al. 2010, table 1): 327 labelled sequences
TWINS = (("fear", "surprise"), ("sadness", "anger"))  # equal apex

UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 24, 25, 26)
UPPER = (1, 2, 4, 5, 7)  # brows and lids; the other units belong to the lower face

_STARTLED = {1: 0.8, 2: 0.8, 5: 0.8, 20: 0.25, 25: 0.5, 26: 0.75}
_UPSET = {1: 0.2, 4: 0.85, 7: 0.4, 15: 0.8, 17: 0.55, 24: 0.3}
PROTOTYPES: dict[str, dict[int, float]] = {
    "anger": _UPSET,
    "contempt": {2: 0.15, 12: 0.55, 14: 0.8},  # on one side only
    "disgust": {4: 0.45, 7: 0.45, 9: 0.85, 10: 0.75, 17: 0.25, 25: 0.2},
    "fear": _STARTLED,
    "happy": {6: 0.75, 12: 0.85, 25: 0.45},
    "sadness": _UPSET,
    "surprise": _STARTLED,
}
WAYS = ("fast", "slow", "upper first", "lower first")
_WAY_OF = {"surprise": 0, "fear": 1, "anger": 2, "sadness": 3}


@dataclass(frozen=True)
class Draws:
    """Everything random about a clip's motion, drawn alike whatever its class.

    strength: (units,), this clip's share of each prototype's intensity; stray: (units,), activation at the apex that belongs to no expression
    way: 0..3, used by the classes outside the pairs; middle, length, lag: 0..1, when the onset happens within what its way allows
    side: 0 or 1, where one-sided expressions happen; phase: 0..1, how much of the onset is over when the clip begins
    returns: the expression ends within the clip
    """

    strength: Float32
    stray: Float32
    way: int
    middle: float
    length: float
    lag: float
    side: int
    phase: float
    returns: bool


def draw(rng: np.random.Generator, intensity: float, preset: str) -> Draws:
    """intensity: mean share of the prototype's; preset: posed, return or wild."""
    whole = rng.uniform(0.85, 1.15)
    strength = np.clip(intensity * whole * rng.uniform(0.75, 1.25, len(UNITS)), 0, 1.3).astype(np.float32)
    stray = np.where(rng.random(len(UNITS)) < 0.15, rng.uniform(0, 0.25, len(UNITS)), 0).astype(np.float32)
    way, side = int(rng.integers(len(WAYS))), int(rng.integers(2))
    middle, length, lag, phase = (float(value) for value in rng.random(4))
    return Draws(strength, stray, way, middle, length, lag, side, 0.35 * phase if preset == "wild" else 0.0, preset == "return")


def apex(name: str, draws: Draws) -> Float32:
    """Activations (units, 2 sides) at the height of expression `name`."""
    prototype = np.array([PROTOTYPES[name].get(unit, 0.0) for unit in UNITS], np.float32)
    both = np.repeat((prototype * draws.strength)[:, None], 2, axis=1)
    if name == "contempt":
        both[:, 1 - draws.side] *= 0.1
    return both + draws.stray[:, None]


def curves(name: str, draws: Draws, frames: int) -> Float32:
    """Activations (T, units, 2 sides) of a clip: exactly 0 in its first frame (unless it begins late), exactly the apex in its last.

    Where the expression returns, the apex is in the middle and the last frame is 0 again.
    """
    t = np.linspace(draws.phase, 1, frames, dtype=np.float32)
    rise = t * 2 if draws.returns else t
    upper, lower = _onsets(_WAY_OF.get(name, draws.way), draws)
    is_upper = np.array([unit in UPPER for unit in UNITS])
    up, down = (smoothstep((rise - start) / np.float32(length)) for start, length in (upper, lower))
    level = np.where(is_upper, up[:, None], down[:, None])
    if draws.returns:
        level = level * (1 - smoothstep((t - np.float32(0.6)) / np.float32(0.35)))[:, None]
    shape: Float32 = (level[:, :, None] * apex(name, draws)).astype(np.float32)
    return shape


def _onsets(way: int, draws: Draws) -> tuple[tuple[float, float], tuple[float, float]]:
    """(start, length) of the upper and of the lower face's onset, as shares of the time to the apex."""
    middle = 0.44 + 0.12 * draws.middle
    if WAYS[way] == "fast":
        length = 0.06 + 0.06 * draws.length
        return (middle - length / 2, length), (middle - length / 2, length)
    if WAYS[way] == "slow":
        length, lag = 0.5 + 0.1 * draws.length, 0.2
        return (middle - (length + lag) / 2, length), (middle - (length - lag) / 2, length)
    length, lag = 0.22 + 0.08 * draws.length, 0.22 + 0.1 * draws.lag
    early, late = (middle - (length + lag) / 2, length), (middle - (length - lag) / 2, length)
    return (early, late) if WAYS[way] == "upper first" else (late, early)
