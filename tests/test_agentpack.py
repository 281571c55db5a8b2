import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import fercompress_agent
import pytest

from fercompress.measure import agentpack

SOURCE = Path(fercompress_agent.__file__).parent


def test_two_packs_are_the_same_bytes_and_the_name_holds_their_sha256():
    first, second = agentpack.pack(), agentpack.pack()
    assert first == second
    assert first.sha256 == hashlib.sha256(first.data).hexdigest()
    assert first.name == f"agent-{first.sha256[:16]}.pyz"


def test_a_copy_with_other_dates_line_ends_caches_and_file_order_packs_the_same_bytes(tmp_path):
    for source in sorted(SOURCE.glob("*.py"), reverse=True):
        copy = tmp_path / source.name
        copy.write_bytes(source.read_bytes().replace(b"\n", b"\r\n"))
        os.utime(copy, (0, 0))
        copy.chmod(0o700)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert agentpack.pack(tmp_path) == agentpack.pack()


def test_another_agent_has_another_name(tmp_path):
    shutil.copytree(SOURCE, tmp_path / "agent")
    with (tmp_path / "agent" / "timing.py").open("a") as file:
        file.write("# changed\n")
    assert agentpack.pack(tmp_path / "agent").name != agentpack.pack().name


def test_the_pack_holds_every_module_and_nothing_else():
    names = zipfile.ZipFile(io.BytesIO(agentpack.pack().data)).namelist()
    modules = [f"fercompress_agent/{path.name}" for path in SOURCE.glob("*.py")]
    assert names == sorted(["__main__.py", *modules])


@pytest.mark.parametrize("version", ["3.6", "3.7"])
def test_the_pack_runs_under_the_python_of_a_board(tmp_path, version):
    found = sorted((Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions").glob(f"{version}.*/bin/python"))
    if not found:
        pytest.skip(f"no CPython {version} under pyenv")
    run(str(found[-1]), tmp_path)


def test_the_pack_runs_under_this_python(tmp_path):
    run(sys.executable, tmp_path)


def run(python: str, folder: Path) -> None:
    pack = agentpack.pack()
    (folder / pack.name).write_bytes(pack.data)
    (folder / "job.json").write_text('{"schema": 1, "job": "probe", "nonce": "n", "result": "result.json"}')
    done = subprocess.run([python, "-W", "error", pack.name, "job.json"], cwd=folder, capture_output=True, env={**os.environ, "LC_ALL": "C"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b'"nonce": "n"' in (folder / "result.json").read_bytes()
