"""A board that is not there: the channel's verbs in, what an RK3399Pro would answer out, faults included.

Accuracy is real: the agent runs the bundle on this machine. Time, watts and bytes come from `simulate`, with the jitter that was published of the
board, and every answer's facts say {"simulated": true}. What the model was not validated for is not answered with a number.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import onnx
from pydantic import Field

from fercompress.errors import AgentError, BundleError, TargetError, TargetRebootedError, TargetTimeoutError
from fercompress.measure import simulate
from fercompress.measure.channel import Completed, LocalChannel
from fercompress.measure.simlayers import Layer, layers
from fercompress.records import digest
from fercompress.section import Section

Fault = Literal["link-lost", "reboot", "hang", "out-of-memory", "disk-full", "throttle", "bad-meter", "garbled"]
THROTTLED_BLOCKS = 3  # a hot board stays slow for so many blocks
THROTTLED_KHZ, FULL_KHZ = {"a72": 1_008_000, "a53": 1_008_000}, {"a72": 1_800_000, "a53": 1_416_000}
COOL_MC, HOT_MC = 48_000, 85_000  # the second is the trip point of the RK3399's soc-thermal zone
CPU_CALL_MS = 0.05  # one call of a runtime from Python on the board: assumed, nothing is published of it
BLOCK_SPREAD = 0.01  # of a block's median against another's: fresh processes differ (assumed)
CPU_SPREAD, NPU_SPREAD_MS = 0.017, 0.65  # so that p95 / median is as in the published runs
SPIKE_SHARE, SPIKE_MS = 1 / 5000, (200.0, 240.0)  # one long stall in 5000 calls of the NPU
SMALLEST_MACS = 13.6e6  # mobilenet v1 0.25-128: nothing smaller was published


class Faults(Section):
    """What goes wrong, by the number of the job (1, 2, ...; probes and cleaning are not counted) or by chance, seeded.

    "link-lost": the session ends, as a dead link would end it; "reboot": a new boot_id, the job is lost; "hang": no end within the deadline;
    "out-of-memory": the agent is killed; "disk-full"; "throttle": the clock falls and the temperature is at its trip point, for three jobs;
    "bad-meter": a power that cannot be; "garbled": an answer cut off in the middle
    """

    seed: int = 0
    at: dict[Annotated[int, Field(ge=1)], Fault] = Field(default_factory=dict)
    share: dict[Fault, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)

    def of(self, number: int) -> Fault | None:
        if number in self.at:
            return self.at[number]
        drawn = random.Random(digest("fault", self.seed, number)).random()
        for fault, share in sorted(self.share.items()):
            drawn -= share
            if drawn < 0:
                return fault
        return None


class Simulation(Section):
    """seed: of the jitter; extractor: "npu" puts 8-bit extractors on the NPU, all else stays on the processor"""

    seed: int = 0
    extractor: Literal["cpu", "npu"] = "cpu"


@dataclasses.dataclass(frozen=True)
class Predicted:
    """One part of a bundle on the simulated board; family: as in `simulate.VALIDATED`; busy_ms: of the NPU."""

    family: str
    ms: float
    busy_ms: float
    layers: tuple[Layer, ...]

    @property
    def on_npu(self) -> bool:
        return self.family.startswith("npu")


class SimulatedChannel(LocalChannel):
    """root: the folder on this machine that stands for the board's; cores: pinned to, None: the two A72

    unproven: answer with numbers of families that were not validated too; for tests of what comes after, never for a report
    """

    def __init__(self, root: Path, given: Simulation, faults: Faults, cores: tuple[int, ...] | None = None, *, unproven: bool = False) -> None:
        super().__init__(root)
        self.given, self.faults, self.unproven = given, faults, unproven
        big = [core for core in simulate.CORES["a72"] if cores is None or core in cores]
        self.unit: Literal["a72", "a53"] = "a72" if big else "a53"
        self.cores = len(big or [core for core in simulate.CORES["a53"] if core in (cores or ())])
        if not self.cores:
            raise TargetError(f"the simulated board has the cores 0 to 5, the target's file names {list(cores or ())}; see `cores` there")
        self._jobs = 0
        self._hot_until = 0
        self._boots = 0
        self._counting = threading.Lock()

    @property
    def boot_id(self) -> str:
        text = digest("boot", self.given.seed, self._boots)
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:32]}"

    def run(self, argv: list[str], deadline_s: float, job: str = "") -> Completed:
        """raises: what a board's channel raises; see `Faults`"""
        told = self._job(argv)
        kind = str(told.get("job"))
        if kind not in ("accuracy", "latency", "memory", "power"):
            return self._real(argv, told, deadline_s, job)
        with self._counting:
            self._jobs += 1
            number = self._jobs
            fault = self.faults.of(number)
            if fault == "throttle":
                self._hot_until = number + THROTTLED_BLOCKS
            hot = number < self._hot_until
            if fault == "reboot":
                self._boots += 1
        if ended := self._ended(fault, number, deadline_s):
            return ended
        completed = self._real(argv, told, deadline_s, job) if kind == "accuracy" else self._answer(told, hot, fault)
        if fault == "garbled":
            place = self._place(told["result"])
            place.write_bytes(place.read_bytes()[:40])
        return completed

    def _ended(self, fault: Fault | None, number: int, deadline_s: float) -> Completed | None:
        """What comes instead of an answer."""
        who = f"simulated fault in job {number}"
        if fault == "link-lost":
            raise TargetError(f"{who}: the target cannot be reached; run the same command again")
        if fault == "reboot":
            raise TargetRebootedError(f"{who}: the target started anew (boot_id is now {self.boot_id[:8]}...) while the job ran")
        if fault == "hang":
            raise TargetTimeoutError(f"{who}: no end of the agent within {deadline_s:g} s: killed")
        if fault == "out-of-memory":
            return Completed(-9, b"", b"")
        return Completed(4, b"", f"{who}: no space left on the target\n".encode()) if fault == "disk-full" else None

    def _job(self, argv: list[str]) -> dict[str, Any]:
        """The job file's content; {} where the command is none of the agent's."""
        if not argv or not argv[-1].endswith(".json"):
            return {}
        try:
            return dict(json.loads(self._place(argv[-1]).read_bytes()))
        except (OSError, ValueError) as error:
            raise AgentError(f"{argv[-1]}: the simulated board cannot read this job ({error}); run the same command again") from error

    def _real(self, argv: list[str], told: dict[str, Any], deadline_s: float, job: str) -> Completed:
        """Run on this machine, whose cores are not the board's."""
        if told:
            self._write(argv[-1], {**told, "affinity": None})
        completed = super().run(argv, deadline_s, job)
        if completed.exit_code == 0 and told.get("job") in ("accuracy", "probe"):
            self._mark(told)
        return completed

    def _mark(self, told: Mapping[str, Any]) -> None:
        """Say in the agent's own answer that the target is simulated, and what really computed it."""
        answer = json.loads(self._place(str(told["result"])).read_bytes())
        real = answer.get("facts", {})
        computed_on = {key: real[key] for key in ("cpu", "platform", "python") if key in real}
        keep = {key: real[key] for key in ("python", "implementation", "engine", "features", "start_utc", "end_utc") if key in real}
        answer["facts"] = {**keep, **self._facts(hot=False), "computed_on": computed_on}
        self._write(str(told["result"]), answer)

    def _facts(self, hot: bool) -> dict[str, Any]:
        """Named as the agent's own facts are."""
        limit = THROTTLED_KHZ if hot else FULL_KHZ
        clocks = {
            f"cpu{core}": {"governor": "performance", "khz": limit[unit], "max_khz": FULL_KHZ[unit]}
            for unit in ("a53", "a72")
            for core in simulate.CORES[unit]
        }
        temperature = {"thermal_zone0 soc-thermal": HOT_MC if hot else COOL_MC}
        return {
            "simulated": True, "machine": "aarch64", "cpu": "simulated RK3399Pro (2x Cortex-A72, 4x Cortex-A53)", "cores": 6, "boot_id": self.boot_id,
            "affinity": list(simulate.CORES[self.unit][: self.cores]), "clocks_start": clocks, "clocks_end": clocks,
            "temperature_mc_start": temperature, "temperature_mc_end": temperature,
        }  # fmt: skip

    def _answer(self, told: dict[str, Any], hot: bool, fault: Fault | None) -> Completed:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        facts = {**self._facts(hot), "start_utc": now, "end_utc": now, "threads": told["threads"], "python": "simulated"}
        answer: dict[str, Any] = {"schema": told["schema"], "nonce": told["nonce"], "ok": True, "reason": "", "facts": facts}
        try:
            manifest, parts = self._parts(told)
        except (OSError, KeyError, ValueError, BundleError) as error:
            answer.update(ok=False, reason=f"the simulated board cannot use the bundle: {error}")
        else:
            macs = sum(layer.macs for part in parts.values() for layer in part.layers)
            facts["families"] = {name: part.family for name, part in parts.items()}
            facts["extrapolated"] = macs < SMALLEST_MACS
            answers = {"latency": self._latency, "memory": self._memory, "power": self._power}
            answer.update(answers[told["job"]](told, parts, manifest, hot))
        if fault == "bad-meter" and told["job"] == "power":
            answer.update(power={"power_w": -1.0, "idle_w": 5.0, "energy_per_clip_j": 0.0, "clips": 1.0, "seconds": 10.0}, reason="")
        self._write(str(told["result"]), answer)
        return Completed(0 if answer["ok"] else 3, b"", b"")

    def _parts(self, told: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Predicted]]:
        """raises: BundleError if a file is not what the manifest says"""
        folder = self._place(str(told["bundle"]))
        text = (folder / "manifest.json").read_bytes()
        if hashlib.sha256(text).hexdigest() != told["bundle_sha256"]:
            raise BundleError(f"{told['bundle']}/manifest.json is not the one that was sent; run the same command again")
        manifest = json.loads(text)
        cores = min(self.cores, int(told["threads"]))
        return manifest, {name: self._predicted(folder, manifest, name, cores) for name in ("extractor", "predictor")}

    def _predicted(self, folder: Path, manifest: Mapping[str, Any], name: str, cores: int) -> Predicted:
        file = manifest[name]["file"]
        content = (folder / file).read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest["files"][file]["sha256"]:
            raise BundleError(f"{file} does not match the manifest's sha256; run the same command again")
        if not file.endswith(".onnx"):
            raise BundleError(f"{file} is no ONNX graph, and only those can be simulated")
        costs = tuple(layers(onnx.load_model_from_string(content)))
        work = [layer for layer in costs if layer.macs]
        int8 = bool(work) and sum(layer.macs for layer in work if layer.int8) >= sum(layer.macs for layer in work) / 2
        if name == "extractor" and int8 and self.given.extractor == "npu":
            return Predicted("npu int8", simulate.npu_ms(costs, "int8"), simulate.npu_busy_ms(costs, "int8"), costs)
        return Predicted(f"cpu {'int8' if int8 else 'fp32'}", CPU_CALL_MS + simulate.cpu_ms(costs, self.unit, cores), 0.0, costs)

    def _latency(self, told: Mapping[str, Any], parts: Mapping[str, Predicted], manifest: Mapping[str, Any], hot: bool) -> dict[str, Any]:
        if wrong := self._unproven(*(part.family for part in parts.values())):
            return {"ok": False, "reason": wrong}
        slow = FULL_KHZ[self.unit] / THROTTLED_KHZ[self.unit] if hot else 1.0
        rng = random.Random(digest("jitter", self.given.seed, told["nonce"], told["bundle_sha256"]))
        block = slow * rng.lognormvariate(0, BLOCK_SPREAD)
        frames = int(manifest["frames"])
        clip_ms = frames * parts["extractor"].ms + parts["predictor"].ms
        clips = max(1, int(told["block_clips"]), math.ceil(1e3 * float(told["block_s"]) / clip_ms))  # as long as the agent's loop would run
        frame_ns = [_sample_ns(parts["extractor"], block, rng) for _ in range(frames * clips)]
        predictor_ns = [_sample_ns(parts["predictor"], block, rng) for _ in range(clips)]
        extractor_ns = [sum(frame_ns[clip * frames : (clip + 1) * frames]) for clip in range(clips)]
        return {
            "frame_ns": frame_ns, "extractor_ns": extractor_ns, "predictor_ns": predictor_ns,
            "clip_ns": [first + second for first, second in zip(extractor_ns, predictor_ns, strict=True)],
        }  # fmt: skip

    def _memory(self, told: Mapping[str, Any], parts: Mapping[str, Predicted], manifest: Mapping[str, Any], hot: bool) -> dict[str, Any]:  # noqa: ARG002
        if wrong := self._unproven("memory"):
            return {"memory_bytes": {}, "reason": wrong}
        return {"memory_bytes": simulate.memory_bytes([part.layers for part in parts.values()])}

    def _power(self, told: Mapping[str, Any], parts: Mapping[str, Predicted], manifest: Mapping[str, Any], hot: bool) -> dict[str, Any]:  # noqa: ARG002
        if wrong := self._unproven("power", *(part.family for part in parts.values())):
            return {"power": {}, "reason": wrong}
        frames = int(manifest["frames"])
        spent = {name: part.ms * (frames if name == "extractor" else 1) for name, part in parts.items()}
        clip_ms = sum(spent.values())
        cpu = sum(spent[name] for name, part in parts.items() if not part.on_npu) / clip_ms
        npu = frames * parts["extractor"].busy_ms / clip_ms
        seconds, idle_s = (float(told["power"][key]) for key in ("load_s", "idle_s"))
        net_w, idle_w = simulate.net_w(cpu, npu, min(self.cores, int(told["threads"]))), simulate.IDLE_W
        clip_j, clip_net_j = ((watts * clip_ms / 1e3) for watts in (idle_w + net_w, net_w))
        return {
            "power": {
                "power_w": idle_w + net_w, "idle_w": idle_w, "idle_before_w": idle_w, "idle_after_w": idle_w, "net_w": net_w,
                "energy_per_clip_j": clip_j, "energy_per_clip_net_j": clip_net_j,
                "energy_per_inference_j": clip_j / frames, "energy_per_inference_net_j": clip_net_j / frames,
                "clips": float(int(seconds * 1e3 / clip_ms) + 1), "seconds": seconds, "idle_seconds": 2 * idle_s,
                # No meter sampled anything: the figure is the model's own integral, as a counter's is.
                "samples": 0.0, "rate_hz": 0.0, "gap_s": 0.0, "counter": 1.0, "uncertainty_s": 0.0,
            }
        }  # fmt: skip

    def _unproven(self, *families: str) -> str:
        """Why no number is given; "" where one may be."""
        for family in () if self.unproven else families:
            told = simulate.VALIDATED.get(family)
            if told is None:
                return f"n/a: nothing published validates the simulated board's {family}"
            if not told.valid:
                error = "unknown" if told.median_error is None else f"{100 * told.median_error:.0f} %"
                return (
                    f"n/a: the simulated board's {family} is not validated ({told.rows} published figures of {told.networks} networks, "
                    f"median error {error}): its numbers stay out of reports"
                )
        return ""

    def _write(self, remote: str, value: Any) -> None:
        """Under a new name first: the old file may be one with the host's (a hard link)."""
        place = self._place(remote)
        part = place.with_name(place.name + ".part")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(value), encoding="ascii")
            part.replace(place)
        except OSError as error:
            raise TargetError(f"{place}: cannot be written ({error.strerror}); free some space or choose another output folder") from error


def _sample_ns(part: Predicted, block: float, rng: random.Random) -> int:
    """One call: around the block's median, longer more often than shorter, and rarely far longer."""
    median_ms = part.ms * block
    if not part.on_npu:
        ms = median_ms * (1 + CPU_SPREAD * abs(rng.gauss(0, 1)) - CPU_SPREAD * rng.random())
    else:
        ms = max(0.7 * median_ms, median_ms + rng.gauss(0, NPU_SPREAD_MS))
        if rng.random() < SPIKE_SHARE:
            ms += rng.uniform(*SPIKE_MS)
    return max(1, round(ms * 1e6))
