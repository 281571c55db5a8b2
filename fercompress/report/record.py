"""ReportInput: everything a report is made of, as plain rows and frames; refuses to exist when something is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

Row = Mapping[str, Any]

TIMINGS = ("variant", "target", "round", "position", "extractor_ns", "predictor_ns", "clip_ns")
PREDICTIONS = ("variant", "target", "seed", "fold", "clip_id", "cluster", "label", "predicted")
EPOCHS = ("variant", "seed", "fold", "epoch", "validation_accuracy", "epoch_s")
STAGES = ("extractor", "predictor", "clip")
BLOCKS = (
    "block", "recorded", "counted", "variant", "target", "pass", "round", "position", "status", "reason", "host_busy_share", "hot_start",
    "clock_changed", "throttled",
)  # fmt: skip
DATA = ("name", "simulated", "fingerprint", "classes", "left_out", "folds")


@dataclass(frozen=True)
class ReportInput:
    """One finished run.

    created_utc: ISO 8601, as in summary.json
    rows: the rows of summary.json, one per variant and target; a null has its reason in row["reasons"][column]
    timings: one line per timed clip of the latency pass, columns TIMINGS (others are ignored), in nanoseconds; NaN for the stages of a
        model in one file
    predictions: one line per test clip, seed, fold and target of the accuracy pass, columns PREDICTIONS;
        label and predicted are indices into data["classes"], predicted is -1 where there was no answer;
        columns logit_0, logit_1, ..., where there are any, are compared between variants
    recipes: variant -> the steps that make it, each {"step": kind, setting: value, ...}
    manifests: variant -> the manifest.json of its timed bundle; a variant that is not exported yet has none
    data: name, simulated (bool), fingerprint (sha256), classes (names), left_out (how many clips),
        folds (list of {"name", "train", "validation", "test"}; "shared": test clips of people that are in another part too);
        protocol: how they were cut, where there is a choice
    host: target -> {fact: value}, shown as given
    settings: how it was measured ({"rounds": 6, ...}), shown as given
    faults: blocks that failed or were excluded: {"variant", "target", "pass", "status", "reason"};
        times: how many blocks (1), done: what was done about them
    left_out: the clips that a reader did not use: {"clip", "reason"}
    face_rates: clip -> share (0..1) of its frames in which a face was found; empty where nothing looked for faces
    blocks: one line per recorded block, columns BLOCKS (others are ignored): when (UTC, ISO 8601), whether results count it, what was seen during it
    simulated_targets: targets whose timings no real machine took
    epochs: one line per epoch of every training, columns EPOCHS (others are ignored); accuracies are shares
    ladder: variants whose steps are told one by one; empty: all but the controls, in order
    """

    study: str
    title: str
    created_utc: str
    baseline: str
    rows: Sequence[Row]
    recipes: Mapping[str, Sequence[Mapping[str, Any]]]
    timings: pd.DataFrame
    predictions: pd.DataFrame
    manifests: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, Any]
    host: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any]
    faults: Sequence[Row] = ()
    left_out: Sequence[Row] = ()
    simulated_targets: Sequence[str] = ()
    epochs: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(EPOCHS)))
    ladder: Sequence[str] = ()
    face_rates: Mapping[str, float] = field(default_factory=dict)
    blocks: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(BLOCKS)))

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError("rows is empty: a report needs at least one measured variant")
        frames = (
            ("timings", self.timings, TIMINGS),
            ("predictions", self.predictions, PREDICTIONS),
            ("epochs", self.epochs, EPOCHS),
            ("blocks", self.blocks, BLOCKS),
        )
        for name, frame, columns in frames:
            if missing := [column for column in columns if column not in frame.columns]:
                raise ValueError(f"{name} lacks the columns {', '.join(missing)}")
        if missing := [key for key in DATA if key not in self.data]:
            raise ValueError(f"data lacks {', '.join(missing)}")
        if missing := sorted({row["variant"] for row in self.rows} - set(self.recipes)):
            raise ValueError(f"recipes lacks {', '.join(missing)}")
        if missing := [name for name in self.ladder if name not in self.recipes]:
            raise ValueError(f"ladder names {', '.join(missing)}, which recipes lacks")

    @classmethod
    def from_summary(
        cls,
        summary: Mapping[str, Any],
        timings: pd.DataFrame,
        predictions: pd.DataFrame,
        manifests: Mapping[str, Mapping[str, Any]],
        host: Mapping[str, Mapping[str, Any]],
        faults: Sequence[Row] = (),
        left_out: Sequence[Row] = (),
        simulated_targets: Sequence[str] = (),
        epochs: pd.DataFrame | None = None,
        face_rates: Mapping[str, float] | None = None,
        blocks: pd.DataFrame | None = None,
    ) -> ReportInput:
        """summary: what summary.json holds (study, title, created, baseline, data, rows, config)."""
        recipes = {variant["name"]: variant.get("recipe", ()) for variant in summary["config"]["variants"]}
        return cls(
            summary["study"], summary["title"], summary["created"], summary["baseline"], summary["rows"], recipes, timings, predictions, manifests,
            summary["data"], host, summary["config"].get("measure", {}), faults, left_out, simulated_targets,
            pd.DataFrame(columns=list(EPOCHS)) if epochs is None else epochs, summary["config"].get("ladder", ()), face_rates or {},
            pd.DataFrame(columns=list(BLOCKS)) if blocks is None else blocks,
        )  # fmt: skip

    # Computed once: a page compares hundreds of pairs of variants.

    @cached_property
    def answers(self) -> Mapping[tuple[str, str], pd.DataFrame]:
        """(target, variant) -> its lines of `predictions`."""
        return {(str(target), str(variant)): frame for (target, variant), frame in self.predictions.groupby(["target", "variant"])}

    @cached_property
    def scores(self) -> Mapping[tuple[str, str], pd.DataFrame]:
        """(target, variant) -> 1 right, 0 wrong, by seed (rows) and clip (columns), NaN unseen."""
        return {
            key: frame.assign(right=(frame["label"] == frame["predicted"]).astype(float)).pivot_table(index="seed", columns="clip_id", values="right")
            for key, frame in self.answers.items()
        }

    @cached_property
    def clusters(self) -> Mapping[str, str]:
        """clip -> the person (or sentence) that is resampled with it"""
        facts = self.predictions.drop_duplicates("clip_id")
        return dict(zip(facts["clip_id"], facts["cluster"].astype(str), strict=True))

    @cached_property
    def round_logs(self) -> Mapping[tuple[str, str], pd.DataFrame]:
        """(target, variant) -> by round (rows) and stage (columns), the mean of the log medians of its two mirrored blocks.

        The mean cancels a steady drift; rounds with one block alone are left out.
        """
        columns = {f"{stage}_ns": stage for stage in STAGES}
        medians = self.timings.groupby(["target", "variant", "round", "position"])[list(columns)].median()
        logs = medians.astype(np.float64).apply(np.log).rename(columns=columns).groupby(level=["target", "variant", "round"]).agg(["mean", "size"])
        found: dict[tuple[str, str], pd.DataFrame] = {}
        for (target, variant), rounds in logs.groupby(level=["target", "variant"]):
            whole = rounds.droplevel(["target", "variant"])
            whole = whole[whole[(STAGES[0], "size")] > 1]
            found[str(target), str(variant)] = pd.DataFrame({stage: whole[(stage, "mean")] for stage in STAGES})
        return found

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row["target"] for row in self.rows))

    @property
    def clip_word(self) -> str:
        """Goes before "clips" wherever a figure rests on them."""
        return ("simulated " if self.data["simulated"] else "") + ("leaky-image " if self.leaky else "")

    @property
    def leaky(self) -> bool:
        """Whether folds were cut without regard to people: every accuracy is then marked."""
        return bool(self.data.get("protocol") == "leaky-image")

    def timing_word(self, target: str) -> str:
        """Goes before every timing of the target."""
        return "simulated " if target in self.simulated_targets else ""

    def on(self, target: str) -> list[Row]:
        """The rows of one target, in the study's order."""
        return [row for row in self.rows if row["target"] == target]

    def run_on(self, target: str) -> list[Row]:
        """Those of `on` that the target runs."""
        return [row for row in self.on(target) if row.get("engine", "not told") is not None]

    def baseline_row(self, target: str) -> Row | None:
        return next((row for row in self.on(target) if row["variant"] == self.baseline), None)

    def recipe(self, variant: str) -> list[Mapping[str, Any]]:
        return list(self.recipes[variant])

    def family(self, variant: str) -> str:
        """ "dense", "tensor train" or "control": which colour a variant has."""
        kinds = {step["step"] for step in self.recipe(variant)}
        if kinds & {"bottleneck", "small-dense"}:
            return "control"
        return "tensor train" if "tensor-train" in kinds else "dense"

    def bare_recipe(self, variant: str) -> list[Mapping[str, Any]]:
        """The recipe without its quantization: variants with equal ones are each other's float and rounded twins."""
        return [step for step in self.recipe(variant) if step["step"] != "quantize"]

    def is_int8(self, variant: str) -> bool:
        """Whether something is rounded to integers; fp16 on an NPU is not."""
        return any(step["step"] == "quantize" and step.get("npu") != "fp16" for step in self.recipe(variant))

    def on_npu(self, variant: str) -> bool:
        return any(step.get("npu") for step in self.recipe(variant))

    @cached_property
    def engines(self) -> Mapping[str, str]:
        """variant -> what runs it; empty where all are run by the same."""
        found = {str(row["variant"]): str(row["engine"]) for row in self.rows if row.get("engine")}
        return found if len(set(found.values())) > 1 else {}
