"""Clips from pictures on disk to the cache: right frames with right labels, whatever fails, stops or runs beside it."""

import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fercompress.data import cache, camera, prepared
from fercompress.data.listing import FoundClip, Listing, Media
from fercompress.dataconfig import Faces, FolderData
from fercompress.errors import DataError, TargetError
from fercompress.records import LeftOut

WHOLE = FolderData(name="folder", frames=2, size=32, faces=Faces(by="none"))


def listing(root, clips=6, pictures=3):
    """Frame f of clip c is all grey level 10 * c + f: a picture tells which one it is."""
    found = []
    for number in range(clips):
        files = tuple(root / f"c{number:02d}" / f"{frame}.png" for frame in range(pictures))
        files[0].parent.mkdir(parents=True)
        for frame, path in enumerate(files):
            Image.fromarray(np.full((40, 40), (10 * number + frame) % 250, np.uint8)).save(path)
        found.append(FoundClip(f"c{number:02d}", ("sad", "glad")[number % 2], f"p{number // 2}", Media(files, video=False)))
    return Listing("folder", root, ("glad", "sad"), tuple(found), (LeftOut("notes.txt", "no picture"),), {}, {})


def made(config, listed, folder, **wishes):
    with cache.held(folder):
        camera.build(config, listed, folder, **wishes)
    clips = cache.found(folder)
    assert clips is not None
    return clips


@pytest.mark.parametrize("processes", [1, 2])
def test_every_clip_has_its_own_frames_label_and_subject_in_the_listings_order(tmp_path, processes):
    clips = made(WHOLE, listing(tmp_path / "data", clips=20), tmp_path / "cache", processes=processes)
    for number in range(20):
        assert clips.clip_ids[number] == f"c{number:02d}"
        assert clips.classes[clips.labels[number]] == ("sad", "glad")[number % 2]
        assert clips.subjects[number] == clips.clusters[number] == f"p{number // 2}"
        assert np.unique(clips.frames[number, 0]).tolist() == [10 * number % 250]
        assert np.unique(clips.frames[number, 1]).tolist() == [(10 * number + 2) % 250]
    assert isinstance(clips.frames, np.memmap)
    assert (clips.face_rates, clips.parts, clips.simulated) == ((), (), False)
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [".lock", "clips.json", "frames.npy", "labels.npy"]


def test_others_are_started_when_what_is_left_is_worth_it_and_no_clip_is_lost_or_made_twice(tmp_path, monkeypatch):
    listed = listing(tmp_path / "data", clips=20)
    monkeypatch.setattr(camera.os, "cpu_count", lambda: 2)
    here = made(WHOLE, listed, tmp_path / "here")
    monkeypatch.setattr(camera, "CREW_WORTH_S", 0)
    told = []
    shared = made(WHOLE, listed, tmp_path / "shared", progress=lambda done, *_: told.append((done, len(multiprocessing.active_children()))))
    assert [done for done, _ in told] == list(range(21))
    assert [workers for _, workers in told[:3]] == [0, 0, 2]
    assert shared.fingerprint == here.fingerprint


def test_a_clip_that_fails_is_left_out_with_its_reason_and_moves_no_other(tmp_path):
    listed = listing(tmp_path / "data")
    listed.clips[2].media.files[1].write_text("not a picture")
    listed.clips[4].media.files[0].unlink()
    clips = made(WHOLE, listed, tmp_path / "cache")
    assert clips.clip_ids == ("c00", "c01", "c03", "c05")
    assert [int(row[0, 0, 0]) for row in clips.frames] == [0, 10, 30, 50]
    assert [row.clip for row in clips.left_out] == ["notes.txt", "c02", "c04"]
    assert "1.png: cannot be read as a picture" in clips.left_out[1].reason


def test_where_no_clip_is_usable_the_error_says_why(tmp_path):
    listed = listing(tmp_path / "data", clips=2)
    with pytest.raises(DataError, match="none of 2 clips of folder can be used; the last one is c01: no face in any of the 2 frames looked at"):
        made(WHOLE.model_copy(update={"faces": Faces(by="detect")}), listed, tmp_path / "cache")
    with pytest.raises(DataError, match="no clip of folder there"):
        made(WHOLE, replace(listed, clips=()), tmp_path / "cache")


def test_black_ready_crops_are_told_and_counted(tmp_path):
    listed = listing(tmp_path / "data", clips=2)
    shown = tmp_path / "shown.png"
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(shown)
    black = listed.clips[0].media.files
    listed = replace(listed, clips=(replace(listed.clips[0], aligned=black), replace(listed.clips[1], aligned=(shown, black[0]))))
    clips = made(WHOLE.model_copy(update={"faces": Faces()}), listed, tmp_path / "cache")
    assert clips.face_rates == (0.5,)
    assert clips.left_out[1:] == (LeftOut("c00", "no face in any of the 2 frames looked at"),)


def test_windows_of_a_clip_are_rows_of_one_id(tmp_path):
    clips = made(WHOLE.model_copy(update={"take": "windows"}), listing(tmp_path / "data", clips=2, pictures=3), tmp_path / "cache")
    assert clips.clip_ids == ("c00", "c00", "c01", "c01")
    assert [int(row[-1, 0, 0]) for row in clips.frames] == [1, 2, 11, 12]
    assert clips.labels.tolist() == [1, 1, 0, 0]


def test_an_unknown_subject_is_no_cluster_that_clips_share(tmp_path):
    listed = listing(tmp_path / "data", clips=2)
    clips = made(WHOLE, replace(listed, clips=tuple(replace(clip, subject="") for clip in listed.clips)), tmp_path / "cache")
    assert (clips.subjects, clips.clusters) == (("", ""), ("c00", "c01"))


# Stopped and started again


def test_a_build_that_was_stopped_goes_on_where_it_was(tmp_path):
    listed = listing(tmp_path / "data")
    whole = made(WHOLE, listed, tmp_path / "whole")

    def stop(completed, *_):
        if completed == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(WHOLE, listed, tmp_path / "cache", progress=stop)
    assert cache.found(tmp_path / "cache") is None
    with (tmp_path / "cache/clips.ready").open("ab") as file:
        file.write(b"clip" + b"\1" * 30)  # as if stopped within a clip
    told = []
    again = made(WHOLE, listed, tmp_path / "cache", progress=lambda *state: told.append(state[0]))
    assert told == [4, 5, 6]
    assert (np.asarray(again.frames) == np.asarray(whole.frames)).all()
    assert again.fingerprint == whole.fingerprint


STOPPED = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
import test_camera as here
from fercompress.data import cache, camera

def tell(completed, total, detail=""):
    print(completed, flush=True)
    if completed == 12:
        sys.stdin.readline()

if __name__ == "__main__":
    with cache.held(Path({folder!r})):
        camera.build(here.WHOLE, here.pickled({listing!r}), Path({folder!r}), tell, processes=2)
"""


def pickled(path):
    import pickle

    return pickle.loads(Path(path).read_bytes())


def test_ctrl_c_while_two_processes_decode_ends_all_and_keeps_what_is_ready(tmp_path):
    import pickle

    listed = listing(tmp_path / "data", clips=40)
    (tmp_path / "listing").write_bytes(pickle.dumps(listed))
    script = tmp_path / "stopped.py"
    script.write_text(STOPPED.format(path=[str(Path(__file__).parent), *sys.path], folder=str(tmp_path / "cache"), listing=str(tmp_path / "listing")))
    # Tests that a script runs in the background inherit that SIGINT is ignored.
    process = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    assert process.stdout is not None
    list(itertools.takewhile(lambda line: line.strip() != "12", process.stdout))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    _, errors = process.communicate(timeout=60)  # returns when nobody holds its output any more: all have ended
    assert process.returncode != 0
    assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == 1, errors  # the parent's alone
    assert len(prepared.whole(tmp_path / "cache/clips.ready")) >= 12
    assert len(made(WHOLE, listed, tmp_path / "cache")) == 40


def test_a_process_that_is_killed_while_it_decodes_is_an_error_that_names_the_clip(tmp_path):
    listed = listing(tmp_path / "data", clips=20)
    fifo = tmp_path / "data/c05/slow.png"
    os.mkfifo(fifo)  # whoever opens it waits
    stuck = replace(listed.clips[5], media=Media((fifo,), video=False))
    listed = replace(listed, clips=(*listed.clips[:5], stuck, *listed.clips[6:]))

    def kill(completed, *_):
        if completed == 19:  # the other process has no clip any more
            for worker in multiprocessing.active_children():
                worker.kill()

    with pytest.raises(TargetError, match=r"c05: the process that decoded it \(.*slow.png\) was ended; is there memory\?"):
        made(WHOLE, listed, tmp_path / "cache", progress=kill, processes=2)
    assert len(prepared.whole(tmp_path / "cache/clips.ready")) == 19


# One writer


def test_a_second_writer_waits_and_finds_the_clips_of_the_first(tmp_path):
    folder, waits, order = tmp_path / "cache", threading.Event(), []

    def second():
        with cache.held(folder, waits.set):
            order.append("second")

    with cache.held(folder):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(60)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]


# What a cache belongs to


def test_a_manifest_changes_with_a_file_a_label_a_wish_and_nothing_else(tmp_path):
    listed = listing(tmp_path / "data", clips=2)

    def key(config=WHOLE, of=listed):
        return json.dumps(camera.manifest(config, of), default=str, sort_keys=True)

    first = key()
    assert key(WHOLE.model_copy(update={"protocol": "leaky-image", "difference": True, "folds": 3, "deal": 4})) == first
    assert key(WHOLE.model_copy(update={"take": "last"})) != first
    assert key(WHOLE.model_copy(update={"faces": Faces(by="detect")})) != first
    assert key(of=replace(listed, clips=(replace(listed.clips[0], label="glad"), listed.clips[1]))) != first
    path = listed.clips[0].media.files[0]
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))
    assert key() != first


def test_equal_pictures_have_one_fingerprint_wherever_and_whenever_they_lie(tmp_path):
    one, other = (made(WHOLE, listing(tmp_path / name), tmp_path / f"cache-{name}") for name in ("a", "b"))
    assert one.fingerprint == other.fingerprint
    listed = listing(tmp_path / "c")
    changed = replace(listed, clips=(replace(listed.clips[0], label="glad"), *listed.clips[1:]))
    assert made(WHOLE, changed, tmp_path / "cache-c").fingerprint != one.fingerprint


@pytest.mark.parametrize("harm", ["frames.npy", "labels.npy", "clips.json"])
def test_a_damaged_cache_is_no_cache(tmp_path, harm):
    made(WHOLE, listing(tmp_path / "data"), tmp_path / "cache")
    path = tmp_path / "cache" / harm
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert cache.found(tmp_path / "cache") is None
