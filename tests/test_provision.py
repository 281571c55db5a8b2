"""`fercompress board provision` against a real sshd: wheels go there, unpacked, and the agent there imports them."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest
from sshlab import Sshd
from test_boardcli import board, target
from wheel_files import write_wheel

from fercompress.errors import DiskFullError, InputError

NUMPY = "numpy-99.0-py3-none-any.whl"
OTHER = "numpy-98.0-cp35-cp35m-manylinux2014_aarch64.whl"


@pytest.fixture
def file(lab: Sshd, tmp_path: Path) -> str:
    """A target whose Python has no numpy of that version, of course: what the agent tells can only come from the wheel."""
    path = Path(target(lab, tmp_path))
    path.write_text(path.read_text() + 'engines = ["numpy", "null"]\n')
    return str(path)


def site(lab: Sshd) -> list[str]:
    return sorted(path.name for path in (lab.files / "site").iterdir())


def checked(file: str) -> dict[str, str]:
    return {finding["what"]: finding["found"] for finding in json.loads(board("check", file, "--json").output)}


def test_wheels_are_installed_for_the_agent_alone_once_and_are_gone_after_clean_all(lab: Sshd, file: str, tmp_path: Path) -> None:
    house = tmp_path / "wheelhouse"
    write_wheel(house, NUMPY)
    write_wheel(house, OTHER)
    planned = board("provision", file, "--wheelhouse", str(house), "--plan")
    assert f"  {NUMPY}, unpacked " in planned.output
    assert "would serve: numpy" in planned.output
    assert not (lab.files / "site").exists()

    done = board("provision", file, "--wheelhouse", str(house))
    assert "installed in work/files/site/" in done.output
    assert list((lab.files / "wheels").iterdir()) == []  # the wheels themselves only take room
    found = checked(file)
    assert found["provisioned"] == "numpy 99.0"
    assert found["engine numpy"] == "numpy 99.0"
    assert importlib.metadata.version("numpy") != "99.0"  # nothing outside the workspace changed

    before = {path: path.stat().st_mtime_ns for path in (lab.files / "site").rglob("*.py")}
    again = board("provision", file, "--wheelhouse", str(house))
    assert "already there: work/files/site/" in again.output
    assert "send" not in again.output
    assert {path: path.stat().st_mtime_ns for path in (lab.files / "site").rglob("*.py")} == before

    board("clean", file)
    assert checked(file)["provisioned"] == "numpy 99.0"
    board("clean", file, "--all")
    assert "provisioned" not in checked(file)


def test_a_newer_wheel_replaces_the_older_and_a_damaged_installation_is_mended(lab: Sshd, file: str, tmp_path: Path) -> None:
    house = tmp_path / "wheelhouse"
    write_wheel(house, "numpy-97.0-py3-none-any.whl")
    board("provision", file, "--wheelhouse", str(house))
    first = site(lab)
    write_wheel(house, NUMPY)
    board("provision", file, "--wheelhouse", str(house))
    assert checked(file)["engine numpy"] == "numpy 99.0"
    assert len(site(lab)) == len(first) == 2  # the record, and one folder
    (module,) = (lab.files / "site").rglob("numpy/__init__.py")
    module.unlink()
    assert "provisioned" not in checked(file)
    assert "installed in" in board("provision", file, "--wheelhouse", str(house)).output
    assert checked(file)["engine numpy"] == "numpy 99.0"


def test_where_nothing_fits_the_command_that_fills_the_wheelhouse_is_given(file: str, tmp_path: Path) -> None:
    house = tmp_path / "wheelhouse"
    write_wheel(house, OTHER)
    with pytest.raises(InputError, match="no engine can be provisioned") as refused:
        board("provision", file, "--wheelhouse", str(house))
    assert f"has {OTHER} (for another system or Python)" in str(refused.value)
    assert f"python3 -m pip download --only-binary=:all: --no-deps --dest {house} --platform " in str(refused.value)


def test_a_wheel_that_does_not_fit_the_budget_is_refused_before_it_is_sent(lab: Sshd, file: str, tmp_path: Path) -> None:
    house = tmp_path / "wheelhouse"
    write_wheel(house, NUMPY, code="#" * 60_000_000)
    Path(file).write_text("disk_mb = 64\n" + Path(file).read_text())
    with pytest.raises(DiskFullError, match=r"numpy-99\.0-py3-none-any\.whl need \d+ MiB unpacked"):
        board("provision", file, "--wheelhouse", str(house))
    assert not (lab.files / "wheels").exists()


def test_a_wheel_that_would_write_elsewhere_is_refused_there(lab: Sshd, file: str, tmp_path: Path) -> None:
    house = tmp_path / "wheelhouse"
    write_wheel(house, NUMPY, **{"../../../outside.py": "harm"})
    with pytest.raises(Exception, match="would not stay in its folder"):
        board("provision", file, "--wheelhouse", str(house))
    assert list(lab.home.rglob("outside.py")) == []
    assert site(lab) == []


def test_this_machine_is_not_provisioned() -> None:
    with pytest.raises(InputError, match="is not reached over SSH"):
        board("provision", "localhost", "--wheelhouse", ".")
