"""The table of data sets: clips come back from the cache as they were made, and only for the same making."""

from typing import get_args

import facetrees
import numpy as np
import pytest
from PIL import Image

from fercompress.data import source, synthetic
from fercompress.dataconfig import Data, Faces, FolderData, GfeData, SyntheticData
from fercompress.errors import DataError

SMALL = SyntheticData(name="synthetic", train_clips=14, validation_clips=14, test_clips=14, frames=3, size=32)


def test_cached_clips_are_the_made_ones(tmp_path):
    made = synthetic.load(SMALL)
    for _ in range(2):
        found = source.load(SMALL, None, tmp_path)
        assert (np.asarray(found.frames) == made.frames).all()
        assert (found.labels == made.labels).all()
        assert (found.clip_ids, found.subjects, found.positions, found.left_out) == (made.clip_ids, made.subjects, made.positions, made.left_out)
        assert found.fingerprint == made.fingerprint == source.fingerprint(SMALL, None)


def test_another_seed_is_another_cache_and_another_channel_is_not(tmp_path):
    source.load(SMALL, None, tmp_path)
    source.load(SMALL.model_copy(update={"difference": True}), None, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    source.load(SMALL.model_copy(update={"seed": 1}), None, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_cache_that_was_not_finished_is_made_anew(tmp_path):
    source.load(SMALL, None, tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / "clips.json").unlink()
    (folder / "frames.npy").write_bytes(b"half")
    assert (np.asarray(source.load(SMALL, None, tmp_path).frames) == synthetic.load(SMALL).frames).all()


def test_real_data_need_a_data_root(tmp_path):
    with pytest.raises(DataError, match="give its folder with --data-root"):
        source.load(GfeData(name="gfe"), None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_was_found_is_counted(tmp_path):
    found = source.check(SMALL, None, tmp_path)
    assert (found["clips"], sum(found["classes"].values()), found["simulated"]) == (42, 42, True)
    assert found["folds"] == [{"name": "subjects", "train": 14, "validation": 14, "test": 14}]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return facetrees.folder(tmp_path / "data", clips=1, frames=3, traps=False)


OWN = FolderData(name="folder", frames=2, size=32, faces=Faces(by="none"), folds=4)


def test_a_cameras_clips_are_decoded_once_for_all_runs(tree, tmp_path):
    first = source.load(OWN, tree.root, tmp_path / "run 1")
    made = [path.stat().st_mtime_ns for path in (tmp_path / "cache/fercompress").glob("clips-*/frames.npy")]
    again = source.load(OWN.model_copy(update={"protocol": "leave-one-subject-out", "difference": True}), tree.root, tmp_path / "run 2")
    assert again.fingerprint == first.fingerprint
    assert [path.stat().st_mtime_ns for path in (tmp_path / "cache/fercompress").glob("clips-*/frames.npy")] == made
    assert not (tmp_path / "run 1").exists()


def test_a_changed_picture_is_decoded_anew(tree, tmp_path):
    first = source.load(OWN, tree.root, tmp_path)
    picture = next(path for path in sorted(tree.root.rglob("*.png")))
    Image.fromarray(np.full((112, 144), 7, np.uint8)).save(picture)
    changed = source.load(OWN, tree.root, tmp_path)
    differ = [one != other for one, other in zip(np.asarray(first.frames), np.asarray(changed.frames), strict=True)]
    assert [bool(each.any()) for each in differ].count(True) == 1
    assert changed.fingerprint != first.fingerprint


def test_a_damaged_cache_of_a_camera_is_made_anew(tree, tmp_path):
    first = np.array(source.load(OWN, tree.root, tmp_path).frames)
    (path,) = (tmp_path / "cache/fercompress").glob("clips-*/frames.npy")
    path.write_bytes(path.read_bytes()[:-100])
    assert (np.asarray(source.load(OWN, tree.root, tmp_path).frames) == first).all()


def test_what_a_camera_data_set_holds_is_counted_with_its_folds_and_faces(tree, tmp_path):
    found = source.check(OWN.model_copy(update={"faces": Faces(by="detect")}), tree.root, tmp_path)
    assert (found["clips"], found["subjects"], len(found["folds"]), found["simulated"]) == (12, 4, 4, False)
    assert found["face_rates"]["mean"] > 0.9
    assert source.check(OWN, tree.root, tmp_path)["face_rates"] is None
    few = source.check(OWN.model_copy(update={"folds": 9}), tree.root, tmp_path)
    assert (few["folds"], few["clips"]) == ([], 12)
    assert "9 folds across 4 subjects" in few["no_folds"]


def test_every_data_set_a_study_may_name_has_a_row():
    kinds = {get_args(kind.model_fields["name"].annotation)[0]: kind for kind in get_args(get_args(Data)[0])}
    assert {name: row.config for name, row in source.SOURCES.items()} == kinds
