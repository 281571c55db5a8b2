"""From disk to a cache of face crops: frames per second beside OpenCV's own loop, and the memory that 10,000 clips take.

    python benchmarks/decode.py [--rounds 6] [--processes 2] [--write]         speed, JSON; --write: into benchmarks/results/decode.{json,md}
    python benchmarks/decode.py --memory 10000 [--processes 2]                 peak memory of all processes together, JSON

Both sides take the same frames of the same files on the same machine, in turns (A B B A ...), from a cold start of their own: ours starts its
processes and writes its cache, OpenCV's loop is one process that reads, cuts, shrinks and saves, with as many threads as OpenCV likes. What they cut
out is compared: a row whose answers differ is an error. Clips are rendered; files lie in the system's file cache after the first round for both.

Starting two processes takes about half a second of each, which few pictures do not earn back: the row of few clips shows that. A build that is not
told how many processes to use starts none for so few (`camera.CREW_WORTH_S`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from fercompress.data import cache, camera, detectors, faces, sampling, synthetic
from fercompress.data.listing import FoundClip, Listing, Media
from fercompress.dataconfig import Faces, FolderData, SyntheticData

ROWS, COLUMNS, FACE, LENGTH, FPS = 480, 640, 256, 40, 25  # of a picture, of the face in it, frames of a clip
PICTURES = FolderData(name="folder", frames=16, size=64, faces=Faces(by="none"))
VIDEOS = FolderData(name="folder", frames=16, size=64, faces=Faces(by="detect"))
KINDS = {"pictures": ("pictures", PICTURES), "few pictures": ("pictures", PICTURES), "videos": ("videos", VIDEOS)}
CLIPS = {"pictures": 480, "few pictures": 40, "videos": 40}
RESULTS = Path(__file__).parent / "results"
ALIKE = 12.0  # grey levels, on average: boxes of one face that were followed and found anew differ by some pixels; 7.5 was seen on rendered faces


def scenes(number: int) -> list[np.ndarray[Any, Any]]:
    """A rendered face before a noisy wall, uint8 (ROWS, COLUMNS) each."""
    config = SyntheticData(name="synthetic", frames=LENGTH, size=FACE)
    wall = cv2.GaussianBlur(np.random.default_rng(number).integers(60, 140, (ROWS, COLUMNS), np.uint8), (0, 0), 9)
    shown = []
    for face in synthetic.render(config, 0, number, 0, number % 7):
        scene = wall.copy()
        scene[100 : 100 + FACE, 190 : 190 + FACE] = face
        shown.append(scene)
    return shown


def written(root: Path, clips: int, kind: str, different: int = 4, shrink: int = 1) -> Listing:
    """`clips` clips on disk: "pictures" (a JPEG for each frame) or "videos" (MPEG-4 in AVI); so many different ones, the others are copies."""
    found = []
    for number in range(clips):
        frames = [root / f"{number:05d}" / f"{frame:03d}.jpg" for frame in range(LENGTH)]
        files = (root / f"{number:05d}.avi",) if kind == "videos" else tuple(frames)
        files[0].parent.mkdir(parents=True, exist_ok=True)
        if number >= different:
            original = found[number % different].media.files
            for path, copy in zip(original, files, strict=True):
                shutil.copy(path, copy)
        elif kind == "videos":
            out = cv2.VideoWriter(str(files[0]), cv2.VideoWriter.fourcc(*"XVID"), FPS, (COLUMNS, ROWS))
            for scene in scenes(number):
                out.write(cv2.cvtColor(scene, cv2.COLOR_GRAY2BGR))
            out.release()
        else:
            for scene, path in zip(scenes(number), files, strict=True):
                cv2.imwrite(str(path), scene[::shrink, ::shrink])
        found.append(FoundClip(f"c{number:05d}", ("calm", "glad")[number % 2], f"p{number:05d}", Media(files, video=kind == "videos")))
    return Listing("folder", root, ("calm", "glad"), tuple(found), (), {}, {})


def ours(config: FolderData, listing: Listing, folder: Path, processes: int) -> np.ndarray[Any, Any]:
    with cache.held(folder):
        camera.build(config, listing, folder, processes=processes)
    clips = cache.found(folder)
    assert clips is not None
    return clips.frames


def opencvs(config: FolderData, listing: Listing, folder: Path) -> np.ndarray[Any, Any]:
    """As one writes it from OpenCV's examples, with the same frames and the same square around the largest face."""
    folder.mkdir()
    finder = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    made = np.zeros((len(listing.clips), config.frames, config.size, config.size), np.uint8)
    for row, clip in enumerate(listing.clips):
        film = cv2.VideoCapture(str(clip.media.files[0])) if clip.media.video else None
        count = LENGTH if film is None else int(film.get(cv2.CAP_PROP_FRAME_COUNT))
        wanted = sampling.spread(0, count - 1, config.frames)
        place, at = None, 0
        for number in range(count):
            if film is not None:
                _, picture = film.read()
            if number not in wanted:
                continue
            grey = cv2.imread(str(clip.media.files[number]), cv2.IMREAD_GRAYSCALE) if film is None else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
            left, top, side = 0, (ROWS - COLUMNS) // 2, COLUMNS
            if config.faces.by == "detect":
                factor = max(grey.shape) / detectors.LONGEST
                small = cv2.resize(grey, (round(COLUMNS / factor), round(ROWS / factor)), interpolation=cv2.INTER_AREA)
                found = finder.detectMultiScale(small, scaleFactor=1.1, minNeighbors=4, minSize=(24, 24))
                place = max(found, key=lambda box: box[2] * box[3]) * factor if len(found) else place
                side = min(round(max(place[2:]) * (1 + 2 * config.faces.margin)), ROWS)
                left = min(max(round(place[0] + place[2] / 2 - side / 2), 0), COLUMNS - side)
                top = min(max(round(place[1] + place[3] / 2 - side / 2), 0), ROWS - side)
            else:
                grey = cv2.copyMakeBorder(grey, -top, COLUMNS - ROWS + top, 0, 0, cv2.BORDER_CONSTANT, value=0)
                top = 0
            made[row, at] = cv2.resize(grey[top : top + side, left : left + side], (config.size, config.size), interpolation=cv2.INTER_AREA)
            at += 1
    np.save(folder / "frames.npy", made)
    return made


def speed(clips: Mapping[str, int], rounds: int, processes: int, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """clips: how many of each of KINDS"""
    rows = []
    for shown, count in clips.items():
        kind, config = KINDS[shown]
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            listing = written(root / "data", count, kind)
            sides: dict[str, Callable[[Path], np.ndarray[Any, Any]]] = {
                "ours": lambda out, config=config, listing=listing: ours(config, listing, out, processes),
                "opencv": lambda out, config=config, listing=listing: opencvs(config, listing, out),
            }
            seconds: dict[str, list[float]] = {name: [] for name in sides}
            crops: dict[str, np.ndarray[Any, Any]] = {}
            for number in range(rounds):
                for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
                    start = time.perf_counter()
                    crops[name] = np.array(sides[name](root / f"{name}-{number}"))
                    seconds[name].append(time.perf_counter() - start)
                    tell(f"{shown}, round {number + 1}, {name}: {seconds[name][-1]:.2f} s")
            apart = float(np.abs(crops["ours"].astype(np.int16) - crops["opencv"]).mean())
            if apart > ALIKE:
                raise SystemExit(f"{shown}: the two sides' crops differ by {apart:.1f} grey levels on average; they do not do the same work")
            frames = count * config.frames
            decoded = count * LENGTH if kind == "videos" else frames
            logs = [math.log(other / own) for own, other in zip(seconds["ours"], seconds["opencv"], strict=True)]
            rows.append(
                {"what": f"{shown}, faces by {config.faces.by}", "clips": count, "crops": frames, "decoded_frames": decoded,
                 "frames_per_s": {name: decoded / float(np.median(each)) for name, each in seconds.items()},
                 "speedup": math.exp(float(np.median(logs))), "speedup_per_round": [math.exp(log) for log in logs],
                 "mean_difference_grey_levels": apart, "seconds": seconds}
            )  # fmt: skip
    return rows


def markdown(report: Mapping[str, Any]) -> str:
    """The rows as a table."""
    lines = [
        "# Decoding: from files on disk to a cache of crops",
        "",
        f"`python benchmarks/decode.py --write`: ours with {report['processes']} processes, their start included, beside OpenCV's own loop in "
        "one process with as many threads as it likes; the same frames of the same files, in turns. Above 1: ours takes less time. In brackets the "
        f"slowest and the fastest round. {report['host']['cores']} cores, {report['host']['machine']}, OpenCV {report['host']['opencv']}.",
        "",
        f"Load of the machine before it began: {report['host']['load_before']} (1 is one busy core; others at work flatter more processes).",
        "",
        "| what | clips | decoded frames | ours, frames/s | OpenCV, frames/s | times less time | difference, grey levels |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["speed"]:
        rounds, rates = row["speedup_per_round"], row["frames_per_s"]
        lines.append(
            f"| {row['what']} | {row['clips']} | {row['decoded_frames']:,} | {rates['ours']:,.0f} | {rates['opencv']:,.0f} | "
            f"{row['speedup']:.2f} [{min(rounds):.2f}, {max(rounds):.2f}] | {row['mean_difference_grey_levels']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def memory(clips: int, processes: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """The most that this process and its children held at once, summed (pages that they share count for each), every 20 ms."""
    with tempfile.TemporaryDirectory() as folder:
        few = written(Path(folder) / "data", 8, "pictures", shrink=4)  # small ones: the time goes to the number of clips
        many = [FoundClip(f"c{number:05d}", "calm", f"p{number}", few.clips[number % 8].media) for number in range(clips)]
        listing = Listing("folder", few.root, few.classes, tuple(many), (), {}, {})
        before = psutil.Process().memory_info().rss
        peak, over = [before], threading.Event()

        def watch() -> None:
            me = psutil.Process()
            while not over.wait(0.02):
                total = 0
                for each in (me, *me.children(recursive=True)):
                    try:
                        total += each.memory_info().rss
                    except psutil.NoSuchProcess:
                        continue
                peak[0] = max(peak[0], total)

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        try:
            with cache.held(Path(folder) / "cache"):
                camera.build(PICTURES, listing, Path(folder) / "cache", lambda done, *_: None if done % 1000 else tell(f"{done} clips"), processes)
        finally:
            over.set()
            watcher.join()
        size = (Path(folder) / "cache/frames.npy").stat().st_size
        return {"clips": clips, "crops": clips * PICTURES.frames, "seconds": time.perf_counter() - start, "processes": processes,
                "cache_bytes": size, "rss_before_bytes": before, "peak_rss_bytes": peak[0]}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, help="so many of every kind, instead of " + ", ".join(f"{n} {kind}" for kind, n in CLIPS.items()))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="the rows into benchmarks/results/decode.json and decode.md")
    parser.add_argument("--memory", type=int, metavar="CLIPS", help="measure the memory of so many clips instead")
    wanted = parser.parse_args(arguments)

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    # Others at work share the cores by processes: two get more than one, so that figures of a busy machine flatter ours.
    host: dict[str, Any] = {"load_before": round(os.getloadavg()[0], 1)}
    host |= {"machine": platform.machine(), "cores": os.cpu_count(), "opencv": cv2.__version__, "faces_version": faces.VERSION}
    if wanted.memory:
        report = {"host": host, "memory": memory(wanted.memory, wanted.processes, tell)}
    else:
        clips = dict.fromkeys(CLIPS, wanted.clips) if wanted.clips else CLIPS
        report = {"host": host, "processes": wanted.processes, "speed": speed(clips, wanted.rounds, wanted.processes, tell)}
        if wanted.write:
            (RESULTS / "decode.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            (RESULTS / "decode.md").write_text(markdown(report), encoding="utf-8")
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
