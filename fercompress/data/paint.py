"""Anti-aliased painting on stacks of grey pictures: coordinate planes and distances in, coverage and blends out.

Pixels pass through +, -, *, /, sqrt, min and max only. IEEE 754 rounds these the same way everywhere, so that a picture depends neither on the number of
pictures painted at once nor on a machine's vector width (exp or sin would).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fercompress.records import Float32

Level = Float32 | float


@dataclass(frozen=True)
class Canvas:
    """Where the pixels are and what they hold.

    x, y: float32 (T, H, W), each pixel's place in face units (x to the right, y down, 0 the middle of the face, chin near y = 1)
    grey: float32 (T, H, W), 0..1, painted in place; px: float32 (T, 1, 1), pixels per unit
    """

    x: Float32
    y: Float32
    grey: Float32
    px: Float32

    def window(self, x0: float, x1: float, y0: float, y1: float) -> Canvas:
        """The smallest rectangle of pixels that holds the box in every picture; its planes are views."""
        inside = ((self.x > x0) & (self.x < x1) & (self.y > y0) & (self.y < y1)).any(axis=0)
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if not len(rows):
            rows = columns = np.array([0])
        cut = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return Canvas(self.x[cut], self.y[cut], self.grey[cut], self.px)

    def paint(self, alpha: Float32, level: Level) -> None:
        """Lay `level` over the picture where alpha (0..1) is above 0."""
        blend(self.grey, alpha, level)

    def shade(self, alpha: Float32, strength: Level) -> None:
        """Darken (strength > 0) or lighten (< 0) by a share of the grey that is there."""
        np.multiply(self.grey, 1 - alpha * strength, out=self.grey)

    def cover(self, distance: Float32) -> Float32:
        """distance: signed, in face units, below 0 inside; returns the share of each pixel that is covered."""
        return np.clip(0.5 - distance * self.px, 0, 1)

    def ellipse(self, cx: Level, cy: Level, a: Level, b: Level) -> Float32:
        """Coverage of an axis-parallel ellipse with half-axes a and b."""
        return self.cover((np.sqrt(squared(self.x - cx, a) + squared(self.y - cy, b)) - 1) * np.minimum(a, b))

    def glow(self, cx: Level, cy: Level, a: Level, b: Level) -> Float32:
        """A soft spot: 1 in the middle, 0 from the ellipse's rim on."""
        return bump(squared(self.x - cx, a) + squared(self.y - cy, b))


def squared(difference: Float32, unit: Level) -> Float32:
    scaled: Float32 = difference / unit
    return scaled * scaled


def bump(r2: Float32) -> Float32:
    """(1 - r^2)^2 inside the unit circle, 0 outside."""
    rest: Float32 = np.maximum(1 - r2, 0)
    return rest * rest


def blend(grey: Float32, alpha: Float32, level: Level) -> None:
    grey += alpha * (level - grey)


def smoothstep(t: Float32) -> Float32:
    """0 up to t = 0, 1 from t = 1, smooth between."""
    clipped: Float32 = np.clip(t, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)
