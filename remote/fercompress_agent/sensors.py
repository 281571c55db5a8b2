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


def write_text(path, text):
    """returns: whether it could be written"""
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    except OSError:
        return False
    return True


def high_water_bytes(proc="/proc"):
    """VmHWM of this process, or None where the kernel does not tell.

    Not ru_maxrss: a child inherits its parent's there.
    """
    for line in (read_text(os.path.join(proc, "self", "status")) or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def pss_bytes(proc="/proc"):
    """This process's memory now, pages that it shares counted in parts: summed here, since kernels before 4.14 have no smaps_rollup. Or None."""
    told = [line.split()[1] for line in (read_text(os.path.join(proc, "self", "smaps")) or "").splitlines() if line.startswith("Pss:")]
    return sum(int(kilobytes) for kilobytes in told) * 1024 if told else None


def resident_bytes(proc="/proc"):
    """({"anonymous", "file"}, how it was told) of this process's pages in memory now; ({}, why not) where the kernel tells neither.

    anonymous: what the process made itself; file: what files on disk hold as well, libraries above all, and shared memory: how much of these is
    there depends on how the libraries were built and installed, and they may be given back at any time.
    """
    told = _kilobytes(os.path.join(proc, "self", "status"), ("RssAnon:", "RssFile:", "RssShmem:"))  # Linux 4.5
    if len(told) == 3:
        parts = {"anonymous": told["RssAnon:"], "file": told["RssFile:"] + told["RssShmem:"]}
        return {name: size * 1024 for name, size in parts.items()}, "RssAnon, RssFile and RssShmem of /proc/self/status"
    told = _kilobytes(os.path.join(proc, "self", "smaps"), ("Rss:", "Anonymous:"))
    if len(told) == 2:
        parts = {"anonymous": told["Anonymous:"], "file": told["Rss:"] - told["Anonymous:"]}
        return {name: size * 1024 for name, size in parts.items()}, "Anonymous and Rss, summed over /proc/self/smaps"
    return {}, "n/a: this kernel tells anonymous pages in neither /proc/self/status nor /proc/self/smaps"


def _kilobytes(path, keys):
    """The sums of a file's lines that begin so; read line by line, since what it says must not become memory that is measured."""
    found = {}
    try:
        with open(path, "r", encoding="ascii", errors="replace") as file:
            for line in file:
                words = line.split()
                if words and words[0] in keys and words[1].isdigit():
                    found[words[0]] = found.get(words[0], 0) + int(words[1])
    except (OSError, IndexError):
        return {}
    return found


class MemoryGauge:
    """The most memory that this process held: VmHWM; where the kernel does not tell it, the largest Pss of the moments it was looked at.

    method: which, in words; None where there is neither
    again: whether `start_again` could set VmHWM back, so that `since_bytes` tells the most after it
    parts: the largest "anonymous" and "file" bytes of the moments it was looked at (a shorter peak is not seen); parts_method: how, or why not
    """

    def __init__(self, interpreter_bytes, proc="/proc"):
        self.proc = proc
        self.again = False
        self.before = 0
        self.parts, self.parts_method = resident_bytes(proc)
        self.kernel_tells = interpreter_bytes is not None and high_water_bytes(proc) is not None
        if self.kernel_tells:
            self.method = "VmHWM of /proc/self/status"
            self.before = interpreter_bytes
        else:
            self.method = "largest Pss (/proc/self/smaps) after a step or clip: a shorter peak is not seen"
            self.sample()
            if not self.before:
                self.method = None

    def sample(self):
        now, _ = resident_bytes(self.proc)
        self.parts = {name: max(size, now.get(name, 0)) for name, size in self.parts.items()}
        if not self.kernel_tells:
            self.before = max(self.before, pss_bytes(self.proc) or 0)

    def start_again(self):
        """Set VmHWM back to what is held now, where that is allowed (Linux 4.0, one's own process)."""
        if self.kernel_tells:
            self.before = max(self.before, high_water_bytes(self.proc))
            self.again = write_text(os.path.join(self.proc, "self", "clear_refs"), "5")

    def since_bytes(self):
        return high_water_bytes(self.proc)

    def peak_bytes(self):
        """Since the process began."""
        self.sample()
        return max(self.before, high_water_bytes(self.proc)) if self.kernel_tells else self.before


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


def cooling(sysfs="/sys"):
    """{"cooling_device0 thermal-cpufreq-0": state} of the devices that tell; above 0 the kernel slows something down (or turns a fan)."""
    found = {}
    for folder in sorted(glob.glob(os.path.join(sysfs, "class/thermal/cooling_device[0-9]*"))):
        state = read_int(os.path.join(folder, "cur_state"))
        if state is not None:
            found[(os.path.basename(folder) + " " + (read_text(os.path.join(folder, "type")) or "")).strip()] = state
    return found


def devices(sysfs="/sys"):
    """{"dmc": {"governor", "hz", "max_hz"}}: the clocks of memory, GPU and the like (devfreq), of those that tell."""
    found = {}
    for folder in sorted(glob.glob(os.path.join(sysfs, "class/devfreq/*"))):
        device = {
            "governor": read_text(os.path.join(folder, "governor")),
            "hz": read_int(os.path.join(folder, "cur_freq")),
            "max_hz": read_int(os.path.join(folder, "max_freq")),
        }
        found[os.path.basename(folder)] = {key: value for key, value in device.items() if value is not None}
    return found
