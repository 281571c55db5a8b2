"""One's own clips, as a tree or a table: what is found is what was written, in people's order of numbers; the rest is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import facetrees
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from listings import assert_left_out, found

from fercompress.data import folder
from fercompress.dataconfig import FolderData
from fercompress.errors import DataError


def data(**others: Any) -> FolderData:
    return FolderData(name="folder", **others)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> facetrees.Tree:
    return facetrees.folder(tmp_path_factory.mktemp("folder"))


@pytest.fixture
def own(tmp_path: Path) -> facetrees.Tree:
    """One that a test may change."""
    return facetrees.folder(tmp_path, subjects=2, clips=1, frames=3, traps=False)


def test_labels_subjects_and_all_that_is_left_out_are_exact(tree: facetrees.Tree):
    listing = folder.find(data(), tree.root)
    assert found(listing) == tree.clips
    assert_left_out(listing, tree.left_out)
    assert listing.classes == ("calm", "glad", "sad")
    assert (listing.found["clips"], listing.found["subjects"], listing.found["clips of glad"]) == (24 + 1, 4, 8 + 1)
    assert listing.published == {}


def test_pictures_are_in_the_order_of_their_numbers(tree: facetrees.Tree):
    (names,) = {tuple(path.name for path in clip.media.files) for clip in folder.find(data(), tree.root).clips if not clip.media.video}
    assert names == tuple(f"frame_{number}.png" for number in range(8, 14))


def test_a_table_gives_the_same_clips_and_their_parts(tree: facetrees.Tree):
    facetrees.manifest(tree, "clips.csv", parts=True)
    listing = folder.find(data(manifest="clips.csv"), tree.root)
    assert found(listing) == tree.clips
    assert {(clip.subject, clip.part) for clip in listing.clips} == {("p00", "train"), ("p01", "train"), ("p02", "train"), ("p03", "test")}
    assert (listing.found["train"], listing.found["test"]) == (18, 6)
    assert listing.left_out == ()


def test_a_row_without_its_file_is_left_out_and_told(own: facetrees.Tree):
    path = facetrees.manifest(own)
    path.write_text(path.read_text() + "glad/p00/gone.mp4,glad,p00\n\n")
    assert_left_out(folder.find(data(manifest=path.name), own.root), {"glad/p00/gone.mp4": "no such file"})


def test_a_table_without_subjects_is_told_clip_by_clip(own: facetrees.Tree):
    path = facetrees.manifest(own)
    path.write_text(path.read_text().replace("p01\n", "\n"))
    listing = folder.find(data(manifest=path.name), own.root)
    assert {row.clip for row in listing.remarks} == {clip for clip, (_, subject) in own.clips.items() if subject == "p01"}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("clip,label\n", "no column 'subject'"),
        ("clip,label,subject,parts\n", "a column 'parts'; the first line must be clip,label,subject[,part]"),
        ("clip,label,subject,label\n", "a column twice"),
        ("clip,label,subject,part\nglad/p00/c0,glad,p00,dev\n", ":2: part 'dev'; it is train, test"),
        ("clip,label,subject\n../a.mp4,glad,p00\n", ":2: '../a.mp4' lies outside"),
        ("clip,label,subject\n/etc/passwd,glad,p00\n", "lies outside"),
        ("clip,label,subject\nglad/p00/c0,,p00\n", ":2: a row needs a clip and a label"),
        ("clip,label,subject\nglad/p00/c0,glad,p00\nsad/../glad/p00/c0,glad,p00\n", ":3: clip 'glad/p00/c0' is in an earlier row"),
        ("clip,label,subject,part\nglad/p00/c0,glad,p00,test\nsad/p01/c0,sad,p01,\n", "'sad/p01/c0' has no part"),
        ("clip,label,subject\nglad/p00/c0,glad,p00\n", "clips of one label alone (glad)"),
    ],
)
def test_a_fault_in_the_table_is_one_line_with_its_place(own: facetrees.Tree, rows: str, told: str):
    facetrees.text(own.root / "clips.csv", rows)
    with pytest.raises(DataError) as caught:
        folder.find(data(manifest="clips.csv"), own.root)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_copy_in_the_test_part_stays_and_the_one_to_train_on_goes(own: facetrees.Tree):
    path = facetrees.manifest(own, parts=True)
    first = next(clip for clip, (_, subject) in own.clips.items() if subject == "p01" and clip.endswith(".mp4"))
    label = own.clips[first][0]
    shutil.copy(own.root / first, own.root / "stray.mp4")
    path.write_text(path.read_text().replace("clip,label,subject,part\n", f"clip,label,subject,part\nstray.mp4,{label},p00,train\n"))
    assert_left_out(folder.find(data(manifest=path.name), own.root), {"stray.mp4": f"the same bytes as {first}"})


def test_an_empty_root_says_what_was_looked_for(tmp_path: Path):
    with pytest.raises(DataError, match="no clip named <label>/<subject>/<clip>"):
        folder.find(data(), tmp_path)


def test_links_are_followed_and_a_link_that_leads_back_up_is_told(own: facetrees.Tree, tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("links")
    for label in ("glad", "sad", "calm"):
        (root / label).symlink_to(own.root / label)
    assert found(folder.find(data(), root)) == own.clips


NAMES = st.text("ab1290_ .é", min_size=1, max_size=6).map(str.strip).filter(lambda name: name and not name.startswith("."))
TREES = st.dictionaries(NAMES, st.dictionaries(NAMES, st.dictionaries(NAMES, st.integers(0, 12), max_size=3), max_size=3), min_size=2, max_size=3)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(TREES)
def test_every_folder_of_pictures_in_a_random_tree_is_one_clip(
    tmp_path_factory: pytest.TempPathFactory, labels: dict[str, dict[str, dict[str, int]]]
):
    root = tmp_path_factory.mktemp("random")
    expected, empty = {}, set()
    for label, subjects in labels.items():
        for subject, clips in subjects.items():
            for clip, pictures in clips.items():
                (root / label / subject / clip).mkdir(parents=True)
                for number in range(pictures):
                    facetrees.text(root / label / subject / clip / f"{number}.png", f"{label} {subject} {clip} {number}")
                name = f"{label}/{subject}/{clip}"
                if pictures:
                    expected[name] = (label, subject)
                else:
                    empty.add(name)
    if len({label for label, _ in expected.values()}) < 2:
        with pytest.raises(DataError):
            folder.find(data(), root)
        return
    listing = folder.find(data(), root)
    assert found(listing) == expected
    assert {row.clip for row in listing.left_out} == empty
    for clip in listing.clips:
        assert [path.stem for path in clip.media.files] == [str(number) for number in range(len(clip.media.files))]
