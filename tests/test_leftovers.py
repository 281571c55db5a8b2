"""What a host that died left running on its target, over a real sshd: the same block is waited for, another one is ended."""

import itertools
import json
import logging
import signal
import sys
import threading

import psutil
import pytest
from sshlab import eventually

from fercompress.errors import AgentError, TargetError
from fercompress.measure import leftovers
from fercompress.measure.agentjob import Agent
from fercompress.measure.channel import LocalChannel
from fercompress.measure.endpoint import Address
from fercompress.measure.sshchannel import SshChannel

NAME = "ab" * 16
ASKED = {"job": "latency", "rows": (2, 0), "block_s": 1.0}
WAITS = (
    "import os, time\nopen('pid.part', 'w').write(str(os.getpid()))\nos.rename('pid.part', 'pid')\nwhile not os.path.exists('go'): time.sleep(0.02)"
)


@pytest.fixture
def agent(lab, tmp_path):
    (tmp_path / "host").mkdir()
    with SshChannel(lab.address(), "run-1") as channel:
        yield Agent(channel, sys.executable, (0,), tmp_path / "host")


def leave(agent, lab, job, deadline_s: float = 60) -> psutil.Process:
    """As a killed host does: the command runs, and nobody asks for it. returns: its process"""
    channel = agent.channel
    channel.greet()
    if job is not None:
        (lab.files / "jobs").mkdir(exist_ok=True)
        (lab.files / "jobs" / f"{NAME}.json").write_text(job)
    start = {"job": NAME, "argv": [sys.executable, "-c", WAITS], "deadline_s": deadline_s, "limit_bytes": 1000, "check": {}}
    assert channel._ask("start", start)[0]["state"] == "running"
    assert eventually((lab.files / "pid").exists)
    left_s = channel.running()[NAME]
    assert 0 < left_s <= deadline_s
    return psutil.Process(int((lab.files / "pid").read_text()))


def ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def sent(**changes) -> str:
    return json.dumps({**ASKED, "schema": 1, "nonce": "n", "deadline_s": 60, "affinity": [0], "features": "", **changes})


def test_where_nothing_runs_nothing_is_waited_for(agent):
    assert agent.channel.running() == {}
    leftovers.settle(agent, [ASKED])


def test_a_job_that_this_session_asks_for_is_waited_for_and_can_then_be_taken_up(agent, lab, caplog):
    process = leave(agent, lab, sent())
    thread = threading.Thread(target=leftovers.settle, args=(agent, [{**ASKED, "block_s": 2.0}, ASKED]))
    with caplog.at_level(logging.WARNING):
        thread.start()
        assert eventually(lambda: "still runs on the target" in caplog.text)
    assert thread.is_alive()
    assert not ended(process)
    (lab.files / "go").touch()
    thread.join(30)
    assert not thread.is_alive()
    assert agent.channel._ask("status", {"job": NAME})[0]["exit"] == 0


@pytest.mark.parametrize(
    "job", [sent(block_s=2.0), sent(affinity=[1]), sent(rows=[2]), "half of {", "[" * 100_000, "[]", None],
    ids=["block_s", "cores", "rows", "half", "nested", "list", "none"],
)  # fmt: skip
def test_a_job_that_this_session_does_not_ask_for_is_ended_before_anything_else_runs(agent, lab, job):
    process = leave(agent, lab, job)
    leftovers.settle(agent, [ASKED])
    assert ended(process)
    assert agent.channel.running() == {}
    assert not list(lab.files.glob("jobs/*"))


def test_a_job_whose_supervisor_hangs_is_not_waited_for_beyond_its_deadline(agent, lab, monkeypatch):
    process = leave(agent, lab, sent(), deadline_s=30)
    process.parent().send_signal(signal.SIGSTOP)
    monkeypatch.setattr(leftovers, "LATE_S", -60.0)  # as if more than a minute had passed
    leftovers.settle(agent, [ASKED])
    assert ended(process)


@pytest.mark.parametrize("names", [itertools.repeat(NAME), map("{:032x}".format, itertools.count())], ids=["one that stays", "new ones without end"])
def test_what_does_not_end_whatever_is_done_ends_the_session_instead(tmp_path, monkeypatch, names):
    class Haunted(LocalChannel):
        def running(self):
            return {next(names): 5.0}

    monkeypatch.setattr(leftovers, "END_S", 0.3)
    monkeypatch.setattr(leftovers, "POLL_S", 0.001)
    monkeypatch.setattr(leftovers, "MOST", 20)
    (tmp_path / "host").mkdir()
    with Haunted(tmp_path / "target") as channel, pytest.raises(TargetError, match="does not end; start the target anew"):
        leftovers.settle(Agent(channel, sys.executable, None, tmp_path / "host"), [ASKED])


@pytest.mark.parametrize("told", [[], {"../x": 1.0}, {NAME: "long"}, {NAME: float("nan")}, {NAME: 1e300}])
def test_a_forged_list_of_what_runs_is_the_agents_fault(told, monkeypatch):
    with SshChannel(Address("nobody.invalid"), "run-1") as channel:
        monkeypatch.setattr(channel, "_ask", lambda *_: ({"jobs": told}, b""))
        with pytest.raises(AgentError, match="the target's answer cannot be used"):
            channel.running()
