"""The power pass: idle, load, idle; a meter's samples and the phases' stamps in, watts and joules out.

The host uses `figures` too, for a meter of its own.
"""

import bisect
import time

from fercompress_agent import meters

GAP = 0.05  # a gap that covers more of a window than this leaves no figure
TRACE_POINTS = 240
PHASES = ("idle_before", "load", "idle_after")


def run(job, ready):
    """job["power"]: the target's [power]. ready: loads and warms up, returns (run a clip by its number, check its logits, frames per clip)

    returns: what the job adds to the result file. A side other than "board" measures elsewhere: then the phases' stamps are the answer.
    """
    asked = job["power"]
    meter, reason = None, ""
    if asked["side"] == "board":
        # Before the runtime is loaded: a missing meter costs no time, and a program is not forked off a process with threads.
        meter, reason = meters.find(asked, str(job.get("sysfs", "/sys")), job.get("affinity"))
    if reason:
        return {"power": {}, "reason": reason}
    try:
        if meter:
            meter.start()
            if meter.reason:
                return {"power": {}, "reason": meter.reason}
        run_clip, check, frames = ready()
        phases, clips, logits = go_through(asked, run_clip, lambda: meter.reason if meter else "")
    finally:
        if meter:
            meter.stop()
    if logits is not None:
        check(logits)
    facts = {"power_side": asked["side"], "power_phases": phases, "power_clips": clips, "power_frames": frames}
    if meter is None:
        return {"power": {}, "reason": "n/a: the meter is on the host's side", "facts": facts}
    measured, reason = ({}, meter.reason) if meter.reason else figures(meter.samples, meter.counter, phases, clips, frames)
    facts.update(power_source=meter.source, power_scope=meter.scope)
    if measured:
        facts["power_trace"] = trace(meter.samples, meter.counter)
    return {"power": measured, "reason": reason, "facts": facts}


def go_through(asked, run_clip, trouble, clock=meters.clock):
    """Idle, load, idle, each settled before its window begins. trouble: "" while it makes sense to go on

    returns: (phase -> [begin, end] in seconds on `clock`, clips run in the load, the last one's logits; phases are fewer where there was trouble)
    """
    phases, clips, logits = {}, 0, None
    for phase in PHASES:
        if trouble():
            break
        if phase == "load":
            settled = clock() + asked["settle_s"]
            while clock() < settled:
                run_clip(clips)
            begin = clock()
            end = begin + asked["load_s"]
            while clock() < end:
                logits = run_clip(clips)
                clips += 1
        else:
            time.sleep(asked["settle_s"])
            begin = clock()
            time.sleep(asked["idle_s"])
        phases[phase] = [begin, clock()]
    time.sleep(min(asked["settle_s"], 1))  # the sample after the last window's end
    return phases, clips, logits


def figures(samples, counter, phases, clips, frames, uncertainty_s=0.0):
    """samples: (seconds, watts or, with counter, joules counted up); phases: their stamps on the samples' clock, each unsure by uncertainty_s.

    returns: (figures, "") or ({}, why there are none). An inference is one of a clip's `frames`, its share of the predictor included.
    """
    windows = {}
    for phase in PHASES:
        if phase not in phases:
            return {}, "n/a: the pass ended before the phase {}".format(phase)
        begin, end = phases[phase]
        if end - begin <= 4 * uncertainty_s:
            return {}, "n/a: the clocks agree within {:.3g} s only, the phase {} has {:.3g} s".format(uncertainty_s, phase, end - begin)
        windows[phase], reason = window(samples, counter, begin + uncertainty_s, end - uncertainty_s)
        if reason:
            return {}, "n/a: {} (phase {})".format(reason, phase)
    load = windows["load"]
    if load["watts"] <= 0:
        what = "the energy counters stood still" if counter else "the meter reads {:.3g} W".format(load["watts"])
        return {}, "n/a: {} while the model ran".format(what)
    if not clips:
        return {}, "n/a: no clip ended within the load"
    seconds = phases["load"][1] - phases["load"][0]
    before_w, after_w = windows["idle_before"]["watts"], windows["idle_after"]["watts"]
    idle_w = (before_w + after_w) / 2
    clip_j, clip_net_j = load["watts"] * seconds / clips, (load["watts"] - idle_w) * seconds / clips
    return {
        "power_w": load["watts"],
        "idle_w": idle_w,
        "idle_before_w": before_w,
        "idle_after_w": after_w,
        "net_w": load["watts"] - idle_w,
        "energy_per_clip_j": clip_j,
        "energy_per_clip_net_j": clip_net_j,
        "energy_per_inference_j": clip_j / frames,
        "energy_per_inference_net_j": clip_net_j / frames,
        "clips": clips,
        "seconds": seconds,
        "idle_seconds": min(phases[phase][1] - phases[phase][0] for phase in ("idle_before", "idle_after")),
        "samples": load["samples"],
        "rate_hz": load["samples"] / seconds,
        "gap_s": max(each["gap_s"] for each in windows.values()),
        "counter": 1 if counter else 0,
        "uncertainty_s": uncertainty_s,
    }, ""


def window(samples, counter, begin, end):
    """Mean power between two stamps: the trapezoid rule for watts, the difference for a counter, edges interpolated.

    returns: ({"watts", "samples" within, "gap_s": the longest time without one}, "") or (None, why not)
    """
    times = [seconds for seconds, _ in samples]
    inside = samples[max(bisect.bisect_right(times, begin) - 1, 0) : bisect.bisect_left(times, end) + 1]
    points = [(min(max(seconds, begin), end), _at(samples, times, min(max(seconds, begin), end))) for seconds, _ in inside]
    stamps = [begin] + [seconds for seconds, _ in points] + [end]
    gap_s = max(after - before for before, after in zip(stamps, stamps[1:]))
    if gap_s > GAP * (end - begin):
        return None, "the meter has a gap of {:.3g} s in a window of {:.3g} s: it may cover {:.0%}".format(gap_s, end - begin, GAP)
    if counter:
        joules = points[-1][1] - points[0][1]
    else:
        joules = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in zip(points, points[1:]))
    within = bisect.bisect_right(times, end) - bisect.bisect_left(times, begin)
    return {"watts": joules / (points[-1][0] - points[0][0]), "samples": within, "gap_s": gap_s}, ""


def _at(samples, times, stamp):
    """The value at a stamp between two samples."""
    right = bisect.bisect_left(times, stamp)
    if right == len(times) or times[right] == stamp:
        return samples[min(right, len(times) - 1)][1]
    if right == 0:
        return samples[0][1]
    (before, low), (after, high) = samples[right - 1], samples[right]
    return low + (high - low) * (stamp - before) / (after - before)


def trace(samples, counter):
    """At most some 240 of (seconds since the first, mean watts), for a person to look at."""
    step = len(samples) // TRACE_POINTS + 1
    found = []
    for (begin, first), (end, last), chunk in (
        (samples[index], samples[index + step], samples[index : index + step]) for index in range(0, len(samples) - step, step)
    ):
        watts = (last - first) / max(end - begin, 1e-9) if counter else sum(value for _, value in chunk) / len(chunk)
        found.append((round((begin + end) / 2 - samples[0][0], 3), round(watts, 4)))
    return found
