"""`fercompress board` as a person types it, against a real sshd."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from sshlab import Sshd, eventually

from fercompress.cli import app
from fercompress.errors import InputError, TargetBusyError, TargetError
from fercompress.measure.sshchannel import SshChannel


def target(lab: Sshd, folder: Path, known_hosts: Path | None = None, **more: str) -> str:
    address = lab.address()
    keys = {
        "kind": "ssh", "host": address.host, "user": address.user, "key": str(address.key), "python": address.python, "workspace": address.workspace,
        "known_hosts": str(known_hosts or lab.known_hosts), **more,
    }  # fmt: skip
    path = folder / "mine.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()) + f"port = {lab.port}\nunreachable_s = 5\n")
    return str(path)


def board(*arguments: str, **more: str):
    return CliRunner().invoke(app, ["board", *arguments], standalone_mode=False, catch_exceptions=False, **more)


def test_a_key_is_pinned_once_it_is_compared_and_the_board_can_then_be_checked(lab: Sshd, tmp_path: Path) -> None:
    pinned = tmp_path / "config" / "known_hosts"
    file = target(lab, tmp_path, pinned)
    with pytest.raises(InputError, match="is not SHA256:other: nothing was pinned"):
        board("trust", file, "--fingerprint", "SHA256:other")
    assert not pinned.exists()
    assert f"pinned in {pinned}" in board("trust", file, "--fingerprint", lab.fingerprint()).output
    assert "is pinned already" in board("trust", file).output
    result = board("check", file, "--json")
    found = {finding["what"]: finding["level"] for finding in json.loads(result.output)}
    assert found["link"] == found["engine onnxruntime"] == found["python"] == "ok"


def test_nothing_is_pinned_without_a_yes(lab: Sshd, tmp_path: Path) -> None:
    pinned = tmp_path / "known_hosts"
    result = CliRunner().invoke(app, ["board", "trust", target(lab, tmp_path, pinned)], input="n\n")
    assert lab.fingerprint() in result.output
    assert result.exit_code == 1
    assert not pinned.exists()


def test_a_key_that_changed_is_pinned_only_when_it_is_said_to_replace(lab: Sshd, tmp_path: Path) -> None:
    pinned = tmp_path / "known_hosts"
    file = target(lab, tmp_path, pinned)
    board("trust", file, "--yes")
    lab.kill()
    lab.new_host_key()
    lab.start()
    with pytest.raises(InputError, match="another key is pinned"):
        board("trust", file, "--yes")
    board("trust", file, "--yes", "--replace")
    assert "is pinned already" in board("trust", file).output


def test_a_board_that_does_not_answer_fails_its_check_with_what_to_try(lab: Sshd, tmp_path: Path) -> None:
    file = target(lab, tmp_path)
    lab.stop()
    result = board("check", file)
    assert result.return_value == TargetError.exit_code
    assert "is the board up" in " ".join(result.output.split())


def test_what_was_put_there_is_removed(lab: Sshd, tmp_path: Path) -> None:
    file = target(lab, tmp_path)
    board("check", file, "--json")
    (lab.files / "large").write_bytes(b"x" * 3_000_000)
    assert "3.0 MB freed on mine" in board("clean", file).output
    assert [path.suffix for path in lab.files.iterdir()] == [".pyz"]
    board("clean", file, "--all")
    assert list(lab.files.iterdir()) == []


WAITS = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.02)"


def left_by_a_dead_host(lab: Sshd) -> str:
    """A command of a run whose host was killed runs on. returns: the host's name"""
    with SshChannel(lab.address(), "run-1") as channel:
        channel.greet()
        start = {"job": "ab", "argv": [channel.address.python, "-c", WAITS], "deadline_s": 100, "limit_bytes": 1000, "check": {}}
        assert channel._ask("start", start)[0]["state"] == "running"
        name = channel.owner["name"]
    assert eventually(lambda: not lab.sessions())
    return name


def test_what_another_run_uses_is_not_removed_and_its_host_is_named(lab: Sshd, tmp_path: Path) -> None:
    file = target(lab, tmp_path)
    with SshChannel(lab.address(), "run-1") as channel:
        channel.greet()
        (lab.files / "needed").write_bytes(b"x")
        with pytest.raises(TargetBusyError) as caught:
            board("clean", file)
        assert str(caught.value).startswith(f"target 'mine': {channel.owner['name']} measures there since 20")
        assert "not connected" not in str(caught.value)
        assert str(caught.value).endswith("end it: fercompress board clean mine --end")
        assert (lab.files / "needed").exists()


def test_while_a_dead_hosts_command_runs_nothing_is_removed_and_after_its_end_it_is_said_whose_it_was(lab: Sshd, tmp_path: Path) -> None:
    file, name = target(lab, tmp_path), left_by_a_dead_host(lab)
    (lab.files / "left").write_bytes(b"x" * 2_000_000)
    with pytest.raises(TargetBusyError, match=r"its host is not connected, a job of its runs on, for \d+ s at most"):
        board("clean", file)
    assert (lab.files / "left").exists()
    (lab.files / "go").touch()

    def cleaned() -> str:
        try:
            return board("clean", file).output
        except TargetBusyError:
            return ""

    said: list[str] = []
    assert eventually(lambda: said.append(cleaned()) or said[-1])
    assert said[-1].startswith(f"2.0 MB freed on mine; the last there was {name}, since 20")
    assert not (lab.files / "left").exists()


def test_another_run_is_ended_where_a_person_says_so(lab: Sshd, tmp_path: Path) -> None:
    file = target(lab, tmp_path)
    left_by_a_dead_host(lab)
    assert "the last there was" in board("clean", file, "--end").output
    assert not any(WAITS in process.cmdline() for process in lab.lab_processes())
    with SshChannel(lab.address(unreachable_s=2), "run-2") as channel:  # one that is connected is put out too, and does not come back
        channel.greet()
        assert "the last there was" in board("clean", file, "--end", "--all").output
    assert list(lab.files.iterdir()) == []


def test_this_machine_can_be_checked_too_but_has_no_host_key() -> None:
    assert "engine onnxruntime" in board("check", "localhost").output
    with pytest.raises(InputError, match="is not reached over SSH"):
        board("trust", "localhost")
