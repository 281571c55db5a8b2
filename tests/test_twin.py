"""The emulated arm64 machine: its parts anywhere, the machine itself where FERCOMPRESS_TWIN=1 (it downloads packages and takes minutes)."""

import importlib.util
import json
import os
import secrets
import shlex
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle

import fercompress
from fercompress.config import Measure
from fercompress.measure.board import connect, load_board
from fercompress.measure.session import MeasuredBundle, measure
from fercompress.records import REBOOTED, Status

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


@pytest.fixture(scope="module")
def target(machine, tmp_path_factory):
    """The twin as a target file, its host key known."""
    path = tmp_path_factory.mktemp("target") / "twin.toml"
    path.write_text(machine.target() + f"known_hosts = {json.dumps(str(machine.known_hosts()))}\n")
    return path


def _fercompress(*words, folder=None):
    return subprocess.run([sys.executable, "-m", "fercompress", *map(str, words)], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def provisioned(machine, target, tmp_path_factory):
    """Wheels for its Python, fetched by the very command that is printed where there are none. returns: what the second attempt said"""
    house = tmp_path_factory.mktemp("wheelhouse")
    cleaned = _fercompress("board", "clean", target, "--all")  # the twin's disk outlives it
    assert cleaned.returncode == 0, cleaned.stderr
    refused = _fercompress("board", "provision", target, "--wheelhouse", house)
    assert refused.returncode == 2, refused.stderr
    (command,) = [line for line in refused.stderr.splitlines() if "pip download" in line]
    words = shlex.split(command)
    assert words[0] == "python3"
    subprocess.run([sys.executable, *words[1:]], check=True)
    done = _fercompress("board", "provision", target, "--wheelhouse", house)
    assert done.returncode == 0, done.stderr
    _said(machine, "sync")  # a later power cut is not about this
    return done.stdout


@emulated
@pytest.mark.timeout(1800)
def test_the_printed_command_fetches_wheels_by_which_its_engines_start(target, provisioned):
    assert "installed in .cache/fercompress/files/site/" in provisioned
    assert "serves: onnxruntime" in provisioned
    checked = _fercompress("board", "check", target, "--json")
    found = {finding["what"]: finding["level"] for finding in json.loads(checked.stdout)}
    assert found["engine onnxruntime"] == found["engine numpy"] == "ok"


STUDY = """
[study]
name = "tiny"
baseline = "dense-fp32"
[data]
name = "synthetic"
train_clips = 42
validation_clips = 14
test_clips = 14
frames = 4
size = 32
[model]
zoo = "small"
hidden = 8
[train]
epochs = 1
[fine_tune]
epochs = 1
[measure]
rounds = 1
passes = ["accuracy", "latency"]
[[variant]]
name = "dense-fp32"
[[variant]]
name = "tt-r2"
recipe = [{ step = "tensor-train", rank = 2 }]
"""


@emulated
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("provisioned")
def test_a_tiny_study_has_the_same_labels_there_as_here_and_no_latency(target, tmp_path):
    (tmp_path / "tiny.toml").write_text(STUDY)
    done = _fercompress("run", "tiny.toml", "--out", "out", "--target", "localhost", "--target", target, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    run = fercompress.load(tmp_path / "out")
    predicted = run.predictions.set_index(["target", "variant", "clip"]).sort_index()
    here, there = predicted.loc["localhost"], predicted.loc["twin"]
    assert len(here) == len(there) == 2 * 14
    assert (here["predicted"] == there["predicted"]).all()
    np.testing.assert_allclose(here.filter(like="logit_"), there.filter(like="logit_"), rtol=1e-4, atol=1e-5)
    accuracy = run.summary.pivot_table(index="variant", columns="target", values="accuracy")
    assert (accuracy["localhost"] == accuracy["twin"]).all()
    blocks = run.blocks[(run.blocks["target"] == "twin") & (run.blocks["pass"] == "latency")]
    assert set(blocks["status"]) == {"excluded"}


@emulated
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("provisioned")
def test_a_power_cut_in_mid_block_is_survived_and_the_block_is_measured_anew(machine, target, tmp_path):
    rows = np.resize(np.array([1, 3, 5, 8, 9], np.int64), 3000)  # so many that the block lasts
    bundles = {"a": [MeasuredBundle(tiny_bundle.write(tmp_path / "a"), 0, "f", rows)]}
    board, blocks, cuts = load_board(str(target)), [], []
    run_id = secrets.token_hex(8)  # the disk outlives the emulator, and with it what another run of this test left

    def cut() -> None:
        # The name of an accuracy job whose command has been started.
        look = (
            "cd .cache/fercompress && for f in $(grep -l accuracy files/jobs/*.json); do test -s jobs/$(basename $f .json)/pids.json && echo $f; done"
        )
        limit = time.monotonic() + 900
        while time.monotonic() < limit:
            found = subprocess.run([*machine.ssh(), look], capture_output=True, text=True, check=False)
            if found.stdout.strip():
                time.sleep(15)  # Python and the runtime take about as long to start there
                machine.power_cut()
                cuts.append(machine.up())
                return

    thread = threading.Thread(target=cut)
    thread.start()
    channel = connect(board, tmp_path / "unused", run_id)
    with channel:
        measure(
            bundles, tiny_bundle.clips(), Measure(passes=("accuracy",)), board, channel, tmp_path / "work",
            done=(), record=blocks.append, progress=lambda _: None, run_id=run_id,
        )  # fmt: skip
    thread.join()
    assert len(cuts) == 1
    assert [(block.status, block.reason) for block in blocks] == [(Status.EXCLUDED, REBOOTED), (Status.OK, "")]
    expected = tiny_bundle.logits_by_numpy(tiny_bundle.clips().frames[rows])
    np.testing.assert_allclose(blocks[1].logits, expected, rtol=1e-4, atol=1e-4)
