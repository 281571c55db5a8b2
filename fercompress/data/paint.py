"""Anti-aliased painting on stacks of grey pictures: coordinate planes and distances in, coverage and blends out.

Pixels pass through +, -, *, /, sqrt, min and max only. IEEE 754 rounds these the same way everywhere, so that a picture depends neither on the number
of pictures painted at once nor on a machine's vector width (exp or sin would).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.floating[Any]]  # float32 in practice: numpy's stubs widen what Python floats touch
Level = Plane | float


@dataclass(frozen=True)
class Canvas:
    """Where the pixels are and what they hold.

    x, y: float32 (T, H, W), each pixel's place in face units (x to the right, y down, 0 the middle of the face, chin near y = 1)
    grey: float32 (T, H, W), 0..1, painted in place; px: float32 (T, 1, 1), pixels per unit
    """

    x: Plane
    y: Plane
    grey: Plane
    px: Plane

    def window(self, x0: float, x1: float, y0: float, y1: float) -> Canvas:
        """The smallest rectangle of pixels that holds the box in every picture; its planes are views."""
        inside = np.any((self.x > x0) & (self.x < x1) & (self.y > y0) & (self.y < y1), axis=0)
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if not len(rows):
            rows = columns = np.array([0])
        cut = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return Canvas(self.x[cut], self.y[cut], self.grey[cut], self.px)

    def side(self, sign: int, near: float, far: float, y0: float, y1: float) -> Canvas:
        """A window from x = near to far on the face's right (sign = 1) or its mirror image (sign = -1)."""
        return self.window(near, far, y0, y1) if sign > 0 else self.window(-far, -near, y0, y1)

    def paint(self, alpha: Plane, level: Level) -> None:
        """Lay `level` over the picture where alpha (0..1) is above 0."""
        blend(self.grey, alpha, level)

    def shade(self, alpha: Plane, strength: Level) -> None:
        """Darken (strength > 0) or lighten (< 0) by a share of the grey that is there."""
        np.multiply(self.grey, 1 - alpha * strength, out=self.grey)

    def cover(self, distance: Plane) -> Plane:
        """distance: signed, in face units, below 0 inside; returns the share of each pixel that is covered."""
        covered: Plane = np.clip(0.5 - distance * self.px, 0, 1)
        return covered

    def ellipse(self, cx: Level, cy: Level, a: Level, b: Level) -> Plane:
        """Coverage of an axis-parallel ellipse with half-axes a and b."""
        return self.cover((np.sqrt(squared(self.x - cx, a) + squared(self.y - cy, b)) - 1) * np.minimum(a, b))

    def glow(self, cx: Level, cy: Level, a: Level, b: Level) -> Plane:
        """A soft spot: 1 in the middle, 0 from the ellipse's rim on."""
        return bump(squared(self.x - cx, a) + squared(self.y - cy, b))


def squared(difference: Plane, unit: Level) -> Plane:
    scaled: Plane = difference / unit
    return scaled * scaled


def bump(r2: Plane) -> Plane:
    """(1 - r^2)^2 inside the unit circle, 0 outside."""
    rest: Plane = np.maximum(1 - r2, 0)
    return rest * rest


def blend(grey: Plane, alpha: Plane, level: Level) -> None:
    grey += alpha * (level - grey)


def smoothstep(t: Plane) -> Plane:
    """0 up to t = 0, 1 from t = 1, smooth between."""
    clipped: Plane = np.clip(t, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)
