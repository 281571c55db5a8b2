"""`predict`: the answer after each frame of a real video is the clip's, and every stage's time is told apart."""

import contextlib
import csv
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import predicted
import pytest
from PIL import Image

from fercompress import predicting
from fercompress.data import synthetic
from fercompress.dataconfig import SyntheticData
from fercompress.errors import BundleError, DataError, InputError, ModelError
from fercompress.export.runtime import Runner
from fercompress.records import Float32, UInt8
from fercompress.report.timeline import Timeline


@pytest.fixture(scope="module")
def clips() -> UInt8:
    """Rendered faces, uint8 (n, FRAMES, SIDE, SIDE)."""
    config = SyntheticData(name="synthetic", train_clips=14, validation_clips=14, test_clips=14, frames=predicted.FRAMES, size=predicted.SIDE, seed=5)
    return np.asarray(synthetic.load(config).frames[:3])


CUT = predicting.Cutting("none", 0.25, "")


class _Silent:
    """A reporter that nobody reads."""

    def stage(self, *_: object) -> Any:
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def done(self, *_: object) -> None:
        pass


def run(video: Path, bundle: Path, out: Path, **more: Any) -> dict[str, Any]:
    return predicting.run(predicting.VideoRequest(video, bundle, out, **{"faces": "none", **more}), _Silent())  # type: ignore[arg-type]


def answers(out: Path) -> Float32:
    """float32 (F, classes) of timeline.csv; NaN where a frame has none"""
    with (out / "timeline.csv").open() as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(row[f"p_{name}"] or "nan") for name in predicted.CLASSES] for row in rows], np.float32)


@pytest.mark.parametrize("form", predicted.FORMS)
def test_a_streamed_video_ends_with_the_clips_answer(tmp_path: Path, clips: UInt8, form: str) -> None:
    made = predicted.made(tmp_path, form, clips)
    run(predicted.video(tmp_path / "v.avi", clips[1]), made.folder, tmp_path / "out")
    found = answers(tmp_path / "out")
    np.testing.assert_allclose(found[-1], Runner(made).predict(clips[1:2])[0], rtol=0, atol=1e-5)
    assert np.abs(found[0] - found[-1]).max() > 0.01  # or any frame's answer would do
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("form", predicted.ROUNDED)
def test_an_int8_predictors_answers_stay_near_the_clips(tmp_path: Path, clips: UInt8, form: str) -> None:
    made = predicted.made(tmp_path, form, clips)
    run(predicted.video(tmp_path / "v.avi", clips[1]), made.folder, tmp_path / "out")
    # The operator rounds its input by the range of one step here, of the whole clip there.
    np.testing.assert_allclose(answers(tmp_path / "out")[-1], Runner(made).predict(clips[1:2])[0], rtol=0, atol=0.02)


def test_a_restarted_video_is_as_many_clips(tmp_path: Path, clips: UInt8) -> None:
    made = predicted.made(tmp_path, "dense", clips)
    length = predicted.FRAMES
    run(predicted.video(tmp_path / "v.avi", np.concatenate(list(clips))), made.folder, tmp_path / "out", restart=length)
    found = answers(tmp_path / "out")[length - 1 :: length]
    np.testing.assert_allclose(found, Runner(made).predict(clips), rtol=0, atol=1e-5)


def test_the_middle_square_is_taken_where_asked(tmp_path: Path, clips: UInt8) -> None:
    made = predicted.made(tmp_path, "dense", clips)
    wide = np.pad(clips[0], ((0, 0), (0, 0), (20, 20)), constant_values=90)
    run(predicted.video(tmp_path / "v.avi", wide), made.folder, tmp_path / "out", faces="centre")
    np.testing.assert_allclose(answers(tmp_path / "out")[-1], Runner(made).predict(clips[:1])[0], rtol=0, atol=1e-5)


def test_a_frame_without_a_face_is_left_out_and_the_state_waits(tmp_path: Path, clips: UInt8) -> None:
    made = predicted.made(tmp_path, "dense", clips)
    length = predicted.FRAMES
    black = np.zeros_like(clips[0, :1])
    video = predicted.video(tmp_path / "v.avi", np.concatenate([black, clips[0, :2], black, black, clips[0, 2:]]))
    watched = predicting.watch(video, Runner(made).stream(), lambda frame: frame if frame.any() else None, predicted.CLASSES)
    assert watched.timeline.face.tolist() == [False, True, True, False, False] + [True] * (length - 2)
    assert (watched.spent_ns[[0, 3, 4], 2:] == 0).all()
    assert (watched.spent_ns[watched.timeline.face][:, 2:] > 0).all()
    np.testing.assert_allclose(watched.timeline.probabilities[-1], Runner(made).predict(clips[:1])[0], rtol=0, atol=1e-5)


def test_a_face_in_a_larger_picture_is_found_and_cut(tmp_path: Path, clips: UInt8) -> None:
    config = SyntheticData(name="synthetic", train_clips=14, validation_clips=14, test_clips=14, frames=predicted.FRAMES, size=160, seed=5)
    face = np.asarray(synthetic.load(config).frames[0])
    scene = np.full((len(face) + 2, 240, 320), 120, np.uint8)
    scene[1:-1, 40:200, 80:240] = face
    made = predicted.made(tmp_path, "dense", clips)
    found = run(predicted.video(tmp_path / "v.avi", scene), made.folder, tmp_path / "out", faces="cascade")
    assert (found["frames"], found["frames_with_face"]) == (len(scene), len(face))
    assert [each["label"] == "" for each in (found["labels"][0], found["labels"][-1])] == [True, True]
    assert "no face in 2 of 8 frames" in " ".join(found["notes"])


def test_stages_and_deadlines_are_counted_by_hand(tmp_path: Path, clips: UInt8) -> None:
    """A clock that jumps: in ms, decode 1, 2, 3, ...; face 5; extractor 30 in the first frame, else 20; predictor 4."""
    made = predicted.made(tmp_path, "dense", clips)
    video = predicted.video(tmp_path / "v.avi", clips[0, :4])

    def ticks() -> Iterator[int]:
        now = 0
        for frame in range(5):
            for spent in (0, frame + 1, 5, 30 if frame == 0 else 20, 4):
                now += spent * 1_000_000
                yield now

    coming = ticks()
    watched = predicting.watch(video, Runner(made).stream(), lambda frame: frame, predicted.CLASSES, clock=lambda: next(coming))
    assert (watched.spent_ns / 1e6).tolist() == [[1, 5, 30, 4], [2, 5, 20, 4], [3, 5, 20, 4], [4, 5, 20, 4]]
    found = predicting.found(predicting.VideoRequest(video, made.folder, tmp_path, rates_fps=(25, 1000 / 32)), made, watched, CUT)
    assert found["frames_per_second"] == pytest.approx(4 / 0.136)
    assert found["frame_ms"] == {"p50": 32.5, "p90": None, "max": 40.0}
    assert found["stages_ms"]["extractor"] == {"p50": 20.0, "p90": None, "max": 30.0}
    # 40, 31, 32 and 33 ms: none is above 40, two are above 32.
    assert [(each["missed"], each["of"]) for each in found["deadlines"]] == [(0, 4), (2, 4)]
    assert found["deadlines"][1]["longest_stage"] == {"decode": 0, "face": 0, "extractor": 2, "predictor": 0}


def test_many_frames_have_a_p90(tmp_path: Path, clips: UInt8) -> None:
    made = predicted.made(tmp_path, "dense", clips)
    spent = np.zeros((64, 4), np.int64)
    spent[:, 0] = np.arange(64) * 1_000_000
    line = Timeline(("a",), np.arange(64.0), np.ones((64, 1), np.float32))
    found = predicting.found(predicting.VideoRequest(tmp_path, made.folder, tmp_path), made, predicting.Watched(line, spent), CUT)
    assert found["stages_ms"]["decode"] == {"p50": 31.5, "p90": pytest.approx(56.7), "max": 63.0}


def test_the_runs_own_latency_stands_beside(tmp_path: Path, clips: UInt8) -> None:
    made = predicted.made(tmp_path / "bundles", "dense", clips)
    assert predicting.study_latency(made) == []
    row = {"variant": "dense", "target": "here", "latency_clip_p50_ns": 5_000_000, "latency_stream_frame_p50_ns": None, "doubts": None}
    (tmp_path / "summary.json").write_text(json.dumps({"rows": [row, {**row, "variant": "other"}, {**row, "latency_clip_p50_ns": None}]}))
    assert predicting.study_latency(made) == [
        {
            "target": "here",
            "simulated": False,
            "frames_per_clip": predicted.FRAMES,
            "latency_clip_p50_ns": 5_000_000,
            "latency_stream_frame_p50_ns": None,
        }
    ]


@pytest.mark.parametrize(
    ("data", "asked", "cut", "doubt"),
    [
        (None, {}, ("cascade", 0.25), "no run folder"),
        ({"name": "synthetic"}, {}, ("cascade", 0.25), "drawn pictures (synthetic)"),
        ({"name": "folder", "faces": {"by": "detect", "margin": 0.1}}, {}, ("cascade", 0.1), ""),
        ({"name": "folder", "faces": {"margin": 0.1}}, {"margin": 0.25}, ("cascade", 0.25), "found by cascade with a margin of 0.1"),
        ({"name": "folder", "faces": {"by": "detect"}}, {"faces": "centre"}, ("centre", 0.25), "found by cascade"),
        ({"name": "folder", "faces": {"by": "none"}}, {}, ("none", 0.25), ""),
        ({"name": "folder", "faces": {"by": "none"}}, {"faces": "cascade"}, ("cascade", 0.25), "learned whole pictures"),
        ({"name": "ckplus", "faces": {"by": None}}, {}, ("cascade", 0.25), "landmarks, where they are there"),
        ({"name": "afew", "faces": {"by": "aligned"}}, {}, ("cascade", 0.25), "cut by aligned"),
    ],
)
def test_faces_are_cut_as_the_bundles_study_says_and_a_difference_is_told(
    tmp_path: Path, clips: UInt8, data: dict[str, Any] | None, asked: dict[str, Any], cut: tuple[str, float], doubt: str
) -> None:
    made = predicted.made(tmp_path / "bundles", "dense", clips)
    if data is not None:
        (tmp_path / "summary.json").write_text(json.dumps({"rows": [], "config": {"data": data}}))
    found = predicting.cutting(predicting.VideoRequest(tmp_path / "v.avi", made.folder, tmp_path, **asked), made)
    assert (found.faces, found.margin) == cut
    assert doubt in found.doubt
    assert bool(doubt) == bool(found.doubt)


@pytest.mark.parametrize("form", ["dense", "numpy"])
def test_a_bundle_that_cannot_stream_is_refused(tmp_path: Path, clips: UInt8, form: str) -> None:
    made = predicted.made(tmp_path, form, clips, last=False)
    with pytest.raises(ModelError, match="reads the hidden states of all steps"):
        run(predicted.video(tmp_path / "v.avi", clips[0]), made.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_video_and_what_is_no_bundle_are_refused(tmp_path: Path, clips: UInt8) -> None:
    made = predicted.made(tmp_path, "dense", clips)
    (tmp_path / "text.avi").write_text("no video")
    with pytest.raises(DataError, match=r"text\.avi: cannot be read as a video"):
        run(tmp_path / "text.avi", made.folder, tmp_path / "out")
    with pytest.raises(DataError, match="no such file"):
        run(tmp_path / "none.avi", made.folder, tmp_path / "out")
    video = predicted.video(tmp_path / "v.avi", clips[0])
    with pytest.raises(BundleError, match="manifest"):
        run(video, tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(InputError, match="is a file"):
        run(video, made.folder, video)
    with pytest.raises(DataError, match="ONNX face detector"):
        run(video, made.folder, tmp_path / "out", faces="nowhere.onnx")


def test_a_video_that_was_cut_off_is_told(tmp_path: Path, clips: UInt8) -> None:
    made = predicted.made(tmp_path, "dense", clips)
    frames = np.random.default_rng(0).integers(0, 256, (40, predicted.SIDE, predicted.SIDE), np.uint8)  # which no codec makes small
    video = predicted.video(tmp_path / "v.avi", frames)
    video.write_bytes(video.read_bytes()[:-20_000])
    found = run(video, made.folder, tmp_path / "out")
    assert 0 < found["frames"] < len(frames)
    assert "cannot be decoded" in found["fault"]
    said = " ".join(found["notes"])
    assert f"after {found['frames']} frames: {video}: the video cannot be decoded" in said
    assert "the video ends early" in said


def test_the_command_prints_the_label_over_time_and_writes_a_picture_and_a_table(tmp_path: Path, clips: UInt8) -> None:
    made = predicted.made(tmp_path, "tt", clips)
    predicted.video(tmp_path / "v.avi", np.concatenate(list(clips)), rate=10)
    command = [sys.executable, "-m", "fercompress", "predict", "v.avi", "--bundle", str(made.folder), "--faces", "none"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    frames = predicted.FRAMES * len(clips)
    assert f"frames per second over {frames} frames (this includes decoding and face search)" in done.stdout
    assert f"--restart {predicted.FRAMES} begins a new clip" in done.stdout
    assert "at 25 fps (40.0 ms a frame)" in done.stdout
    assert "at 30 fps (33.3 ms a frame)" in done.stdout
    assert "the study's latency: n/a" in done.stdout
    with Image.open(tmp_path / "reports/predict-v/timeline.png") as picture:
        assert picture.size[0] > 1000
    rows = (tmp_path / "reports/predict-v/timeline.csv").read_text().splitlines()
    assert rows[0] == "time_s,frame,face,p_calm,p_glad,p_sad"
    assert len(rows) == 1 + frames
    assert rows[12].startswith("1.100000,11,1,")
    told = json.loads(
        subprocess.run([*command, "--json", "--fps", "50"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True).stdout
    )
    assert [each["fps"] for each in told["deadlines"]] == [50]
    assert sum(each["frames"] for each in told["labels"]) == frames


def test_a_missing_video_is_one_line_and_exit_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fercompress", "predict", "none.avi", "--bundle", "b"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "fercompress: none.avi: no such file; give a video\n")


def test_ctrl_c_says_that_the_video_begins_anew_and_nothing_was_written(tmp_path: Path, clips: UInt8) -> None:
    made = predicted.made(tmp_path, "dense", clips)
    video = predicted.video(tmp_path / "v.avi", np.concatenate([clips[0]] * 2000))
    command = [sys.executable, "-m", "fercompress", "predict", "v.avi", "--bundle", str(made.folder), "--faces", "none"]
    heed = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # a test in a shell's background ignores Ctrl-C
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    while process.poll() is None and not _has_open(process.pid, video):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    shown, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "nothing was written: the same command begins the video anew" in told
    assert "goes on" not in told
    assert "Traceback" not in told
    assert shown == ""
    assert not (tmp_path / "reports").exists()


def _has_open(process_id: int, path: Path) -> bool:
    with contextlib.suppress(OSError):  # it ended, or closed the file, while we looked
        return any(link.readlink() == path.resolve() for link in Path(f"/proc/{process_id}/fd").iterdir())
    return False
