"""What else this machine was doing before and during a block: processes' CPU time, counted by psutil."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import psutil

WINDOW_S = 0.2  # CPU time is counted in ticks of 10 ms: one tick within the window is 5 % of a core, below what counts as busy


@dataclass(frozen=True)
class Snapshot:
    """at_s: monotonic seconds; busy_s, total_s, steal_s: of all cores; process_s: CPU seconds by (pid, start time), with its name"""

    at_s: float
    busy_s: float
    total_s: float
    steal_s: float
    process_s: dict[tuple[int, float], tuple[str, float]]


def snapshot() -> Snapshot:
    """This process is left out: it only waits while a block runs."""
    machine = psutil.cpu_times()
    total_s = sum(machine[:8])  # guest times are counted within user's
    processes = {}
    for process in psutil.process_iter(["pid", "name", "create_time", "cpu_times"]):
        info = process.info
        if info["pid"] != os.getpid() and info["cpu_times"] is not None:
            spent = info["cpu_times"]
            processes[(info["pid"], info["create_time"])] = (info["name"] or "?", spent.user + spent.system)
    return Snapshot(time.monotonic(), total_s - machine.idle - getattr(machine, "iowait", 0.0), total_s, getattr(machine, "steal", 0.0), processes)


def between(first: Snapshot, last: Snapshot, when: str) -> dict[str, float | str]:
    """Facts named `host_..._{when}`: the machine's load and what the busiest process used, in percent (of all cores; of one core)."""
    seconds = max(last.at_s - first.at_s, 1e-9)
    total_s = max(last.total_s - first.total_s, 1e-9)
    used = {key: (name, spent - first.process_s[key][1]) for key, (name, spent) in last.process_s.items() if key in first.process_s}
    name, spent_s = max(used.values(), key=lambda item: item[1], default=("", 0.0))
    return {
        f"host_cpu_percent_{when}": round(100 * (last.busy_s - first.busy_s) / total_s, 1),
        f"host_steal_percent_{when}": round(100 * (last.steal_s - first.steal_s) / total_s, 1),
        f"host_busiest_{when}": name if spent_s > 0 else "",
        f"host_busiest_percent_{when}": round(100 * spent_s / seconds, 1),
    }


def before_block(sleep_s: float = WINDOW_S) -> dict[str, float | str]:
    first = snapshot()
    time.sleep(sleep_s)
    return between(first, snapshot(), "before")
