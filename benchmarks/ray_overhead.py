"""What a task costs beyond its own work, with Ray on this machine: python benchmarks/ray_overhead.py

Tasks that do nothing are given what real ones are given (the clips, once for all; finished work as bytes) and return as much. A worker's first task
also imports torch and this package; that is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

import numpy as np

from fercompress.raypool import Done, Pool, connected, slots


def nothing(clips: np.ndarray, *given: Done) -> Done:
    """Import what real tasks import, touch the clips, give back what was given."""
    import fercompress.making

    assert clips[0, 0, 0, 0] >= 0
    assert fercompress.making
    return Done(given[0].kept if given else {}, 0.0, "")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tasks", type=int, default=50, help="of each kind")
    arguments = parser.parse_args()
    frames = np.zeros((3000, 16, 64, 64), np.uint8)  # as many bytes as the default study's clips
    with connected(Pool(), ()) as ray:
        at_once = slots(ray, Pool())
        task, clips = ray.remote(nothing), ray.put(frames)
        start = time.perf_counter()
        ray.get([task.remote(clips) for _ in range(at_once)])
        first_s = time.perf_counter() - start
        rows = [{"what": f"{at_once} worker processes start and import", "ms": 1000 * first_s}]
        for name, size in (("nothing", 0), ("1 MB", 10**6), ("20 MB, about a dense teacher's weights", 20 * 10**6)):
            given = ray.put(Done({"work/teacher-0/best.safetensors": bytes(size)}, 0.0, ""))
            seconds = []
            for _ in range(arguments.tasks):
                start = time.perf_counter()
                ray.get(task.remote(clips, given))
                seconds.append(time.perf_counter() - start)
            rows.append({"what": f"a task alone that is given and returns {name}", "ms": 1000 * statistics.median(seconds)})
        start = time.perf_counter()
        ray.get([task.remote(clips) for _ in range(10 * arguments.tasks)])
        rows.append(
            {"what": f"each of {10 * arguments.tasks} tasks, {at_once} at once", "ms": 1000 * (time.perf_counter() - start) / (10 * arguments.tasks)}
        )
        rows.append({"what": "load of the machine meanwhile (1 minute's average)", "load": os.getloadavg()[0]})
    print(json.dumps({"ray": ray.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
