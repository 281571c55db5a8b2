"""Run the agent's tests under every old CPython that pyenv holds: `python tests/agent/run_old_pythons.py`."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
WANTED = ("3.6", "3.7")


def interpreters():
    """{"3.6": path or None, ...}: BOARD_PYTHON_3_6 wins, then the newest one under pyenv."""
    versions = pathlib.Path(os.environ.get("PYENV_ROOT") or pathlib.Path.home() / ".pyenv") / "versions"
    found = {}
    for wanted in WANTED:
        given = os.environ.get("BOARD_PYTHON_" + wanted.replace(".", "_"))
        installed = sorted(versions.glob(wanted + ".*/bin/python"))
        found[wanted] = given or (str(installed[-1]) if installed else None)
    return found


def main():
    failed = False
    for wanted, python in interpreters().items():
        if python is None:
            print("CPython %s: skipped, none under pyenv and BOARD_PYTHON_%s is not set" % (wanted, wanted.replace(".", "_")), flush=True)
            continue
        print("CPython %s: %s" % (wanted, python), flush=True)
        environment = dict(os.environ, PYTHONPATH=str(ROOT / "remote"), PYTHONDONTWRITEBYTECODE="1", LANG="C", LC_ALL="C")
        failed |= subprocess.call([python, "-m", "unittest", "discover", "-s", "tests/agent"], cwd=str(ROOT), env=environment) != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
