"""Folders of ready clips: each is told with its size and its age, and only what nobody uses is removed."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from fercompress.cli import app
from fercompress.data import cache, caches, source
from fercompress.dataconfig import SyntheticData

SMALL = SyntheticData(name="synthetic", train_clips=14, validation_clips=14, test_clips=14, frames=3, size=32)
USER = """
import sys
from pathlib import Path
from fercompress.data import cache
cache.use(Path(sys.argv[1]))
print("uses it", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_in_use", {})  # as of a process that has used none
    return source.user_cache()


def made(root, seed=0, days=0.0):
    """A folder of clips that was used last so many days ago, by a process that has ended."""
    source.load(SMALL.model_copy(update={"seed": seed}), None, root)
    (folder,) = cache._in_use
    os.close(cache._in_use.pop(folder))
    then = time.time() - days * caches.DAY_S
    for path in folder.iterdir():
        os.utime(path, (then, then))
    return folder


@pytest.fixture
def users():
    """Start processes that use a folder until the end."""
    started = []

    def start(folder):
        process = subprocess.Popen([sys.executable, "-c", USER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "uses it\n"
        return process

    yield start
    for process in started:
        process.communicate(timeout=30)


def test_folders_are_told_with_their_clips_size_and_age_the_longest_unused_first(root):
    new, old = made(root), made(root, seed=1, days=40)
    (root / "gfe").mkdir()
    found = caches.listed(root)
    assert [(kept.folder, kept.name, kept.clips, round(kept.idle_days), kept.in_use) for kept in found] == [
        (old, "synthetic-posed", 42, 40, False), (new, "synthetic-posed", 42, 0, False),
    ]  # fmt: skip
    assert found[0].size_bytes == sum(path.stat().st_size for path in old.iterdir()) > 42 * 3 * 32 * 32
    assert [round(kept.idle_days) for kept in caches.listed(root)] == [40, 0], "to look is not to use"
    assert caches.listed(root / "nowhere") == []


def test_what_another_process_uses_is_not_removed_and_is_when_it_has_ended(root, users):
    folder = made(root)
    user = users(folder)
    assert [kept.in_use for kept in caches.listed(root)] == [True]
    assert caches.remove(root) == []
    assert cache.found(folder) is not None
    user.communicate(timeout=30)
    assert [kept.folder for kept in caches.remove(root)] == [folder]
    assert list(root.iterdir()) == []


def test_what_another_process_writes_is_not_removed(root):
    folder = made(root)
    with cache.held(folder):
        assert caches.remove(root) == []
    assert len(caches.remove(root)) == 1


def test_what_this_process_reads_stays_readable_and_is_not_removed(root):
    clips = source.load(SMALL, None, root)
    before = np.array(clips.frames)
    assert caches.remove(root) == []
    assert (clips.frames == before).all()


def test_only_what_was_not_used_for_so_many_days_is_removed(root):
    new, old = made(root, days=2), made(root, seed=1, days=40)
    assert [kept.folder for kept in caches.remove(root, 30)] == [old]
    assert [path.name for path in root.iterdir()] == [new.name]


def test_reading_clips_counts_as_use(root):
    folder = made(root, days=40)
    source.load(SMALL, None, root)
    assert caches.listed(root)[0].idle_days < 1
    assert caches.listed(root)[0].folder == folder


def test_nothing_but_folders_of_clips_is_looked_at(root):
    made(root)
    for name in ("gfe", "clips-mine", "clips-0123456789abcdef.npy"):
        (root / name).mkdir()
    (root / "clips-0123456789abcdef").write_text("a file")
    caches.remove(root)
    assert sorted(path.name for path in root.iterdir()) == ["clips-0123456789abcdef", "clips-0123456789abcdef.npy", "clips-mine", "gfe"]


def test_a_removal_that_was_stopped_is_ended_by_the_next_one(root):
    folder = made(root)
    folder.rename(folder.with_name(f"{folder.name}.removed"))
    assert len(caches.remove(root)) == 1
    assert list(root.iterdir()) == []


def test_clips_are_made_again_by_a_process_that_waited_while_their_folder_was_removed(root):
    folder = made(root)
    with cache.held(folder):
        orphan = cache.opened(folder / cache.WRITER)
        folder.rename(folder.with_name("elsewhere"))
    assert not cache.is_still(orphan, folder / cache.WRITER)
    os.close(orphan)
    assert len(source.load(SMALL, None, root)) == 42


def test_the_command_lists_and_cleans(root):
    def run(*arguments):
        done = CliRunner().invoke(app, ["data", "cache", *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "kept: 0 folders" in run()
    made(root, days=3)
    assert [(row["name"], row["clips"], round(row["idle_days"]), row["in_use"]) for row in json.loads(run("--json"))] == [
        ("synthetic-posed", 42, 3, False)
    ]
    assert "removed: 0 folders" in run("--clean", "--days", "30")
    told = run("--clean")
    assert "removed: 1 folder, " in told
    assert "synthetic" in told
    assert CliRunner().invoke(app, ["data", "cache", "--days", "3"]).exit_code != 0
