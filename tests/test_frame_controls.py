"""The single-frame controls: what a network may see of a clip, and that motion alone cannot be read from one frame."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from fercompress import studyfile
from fercompress.records import Clips, Fold

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "frame_controls.py"

STUDY = """
[study]
name = "mine"
baseline = "dense"
seeds = [0, 1]

[data]
name = "synthetic"
train_clips = 28
validation_clips = 14
test_clips = 14
frames = 4
size = 32

[model]
hidden = 8

[train]
epochs = 12
batch = 8
dropout = 0.0
learning_rate = 5e-3
patience = 12

[[variant]]
name = "dense"
"""


@pytest.fixture(scope="module")
def controls():
    spec = importlib.util.spec_from_file_location("frame_controls", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def clips_of(frames: np.ndarray, labels: np.ndarray) -> Clips:
    names = tuple(f"c{i}" for i in range(len(frames)))
    return Clips("moves", frames, labels, ("left", "right"), names, names, names, names, tuple(range(len(frames))), "f", True)


def moving_squares(n: int = 48) -> Clips:
    """Either way, the square starts in the middle and is farthest from it in the last frame, at a side that the class does not tell:
    the label says whether it comes back half the way before it goes there, which two frames show and no single one does."""
    random = np.random.default_rng(0)
    frames = random.integers(0, 40, (n, 4, 32, 32)).astype(np.uint8)
    labels = np.arange(n, dtype=np.int64) % 2
    for clip, label in enumerate(labels):
        side = 1 if random.random() < 0.5 else -1
        for t, place in enumerate((0, 5, 5, 11) if label else (0, -5, -5, 11)):
            x = 13 + side * place
            frames[clip, t, 12:20, x : x + 6] = 220
    return clips_of(frames, labels)


def test_the_apex_is_the_frame_farthest_from_the_first_and_a_still_clip_keeps_its_first(controls):
    frames = np.zeros((2, 5, 4, 4), np.uint8)
    frames[0] = np.array([100, 120, 30, 90, 100], np.uint8)[:, None, None]  # 70 below is farther than 20 above
    clips = clips_of(frames, np.array([0, 1]))
    assert controls.apex(clips).tolist() == [2, 0]
    cut = controls.SEEN["apex frame"](clips)
    assert cut.frames.shape == (2, 1, 4, 4)
    assert cut.frames[0, 0, 0, 0] == 30
    assert controls.SEEN["first frame"](clips).frames[0, 0, 0, 0] == 100
    assert cut.clip_ids == clips.clip_ids


def test_what_only_motion_tells_is_learnt_from_whole_clips_and_not_from_one_frame(controls):
    clips = moving_squares()
    fold = Fold("0", np.arange(0, 32), np.arange(32, 40), np.arange(40, 48))
    study = studyfile.parse_study(STUDY, "mine.toml", ["train.epochs=20", "train.patience=20"])
    report = controls.compare(study, clips, [fold])
    rows = {row["seen"]: row for row in report["rows"]}
    assert rows["whole clip"]["accuracy"] == 1.0
    assert rows["first frame"]["accuracy"] <= 0.75
    assert rows["apex frame"]["accuracy"] <= 0.75
    assert rows["first frame"]["whole_clip_gains_points"] == pytest.approx(100 * (1 - rows["first frame"]["accuracy"]))
    assert report["test_clips"] == 8
    assert report["chance"] == report["largest_class"] == 0.5


def test_the_script_prints_every_row_with_its_interval(controls, tmp_path, capsys):
    (tmp_path / "mine.toml").write_text(STUDY)
    assert controls.main(["--study", str(tmp_path / "mine.toml"), "--set", "train.epochs=1", "--seeds", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["seen"] for row in report["rows"]] == ["whole clip", "first frame", "apex frame"]
    for row in report["rows"]:
        low, high = row["accuracy_ci95"]
        assert 0 <= low <= row["accuracy"] <= high <= 1
    assert (report["epochs"], report["seeds"], report["quick"]) == (1, [0], False)


def test_a_study_that_is_not_there_is_refused_with_its_exit_code(controls, capsys):
    assert controls.main(["--study", "defualt"]) == 2
    assert "did you mean 'default'" in capsys.readouterr().err
