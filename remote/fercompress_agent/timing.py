"""The only timing loop: a model and clips in, nanoseconds per frame, stage and clip out."""

import gc
import itertools
import time

WINDOW = 10  # clips whose medians are compared to see whether the model has warmed up
SETTLED = 0.01  # largest relative difference of two such medians


def _seconds_as_ns():
    return int(time.perf_counter() * 1e9)


clock_ns = getattr(time, "perf_counter_" + "ns", _seconds_as_ns)  # CPython 3.6 has the clock in seconds only


def clock_facts():
    info = time.get_clock_info("perf_counter")
    kind = "perf_counter_ns" if clock_ns is not _seconds_as_ns else "perf_counter, as float seconds"
    return {"clock": kind, "clock_resolution_ns": info.resolution * 1e9}


class Times:
    """One int (ns) per timed clip, in call order; frame_ns: T per clip, flattened; logits: what the model answered, per clip."""

    def __init__(self):
        self.frame_ns = []
        self.extractor_ns = []
        self.predictor_ns = []
        self.clip_ns = []
        self.logits = []


def time_clip(model, frames, times, clock=clock_ns):
    """Each frame alone through the extractor, then the predictor once.

    extractor_ns is the sum of the frames' times; clip_ns runs from the first frame's start to the logits, so it also holds
    the joining of the features and the loop itself.
    """
    features = []
    stamps = [clock()]
    for frame in frames:
        features.append(model.extract(frame))
        stamps.append(clock())
    joined = model.join(features)
    before = clock()
    logits = model.predict(joined)
    end = clock()
    frame_ns = [after - start for start, after in zip(stamps, stamps[1:])]
    times.frame_ns.extend(frame_ns)
    times.extractor_ns.append(sum(frame_ns))
    times.predictor_ns.append(end - before)
    times.clip_ns.append(end - stamps[0])
    times.logits.append(logits)


def warm_up(model, clips, least_clips, cap_s, clock=clock_ns):
    """Run until the last ten clips' median is within 1 % of the ten before, at least `least_clips`, at most `cap_s`.

    least_clips = 0 turns the warm-up off. returns: facts, the warm-up's own length and whether it settled
    """
    times = Times()
    settled = False
    began = clock()
    if least_clips:
        for frames in itertools.cycle(clips):
            time_clip(model, frames, times, clock)
            settled = len(times.clip_ns) >= 2 * WINDOW and is_settled(times.clip_ns)
            if len(times.clip_ns) >= least_clips and (settled or clock() - began >= cap_s * 1e9):
                break
    return {"warmup_clips": len(times.clip_ns), "warmup_s": (clock() - began) / 1e9, "warmup_settled": settled}


def is_settled(clip_ns):
    earlier = median(clip_ns[-2 * WINDOW : -WINDOW])
    return abs(median(clip_ns[-WINDOW:]) - earlier) <= SETTLED * earlier


def time_block(model, clips, least_clips, least_s, clock=clock_ns):
    """Time clips in order, from the first again after the last, until there are `least_clips` and `least_s` have passed."""
    times = Times()
    began = clock()
    for frames in itertools.cycle(clips):
        time_clip(model, frames, times, clock)
        if len(times.clip_ns) >= least_clips and clock() - began >= least_s * 1e9:
            return times


def time_stream(model, clips, how_many, clock=clock_ns):
    """Nanoseconds of every frame as it comes: through the extractor, then one step of the predictor with the state carried on.

    After the block, so that it disturbs nothing. returns: how_many clips' frames, flattened; a first, untimed clip warms up
    """
    found = []
    for place, frames in enumerate(itertools.islice(itertools.cycle(clips), how_many + 1 if how_many else 0)):
        state = model.second.state()
        for frame in frames:
            start = clock()
            _, state = model.second.step(model.extract(frame), state)
            end = clock()
            if place:
                found.append(end - start)
    return found


def stop_collector():
    """Before the warm-up, not after it: a collection empties the caches, and the clip after it took seven times as long as the others."""
    gc.collect()
    getattr(gc, "freeze", int)()  # CPython 3.7: what is there now is never looked at again
    gc.disable()


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2.0
