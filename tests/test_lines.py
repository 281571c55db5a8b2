"""Line pictures: known pixels, an oracle for coverage by distance, and symmetries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fercompress.data import lines


def face(**points: tuple[float, float]) -> np.ndarray:
    """One frame whose points all lie far outside the picture, but for those given as p0=(x, y)."""
    frame = np.full((1, lines.POINTS, 2), -1000.0)
    for name, place in points.items():
        frame[0, int(name[1:])] = place
    return frame


def brow(x: float, y: float) -> dict[str, tuple[float, float]]:
    """All but the first point of the line above the left eyebrow in one place."""
    return {f"p{i}": (x, y) for i in range(91, 95)}


def test_every_point_belongs_to_a_line():
    assert set(lines.SEGMENTS.flatten()) == set(range(lines.POINTS))


def test_a_dot_is_drawn_where_its_point_is_column_x_row_y():
    picture = lines.draw(face(p89=(5.0, 9.0)), size=32, width=1.0)[0]
    assert picture[9, 5] == 255
    assert np.argwhere(picture).tolist() == [[9, 5]]


def test_a_horizontal_line_of_width_one_on_pixel_middles_fills_one_row():
    picture = lines.draw(face(p90=(4.0, 10.0), **brow(12.0, 10.0)), size=32, width=1.0)[0]
    assert picture[10, 4:13].tolist() == [255] * 9
    assert picture[9].max() == picture[11].max() == 0


def test_a_horizontal_line_between_two_rows_gives_half_of_its_light_to_each():
    picture = lines.draw(face(p90=(4.0, 10.5), **brow(12.0, 10.5)), size=32, width=1.0)[0]
    assert picture[10, 6] == picture[11, 6] == 128  # round(255 / 2) to even
    assert picture[9].max() == picture[12].max() == 0


def test_a_line_half_a_pixel_wide_is_never_brighter_than_half():
    assert lines.draw(face(p90=(4.0, 10.0), **brow(12.0, 10.0)), size=32, width=0.5).max() == 128


def test_a_closed_stroke_joins_its_last_point_to_its_first():
    eye = {f"p{i}": place for i, place in enumerate([(4, 4), (12, 4), (20, 4), (20, 12), (20, 20), (12, 20), (4, 20), (4, 12)])}
    picture = lines.draw(face(**eye), size=32, width=1.0)[0]
    assert picture[8, 4] == 255  # on the side from point 7 to point 0
    assert picture[12, 12] == 0


def test_brightness_follows_the_distance_to_the_nearest_segment():
    rng = np.random.default_rng(0)
    points = rng.uniform(-6, 38, (1, lines.POINTS, 2))
    y, x = np.mgrid[:32, :32]
    pixels = np.stack([x, y], axis=-1).astype(float)
    for frame, picture in zip(points, lines.draw(points, size=32, width=1.3), strict=True):
        nearest = np.full((32, 32), np.inf)
        for a, b in lines.SEGMENTS:  # by brute force: 401 places along each segment
            places = frame[a] + (frame[b] - frame[a]) * np.linspace(0, 1, 401)[:, None]
            nearest = np.minimum(nearest, np.sqrt(((pixels[:, :, None] - places) ** 2).sum(-1)).min(-1))
        assert np.abs(picture - 255 * np.clip(1.3 / 2 + 0.5 - nearest, 0, 1)).max() < 6


def test_a_shift_by_whole_pixels_shifts_the_picture():
    points = np.random.default_rng(1).uniform(8, 24, (3, lines.POINTS, 2))
    there, here = lines.draw(points + np.array([3.0, -2.0]), 32, 1.5), lines.draw(points, 32, 1.5)
    np.testing.assert_allclose(there[:, 4:26, 8:30].astype(int), here[:, 6:28, 5:27].astype(int), atol=1)


def test_frames_are_drawn_independently_of_each_other():
    points = np.random.default_rng(2).uniform(0, 32, (4, lines.POINTS, 2))
    points[2] *= 30  # one wild frame must not change the others
    together = lines.draw(points, 32, 1.5)
    alone = np.concatenate([lines.draw(points[i : i + 1], 32, 1.5) for i in range(4)])
    np.testing.assert_array_equal(together, alone)


@given(st.integers(32, 64), st.floats(0.2, 4), st.floats(-1e6, 1e6), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_any_points_give_a_picture_of_the_right_shape(size: int, width: float, spread: float, seed: int):
    points = np.random.default_rng(seed).normal(size / 2, 1, (1, lines.POINTS, 2)) + spread * np.random.default_rng(seed + 1).normal(
        size=(1, lines.POINTS, 2)
    )
    picture = lines.draw(points, size, width)
    assert picture.shape == (1, size, size)
    assert picture.dtype == np.uint8


@pytest.mark.parametrize("frames", [0, 1])
def test_no_frames_and_one_frame_are_fine(frames: int):
    assert lines.draw(np.full((frames, lines.POINTS, 2), 16.0), 32, 1.0).shape == (frames, 32, 32)
