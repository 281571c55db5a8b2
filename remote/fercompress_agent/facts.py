"""On what machine, and under what conditions, a job ran; every fact is JSON, unknown ones are left out."""

import os
import platform
import time

from fercompress_agent import sensors, timing


def at_start(job):
    sysfs = str(job.get("sysfs", "/sys"))
    facts = {
        "start_utc": utc(),
        "start_unix_s": time.time(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": "{} {} {}".format(platform.system(), platform.release(), platform.machine()),
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "boot_id": sensors.read_text("/proc/sys/kernel/random/boot_id"),
        "threads": job.get("threads"),
        "affinity": affinity(),
    }
    facts.update(timing.clock_facts())
    facts.update(conditions("start", sysfs))
    return {key: value for key, value in facts.items() if value not in (None, {}, "")}


def at_end(sysfs):
    facts = dict(conditions("end", sysfs), end_utc=utc(), affinity=affinity())
    return {key: value for key, value in facts.items() if value not in (None, {}, "")}


def conditions(when, sysfs):
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "clocks_" + when: sensors.clocks(sysfs),
        "devices_" + when: sensors.devices(sysfs),
        "temperature_mc_" + when: sensors.temperatures(sysfs),
        "cooling_" + when: sensors.cooling(sysfs),
        "loadavg_" + when: load,
    }


def cpu_model(cpuinfo="/proc/cpuinfo"):
    """The model's name; on ARM, whose cpuinfo has none, the device tree's and the cores' part numbers."""
    parts = []
    for line in (sensors.read_text(cpuinfo) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
        if key.strip() == "CPU part":
            parts.append(value.strip())
    board = (sensors.read_text("/proc/device-tree/model") or "").strip("\0")
    kinds = " ".join("{}x {}".format(parts.count(part), part) for part in sorted(set(parts)))
    return " ".join(filter(None, [board, kinds])) or platform.processor()


def affinity():
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def utc():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

