"""The jobs: probe, accuracy, latency, memory, power, clean; each takes a job (dict) and returns the result's own keys."""

import math
import os
import shutil
import time

from fercompress_agent import Problem, engines, inputs, npyfile, sensors, timing


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
    bundle = inputs.Bundle(job)
    engine = _engine(job)
    engine.load(bundle.folder, bundle.manifest)
    logits = []
    with inputs.Clips(job, bundle) as clips, inputs.FeatureCache(job, bundle, engine) as cache:
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
    sha256 = inputs.file_sha256(str(job["logits"]))
    return {"logits_sha256": sha256, "facts": {"engine": engine.versions(), "features": "read from the cache" if cache.hit else "computed"}}


def latency(job, interpreter_bytes):
    bundle = inputs.Bundle(job)
    engine = _engine(job)
    began = timing.clock_ns()
    engine.load(bundle.folder, bundle.manifest)
    load_ns = timing.clock_ns() - began
    prepared = _prepared(job, bundle, engine)
    first = timing.Times()
    timing.time_clip(engine, prepared[0], first)
    _check_logits([engine.numbers(logits) for logits in first.logits], bundle)
    timing.stop_collector()
    noted = timing.warm_up(engine, prepared, job["warmup_clips"], job["warmup_cap_s"])
    before = sensors.processor_use()
    times = timing.time_block(engine, prepared, job["block_clips"], job["block_s"])
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
    bundle = inputs.Bundle(job)
    engine = _engine(job)
    steps["runtime"] = sensors.high_water_bytes()
    engine.load(bundle.folder, bundle.manifest)
    steps["model"] = sensors.high_water_bytes()
    logits = []
    with inputs.Clips(job, bundle) as clips:
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
    bundle = inputs.Bundle(job)
    engine = _engine(job)
    engine.load(bundle.folder, bundle.manifest)
    prepared = _prepared(job, bundle, engine)
    timing.warm_up(engine, prepared, job["warmup_clips"], job["warmup_cap_s"])
    idle_uj, idle_ns = _energy(meter, lambda: time.sleep(0.1), job["idle_s"])
    times = timing.Times()
    cycle = _cycle(engine, prepared, times)
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


def conditions(job, interpreter_bytes):
    """Nothing: what is asked for are the facts that every result has (temperatures, clocks, the time)."""
    return {}


def clean(job, interpreter_bytes):
    """Remove a folder that jobs filled; one that is not there is clean."""
    shutil.rmtree(str(job["folder"]), ignore_errors=True)
    return {}


JOBS = {"accuracy": accuracy, "clean": clean, "conditions": conditions, "latency": latency, "memory": memory, "power": power, "probe": probe}


def _prepared(job, bundle, engine):
    """Every asked clip as the extractor's inputs, in memory."""
    with inputs.Clips(job, bundle) as clips:
        return [clips.frames(engine, row) for row in job["rows"]]


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


def _cycle(engine, prepared, times):
    while True:
        for frames in prepared:
            timing.time_clip(engine, frames, times)
            yield
