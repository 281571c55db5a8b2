"""The jobs: probe, doctor, provision, accuracy, latency, memory, power, conditions, clean; each takes a job (dict) and returns the result's own keys."""

import math
import os

from fercompress_agent import Problem, engines, inputs, npyfile, sensors, timing, wheels
from fercompress_agent import power as power_pass


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
    """What is there: which engines and pairs of them could start, and the machine's facts."""
    missing = {name: engines.missing(name) for name in engines.ENGINES}
    versions = {}
    for name in sorted(engines.ENGINES):
        if not missing[name]:
            half = engines.ENGINES[name](1)
            try:
                half.start()
            except Problem as problem:  # it is installed, and broken: the others are no worse for it
                missing[name] = [str(problem)]
                continue
            versions[name] = half.versions()
    pairs = [(one, other) for one in versions for other in versions if one != other and engines.fits(one, other)]
    versions.update({"{}+{}".format(*pair): dict(versions[pair[0]], **versions[pair[1]]) for pair in pairs})
    return {"engines": versions, "missing": {name: modules for name, modules in missing.items() if modules}}


def accuracy(job, interpreter_bytes):
    """The logits of every asked row, as float32 (rows, classes) in job["logits"].

    Features are kept in job["features"] (a folder), so that variants with the same extractor file compute them once.
    """
    bundle = inputs.Bundle(job)
    engine = _engine(job)
    engine.load(bundle.folder, bundle.manifest)
    logits = []
    with inputs.opened(job, bundle, engine) as clips, inputs.FeatureCache(job, bundle, engine) as cache:
        for index, row in enumerate(job["rows"]):
            joined = cache.get(index)
            if joined is None:
                joined = engine.join([engine.extract(frame) for frame in clips.frames(engine, row)])
                cache.put(joined)
            logits.append(engine.numbers(engine.predict(joined)))
    _check_logits(logits, bundle)
    if engine.answers and len(set(job["rows"])) > 1 and all(row == logits[0] for row in logits):
        raise Problem("the model gave the same logits for all {} clips: it does not look at them on this target".format(len(logits)))
    part = str(job["logits"]) + ".part"
    npyfile.write_floats(part, logits)
    os.replace(part, str(job["logits"]))
    sha256 = inputs.file_sha256(str(job["logits"]))
    features = "computed elsewhere" if engine.stored else "read from the cache" if cache.hit else "computed"
    return {"logits_sha256": sha256, "facts": {"engine": engine.versions(), "features": features}}


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
    if engine.stored:
        reason = "n/a: the features were computed elsewhere, so that neither the extractor nor a whole clip was timed"
        return {"extractor_ns": [], "predictor_ns": times.predictor_ns, "clip_ns": [], "frame_ns": [], "reason": reason, "facts": noted}
    stream_ns = timing.time_stream(engine, prepared, job.get("stream_clips", 0)) if engine.streams else []
    if job.get("stream_clips") and not engine.streams:
        noted["stream_reason"] = "the predictor's half of {} takes whole clips of this bundle: numpy runs step by step, where the head reads the last state".format(
            job["engine"]
        )
    noted.update(engine.own_facts())
    return {
        "stream_ns": stream_ns,
        "extractor_ns": times.extractor_ns,
        "predictor_ns": times.predictor_ns,
        "clip_ns": times.clip_ns,
        "frame_ns": times.frame_ns,
        "facts": noted,
    }


def memory(job, interpreter_bytes):
    """The most memory after each step, in bytes; {} and a reason where the system does not tell.

    <step>_anonymous, <step>_file: of the pages after that step, those of the process's own and those that files back, where the kernel tells them
    inference_peak: of the clips after the first alone, what was needed only to load being given back; where the kernel allows to ask for it
    """
    gauge = sensors.MemoryGauge(interpreter_bytes, str(job.get("proc", "/proc")))
    if gauge.method is None:
        return {"memory_bytes": {}, "reason": "n/a: this system has neither VmHWM in /proc/self/status nor Pss in /proc/self/smaps"}
    steps = {}

    def note(step):
        steps[step] = gauge.peak_bytes()
        steps.update({"{}_{}".format(step, part): size for part, size in gauge.parts.items()})

    note("interpreter")
    bundle = inputs.Bundle(job)
    engine = _engine(job)
    engine.first.for_memory = True
    note("runtime")
    engine.load(bundle.folder, bundle.manifest)
    note("model")
    logits = []
    with inputs.opened(job, bundle, engine) as clips:
        for place, row in enumerate(job["rows"]):
            joined = engine.join([engine.extract(frame) for frame in clips.frames(engine, row)])
            logits.append(engine.numbers(engine.predict(joined)))
            gauge.sample()
            if not place:
                gauge.start_again()
    if gauge.again and len(job["rows"]) > 1:
        steps["inference_peak"] = gauge.since_bytes()
    note("peak")
    _check_logits(logits, bundle)
    noted = {"engine": engine.versions(), "memory_method": gauge.method, "memory_parts_method": gauge.parts_method}
    return {"memory_bytes": steps, "facts": dict(engine.own_facts(), **noted)}


def power(job, interpreter_bytes):
    """Watts and joules while idle and while the model runs; {} and a reason where there is no meter, or none that can be trusted."""
    versions = {}

    def ready():
        bundle = inputs.Bundle(job)
        engine = _engine(job)
        engine.load(bundle.folder, bundle.manifest)
        versions.update(engine.versions())
        prepared = _prepared(job, bundle, engine)
        timing.stop_collector()
        timing.warm_up(engine, prepared, job["warmup_clips"], job["warmup_cap_s"])

        def run_clip(number):  # nothing is timed here: the loop counts clips
            frames = prepared[number % len(prepared)]
            return engine.predict(engine.join([engine.extract(frame) for frame in frames]))

        def check(logits):
            _check_logits([engine.numbers(logits)], bundle)

        check(run_clip(0))
        return run_clip, check, bundle.manifest["frames"] if bundle.manifest.get("foreign") else len(prepared[0])

    result = power_pass.run(job, ready)
    if versions:
        result["facts"] = dict(result.get("facts", {}), engine=versions)
    return result


def conditions(job, interpreter_bytes):
    """Nothing: what is asked for are the facts that every result has (temperatures, clocks, the time)."""
    return {}


def examine(job, interpreter_bytes):
    """The machine's facts, for `fercompress board check`."""
    from fercompress_agent import doctor

    return {"facts": {"doctor": doctor.examine(os.getcwd(), str(job.get("sysfs", "/sys")), str(job.get("proc", "/proc")))}}


def question(job, interpreter_bytes):
    """One open question about the board, for `fercompress board check --answers`."""
    from fercompress_agent import questions

    return {"facts": {"answer": questions.ask(job)}}


def provision(job, interpreter_bytes):
    """Unpack wheels that were sent, for this interpreter and this agent alone."""
    return {"facts": {"provisioned": wheels.install(job["wheels"], job["versions"], job["limit_bytes"])}}


def clean(job, interpreter_bytes):
    """Remove a folder that jobs filled; one that is not there is clean."""
    import shutil  # with its compressors 0.7 MB, which no other job needs

    shutil.rmtree(str(job["folder"]), ignore_errors=True)
    return {}


JOBS = {
    "accuracy": accuracy, "clean": clean, "conditions": conditions, "doctor": examine, "latency": latency, "memory": memory, "power": power, "probe": probe,
    "provision": provision, "question": question,
}  # fmt: skip


def _prepared(job, bundle, engine):
    """Every asked clip as the extractor's inputs, in memory."""
    with inputs.opened(job, bundle, engine) as clips:
        return [clips.frames(engine, row) for row in job["rows"]]


def _engine(job):
    engine = engines.make(job["engine"], job["threads"])
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
