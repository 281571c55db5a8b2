"""kill -9 of agent, supervisor and board in the middle of a latency block: nothing is lost, nothing counts twice, and half a block is no sample."""

import pytest
from latency_study import Study, check

from fercompress.records import Status


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
            agent.resume()
            lab.start()
        else:
            host.kill()
            host.communicate()
            agent.resume()
            host = study.start()
    study.finish(host)
    check(study, killed)
