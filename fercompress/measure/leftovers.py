"""What a host that died left running on its target: waited for where this session asks for the same, ended where it does not.

Either way nothing of it runs beside this session's own jobs, so that no latency block is disturbed, nor disturbs.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fercompress.errors import AgentError, TargetError
from fercompress.measure.agentjob import Agent

LATE_S = 30.0  # beyond its deadline, after which a job's supervisor is not believed any more
END_S = 60.0  # for a job to be gone once it was ended
LONGEST_S = 86400.0  # a deadline beyond it is not believed
MOST = 1024  # jobs; more than the target keeps
POLL_S = 0.5  # as often as a host asks for the job that it waits for


def settle(agent: Agent, asked: Sequence[Mapping[str, Any]]) -> None:
    """Return when none of this run's jobs runs on the target.

    asked: the jobs of this session's schedule; what runs there for one of them is taken up later by its name
    raises: TargetError, also where something stays there whatever is done
    """
    wanted: dict[str, bool] = {}
    give_up: dict[str, float] = {}
    while running := agent.channel.running():
        for name, left_s in running.items():
            if name not in wanted:
                wanted[name] = is_asked(agent, name, asked)
                give_up[name] = time.monotonic() + (min(left_s, LONGEST_S) + LATE_S if wanted[name] else 0.0) + END_S
                if wanted[name]:
                    logging.getLogger(__name__).warning("a block of this run still runs on the target: it is waited for, %.0f s at most", left_s)
            if not wanted[name] or left_s < -LATE_S:
                agent.forget(name)
            if time.monotonic() > give_up[name] or len(wanted) > MOST:
                raise TargetError("what an earlier run left running on the target does not end; start the target anew, then the same command goes on")
        time.sleep(POLL_S)


def is_asked(agent: Agent, name: str, asked: Sequence[Mapping[str, Any]]) -> bool:
    """Does this job's file, there, say what one of those would?"""
    local = agent.incoming / f"{name}.leftover.json"
    try:
        agent.channel.get(f"jobs/{name}.json", local)
        job = json.loads(local.read_bytes())
    except (AgentError, ValueError, RecursionError):  # no job of the agent's, or its file was removed
        return False
    finally:
        local.unlink(missing_ok=True)
    if not isinstance(job, dict) or job.get("affinity") != as_sent(agent.cores):
        return False
    return any(all(job.get(key) == value for key, value in as_sent(each).items()) for each in asked)


def as_sent(value: Any) -> Any:
    """JSON knows no tuples."""
    return json.loads(json.dumps(value))
