"""What a person wants to know of a target before a long run: raw facts of the machine, judged by the host.

Every path starts at a root (`/sys`, `/proc`) that is a parameter. What cannot be read is left out, never guessed.
"""

import glob
import os
import platform
import re
import shutil

from fercompress_agent import sensors, wheels


def examine(folder, sysfs="/sys", proc="/proc"):
    """folder: the workspace, whose disk counts"""
    found = {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "glibc": " ".join(platform.libc_ver()).strip(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "free_bytes": shutil.disk_usage(folder).free,
        "model": (sensors.read_text(os.path.join(proc, "device-tree/model")) or "").strip("\0"),
        "policies": policies(sysfs),
        "temperature_mc": sensors.temperatures(sysfs),
        "cooling": sensors.cooling(sysfs),
        "devices": sensors.devices(sysfs),
        "power_nodes": power_nodes(sysfs),
        "interpreter": wheels.interpreter(),
        "provisioned": wheels.sound() or None,
        "npu_proxies": processes("npu_transfer_proxy", proc),
    }
    found.update(memory(proc))
    return {key: value for key, value in found.items() if value not in (None, "")}


def policies(sysfs):
    """One per cluster: {"policy0": {"governor", "available", "writable", "khz", "max_khz"}}"""
    found = {}
    for folder in sorted(glob.glob(os.path.join(sysfs, "devices/system/cpu/cpufreq/policy[0-9]*"))):
        node = os.path.join(folder, "scaling_governor")
        found[os.path.basename(folder)] = {
            "governor": sensors.read_text(node),
            "available": (sensors.read_text(os.path.join(folder, "scaling_available_governors")) or "").split(),
            "writable": os.access(node, os.W_OK),
            "khz": sensors.read_int(os.path.join(folder, "scaling_cur_freq")),
            "max_khz": sensors.read_int(os.path.join(folder, "scaling_max_freq")),
        }
    return found


def power_nodes(sysfs):
    """Where watts may come from, each with whether it can be read: hwmon chips of the INA2xx family and powercap packages."""
    found = {}
    for folder in sorted(glob.glob(os.path.join(sysfs, "class/hwmon/hwmon*"))):
        name = sensors.read_text(os.path.join(folder, "name")) or ""
        if name.startswith("ina"):
            readable = any(sensors.read_int(os.path.join(folder, node)) is not None for node in ("power1_input", "curr1_input"))
            found["{} {}".format(os.path.basename(folder), name)] = readable
    for folder in sorted(glob.glob(os.path.join(sysfs, "class/powercap/intel-rapl:[0-9]*"))):
        found[os.path.basename(folder)] = sensors.read_int(os.path.join(folder, "energy_uj")) is not None
    return found


def memory(proc):
    """{"memory_bytes", "available_bytes", "swap_used_bytes"} as /proc/meminfo tells them"""
    told = dict(re.findall(r"^(\w+):\s+(\d+) kB", sensors.read_text(os.path.join(proc, "meminfo")) or "", re.MULTILINE))
    wanted = {"memory_bytes": "MemTotal", "available_bytes": "MemAvailable"}
    found = {key: int(told[name]) * 1024 for key, name in wanted.items() if name in told}
    if "SwapTotal" in told and "SwapFree" in told:
        found["swap_used_bytes"] = (int(told["SwapTotal"]) - int(told["SwapFree"])) * 1024
    return found


def processes(name, proc):
    """How many processes of this name run; a zombie of it counts for none."""
    count = 0
    for folder in glob.glob(os.path.join(proc, "[0-9]*")):
        text = sensors.read_text(os.path.join(folder, "stat")) or ""
        # The kernel cuts the name after 15 letters.
        if "({})".format(name[:15]) in text and text.rpartition(")")[2].split()[:1] != ["Z"]:
            count += 1
    return count
