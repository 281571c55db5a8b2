"""GFE files: what is written is what is read, each fault is one line naming its place, and a clip holds movement only."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fercompress.data import gfe, gfe_files
from fercompress.dataconfig import GfeData
from fercompress.errors import DataError
from fercompress.records import LeftOut

EXPRESSIONS = ("affirmative", "wh_question")
RUNS = "000111110000111100001111000111000"  # four performances


def points_of(frames: int, seed: int = 0, centre: tuple[float, float] = (300.0, 200.0), iris_px: float = 40.0) -> np.ndarray:
    """float64 (frames, 100, 2): a fixed cloud around the irises that drifts, in pixels."""
    rng = np.random.default_rng(seed)
    cloud = rng.uniform(-1, 1.5, (gfe.lines.POINTS, 2))
    cloud[list(gfe.IRISES)] = [(-0.5, 0), (0.5, 0)]
    drift = rng.normal(0, 0.02, (frames, gfe.lines.POINTS, 2)).cumsum(axis=0)
    drift[:, list(gfe.IRISES)] = drift[:, :1]
    return np.asarray(centre) + iris_px * (cloud + drift)


def write(
    folder: Path, person: str, expression: str, points: np.ndarray | None = None, targets: str = RUNS, newline: str = "\n"
) -> tuple[Path, Path]:
    points = points_of(len(targets)) if points is None else points
    header = " ".join(["0.0", *(f"{i}{axis}" for i in range(100) for axis in "xyz")])
    rows = [" ".join([f"1390385453.{i}", *(f"{x!r} {y!r} 1100" for x, y in frame.tolist())]) for i, frame in enumerate(points)]
    paths = folder / f"{person}_{expression}_datapoints.txt", folder / f"{person}_{expression}_targets.txt"
    paths[0].write_text(newline.join([header, *rows]) + newline, newline="")
    paths[1].write_text(newline.join(targets), newline="")
    return paths


def data(**settings: Any) -> GfeData:
    return GfeData(name="gfe", **{"frames": 6, "context": 1, "size": 32, **settings})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two expressions of person q, four performances each."""
    for seed, expression in enumerate(EXPRESSIONS):
        write(tmp_path, "q", expression, points_of(len(RUNS), seed))
    return tmp_path


def edit(path: Path, line: int, change: Any) -> None:
    """line: from 1; change: the line's old text -> its new text"""
    rows = path.read_text().split("\n")
    rows[line - 1] = change(rows[line - 1])
    path.write_text("\n".join(rows))


def error_of(root: Path, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        gfe.load(data(**settings), root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_of_ones_is_a_clip_with_its_class_person_recording_place_and_sentence(folder: Path):
    clips = gfe.load(data(), folder)
    assert clips.frames.shape == (8, 6, 32, 32)
    assert clips.classes == EXPRESSIONS
    assert clips.labels.tolist() == [0] * 4 + [1] * 4
    assert clips.recordings[4:] == ("q_wh_question",) * 4
    assert clips.positions == (0, 1, 2, 3) * 2
    assert clips.subjects == ("q",) * 8
    assert clips.clip_ids[5] == "q_wh_question/1"
    assert clips.clusters[5] == "q_wh_question/1"
    assert not clips.simulated


def test_the_sixth_performance_is_the_first_sentence_again(tmp_path: Path):
    for expression in EXPRESSIONS:
        write(tmp_path, "a", expression, targets="0110" * 7)
    clips = gfe.load(data(context=0), tmp_path)
    assert [cluster.split("/")[1] for cluster in clips.clusters[:7]] == ["0", "1", "2", "3", "4", "0", "1"]


def test_with_two_persons_the_person_is_the_cluster(folder: Path):
    for expression in EXPRESSIONS:
        write(folder, "B", expression)
    clips = gfe.load(data(), folder)
    assert set(clips.clusters) == {"q", "B"}
    assert clips.clusters == clips.subjects


@pytest.mark.parametrize(
    ("targets", "context", "expected"),
    [
        ("0011100", 0, [(2, 5)]),
        ("0011100", 1, [(1, 6)]),
        ("0011100", 9, [(0, 7)]),
        ("1100011", 1, [(0, 3), (4, 7)]),
        ("1100011", 4, [(0, 4), (4, 7)]),
        ("110011", 4, [(0, 3), (3, 6)]),
        ("1101", 4, [(0, 3), (3, 4)]),
        ("111", 2, [(0, 3)]),
        ("000", 2, []),
    ],
)
def test_context_stops_at_the_ends_of_the_file_and_halfway_to_the_next_performance(targets: str, context: int, expected: list[tuple[int, int]]):
    assert gfe.spans(np.array([t == "1" for t in targets]), context) == expected


@given(st.lists(st.booleans(), min_size=1, max_size=80), st.integers(0, 16))
def test_no_frame_belongs_to_two_clips_and_every_performed_frame_to_one(targets: list[bool], context: int):
    owners = np.zeros(len(targets), dtype=int)
    for start, stop in gfe.spans(np.array(targets), context):
        owners[start:stop] += 1
    assert owners.max() <= 1
    assert (owners[np.array(targets)] == 1).all()


def test_movement_is_linear_in_time_and_in_iris_distances_of_the_first_frame(tmp_path: Path):
    points = np.repeat(points_of(1, iris_px=50.0), 5, axis=0)
    points[:, 89, 0] += [0, 10, 20, 30, 40]  # the tip of the nose moves 40 pixels, 0.8 iris distances, to the right
    for expression in EXPRESSIONS:
        write(tmp_path, "a", expression, np.concatenate([points, points, points]), targets="01111" * 3)
    moves, _ = gfe.coordinates(data(frames=4, context=0), tmp_path)
    assert moves.shape == (6, 4, 200)
    np.testing.assert_allclose(moves[0, :, 2 * 89], [0, 0.2, 0.4, 0.6], atol=1e-6)
    assert np.abs(np.delete(moves, 2 * 89, axis=2)).max() < 1e-6


def test_where_the_head_is_and_how_near_cannot_be_told_from_the_clips(tmp_path: Path):
    near, far = tmp_path / "near", tmp_path / "far"
    for place, centre, iris_px in ((near, (100.0, 80.0), 60.0), (far, (500.0, 300.0), 24.0)):
        place.mkdir()
        for seed, expression in enumerate(EXPRESSIONS):
            write(place, "a", expression, points_of(len(RUNS), seed, centre, iris_px))
    (here, pictures), (there, other_pictures) = (gfe.coordinates(data(), place) for place in (near, far))
    np.testing.assert_allclose(here, there, atol=1e-5)
    assert np.abs(pictures.frames.astype(int) - other_pictures.frames).max() <= 1


def test_the_first_frame_is_the_same_picture_in_every_clip_of_a_person(folder: Path):
    frames = gfe.load(data(), folder).frames
    assert (frames[:, 0] == frames[0, 0]).all()
    assert (frames[:, -1] != frames[0, 0]).any(axis=(1, 2)).all()


def test_exaggeration_leaves_the_heads_movement_alone_and_multiplies_the_rest():
    rng = np.random.default_rng(0)
    face = rng.normal(size=(gfe.lines.POINTS, 2))
    turn = np.array([[0.1, -0.2], [0.3, 0.05]])  # the head: any affine map
    head = (face @ turn + [0.4, -0.1])[None]
    np.testing.assert_allclose(gfe.exaggerated(face, head, 3.0), head, atol=1e-12)
    places = np.column_stack([face, np.ones(len(face))])
    within = rng.normal(size=(gfe.lines.POINTS, 2))
    within -= places @ np.linalg.lstsq(places, within, rcond=None)[0]  # what no affine map explains
    np.testing.assert_allclose(gfe.exaggerated(face, head + within, 3.0), head + 3 * within, atol=1e-10)
    np.testing.assert_array_equal(gfe.exaggerated(face, head + within, 1.0), head + within)


def test_exaggeration_changes_the_pictures_but_neither_the_coordinates_nor_the_first_frame(folder: Path):
    (plain_moves, plain), (moves, clips) = (gfe.coordinates(data(exaggerate=times), folder) for times in (1.0, 3.0))
    np.testing.assert_array_equal(moves, plain_moves)
    np.testing.assert_array_equal(clips.frames[:, 0], plain.frames[:, 0])
    changed = np.abs(clips.frames[:, -1].astype(int) - clips.frames[:, 0]).mean()
    assert changed > np.abs(plain.frames[:, -1].astype(int) - plain.frames[:, 0]).mean()
    assert clips.fingerprint != plain.fingerprint


def test_the_folder_itself_and_its_parent_give_the_same_clips(tmp_path: Path):
    inner = tmp_path / "gfe"
    inner.mkdir()
    for expression in EXPRESSIONS:
        write(inner, "c", expression)
    (tmp_path / "other").mkdir()
    assert gfe.load(data(), inner).fingerprint == gfe.load(data(), tmp_path).fingerprint


def test_windows_and_unix_line_ends_read_the_same(tmp_path: Path):
    points = points_of(len(RUNS))
    unix, windows = (write(tmp_path, person, "topics", points, newline=newline) for person, newline in (("u", "\n"), ("w", "\r\n")))
    np.testing.assert_array_equal(gfe_files.read_points(unix[0]), gfe_files.read_points(windows[0]))
    np.testing.assert_array_equal(gfe_files.read_targets(unix[1]), gfe_files.read_targets(windows[1]))


def test_chosen_persons_and_expressions_are_read_and_the_others_left_alone(folder: Path):
    write(folder, "b", "negative")
    write(folder, "q", "negative")[1].unlink()  # broken, but not asked for
    clips = gfe.load(data(persons=["q"], expressions=["wh_question", "affirmative"]), folder)
    assert clips.classes == EXPRESSIONS
    assert set(clips.subjects) == {"q"}


def test_across_persons_only_shared_expressions_stay_and_the_rest_is_told(folder: Path):
    for expression in (*EXPRESSIONS, "relative"):
        write(folder, "b", expression)
    clips = gfe.load(data(protocol="across-persons"), folder)
    assert clips.classes == EXPRESSIONS
    assert clips.left_out == (LeftOut("b_relative", "not every person has this expression"),)


def test_a_performance_whose_face_was_lost_is_left_out_and_keeps_the_others_places(folder: Path):
    points = points_of(len(RUNS))
    points[13, 40] = 0  # the second performance is frames 12 to 15
    write(folder, "q", "affirmative", points)
    clips = gfe.load(data(), folder)
    assert clips.positions == (0, 2, 3, 0, 1, 2, 3)
    assert [clip.clip for clip in clips.left_out] == ["q_affirmative/1"]
    assert "lost the face in 1 of 6 frames" in clips.left_out[0].reason


def test_check_counts_what_is_there(folder: Path):
    assert gfe.check(data(), folder) == {"clips": 8, "subjects": 1, "classes": {"affirmative": 4, "wh_question": 4}, "left_out": []}


def test_the_fingerprint_changes_with_the_files_and_the_wishes_and_needs_no_clips(folder: Path):
    before = gfe.fingerprint(data(), folder)
    assert gfe.load(data(), folder).fingerprint == before
    assert gfe.fingerprint(data(difference=False), folder) == before  # the second channel is made later
    assert gfe.fingerprint(data(frames=7), folder) != before
    assert gfe.fingerprint(data(expressions=list(EXPRESSIONS)), folder) == before
    edit(folder / "q_affirmative_targets.txt", 1, lambda _: "1")
    assert gfe.fingerprint(data(), folder) != before


def test_a_missing_data_root_is_told_with_its_option(tmp_path: Path):
    message = error_of(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in message
    assert "--data-root" in message


def test_a_folder_without_gfe_files_is_told(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("hello")
    assert "<person>_<expression>_datapoints.txt" in error_of(tmp_path)


def test_two_folders_of_gfe_files_are_not_guessed_between(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, "a", "topics")
    message = error_of(tmp_path)
    assert "one" in message
    assert "two" in message


@pytest.mark.parametrize("lost", ["targets", "datapoints"])
def test_half_a_pair_is_told_by_the_name_of_the_missing_half(folder: Path, lost: str):
    (folder / f"q_affirmative_{lost}.txt").unlink()
    assert f"q_affirmative_{lost}.txt: missing" in error_of(folder)


@pytest.mark.parametrize(("targets", "count"), [(RUNS[:-1], 32), (RUNS + "0", 34)])
def test_fewer_or_more_targets_than_frames_are_counted(folder: Path, targets: str, count: int):
    (folder / "q_affirmative_targets.txt").write_text("\n".join(targets))
    message = error_of(folder)
    assert f"q_affirmative_targets.txt: {count} targets for the 33 frames of q_affirmative_datapoints.txt" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda row: row.replace("1100", "eleven", 1), "'eleven' is not a number"),
        (lambda row: row.replace("1100", "nan", 1), "'nan' is not a finite number"),
        (lambda row: row.replace("1100", "-inf", 1), "'-inf' is not a finite number"),
        (lambda row: row.replace("1100", "1e999", 1), "'1e999' is not a finite number"),
        (lambda row: row.replace("1100", "1_100", 1), "'1_100' is not a finite number"),
        (lambda row: row + " 1", "302 columns; a frame has 301"),
        (lambda row: row.rsplit(" ", 1)[0], "300 columns; a frame has 301"),
        (lambda _: "", "0 columns; a frame has 301"),
    ],
)
def test_a_bad_frame_is_told_with_file_and_line(folder: Path, change: Any, words: str):
    edit(folder / "q_wh_question_datapoints.txt", 7, change)
    assert f"q_wh_question_datapoints.txt:7: {words}" in error_of(folder)


@pytest.mark.parametrize("target", ["2", "yes", "", "0 1", "1.0", "-1"])
def test_a_target_other_than_0_or_1_is_told_with_file_and_line(folder: Path, target: str):
    edit(folder / "q_affirmative_targets.txt", 5, lambda _: target)
    assert f"q_affirmative_targets.txt:5: a target is 0 or 1, not {target!r}" in error_of(folder)


@pytest.mark.parametrize("kind", ["datapoints", "targets"])
@pytest.mark.parametrize("content", ["", "\n\n \n"])
def test_an_empty_file_is_told(folder: Path, kind: str, content: str):
    (folder / f"q_affirmative_{kind}.txt").write_text(content)
    assert f"q_affirmative_{kind}.txt: the file is empty" in error_of(folder)


def test_a_header_without_frames_is_told(folder: Path):
    path = folder / "q_affirmative_datapoints.txt"
    path.write_text(path.read_text().split("\n")[0])
    assert "no frames after the header" in error_of(folder)


def test_a_file_that_is_not_text_is_told(folder: Path):
    (folder / "q_affirmative_datapoints.txt").write_bytes(b"\xff\xfe\x00\x01")
    assert "q_affirmative_datapoints.txt: cannot be read as text" in error_of(folder)


@pytest.mark.parametrize(("targets", "count"), [("0" * 33, 0), ("0" * 10 + "1" * 8 + "0" * 15, 1)])
def test_a_class_with_fewer_than_two_performances_is_told_with_its_file(folder: Path, targets: str, count: int):
    write(folder, "q", "affirmative", targets=targets)
    assert f"q_affirmative_targets.txt: {count} usable performance(s) of 'affirmative'" in error_of(folder)


@pytest.mark.parametrize("key", ["persons", "expressions"])
def test_an_unknown_person_or_expression_is_told_beside_what_is_there(folder: Path, key: str):
    message = error_of(folder, **{key: ["zebra"]})
    assert "'zebra'" in message
    assert ("q" if key == "persons" else "affirmative, wh_question") in message


def test_one_expression_alone_cannot_be_told_from_anything(folder: Path):
    assert "fewer than 2 expressions" in error_of(folder, expressions=["affirmative"])


numbers = st.floats(-1e4, 1e4).filter(lambda value: value != 0)


@given(st.integers(1, 4), st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_is_read_to_the_last_bit(tmp_path: Path, frames: int, draw: st.DataObject):
    values = draw.draw(st.lists(numbers, min_size=8, max_size=8))
    points = np.resize(np.array(values), (frames, 100, 2))
    targets = draw.draw(st.text("01", min_size=frames, max_size=frames))
    points_path, targets_path = write(tmp_path, "a", "x", points, targets, draw.draw(st.sampled_from(["\n", "\r\n"])))
    np.testing.assert_array_equal(gfe_files.read_points(points_path), points)
    assert gfe_files.read_targets(targets_path).tolist() == [t == "1" for t in targets]


@given(st.text(max_size=60) | st.lists(st.sampled_from(["0", "1", "1e5", "nan", "x", "²", "-0", " ", "\n", "\x0b", "\u2028"])).map("".join))
@example("h\n" + " ".join(["1"] * 301))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_becomes_numbers_or_one_clear_line(tmp_path: Path, text: str):
    path = tmp_path / "a_x_datapoints.txt"
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    for reader in (gfe_files.read_points, gfe_files.read_targets):
        try:
            values = reader(path)
        except DataError as error:
            message = str(error)
        else:
            message = f"{path}: read"
            assert len(values)
            assert np.isfinite(values).all()
        assert message.startswith(str(path))
        assert len(message.splitlines()) == 1


@pytest.fixture(scope="module")
def real() -> Path:
    root = os.environ.get("FERCOMPRESS_DATA")
    if root is None:
        pytest.skip("FERCOMPRESS_DATA is not set: it names the folder that holds the GFE files in gfe/")
    path = Path(root) / "gfe"
    if not path.is_dir():
        pytest.skip(f"{path} is not there")
    return path


def test_the_real_files_give_two_dozen_performances_of_each_expression(real: Path):
    moves, clips = gfe.coordinates(GfeData(name="gfe", persons=["a"]), real)
    counts = np.bincount(clips.labels)
    assert clips.frames.shape == (counts.sum(), 16, 64, 64)
    assert counts.min() >= 24
    assert counts.max() <= 34
    assert clips.left_out == ()
    assert np.abs(moves[:, 0]).max() == 0
    assert (clips.frames[:, 0] == clips.frames[0, 0]).all()
    assert np.median(np.abs(moves[:, 8])) < 0.3  # heads move by a fraction of the iris distance
    lit = (clips.frames > 127).mean(axis=(1, 2, 3))
    assert lit.min() > 0.02
    assert lit.max() < 0.3


def test_the_real_files_are_the_same_in_any_order_of_the_folder(real: Path, tmp_path: Path):
    paths = sorted(real.glob("a_[ad]*.txt"))
    random.Random(0).shuffle(paths)
    for path in paths:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = GfeData(name="gfe", expressions=["affirmative", "doubt_question"])
    np.testing.assert_array_equal(gfe.load(config, tmp_path).frames, gfe.load(config, real).frames)
