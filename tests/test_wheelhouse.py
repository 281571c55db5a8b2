"""Which wheel fits which board: names as they stand on the package index, interpreters as boards have them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from fercompress_agent import wheels
from hypothesis import given
from hypothesis import strategies as st
from packaging.tags import sys_tags
from wheel_files import write_wheel

from fercompress.errors import AgentError, InputError
from fercompress.measure.wheelhouse import Choice, Interpreter, choose, interpreter

NUMPY = [
    "numpy-1.16.2-cp37-cp37m-linux_aarch64.whl",
    "numpy-1.19.5-cp36-cp36m-manylinux2014_aarch64.whl",
    "numpy-1.21.6-cp37-cp37m-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
    "numpy-1.21.6-cp37-cp37m-manylinux_2_12_x86_64.manylinux2010_x86_64.whl",
    "numpy-1.26.4-cp39-cp39-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
    "numpy-1.26.4-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
    "numpy-2.4.6-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
    "numpy-2.4.6-cp311-cp311-musllinux_1_2_aarch64.whl",
]
ONNXRUNTIME = [
    "onnxruntime-1.14.1-cp37-cp37m-manylinux_2_27_aarch64.whl",
    "onnxruntime-1.16.3-cp39-cp39-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
    "onnxruntime-1.16.3-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
    "onnxruntime-1.26.0-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
]
DEBIAN_9, UBUNTU_18, DEBIAN_10 = (Interpreter((3, minor), "aarch64", (2, glibc), "m") for minor, glibc in ((5, 24), (6, 27), (7, 28)))
DEBIAN_11, DEBIAN_12 = Interpreter((3, 9), "aarch64", (2, 31)), Interpreter((3, 11), "aarch64", (2, 36))


@pytest.fixture
def house(tmp_path: Path) -> Path:
    for name in NUMPY:
        write_wheel(tmp_path, name)
    for name in ONNXRUNTIME:
        write_wheel(tmp_path, name, ["numpy (>=1.21.6)", "coloredlogs", "sympy", "flatbuffers", "protobuf", 'backports; python_version < "3"'])
    return tmp_path


def names(choice: Choice) -> list[str]:
    return [wheel.path.name for wheel in choice.wheels]


@pytest.mark.parametrize(
    ("target", "wheels"),
    [
        (DEBIAN_10, [NUMPY[2], ONNXRUNTIME[0]]),
        (DEBIAN_11, [NUMPY[4], ONNXRUNTIME[1]]),
        (DEBIAN_12, [NUMPY[6], ONNXRUNTIME[3]]),
        (Interpreter((3, 11), "aarch64", (2, 24)), [NUMPY[5], ONNXRUNTIME[2]]),  # the glibc is too old for the newer ones
        (UBUNTU_18, [NUMPY[1]]),
        (Interpreter((3, 7), "x86_64", (2, 28), "m"), [NUMPY[3]]),
        (Interpreter((3, 7), "aarch64", None, "m"), [NUMPY[0]]),  # without glibc only what was built for this very system
    ],
)
def test_the_newest_wheels_that_the_interpreter_and_its_glibc_take_are_chosen(house: Path, target: Interpreter, wheels: list[str]) -> None:
    found = choose(house, ["rknnlite", "onnxruntime", "numpy"], target)
    assert names(found) == wheels
    assert found.engines == (("onnxruntime", "numpy") if len(wheels) == 2 else ("numpy",))


def test_where_nothing_fits_it_says_what_was_looked_for_and_what_there_is(house: Path) -> None:
    found = choose(house, ["onnxruntime", "numpy"], DEBIAN_9)
    assert found.wheels == ()
    assert found.lacking["numpy"].startswith("no wheel of numpy for cpython 3.5 (cp35m) on aarch64, glibc 2.24; ")
    assert all(name in found.lacking["numpy"] for name in NUMPY)
    empty = choose(house / "..", ["numpy"], DEBIAN_10)
    assert empty.lacking["numpy"].endswith("has none of it")


def test_numpy_2_is_not_paired_with_an_onnxruntime_that_was_built_before_it(house: Path) -> None:
    (house / ONNXRUNTIME[3]).unlink()
    assert names(choose(house, ["onnxruntime"], DEBIAN_12)) == [NUMPY[5], ONNXRUNTIME[2]]


def test_a_wheel_whose_metadata_refuse_the_python_gives_way_to_an_older_one(tmp_path: Path) -> None:
    write_wheel(tmp_path, "numpy-3.0-py3-none-any.whl", python=">=3.9")
    write_wheel(tmp_path, "numpy-1.0-py3-none-any.whl", python=">=3.7.1,<3.8")
    assert names(choose(tmp_path, ["numpy"], DEBIAN_10)) == ["numpy-1.0-py3-none-any.whl"]
    assert "numpy-3.0-py3-none-any.whl (for another Python, by its metadata)" in choose(tmp_path, ["numpy"], UBUNTU_18).lacking["numpy"]


def test_what_a_wheel_imports_comes_along_and_bounds_of_several_hold_together(tmp_path: Path) -> None:
    for name, requires in (
        ("onnxruntime-2.0-py3-none-any.whl", ["numpy<3", "ml_dtypes>1", 'sympy; extra == "symbolic"']),
        ("ml_dtypes-1.5-py3-none-any.whl", ["numpy<2.5"]),
        *((f"numpy-{version}-py3-none-any.whl", []) for version in ("2.2", "2.6", "3.1")),
    ):
        write_wheel(tmp_path, name, requires)
    assert names(choose(tmp_path, ["onnxruntime"], DEBIAN_12)) == [
        f"{name}-py3-none-any.whl" for name in ("ml_dtypes-1.5", "numpy-2.2", "onnxruntime-2.0")
    ]


def test_a_file_that_is_no_wheel_is_named(tmp_path: Path) -> None:
    (tmp_path / "numpy-1.0-py3-none-any.whl").write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"numpy-1\.0-py3-none-any\.whl: cannot be read as a wheel"):
        choose(tmp_path, ["numpy"], DEBIAN_10)
    with pytest.raises(InputError, match="no such folder; make one and fill it: python3 -m pip download"):
        choose(tmp_path / "absent", ["numpy"], DEBIAN_10)


def test_a_32_bit_python_on_a_64_bit_kernel_takes_32_bit_wheels(tmp_path: Path) -> None:
    write_wheel(tmp_path, "numpy-1.0-cp37-cp37m-linux_armv7l.whl")
    facts = {
        "version": [3, 7],
        "machine": "aarch64",
        "libc": ["glibc", "2.28"],
        "abiflags": "m",
        "bits": 32,
        "implementation": "cpython",
        "system": "Linux",
    }
    assert names(choose(tmp_path, ["numpy"], interpreter(facts))) == ["numpy-1.0-cp37-cp37m-linux_armv7l.whl"]
    assert choose(tmp_path, ["numpy"], interpreter({**facts, "bits": 64})).wheels == ()
    with pytest.raises(AgentError, match="cannot be used"):
        interpreter({**facts, "version": "three"})
    with pytest.raises(InputError, match="provisioned to Linux"):
        interpreter({**facts, "system": "Darwin"})


@pytest.mark.skipif(sys.platform != "linux", reason="compares with this machine's own tags, of which only Linux' are known here")
def test_of_this_very_interpreter_the_tags_are_those_that_pip_has() -> None:
    ours = interpreter(wheels.interpreter())
    if ours.glibc is None:
        pytest.skip("no glibc here")
    assert set(ours.tags) == set(sys_tags())


@given(st.integers(6, 13), st.integers(17, 40), st.sampled_from(["aarch64", "x86_64"]))
def test_a_newer_glibc_takes_all_that_an_older_one_takes(minor: int, glibc: int, machine: str) -> None:
    older, newer = (set(Interpreter((3, minor), machine, (2, number)).tags) for number in (glibc, glibc + 1))
    assert older < newer


def test_the_printed_command_is_one_that_pip_understands(tmp_path: Path) -> None:
    """pip refuses words that it does not know before it looks anywhere; a folder instead of an index keeps it from the network."""
    words = shlex.split(DEBIAN_10.download(tmp_path / "a folder", ["numpy"]))
    assert words[1:4] == ["-m", "pip", "download"]
    assert words[words.index("--dest") + 1] == str(tmp_path / "a folder")
    write_wheel(tmp_path, NUMPY[2])
    offline = ["--no-index", "--find-links", str(tmp_path), "--disable-pip-version-check"]
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        pytest.skip("this Python has no pip")
    done = subprocess.run([sys.executable, *words[1:], *offline], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.search(NUMPY[2], "".join(path.name for path in (tmp_path / "a folder").iterdir()))
