"""The frozen records that flow between the stages; each refuses to exist when it is wrong."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


def digest(*parts: Any) -> str:
    """sha256 (hex) of JSON-able parts, stable across processes and machines."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class LeftOut:
    """A clip that a reader did not use, and why."""

    clip: str
    reason: str


@dataclass(frozen=True)
class Clips:
    """A data set in memory (or memory-mapped).

    frames: uint8 (N, T, H, W), grey; labels: int64 (N,), index into `classes`
    clip_ids, subjects: N strings; rows with one id are windows of one clip, whose answer is the mean of theirs; "" is an unknown subject
    clusters: N strings, the unit that a bootstrap resamples (the subject, or the sentence where there is one subject)
    recordings, positions: N; the recording that a clip was cut from and its place in it (0, 1, ...)
    fingerprint: sha256 (hex) of what the clips were made from: equal fingerprints mean equal clips
    simulated: True where no camera saw a person
    face_rates: N shares (0..1) of a row's frames in which a face was found; empty where nothing looked for one
    parts: N of "train", "test" or "", the split that comes with the data set; empty where it has none
    """

    name: str
    frames: UInt8
    labels: Int64
    classes: tuple[str, ...]
    clip_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    clusters: tuple[str, ...]
    recordings: tuple[str, ...]
    positions: tuple[int, ...]
    fingerprint: str
    simulated: bool
    left_out: tuple[LeftOut, ...] = ()
    face_rates: tuple[float, ...] = ()
    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.frames)
        if self.frames.ndim != 4 or self.frames.dtype != np.uint8:
            raise ValueError(f"frames must be uint8 (N, T, H, W), got {self.frames.dtype} {self.frames.shape}")
        if self.labels.shape != (n,):
            raise ValueError(f"labels must be ({n},) like frames, got {self.labels.shape}")
        for column in ("clip_ids", "subjects", "clusters", "recordings", "positions"):
            if len(getattr(self, column)) != n:
                raise ValueError(f"{column} has {len(getattr(self, column))} entries for {n} clips")
        for column in ("face_rates", "parts"):
            if len(getattr(self, column)) not in (0, n):
                raise ValueError(f"{column} has {len(getattr(self, column))} entries for {n} clips; need {n} or none")
        if n and (int(self.labels.min()) < 0 or int(self.labels.max()) >= len(self.classes)):
            raise ValueError(f"labels reach outside the {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self.frames)

    def ids(self, rows: Int64) -> tuple[str, ...]:
        """Which clip each of the rows is a window of."""
        return tuple(self.clip_ids[row] for row in rows)

    @property
    def windowed(self) -> bool:
        """Whether a clip has several rows."""
        return len(set(self.clip_ids)) < len(self.clip_ids)


@dataclass(frozen=True)
class Fold:
    """One way to cut clips into three parts that share no clip: int64 index arrays into a `Clips`.

    The test part chooses nothing: early stopping and every selection use `validation`. Where nothing is trained, there are test clips alone.
    subjects: of every clip of the `Clips`, where the fold promises that no subject is on both sides of the test: a fold that breaks it cannot be
        made; empty where it promises nothing
    """

    name: str
    train: Int64
    validation: Int64
    test: Int64
    subjects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = [set(map(int, part)) for part in (self.train, self.validation, self.test)]
        if not parts[2] or bool(parts[0]) != bool(parts[1]):
            raise ValueError(f"fold {self.name!r} has an empty part")
        if sum(map(len, parts)) != len(set.union(*parts)):
            raise ValueError(f"fold {self.name!r} has a clip in two parts")
        if self.subjects:
            tested, others = ({self.subjects[row] for row in rows} for rows in (parts[2], parts[0] | parts[1]))
            if "" in tested | others:
                raise ValueError(f"fold {self.name!r} keeps subjects apart, and does not know a clip's subject")
            if shared := sorted(tested & others):
                raise ValueError(f"fold {self.name!r} has subject {shared[0]!r} on both sides of the test")


@dataclass(frozen=True)
class Preprocess:
    """From stored frames to an extractor's input; the agent does the same with numpy from the manifest.

    mean, std: of pixel / 255 over the training clips; difference: a second channel, (frame - the clip's first frame) / 255 / std
    """

    mean: float
    std: float
    difference: bool = False

    @property
    def channels(self) -> int:
        return 2 if self.difference else 1

    def __call__(self, frames: UInt8) -> Float32:
        """frames: uint8 (..., T, H, W); returns float32 (..., T, channels, H, W)."""
        pixels = frames.astype(np.float32) / np.float32(255)
        planes = [(pixels - np.float32(self.mean)) / np.float32(self.std)]
        if self.difference:
            planes.append((pixels - pixels[..., :1, :, :]) / np.float32(self.std))
        return np.stack(planes, axis=-3)


@dataclass(frozen=True)
class Size:
    """What a variant weighs, counted four ways beside its dense twin (same architecture, no compression).

    params_*: numbers stored (TT cores count as cores; scales and zero points count as numbers); *_dense: the teacher's
    bytes_*: bytes on disk of the files that a target needs; `bytes_extractor + bytes_predictor` equals them to the byte
    params_tt / params_tt_dense: the TT'd matrices only (0 where nothing is in TT form)
    """

    params_tt: int
    params_tt_dense: int
    params_lstm: int
    params_lstm_dense: int
    params_extractor: int
    params_model: int
    params_model_dense: int
    bytes_extractor: int
    bytes_predictor: int

    @property
    def stored_bytes(self) -> int:
        return self.bytes_extractor + self.bytes_predictor


@dataclass(frozen=True)
class Bundle:
    """A folder that a target can run: `extractor.*`, `predictor.*`, `manifest.json`; addressed by its content."""

    folder: Path
    sha256: str  # of manifest.json's bytes, which hold the sha256 of every file
    variant: str
    engine: str
    manifest: Mapping[str, Any]
    size: Size

    @property
    def graph_key(self) -> str:
        """Equal for bundles that differ in their numbers only (seeds, folds): same files, shapes, operators and recipe."""
        return str(self.manifest["graph_key"])


class Pass(enum.StrEnum):
    ACCURACY = "accuracy"
    LATENCY = "latency"
    MEMORY = "memory"
    POWER = "power"


class Status(enum.StrEnum):
    OK = "ok"
    FAILED = "failed"
    EXCLUDED = "excluded"


QUARANTINED = "quarantined"  # how the reason of a block begins that was left out since its variant broke too often
NOT_MADE = "not made: "  # how the reason of a block begins whose variant has no bundle
NOT_HERE = "not run here: "  # and that of one whose engine its target has not
LEAKY = "leaky-image"  # the protocol that cuts clips into folds without regard to people
REBOOTED = "the target rebooted while it ran"  # the reason of a block that is marked so, and redone


@dataclass(frozen=True)
class BlockKey:
    """Which block: a variant's bundle on a target, in one pass, at one place of the schedule."""

    variant: str
    target: str
    pass_: Pass
    seed: int
    fold: str
    round: int  # 0, 1, ...; 0 for the passes without rounds
    position: int  # place within the round, mirrored half included
    settings_sha256: str  # of everything else that the block's numbers depend on


@dataclass(frozen=True)
class Block:
    """One fresh agent process: what it was asked, what it measured, on what host.

    latency pass: extractor_ns (the clip's T frames one by one, summed), predictor_ns, clip_ns: one int per timed clip, in call order;
        frame_ns: T ints per clip, flattened
    accuracy pass: logits float32 (N, classes) and clip_index int64 (N,), rows of the `Clips`
    memory pass: memory_bytes: {"interpreter", "runtime", "model", "peak"} -> VmHWM after that step; "inference_peak" where it can be told apart
    power pass: power: {"power_w", ...} or empty with `reason`
    facts: the agent's and host's facts (engine version, cpu, load before, clocks, temperature, start and end UTC)
    """

    key: BlockKey
    bundle_sha256: str
    status: Status
    reason: str = ""
    extractor_ns: tuple[int, ...] = ()
    predictor_ns: tuple[int, ...] = ()
    clip_ns: tuple[int, ...] = ()
    frame_ns: tuple[int, ...] = ()
    logits: Float32 | None = None
    clip_index: Int64 | None = None
    memory_bytes: Mapping[str, int] | None = None
    power: Mapping[str, float] | None = None
    facts: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.status is not Status.OK:
            if not self.reason:
                raise ValueError(f"a block that is {self.status} needs a reason")
            return
        if self.key.pass_ is Pass.LATENCY and not (len(self.extractor_ns) == len(self.predictor_ns) == len(self.clip_ns) > 0):
            raise ValueError("a latency block needs as many extractor_ns as predictor_ns and clip_ns, and at least one")
        if self.key.pass_ is Pass.ACCURACY and (self.logits is None or self.clip_index is None):
            raise ValueError("an accuracy block needs logits and clip_index")
        if self.key.pass_ is Pass.MEMORY and not self.memory_bytes:
            raise ValueError("a memory block needs memory_bytes")


class Doubt(enum.StrEnum):
    """Why a number is weaker than it looks; shown beside it."""

    FEW_SAMPLES = "fewer than 64 timed clips: no p90 can be claimed"
    FEW_BLOCKS = "fewer than 6 paired rounds: no 95 % interval of the speed-up exists"
    NOISY = "the blocks' medians vary by 10 % or more: run on a quieter machine or add rounds"
    DRIFT = "the second half of the rounds is slower or faster than the first by 5 % or more: check temperature and load"
    BIMODAL = "the blocks' medians fall into two groups: something switches between runs (clocks, cores, caches); find it before trusting either"
    OUTLIERS = "more than one timed clip in 50 is far from its block's median (none was removed): close what runs beside it"
    BUSY_HOST = "another process used 10 % or more of a core during one block in ten or more: close it and run again"
    HOT_START = "a block or more began on a target that had not cooled down to 3 degC above its first reading: raise cool_down_s or cool it better"
    CLOCK_CHANGED = "the governor or the highest clock changed during a block or more: fix the governor, close what else sets clocks"
    THROTTLED = "the target's cooling set in, or it warmed by more than 15 degC, during a block or more: cool it better or raise cool_down_s"
    ONE_SEED = "one training seed: differences in accuracy between variants include the luck of training"
    FEW_PEOPLE = "fewer than 10 people (or sentences) in the test clips: the interval of the accuracy may be too narrow"
    LEAKY_FOLDS = "leaky-image: folds cut without regard to people, so that tested faces are trained on too; this is not the accuracy on new people"
    SHARED_PEOPLE = "the split that comes with the data has people on both sides, so that part of the test clips show faces that are trained on too"
    INCOMPLETE = "part of the planned blocks is missing or failed: run the same command again"
    SHAPES_VARY = "its bundles differ in ranks between seeds or folds, which chose them from their own weights: sizes and latency are the first one's"
    IDLE_DRIFT = "the idle power before and after the load differs by more than a tenth of the net power: the net figures are unsure"
    SHORT_POWER = "the load of the power pass ran for less than 60 s (short window): raise load_s under [power] in the target's file"
    SLOW_METER = "the power meter gave fewer than 350 samples a second: short peaks are missed"
    SIMULATED = "simulated: the clips show no real person, or the target is no real machine"
    SIMULATED_TARGET = "simulated target: a model of a board predicted it, no machine measured it"


@dataclass(frozen=True)
class History:
    """How one training went: per epoch (from 0) the loss, the validation accuracy (share, 0..1) and the seconds it took.

    Without epochs nothing was trained, and best_epoch says nothing.
    """

    train_loss: tuple[float, ...]
    validation_accuracy: tuple[float, ...]
    epoch_s: tuple[float, ...]
    best_epoch: int = 0

    def __post_init__(self) -> None:
        epochs = len(self.train_loss)
        if not epochs == len(self.validation_accuracy) == len(self.epoch_s) or not 0 <= self.best_epoch < max(epochs, 1):
            raise ValueError("a history needs one loss, accuracy and duration per epoch, and best_epoch among them")

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> History:
        """From what `dataclasses.asdict` and JSON made of one."""
        return cls(tuple(table["train_loss"]), tuple(table["validation_accuracy"]), tuple(table["epoch_s"]), table["best_epoch"])
