"""Protocols of camera data sets: no subject on both sides where that is promised, the given split kept, the leaky one as leaky as published code."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fercompress.data import folds
from fercompress.data.folds import protocols
from fercompress.dataconfig import AfewData, CkPlusData, FolderData, MmiData
from fercompress.errors import DataError
from fercompress.records import Clips, Fold


def clips_of(rows, *, parts=(), recordings=None):
    """rows: (label, subject, clip_id) per row of pictures; the pictures do not matter here."""
    labels, subjects, ids = (list(column) for column in zip(*rows, strict=True))
    return Clips(
        "made up", np.zeros((len(rows), 1, 1, 1), np.uint8), np.array(labels, np.int64), tuple("abcdefgh"[: max(labels) + 1]), tuple(ids),
        tuple(subjects), tuple(subjects), tuple(recordings or ids), tuple(range(len(rows))), "", simulated=True, parts=tuple(parts),
    )  # fmt: skip


def posed(subjects, classes, rng, windows=1):
    """Every subject shows every class once or twice; each clip has `windows` rows. Subjects have ids as CK+ has them."""
    rows = []
    for subject in range(subjects):
        shown = [*range(classes), *rng.integers(0, classes, rng.integers(classes)).tolist()]
        rows += [(label, f"S{subject * 7 + 5:03d}", f"S{subject * 7 + 5:03d}_{at:03d}") for at, label in enumerate(shown) for _ in range(windows)]
    return clips_of(rows)


def section(kind, **settings_):
    return kind.model_validate({"name": kind.model_fields["name"].annotation.__args__[0], **settings_})


def named(clips, column, part):
    return {getattr(clips, column)[row] for row in part}


def assert_every_row_is_tested_once(clips, made):
    assert Counter(row for fold in made for row in fold.test.tolist()) == Counter(range(len(clips)))
    for fold in made:
        assert sorted([*fold.train, *fold.validation, *fold.test]) == list(range(len(clips)))
        assert set(clips.labels[fold.train]) == set(clips.labels)
    assert len({fold.name for fold in made}) == len(made)


@given(
    seed=st.integers(0, 10**6), subjects=st.integers(6, 14), classes=st.integers(2, 4), k=st.integers(2, 10), windows=st.integers(1, 3),
    protocol=st.sampled_from(protocols.ACROSS), deal=st.integers(0, 99),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_no_subject_is_on_two_sides_under_any_protocol_across_subjects(seed, subjects, classes, k, windows, protocol, deal):
    clips = posed(subjects, classes, np.random.default_rng(seed), windows)
    made = folds.named(section(CkPlusData, protocol=protocol, folds=min(k, subjects), deal=deal), clips)
    assert_every_row_is_tested_once(clips, made)
    for fold in made:
        tested, trained, validating = (named(clips, "subjects", part) for part in (fold.test, fold.train, fold.validation))
        assert not tested & (trained | validating)
        if len(trained | validating) >= 3:
            assert not trained & validating, "the epoch is chosen on people that nothing was trained on"
        assert fold.subjects == clips.subjects, "so that the record itself has checked it"


@given(
    seed=st.integers(0, 10**6), subjects=st.integers(4, 10), k=st.integers(2, 6), windows=st.integers(1, 3), shuffle=st.randoms(use_true_random=False)
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_the_leaky_protocol_tests_every_clip_once_and_tears_none_apart(seed, subjects, k, windows, shuffle):
    clips = posed(subjects, 3, np.random.default_rng(seed), windows)
    order = list(range(len(clips)))
    shuffle.shuffle(order)  # the order in memory decides nothing
    mixed = dataclasses.replace(
        clips,
        labels=clips.labels[order],
        **{name: tuple(getattr(clips, name)[row] for row in order) for name in ("clip_ids", "subjects", "clusters", "recordings", "positions")},
    )
    made = folds.leaky_image(mixed, min(k, subjects))
    assert_every_row_is_tested_once(mixed, made)
    for fold, other in zip(made, folds.leaky_image(clips, min(k, subjects)), strict=True):
        parts = [named(mixed, "clip_ids", part) for part in (fold.train, fold.validation, fold.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)), "windows of one clip stay in one part"
        assert parts[2] == named(clips, "clip_ids", other.test)


@given(seed=st.integers(0, 10**6), movies=st.integers(3, 12), actors=st.integers(2, 12))
@settings(deadline=None, max_examples=60)
def test_the_given_test_part_is_the_test_and_validation_shares_no_actor_with_training(seed, movies, actors):
    rng = np.random.default_rng(seed)
    rows, parts, recordings = [], [], []
    for at in range(60):
        test = at % 3 == 0
        side = "v" if test else "t"
        rows.append((at % 2, f"{side}{rng.integers(actors)}", f"{at:09d}"))
        recordings.append(f"{side} movie {rng.integers(movies)}")
        parts.append("test" if test else "train")
    clips = clips_of(rows, parts=parts, recordings=recordings)
    (fold,) = folds.named(section(AfewData), clips)
    assert fold.test.tolist() == list(range(0, 60, 3))
    assert sorted([*fold.train, *fold.validation]) == [at for at in range(60) if at % 3]
    train, validation = (named(clips, "subjects", part) for part in (fold.train, fold.validation))
    if fold.name != "given-by-clip":
        assert not train & validation
    if fold.name == "given":
        assert not named(clips, "recordings", fold.train) & named(clips, "recordings", fold.validation)


def test_the_given_split_keeps_a_movie_on_one_side_of_the_choice_of_the_epoch():
    rows = [(at % 2, f"actor {at // 2}", f"{at:03d}") for at in range(24)] + [(0, "x", "test 0"), (1, "y", "test 1")]
    recordings = [f"movie {at // 4}" for at in range(24)] + ["m", "n"]  # two actors per movie
    clips = clips_of(rows, parts=["train"] * 24 + ["test"] * 2, recordings=recordings)
    fold = folds.given(clips)
    assert named(clips, "recordings", fold.validation).isdisjoint(named(clips, "recordings", fold.train))
    assert len(fold.validation) == 4  # one of six movies


def test_where_a_movie_holds_all_of_a_class_actors_alone_are_kept_together_and_the_fold_says_so():
    rows = [(at // 8, f"actor {at // 2}", f"{at:03d}") for at in range(24)] + [(label, "x", f"test {label}") for label in range(3)]
    clips = clips_of(rows, parts=["train"] * 24 + ["test"] * 3, recordings=[f"movie {at // 8}" for at in range(24)] + ["m"] * 3)
    fold = folds.given(clips)
    assert fold.name == "given-by-subject"
    assert named(clips, "subjects", fold.validation).isdisjoint(named(clips, "subjects", fold.train))


def test_where_two_actors_play_everything_single_clips_validate_and_the_fold_says_so():
    rows = [(at % 2, f"actor {at % 4 // 2}", f"{at:03d}") for at in range(24)] + [(0, "x", "v0"), (1, "y", "v1")]
    fold = folds.given(clips_of(rows, parts=["train"] * 24 + ["test"] * 2, recordings=["film"] * 24 + ["m"] * 2))
    assert fold.name == "given-by-clip"
    assert len(fold.validation) == 4


def test_without_actors_and_movies_single_clips_validate():
    rows = [(at % 2, "", f"{at:03d}") for at in range(24)] + [(0, "", "v0"), (1, "", "v1")]
    fold = folds.given(clips_of(rows, parts=["train"] * 24 + ["test"] * 2, recordings=[""] * 26))
    assert (len(fold.train), len(fold.validation), len(fold.test)) == (20, 4, 2)


def test_ascending_folds_test_every_kth_subject_in_the_order_of_their_numbers():
    clips = clips_of([(label, f"S{number}", f"S{number}_{label}") for number in (999, 5, 50, 10, 895, 11, 501, 22) for label in (0, 1)])
    tested = [named(clips, "subjects", fold.test) for fold in folds.subjects_ascending(clips, 3)]
    assert tested == [{"S5", "S22", "S895"}, {"S10", "S50", "S999"}, {"S11", "S501"}]  # of 5, 10, 11, 22, 50, 501, 895, 999


def test_ten_ascending_folds_of_118_subjects_test_eleven_or_twelve_of_them():
    """The published list of CK+ has 118 subjects with a labelled clip."""
    clips = posed(118, 2, np.random.default_rng(0))
    sizes = [len(named(clips, "subjects", fold.test)) for fold in folds.subjects_ascending(clips, 10)]
    assert sizes == [12] * 8 + [11] * 2


def test_another_deal_shuffles_subjects_otherwise_and_the_same_deal_alike():
    clips = posed(12, 2, np.random.default_rng(1))

    def tested(deal):
        return [sorted(named(clips, "subjects", fold.test)) for fold in folds.subjects_shuffled(clips, 4, deal)]

    assert tested(0) == tested(0)
    assert tested(0) != tested(1)


def test_leaky_folds_cut_each_class_by_its_own_order_and_so_train_on_tested_people():
    clips = clips_of([(0, f"s{at}", f"s{at}_0") for at in (1, 2, 3, 4)] + [(1, f"s{at}", f"s{at}_1") for at in (3, 4, 5, 6)])
    first = folds.leaky_image(clips, 2)[0]
    assert named(clips, "clip_ids", first.test) == {"s1_0", "s2_0", "s3_1", "s4_1"}
    assert named(clips, "clip_ids", first.validation) == {"s3_0", "s5_1"}  # those that follow
    assert named(clips, "subjects", first.test) & named(clips, "subjects", first.train) == {"s4"}


def test_a_fold_with_a_subject_on_both_sides_cannot_be_made():
    with pytest.raises(ValueError, match="subject 'b' on both sides"):
        Fold("x", np.array([0]), np.array([1]), np.array([2]), ("a", "b", "b"))
    with pytest.raises(ValueError, match="does not know a clip's subject"):
        Fold("x", np.array([0]), np.array([1]), np.array([2]), ("a", "b", ""))


@pytest.mark.parametrize(
    ("config", "advice"),
    [
        (section(MmiData), "a CSV file with the columns session,subject and give it as data.subjects"),
        (section(FolderData), "<label>/<subject>/<clip>, or fill the manifest's column subject"),
        (section(CkPlusData, protocol="leave-one-subject-out"), "as in S005_001"),
    ],
)
def test_unknown_subjects_are_refused_with_the_way_to_give_them(config, advice):
    clips = clips_of([(at % 2, "" if at == 3 else f"s{at}", f"c{at}") for at in range(8)])
    with pytest.raises(DataError, match="the subject of 1 of 8 clips is not known") as caught:
        folds.named(config, clips)
    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)


def test_leaky_folds_need_no_subject():
    clips = clips_of([(at % 2, "", f"c{at}") for at in range(8)])
    assert len(folds.named(section(MmiData, protocol="leaky-image", folds=2), clips)) == 2


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), "no given split"),
        (["train"] * 8, "no clip of the given test part"),
        (["test"] * 8, "no clip of the given train part"),
        (["train"] * 4 + ["test"] * 3 + [""], "clip 'c7' is in neither"),
        (["train", "test"] * 4, "class 'b' has no clip among the given training part"),
    ],
)
def test_a_given_split_that_is_none_is_refused(parts, message):
    clips = clips_of([(at % 2, "", f"c{at}") for at in range(8)], parts=parts)
    with pytest.raises(DataError, match=message):
        folds.given(clips)


def test_windows_of_one_clip_on_both_sides_of_the_given_split_are_refused():
    clips = clips_of([(at % 2, "", f"c{at % 4}") for at in range(8)], parts=["train"] * 4 + ["test"] * 4)
    with pytest.raises(DataError, match="clip 'c0' is in the train and the test part"):
        folds.given(clips)


def test_a_class_with_fewer_clips_than_leaky_folds_is_named():
    clips = clips_of([(int(at > 5), "", f"c{at}") for at in range(9)])
    with pytest.raises(DataError, match="class 'b' has 3 clips, 5 leaky-image folds need 5"):
        folds.leaky_image(clips, 5)
