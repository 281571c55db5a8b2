"""This source against an earlier commit's, by the project's own gate: `python -P benchmarks/commit_gate.py [--against REV] [--out FOLDER]`.

Both sources export one small bundle from the same seeded networks (no training), and their agents time one bundle side by side. So it catches what
changed between the two in the exported graphs, in how they are packed, and in the agent's timing loop; it says nothing of training, or of accuracy
beyond the export's.

Exit codes: 0 not worse, not known, or not compared (with the reason: a warning, never a pass); 1 worse; 4 this source exports no bundle;
else the gate's own.
Only the standard library is imported at the top: the earlier source runs `--make` of this very file.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("", "remote", "benchmarks", "reports")  # below a source's root, where its packages lie
TIMED = ("latency_extractor_p50_ns", "latency_predictor_p50_ns", "latency_clip_p50_ns")
METRICS = ("stored_bytes", "accuracy", *TIMED)
EFFECT = 0.05  # of a latency: builds and layouts alone move 2 %
ROUNDS = 8
AGENT = "the agent's loop: one clip of the same bundle"
MAKE_S, AGENT_S, GATE_S = 300, 60, 600  # how long one of each may take
BROKEN = 4  # this very source cannot make its bundle


class NotComparedError(Exception):
    """Why the two sources cannot be compared: a warning."""


def main(arguments: list[str] | None = None) -> int:
    asked = _arguments(arguments)
    if asked.make is not None:
        make(asked.make)
        return 0
    try:
        revision = asked.against or compared_commit(asked.root)
        if asked.out is not None:
            return compare(asked.root, revision, asked.out)
        with tempfile.TemporaryDirectory() as folder:
            return compare(asked.root, revision, Path(folder))
    except NotComparedError as reason:
        print(f"### commit gate: NOT COMPARED\n\nwarning: {reason}")
        return 0
    except RuntimeError as error:
        print(f"commit gate: {error}", file=sys.stderr)
        return BROKEN


def compared_commit(root: Path) -> str:
    """The last release's tag before HEAD, else HEAD's first parent. raises: NotComparedError"""
    try:
        _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise NotComparedError(f"{root} has no git history that can be read, so there is nothing to compare with{said and f' ({said})'}") from error
    try:
        parent = _git(root, "rev-parse", "--verify", "--quiet", "HEAD^1")
    except subprocess.CalledProcessError as error:
        raise NotComparedError("HEAD has no parent here: a first commit, or a shallow clone (fetch one commit more)") from error
    try:
        return _git(root, "describe", "--tags", "--abbrev=0", "--first-parent", "--match", "v[0-9]*", parent)
    except subprocess.CalledProcessError:
        return parent


def compare(root: Path, revision: str, out: Path) -> int:
    """root: this source; out: an empty folder, or one to be made. returns: the exit code. raises: NotComparedError"""
    before = unpacked(root, revision, out / "before")
    bundles = {name: made(source, name, out) for name, source in (("now", root), ("before", before))}
    print(f"### commit gate: this source against {revision[:12]}\n")
    codes = [_bundles(root, bundles, out), _agents(root, before, bundles["now"], out)]
    return next((code for code in codes if code), 0)


def unpacked(root: Path, revision: str, folder: Path) -> Path:
    """A commit's files. raises: NotComparedError"""
    try:
        archive = subprocess.run(["git", "-C", str(root), "archive", revision], capture_output=True, check=True).stdout
    except subprocess.CalledProcessError as error:
        raise NotComparedError(f"git archive {revision}: {error.stderr.decode(errors='replace').strip()}") from error
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def made(source: Path, name: str, out: Path) -> Path:
    """The bundle's folder, by that source's exporter. raises: NotComparedError where it is the earlier source that cannot"""
    place = out / f"bundle-{name}"
    command = [sys.executable, "-P", str(Path(__file__).resolve()), "--make", str(place)]
    try:
        done = subprocess.run(command, env=environment(source), cwd=out, capture_output=True, text=True, timeout=MAKE_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotComparedError(f"the bundle of the source {name} was not made within {MAKE_S} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        if name == "now":
            raise RuntimeError(f"this source cannot make the bundle: {lines[-1]}")
        raise NotComparedError(f"the source {name} cannot make the bundle: {lines[-1]}")
    return next(path.parent for path in sorted(place.glob("*/manifest.json")))


def make(folder: Path) -> None:
    """One small bundle of seeded networks below `folder`, and clips.npz, whose labels are torch's own answers: int8 kernels, rounded cores."""
    import numpy as np
    import torch

    from fercompress import config
    from fercompress.compress import quantize, static, tensorize
    from fercompress.export import bundle, onnx_pack
    from fercompress.model import zoo
    from fercompress.records import Preprocess

    torch.set_num_threads(1)
    size, frames, classes, kernel_bits = 32, 8, ("a", "b", "c", "d"), 7
    network = zoo.build(config.Model(hidden=64), 1, size, frames, len(classes), 0.0, seed=0)
    extractor, teacher = network.extractor.eval(), network.predictor.eval()
    clips = np.random.default_rng(0).integers(0, 256, (16, frames, size, size), dtype=np.uint8)
    preprocess = Preprocess(0.5, 0.25)
    pixels = preprocess(clips)
    with torch.no_grad():
        maps = extractor(torch.from_numpy(pixels.reshape(-1, 1, size, size)))
        labels = teacher(maps.permute(0, 2, 3, 1).reshape(len(clips), frames, -1)).argmax(1).numpy()
    step = config.TensorTrain(step="tensor-train", rank=8)
    changed = tensorize.tensorize(teacher, step, maps.shape[1], lambda: (torch.zeros(1, 1), torch.zeros(1, 1)), lambda _: 0.0).eval()
    operator = quantize.predictor_rewrite(kernel_bits)
    inputs = bundle.Inputs(preprocess, frames, size, classes)
    bundle.write(
        folder, "commit", extractor, quantize.rounded_cores(changed, kernel_bits), inputs, bundle.DenseSize.of(extractor, teacher, inputs), clips[:2],
        recipe=[], way="seeded, not trained",
        rewrites={
            "extractor": lambda model: static.rounded(model, pixels[:8].reshape(-1, 1, size, size), pixels[8:12, 0], kernel_bits).model,
            "predictor": lambda model: onnx_pack.matrices_packed(operator(model), 8),
        },
    )  # fmt: skip
    np.savez(folder / "clips.npz", frames=clips, labels=labels)


def environment(source: Path) -> dict[str, str]:
    """A source's own packages go before installed ones; one thread."""
    path = os.pathsep.join(str(source / part) for part in SOURCES)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def _bundles(root: Path, bundles: dict[str, Path], out: Path) -> int:
    """The gate, where the exported files differ; equal bytes need none."""
    files = [json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"] for folder in bundles.values()]
    if files[0] == files[1]:
        print(f"exported bundle: equal to the byte ({sum(entry['bytes'] for entry in files[0].values()):,} bytes), so nothing is timed\n")
        return 0
    command = [sys.executable, "-P", "-m", "fercompress", "gate", "--candidate", str(bundles["now"]), "--baseline", str(bundles["before"])]
    command += ["--inputs", str(bundles["now"].parent / "clips.npz"), "--tier", "smoke", "--rounds", str(ROUNDS), "--on-inconclusive", "warn"]
    command += [word for metric in METRICS for word in ("--metric", metric)]
    command += [word for metric in TIMED for word in ("--effect", f"{metric}={100 * EFFECT:g}%")]
    command += ["--out", str(out / "gate"), "--markdown", str(out / "gate.md")]
    settings = {**environment(root), "XDG_CONFIG_HOME": str(out / "config")}  # a calibration of this machine is no part of the comparison
    done = subprocess.run(command, env=settings, cwd=out, capture_output=True, text=True, timeout=GATE_S, check=False)
    report = out / "gate.md"
    if done.returncode in (0, 1) and report.exists():
        print(report.read_text(encoding="utf-8"))
        return done.returncode
    print(f"the gate could not tell (exit code {done.returncode}):\n{done.stdout}{done.stderr}")
    if done.returncode == 2:
        raise NotComparedError("the earlier bundle cannot be gated by this source (see above)")
    return done.returncode


def _agents(root: Path, before: Path, bundle: Path, out: Path) -> int:
    """Both agents time one bundle in mirrored rounds; equal agents need no timing."""
    if agent_sha256(root) == agent_sha256(before):
        print("agent: its source is the same, so nothing is timed")
        return 0
    sources = {"now": root, "before": before}
    job = _job(bundle, out)

    def timed(side: str) -> float:
        return agent_block(sources[side], job, out)

    verdict, shown = agent_verdict(timed, confirm=True)
    print(f"| metric | verdict | change | why |\n|---|---|---|---|\n| {AGENT} | {verdict} | {shown[0]} | {shown[1]} |")
    return int(verdict == "worse")


def agent_verdict(timed: Callable[[str], float], *, confirm: bool) -> tuple[str, tuple[str, str]]:
    """timed: "now" or "before" -> nanoseconds, a block's median. returns: the verdict, and the change and the reason in words"""
    from fercompress import stats

    ratios = []
    for round_ in range(ROUNDS):
        order = ("now", "before") if round_ % 2 else ("before", "now")
        logs: dict[str, list[float]] = {"now": [], "before": []}
        for side in (*order, *reversed(order)):
            logs[side].append(math.log(timed(side)))
        ratios.append(statistics.mean(logs["now"]) - statistics.mean(logs["before"]))
    evidence = stats.paired_rounds(ratios, stats.Looks((ROUNDS,)))
    (found,) = stats.decide([stats.Comparison(AGENT, stats.Direction.LOWER, stats.Scale.RATIO, EFFECT, evidence)])
    if found.outcome is stats.Outcome.WORSE and confirm:
        return agent_verdict(timed, confirm=False)
    assert found.estimate is not None
    assert found.interval is not None
    low, high = (100 * (bound - 1) for bound in found.interval)
    return str(found.outcome), (f"{100 * (found.estimate - 1):+.1f} [{low:+.1f}, {high:+.1f}] %", found.reason)


def agent_block(source: Path, job: dict[str, object], out: Path) -> float:
    """One fresh process of a source's agent. returns: nanoseconds, the median clip. raises: NotComparedError"""
    told = re.search(r"^SCHEMA = (\d+)", (source / "remote" / "fercompress_agent" / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    result = out / "agent-result.json"
    result.unlink(missing_ok=True)
    path = out / "agent-job.json"
    path.write_text(json.dumps({**job, "schema": int(told[1]) if told else 0, "result": str(result)}), encoding="ascii")
    command = [sys.executable, "-P", "-m", "fercompress_agent", str(path)]
    done = subprocess.run(command, env=environment(source), cwd=out, capture_output=True, text=True, timeout=AGENT_S, check=False)
    answer = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    if done.returncode or not answer.get("clip_ns"):
        reason = answer.get("reason") or (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise NotComparedError(f"the agent of {source} could not time the bundle: {reason}")
    return float(statistics.median(answer["clip_ns"]))


def agent_sha256(source: Path) -> str:
    files = sorted((source / "remote" / "fercompress_agent").glob("*.py"))
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def _job(bundle: Path, out: Path) -> dict[str, object]:
    import numpy as np

    with np.load(bundle.parent / "clips.npz") as file:
        np.save(out / "clips.npy", file["frames"])
    clips = out / "clips.npy"
    return {
        "job": "latency", "nonce": "", "engine": "onnxruntime", "threads": 1, "affinity": None, "deadline_s": AGENT_S,
        "bundle": str(bundle), "bundle_sha256": hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest(),
        "clips": str(clips), "clips_sha256": hashlib.sha256(clips.read_bytes()).hexdigest(), "rows": list(range(8)),
        "warmup_clips": 4, "warmup_cap_s": 0.3, "block_clips": 8, "block_s": 0.2, "stream_clips": 0,
    }  # fmt: skip


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--against", metavar="REV", help="instead of the last release, or HEAD's first parent")
    parser.add_argument("--out", type=Path, help="keep what was made and measured there")
    parser.add_argument("--root", type=Path, default=ROOT, help="of this source")
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="only export the bundle, by the source that is on the path")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
