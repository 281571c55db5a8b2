"""`fercompress board` as a person types it, against a real sshd."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from sshlab import Sshd

from fercompress.cli import app
from fercompress.errors import InputError, TargetError


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


def test_this_machine_can_be_checked_too_but_has_no_host_key() -> None:
    assert "engine onnxruntime" in board("check", "localhost").output
    with pytest.raises(InputError, match="is not reached over SSH"):
        board("trust", "localhost")
