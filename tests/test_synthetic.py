"""The rendered faces: deterministic, blind to the class where they must be, and as frequent as the set that they imitate."""

import multiprocessing
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fercompress.data import expressions, source, synthetic
from fercompress.data.expressions import CLASSES, COUNTS, TWINS
from fercompress.dataconfig import SyntheticData
from fercompress.errors import TargetError

SMALL = SyntheticData(name="synthetic", train_clips=20, validation_clips=14, test_clips=16, frames=8, size=32)
LABELS = range(len(CLASSES))


def preset(name, **changes):
    return SMALL.model_copy(update={"preset": name, **changes})


def clip(config, label, subject=0, number=0):
    return synthetic.render(config, 0, subject, number, label)


@pytest.fixture(scope="module")
def clips():
    return synthetic.load(SMALL)


def test_the_same_config_gives_the_same_pixels(clips):
    again = synthetic.load(SMALL)
    assert np.array_equal(again.frames, clips.frames)
    assert again.fingerprint == clips.fingerprint
    assert again.clip_ids == clips.clip_ids


def test_clips_do_not_depend_on_what_is_rendered_beside_them(clips):
    labels, subjects = synthetic.assign(SMALL.seed, 2, SMALL.test_clips)
    first_test_clip = SMALL.train_clips + SMALL.validation_clips
    assert np.array_equal(clips.frames[first_test_clip + 5], synthetic.render(SMALL, 2, subjects[5], 5, labels[5]))
    larger = synthetic.load(SMALL.model_copy(update={"train_clips": 30}))
    assert np.array_equal(larger.frames[30:], clips.frames[20:]), "the other parts are the same, however many clips are trained on"


def test_processes_render_the_same_pixels_as_one(clips, monkeypatch):
    monkeypatch.setattr(synthetic, "CLIPS_PER_PROCESS", 10)
    monkeypatch.setattr(synthetic.os, "cpu_count", lambda: 3)
    assert np.array_equal(synthetic.load(SMALL).frames, clips.frames)


def test_a_rendering_process_that_ends_early_is_told(monkeypatch):
    context = multiprocessing.get_context("spawn")
    monkeypatch.setattr(synthetic, "CLIPS_PER_PROCESS", 10)
    monkeypatch.setattr(synthetic.os, "cpu_count", lambda: 2)
    real = type(context).Process
    monkeypatch.setattr(type(context), "Process", lambda _, **asked: real(**{**asked, "target": os._exit, "args": (9,)}))
    with pytest.raises(TargetError, match=r"ended early \(exit code 9\); is there memory for 50 clips"):
        synthetic.load(SMALL)


def test_another_seed_gives_other_people_and_another_fingerprint(clips):
    other = synthetic.load(SMALL.model_copy(update={"seed": 1}))
    assert other.fingerprint != clips.fingerprint
    assert not np.array_equal(other.frames, clips.frames)


def test_a_model_input_option_does_not_change_the_fingerprint(clips):
    assert synthetic.load(SMALL.model_copy(update={"difference": True})).fingerprint == clips.fingerprint


@pytest.mark.parametrize("name", ["posed", "return"])
@pytest.mark.parametrize("number", range(3))
def test_the_first_frame_knows_no_class(name, number):
    first = [clip(preset(name), label, number=number)[0] for label in LABELS]
    assert all(np.array_equal(frame, first[0]) for frame in first)


@pytest.mark.parametrize("name", ["posed", "wild"])
@pytest.mark.parametrize("pair", TWINS)
@pytest.mark.parametrize("number", range(3))
def test_the_apex_frame_does_not_separate_a_pair_but_the_way_there_does(name, pair, number):
    one, other = (clip(preset(name, frames=16), CLASSES.index(member), number=number) for member in pair)
    assert np.array_equal(one[-1], other[-1])
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("pair", TWINS)
def test_a_returning_pair_shares_the_frame_in_its_middle(pair):
    one, other = (clip(preset("return", frames=9), CLASSES.index(member)) for member in pair)
    assert np.array_equal(one[4], other[4])


def test_classes_outside_a_pair_differ_at_the_apex():
    faces = [CLASSES.index(name) for name in ("anger", "contempt", "disgust", "happy", "surprise")]
    last = [clip(SMALL, label)[-1].astype(int) for label in faces]
    assert all(np.abs(a - b).max() > 20 for i, a in enumerate(last) for b in last[:i])


def test_posed_ends_at_the_apex_and_return_ends_neutral_again():
    draws = {name: expressions.draw(np.random.default_rng(0), 1.0, name) for name in ("posed", "return", "wild")}
    posed, returning = (expressions.curves("happy", draws[name], 17) for name in ("posed", "return"))
    apex = expressions.apex("happy", draws["posed"])
    assert np.array_equal(posed[-1], apex)
    assert np.array_equal(returning[8], apex)
    assert not posed[0].any()
    assert not returning[0].any()
    assert not returning[-1].any()


def test_wild_begins_anywhere_in_the_onset():
    begun = [expressions.curves("fear", expressions.draw(np.random.default_rng(i), 1.0, "wild"), 16)[0].max() for i in range(40)]
    assert min(begun) == 0
    assert max(begun) > 0.1


def test_surprise_is_fast_and_fear_is_slow():
    def moving(name, seed):
        curve = expressions.curves(name, expressions.draw(np.random.default_rng(seed), 1.0, "posed"), 101)
        level = curve[:, expressions.UNITS.index(26), 0] / curve[-1, expressions.UNITS.index(26), 0]
        return np.mean((level > 0.02) & (level < 0.98))

    assert max(moving("surprise", seed) for seed in range(20)) < 0.2
    assert min(moving("fear", seed) for seed in range(20)) > 0.4


@pytest.mark.parametrize(("name", "first", "second"), [("anger", 4, 15), ("sadness", 15, 4)])
def test_anger_moves_the_brows_first_and_sadness_the_mouth(name, first, second):
    for seed in range(20):
        curve = expressions.curves(name, expressions.draw(np.random.default_rng(seed), 1.0, "posed"), 101)[:, :, 0]
        half = [int(np.argmax(curve[:, expressions.UNITS.index(unit)] > curve[-1, expressions.UNITS.index(unit)] / 2)) for unit in (first, second)]
        assert half[1] - half[0] >= 15, "at least 15 % of the clip lie between the two"


def test_the_pairs_cannot_be_told_apart_for_an_eighth_of_the_clips():
    smaller = sum(min(COUNTS[CLASSES.index(name)] for name in pair) for pair in TWINS)
    assert smaller / sum(COUNTS) > 0.12


@given(st.integers(14, 5000))
@settings(deadline=None)
def test_classes_are_as_frequent_as_in_ck_plus_and_none_is_missing(count):
    counts = synthetic.class_counts(count)
    assert counts.sum() == count
    assert counts.min() >= 1
    assert np.abs(counts - np.array(COUNTS) * count / 327).max() < 1


def test_a_ck_plus_sized_part_has_ck_plus_counts():
    assert synthetic.class_counts(327).tolist() == [45, 18, 59, 25, 69, 28, 83]


def test_subjects_of_the_three_parts_are_disjoint(clips):
    fold = synthetic.fold(SMALL, clips)
    train, validation, test = ({clips.subjects[i] for i in part} for part in (fold.train, fold.validation, fold.test))
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert [len(part) for part in (fold.train, fold.validation, fold.test)] == [20, 14, 16]


def test_under_a_camera_sets_protocol_all_clips_are_cut_into_folds_whichever_part_they_were_drawn_for(clips):
    config = SMALL.model_copy(update={"protocol": "subjects-ascending", "folds": 3})
    made = source.SOURCES["synthetic"].folds(config, clips)
    assert sorted(row for fold in made for row in fold.test.tolist()) == list(range(len(clips)))
    for fold in made:
        assert not {clips.subjects[row] for row in fold.test} & {clips.subjects[row] for row in (*fold.train, *fold.validation)}
    assert source.fingerprint(config, None) == source.fingerprint(SMALL, None), "how they are cut draws no other pixels"


@pytest.mark.parametrize("protocol", ["parts", "subjects", "leave-one-subject-out"])
def test_folds_are_counted_without_rendering(clips, protocol):
    config = SMALL.model_copy(update={"protocol": protocol, "folds": 4})
    made = source.SOURCES["synthetic"].folds(config, clips)
    trained, folds = synthetic.counts(config)
    assert folds == len(made)
    assert trained >= max(len(fold.train) for fold in made)


@given(seed=st.integers(0, 10**6), count=st.integers(14, 400))
@settings(deadline=None)
def test_a_subject_has_a_handful_of_clips(seed, count):
    labels, subjects = synthetic.assign(seed, 0, count)
    assert len(labels) == len(subjects) == count
    per_subject = np.bincount(subjects)
    assert per_subject[:-1].min(initial=3) >= 3
    assert per_subject.max() <= 6


def test_positions_count_a_subjects_clips(clips):
    for subject in set(clips.subjects):
        own = [position for position, other in zip(clips.positions, clips.subjects, strict=True) if other == subject]
        assert own == list(range(len(own)))
    assert len(set(clips.clip_ids)) == len(clips)


def test_clips_say_that_they_are_simulated(clips):
    assert clips.simulated
    assert clips.frames.shape == (50, 8, 32, 32)


def test_the_same_face_is_filmed_harder_in_the_wild():
    def motion_and_noise(name):
        stack = np.stack([clip(preset(name), CLASSES.index("happy"), number=i)[0].astype(float) for i in range(24)])
        return stack.std(axis=0).mean()

    assert motion_and_noise("wild") > 1.3 * motion_and_noise("posed")


def test_a_clip_can_be_as_short_as_two_frames_and_as_large_as_wished():
    two = synthetic.render(SMALL.model_copy(update={"frames": 2, "size": 96}), 0, 0, 0, CLASSES.index("surprise"))
    assert two.shape == (2, 96, 96)
    assert np.abs(two[0].astype(int) - two[1]).max() > 40
