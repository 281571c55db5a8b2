"""The Python that has rknn-toolkit 1.7: its path in, a `Converter` out, or what is wrong with it."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import shutil
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from fercompress.errors import InputError
from fercompress.export.rknn_operators import VERSIONS

VERSION_S = 300.0  # within which it must say its version: it imports TensorFlow, perhaps in a container that starts first
REMEDY = "give the Python that has rknn-toolkit 1.7 (--rknn-python; remote/fercompress_convert/README.md says how to get one)"


@dataclass(frozen=True)
class Converter:
    """Where to convert: the Python that has the toolkit, the toolkit's version, and how long one conversion may take."""

    python: str
    toolkit: str = "1.7.5"
    deadline_s: float = 1800.0

    def __post_init__(self) -> None:
        if self.toolkit not in VERSIONS:
            raise InputError(f"rknn-toolkit {self.toolkit!r} is not known: choose one of {', '.join(VERSIONS)}")


def converter(python: str) -> Converter:
    """The toolkit of a Python, asked for its version. python: a path, or a name on PATH. raises: InputError where there is none that is known"""
    found = os.path.abspath(python) if os.sep in python else shutil.which(python)  # not resolved: a link may be what makes it that Python
    if found is None or not Path(found).is_file():
        raise InputError(f"{python}: no such program; {REMEDY}")
    with script() as path:
        try:
            done = subprocess.run([found, str(path), "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=VERSION_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise InputError(f"{python}: told no version of rknn-toolkit within {VERSION_S:g} s; {REMEDY}") from error
        except OSError as error:
            raise InputError(f"{python}: cannot be run ({error.strerror}); {REMEDY}") from error
    try:
        answer = json.loads(done.stdout.decode("utf-8", "replace").strip().splitlines()[-1])  # before it, the toolkit may have printed more
        told = str(answer["toolkit"]) if answer["ok"] else ""
        why = "" if told else str(answer["reason"])
    except (ValueError, KeyError, TypeError, IndexError):
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        told, why = "", f"exit code {done.returncode}: {said[-1][:300]}"
    if not told:
        raise InputError(f"{python}: cannot import rknn-toolkit ({why}); {REMEDY}")
    version = re.search(r"\d+\.\d+\.\d+", told)
    # Of a version that is not told, the limits of the oldest are taken: what it reads, all read.
    toolkit = version[0] if version else min(VERSIONS)
    if toolkit not in VERSIONS:
        raise InputError(f"{python}: has {told}, known are {', '.join(VERSIONS)}; {REMEDY}")
    return Converter(found, toolkit)


def script() -> AbstractContextManager[Path]:
    """The stand-alone script that it runs, as a file."""
    return importlib.resources.as_file(importlib.resources.files("fercompress_convert").joinpath("convert.py"))
