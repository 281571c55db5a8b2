"""A small wheel, written by hand: what a tag or a requirement promises is tried without building anything."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path


def write_wheel(folder: Path, name: str, requires: Sequence[str] = (), python: str = "", code: str = "", **more: str) -> Path:
    """name: a wheel's file name, whose first part is the one package inside; more: further files, by name"""
    project, version = name.split("-")[:2]
    tag = name.removesuffix(".whl").split("-", 2)[2]
    lines = ["Metadata-Version: 2.1", f"Name: {project}", f"Version: {version}", *(f"Requires-Dist: {each}" for each in requires)]
    files = {
        f"{project}/__init__.py": code or f"__version__ = {version!r}\n",
        f"{project}-{version}.dist-info/METADATA": "\n".join([*lines, *([f"Requires-Python: {python}"] if python else []), "", ""]),
        f"{project}-{version}.dist-info/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        **more,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, text in files.items():
            archive.writestr(inside, text)
    return folder / name
