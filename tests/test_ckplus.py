"""CK+ as people have it on disk: labels, subjects and what is left out, exactly; nothing is guessed, nothing slips."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import facetrees
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from listings import assert_left_out, found

from fercompress.data import ckplus
from fercompress.dataconfig import CkPlusData
from fercompress.errors import DataError


def data(**others: Any) -> CkPlusData:
    return CkPlusData(name="ckplus", **others)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> facetrees.Tree:
    return facetrees.ckplus(tmp_path_factory.mktemp("ckplus"))


@pytest.fixture
def own(tmp_path: Path) -> facetrees.Tree:
    """One that a test may change."""
    return facetrees.ckplus(tmp_path, subjects=2, sequences=2, frames=3, traps=False)


def test_labels_subjects_and_all_that_is_left_out_are_exact(tree: facetrees.Tree):
    listing = ckplus.find(data(), tree.root)
    assert found(listing) == tree.clips
    assert_left_out(listing, tree.left_out)
    assert listing.classes == ckplus.CLASSES
    assert listing.remarks == ()


def test_counts_stand_beside_the_published_ones(tree: facetrees.Tree):
    listing = ckplus.find(data(), tree.root)
    assert listing.found.keys() == listing.published.keys()
    assert listing.published["labelled sequences"] == sum(listing.published[name] for name in ckplus.CLASSES) == 327
    assert (listing.found["sequences"], listing.found["subjects"]) == (16 + 7, 4)
    labelled = Counter(label for label, _ in tree.clips.values()) + Counter(["anger"])  # the copy is on disk, too
    assert {name: listing.found[name] for name in ckplus.CLASSES} == {name: labelled[name] for name in ckplus.CLASSES}


def test_pictures_come_in_the_order_of_their_numbers_with_their_own_landmarks(tree: facetrees.Tree):
    for clip in ckplus.find(data(), tree.root).clips:
        assert [path.stem for path in clip.media.files] == [f"{clip.subject}_{clip.clip_id[-3:]}_{frame:08d}" for frame in range(1, 6)]
        assert [path.stem for path in clip.landmarks] == [f"{path.stem}_landmarks" for path in clip.media.files]
        assert not clip.media.video


def test_folders_may_have_other_names_and_lie_one_within_the_other(tmp_path: Path):
    tree = facetrees.ckplus(tmp_path, subjects=2, renamed=True)
    listing = ckplus.find(data(), tmp_path)
    assert found(listing) == tree.clips
    assert_left_out(listing, tree.left_out)


def test_without_contempt_its_clips_are_left_out_and_still_counted(tree: facetrees.Tree):
    listing = ckplus.find(data(contempt=False), tree.root)
    assert "contempt" not in listing.classes
    assert found(listing) == {clip: row for clip, row in tree.clips.items() if row[0] != "contempt"}
    assert listing.found["contempt"] == sum(label == "contempt" for label, _ in tree.clips.values()) > 0
    assert sum("contempt = false" in row.reason for row in listing.left_out) == listing.found["contempt"]


def test_the_cut_pictures_of_ck48_count_as_ready_crops(tmp_path: Path):
    tree = facetrees.ck48(tmp_path)
    listing = ckplus.find(data(), tmp_path)
    assert found(listing) == tree.clips
    assert_left_out(listing, tree.left_out)
    assert all(clip.aligned == clip.media.files and len(clip.aligned) == 3 for clip in listing.clips)
    assert listing.found["pictures"] == 3 * 4 * 7 + 2
    assert listing.published["pictures"] == 3 * 327


def test_both_forms_in_one_folder_are_refused(own: facetrees.Tree):
    facetrees.ck48(own.root, subjects=1)
    with pytest.raises(DataError, match="give the folder of one of them"):
        ckplus.find(data(), own.root)


def test_a_sequence_that_was_unpacked_twice_is_one_clip_and_told(own: facetrees.Tree):
    folder = own.root / "cohn-kanade-images"
    shutil.copytree(folder / "S005", own.root / "cohn-kanade-images (1)" / "S005")
    listing = ckplus.find(data(), own.root)
    assert found(listing) == own.clips
    assert {row.clip for row in listing.remarks} == {"S005/001", "S005/002"}
    assert all("unpacked twice" in row.reason for row in listing.remarks)
    (own.root / "cohn-kanade-images (1)" / "S005" / "001" / "S005_001_00000003.png").unlink()
    with pytest.raises(DataError, match="hold different pictures of one sequence"):
        ckplus.find(data(), own.root)


def test_a_picture_in_another_sequences_folder_is_refused(own: facetrees.Tree):
    images = own.root / "cohn-kanade-images"
    (images / "S005/001/S005_001_00000002.png").rename(images / "S010/001/S005_001_00000002.png")
    with pytest.raises(DataError, match="its name says S005/001, its folder S010/001"):
        ckplus.find(data(), own.root)


def test_missing_landmarks_are_told_and_never_lent_to_another_frame(own: facetrees.Tree):
    (own.root / "Landmarks/S005/001/S005_001_00000002_landmarks.txt").unlink()
    listing = ckplus.find(data(), own.root)
    assert [(row.clip, row.reason) for row in listing.remarks] == [("S005/001", "landmarks for 2 of its 3 pictures: none is used")]
    assert [bool(clip.landmarks) for clip in listing.clips] == [False, True, True, True]


def test_a_picture_that_is_missing_in_the_middle_is_told(own: facetrees.Tree):
    (own.root / "cohn-kanade-images/S005/002/S005_002_00000002.png").unlink()
    (row,) = ckplus.find(data(), own.root).remarks
    assert (row.clip, row.reason) == ("S005/002", "the numbers of its pictures jump: 2 between 1 and 3")


def test_one_sequence_under_two_labels_has_none(own: facetrees.Tree):
    facetrees.text(own.root / "Emotion (1)" / "S005_001_00000003_emotion.txt", " 5.0 ")
    listing = ckplus.find(data(), own.root)
    assert_left_out(listing, {"S005/001": "several labels: 1, 5"})


def test_copies_under_two_labels_are_both_left_out(own: facetrees.Tree):
    for frame in (1, 2, 3):
        shutil.copy(
            own.root / f"cohn-kanade-images/S005/001/S005_001_{frame:08d}.png", own.root / f"cohn-kanade-images/S010/002/S010_002_{frame:08d}.png"
        )
    assert_left_out(ckplus.find(data(), own.root), {"S005/001": "under several labels", "S010/002": "S005/001 (anger), S010/002 (fear)"})


@pytest.mark.parametrize(("there", "told"), [((), "no picture named like"), (("cohn-kanade-images",), "unpack Emotion_labels.zip there too")])
def test_what_is_missing_is_asked_for(own: facetrees.Tree, there: tuple[str, ...], told: str):
    for folder in own.root.iterdir():
        if folder.name not in there:
            shutil.rmtree(folder)
    with pytest.raises(DataError, match=told):
        ckplus.find(data(), own.root)


def test_a_root_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(DataError, match="no such folder"):
        ckplus.find(data(), tmp_path / "nowhere")


SEQUENCES = st.dictionaries(
    st.tuples(st.integers(1, 999), st.integers(1, 20)),  # subject, number
    st.tuples(
        st.integers(1, 12), st.one_of(st.none(), st.sampled_from(["3", " 3.0000000e+00 ", "0", "8", "-1", "1e300", "", "x", "nan", "1e400", "2.5"]))
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(SEQUENCES, st.lists(st.sampled_from(["", "a", "S005", "001", "Emotion"]), max_size=3))
def test_whatever_is_on_disk_every_sequence_is_a_clip_with_its_own_label_or_left_out(
    tmp_path_factory: pytest.TempPathFactory, sequences: dict[tuple[int, int], tuple[int, str | None]], within: list[str]
):
    root = tmp_path_factory.mktemp("any")
    folder = root.joinpath("x", *within)
    for (subject, number), (frames, label) in sequences.items():
        name = f"S{subject:03d}_{number:03d}"
        for frame in range(1, frames + 1):
            facetrees.text(folder / name / f"{name}_{frame:08d}.png", f"{name} {frame}")
        if label is not None:
            facetrees.text(folder / name / f"{name}_{frames:08d}_emotion.txt", label)
    try:
        listing = ckplus.find(data(), root)
    except DataError as error:
        assert not sequences or all(label is None for _, label in sequences.values()), error  # noqa: PT017
        return
    names = {f"S{subject:03d}/{number:03d}": row for (subject, number), row in sequences.items()}
    used = {clip.clip_id for clip in listing.clips}
    assert used == {name for name, (_, label) in names.items() if label is not None and label.strip().startswith("3")}
    assert used | {row.clip for row in listing.left_out} == names.keys()
    for clip in listing.clips:
        assert clip.label == "disgust"
        assert len(clip.media.files) == names[clip.clip_id][0]
        assert [path.read_text() for path in clip.media.files] == [
            f"{clip.clip_id.replace('/', '_')} {frame}" for frame in range(1, names[clip.clip_id][0] + 1)
        ]
