"""A whole session over SSH, with the real agent: the same blocks as on this machine, whatever becomes of sshd meanwhile."""

import random
import threading
from collections import Counter

import numpy as np
import pytest
import tiny_bundle

from fercompress.config import Measure
from fercompress.measure import sshchannel
from fercompress.measure.board import load_board
from fercompress.measure.channel import LocalChannel
from fercompress.measure.session import MeasuredBundle, measure
from fercompress.measure.sshchannel import SshChannel
from fercompress.records import Pass, Status

SETTINGS = Measure(rounds=1, block_clips=4, block_s=0.001, warmup_clips=0, passes=("accuracy", "latency", "memory"))
ROWS = np.array([1, 3, 5, 8, 9], np.int64)


def session(folder, channel, settings=SETTINGS):
    """Two variants; returns the blocks in the order in which they came."""
    bundles = {name: [MeasuredBundle(tiny_bundle.write(folder / name, name, seed), seed, "f0", ROWS)] for seed, name in enumerate("ab")}
    blocks = []
    with channel:
        keys = measure(
            bundles, tiny_bundle.clips(), settings, load_board("localhost"), channel, folder / "work",
            done=(), record=blocks.append, progress=lambda _: None,
        )  # fmt: skip
    assert sorted(map(str, keys)) == sorted(str(block.key) for block in blocks)  # none is missing, none is there twice
    assert [block.reason for block in blocks if block.status is not Status.OK] == []
    return blocks


def logits(blocks):
    return {block.key.variant: block.logits for block in blocks if block.key.pass_ is Pass.ACCURACY}


def test_a_session_over_ssh_gives_the_local_rows_and_the_same_logits(lab, tmp_path):
    there = session(tmp_path / "there", SshChannel(lab.address()))
    here = session(tmp_path / "here", LocalChannel(tmp_path / "target"))
    # Accuracy runs go side by side and come in any order; all else comes in the schedule's.
    assert Counter(block.key for block in there) == Counter(block.key for block in here)
    assert [block.key for block in there if block.key.pass_ is not Pass.ACCURACY] == [
        block.key for block in here if block.key.pass_ is not Pass.ACCURACY
    ]
    for variant, expected in logits(here).items():
        np.testing.assert_array_equal(logits(there)[variant], expected)
    assert list((lab.home / "work" / "jobs").iterdir()) == []


def test_a_run_that_is_over_leaves_nothing_there_unless_it_is_kept_and_a_resumed_one_sends_nothing_twice(lab, tmp_path):
    bundles = {"a": [MeasuredBundle(tiny_bundle.write(tmp_path / "a", "a", engine="null"), 0, "f0", ROWS)]}
    board = tiny_bundle.modelless(load_board("localhost"))  # what is watched are files
    settings = SETTINGS.model_copy(update={"passes": ("accuracy", "latency")})
    blocks, asked = [], []

    class Watched(SshChannel):
        def put(self, local, remote):
            asked.append(remote)
            super().put(local, remote)

    def go(record=blocks.append, **more):
        with Watched(lab.address(), "run") as channel:
            done = {block.key for block in blocks}
            measure(
                bundles, tiny_bundle.clips(), settings, board, channel, tmp_path / "work",
                done=done, record=record, progress=lambda _: None, run_id="run", **more,
            )  # fmt: skip

    def stop(block):
        blocks.append(block)
        raise KeyboardInterrupt

    def there():
        return sorted(f"{folder}/{path.name}" for folder in ("bundles", "clips") for path in (lab.files / folder).glob("*"))

    with pytest.raises(KeyboardInterrupt):
        go(stop, keep=False)
    left = there()
    times = {path: path.stat().st_ino for path in (lab.files / "bundles").rglob("*.onnx")}
    assert len(left) == 3  # a bundle, clips for accuracy, clips for times
    go(keep=True)
    assert there() == left
    assert {path: path.stat().st_ino for path in (lab.files / "bundles").rglob("*.onnx")} == times  # never sent again
    blocks.pop()
    go(keep=False)
    assert there() == []
    assert not (lab.files / "features").exists()
    asked.clear()
    go(keep=False)
    assert [name for name in asked if name.startswith(("bundles/", "clips/"))] == []  # every block is there: nothing is sent for nothing
    assert len({block.key for block in blocks}) == len(blocks)


@pytest.mark.slow
def test_a_session_whose_sshd_is_killed_at_random_moments_loses_and_doubles_no_block(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(sshchannel, "BACK_OFF_LAST_S", 0.5)  # sshd is never away for longer
    draw, over, kills, calm = random.Random(7), threading.Event(), [], threading.Lock()

    def disturb() -> None:
        # From a moment after the last start to one long after the log-in: on a slow machine too, some links last.
        while not over.wait(draw.uniform(0.1, 1.0) * draw.choice((1, 1, 4))):
            with calm:
                lab.kill()
                over.wait(draw.uniform(0.0, 0.2))
                lab.start()
                kills.append(1)

    settings = SETTINGS.model_copy(update={"passes": ("accuracy", "latency")})
    expected = tiny_bundle.logits_by_numpy(tiny_bundle.clips().frames[ROWS])
    broken = 0
    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for turn in range(20):  # a fast machine may be done before the third kill
            channel = SshChannel(lab.address(unreachable_s=60), "run")
            with calm:  # a board that was never reached is not tried again
                channel.greet()
            blocks = session(tmp_path / str(turn), channel, settings)
            np.testing.assert_allclose(logits(blocks)["a"], expected, rtol=2e-5, atol=2e-5)
            broken += channel.reconnects
            if broken >= 3:
                break
    finally:
        over.set()
        thread.join()
    assert broken >= 3
    assert len(kills) >= 3
