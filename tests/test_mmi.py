"""MMI as it is downloaded: what counts, what does not and why; upright fronts; who is seen; when the peak is."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import facetrees
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from listings import assert_left_out, found

from fercompress.data import media, mmi, oao
from fercompress.data.listing import Moments
from fercompress.dataconfig import Faces, MmiData
from fercompress.errors import DataError


def data(**others: Any) -> MmiData:
    return MmiData(name="mmi", **others)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> facetrees.Tree:
    return facetrees.mmi(tmp_path_factory.mktemp("mmi"))


@pytest.fixture
def own(tmp_path: Path) -> facetrees.Tree:
    """One that a test may change: sessions 1 to 3 are dual (view 2), coded and rotated."""
    return facetrees.mmi(tmp_path, subjects=1, clips=3, frames=3, traps=False)


def session(tree: facetrees.Tree, number: int) -> Path:
    (folder,) = tree.root.glob(f"*/Sessions/{number}")
    return folder


def test_labels_subjects_and_all_that_is_left_out_are_exact(tree: facetrees.Tree):
    listing = mmi.find(data(), tree.root)
    assert found(listing) == tree.clips
    assert_left_out(listing, tree.left_out)
    assert listing.remarks == ()


def test_counts_stand_beside_the_published_ones(tree: facetrees.Tree):
    listing = mmi.find(data(), tree.root)
    assert listing.found.keys() > listing.published.keys()
    assert (listing.found["sessions"], listing.found["subjects"]) == (18 + 11, 3)
    labels = Counter(label for label, _ in tree.clips.values()) + Counter(["anger"])  # the copy
    assert {name: listing.found[name] for name in mmi.CLASSES} == dict(labels)
    assert (listing.found["turned upright"], listing.found["halves of two views"], listing.found["with onset, apex and offset"]) == (6, 6, 6)


def test_every_view_gives_the_upright_front(tree: facetrees.Tree):
    shown = {clip.clip_id: clip for clip in mmi.find(data(), tree.root).clips}
    for clip_id, number, subject in (("1/S001-001", 1, 1), ("2/S001-002", 2, 1), ("3/S001-003", 3, 1)):
        (frame,) = media.read(shown[clip_id].media, [0])
        expected = facetrees.scenes(facetrees.faces(subject, number, facetrees._of_mmi(number), 9, "return"))[0]
        assert frame.shape == expected.shape
        assert np.abs(frame.astype(int) - expected).mean() < 4


def test_the_other_half_and_no_turn_are_the_studys_to_ask_for(own: facetrees.Tree):
    def stored(**others: Any) -> list[tuple[str, int]]:
        return [(clip.media.side, clip.media.turn_deg) for clip in mmi.find(data(**others), own.root).clips]

    assert stored() == [("right", 0), ("whole", 0), ("whole", 90)]
    assert stored(half="left", turn="never") == [("left", 0), ("whole", 0), ("whole", 0)]
    assert stored(turn="always") == [("right", 0), ("whole", 90), ("whole", 90)]


def test_the_half_with_the_front_is_seen_wherever_it_is(own: facetrees.Tree):
    path = session(own, 1) / "S001-001.avi"
    shown = facetrees.scenes(facetrees.faces(1, 1, 0, 3))
    blank = np.full_like(shown[0], 70)
    for pair, half, told in (
        ((shown, [blank] * 3), "left", []),
        (([blank] * 3, shown), "right", []),
        (([blank] * 3, [blank] * 3), "right", ["no face is seen from the front in either half of its first frame: the right one is taken"]),
    ):
        facetrees.video(path, [np.concatenate(halves, axis=1) for halves in zip(*pair, strict=True)])
        listing = mmi.find(data(), own.root)
        assert listing.clips[0].media.side == half
        assert [row.reason for row in listing.remarks] == told


def test_a_detector_that_is_not_there_is_refused_once(own: facetrees.Tree):
    with pytest.raises(DataError, match=r"nowhere\.onnx"):
        mmi.find(data(faces=Faces(detector="nowhere.onnx")), own.root)


def test_a_video_that_cannot_be_read_is_left_to_the_decoding(own: facetrees.Tree):
    (session(own, 1) / "S001-001.avi").write_text("no video")
    listing = mmi.find(data(), own.root)
    assert found(listing) == own.clips
    with pytest.raises(DataError, match="cannot be read as a video"):
        media.count(listing.clips[0].media)


def test_moments_are_where_most_units_are_at_their_apex(tree: facetrees.Tree):
    by_id = {clip.clip_id: clip for clip in mmi.find(data(), tree.root).clips}
    coded = [clip for clip in by_id.values() if clip.moments]
    # Unit 1: onset 2, apex 4, offset 6, rest 8; unit 12: one frame later (from 1). Both at their apex: frame 5 (4 from 0) alone.
    assert {clip.moments for clip in coded} == {Moments(1, 4, 4, 7)}


def test_a_table_of_subjects_is_taken_in_place_of_names(own: facetrees.Tree):
    facetrees.text(own.root / "who.csv", "Session, Subject\n1,ann\n2,bob\n\n")
    listing = mmi.find(data(subjects="who.csv"), own.root)
    assert [clip.subject for clip in listing.clips] == ["ann", "bob", ""]
    assert [(row.clip, row.reason) for row in listing.remarks] == [("3/S001-003", "the table of subjects does not name its session")]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("session\n1\n", "no column 'subject'; the first line must be session,subject"),
        ("session,subject\n1,a\n1,b\n", ":3: session '1' has two subjects, 'a' and 'b'"),
        ("session,subject\n1,a,b\n", ":2: 3 fields for 2 columns"),
        ("session,subject\n1,\n", ":2: a session without a subject"),
        ("session,subject,age\n1,a,3\n", "a column 'age'"),
        ("", "no column 'session'"),
        ('session,subject\n"1,a\n', "not a CSV file"),
    ],
)
def test_a_fault_in_the_table_is_one_line_with_its_place(own: facetrees.Tree, content: str, told: str):
    facetrees.text(own.root / "who.csv", content)
    with pytest.raises(DataError) as caught:
        mmi.find(data(subjects="who.csv"), own.root)
    assert told in str(caught.value)
    assert "who.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_there_is_told(own: facetrees.Tree):
    with pytest.raises(DataError, match=r"who\.csv: cannot be read"):
        mmi.find(data(subjects="who.csv"), own.root)


def test_subjects_are_told_in_one_way_for_all_so_that_nobody_is_two_people(own: facetrees.Tree):
    for number in (1, 2, 3):
        path = session(own, number) / f"S001-{number:03d}.xml"
        tag = '<Metatag Name="Subject ID" Value="17"/>' if number < 3 else ""
        path.write_text(path.read_text().replace("</SessionMetadata>", f"{tag}</SessionMetadata>"))
    assert {clip.subject for clip in mmi.find(data(), own.root).clips} == {"S001"}  # the names tell it of all three, the tags of two
    path.write_text(path.read_text().replace("</SessionMetadata>", '<Metatag Name="Subject ID" Value="17"/></SessionMetadata>'))
    assert {clip.subject for clip in mmi.find(data(), own.root).clips} == {"17"}


def test_an_element_named_subject_tells_who_it_is(own: facetrees.Tree):
    for number in (1, 2, 3):
        path = session(own, number) / "session.xml"
        path.write_text(path.read_text().replace("<track", f'<subject age="3{number}" id="{number}"/><track'))
    assert [clip.subject for clip in mmi.find(data(), own.root).clips] == ["1", "2", "3"]


def test_where_nothing_tells_who_is_seen_it_is_told(own: facetrees.Tree):
    folder = session(own, 2)
    for suffix in (".avi", ".xml"):
        (folder / f"S001-002{suffix}").rename(folder / f"clip{suffix}")
    listing = mmi.find(data(), own.root)
    assert found(listing)["2/clip"][1] == ""
    assert [(row.clip, row.reason) for row in listing.remarks] == [("2/clip", "nothing tells who it shows: name a table with [data] subjects")]


def test_two_downloads_with_the_same_session_are_one_session(own: facetrees.Tree):
    shutil.copytree(session(own, 1), own.root / "second download" / "Sessions" / "1")
    listing = mmi.find(data(), own.root)
    assert found(listing) == own.clips
    (row,) = listing.left_out
    assert (row.clip, row.reason[:26]) == ("second download/Sessions/1", "session 1 is there twice, ")


def test_a_coding_that_cannot_be_read_is_told_and_the_clip_used(own: facetrees.Tree):
    path = session(own, 2) / "S001-002-oao_aucs.xml"
    path.write_text(path.read_text().replace('Type="2"', 'Type="7"'))
    listing = mmi.find(data(), own.root)
    assert found(listing) == own.clips
    assert [(row.clip, row.reason) for row in listing.remarks] == [
        ("2/S001-002", "onset, apex and offset are not used: S001-002-oao_aucs.xml: a marker of type 7 at frame 4")
    ]


def test_upper_case_endings_are_read(own: facetrees.Tree):
    folder = session(own, 1)
    (folder / "S001-001.avi").rename(folder / "S001-001.AVI")
    assert found(mmi.find(data(), own.root)) == own.clips


def test_a_folder_without_sessions_is_told(tmp_path: Path):
    (tmp_path / "Videos").mkdir()
    with pytest.raises(DataError, match=r"no Sessions/<number>/session\.xml here or below"):
        mmi.find(data(), tmp_path)


def test_a_doctype_without_entities_is_harmless(own: facetrees.Tree):
    path = session(own, 1) / "session.xml"
    path.write_text(path.read_text().replace("<session", '<!DOCTYPE session SYSTEM "http://127.0.0.1:9/x.dtd">\n<session', 1))
    assert found(mmi.find(data(), own.root)) == own.clips


UNITS = st.dictionaries(
    st.integers(1, 30), st.lists(st.integers(1, 40), min_size=4, max_size=4, unique=True).map(lambda frames: tuple(sorted(frames))), max_size=5
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(UNITS)
def test_no_frame_has_more_units_at_their_apex_than_the_apex(tmp_path_factory: pytest.TempPathFactory, units: dict[int, tuple[int, int, int, int]]):
    path = facetrees.text(tmp_path_factory.mktemp("oao") / "a-oao_aucs.xml", facetrees.oao(units))
    moments, fault = oao.moments(path)
    assert fault == ""
    at_apex = [sum(apex <= frame < offset for _, apex, offset, _ in units.values()) for frame in range(1, 42)]  # from 1
    if not units:
        assert moments is None
        return
    assert moments is not None
    most = max(at_apex)
    assert at_apex[moments.apex : moments.apex_end + 1] == [most] * (moments.apex_end - moments.apex + 1)
    assert moments.onset == min(onset for onset, *_ in units.values()) - 1
    assert moments.offset == max(rest for *_, rest in units.values()) - 2
