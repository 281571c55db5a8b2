"""Windows of one clip answer together: in every table a clip counts once, with the mean of their logits."""

import numpy as np
import pytest

from fercompress.model import inference
from fercompress.records import Block, BlockKey, Clips, Fold, LeftOut, Pass, Status
from fercompress.results import training
from fercompress.results.store import Store
from fercompress.results.tables import read_tables

ROWS = ("a", "a", "a", "b", "c", "c")
LOGITS = np.array([[3, 0], [0, 1], [0, 1], [0, 2], [np.nan, 1], [0, 1]], np.float32)


def clips(ids=ROWS):
    people = tuple(f"person {name}" for name in ids)
    labels = np.array([{"a": 0, "b": 1, "c": 1, "t": 0}[name] for name in ids], np.int64)
    rates = tuple(1.0 if row else 0.5 for row in range(len(ids)))
    frames = np.zeros((len(ids), 2, 4, 4), np.uint8)
    return Clips("w", frames, labels, ("calm", "glad"), ids, people, people, ids, (0,) * len(ids), "fp", False, (LeftOut("x", "no face"),), rates)


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "results.sqlite") as opened:
        opened.record_study({"name": "w", "baseline": "dense", "targets": ["here"], "variants": [{"name": "dense", "recipe": []}], "seeds": [0]})
        yield opened


def answered(store, index, logits):
    place = BlockKey("dense", "here", Pass.ACCURACY, 0, "all", 0, 0, "s")
    store.record(Block(place, "b", Status.OK, logits=logits, clip_index=np.array(index, np.int64)))
    return read_tables(store).predictions


def test_a_clip_of_several_windows_is_one_line_with_their_mean(store):
    store.record_clips(clips(), [Fold("all", np.array([], np.int64), np.array([], np.int64), np.arange(6))])
    found = answered(store, range(6), LOGITS)
    assert found["clip_id"].tolist() == ["a", "b", "c"]
    assert found.loc[0, ["logit_0", "logit_1"]].tolist() == pytest.approx([1, 2 / 3])
    assert found["correct"].tolist() == [True, True, False], "two windows of three say otherwise, the mean of the logits decides"
    assert found["predicted"].tolist() == [0, 1, -1], "a window without an answer leaves its clip without one"
    assert found["cluster"].tolist() == ["person a", "person b", "person c"]


def test_clips_of_one_row_each_keep_their_order_and_their_logits_bit_by_bit(store):
    store.record_clips(clips(("b", "a", "t")), [Fold("all", np.array([], np.int64), np.array([], np.int64), np.arange(3))])
    found = answered(store, [2, 0, 1], LOGITS[:3])
    assert found["clip_id"].tolist() == ["t", "b", "a"]
    assert (found[["logit_0", "logit_1"]].to_numpy() == LOGITS[:3]).all()


def test_the_share_of_frames_with_a_face_is_kept_for_each_clip(store):
    store.record_clips(clips(), [])
    facts = store.clips()
    assert facts is not None
    assert facts.face_rates == pytest.approx({"a": 2.5 / 3, "b": 1, "c": 1})


def test_a_trainings_accuracy_counts_clips_as_the_results_do():
    """a: two windows of three say 1, the mean says 0, which is right; b is right; a window of c has no answer."""
    assert inference.accuracy(LOGITS, clips().labels, clips().clip_ids) == pytest.approx(2 / 3)
    assert inference.accuracy(LOGITS[:4], clips().labels[:4], ("a", "x", "y", "b")) == 0.5, "as clips of their own, two are wrong"


def test_folds_are_counted_and_weighted_in_clips(store):
    store.record_clips(clips(), [Fold("all", np.array([0, 1, 2]), np.array([3]), np.array([4, 5]))])
    (fold,) = store.clips().folds
    assert (fold.train_clips, fold.validation_clips) == (1, 1)
    assert training._test_clips(read_tables(store)) == {"all": 1}
