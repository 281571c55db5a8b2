"""A session over SSH that a test strikes in the middle of a latency block, by a host that can be killed; and what must hold of it in the end."""

import contextlib
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
from latency_study import go_on
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
        """The agent of a latency block that has begun to time, other than those; stopped, so that its block lasts until it is struck or resumed."""
        found: list[psutil.Process] = []

        def stopped() -> bool:
            for process in psutil.process_iter():
                if process.pid not in besides and self._times(process.pid):
                    time.sleep(BLOCK_S / 4)
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.suspend()
                        if self._times(process.pid):  # else its block was over before it was stopped
                            found.append(process)
                            return True
                        process.resume()
            return False

        assert eventually(stopped, 60), self.host.poll()
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
