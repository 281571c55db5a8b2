"""The picture and the table of what a network saw: stretches, gaps and rows by hand."""

import numpy as np
import pytest

from fercompress.report import timeline
from fercompress.report.timeline import Stretch, Timeline

NONE = [np.nan, np.nan]
LINE = Timeline(
    ("glad", "sad"),
    np.array([0.0, 0.1, 0.2, 0.3, 0.5]),
    np.array([[0.75, 0.25], [0.5, 0.5], NONE, NONE, [0.25, 0.75]], np.float32),
)


def test_stretches_of_one_label_are_joined() -> None:
    assert timeline.stretches(LINE) == [
        Stretch("glad", 0.0, 0.1, 2, 0.625),
        Stretch("", 0.2, 0.3, 2, None),
        Stretch("sad", 0.5, 0.5, 1, 0.75),
    ]


def test_a_table_has_a_row_per_frame_and_no_number_where_there_is_no_face() -> None:
    assert timeline.table(LINE).splitlines() == [
        "time_s,frame,face,p_glad,p_sad",
        "0.000000,0,1,0.75,0.25",
        "0.100000,1,1,0.5,0.5",
        "0.200000,2,0,,",
        "0.300000,3,0,,",
        "0.500000,4,1,0.25,0.75",
    ]


def test_a_gap_lasts_to_the_next_frame() -> None:
    assert timeline._lost(LINE) == [(0.2, 0.5)]


@pytest.mark.parametrize("frames", [1, 2, 50])
def test_a_picture_is_drawn_of_any_length_and_the_same_twice(frames: int) -> None:
    names = tuple(f"class {number}" for number in range(8))
    line = Timeline(names, np.arange(frames) / 25, np.full((frames, 8), 1 / 8, np.float32))
    first, second = (timeline.picture(line, "a video") for _ in range(2))
    assert first.png == second.png
    assert first.png.startswith(b"\x89PNG")
    assert "class 0 from 0.00 s" in first.alt


def test_a_picture_without_any_face_is_drawn() -> None:
    line = Timeline(("a", "b"), np.arange(3.0), np.full((3, 2), np.nan, np.float32))
    assert "no face from 0.00 s" in timeline.picture(line, "a video").alt


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="for 3 frames and 2 classes"):
        Timeline(("a", "b"), np.arange(3.0), np.zeros((3, 3), np.float32))
