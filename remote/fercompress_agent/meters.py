"""Meters: what power is read from. A meter samples by itself, beside the loop that is measured; the host uses the same lines for a meter of its own.

find       -> (meter or None, why there is none): what the target's [power] asks for, looked for on this machine
a meter    source, scope (what is in its figures), counter (True: values are joules counted up, False: watts),
           start() and stop(), samples (seconds on `clock`, value) in order of time, reason ("" while the samples can be used)
"""

import glob
import os
import re
import subprocess
import threading
import time

from fercompress_agent.sensors import read_int, read_text

clock = time.monotonic  # one per boot and machine: stamps of two processes compare, and nobody sets it

COUNTER_PERIOD_S = 0.05  # a counter integrates by itself: read it often enough that no wrap is missed and a window's edges are sharp
WATTS_PERIOD_S = 0.002  # 500 Hz: slower sampling of changing power errs (arXiv 2206.10377 asks for 350 Hz)
FIRST_LINE_S = 10.0
LINE_BYTES = 256
LINES_PER_S = 20000
PACE = 0.05  # largest relative difference of a program's seconds and this machine's

NUMBER = re.compile(rb"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?")
HUGE = 1e15  # no meter's seconds or watts


def find(asked, sysfs="/sys", busy_cores=None):
    """asked: the target's [power] as a dict; busy_cores: what the model is pinned to, sampling keeps away from them."""
    source = asked["source"]
    if source == "none":
        return None, 'n/a: the target\'s file says source = "none" under [power]'
    if source == "command":
        return Command(asked["command"], busy_cores), ""
    reasons = []
    for name in ("hwmon", "powercap") if source == "auto" else (source,):
        sensor = SENSORS[name](sysfs, asked.get("node") or "")
        if not sensor.reason:
            return Sampled(name, sensor, busy_cores), ""
        reasons.append(sensor.reason)
    return None, "n/a: " + "; ".join(reasons)


class Rapl:
    """Energy counters of the processor packages (Linux powercap): they count microjoules and wrap at max_energy_range_uj.

    Sub-domains (intel-rapl:0:0) are parts of their package, and psys holds the packages: neither is added.
    `reason` says why there is nothing to read; "" where there is.
    """

    counter = True
    period_s = COUNTER_PERIOD_S

    def __init__(self, sysfs="/sys", node=""):
        pattern = os.path.join(sysfs, "class/powercap/intel-rapl*")
        self.counters = []
        unreadable = []
        for folder in sorted(glob.glob(pattern)):
            name = os.path.basename(folder)
            if name.count(":") != 1 or read_text(os.path.join(folder, "name")) == "psys":
                continue
            counter = os.path.join(folder, "energy_uj")
            if read_int(counter) is None:
                unreadable.append(counter)
            else:
                self.counters.append((counter, read_int(os.path.join(folder, "max_energy_range_uj"))))
        self.reason = ""
        if unreadable:
            self.counters = []
            self.reason = "{} cannot be read (kernels since 5.10 let root only: run as root, or chmod a+r it)".format(unreadable[0])
        elif not self.counters:
            self.reason = "no sensor found, looked for {}/energy_uj".format(pattern)
        self.scope = "processor packages (RAPL): " + ", ".join(path for path, _ in self.counters)
        self.last_uj = None
        self.total_uj = 0

    def energy_uj(self):
        """Microjoules since the first call, wraps counted; call it more often than the counters wrap. None where a counter went away."""
        now = [read_int(path) for path, _ in self.counters]
        if None in now:
            return None
        if self.last_uj is not None:
            for (_, wrap_uj), before, after in zip(self.counters, self.last_uj, now):
                if after < before and not wrap_uj:
                    return None
                self.total_uj += after - before + (wrap_uj if after < before else 0)
        self.last_uj = now
        return self.total_uj

    def read(self):
        """Joules, or None."""
        energy_uj = self.energy_uj()
        return None if energy_uj is None else energy_uj / 1e6


class Ina:
    """A current and power monitor (INA219, INA226, ...) of Linux hwmon.

    node: its name ("ina219"), device ("6-0047") or folder ("/sys/class/hwmon/hwmon2"); "": the only one whose name begins with "ina"
    power1_input is in microwatts; without it, in1_input (millivolts) x curr1_input (milliamperes)
    """

    counter = False

    def __init__(self, sysfs="/sys", node=""):
        pattern = os.path.join(sysfs, "class/hwmon/hwmon*")
        found = [folder for folder in sorted(glob.glob(pattern)) if _is_node(folder, node)]
        self.paths = []
        self.period_s = WATTS_PERIOD_S
        self.reason = self.scope = ""
        if not found:
            self.reason = "no sensor found, looked for {} named {}".format(pattern, node or "ina*")
        elif len(found) > 1:
            names = ", ".join("{} ({})".format(folder, read_text(os.path.join(folder, "name"))) for folder in found)
            self.reason = "several sensors: {}; choose one by `node` under [power] in the target's file".format(names)
        else:
            self._open(found[0])

    def _open(self, folder):
        for names in (("power1_input",), ("in1_input", "curr1_input")):
            paths = [os.path.join(folder, name) for name in names]
            if all(read_int(path) is not None for path in paths):
                self.paths = paths
                # The chip averages by itself: reading it faster gives the same value twice.
                self.period_s = max(WATTS_PERIOD_S, (read_int(os.path.join(folder, "update_interval")) or 0) / 1e3)
                self.scope = "what flows through {}: {}".format(read_text(os.path.join(folder, "name")), ", ".join(paths))
                return
        self.reason = "{} has neither power1_input nor in1_input and curr1_input that can be read".format(folder)

    def read(self):
        """Watts, or None."""
        values = [read_int(path) for path in self.paths]
        if None in values:
            return None
        return values[0] / 1e6 if len(values) == 1 else values[0] * values[1] / 1e6


SENSORS = {"hwmon": Ina, "powercap": Rapl}


def _is_node(folder, node):
    name = read_text(os.path.join(folder, "name")) or ""
    if not node:
        return name.startswith("ina")
    device = os.path.basename(os.path.realpath(os.path.join(folder, "device")))
    return node in (name, device, os.path.basename(folder)) or os.path.realpath(node) == os.path.realpath(folder)


class Sampled:
    """A sensor of this machine, read by a thread of its own at the sensor's period. Reads that fail are gaps."""

    def __init__(self, source, sensor, busy_cores=None):
        self.source = source
        self.scope = sensor.scope
        self.counter = sensor.counter
        self.samples = []
        self.failed = 0
        self._sensor = sensor
        self._busy_cores = busy_cores
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    @property
    def reason(self):
        return "" if self.samples or not self.failed else "n/a: {} could no longer be read".format(self.scope)

    def start(self):
        self._thread.start()

    def stop(self):
        self._end.set()
        self._thread.join()

    def _sample(self):
        keep_away(self._busy_cores)
        due = clock()
        while not self._end.is_set():
            before = clock()
            value = self._sensor.read()
            if value is None:
                self.failed += 1
            else:
                self.samples.append(((before + clock()) / 2, value))
            due = max(due + self._sensor.period_s, clock())  # after a delay: do not catch up in a burst
            self._end.wait(max(due - clock(), 0))


class Command:
    """A program that prints lines `seconds watts` (decimal numbers; seconds of any clock that runs at the right pace; "#" begins a remark).

    It runs until it is ended. The least delayed line sets its clock beside ours, so that a pipe's delays do not blur the samples.
    own_session: end its whole tree with it (a host does; an agent's meter stays in the group that is killed with the agent)
    """

    counter = False
    source = "command"

    def __init__(self, argv, busy_cores=None, own_session=False):
        self.argv = [str(word) for word in argv]
        self.scope = "what the program reads: " + " ".join(self.argv)
        self.trouble = ""
        self.lines = []  # (arrival on `clock`, the meter's seconds, watts)
        self._remarks = b""
        self._busy_cores = busy_cores
        self._own_session = own_session
        self._stopping = False
        self._child = None
        self._readers = []

    @property
    def reason(self):
        return "n/a: the meter {} {}".format(repr(self.argv[0]), self.trouble) if self.trouble else ""

    @property
    def samples(self):
        lines = list(self.lines)
        lag = min(arrival - seconds for arrival, seconds, _ in lines) if lines else 0.0
        return [(seconds + lag, watts) for _, seconds, watts in lines]

    def start(self):
        """Returns when the first line has come, or with a reason."""
        try:
            self._child = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=self._own_session,
                env=dict(os.environ, PYTHONUNBUFFERED="1"), preexec_fn=_as_meter(self._busy_cores),
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            self.trouble = "cannot be started ({}): see `command` under [power] in the target's file".format(getattr(error, "strerror", None) or error)
            return
        self._readers = [threading.Thread(target=each, daemon=True) for each in (self._read_lines, self._read_remarks, self._await_end)]
        for reader in self._readers:
            reader.start()
        limit = clock() + FIRST_LINE_S
        while not self.lines and not self.trouble and clock() < limit:
            time.sleep(0.01)
        if not self.lines and not self.trouble:
            self.trouble = "printed no line within {:g} s: it must print `seconds watts` and flush after every line".format(FIRST_LINE_S)

    def stop(self):
        self._stopping = True
        if self._child is None:
            return
        self._signal(15)
        try:
            self._child.wait(2)
        except subprocess.TimeoutExpired:
            pass
        self._signal(9)
        self._child.wait()
        for reader in self._readers:
            reader.join(2)
        self._check_pace()

    def _signal(self, number):
        try:
            if self._own_session:
                os.killpg(self._child.pid, number)
            elif self._child.poll() is None:
                self._child.send_signal(number)
        except (OSError, ProcessLookupError):  # it has ended
            pass

    def _check_pace(self):
        if self.trouble or not self.lines:
            return
        here, there = (self.lines[-1][which] - self.lines[0][which] for which in (0, 1))
        if abs(there - here) > 1 + PACE * here:
            self.trouble = (
                "counted {:.3g} s while {:.3g} s passed: does it print seconds, and flush after every line?".format(there, here)
            )  # fmt: skip

    def _read_lines(self):
        began = clock()
        number = 0
        with self._child.stdout as pipe:
            while not self.trouble:
                line = pipe.readline(LINE_BYTES)
                arrival = clock()
                if not line.endswith(b"\n"):
                    if not self._stopping:
                        self.trouble = self._ended(number + 1, line)
                    return
                number += 1
                try:
                    parsed = parse(line)
                except ValueError as error:
                    self.trouble = "printed {} in line {}".format(error, number)
                    return
                if number > LINES_PER_S * (arrival - began + 1):
                    self.trouble = "floods: more than {} lines in a second; let it average".format(LINES_PER_S)
                elif parsed:
                    if self.lines and parsed[0] < self.lines[-1][1]:
                        self.trouble = "went back in time, from {:.6g} s to {:.6g} s, in line {}".format(self.lines[-1][1], parsed[0], number)
                        return
                    self.lines.append((arrival,) + parsed)

    def _ended(self, number, rest):
        """Why the lines ended; rest: what came after the last whole line."""
        if len(rest) >= LINE_BYTES:
            return "printed a line longer than {} bytes (line {}), not `seconds watts`".format(LINE_BYTES, number)
        try:
            code = self._child.wait(1)
        except subprocess.TimeoutExpired:
            return "closed its output after {} lines".format(number - 1)
        self._readers[1].join(1)
        remarks = self._remarks.decode("utf-8", "replace").strip().splitlines()
        how = "signal {}".format(-code) if code < 0 else "exit code {}".format(code)
        return "ended with {} after {} lines{}".format(how, number - 1, ": " + remarks[-1][:200] if remarks else "")

    def _await_end(self):
        """A program that is gone is told even where something that it started holds its output open, so that no end of it is ever read."""
        self._child.wait()
        self._readers[0].join(2)
        if not self._stopping and not self.trouble:
            self.trouble = self._ended(len(self.lines) + 1, b"")

    def _read_remarks(self):
        with self._child.stderr as pipe:
            for piece in iter(lambda: os.read(pipe.fileno(), 4096), b""):
                self._remarks = (self._remarks + piece)[-4096:]


def parse(line):
    """line: bytes. returns: (seconds, watts), None for a remark or an empty line. raises: ValueError that quotes the line"""
    words = line.split()
    if not words or words[0].startswith(b"#"):
        return None
    if len(words) == 2 and all(NUMBER.fullmatch(word) for word in words):
        seconds, watts = float(words[0]), float(words[1])
        if abs(seconds) < HUGE and abs(watts) < HUGE:
            return seconds, watts
    raise ValueError("{!r}, not `seconds watts`,".format(line[:80].decode("ascii", "replace").strip()))


def keep_away(busy_cores):
    """Let this thread run on the other cores, where there are any and the system can."""
    others = set(range(os.cpu_count() or 1)) - set(busy_cores or ())
    if busy_cores and others and hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(0, others)
        except OSError:  # a container may forbid it: then it shares the cores
            pass


def _as_meter(busy_cores):
    """What a meter's process does before its program: it ends when its parent is killed, and leaves the measured cores alone."""
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):  # not Linux
        return lambda: keep_away(busy_cores)

    def prepare():
        prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
        keep_away(busy_cores)

    return prepare
