"""kill -9 of agent, sshd and host in the middle of a latency block: nothing is lost, nothing counts twice, and half a block is no sample."""

import json
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
import tiny_bundle
from sshlab import Sshd, eventually

from fercompress.config import Measure
from fercompress.measure.board import load_board
from fercompress.measure.session import MeasuredBundle, measure
from fercompress.measure.sshchannel import SshChannel
from fercompress.records import Block, Status
from fercompress.results.store import Store

LEAST_CLIPS, BLOCK_S = 4, 1.0  # long enough to be struck in mid-block
SETTINGS = Measure(rounds=1, block_clips=LEAST_CLIPS, block_s=BLOCK_S, warmup_clips=0, passes=("latency",))
ROWS = np.array([1, 3, 5, 8], np.int64)

# A host that can be killed: it records into a journal, and goes on with what that holds.
HOST = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_latency_faults import go_on
from fercompress.measure.endpoint import Address
go_on(Path({folder!r}), Address("127.0.0.1", "lab", {port}, {user!r}, Path({key!r}), sys.executable, "work", Path({known!r}), 20.0), {block_s})
"""


def go_on(folder: Path, address, block_s: float) -> None:
    """A session of two variants under one run's name, recorded in `folder`, as `fercompress run` does it."""
    copies = Path(tempfile.mkdtemp(dir=folder))  # the same bundles, whichever host writes them
    bundles = {name: [MeasuredBundle(tiny_bundle.write(copies / name, name, seed), 0, "f", ROWS)] for seed, name in enumerate("ab")}
    settings = SETTINGS.model_copy(update={"block_s": block_s})
    with Store.open(folder / "results.sqlite") as store, SshChannel(address, "run-1") as channel:
        measure(
            bundles, tiny_bundle.clips(), settings, load_board("localhost"), channel, folder / "host", done=store.done(), record=store.record,
            progress=lambda _: None, run_id="run-1", tried=store.tried(),
        )  # fmt: skip


class Study:
    def __init__(self, lab: Sshd, folder: Path) -> None:
        self.lab, self.folder, self.block_s = lab, folder, BLOCK_S

    def start(self) -> subprocess.Popen[bytes]:
        address = self.lab.address()
        script = HOST.format(
            tests=str(Path(__file__).parent), folder=str(self.folder), port=address.port, user=address.user, key=str(address.key),
            known=str(address.known_hosts), block_s=self.block_s,
        )  # fmt: skip
        self.host = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return self.host

    def agent_in_block(self, besides: set[int]) -> psutil.Process:
        """The agent of a latency block that has begun to time, other than those."""
        found: list[psutil.Process] = []

        def there() -> bool:
            found.extend(process for process in psutil.process_iter() if process.pid not in besides and self._times(process.pid))
            return bool(found)

        assert eventually(there, 30), self.host.poll()
        time.sleep(BLOCK_S / 4)
        return found[0]

    def _times(self, pid: int) -> bool:
        """Is this an agent at work on a latency block, its runtime loaded?"""
        proc = Path("/proc") / str(pid)
        try:
            words = proc.joinpath("cmdline").read_text().split("\0")
            if len(words) < 3 or not words[1].startswith("agent-") or proc.joinpath("cwd").readlink() != self.lab.files:
                return False
            return json.loads((self.lab.files / words[2]).read_text())["job"] == "latency" and "onnxruntime" in proc.joinpath("maps").read_text()
        except (OSError, ValueError):  # it ended meanwhile
            return False

    def blocks(self) -> list[Block]:
        """All that was ever recorded, redone ones too."""
        with Store.open(self.folder / "results.sqlite", writable=False) as store:
            return [entry.block for entry in store.entries()]

    def finish(self, host: subprocess.Popen[bytes]) -> None:
        _, said = host.communicate(timeout=60)
        assert host.returncode == 0, said.decode()[-2000:]


def check(study: Study, killed: set[int] = frozenset()) -> None:
    """Four blocks, each measured by one process that nothing has struck, whole."""
    good = [block for block in study.blocks() if block.status is Status.OK]
    assert Counter(block.key.variant for block in good) == {"a": 2, "b": 2}
    assert len({block.key for block in good}) == 4
    pids = [block.facts["pid"] for block in good]
    assert len(set(pids)) == 4
    assert not killed & set(pids)
    for block in good:
        assert len(block.clip_ns) >= LEAST_CLIPS
        assert sum(block.clip_ns) >= 0.5 * BLOCK_S * 1e9
        assert len(block.frame_ns) == tiny_bundle.FRAMES * len(block.clip_ns)
    for block in study.blocks():
        if block.status is not Status.OK:
            assert block.clip_ns == block.extractor_ns == block.predictor_ns == block.frame_ns == ()


def test_an_agent_killed_in_mid_block_leaves_no_sample_and_its_block_is_redone(lab, tmp_path):
    study = Study(lab, tmp_path)
    host = study.start()
    agent = study.agent_in_block(set())
    agent.kill()
    study.finish(host)
    check(study, {agent.pid})
    (broken,) = [block for block in study.blocks() if block.status is not Status.OK]
    assert "ended by SIGKILL" in broken.reason


def test_a_supervisor_killed_in_mid_block_leaves_no_sample_either(lab, tmp_path):
    study = Study(lab, tmp_path)
    host = study.start()
    agent = study.agent_in_block(set())
    agent.parent().kill()
    study.finish(host)
    check(study, {agent.pid})


def test_sshd_killed_in_mid_block_costs_no_block(lab, tmp_path):
    study = Study(lab, tmp_path)
    host = study.start()
    agent = study.agent_in_block(set())
    lab.kill()
    lab.start()
    study.finish(host)
    check(study)
    assert agent.pid in {block.facts["pid"] for block in study.blocks()}  # it ran to its end meanwhile
    assert all(block.status is Status.OK for block in study.blocks())


def test_a_host_killed_in_mid_block_takes_that_block_up_and_repeats_none(lab, tmp_path):
    study, seen = Study(lab, tmp_path), set()
    for _ in range(2):
        host = study.start()
        agent = study.agent_in_block(seen)
        host.kill()
        host.communicate()
        seen.add(agent.pid)
    study.finish(study.start())
    check(study)
    blocks = study.blocks()
    assert len(blocks) == 4
    assert seen <= {block.facts["pid"] for block in blocks}


def test_a_block_of_other_settings_that_a_killed_host_left_is_ended_before_a_block_is_timed(lab, tmp_path):
    study = Study(lab, tmp_path)
    study.block_s = 120.0
    host = study.start()
    left = study.agent_in_block(set())
    host.kill()
    host.communicate()
    study.block_s = BLOCK_S
    host = study.start()
    study.agent_in_block({left.pid})
    assert not left.is_running()
    study.finish(host)
    check(study, {left.pid})


def test_a_power_cut_in_mid_block_is_marked_and_its_samples_do_not_count(lab, tmp_path):
    study = Study(lab, tmp_path)
    host = study.start()
    agent = study.agent_in_block(set())
    lab.reboot()
    study.finish(host)
    check(study, {agent.pid})
    (broken,) = [block for block in study.blocks() if block.status is not Status.OK]
    assert broken.status is Status.EXCLUDED
    assert "rebooted" in broken.reason


@pytest.mark.slow
def test_all_of_it_at_once_and_still_four_blocks(lab, tmp_path):
    study, killed, seen = Study(lab, tmp_path), set(), set()
    host = study.start()
    for strike in ("agent", "sshd", "host"):
        agent = study.agent_in_block(seen)
        seen.add(agent.pid)
        if strike == "agent":
            agent.kill()
            killed.add(agent.pid)
        elif strike == "sshd":
            lab.kill()
            lab.start()
        else:
            host.kill()
            host.communicate()
            host = study.start()
    study.finish(host)
    check(study, killed)
