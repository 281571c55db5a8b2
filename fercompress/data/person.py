"""Who is filmed and how: random generators in, a person's looks and a clip's pose, light and occlusions out. Nothing here knows a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fercompress.data.expressions import UNITS
from fercompress.records import Float32

TEXTURE = 96  # texels along a texture's side, which covers 3 x 3 face units


@dataclass(frozen=True)
class Person:
    """One subject's looks. Lengths in face units: the chin lies near y = 1, the eyes near y = -0.18; greys 0..1.

    brow_tilt, corner_rest: how the neutral face's brows slope and mouth corners hang (> 0: down): looks that one frame confuses with an expression
    gain: (units, 2 sides), how much each action unit moves this face; texture: (TEXTURE, TEXTURE), mean 0
    """

    width: float
    chin: float
    taper: float
    eye_x: float
    eye_y: float
    eye_width: float
    eye_open: float
    brow_y: float
    brow_tilt: float
    brow_arch: float
    brow_length: float
    brow_thick: float
    nose_y: float
    nose_width: float
    mouth_y: float
    mouth_width: float
    corner_rest: float
    lip_upper: float
    lip_lower: float
    wrinkles: float
    skin: float
    hair: float
    lip_grey: float
    hairline: float
    hair_side: float
    beard: float
    moustache: float
    glasses: bool
    gain: Float32
    texture: Float32


@dataclass(frozen=True)
class Shot:
    """How one clip is filmed. Tracks are float32 (T,), one value per frame.

    shift_x, shift_y: face units; roll: radians; yaw, pitch: by how much the nose's root moves sideways and down, in face units
    blink: 0..1, lids closed; light_x, light_y: the light's slope across the face; background, background_slope: grey and its slope
    noise: standard deviation of the sensor's noise, grey
    hand: (x, y, radius) of a hand in front of the face, or None; lock: x of a lock of hair, or None
    """

    shift_x: Float32
    shift_y: Float32
    scale: Float32
    roll: Float32
    yaw: Float32
    pitch: Float32
    blink: Float32
    light: float
    light_x: float
    light_y: float
    background: float
    background_slope: float
    noise: float
    hand: tuple[float, float, float] | None
    lock: float | None


def person(rng: np.random.Generator) -> Person:
    def about(mean: float, spread: float) -> float:
        return float(np.clip(rng.normal(mean, spread), mean - 2 * spread, mean + 2 * spread))

    skin = rng.uniform(0.42, 0.82)
    hair = rng.uniform(0.05, skin - 0.25)
    gain = rng.uniform(0.75, 1.2, (len(UNITS), 1)) * rng.uniform(0.9, 1.1, (len(UNITS), 2))
    bearded = rng.random() < 0.2
    return Person(
        width=about(0.73, 0.03), chin=about(0.97, 0.03), taper=about(0.2, 0.06),
        eye_x=about(0.32, 0.018), eye_y=about(-0.18, 0.02), eye_width=about(0.16, 0.01), eye_open=about(0.062, 0.008),
        brow_y=about(-0.39, 0.022), brow_tilt=about(0.0, 0.018), brow_arch=about(0.03, 0.01), brow_length=about(0.19, 0.014),
        brow_thick=about(0.028, 0.006), nose_y=about(0.18, 0.025), nose_width=about(0.13, 0.014),
        mouth_y=about(0.52, 0.025), mouth_width=about(0.25, 0.02), corner_rest=about(0.0, 0.014), lip_upper=about(0.034, 0.007),
        lip_lower=about(0.05, 0.009), wrinkles=rng.uniform(0.4, 1.0), skin=skin, hair=hair, lip_grey=skin * rng.uniform(0.62, 0.8),
        hairline=about(-0.68, 0.05), hair_side=about(0.0, 0.12), beard=rng.uniform(0.2, 0.5) if bearded else 0.0,
        moustache=rng.uniform(0.2, 0.5) if bearded or rng.random() < 0.06 else 0.0, glasses=bool(rng.random() < 0.12),
        gain=gain.astype(np.float32), texture=_texture(rng),
    )  # fmt: skip


def shot(rng: np.random.Generator, preset: str, frames: int) -> Shot:
    """preset: posed, return (both in a studio) or wild."""
    wild = preset == "wild"
    t = np.linspace(0, 1, frames)

    def track(spread: float, motion: float) -> Float32:
        """Starts anywhere within the spread, drifts and sways smoothly from there."""
        start, drift, sway, phase = rng.uniform(-1, 1, 4)
        path = start * spread + motion * (drift * t + 0.4 * sway * np.sin(2 * np.pi * (t + phase)))
        return np.asarray(path, np.float32)

    far, moving = (4.0, 2.5) if wild else (1.0, 1.0)
    tracks = {
        "shift_x": track(0.035 * far, 0.02 * moving), "shift_y": track(0.035 * far, 0.02 * moving),
        "roll": track(0.05 * far, 0.02 * moving), "yaw": track(0.05 * far, 0.02 * moving), "pitch": track(0.03 * far, 0.015 * moving),
        "scale": 1 + track(0.04 * far, 0.01 * moving),
    }  # fmt: skip
    blinks, at = rng.random() < 0.25, rng.uniform(0.15, 0.85)
    blink = np.where(blinks, np.maximum(0, 1 - np.abs(t - at) / 0.08), 0).astype(np.float32)
    light, light_x, light_y, background, slope, noise, hand, lock = rng.random(
        8
    ).tolist()  # Python floats: numpy scalars would turn pictures into float64
    place = rng.uniform(-1, 1, 3).tolist()
    harsh = 0.4 if wild else 0.15
    return Shot(
        **tracks, blink=blink, light=0.9 + 0.2 * light if not wild else 0.55 + 0.8 * light,
        light_x=harsh * (2 * light_x - 1), light_y=harsh * (light_y - 0.7),
        background=0.1 + 0.8 * background, background_slope=0.3 * (slope - 0.5), noise=(0.03 if wild else 0.012) * (0.6 + 0.8 * noise),
        hand=(0.55 * place[0], 0.75 + 0.25 * place[1], 0.28 + 0.06 * place[2]) if wild and hand < 0.3 else None,
        lock=0.5 * place[0] if wild and lock < 0.3 else None,
    )  # fmt: skip


def _texture(rng: np.random.Generator) -> Float32:
    """Skin: pores, soft patches and a few freckles."""
    fine = rng.standard_normal((TEXTURE, TEXTURE)).astype(np.float32)
    soft = rng.standard_normal((TEXTURE, TEXTURE)).astype(np.float32)
    for axis in (0, 1, 0, 1):
        soft = sum((np.roll(soft, step, axis) for step in range(-4, 5)), np.zeros_like(soft)) / np.float32(9)
        fine = (np.roll(fine, 1, axis) + fine * 2 + np.roll(fine, -1, axis)) / np.float32(4)
    freckles = (rng.random((TEXTURE, TEXTURE)) < 0.01 * rng.random()).astype(np.float32)
    skin: Float32 = np.float32(0.08) * fine + np.float32(0.35) * soft - np.float32(0.18) * freckles
    skin -= skin.mean()
    return skin
