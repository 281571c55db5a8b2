"""AFEW as it is unpacked: parts, labels, ready crops by id, actors and movies; a copy of a test clip never trains."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import facetrees
import pytest
from listings import assert_left_out, found

from fercompress.data import afew, afewxml
from fercompress.dataconfig import AfewData
from fercompress.errors import DataError

IDS = {"000543854", "012705800", "010255520"}


def data(**others: Any) -> AfewData:
    return AfewData(name="afew", **others)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "doubled"])
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> facetrees.Tree:
    return facetrees.afew(tmp_path_factory.mktemp("afew"), doubled=request.param)


@pytest.fixture
def own(tmp_path: Path) -> facetrees.Tree:
    """One that a test may change."""
    return facetrees.afew(tmp_path, train=1, val=1, frames=3, traps=False)


def test_parts_labels_actors_and_all_that_is_left_out_are_exact(tree: facetrees.Tree):
    listing = afew.find(data(), tree.root)
    assert found(listing) == tree.clips
    assert_left_out(listing, tree.left_out)
    assert all(clip.part == clip.clip_id.split("/")[0] for clip in listing.clips)


def test_counts_stand_beside_the_published_ones(tree: facetrees.Tree):
    listing = afew.find(data(), tree.root)
    assert listing.found.keys() > listing.published.keys()
    assert (listing.published["train"], listing.published["test"]) == (773, 383)
    for part in ("train", "test"):
        assert sum(listing.published[f"{part} {name}"] for name in afew.CLASSES) == listing.published[part]
    on_disk = Counter((clip.split("/")[0], label) for clip, (label, _) in tree.clips.items()) + Counter([("train", "Happy")])  # the copy
    assert {key: listing.found[f"{key[0]} {key[1]}"] for key in on_disk} == dict(on_disk)
    assert listing.found["train"] == sum(count for (part, _), count in on_disk.items() if part == "train")


def test_ready_crops_belong_to_their_id_and_their_absence_is_told(tree: facetrees.Tree):
    listing = afew.find(data(), tree.root)
    told = {row.clip: row.reason for row in listing.remarks}
    none, empty = f"train/Angry/{facetrees.afew_id(900)}", f"train/Sad/{facetrees.afew_id(901)}"
    assert told == {none: "no ready crops: they have no folder", empty: "no ready crops: their folder is empty"}
    for clip in listing.clips:
        assert len(clip.aligned) == (0 if clip.clip_id in told else 8)
        assert {path.parent.name for path in clip.aligned} <= {clip.media.files[0].stem}
        assert [path.stem for path in clip.aligned] == [f"{number:03d}" for number in range(1, len(clip.aligned) + 1)]
    assert listing.found["with ready crops"] == len(listing.clips) - 2


def test_a_movie_is_the_recording_and_its_clips_are_in_the_order_of_their_time(tree: facetrees.Tree):
    clips = [clip for clip in afew.find(data(), tree.root).clips if clip.subject]
    by_movie: dict[str, list[tuple[str, int]]] = {}
    for clip in clips:
        by_movie.setdefault(clip.recording, []).append((clip.media.files[0].stem, clip.position))
    assert set(by_movie) == {f"Movie train {number}" for number in range(6)} | {f"Movie test {number}" for number in range(125, 129)}
    assert all([position for _, position in sorted(rows)] == list(range(len(rows))) for rows in by_movie.values())


def test_crops_of_the_validation_part_are_found_under_the_training_part_too(own: facetrees.Tree):
    shutil.move(own.root / "Val_AFEW/AlignedFaces_LBPTOP_Points_Val", own.root / "Train_AFEW/AlignedFaces_LBPTOP_Points_Val")
    listing = afew.find(data(), own.root)
    assert all(clip.aligned for clip in listing.clips)
    assert all("_Val" in str(clip.aligned[0]) for clip in listing.clips if clip.part == "test")


def test_folders_may_be_called_train_and_val(own: facetrees.Tree):
    (own.root / "Train_AFEW").rename(own.root / "Train")
    (own.root / "Val_AFEW").rename(own.root / "Val")
    assert found(afew.find(data(), own.root)) == own.clips


def test_an_id_in_two_classes_lends_its_crops_and_its_actor_to_neither(own: facetrees.Tree):
    angry = next((own.root / "Train_AFEW/Angry").iterdir())
    facetrees.video(own.root / "Train_AFEW/Sad" / angry.name, facetrees.scenes(facetrees.faces(70, 70, 0, 3)))
    listing = afew.find(data(), own.root)
    both = [clip for clip in listing.clips if clip.media.files[0].stem == angry.stem]
    assert [(clip.label, clip.aligned, clip.subject) for clip in both] == [("Angry", (), ""), ("Sad", (), "")]
    assert {row.reason for row in listing.remarks} == {"no ready crops: another clip has the same id"}


def test_without_annotations_nobody_is_named(tmp_path: Path):
    tree = facetrees.afew(tmp_path, train=1, val=1, frames=3, traps=False, actors=False)
    listing = afew.find(data(), tmp_path)
    assert found(listing) == tree.clips
    assert listing.found["with an actor"] == listing.found["with a movie"] == 0


def test_annotations_that_cannot_be_read_are_told(own: facetrees.Tree):
    facetrees.text(own.root / "Val_AFEW/Val_6.xml", "<a>")
    listing = afew.find(data(), own.root)
    assert [row.clip for row in listing.remarks] == ["Val_6.xml"]
    assert "not well-formed" in listing.remarks[0].reason
    assert listing.found["with an actor"] == 7


@pytest.mark.parametrize("missing", ["Train_AFEW", "Val_AFEW"])
def test_a_part_that_is_missing_is_asked_for(own: facetrees.Tree, missing: str):
    shutil.rmtree(own.root / missing)
    with pytest.raises(DataError, match=rf"no {missing}/<Class> .* unpack {missing}\.zip there"):
        afew.find(data(), own.root)


@pytest.mark.parametrize(
    "content",
    [
        '<r><Clip StartTime="00:05:43,854" MovieTitle="M"><Person NameOfActor="A  B"/></Clip></r>',
        '<r><M MovieTitle="M"><Clip name="000543854.avi"><P NameOfActor="A B"/></Clip><Clip name="012705800.avi"/></M></r>',
        '<r><Clip StartTime="00:05:43.854" EndTime="00:05:45.001" MovieTitle="M" NameOfActor="A B"/></r>',
        '<r><Clip id="000543854" MovieTitle="M" NameOfActor="A B"/><Clip id="999999999" MovieTitle="N" NameOfActor="C"/></r>',
        "<r><Clip><Id>000543854</Id><NameOfActor>A B</NameOfActor><MovieTitle>M</MovieTitle></Clip></r>",
        '<r><Subtitle id="000543854" MovieTitle="M" NameOfActor="A B" Length="99"/></r>',
    ],
)
def test_people_are_found_whatever_the_records_shape(tmp_path: Path, content: str):
    told = afewxml.people(facetrees.text(tmp_path / "Train_6.xml", content), IDS)
    assert told == {"000543854": afewxml.Told("A B", "M")}


@pytest.mark.parametrize(
    "content",
    [
        '<r NameOfActor="A"><Clip id="000543854"/><Clip id="012705800"/></r>',  # two ids, one name: whose is it?
        '<r><Clip id="000543854" NameOfActor="A"/><Clip id="000543854" NameOfActor="B"/></r>',  # contradicted
        '<r><Clip id="999999999" NameOfActor="A"/></r>',  # nobody's id
        '<r><Clip id="000543854"/></r>',
        "<r/>",
    ],
)
def test_a_record_that_leaves_a_doubt_names_nobody(tmp_path: Path, content: str):
    assert afewxml.people(facetrees.text(tmp_path / "Train_6.xml", content), IDS) == {}


def test_several_people_in_one_clip_are_one_cast(tmp_path: Path):
    path = facetrees.text(tmp_path / "a.xml", '<r><Clip id="000543854"><P NameOfActor="B"/><P NameOfActor="A"/></Clip></r>')
    assert afewxml.people(path, IDS) == {"000543854": afewxml.Told("A + B", "")}
