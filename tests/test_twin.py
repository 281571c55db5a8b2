"""The emulated arm64 machine: its parts anywhere, the machine itself where FERCOMPRESS_TWIN=1 (it downloads packages and takes minutes)."""

import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "remote" / "twin"


def _load():
    """The package from its folder alone: the folder around it also holds the agent, which must not shadow the installed one."""
    found = importlib.util.spec_from_file_location("twin", SOURCE / "__init__.py", submodule_search_locations=[str(SOURCE)])
    sys.modules["twin"] = importlib.util.module_from_spec(found)
    found.loader.exec_module(sys.modules["twin"])


_load()
from twin import image, packages  # noqa: E402
from twin.machine import Machine  # noqa: E402

emulated = pytest.mark.skipif(os.environ.get("FERCOMPRESS_TWIN") != "1", reason="boots an emulated machine for minutes: set FERCOMPRESS_TWIN=1")


def _module(folder, name, depends):
    path = folder / f"{name}.ko"
    path.write_bytes(b"\x7fELF license=GPL\0depends=" + ",".join(depends).encode() + b"\0name=x\0")
    return path


def test_a_kernel_module_is_loaded_after_those_it_needs_and_once(tmp_path):
    ring = _module(tmp_path, "virtio-ring", [])
    disk = _module(tmp_path, "virtio_blk", ["virtio_ring"])
    net = _module(tmp_path, "virtio_net", ["net_failover", "virtio_ring"])
    assert image.module_order(("virtio_blk", "virtio_net"), tmp_path) == [ring, disk, net]


def test_a_module_that_the_kernel_has_built_in_is_left_out(tmp_path):
    assert image.module_order(("ext4",), tmp_path) == []


def test_an_archive_names_its_entries_and_ends_with_the_trailer():
    archive = image.cpio({"bin": None, "init": b"#!/bin/sh\n"})
    # Fixed by the format: 110 bytes of header, the name with its zero, each part padded to four bytes.
    assert archive[:6] == archive[116:122] == b"070701"
    assert archive[110:114] == b"bin\0"
    assert int(archive[14:22], 16) == 0o040755
    assert b"init\0" in archive
    assert b"#!/bin/sh\n\0\0" in archive
    assert archive.rstrip(b"\0").endswith(b"TRAILER!!!")
    assert len(archive) % 4 == 0


def test_the_mirror_is_the_one_of_this_machine(tmp_path):
    (tmp_path / "sources.list").write_text("# deb http://old.example/debian bookworm main\n")
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (folder / "debian.sources").write_text("Types: deb\nURIs: http://mirror.example/debian-security\n\nURIs: http://mirror.example/debian\n")
    assert packages.mirror(tmp_path) == "http://mirror.example/debian"


def test_no_mirror_is_told_with_what_to_do(tmp_path):
    with pytest.raises(packages.TwinError, match="--mirror"):
        packages.mirror(tmp_path)


def test_the_target_file_says_that_it_is_emulated(tmp_path):
    target = tomllib.loads(Machine(tmp_path, 2364).target())
    assert (target["kind"], target["emulated"], target["port"]) == ("ssh", True, 2364)


def test_a_process_number_that_now_belongs_to_another_program_is_not_the_emulator(tmp_path):
    machine = Machine(tmp_path, 2364)
    machine.pid_file.write_text(str(os.getpid()))
    assert machine.pid() is None
    machine.power_cut()  # and this process goes on


@pytest.fixture(scope="module")
def machine():
    port = 2365
    subprocess.run([sys.executable, str(SOURCE), "up", "--port", str(port)], check=True)
    folder = Path(os.environ.get("FERCOMPRESS_TWIN_FOLDER", Path.home() / ".cache/fercompress-twin")) / "bookworm"
    yield Machine(folder, port)
    subprocess.run([sys.executable, str(SOURCE), "down", "--port", str(port)], check=True)


def _said(machine, command):
    return subprocess.run([*machine.ssh(), command], check=True, capture_output=True, text=True).stdout.strip()


@emulated
@pytest.mark.timeout(1200)
def test_it_is_an_arm64_linux_with_a_python(machine):
    assert _said(machine, "uname -m") == "aarch64"
    assert _said(machine, "python3 -c 'import hashlib, ctypes, sys; print(sys.version_info[:2] >= (3, 9))'") == "True"


@emulated
@pytest.mark.timeout(1200)
def test_what_was_written_survives_a_power_cut_and_the_kernel_starts_anew(machine):
    before = _said(machine, "cat /proc/sys/kernel/random/boot_id")
    _said(machine, "echo kept > kept; sync")
    job = subprocess.Popen([*machine.ssh(), "while true; do date >> journal; sync; done"])
    try:
        job.wait(timeout=5)
    except subprocess.TimeoutExpired:
        machine.power_cut()
    assert job.wait(timeout=60) != 0
    assert machine.pid() is None
    machine.up()
    assert _said(machine, "cat kept") == "kept"
    assert int(_said(machine, "wc -l < journal")) > 0
    assert _said(machine, "cat /proc/sys/kernel/random/boot_id") != before
