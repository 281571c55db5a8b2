"""The jobs: probe, accuracy, latency, memory, power, clean; each takes a job (dict) and returns the result's own keys."""

import hashlib
import json
import math
import os
import shutil
import time

from fercompress_agent import Problem, engines, npyfile, sensors, timing


def run(job, interpreter_bytes):
    """returns: what the job adds to the result file. raises: Problem"""
    if job.get("job") not in JOBS:
        raise Problem("unknown job {!r}, this agent knows {}".format(job.get("job"), ", ".join(sorted(JOBS))))
    if job.get("affinity"):
        _pin(job["affinity"])
    return JOBS[job["job"]](job, interpreter_bytes)


def _pin(cores):
    if not hasattr(os, "sched_setaffinity"):
        raise Problem("this system cannot pin a process to cores: leave `cores` out of the target's file")
    try:
        os.sched_setaffinity(0, set(cores))
    except OSError as error:
        raise Problem("cannot pin to cores {} ({}): see `cores` in the target's file".format(cores, error))


def probe(job, interpreter_bytes):
    """What is there: which engines could start, and the machine's facts."""
    missing = {name: engines.missing(name) for name in engines.ENGINES}
    versions = {}
    for name in sorted(engines.ENGINES):
        if not missing[name]:
            engine = engines.ENGINES[name](1)
            engine.start()
            versions[name] = engine.versions()
    return {"engines": versions, "missing": {name: modules for name, modules in missing.items() if modules}}


def accuracy(job, interpreter_bytes):
    """The logits of every asked row, as float32 (rows, classes) in job["logits"].

    Features are kept in job["features"] (a folder), so that variants with the same extractor file compute them once.
    """
    bundle = Bundle(job)
    engine = _engine(job)
    engine.load(bundle.folder, bundle.manifest)
    logits = []
    with Clips(job, bundle) as clips, FeatureCache(job, bundle, engine) as cache:
        for index, row in enumerate(job["rows"]):
            joined = cache.get(index)
            if joined is None:
                joined = engine.join([engine.extract(frame) for frame in clips.frames(engine, row)])
                cache.put(joined)
            logits.append(engine.numbers(engine.predict(joined)))
    _check_logits(logits, bundle)
    part = str(job["logits"]) + ".part"
    npyfile.write_floats(part, logits)
    os.replace(part, str(job["logits"]))
    return {"facts": {"engine": engine.versions(), "features": "read from the cache" if cache.hit else "computed"}}


def latency(job, interpreter_bytes):
    bundle = Bundle(job)
    engine = _engine(job)
    began = timing.clock_ns()
    engine.load(bundle.folder, bundle.manifest)
    load_ns = timing.clock_ns() - began
    inputs = _inputs(job, bundle, engine)
    first = timing.Times()
    timing.time_clip(engine, inputs[0], first)
    _check_logits([engine.numbers(logits) for logits in first.logits], bundle)
    timing.stop_collector()
    noted = timing.warm_up(engine, inputs, job["warmup_clips"], job["warmup_cap_s"])
    before = sensors.processor_use()
    times = timing.time_block(engine, inputs, job["block_clips"], job["block_s"])
    noted.update(sensors.processor_share(before, sensors.processor_use()))
    _check_logits([engine.numbers(logits) for logits in times.logits], bundle)
    noted.update(engine=engine.versions(), load_ns=load_ns, first_clip_ns=first.clip_ns[0])
    return {
        "extractor_ns": times.extractor_ns,
        "predictor_ns": times.predictor_ns,
        "clip_ns": times.clip_ns,
        "frame_ns": times.frame_ns,
        "facts": noted,
    }


def memory(job, interpreter_bytes):
    """VmHWM after each step, in bytes; {} and a reason where the system does not tell."""
    if interpreter_bytes is None:
        return {"memory_bytes": {}, "reason": "n/a: /proc/self/status has no VmHWM on this system"}
    steps = {"interpreter": interpreter_bytes}
    bundle = Bundle(job)
    engine = _engine(job)
    steps["runtime"] = sensors.high_water_bytes()
    engine.load(bundle.folder, bundle.manifest)
    steps["model"] = sensors.high_water_bytes()
    logits = []
    with Clips(job, bundle) as clips:
        for row in job["rows"]:
            joined = engine.join([engine.extract(frame) for frame in clips.frames(engine, row)])
            logits.append(engine.numbers(engine.predict(joined)))
    steps["peak"] = sensors.high_water_bytes()
    _check_logits(logits, bundle)
    return {"memory_bytes": steps, "facts": {"engine": engine.versions()}}


def power(job, interpreter_bytes):
    """Energy of the processor packages while idle and while the model runs; {} and a reason where no counter can be read."""
    meter = sensors.Rapl(str(job.get("sysfs", "/sys")))
    if meter.reason:
        return {"power": {}, "reason": meter.reason}
    bundle = Bundle(job)
    engine = _engine(job)
    engine.load(bundle.folder, bundle.manifest)
    inputs = _inputs(job, bundle, engine)
    timing.warm_up(engine, inputs, job["warmup_clips"], job["warmup_cap_s"])
    idle_uj, idle_ns = _energy(meter, lambda: time.sleep(0.1), job["idle_s"])
    times = timing.Times()
    cycle = _cycle(engine, inputs, times)
    busy_uj, busy_ns = _energy(meter, lambda: next(cycle), job["power_s"])
    if idle_uj is None or busy_uj is None:
        return {"power": {}, "reason": "n/a: an energy counter could not be read to the end of the run"}
    if busy_uj == 0:
        return {"power": {}, "reason": "n/a: the energy counters stood still while the model ran"}
    _check_logits([engine.numbers(logits) for logits in times.logits[-1:]], bundle)
    clips_run = len(times.clip_ns)
    measured = {
        "power_w": busy_uj * 1e3 / busy_ns,
        "idle_w": idle_uj * 1e3 / idle_ns,
        "energy_per_clip_j": busy_uj / 1e6 / clips_run,
        "clips": clips_run,
        "seconds": busy_ns / 1e9,
    }
    scope = "processor packages (RAPL): " + ", ".join(path for path, _ in meter.counters)
    return {"power": measured, "facts": {"engine": engine.versions(), "power_scope": scope}}


def clean(job, interpreter_bytes):
    """Remove a folder that jobs filled; one that is not there is clean."""
    shutil.rmtree(str(job["folder"]), ignore_errors=True)
    return {}


JOBS = {"accuracy": accuracy, "clean": clean, "latency": latency, "memory": memory, "power": power, "probe": probe}


class Bundle(object):
    """A folder whose manifest and files have been checked against their sha256. raises: Problem"""

    def __init__(self, job):
        self.folder = str(job["bundle"])
        path = os.path.join(self.folder, "manifest.json")
        text = _read(path)
        if hashlib.sha256(text).hexdigest() != job["bundle_sha256"]:
            raise Problem("{}: the manifest is not the one that was sent (sha256 differs); export the bundle again".format(path))
        self.manifest = json.loads(text.decode("utf-8"))
        for name, told in sorted(self.manifest["files"].items()):
            if file_sha256(os.path.join(self.folder, name)) != told["sha256"]:
                raise Problem("{}: file does not match the manifest's sha256; export the bundle again".format(os.path.join(self.folder, name)))


class Clips(object):
    """The clips file, uint8 (N, T, H, W), checked against its sha256 and the bundle's shapes. raises: Problem"""

    def __init__(self, job, bundle):
        path = str(job["clips"])
        if file_sha256(path) != job["clips_sha256"]:
            raise Problem("{}: the clips are not the ones that were sent (sha256 differs); measure again".format(path))
        self.rows = npyfile.Rows(path)
        wanted = (bundle.manifest["frames"],) + tuple(bundle.manifest["extractor"]["input"]["shape"][2:])
        if self.rows.dtype != "|u1" or self.rows.shape[1:] != wanted:
            self.rows.close()
            raise Problem("{}: clips of {} do not fit the bundle's {}".format(path, self.rows.shape[1:], wanted))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.rows.close()

    def frames(self, engine, row):
        return engine.frames(self.rows.row(row), self.rows.shape[1:])


def _inputs(job, bundle, engine):
    """Every asked clip as the extractor's inputs, in memory."""
    with Clips(job, bundle) as clips:
        return [clips.frames(engine, row) for row in job["rows"]]


class FeatureCache(object):
    """Features of all asked rows in one .npy file (rows, T, D): read where it is there, else written and renamed when complete.

    The name holds the sha256 of all that the features depend on.
    """

    def __init__(self, job, bundle, engine):
        self.hit = False
        self.reader = self.writer = None
        self.engine = engine
        if not job.get("features"):
            return
        folder = str(job["features"])
        os.makedirs(folder, exist_ok=True)
        extractor = bundle.manifest["extractor"]
        key = [
            bundle.manifest["files"][extractor["file"]]["sha256"],
            bundle.manifest["preprocess"],
            job["clips_sha256"],
            job["rows"],
            job["engine"],
            engine.versions(),
        ]
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode("ascii")).hexdigest()[:32] + ".npy"
        self.path = os.path.join(folder, name)
        if os.path.exists(self.path):
            self.hit = True
            self.reader = npyfile.Rows(self.path)
        else:
            self.part = "{}.{}.part".format(self.path, os.getpid())
            self.writer = open(self.part, "wb")
            shape = [len(job["rows"])] + list(bundle.manifest["predictor"]["input"]["shape"][1:])
            npyfile.write_header(self.writer, "<f4", shape)

    def get(self, index):
        return self.engine.from_bytes(self.reader.row(index)) if self.reader else None

    def put(self, joined):
        if self.writer:
            self.writer.write(self.engine.to_bytes(joined))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if self.reader:
            self.reader.close()
        if self.writer:
            self.writer.close()
            if kind is None:
                os.replace(self.part, self.path)
            else:
                os.remove(self.part)


def file_sha256(path):
    total = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                total.update(piece)
    except OSError as error:
        raise Problem("cannot read {}: {}".format(path, error.strerror))
    return total.hexdigest()


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Problem("cannot read {}: {}".format(path, error.strerror))


def _engine(job):
    if job["engine"] not in engines.ENGINES:
        raise Problem("no engine named {!r}, this agent has {}".format(job["engine"], ", ".join(sorted(engines.ENGINES))))
    engine = engines.ENGINES[job["engine"]](job["threads"])
    engine.start()
    return engine


def _check_logits(rows, bundle):
    """A model that answers nothing must not be counted as fast or small. raises: Problem"""
    classes = len(bundle.manifest["classes"])
    for index, row in enumerate(rows):
        if len(row) != classes:
            raise Problem("the model gave {} logits for {} classes".format(len(row), classes))
        if not all(math.isfinite(value) for value in row):
            raise Problem("the model's logits are not finite (clip {} of this block): {}".format(index, row))
        if not any(row):
            raise Problem("the model's logits are all zero (clip {} of this block): the model does not work on this target".format(index))


def _energy(meter, step, least_s):
    """Repeat `step` for at least `least_s`; returns (microjoules or None, nanoseconds)."""
    first = meter.energy_uj()
    began = timing.clock_ns()
    next_read = began
    while True:
        step()
        now = timing.clock_ns()
        if now - began >= least_s * 1e9:
            last = meter.energy_uj()
            return (None if first is None or last is None else last - first), timing.clock_ns() - began
        if now >= next_read:  # once a second: often enough that no wrap is missed
            next_read = now + 1000000000
            if meter.energy_uj() is None:
                return None, now - began


def _cycle(engine, inputs, times):
    while True:
        for frames in inputs:
            timing.time_clip(engine, frames, times)
            yield
