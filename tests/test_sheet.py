"""The contact sheet: what it shows and how it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from fercompress.data.sheet import _told, sheet
from fercompress.errors import DataError, InputError
from fercompress.records import Clips


def clips_of(labels, subjects, frames=4, brightness=None):
    n = len(labels)
    pixels = np.zeros((n, frames, 16, 16), np.uint8)
    if brightness is not None:
        pixels += np.array(brightness, np.uint8).reshape(n, 1, 1, 1)
    names = tuple(str(i) for i in range(n))
    return Clips("drawn", pixels, np.array(labels, np.int64), ("a", "b"), names, tuple(subjects), tuple(subjects), names, (0,) * n, "f" * 64, True)


def test_a_sheet_grows_by_one_row_for_every_clip_it_shows(tmp_path):
    clips = clips_of([0, 0, 1, 1], "uvuv")
    heights = [imread(sheet(clips, tmp_path / f"{n}.png", per_class=n)).shape[0] for n in (1, 2)]
    assert heights[1] - heights[0] == 2 * 0.8 * 150  # one more row for each of two classes, 0.8 inches at 150 dots per inch


def test_a_sheet_prefers_another_subject_to_a_second_clip_of_the_same(tmp_path):
    clips = clips_of([0, 0, 0], "uuv", brightness=[255, 0, 255])
    picture = imread(sheet(clips, tmp_path / "s.png"))[:, :, 0]
    assert picture[-100:-20, -100:-20].min() > 0.99  # the second row is v's white clip, not u's second, black one


def test_a_long_clip_is_shown_by_twelve_frames_with_its_first_and_last(tmp_path):
    short, long = (imread(sheet(clips_of([0], "u", frames), tmp_path / f"{frames}.png")).shape for frames in (12, 200))
    assert short == long


def test_beside_a_cameras_clip_stands_how_often_its_face_was_found():
    clips = clips_of([0, 1], "uv")
    assert _told(clips, "a", 0) == "a\nu"
    assert _told(replace(clips, face_rates=(0.75, 1.0), subjects=("", "v")), "a", 0) == "a\n0, subject unknown\nfaces in 75%"


def test_a_sheet_of_no_clips_is_refused(tmp_path):
    with pytest.raises(DataError, match="no clip to show"):
        sheet(clips_of([], ""), tmp_path / "s.png")


def test_a_sheet_in_a_missing_folder_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"cannot write the contact sheet"):
        sheet(clips_of([0], "u"), tmp_path / "nowhere" / "s.png")
