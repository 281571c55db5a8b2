"""Draw faces: a person, how they are filmed and their action units over time in; a clip of grey pictures, uint8 (T, size, size), out.

Positions are in face units: (0, 0) is the middle of the face, x to the right, y down, the chin near y = 1.
Every feature is painted in a window of its own.
"""

from __future__ import annotations

import numpy as np

from fercompress.data.expressions import UNITS
from fercompress.data.paint import Canvas, Plane, bump, smoothstep, squared
from fercompress.data.person import TEXTURE, Person, Shot
from fercompress.records import Float32, UInt8

Units = dict[int, Plane]  # action unit -> activation, (T, 1, 1)


def film(person: Person, shot: Shot, activations: Float32, size: int, noise: np.random.Generator) -> UInt8:
    """activations: float32 (T, units, 2 sides) as of `expressions.curves`; returns uint8 (T, size, size)."""
    moved = activations * person.gain
    left, right = ({unit: moved[:, i, side, None, None] for i, unit in enumerate(UNITS)} for side in (0, 1))
    both: Units = {unit: (left[unit] + right[unit]) / 2 for unit in UNITS}
    head, face = _planes(shot, size)
    _background(head, shot)
    outline = _outline(head, person, both)
    _head(head, person, outline)
    _skin(head, face, person, outline)
    _forehead(face, person, both)
    for sign, units in ((-1, left), (1, right)):
        _cheek(face, person, units, sign)
        _eye(face, person, units, shot.blink[:, None, None], sign)
        _brow(face, person, units, sign)
    _nose(face, person, both)
    _mouth(face, person, left, right)
    _occlude(head, face, person, shot)
    lit = head.grey * shot.light * (1 + shot.light_x * head.x + shot.light_y * head.y)
    lit += np.float32(shot.noise) * noise.standard_normal(lit.shape, np.float32)
    return np.asarray(np.clip(lit * 255 + 0.5, 0, 255), np.uint8)


def _planes(shot: Shot, size: int) -> tuple[Canvas, Canvas]:
    """Two views of one picture: the head's outline, which only moves in the plane, and the face on its rounded front, which also turns."""
    t = len(shot.scale)
    px = (np.float32(0.55 * size) * shot.scale).reshape(t, 1, 1)
    pixel = np.arange(size, dtype=np.float32) + np.float32(0.5 - size / 2)
    u = pixel[None, None, :] / px - shot.shift_x.reshape(t, 1, 1)
    v = pixel[None, :, None] / px - shot.shift_y.reshape(t, 1, 1) + np.float32(0.1)  # brows to chin in the middle
    cos, sin = np.cos(shot.roll).reshape(t, 1, 1), np.sin(shot.roll).reshape(t, 1, 1)
    x, y = u * cos + v * sin, v * cos - u * sin
    depth = np.sqrt(np.maximum(1 - squared(x, 0.85) - squared(y, 1.2), 0))
    grey = np.empty((t, size, size), np.float32)
    front_x, front_y = x - shot.yaw.reshape(t, 1, 1) * depth * 2, y - shot.pitch.reshape(t, 1, 1) * depth * 2
    return Canvas(x, y, grey, px), Canvas(front_x, front_y, grey, px)


def _background(head: Canvas, shot: Shot) -> None:
    head.grey[:] = np.clip(shot.background + shot.background_slope * head.x, 0, 1)


def _outline(head: Canvas, person: Person, units: Units) -> Plane:
    """r^2 of the head's outline, 1 on the rim: an ellipse above, a narrower jaw below that drops with the mouth."""
    below = np.maximum(head.y, 0)
    width = person.width * (1 - person.taper * below * below)
    height = np.where(head.y > 0, person.chin + 0.09 * units[26] - 0.01 * units[17], 1.02)
    return squared(head.x, width) + squared(head.y, height)


def _head(head: Canvas, person: Person, r2: Plane) -> None:
    """Neck, hair behind, ears, head and its rounding. r2: as of `_outline`"""
    neck = head.window(-0.4, 0.4, 0.55, 3.0)
    neck.paint(neck.cover(np.maximum(np.abs(neck.x) - 0.36, 0.6 - neck.y)), person.skin * 0.68)
    hair = head.window(-1.1, 1.1, -1.4, 0.8)
    hair.paint(hair.ellipse(0.0, -0.3, person.width + 0.14, 0.92), person.hair)
    for sign in (-1, 1):
        ear = head.window(sign * 0.8 - 0.25, sign * 0.8 + 0.25, -0.3, 0.15)
        ear.paint(ear.ellipse(sign * (person.width + 0.03), -0.08, 0.08, 0.17), person.skin * 0.8)
    rim = np.minimum(r2, 1)
    head.paint(head.cover((np.sqrt(r2) - 1) * np.float32(0.7)), person.skin * (1.06 - 0.3 * rim * rim))


def _skin(head: Canvas, face: Canvas, person: Person, r2: Plane) -> None:
    """Texture and beard within the head's outline, and the hair above the forehead."""
    row, column = (np.clip(plane * np.float32(TEXTURE / 3) + TEXTURE / 2, 0, TEXTURE - 1).astype(np.intp) for plane in (face.y, face.x))
    texture = person.texture.ravel()[row * TEXTURE + column]
    within = smoothstep((1 - r2) * 6)
    face.grey[:] *= 1 + within * texture
    if person.beard:
        rim = squared(face.x, 0.62) + squared(face.y - 0.1, 0.85)
        face.shade(within * smoothstep((rim - np.float32(0.35)) * 3) * smoothstep(face.y * 4), person.beard)
    line = person.hairline + 0.35 * squared(face.x - person.hair_side, 1.0)
    cap = (np.sqrt(squared(head.x, person.width + 0.14) + squared(head.y + 0.3, 0.92)) - 1) * np.float32(0.8)
    head.paint(head.cover(np.maximum(cap, face.y - line)), person.hair * (1 + 0.5 * texture))


def _forehead(face: Canvas, person: Person, units: Units) -> None:
    """Lines across the forehead (1, 2), furrows between the brows (4), wrinkles on the nose's root (9)."""
    brow = face.window(-0.5, 0.5, -0.72, -0.4)
    raised = person.wrinkles * np.minimum(units[1] + units[2], 1.4) * np.float32(0.16)
    for y in (-0.5, -0.58, -0.66):
        across = np.maximum(np.abs(brow.y - (y + person.brow_y + 0.36) - 0.1 * squared(brow.x, 1.0)) - 0.006, np.abs(brow.x) - 0.3)
        brow.shade(brow.cover(across), raised)
    root = face.window(-0.2, 0.2, -0.55, 0.1)
    for sign in (-1, 1):
        furrow = np.maximum(np.abs(root.x - sign * 0.055) - 0.01, np.abs(root.y - person.brow_y - 0.03) - 0.07)
        root.shade(root.cover(furrow), person.wrinkles * 0.5 * np.minimum(units[4], 1.2))
    for y in (0.04, 0.13):
        fold = bump(squared(root.y - person.eye_y - y + 0.3 * np.abs(root.x), 0.035) + squared(root.x, 0.13))
        root.shade(fold, person.wrinkles * 0.45 * np.minimum(units[9], 1.2))


def _cheek(face: Canvas, person: Person, units: Units, sign: int) -> None:
    """The cheek's bulge and the crescent under the eye (6, 12), the fold from nose to mouth (9, 10, 12)."""
    cheek = face.side(sign, 0.05, 0.7, -0.2, 0.75)
    xs = cheek.x * sign
    lifted = np.minimum(units[6] + 0.5 * units[12], 1.3)
    spot = bump(squared(xs - 0.4, 0.24) + squared(cheek.y - 0.2 + 0.06 * lifted, 0.2))
    cheek.shade(spot, -0.04 - 0.12 * lifted)
    crescent = np.abs(cheek.y - person.eye_y - 0.12 + 0.02 * lifted - 0.5 * squared(xs - person.eye_x, 1.0)) - 0.012
    cheek.shade(cheek.cover(np.maximum(crescent, np.abs(xs - person.eye_x) - 0.15)), 0.06 + 0.25 * units[6])
    top, bottom = person.nose_y - 0.02, person.mouth_y - 0.02
    along = (cheek.y - top) / (bottom - top)
    line = person.nose_width + 0.03 + (person.mouth_width - person.nose_width + 0.04 + 0.05 * units[12]) * along * along
    fold = bump(squared(xs - line, 0.05) + squared(along - 0.5, 0.6))
    cheek.shade(fold, 0.06 + person.wrinkles * np.minimum(0.3 * units[12] + 0.3 * units[10] + 0.15 * units[9] + 0.15 * units[14], 0.5))


def _eye(face: Canvas, person: Person, units: Units, blink: Plane, sign: int) -> None:
    """Socket, eyeball between the lids (5 wide, 7 tight, 6 and 9 narrow), lid lines."""
    eye = face.side(sign, 0.04, 0.62, person.eye_y - 0.24, person.eye_y + 0.16)
    x, y = eye.x * sign - person.eye_x, eye.y - person.eye_y
    eye.shade(bump(squared(x, 0.27) + squared(y + 0.05, 0.18)), 0.18)
    curve = 1 - squared(x, person.eye_width)
    opening = np.maximum(1 + 0.75 * units[5] - 0.4 * units[7] - 0.15 * units[6] - 0.25 * units[9], 0.15) * (1 - blink)
    upper = -(person.eye_open * opening + 0.004) * curve
    lower = (person.eye_open * (0.6 - 0.3 * units[7] - 0.35 * units[6] - 0.2 * units[9]) * (1 - 0.6 * blink) + 0.004) * curve
    ball = np.minimum(eye.cover(upper - y), eye.cover(y - lower))
    eye.paint(ball, 0.35 + 0.55 * person.skin)
    r = np.sqrt(squared(x + 0.005 * sign, 1.0) + squared(y + 0.008, 1.0))
    eye.paint(np.minimum(ball, eye.cover(r - 0.066)), 0.14)
    eye.paint(np.minimum(ball, eye.cover(np.sqrt(squared(x + 0.02 * sign, 1.0) + squared(y + 0.025, 1.0)) - 0.015)), 0.8)
    ends = np.abs(x) - person.eye_width
    eye.shade(eye.cover(np.maximum(np.abs(y - upper + 0.008) - 0.014, ends)), 0.7)
    eye.shade(eye.cover(np.maximum(np.abs(y - lower - 0.006) - 0.007, ends)), 0.25)
    crease = -(person.eye_open * (1 + 0.3 * units[5]) + 0.035) * (1 - 0.8 * squared(x, person.eye_width)) + 0.02 * units[4]
    eye.shade(eye.cover(np.maximum(np.abs(y - crease) - 0.006, ends)), 0.2)


def _brow(face: Canvas, person: Person, units: Units, sign: int) -> None:
    """Inner end up (1), outer end up (2), all down and together (4)."""
    brow = face.side(sign, 0.0, 0.64, person.brow_y - 0.26, person.brow_y + 0.26)
    along = (brow.x * sign - person.eye_x + 0.035 * units[4]) / person.brow_length  # -1 at the inner end, 1 at the outer
    inner, outer = (1 - along) / 2, (1 + along) / 2
    height = person.brow_tilt * along - person.brow_arch * (1 - along * along)
    height = height - 0.12 * units[1] * inner * inner - 0.10 * units[2] * outer + units[4] * (0.06 + 0.06 * inner) - 0.02 * units[5] + 0.03 * units[9]
    thick = person.brow_thick * (1 - 0.45 * np.maximum(along, 0))
    distance = np.maximum(np.abs(brow.y - person.brow_y - height) - thick, (np.abs(along) - 1) * person.brow_length)
    brow.paint(brow.cover(distance) * np.float32(0.9), person.hair)


def _nose(face: Canvas, person: Person, units: Units) -> None:
    """Bridge, tip, wings and nostrils; 9 and 10 draw the wings up."""
    nose = face.window(-0.3, 0.3, -0.25, 0.36)
    lift = 0.045 * units[9] + 0.02 * units[10]
    ridge = bump(squared(nose.x, 0.06) + squared(nose.y - 0.0, 0.24))
    nose.shade(ridge, -0.12)
    nose.shade(bump(squared(nose.x + 0.085, 0.05) + squared(nose.y + 0.02, 0.2)), 0.16)
    nose.shade(nose.glow(0.0, person.nose_y - 0.03 - lift * 0.5, 0.08, 0.07), -0.14)
    for sign in (-1, 1):
        x = nose.x * sign - person.nose_width
        wing = np.maximum(
            np.abs(x - 0.02 * units[9] + squared(nose.y - person.nose_y + lift, 0.35)) - 0.012, np.abs(nose.y - person.nose_y + lift) - 0.055
        )
        nose.shade(nose.cover(wing), 0.25 + 0.2 * units[9])
        nose.shade(nose.ellipse(sign * (person.nose_width * 0.45), person.nose_y + 0.045 - lift, 0.035 + 0.01 * units[9], 0.018), 0.6)
    nose.shade(nose.glow(0.0, person.nose_y + 0.085 - lift, 0.15, 0.05), 0.12)


def _mouth(face: Canvas, person: Person, left: Units, right: Units) -> None:
    """Lips, opening, teeth, chin.

    The corners go up and out (12), in with a dimple (14), down (15), apart (20); lips thin (24) and part (25), the jaw drops (26),
    the chin (17) and the upper lip (10) rise.
    """
    mouth = face.window(-0.52, 0.52, 0.25, 1.05)
    on_left = mouth.x < 0
    a = {unit: np.where(on_left, left[unit], right[unit]) for unit in (12, 14, 15, 20)}
    mean = {unit: (left[unit] + right[unit]) / 2 for unit in (10, 17, 24, 25, 26)}
    drop = 0.05 * mean[26] - 0.035 * mean[17]
    half = person.mouth_width * (1 + 0.2 * a[12] + 0.22 * a[20] + 0.06 * a[14] - 0.04 * a[15] - 0.24 * mean[26] - 0.08 * mean[24])
    u2 = squared(mouth.x, 1.0) / (half * half)
    arch = np.maximum(1 - u2, 0)
    corner = person.corner_rest - 0.115 * a[12] - 0.045 * a[14] + 0.1 * a[15] + 0.015 * a[20] + 0.9 * drop
    middle = person.mouth_y + drop + 0.02 * a[12] - 0.02 * a[15] + (corner - drop) * u2
    up = (0.012 * mean[25] + 0.085 * mean[26] + 0.02 * mean[10] * mean[25]) * np.sqrt(arch)
    down = (0.045 * mean[25] + 0.13 * mean[26]) * np.sqrt(arch)
    thin = 1 - 0.55 * np.minimum(mean[24], 1.2)
    top = middle - up - person.lip_upper * thin * np.sqrt(arch) * (1 - 0.2 * arch) - 0.03 * mean[10] * arch
    bottom = middle + down + person.lip_lower * thin * np.sqrt(arch) + 0.015 * mean[17] * arch
    ends = np.abs(mouth.x) - half
    if person.moustache:
        patch = squared(mouth.x, 0.27) + squared(mouth.y - person.mouth_y + 0.085 + 0.02 * mean[10] - 0.35 * squared(mouth.x, 1.0), 0.065)
        mouth.shade(smoothstep((1 - patch) * 2), person.moustache)
    lips = np.minimum(mouth.cover(np.maximum(top - mouth.y, ends)), mouth.cover(mouth.y - bottom))
    mouth.paint(lips, person.lip_grey)
    inner_top, inner_bottom = middle - up, middle + down
    gap = np.minimum(mouth.cover(np.maximum(inner_top - mouth.y, ends)), mouth.cover(mouth.y - inner_bottom)) * np.minimum(
        4 * (mean[25] + mean[26]), 1
    )
    mouth.paint(gap, 0.1)
    teeth = np.minimum(gap, mouth.cover(mouth.y - inner_top - 0.05)) * np.minimum(1.4 * a[12] + 0.9 * mean[10] + 0.8 * a[20], 0.9)
    mouth.paint(teeth, 0.85)
    line = np.maximum(np.abs(mouth.y - middle) - 0.009, ends)
    mouth.shade(mouth.cover(line) * (1 - np.minimum(4 * (mean[25] + mean[26]), 1)), 0.55)
    for sign, units in ((-1, left), (1, right)):
        x = sign * (person.mouth_width * (1.08 + 0.2 * units[12] + 0.22 * units[20]))
        y = person.mouth_y + person.corner_rest - 0.115 * units[12] - 0.045 * units[14] + 0.1 * units[15]
        mouth.shade(mouth.glow(x, y, 0.075, 0.075), 0.06 + 0.45 * units[14] + 0.2 * units[12] + 0.25 * units[15])
    below = person.mouth_y + 0.13 + 0.16 * mean[26] - 0.02 * mean[17]
    mouth.shade(mouth.glow(0.0, below, 0.2, 0.06), 0.14 + 0.25 * mean[17])
    mouth.shade(mouth.glow(0.0, below + 0.16, 0.16, 0.12), -0.06 - 0.14 * mean[17])


def _occlude(head: Canvas, face: Canvas, person: Person, shot: Shot) -> None:
    """Glasses, a lock of hair, a hand."""
    if person.glasses:
        glasses = face.window(-0.75, 0.75, -0.5, 0.1)
        side = np.abs(np.abs(glasses.x) - person.eye_x - 0.01)
        rim = np.sqrt(squared(side, 0.25) + squared(glasses.y - person.eye_y - 0.01, 0.19))
        glasses.shade(glasses.cover(np.abs(rim - 1) * np.float32(0.21) - 0.014), 0.75)
        bridge = np.maximum(np.abs(glasses.y - person.eye_y + 0.04) - 0.014, np.abs(glasses.x) - person.eye_x + 0.24)
        glasses.shade(glasses.cover(bridge), 0.75)
    if shot.lock is not None:
        strand = np.maximum(
            np.abs(face.x - np.float32(shot.lock) - 0.3 * squared(face.y + 0.7, 1.0)) - 0.07 * np.maximum(0.4 - face.y, 0), face.y - 0.3
        )
        head.paint(head.cover(strand), person.hair)
    if shot.hand is not None:
        x, y, radius = shot.hand
        for finger in (-0.5, -0.17, 0.17, 0.5):
            head.paint(
                head.ellipse(x + finger * radius * 1.3, y - radius * (0.75 - finger * finger), radius * 0.24, radius * 0.75),
                person.skin * (0.84 + 0.1 * finger),
            )
        head.paint(head.ellipse(x, y, radius, radius * 0.8), person.skin * 0.9)
