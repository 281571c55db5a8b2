"""kill -9 of host and sshd in the middle of a latency block: the block goes on and is taken up, unless its settings have changed meanwhile."""

from latency_study import BLOCK_S, Study, check

from fercompress.records import Status


def test_sshd_killed_in_mid_block_costs_no_block(lab, tmp_path):
    study = Study(lab, tmp_path)
    host = study.start()
    agent = study.agent_in_block(set())
    lab.kill()
    agent.resume()
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
        agent.resume()
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
    left.resume()
    study.block_s = BLOCK_S
    host = study.start()
    agent = study.agent_in_block({left.pid})
    assert not left.is_running()
    agent.resume()
    study.finish(host)
    check(study, {left.pid})
