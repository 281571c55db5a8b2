"""The table of data sets: clips come back from the cache as they were made, and only for the same making."""

import numpy as np
import pytest

from fercompress.data import source, synthetic
from fercompress.dataconfig import GfeData, SyntheticData
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
