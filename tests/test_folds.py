"""Folds: nothing leaks between the parts, every clip is tested once, every class is trained on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fercompress.data import folds
from fercompress.errors import DataError
from fercompress.records import Clips


def clips_of(rows):
    """rows: (label, subject, recording, position) per clip; the pictures do not matter here."""
    labels, subjects, recordings, positions = (list(column) for column in zip(*rows, strict=True))
    classes = tuple("abcdefgh"[: max(labels) + 1])
    names = tuple(f"clip {i}" for i in range(len(rows)))
    frames = np.zeros((len(rows), 1, 1, 1), np.uint8)
    return Clips(
        "made up", frames, np.array(labels, np.int64), classes, names, tuple(subjects), tuple(subjects), tuple(recordings), tuple(positions), "", True
    )


def recorded(classes, per_class, subjects=("s",)):
    """One recording per subject and class, as in GFE."""
    return clips_of([(label, subject, f"{subject}-{label}", i) for subject in subjects for label in range(classes) for i in range(per_class)])


def many_subjects(seed, subjects, per_subject):
    """Every subject shows both classes at least twice."""
    rng = np.random.default_rng(seed)
    rows = [
        (label, f"s{s}", f"s{s}", i) for s in range(subjects) for i, label in enumerate([0, 1, 0, 1, *rng.integers(0, 2, rng.integers(per_subject))])
    ]
    return clips_of(rows)


def assert_partition(clips, made):
    assert sorted(np.concatenate([fold.test for fold in made]).tolist()) == list(range(len(clips))), "every clip is tested exactly once"
    for fold in made:
        assert sorted([*fold.train, *fold.validation, *fold.test]) == list(range(len(clips))), "every clip is in exactly one part"
        assert set(clips.labels[fold.train]) == set(clips.labels), "every class is trained on"
    assert len({fold.name for fold in made}) == len(made)


def subjects_in(clips, part):
    return {clips.subjects[i] for i in part}


@given(seed=st.integers(0, 10**6), subjects=st.integers(3, 12), k=st.integers(2, 12), per_subject=st.integers(1, 6))
@settings(deadline=None)
def test_no_subject_is_ever_on_two_sides_of_a_subject_fold(seed, subjects, k, per_subject):
    clips, k = many_subjects(seed, subjects, per_subject), min(k, subjects)
    made = folds.subject_kfold(clips, k)
    assert len(made) == k
    assert_partition(clips, made)
    for fold in made:
        train, validation, test = (subjects_in(clips, part) for part in (fold.train, fold.validation, fold.test))
        assert not (train | validation) & test
        if len(train | validation) >= 3:
            assert not train & validation


@given(seed=st.integers(0, 10**6), subjects=st.integers(2, 9), per_subject=st.integers(1, 6))
@settings(deadline=None)
def test_across_subjects_tests_each_subject_once_and_alone(seed, subjects, per_subject):
    clips = many_subjects(seed, subjects, per_subject + 5)
    made = folds.across_subjects(clips)
    assert_partition(clips, made)
    assert [subjects_in(clips, fold.test) for fold in made] == [{f"s{s}"} for s in range(subjects)]


@given(classes=st.integers(1, 5), per_class=st.integers(4, 40), k=st.integers(2, 8), protocol=st.sampled_from([folds.contiguous, folds.modulo]))
@settings(deadline=None)
def test_folds_within_recordings_keep_every_class_in_every_part(classes, per_class, k, protocol):
    clips = recorded(classes, max(per_class, k), ("s", "t"))
    made = protocol(clips, k)
    assert_partition(clips, made)
    for fold in made:
        for part in (fold.train, fold.validation, fold.test):
            counts = np.bincount(clips.labels[part], minlength=classes)
            assert counts.min() > 0
            assert counts.min() == counts.max(), "recordings of equal lengths give equal shares of every class"


def test_a_contiguous_fold_tests_a_run_and_validates_on_what_follows_it():
    clips = recorded(1, 25)
    second, last = folds.contiguous(clips, 5)[1], folds.contiguous(clips, 5)[4]
    assert second.test.tolist() == [5, 6, 7, 8, 9]
    assert second.validation.tolist() == [10, 11, 12]  # a sixth of the other 20, so that training keeps its distance from one end of the test
    assert last.validation.tolist() == [0, 1, 2]  # around the end


def test_a_modulo_fold_tests_every_kth_position():
    clips = recorded(2, 25)
    fold = folds.modulo(clips, 5)[3]
    assert [clips.positions[i] for i in fold.test] == [3, 8, 13, 18, 23] * 2


def test_contiguous_follows_positions_and_not_the_order_in_memory():
    clips = clips_of([(0, "s", "r", position) for position in (3, 1, 0, 2)])
    assert folds.contiguous(clips, 2)[0].test.tolist() == [1, 2]


def test_subject_folds_share_out_a_rare_class():
    rows = [(int(s < 5), f"s{s}", f"s{s}", i) for s in range(20) for i in range(3)]  # five of twenty subjects show class b
    clips = clips_of(rows)
    for fold in folds.subject_kfold(clips, 5):
        assert np.bincount(clips.labels[fold.test]).tolist() == [9, 3]


def test_two_subjects_can_be_tested_across():
    clips = recorded(3, 6, ("a", "b"))
    first, second = folds.across_subjects(clips)
    assert subjects_in(clips, first.test) == {"a"}
    assert subjects_in(clips, first.validation) == subjects_in(clips, first.train) == {"b"}
    assert [clips.positions[i] for i in second.validation] == [5, 5, 5]  # the end of each of the other subject's recordings


def test_named_subjects_make_the_fold_that_they_name():
    clips = recorded(2, 2, ("a", "b", "c"))
    fold = folds.by_subject(clips, ["b"], ["c"], ["a"])
    assert [subjects_in(clips, part) for part in (fold.train, fold.validation, fold.test)] == [{"b"}, {"c"}, {"a"}]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((["a", "b"], ["c"], ["b"]), "subject 'b' is in the train and the test part"),
        ((["a"], ["x"], ["b"]), "no clip of subject 'x'"),
        ((["a"], [], ["b"]), "the validation part has no subject"),
    ],
)
def test_named_subjects_that_overlap_or_lack_are_refused(parts, message):
    with pytest.raises(DataError, match=message):
        folds.by_subject(recorded(2, 2, ("a", "b", "c")), *parts)


@pytest.mark.parametrize(
    "protocol", [lambda c: folds.contiguous(c, 5), lambda c: folds.modulo(c, 5), lambda c: folds.subject_kfold(c, 3), folds.across_subjects]
)
def test_a_class_with_one_clip_is_named(protocol):
    clips = clips_of([(0, f"s{i % 4}", "r", i) for i in range(12)] + [(1, "s0", "r", 12)])
    with pytest.raises(DataError, match="class 'b' has 1 clip, "):
        protocol(clips)


def test_a_recording_with_too_few_clips_is_named_with_its_class():
    clips = clips_of([(label, "s", f"r{label}", i) for label, count in ((0, 9), (1, 4)) for i in range(count)])
    with pytest.raises(DataError, match="class 'b' has 4 clips in recording 'r1', 5 contiguous folds need 5"):
        folds.contiguous(clips, 5)


def test_a_class_that_only_the_tested_subject_shows_is_named():
    clips = clips_of([(int(s == 2), f"s{s}", f"s{s}", i) for s in range(4) for i in range(3)])
    with pytest.raises(DataError, match="class 'b' has no clip among any subject but s2"):
        folds.across_subjects(clips)


def test_one_subject_cannot_be_tested_across_subjects():
    with pytest.raises(DataError, match="only one subject"):
        folds.across_subjects(recorded(2, 5))


def test_more_folds_than_subjects_are_refused():
    with pytest.raises(DataError, match="4 folds across 3 subjects"):
        folds.subject_kfold(recorded(2, 3, ("a", "b", "c")), 4)
