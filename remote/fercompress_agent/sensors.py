"""What the operating system tells about this machine: memory high-water mark, clocks, temperatures.

Every path starts at a root (`/sys`, `/proc`) that is a parameter. What cannot be read is None, never a guess.
"""

import glob
import os
import time

try:
    import resource
except ImportError:  # not a POSIX system
    resource = None


def read_text(path):
    """The file's text without the final newline, or None."""
    try:
        with open(path, "r", encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def read_int(path):
    text = read_text(path)
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def high_water_bytes(proc="/proc"):
    """VmHWM of this process, or None where the kernel does not tell.

    Not ru_maxrss: a child inherits its parent's there.
    """
    for line in (read_text(os.path.join(proc, "self", "status")) or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def processor_use():
    """(wall seconds, processor seconds of this process, how often it was interrupted for another or None)"""
    interrupted = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource else None
    return time.perf_counter(), time.process_time(), interrupted


def processor_share(before, after):
    """What share of a block the process really ran, in cores: below its threads' number, something else took the time."""
    share = {"block_cpu_share": round((after[1] - before[1]) / max(after[0] - before[0], 1e-9), 3)}
    if after[2] is not None:
        share["block_interrupted"] = after[2] - before[2]
    return share


def clocks(sysfs="/sys"):
    """{"cpu0": {"governor", "khz", "max_khz"}} of the cores that tell."""
    found = {}
    for folder in sorted(glob.glob(os.path.join(sysfs, "devices/system/cpu/cpu[0-9]*/cpufreq"))):
        core = {
            "governor": read_text(os.path.join(folder, "scaling_governor")),
            "khz": read_int(os.path.join(folder, "scaling_cur_freq")),
            "max_khz": read_int(os.path.join(folder, "scaling_max_freq")),
        }
        found[os.path.basename(os.path.dirname(folder))] = {key: value for key, value in core.items() if value is not None}
    return found


def temperatures(sysfs="/sys"):
    """{"thermal_zone0 cpu-thermal": millidegrees Celsius} of the zones that tell."""
    found = {}
    for folder in sorted(glob.glob(os.path.join(sysfs, "class/thermal/thermal_zone[0-9]*"))):
        value = read_int(os.path.join(folder, "temp"))
        if value is not None:
            kind = read_text(os.path.join(folder, "type")) or ""
            found[(os.path.basename(folder) + " " + kind).strip()] = value
    return found
