"""A session among faults: real agent processes through a channel that breaks them, at a moment of the test's choice."""

import functools
import hashlib
import json
import shutil
import signal
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest
import tiny_bundle

from fercompress.config import Measure
from fercompress.errors import AgentError, DiskFullError, TargetError, TargetRebootedError
from fercompress.measure import hostload
from fercompress.measure.agentjob import Agent
from fercompress.measure.answer import read_logits
from fercompress.measure.board import load_board
from fercompress.measure.channel import LocalChannel
from fercompress.measure.session import MeasuredBundle, clock_offset, measure
from fercompress.records import REBOOTED, Pass, Status
from fercompress.results import tables
from fercompress.results.store import Store

CLIPS = tiny_bundle.clips()
ROWS = np.array([1, 3, 5], np.int64)
# Without a model, and by a Python that has no runtime to look for: what breaks here are processes, files and answers. Beside each other, two blocks
# would meet one fault.
BOARD = tiny_bundle.modelless(load_board("localhost")).model_copy(update={"accuracy_processes": 1})
QUICK = Measure(rounds=1, block_clips=4, block_s=0.001, warmup_clips=0, passes=("accuracy", "latency"))


@pytest.fixture(autouse=True)
def short_look_at_this_machines_load(monkeypatch):
    """A fifth of a second before every block is for figures; here none is read."""
    monkeypatch.setattr(hostload, "before_block", functools.partial(hostload.before_block, 0.01))


class Faulty(LocalChannel):
    """faults: name of the job -> faults that meet its first runs, one each; ran: every job that was started, by its channel name"""

    def __init__(self, root, **faults):
        super().__init__(root)
        self.faults = {name: list(several) for name, several in faults.items()}
        self.ran = []

    def run(self, argv, deadline_s, job=""):
        asked = json.loads((self.root / argv[-1]).read_text())
        self.ran.append((asked["job"], job))
        waiting = self.faults.get(asked["job"])
        if not waiting:
            return super().run(argv, deadline_s, job)
        return waiting.pop(0)(self, asked, lambda argv=argv, deadline_s=deadline_s: LocalChannel.run(self, argv, deadline_s, job))


def struck(number, **changes):
    """In the agent's place a process that meets this signal at once, before it did anything."""

    def fault(_channel, _asked, go):
        return go([sys.executable, "-c", f"import os, time; os.kill(os.getpid(), {int(number)}); time.sleep(300)"], **changes)

    return fault


def rewritten(key, change):
    """The answer's file (key "result") or the logits' (key "logits") is another when it is fetched."""

    def fault(channel, asked, go):
        completed = go()
        path = channel.root / asked[key]
        path.write_bytes(change(path.read_bytes()))
        return completed

    return fault


def forged(**keys):
    return rewritten("result", lambda text: json.dumps({**json.loads(text), **keys}).encode())


def forged_facts(**facts):
    return rewritten("result", lambda text: json.dumps({**(told := json.loads(text)), "facts": {**told.get("facts", {}), **facts}}).encode())


def before(harm):
    def fault(channel, asked, go):
        harm(channel, asked)
        return go()

    return fault


def raising(error):
    def fault(_channel, _asked, _go):
        raise error

    return fault


def reboot(channel, _asked, _go):
    """What lay in memory is gone: here, everything."""
    shutil.rmtree(channel.root)
    raise TargetRebootedError("boot_id changed")


def damage_agent(channel, _asked):
    for pack in channel.root.glob("agent-*.pyz"):
        pack.write_bytes(pack.read_bytes()[:2000])


def delete_bundle_file(channel, asked):
    (channel.root / asked["bundle"] / "extractor.onnx").unlink()


def damage_bundle_file(channel, asked):
    (channel.root / asked["bundle"] / "predictor.onnx").write_bytes(b"damaged")


class Run:
    def __init__(self, folder, channel, variants=("a", "b"), board=BOARD, **more):
        made = {name: tiny_bundle.write(folder / name, name, place, engine="null") for place, name in enumerate(variants)}
        self.bundles = {name: [MeasuredBundle(bundle, 0, "f", ROWS)] for name, bundle in made.items()}
        self.folder, self.channel, self.board, self.more = folder, channel, board, more
        self.blocks, self.progress = [], []

    def __call__(self, settings=QUICK, done=(), **more):
        return measure(
            self.bundles, CLIPS, settings, self.board, self.channel, self.folder / "work", done=done, record=self.blocks.append,
            progress=self.progress.append, run_id="r", tried=Counter(block.key for block in self.blocks), **{**self.more, **more},
        )  # fmt: skip

    @property
    def finished(self):
        return Counter(block.key for block in self.blocks if block.status is Status.OK)

    @property
    def broken(self):
        return [block for block in self.blocks if block.status is not Status.OK]


def check_nothing_is_lost(run, keys):
    assert run.finished == dict.fromkeys(keys, 1)
    assert [step.done for step in run.progress] == list(range(len(keys)))
    assert list((run.channel.root / "jobs").iterdir()) == []


@pytest.mark.parametrize(
    ("job", "fault", "reason"),
    [
        ("latency", struck(signal.SIGKILL), "the agent was ended by SIGKILL"),
        ("latency", rewritten("result", lambda text: text[: len(text) // 2]), "answer cannot be used"),
        ("latency", rewritten("result", lambda _: b""), "answer cannot be used"),
        ("latency", rewritten("result", lambda _: b"[" * 100_000), "answer cannot be used"),
        ("latency", forged(schema=2), "schema"),
        ("latency", forged(nonce="another"), "belongs to another job"),
        ("latency", forged(path="../../x"), "path"),
        ("latency", forged(frame_ns=[1, 2, 3]), "frame_ns has 3 numbers"),
        ("latency", forged(clip_ns=[10**30] * 4), "is no number"),
        ("latency", rewritten("result", lambda text: text.replace(b'"facts": {', b'"facts": {"x": 1e999, ', 1)), "1e999 is no number"),
        ("latency", forged_facts(x=10**400), "is no number"),
        ("memory", forged(memory_bytes={"peak": 1}), "memory_bytes has peak, the steps are interpreter"),
        ("latency", forged(extractor_ns=[], predictor_ns=[], clip_ns=[], frame_ns=[]), "0 timed clips came back"),
        ("latency", before(damage_agent), "the agent broke with exit code 1"),
        ("latency", before(delete_bundle_file), "extractor.onnx: No such file"),
        ("accuracy", before(damage_bundle_file), "predictor.onnx: file does not match the manifest's sha256"),
        ("accuracy", before(lambda channel, asked: (channel.root / asked["clips"]).unlink()), "No such file"),
        ("accuracy", rewritten("logits", lambda data: data[:30]), "logits have 30 bytes"),
        ("accuracy", rewritten("logits", lambda data: data[:-4]), "sha256 differs"),
        ("accuracy", rewritten("logits", lambda data: data[:-4] + b"\0\0\0\0"), "sha256 differs"),
        ("latency", reboot, REBOOTED),
        ("accuracy", reboot, REBOOTED),
    ],
)  # fmt: skip
def test_one_fault_costs_one_attempt_and_no_block(tmp_path, job, fault, reason):
    run = Run(tmp_path, Faulty(tmp_path / "target", **{job: [fault]}), variants=("a",))
    keys = run(QUICK.model_copy(update={"passes": (job,)}))
    check_nothing_is_lost(run, keys)
    (broken,) = run.broken
    assert reason in broken.reason
    assert broken.status is (Status.EXCLUDED if reason == REBOOTED else Status.FAILED)
    assert len(run.blocks) == len(keys) + 1


def test_a_board_whose_clock_is_a_number_without_end_does_not_break_the_session(tmp_path):
    board = BOARD.model_copy(update={"kind": "ssh"})  # whose clock is asked for
    run = Run(tmp_path, Faulty(tmp_path / "target", conditions=[forged_facts(start_unix_s=10**400)] * 3), variants=("a",), board=board)
    keys = run(QUICK.model_copy(update={"passes": ("accuracy",)}))
    assert run.finished == dict.fromkeys(keys, 1)
    assert "wall_clock_offset_s" not in run.blocks[0].facts


def test_facts_of_the_wrong_kind_break_no_table(tmp_path):
    told = forged_facts(power_source="hwmon", host_busiest_percent_during="much", clocks_start="x", cooling_start=3)
    run = Run(tmp_path, Faulty(tmp_path / "target", latency=[told] * 2), variants=("a",), board=BOARD.model_copy(update={"kind": "ssh"}))
    run(QUICK.model_copy(update={"passes": ("latency",)}))
    with Store.open(tmp_path / "results.sqlite") as store:
        for block in run.blocks:
            store.record(block)
        lines = [dict(zip(tables._BLOCKS, tables._block_line(entry), strict=True)) for entry in store.entries()]
    assert [line["power_source"] for line in lines] == ["", ""]
    assert all(np.isnan(line["host_busy_share"]) for line in lines)


def test_an_agent_that_hangs_is_ended_at_its_deadline_and_the_block_redone(tmp_path):
    run = Run(tmp_path, Faulty(tmp_path / "target", latency=[struck(signal.SIGSTOP, deadline_s=1.0)]), variants=("a",))
    keys = run(QUICK.model_copy(update={"passes": ("latency",)}))
    check_nothing_is_lost(run, keys)
    assert "within 1 s: killed" in run.broken[0].reason


def test_a_variant_that_takes_the_target_down_twice_is_quarantined_and_the_others_go_on(tmp_path):
    run = Run(tmp_path, Faulty(tmp_path / "target", latency=[reboot, reboot]))
    keys = run()
    (guilty,) = {block.key.variant for block in run.broken}
    assert [block.reason for block in run.broken][:2] == [REBOOTED] * 2
    assert run.broken[2].reason == f"quarantined: failed 2 times, at last because {REBOOTED}"
    assert {block.status for block in run.broken} == {Status.EXCLUDED}
    assert {key.variant for key in run.finished if key.pass_ is Pass.LATENCY} == {"a", "b"} - {guilty}
    assert {block.key for block in run.blocks} == set(keys)
    assert [step.done for step in run.progress] == list(range(len(keys)))


def test_a_reboot_under_two_accuracy_processes_marks_both_and_loses_neither(tmp_path):
    together = threading.Barrier(2, timeout=60)

    def both(channel, _asked, _go):
        if together.wait() == 0:
            shutil.rmtree(channel.root)
        together.wait()
        raise TargetRebootedError("boot_id changed")

    run = Run(tmp_path, Faulty(tmp_path / "target", accuracy=[both, both]), board=BOARD.model_copy(update={"accuracy_processes": 2}))
    keys = run(QUICK.model_copy(update={"passes": ("accuracy",)}))
    check_nothing_is_lost(run, keys)
    assert [block.reason for block in run.broken] == [REBOOTED] * 2


def test_without_its_baseline_a_session_ends_and_says_so(tmp_path):
    run = Run(tmp_path, Faulty(tmp_path / "target", accuracy=[forged(schema=2)] * 2), variants=("a",), baseline="a")
    with pytest.raises(TargetError, match=r"nothing can be compared without the baseline a, which is quarantined: failed 2 times, .*schema"):
        run()
    assert [block.status for block in run.blocks] == [Status.FAILED] * 2


@pytest.mark.parametrize("error", [DiskFullError("no space left on the target"), TargetError("not reachable for 300 s")])
def test_what_is_no_variants_fault_ends_the_session_and_the_next_one_goes_on(tmp_path, error):
    run = Run(tmp_path, Faulty(tmp_path / "target", latency=[raising(error)]))
    with pytest.raises(type(error), match=str(error)):
        run()
    assert run.broken == []
    had = dict(run.finished)
    assert had
    run.channel = LocalChannel(tmp_path / "target")
    keys = run(done=set(had))
    assert run.finished == dict.fromkeys(keys, 1)


class Remembering(Faulty):
    """A target that goes on while the host is away: what ended under a name is taken up, not run again."""

    def __init__(self, root, ended, lose):
        super().__init__(root)
        self.ended, self.lose = ended, lose

    def run(self, argv, deadline_s, job=""):
        if job not in self.ended:
            self.ended[job] = super().run(argv, deadline_s, job)
            if self.ran[-1][0] == "latency" and self.lose:
                self.lose = False
                raise TargetError("the link is lost")
        return self.ended[job]


def test_a_run_started_again_takes_up_what_the_target_did_meanwhile(tmp_path):
    run = Run(tmp_path, Remembering(tmp_path / "target", {}, lose=True), variants=("a",))
    with pytest.raises(TargetError, match="the link is lost"):
        run()
    first = run.channel
    run.channel = Remembering(tmp_path / "target", first.ended, lose=False)
    keys = run(done=set(run.finished))
    assert run.finished == dict.fromkeys(keys, 1)
    measured = [job for kind, job in first.ran + run.channel.ran if kind in ("latency", "accuracy")]
    assert len(measured) == len(set(measured)) == len(keys)  # each ran once, although the host asked for one of them twice


def test_another_run_never_takes_up_this_ones_jobs_nor_a_new_attempt_the_last_ones(tmp_path):
    names, settings = [], QUICK.model_copy(update={"passes": ("accuracy",)})
    for place, more in enumerate([{}, {}, {"run_id": "other"}]):
        run = Run(tmp_path / str(place), Faulty(tmp_path / str(place) / "target"), variants=("a",))
        run.bundles = {"a": [MeasuredBundle(tiny_bundle.write(tmp_path / f"b{place}", "a", engine="null"), 0, "f", ROWS)]}
        keys = measure(
            run.bundles, CLIPS, settings, BOARD, run.channel, tmp_path / "work", done=[], record=run.blocks.append,
            progress=run.progress.append, **{"run_id": "r", **more},
        )  # fmt: skip
        names.append([job for kind, job in run.channel.ran if kind in ("latency", "accuracy")])
    assert names[0] == names[1]
    assert not set(names[0]) & set(names[2])
    again = Faulty(tmp_path / "again")
    measure(
        run.bundles, CLIPS, settings, BOARD, again, tmp_path / "work", done=[], record=run.blocks.append,
        progress=run.progress.append, run_id="r", tried=dict.fromkeys(keys, 1),
    )  # fmt: skip
    assert not {job for _, job in again.ran} & set(names[0])


def test_logits_that_claim_to_be_huge_take_no_memory(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }"
    data = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n" + bytes(36)
    path = tmp_path / "logits.npy"
    path.write_bytes(data)
    with pytest.raises(AgentError, match="expected float32"):
        read_logits(path, 3, 3, hashlib.sha256(data).hexdigest())


def test_the_offset_of_a_clock_that_is_ours_is_nothing_within_the_round_trip(tmp_path):
    agent = Agent(LocalChannel(tmp_path / "target"), load_board("localhost").python, None, tmp_path / "work")
    agent.deploy()
    told = clock_offset(agent)
    assert abs(told["wall_clock_offset_s"]) <= told["wall_clock_within_s"] + 0.002
    ahead = clock_offset(agent, clock=lambda: time.time() - 100)
    assert abs(ahead["wall_clock_offset_s"] - 100) <= ahead["wall_clock_within_s"] + 0.002
