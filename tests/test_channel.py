import errno
import functools
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from fercompress.errors import AgentError, DiskFullError, TargetError, TargetTimeoutError
from fercompress.measure.channel import LINK_FROM_BYTES, LocalChannel, target_error

# Starts a child in its group and one that left it, notes both, and sleeps.
FAMILY = """
import subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(300)"]
children = [subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True)]
with open("pids.part", "w") as file:
    file.write(" ".join(str(child.pid) for child in children))
import os; os.replace("pids.part", "pids")
time.sleep(300)
"""


@pytest.fixture
def channel(tmp_path):
    with LocalChannel(tmp_path / "root") as channel:
        yield channel


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def wait_for(condition, seconds: float = 60.0):
    """Returns the condition's first true value; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {condition}")


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pids_in(path: Path) -> list[int]:
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def test_a_command_gives_its_exit_code_and_both_streams_as_bytes(channel):
    done = channel.run(python(r"import sys; sys.stdout.buffer.write(b'\xff\x00out'); sys.stderr.write('err'); sys.exit(7)"), 30)
    assert (done.exit_code, done.stdout, done.stderr) == (7, b"\xff\x00out", b"err")


def test_a_command_runs_in_the_root_and_reads_nothing_from_this_process(channel):
    done = channel.run(python("import os, sys; print(os.getcwd(), repr(sys.stdin.read()))"), 30)
    assert done.stdout.decode().split() == [str(channel.root), "''"]


def test_arguments_arrive_as_they_are(channel):
    tricky = ["a b", "$HOME", "'", "ü", ""]
    done = channel.run([*python("import sys; sys.stdout.buffer.write(repr(sys.argv[1:]).encode())"), *tricky], 30)
    assert done.stdout.decode() == repr(tricky)


def test_a_signal_that_ended_the_command_is_a_negative_exit_code(channel):
    assert channel.run(python("import os; os.kill(os.getpid(), 9)"), 30).exit_code == -signal.SIGKILL


def test_a_talkative_command_neither_hangs_nor_fills_the_memory(tmp_path):
    channel = LocalChannel(tmp_path, output_limit_bytes=1000)
    done = channel.run(python("import sys; sys.stdout.write('x' * 5_000_000); sys.stderr.write('y' * 5_000_000)"), 60)
    assert (done.exit_code, done.stdout, done.stderr) == (0, b"x" * 1000, b"y" * 1000)


def test_past_the_deadline_a_command_is_killed_with_all_its_children(channel):
    for deadline_s in (1, 4, 16):  # a busy machine may not have started them within one second
        with pytest.raises(TargetTimeoutError, match=rf"within {deadline_s} s: killed"):
            channel.run(python(FAMILY), deadline_s)
        if pids_in(channel.root / "pids"):
            break
    pids = pids_in(channel.root / "pids")
    assert len(pids) == 2
    wait_for(lambda: not any(map(lives, pids)))


def test_children_that_a_command_left_behind_end_with_it(channel):
    channel.run(python(FAMILY.replace("time.sleep(300)\n", "").replace(", start_new_session=True", "")), 30)
    pids = pids_in(channel.root / "pids")
    assert len(pids) == 2
    wait_for(lambda: not any(map(lives, pids)))


def test_close_ends_what_another_thread_waits_for_and_lets_nothing_start(channel):
    ended = []
    thread = threading.Thread(target=lambda: ended.append(channel.run(python(FAMILY), 200).exit_code))
    thread.start()
    pids = wait_for(lambda: pids_in(channel.root / "pids"))
    channel.close()
    thread.join(60)
    assert ended == [-signal.SIGKILL]
    wait_for(lambda: not any(map(lives, pids)))
    with pytest.raises(TargetError, match="closed"):
        channel.run(python("pass"), 10)


def test_ctrl_c_leaves_no_process_behind(tmp_path):
    script = f"""
    from pathlib import Path
    from fercompress.measure.channel import LocalChannel
    with LocalChannel(Path({str(tmp_path)!r})) as channel:
        channel.run({python(FAMILY)!r}, 300)
    """
    heed = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # a test in a shell's background ignores Ctrl-C
    host = subprocess.Popen(python(textwrap.dedent(script)), stderr=subprocess.PIPE, preexec_fn=heed)
    pids = wait_for(lambda: pids_in(tmp_path / "pids"))
    host.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in host.communicate(timeout=60)[1]
    wait_for(lambda: not any(map(lives, pids)))


def test_a_command_that_is_not_there_is_named(channel):
    with pytest.raises(AgentError, match=r"cannot start /no/such/python.*does the target's file name the right python"):
        channel.run(["/no/such/python"], 5)


def test_a_file_comes_back_as_it_went_and_a_second_put_replaces_it(channel, tmp_path):
    for content in (b"first", b"\x00second\xff"):
        source = tmp_path / f"source-{len(content)}"
        source.write_bytes(content)
        channel.put(source, "deep/er/name.bin")
        channel.get("deep/er/name.bin", tmp_path / "back" / "again")
        assert (tmp_path / "back" / "again").read_bytes() == content
    assert [path.name for path in (channel.root / "deep/er").iterdir()] == ["name.bin"]


def test_putting_the_same_file_twice_changes_nothing(channel, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"x")
    channel.put(source, "name")
    channel.put(source, "name")
    channel.put(channel.root / "name", "name")
    assert [path.name for path in channel.root.iterdir()] == ["name"]


def test_a_file_that_is_there_is_left_alone_and_one_that_was_damaged_or_deleted_is_mended(channel, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"right")
    channel.put(source, "name")
    place = channel.root / "name"
    before = place.stat()
    channel.put(source, "name")
    assert (place.stat().st_ino, place.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    place.write_bytes(b"wrong")
    assert source.read_bytes() == b"right"
    channel.put(source, "name")
    assert place.read_bytes() == b"right"
    place.unlink()
    channel.put(source, "name")
    assert place.read_bytes() == b"right"


def test_a_large_file_is_linked_not_copied(channel, tmp_path):
    source = tmp_path / "large"
    with source.open("wb") as file:
        file.truncate(LINK_FROM_BYTES)
    channel.put(source, "name")
    channel.put(source, "name")
    assert (channel.root / "name").stat().st_ino == source.stat().st_ino
    assert [path.name for path in channel.root.iterdir()] == ["name"]


def test_what_is_forgotten_is_gone_and_the_rest_stays(channel, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"x")
    for name in ("jobs/a", "jobs/b"):
        channel.put(source, name)
    channel.forget("0a", ["jobs/a", "jobs/nowhere"])
    assert [path.name for path in (channel.root / "jobs").iterdir()] == ["b"]
    with pytest.raises(ValueError, match="below the root"):
        channel.forget("0a", ["../source"])


def test_missing_files_on_either_side_are_named(channel, tmp_path):
    with pytest.raises(TargetError, match=r"cannot put .*nowhere.*No such file"):
        channel.put(tmp_path / "nowhere", "name")
    with pytest.raises(AgentError, match=r"nowhere: the target has no such file"):
        channel.get("nowhere", tmp_path / "x")


def test_a_file_that_is_too_large_does_not_come_back(tmp_path):
    channel = LocalChannel(tmp_path, file_limit_bytes=10)
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(AgentError, match="11 bytes came back, more than the limit of 10"):
        channel.get("large", tmp_path / "here")
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("remote", ["/etc/passwd", "../out", "a/../../out"])
def test_names_that_leave_the_root_are_a_mistake_of_ours(channel, tmp_path, remote):
    with pytest.raises(ValueError, match="below the root"):
        channel.get(remote, tmp_path / "x")


def test_a_full_disk_is_told_apart_from_other_faults():
    assert isinstance(target_error("cannot put a", OSError(errno.ENOSPC, "No space left on device")), DiskFullError)
    other = target_error("cannot put a", OSError(errno.EROFS, "Read-only file system"))
    assert not isinstance(other, DiskFullError)
    assert str(other) == "cannot put a: Read-only file system"
