"""Crops of faces: where pixels land, by hand-worked answers; which frames count as having a face; what becomes of the others."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fercompress.data import faces, landmarks, synthetic
from fercompress.data.detectors import Box
from fercompress.data.listing import FoundClip, Media
from fercompress.dataconfig import Faces, FolderData, SyntheticData
from fercompress.errors import DataError

PICTURE = Media((Path("f.png"),), video=False)


def wish(size=32, **settings):
    return FolderData(name="folder", size=size, faces=Faces(**settings))


def clip(**columns):
    return FoundClip("c", "glad", "s", **{"media": PICTURE, **columns})


def points_with_eyes(left, right):
    points = np.zeros((68, 2))
    points[36:42], points[42:48] = left, right
    return points


def written(folder, points):
    path = folder / "points.txt"
    path.write_text("".join(f"   {x:.7e}   {y:.7e}\n" for x, y in points))
    return path


def face_in(picture_shape, left, top, side=128, subject=0):
    """A rendered face on a grey picture."""
    config = SyntheticData(name="synthetic", frames=2, size=side)
    picture = np.full(picture_shape, 90, np.uint8)
    picture[top : top + side, left : left + side] = synthetic.render(config, 0, subject, 0, 0)[0]
    return picture


# Geometry


def test_a_picture_of_the_wanted_size_comes_back_as_it_is():
    picture = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    assert (faces.warped(picture, faces.of_box(Box(0, 0, 32, 32), (32, 32), 32, 0), 32) == picture).all()


def test_a_crop_at_half_the_size_is_the_mean_of_every_four_pixels():
    picture = np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8)
    crop = faces.warped(picture, faces.of_box(Box(0, 0, 64, 64), (64, 64), 32, 0), 32)
    assert np.abs(crop - picture.reshape(32, 2, 32, 2).mean(axis=(1, 3))).max() <= 1


def test_a_box_becomes_a_square_with_its_margin():
    placed = faces.of_box(Box(40, 50, 20, 10), (200, 200), 10, 0.25)  # the middle is at 50, 55; the side is 20 * 1.5 = 30
    assert placed @ [-0.5, -0.5, 1] == pytest.approx([35 - 0.5, 40 - 0.5])
    assert placed @ [9.5, 9.5, 1] == pytest.approx([65 - 0.5, 70 - 0.5])


@given(
    st.tuples(st.floats(-50, 300), st.floats(-50, 300), st.floats(1, 400), st.floats(1, 400)),
    st.integers(1, 250),
    st.integers(1, 250),
    st.floats(0, 1),
)
def test_a_box_never_reaches_past_the_picture_and_stays_square(box, height, width, margin):
    placed = faces.of_box(Box(*box), (height, width), 16, margin)
    (left, top), (right, bottom) = placed @ [-0.5, -0.5, 1], placed @ [15.5, 15.5, 1]
    assert min(left, top) >= -0.5 - 1e-6
    assert right <= width - 0.5 + 1e-6
    assert bottom <= height - 0.5 + 1e-6
    assert right - left == pytest.approx(bottom - top)


def test_whole_pictures_keep_their_shape_between_black_bars():
    config = wish(by="none")
    made = faces.cut(config, "none", clip(), [0], [np.full((16, 32), 200, np.uint8)])
    assert (made.crops[0, :8].max(), made.crops[0, 24:].max()) == (0, 0)
    assert (made.crops[0, 8:24] == 200).all()


def test_eyes_end_up_level_and_equally_far_apart_however_the_head_is_held():
    for left, right in (((100, 120), (160, 120)), ((100, 120), (130, 150)), ((300, 80), (290, 120))):
        placed = landmarks.placement(points_with_eyes(left, right), 64, 0.25)
        matrix = np.vstack([placed, [0, 0, 1]])
        eyes = np.linalg.solve(matrix, np.array([[*left, 1], [*right, 1]], float).T)[:2].T
        apart = 64 / (2.1 * 1.5)  # the face is 2.1 eye distances wide, with margins 1.5 times that
        assert eyes[:, 0] == pytest.approx([31.5 - apart / 2, 31.5 + apart / 2])
        assert eyes[:, 1] == pytest.approx([31.5 - 0.55 * apart] * 2)


def test_what_lies_below_the_eyes_in_the_picture_lies_below_them_in_the_crop():
    picture = np.zeros((200, 200), np.uint8)
    picture[128:135, 97:104] = 255  # a mouth below the middle of the eyes
    points = points_with_eyes((80, 90), (120, 90))
    crop = faces.warped(picture, landmarks.placement(points, 64, 0.25), 64)
    rows, columns = np.nonzero(crop > 100)
    assert columns.mean() == pytest.approx(31.5, abs=0.6)
    assert rows.mean() > 31.5 - 0.55 * 64 / (2.1 * 1.5)


def test_a_turned_crop_is_black_where_it_reaches_past_the_picture_and_nowhere_else():
    picture = np.full((100, 100), 200, np.uint8)
    points = points_with_eyes((30, 60), (60, 30))  # turned by 45 degrees; its left corner lies past the picture's left edge
    placed = landmarks.placement(points, 64, 0.5)
    assert placed is not None
    crop = faces.warped(picture, placed, 64)
    grid = np.stack([*np.meshgrid(np.arange(64), np.arange(64)), np.ones((64, 64))])
    x, y = np.tensordot(placed, grid, axes=1)
    inside = np.minimum(np.minimum(x, 99 - x), np.minimum(y, 99 - y))
    assert (crop[inside > 3] == 200).all()
    assert (crop[inside < -3] == 0).all()
    assert (inside > 3).any()
    assert (inside < -3).any()


@pytest.mark.parametrize(
    ("text", "match"), [("1 2\n", "2 numbers; landmarks are 68 lines"), ("x y\n", "must be lines of x and y"), ("nan 1 " * 68, "136 numbers")]
)
def test_landmarks_that_are_none_name_their_file(tmp_path, text, match):
    (tmp_path / "points.txt").write_text(text)
    with pytest.raises(DataError, match=match) as raised:
        landmarks.points(tmp_path / "points.txt")
    assert "points.txt" in str(raised.value)


def test_empty_landmarks_and_eyes_in_one_place_are_frames_without_a_face(tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    config = wish(by="landmarks", missing="fail")
    frame = np.zeros((50, 50), np.uint8)
    for path in (tmp_path / "empty.txt", written(tmp_path, points_with_eyes((5, 5), (5, 5)))):
        with pytest.raises(DataError, match="no face in frame 1"):
            faces.cut(config, "landmarks", clip(landmarks=(path,)), [0], [frame])


# Detection, on rendered faces


def test_the_cascade_finds_a_face_and_the_crop_holds_it():
    config = wish(size=64, by="detect", margin=0.0)
    picture = face_in((300, 400), left=210, top=90)
    made = faces.cut(config, "detect", clip(), [0], [picture])
    assert made.found == (True,)
    around = np.abs(made.crops[0].astype(int) - 90) < 3
    assert around.mean() < 0.2, "the crop is the face, not the grey around it"


def test_the_same_person_is_followed_when_another_larger_face_comes_along():
    config = wish(size=64, by="detect", margin=0.0)
    alone = face_in((300, 500), left=40, top=90, side=96)
    joined = alone.copy()
    joined[60:252, 280:472] = face_in((192, 192), 0, 0, side=192, subject=3)
    follow, fresh = (faces._finder(config, "detect", clip()) for _ in range(2))
    centres = [placed @ [31.5, 31.5, 1] for placed in (follow(0, alone), follow(1, joined), fresh(0, joined)) if placed is not None]
    assert centres[0] == pytest.approx([88, 138], abs=15)
    assert centres[1] == pytest.approx(centres[0], abs=10)
    assert centres[2] == pytest.approx([376, 156], abs=30)


def test_a_face_that_jumps_across_the_picture_is_found_again():
    config = wish(size=64, by="detect", margin=0.0)
    find = faces._finder(config, "detect", clip())
    find(0, face_in((300, 500), left=20, top=90))
    placed = find(1, face_in((300, 500), left=350, top=90))
    assert placed is not None
    assert placed @ [31.5, 31.5, 1] == pytest.approx([414, 154], abs=20)


GREY = np.full((300, 400), 90, np.uint8)


def cut_between(missing, frames=None):
    """No face, a face, no face."""
    frames = frames or [GREY, face_in((300, 400), 210, 90), GREY + 20]
    return faces.cut(wish(size=64, by="detect", missing=missing), "detect", clip(), list(range(len(frames))), frames)


def test_last_box_shows_the_place_of_the_last_face_and_before_the_first_one_its_place():
    made = cut_between("last-box")
    assert made.found == (False, True, False)
    assert (made.crops[0] == 90).all()
    assert (made.crops[2] == 110).all()


def test_centre_shows_the_middle_square():
    frame = np.zeros((300, 400), np.uint8)
    frame[:, 50:350] = 77
    made = cut_between("centre", [frame])
    assert made.found == (False,)
    assert made.crops[0].min() >= 70  # its edge may mix with the pixel beside it


def test_fail_names_the_frame():
    with pytest.raises(DataError, match=r"no face in frame 1, and faces.missing is \"fail\""):
        cut_between("fail")


def test_skipped_frames_make_room_for_the_others_and_lower_the_rate():
    config = wish(missing="skip-frame").model_copy(update={"frames": 4})
    crops = np.arange(4, dtype=np.uint8).reshape(4, 1, 1) * np.ones((1, 32, 32), np.uint8)
    (row,) = faces.rows(config, "detect", [[5, 6, 7, 8]], [5, 6, 7, 8], faces.Cut(crops, (True, False, True, True)))
    assert row is not None
    assert (row[0][:, 0, 0].tolist(), row[1]) == ([0, 0, 2, 3], 0.75)


def test_a_frame_that_a_short_clip_uses_twice_counts_once_in_the_rate():
    crops = np.zeros((2, 32, 32), np.uint8)
    (row,) = faces.rows(wish(), "detect", [[0, 0, 0, 1]], [0, 1], faces.Cut(crops, (True, False)))
    assert row is not None
    assert row[1] == 0.5


@pytest.mark.parametrize("missing", ["skip-frame", "last-box", "centre"])
def test_a_window_with_no_face_in_any_frame_is_no_clip_whatever_the_policy(missing):
    crops = np.zeros((2, 32, 32), np.uint8)
    assert faces.rows(wish(missing=missing), "detect", [[0, 1]], [0, 1], faces.Cut(crops, (False, False))) == [None]


# Ready crops


def test_a_black_ready_crop_is_a_frame_without_a_face_and_is_never_shown():
    config = wish(by="aligned").model_copy(update={"frames": 2})
    shown = np.full((128, 128), 50, np.uint8)
    shown[30:60] = 180
    made = faces.cut(config, "aligned", clip(aligned=(Path("a"), Path("b"))), [0, 1], [np.zeros((128, 128), np.uint8), shown])
    assert made.found == (False, True)
    (row,) = faces.rows(config, "aligned", [[0, 1]], [0, 1], made)
    assert row is not None
    assert row[0][0].max() == row[0][1].max() == 180
    assert row[1] == 0.5


def test_an_empty_folder_of_ready_crops_is_told_where_others_have_theirs():
    full, empty = clip(aligned=(Path("a"),)), clip()
    assert faces.way(Faces(), [full, empty]) == "aligned"
    with pytest.raises(DataError, match="no aligned face: its folder of ready crops is empty"):
        faces.pictures(empty, "aligned")


def test_the_first_thing_that_a_data_set_has_is_taken():
    with_points, bare = clip(landmarks=(Path("p"),)), clip()
    assert faces.way(Faces(), [bare, with_points]) == "landmarks"
    assert faces.way(Faces(), [bare]) == "detect"
    assert faces.way(Faces(by="none"), [with_points]) == "none"
    with pytest.raises(DataError, match=r'faces.by = "landmarks": no clip of this data set has that'):
        faces.way(Faces(by="landmarks"), [bare])
