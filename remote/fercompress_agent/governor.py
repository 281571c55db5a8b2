"""The governor that a job asks for: set where it may be written, read back, and put back at the end."""

import glob
import os

from fercompress_agent import sensors

LEAVE = "leave"


class Asked:
    """name: "performance", ...; None or "leave" changes nothing.

    A job that is killed cannot put anything back: the next one that asks finds the governor as it wishes and leaves it so.
    """

    def __init__(self, name, sysfs="/sys"):
        self.name = name if name and name != LEAVE else None
        self.paths = sorted(glob.glob(os.path.join(sysfs, "devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"))) if self.name else []
        self.before = {path: sensors.read_text(path) for path in self.paths}
        self.refused = []
        # Cores of one cluster share a policy: what another core's file has set already needs no writing.
        for path in self.paths:
            if sensors.read_text(path) != self.name and not sensors.write_text(path, self.name):
                self.refused.append(path)

    def facts(self):
        """{"governor_asked": "asked performance, found ..."}; {} where nothing was asked."""
        if not self.name:
            return {}
        found = sorted({sensors.read_text(path) or "unreadable" for path in self.paths}) or ["no core that tells its governor"]
        told = "asked {}, found {}".format(self.name, ", ".join(found))
        if self.refused:
            told += " ({} of {} could not be written: run the agent as root, or make them writable)".format(len(self.refused), len(self.paths))
        return {"governor_asked": told}

    def restore(self):
        for path, name in self.before.items():
            if name and sensors.read_text(path) != name:
                sensors.write_text(path, name)
