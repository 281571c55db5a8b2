"""What data sheets leave open, asked of the board itself: one question by name and a job in, what was probed, the raw answer and a conclusion out.

A question that cannot be asked here gives a conclusion that begins with "n/a: " and still tells what it found. Each runs in a process of its own:
an NPU's runtime may hang or take the process with it.
"""

import glob
import os
import platform
import re
import subprocess
import sys
import time

from fercompress_agent import inputs, sensors, timing

LOAD_S = 5.0
GEMM_SIZE, GEMM_S = 512, 1.0
LATENCY_CALLS = 50
LONG_S = 60.0
PARTS = {"0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72", "0xd0b": "Cortex-A76"}
ROCKCHIP_USB, ROCKCHIP_PCI = "2207", "0x1d87"


def ask(job):
    """returns: {"probed", "raw", "conclusion"}"""
    asked = QUESTIONS[job["question"]]
    try:
        return asked(job)
    except (ImportError, OSError, RuntimeError, ValueError, AttributeError, TypeError) as error:
        return _answer("", {"error": "{}: {}".format(type(error).__name__, error)}, "n/a: it broke: {}".format(error))


def _answer(probed, raw, conclusion):
    return {"probed": probed, "raw": raw, "conclusion": conclusion}


def eval_perf(job):
    probed = "rknn.api on the board: type and content of eval_perf's answer"
    model = _model(job)
    try:
        from rknn.api import RKNN
    except ImportError as error:
        return _answer(probed, {"error": str(error)}, "n/a: this Python has no rknn.api (the full toolkit); rknnlite has no eval_perf")
    if model is None:
        return _answer(probed, {}, NO_MODEL)
    runtime = _loaded(RKNN, model)
    try:
        told = runtime.eval_perf(inputs=[_picture(model)], is_print=False)
    finally:
        runtime.release()
    raw = {"type": type(told).__name__, "answer": repr(told)[:4000]}
    kind = "a dict with the keys {}".format(", ".join(sorted(map(str, told)))) if isinstance(told, dict) else "no dict but a {}".format(raw["type"])
    return _answer(probed, raw, "eval_perf returns {}".format(kind))


def power_sensor(job):
    """Which rail a sensor reads shows in its voltage, and in what it says while every core works."""
    probed = "INA2xx hwmon nodes, idle and with every core busy for {:g} s".format(job.get("load_s", LOAD_S))
    chips = ina_chips(str(job.get("sysfs", "/sys")))
    if not chips:
        return _answer(probed, {}, "n/a: no chip of the INA2xx family under /sys/class/hwmon")
    idle = {name: _readings(folder) for name, folder in chips.items()}
    with _Busy():
        time.sleep(job.get("load_s", LOAD_S))
        busy = {name: _readings(folder) for name, folder in chips.items()}
    said = []
    for name in sorted(chips):
        volts = idle[name].get("in1_input")
        before, after = (found[name].get("curr1_input") for found in (idle, busy))
        rail = "unknown rail" if volts is None else "a supply of the board ({:.2f} V)".format(volts / 1e3) if volts > 2500 else "a core's rail ({:.2f} V)".format(volts / 1e3)
        change = "no current is told" if before is None or after is None else "{} mA idle, {} mA with all cores busy".format(before, after)
        shunt = idle[name].get("shunt_resistor")
        said.append("{} reads {}, {}, shunt {}".format(name, rail, change, "unknown" if shunt is None else "{} microohm".format(shunt)))
    return _answer(probed, {"idle": idle, "busy": busy}, "; ".join(said))


def ina_chips(sysfs):
    """{"ina219 6-0047": folder}"""
    found = {}
    for folder in sorted(glob.glob(os.path.join(sysfs, "class/hwmon/hwmon*"))):
        name = sensors.read_text(os.path.join(folder, "name")) or ""
        if name.startswith("ina"):
            link = os.path.join(folder, "device")
            device = os.path.basename(os.path.realpath(link) if os.path.exists(link) else folder)
            found["{} {}".format(name, device)] = folder
    return found


def _readings(folder):
    names = ("in0_input", "in1_input", "curr1_input", "power1_input", "shunt_resistor")
    found = {name: sensors.read_int(os.path.join(folder, name)) for name in names}
    return {name: value for name, value in found.items() if value is not None}


class _Busy:
    """One process per core that counts."""

    def __enter__(self):
        self.children = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]

    def __exit__(self, *_):
        for child in self.children:
            child.kill()
        for child in self.children:
            child.wait()


def npu_memory(job):
    probed = "VmHWM and Pss of a process after importing rknnlite, after init_runtime and after one inference"
    try:
        from rknnlite.api import RKNNLite
    except ImportError as error:
        return _answer(probed, {"error": str(error)}, "n/a: this Python has no rknnlite")
    raw = {"imported": _memory()}
    model = _model(job)
    if model is None:
        return _answer(probed, raw, NO_MODEL)
    runtime = _loaded(RKNNLite, model)
    try:
        raw["initialised"] = _memory()
        _inferred(runtime, model)
        raw["inferred"] = _memory()
    finally:
        runtime.release()
    last = raw["inferred"]
    return _answer(probed, raw, "VmHWM {}, Pss {}".format(_mib(last["vmhwm_bytes"]), _mib(last["pss_bytes"])))


def _mib(size_bytes):
    return "unknown" if size_bytes is None else "{:.1f} MiB".format(size_bytes / 2.0**20)


def _memory():
    return {"vmhwm_bytes": sensors.high_water_bytes(), "pss_bytes": sensors.pss_bytes()}


def transfer(job):
    probed = "the NPU's bus; time of inference() on the host against the NPU's own time (eval_perf of the full toolkit)"
    raw = {"bus": bus(str(job.get("sysfs", "/sys")))}
    model, lacking = _runtime(job)
    if lacking:
        return _answer(probed, raw, lacking)
    raw["host_us"] = _median([value / 1e3 for value in _latencies(job, model, LATENCY_CALLS)])
    try:
        from rknn.api import RKNN
    except ImportError:
        return _answer(probed, raw, "n/a: over {} a call takes {:.0f} us, of which the NPU's part only rknn.api tells".format(raw["bus"], raw["host_us"]))
    runtime = _loaded(RKNN, model)
    try:
        told = runtime.eval_perf(inputs=[_picture(model)], is_print=False)
    finally:
        runtime.release()
    npu_us = re.search(r"total_time\D+([\d.]+)|Time\(us\): ([\d.]+)", repr(told))
    if npu_us is None:
        return _answer(probed, dict(raw, eval_perf=repr(told)[:2000]), "n/a: no time can be found in what eval_perf says")
    raw["npu_us"] = float(npu_us.group(1) or npu_us.group(2))
    rest = raw["host_us"] - raw["npu_us"]
    return _answer(probed, raw, "over {}: {:.0f} us a call, {:.0f} us in the NPU, {:.0f} us for inputs, outputs and host".format(raw["bus"], raw["host_us"], raw["npu_us"], rest))


def bus(sysfs):
    """Where Rockchip's NPU hangs, as far as this system shows it."""
    for node in glob.glob(os.path.join(sysfs, "bus/usb/devices/*/idVendor")):
        if sensors.read_text(node) == ROCKCHIP_USB:
            return "USB"
    for node in glob.glob(os.path.join(sysfs, "bus/pci/devices/*/vendor")):
        if sensors.read_text(node) == ROCKCHIP_PCI and not (sensors.read_text(os.path.join(os.path.dirname(node), "class")) or "").startswith("0x0604"):
            return "PCIe"
    return "an unknown bus"


def npu_latency(job):
    probed = "{} calls of inference() for the model that was given".format(LATENCY_CALLS)
    model, lacking = _runtime(job)
    if lacking:
        return _answer(probed, {}, lacking)
    found = sorted(value / 1e6 for value in _latencies(job, model, LATENCY_CALLS))
    raw = {"model": os.path.basename(model["path"]), "sha256": model["sha256"], "ms": found}
    return _answer(probed, raw, "{}: median {:.2f} ms, {:.2f} to {:.2f}".format(raw["model"], _median(found), found[0], found[-1]))


def flop_per_cycle(job):
    """A square product of float32 on one core of every kind, against the clock that the kernel tells."""
    probed = "{0} x {0} float32 products by numpy, one thread, pinned to one core of each kind, for {1:g} s".format(GEMM_SIZE, GEMM_S)
    for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[pool] = "1"
    try:
        import numpy
    except ImportError:
        return _answer(probed, {}, "n/a: this Python has no numpy")
    raw, said = {}, []
    for kind, core in sorted(kinds(str(job.get("proc", "/proc"))).items()):
        node = os.path.join(str(job.get("sysfs", "/sys")), "devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq".format(core))
        os.sched_setaffinity(0, {core})
        gflops = _gemm(numpy, job.get("gemm_s", GEMM_S))
        khz = sensors.read_int(node)
        raw[kind] = {"core": core, "gflops": gflops, "khz": khz}
        per_cycle = "its clock is not told" if not khz else "{:.2f} FLOP per cycle at {:.0f} MHz".format(gflops * 1e6 / khz, khz / 1e3)
        said.append("{}: {:.2f} GFLOP/s, {}".format(kind, gflops, per_cycle))
    if not any("A53" in kind for kind in raw):
        return _answer(probed, raw, "n/a: no Cortex-A53 here; {}".format("; ".join(said)))
    return _answer(probed, raw, "; ".join(said))


def kinds(proc="/proc"):
    """{"Cortex-A53": 0, "Cortex-A72": 4}: the first core of every kind that this process may use"""
    found, core = {}, None
    for line in (sensors.read_text(os.path.join(proc, "cpuinfo")) or "").splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "processor" and value.isdigit():
            core = int(value)
        elif core is not None and key in ("CPU part", "model name"):
            found.setdefault(PARTS.get(value, value), core)
    return found or {platform.machine(): min(os.sched_getaffinity(0))}


def _gemm(numpy, for_s):
    one = numpy.ones((GEMM_SIZE, GEMM_SIZE), numpy.float32)
    one.dot(one)
    calls, began = 0, timing.clock_ns()
    while timing.clock_ns() - began < for_s * 1e9:
        one.dot(one)
        calls += 1
    return 2.0 * GEMM_SIZE**3 * calls / (timing.clock_ns() - began)


def throttle(job):
    probed = "inference() without a pause for {:g} s, temperatures and devfreq before and after".format(job.get("long_s", LONG_S))
    sysfs = str(job.get("sysfs", "/sys"))
    raw = {"devices": sensors.devices(sysfs), "temperature_mc": [sensors.temperatures(sysfs)]}
    model, lacking = _runtime(job)
    if lacking:
        return _answer(probed, raw, lacking)
    found = _latencies(job, model, None, job.get("long_s", LONG_S))
    raw["temperature_mc"].append(sensors.temperatures(sysfs))
    tenth = max(1, len(found) // 10)
    first, last = _median(found[:tenth]), _median(found[-tenth:])
    raw.update(calls=len(found), first_tenth_ns=first, last_tenth_ns=last)
    clock = "its clock is told by no devfreq node here" if not any("npu" in name for name in raw["devices"]) else "see the devfreq nodes for its clock"
    return _answer(probed, raw, "the last tenth's median is {:.3f} of the first's over {} calls; {}".format(last / first, len(found), clock))


NO_MODEL = "n/a: it takes a model: --rknn FILE=H,W,C"


def _model(job):
    return job.get("model")


def _runtime(job):
    """The job's model, and why it cannot be run ("" where it can)."""
    model = _model(job)
    if _npu_class() is None:
        return model, "n/a: this Python has neither rknnlite nor rknn"
    return model, "" if model else NO_MODEL


def _npu_class():
    try:
        from rknnlite.api import RKNNLite

        return RKNNLite
    except ImportError:
        pass
    try:
        from rknn.api import RKNN

        return RKNN
    except ImportError:
        return None


def _loaded(kind, model):
    """raises: RuntimeError, OSError"""
    if inputs.file_sha256(model["path"]) != model["sha256"]:
        raise RuntimeError("the model is not the one that was sent")
    runtime = kind()
    for what, code in (("load_rknn", runtime.load_rknn(model["path"])), ("init_runtime", runtime.init_runtime())):
        if code:
            raise RuntimeError("{} returned {}".format(what, code))
    return runtime


def _picture(model):
    import numpy

    return numpy.full(model["shape"], 127, numpy.uint8)


def _inferred(runtime, model):
    if runtime.inference(inputs=[_picture(model)]) is None:
        raise RuntimeError("inference returned None")


def _latencies(job, model, calls, for_s=None):
    """Nanoseconds of every call, after three that are not counted."""
    runtime = _loaded(_npu_class(), model)
    picture, found = _picture(model), []
    try:
        for _ in range(3):
            _inferred(runtime, model)
        began = timing.clock_ns()
        while len(found) < calls if for_s is None else timing.clock_ns() - began < for_s * 1e9:
            start = timing.clock_ns()
            runtime.inference(inputs=[picture])
            found.append(timing.clock_ns() - start)
    finally:
        runtime.release()
    return found


def _median(values):
    return timing.median(values)


QUESTIONS = {
    "eval_perf": eval_perf, "power_sensor": power_sensor, "npu_memory": npu_memory, "transfer": transfer, "npu_latency": npu_latency,
    "flop_per_cycle": flop_per_cycle, "throttle": throttle,
}  # fmt: skip
