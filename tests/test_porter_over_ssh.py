"""The porter behind a real sshd: an SSH server that stops reading, files that vanish, names beyond ASCII under every Python and locale."""

import json
import os
import sys
import time
from pathlib import Path

import psutil
import pytest
from sshlab import SIGSTOP, eventually

from fercompress.errors import AgentError, TargetBusyError, TargetError
from fercompress.measure.link import FRAME
from fercompress.measure.sshchannel import SshChannel, VanishedError

PYTHONS = [sys.executable, *(str(path) for path in sorted((Path.home() / ".pyenv" / "versions").glob("3.[67].*/bin/python")))]
# The plain C locale, also where CPython 3.7 and newer would make UTF-8 of it.
LOCALES = {"C": "export LANG=C LC_ALL=C\n", "C alone": "export LANG=C LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0\n"}
SMILE = "glücklich 笑 😀"


def porter(lab) -> psutil.Process:
    return psutil.Process(json.loads((lab.home / "work" / "lock").read_bytes()[:1024])["porter"])


def test_a_porter_whose_ssh_server_was_stopped_while_it_wrote_ends_and_lets_others_in(lab):
    with SshChannel(lab.address(), "run-1", stall_s=1.0) as stuck, SshChannel(lab.address(), "run-2") as other:
        stuck.greet()
        (lab.files / "large").write_bytes(bytes(256 << 10))
        process = porter(lab)
        for number in range(40):  # ten megabytes of answers that nobody takes: more than the windows and pipes on the way hold
            text = json.dumps({"ask": "read", "name": "large", "offset": 0, "id": number}).encode("ascii")
            stuck._link._send(FRAME.pack(len(text), 0) + text, 5.0)
        assert eventually(lambda: process.io_counters().write_chars > 256 << 10)
        lab.signal_sessions(SIGSTOP)
        assert eventually(lambda: not process.is_running())
        assert other.greet().folder == str(lab.files)


def test_an_idle_porter_whose_ssh_server_was_stopped_ends_soon_and_lets_others_in(lab):
    with SshChannel(lab.address(), "run-1", idle_s=2.0) as idle, SshChannel(lab.address(), "run-2") as other:
        idle.greet()
        process = porter(lab)
        lab.signal_sessions(SIGSTOP)
        assert eventually(lambda: not process.is_running(), 30)  # the lab's own wait is a minute: as long as a porter of its own accord
        assert other.greet().folder == str(lab.files)


def test_a_porter_is_kept_by_a_host_that_has_nothing_to_ask(lab):
    with SshChannel(lab.address(), "run-1", idle_s=4.0) as channel, SshChannel(lab.address(), "run-2") as other:
        channel.greet()
        process = porter(lab)
        time.sleep(9)  # more than twice what it would wait for a dead host
        assert process.is_running()
        with pytest.raises(TargetBusyError):
            other.greet()
        channel.greet()
        assert (channel.reconnects, porter(lab).pid) == (0, process.pid)


def test_no_pulse_outlives_its_channel(lab):
    with SshChannel(lab.address(), "run-1", idle_s=0.4) as channel:
        channel.greet()
        heart = channel._heart
        assert heart.is_alive()
    heart.join(30)
    assert not heart.is_alive()


def test_why_a_porter_broke_is_told_with_the_last_line_of_what_it_said(lab):
    with SshChannel(lab.address(unreachable_s=0.2)) as channel:
        channel.greet()
        with pytest.raises(TargetError, match=r"the far end closed the connection \(.*KeyError: 'no such request'\)"):
            channel._ask("no such request", {})


class Struck(SshChannel):
    """`strikes`: of each kind of request, what happens on the target just before it is sent."""

    def __init__(self, address, **strikes):
        super().__init__(address)
        self.strikes = strikes

    def _ask(self, what, *rest, **more):
        if self.strikes.get(what):
            self.strikes[what].pop(0)()
        return super()._ask(what, *rest, **more)


def test_a_file_that_is_removed_between_two_requests_is_told_as_missing(lab, tmp_path):
    with Struck(lab.address(), read=[(lab.files / "x").unlink]) as channel:
        channel.greet()
        (lab.files / "x").write_bytes(b"content")
        with pytest.raises(AgentError, match="there is no file x"):
            channel.get("x", tmp_path / "x")
    assert list(tmp_path.glob("x*")) == []


def test_a_file_that_is_written_anew_between_two_requests_comes_back_whole(lab, tmp_path):
    def anew() -> None:
        (lab.files / "x").unlink()
        (lab.files / "x").write_bytes(b"other content")

    with Struck(lab.address(), read=[anew]) as channel:
        channel.greet()
        (lab.files / "x").write_bytes(b"content")
        channel.get("x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"other content"


@pytest.mark.parametrize("request_", ["write", "commit"])
def test_an_upload_whose_pieces_are_removed_is_sent_again(lab, tmp_path, request_):
    def empty() -> None:
        for path in (lab.files / "bundles").rglob("*.part"):
            path.unlink()

    (tmp_path / "file").write_bytes(os.urandom(600_000))  # three pieces
    strikes = {"write": [lambda: None, empty], "commit": [empty]}[request_]
    with Struck(lab.address(), **{request_: strikes}) as channel:
        channel.put(tmp_path / "file", "bundles/x")
    assert (lab.files / "bundles" / "x").read_bytes() == (tmp_path / "file").read_bytes()


def test_an_upload_whose_pieces_are_always_removed_is_given_up_with_what_may_be_the_cause(lab, tmp_path):
    def empty() -> None:
        for path in lab.files.glob("*.part"):
            path.unlink()

    (tmp_path / "file").write_bytes(b"x")
    with Struck(lab.address(), commit=[empty] * 9) as channel, pytest.raises(TargetError, match="does something remove files there"):
        channel.put(tmp_path / "file", "x")


def test_what_a_command_said_is_not_taken_for_nothing_where_it_was_removed(lab):
    def removed() -> None:
        for path in (lab.home / "work" / "jobs").rglob("stdout"):
            path.unlink()

    with Struck(lab.address(), output=[removed]) as channel, pytest.raises(VanishedError, match="what the command said was removed there"):
        channel.run([sys.executable, "-c", "print(1)"], 30)


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("interpreter", PYTHONS, ids=lambda path: "own" if path == sys.executable else Path(path).parts[-3])
def test_names_and_messages_beyond_ascii_survive_any_locale(lab, tmp_path, interpreter, locale):
    lab.rc.write_text(LOCALES[locale])
    (tmp_path / "sent").write_bytes(b"content")
    with SshChannel(lab.address(python=interpreter, workspace=f"büro/{SMILE}")) as channel:
        files = lab.home / "büro" / SMILE / "files"
        assert channel.greet().folder == str(files)
        channel.put(tmp_path / "sent", f"{SMILE}/ä")
        assert (files / SMILE / "ä").read_bytes() == b"content"
        channel.get(f"{SMILE}/ä", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == b"content"
        code = "import os, sys; sys.stdout.buffer.write(os.fsencode(sys.argv[1]) + open(sys.argv[1], 'rb').read())"
        assert channel.run([interpreter, "-c", code, f"{SMILE}/ä"], 30).stdout == f"{SMILE}/äcontent".encode()
        with pytest.raises(AgentError, match=f"cannot start {SMILE}: No such file"):
            channel.run([SMILE], 30)
        with pytest.raises(TargetError, match=rf"files/{SMILE}/ä: File exists"):
            channel.put(tmp_path / "sent", f"{SMILE}/ä/below a file")
        with pytest.raises(AgentError, match=r"refused: .*\?|refused: .*\\ud800"):
            channel._ask("stat", {"name": "\ud800", "limit_bytes": 1})
        channel.remove(SMILE)
        assert not (files / SMILE).exists()


@pytest.mark.parametrize("interpreter", PYTHONS, ids=lambda path: "own" if path == sys.executable else Path(path).parts[-3])
def test_a_workspace_that_cannot_be_written_is_named_in_any_locale(lab, interpreter):
    lab.rc.write_text(LOCALES["C alone"])
    (lab.home / "büro").write_text("a file in its place")
    with SshChannel(lab.address(python=interpreter, workspace="büro")) as channel, pytest.raises(TargetError, match="büro/files: Not a directory"):
        channel.greet()
