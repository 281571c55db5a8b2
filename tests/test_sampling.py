"""Which frames of a clip are taken: known answers, and what holds for every clip."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fercompress.data.listing import Moments
from fercompress.data.sampling import chosen, spread
from fercompress.dataconfig import FolderData
from fercompress.errors import DataError

TAKES = ["last", "uniform", "apex", "windows"]


def wish(take, frames=4):
    return FolderData(name="folder", take=take, frames=frames)


@st.composite
def moments_within(draw, count):
    return Moments(*sorted(draw(st.lists(st.integers(0, count - 1), min_size=4, max_size=4))))


def test_last_takes_the_final_frames_of_a_clip_that_ends_at_its_peak():
    assert chosen(wish("last"), 11, None) == [[7, 8, 9, 10]]


def test_uniform_keeps_the_first_and_the_last_frame():
    assert chosen(wish("uniform"), 10, None) == [[0, 3, 6, 9]]


def test_apex_runs_from_the_coded_onset_to_the_end_of_the_coded_apex():
    assert chosen(wish("apex"), 100, Moments(10, 30, 40, 80)) == [[10, 20, 30, 40]]


def test_apex_without_coding_takes_the_middle_half():
    assert chosen(wish("apex"), 40, None) == [[10, 16, 23, 29]]


def test_windows_overlap_by_half_and_the_last_one_ends_with_the_clip():
    assert chosen(wish("windows"), 9, None) == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [5, 6, 7, 8]]


@pytest.mark.parametrize("take", TAKES)
def test_a_short_clip_is_spread_over_all_frames_and_nothing_of_it_is_lost(take):
    assert chosen(wish(take, 6), 3, None) == [[0, 0, 1, 1, 2, 2]]


@pytest.mark.parametrize("take", TAKES)
def test_a_coding_that_ends_after_the_clip_is_refused(take):
    with pytest.raises(DataError, match="coded to end at frame 41, the clip has 40"):
        chosen(wish(take), 40, Moments(10, 20, 30, 40))


@given(st.sampled_from(TAKES), st.integers(2, 64), st.integers(1, 400), st.data())
def test_every_window_has_t_frames_of_the_clip_in_order(take, frames, count, data):
    moments = data.draw(st.none() | moments_within(count))
    windows = chosen(wish(take, frames), count, moments)
    assert windows
    for window in windows:
        assert len(window) == frames
        assert window == sorted(window)
        assert window[0] >= 0
        assert window[-1] < count


@given(st.integers(2, 64), st.integers(1, 400))
def test_windows_cover_every_frame_and_none_comes_twice(frames, count):
    windows = chosen(wish("windows", frames), count, None)
    assert set().union(*windows) == set(range(count))
    assert len({tuple(window) for window in windows}) == len(windows)


@given(st.integers(0, 50), st.integers(0, 400), st.integers(2, 64))
def test_a_spread_is_even_to_within_one_frame(first, span, length):
    taken = spread(first, first + span, length)
    assert (taken[0], taken[-1]) == (first, first + span)
    gaps = [after - before for before, after in itertools.pairwise(taken)]
    assert max(gaps) - min(gaps) <= 1
