"""The data sets as a plain table: a study's [data] in, clips and folds out; a new data set is one module and one row here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fercompress.data import folds, gfe, synthetic
from fercompress.dataconfig import Data, GfeData, SyntheticData
from fercompress.errors import DataError
from fercompress.records import Clips, Fold, LeftOut


@dataclass(frozen=True)
class Source:
    """config: its section of a study; fingerprint: sha256 (hex) of all that the clips are made from, without making them."""

    config: type[SyntheticData] | type[GfeData]
    fingerprint: Callable[[Any, Path | None], str]
    load: Callable[[Any, Path | None], Clips]
    folds: Callable[[Any, Clips], list[Fold]]


def _gfe_folds(config: GfeData, clips: Clips) -> list[Fold]:
    if config.protocol == "across-persons":
        return folds.across_subjects(clips)
    return {"contiguous": folds.contiguous, "modulo": folds.modulo}[config.protocol](clips, config.folds)


def _root(config: GfeData, data_root: Path | None) -> Path:
    if data_root is None:
        raise DataError(f"the data set {config.name!r} is on your disk: give its folder with --data-root DIR")
    return data_root


SOURCES: dict[str, Source] = {
    "synthetic": Source(
        config=SyntheticData,
        fingerprint=lambda config, _: synthetic.fingerprint(config),
        load=lambda config, _: synthetic.load(config),
        folds=lambda config, clips: [synthetic.fold(config, clips)],
    ),
    "gfe": Source(
        config=GfeData,
        fingerprint=lambda config, root: gfe.fingerprint(config, _root(config, root)),
        load=lambda config, root: gfe.load(config, _root(config, root)),
        folds=_gfe_folds,
    ),
}


def fingerprint(config: Data, data_root: Path | None) -> str:
    """sha256 (hex) of all that the clips are made from, without making them. raises: DataError"""
    return SOURCES[config.name].fingerprint(config, data_root)


def load(config: Data, data_root: Path | None, cache: Path) -> Clips:
    """The clips, memory-mapped from `cache`; made if they are not there yet. raises: DataError"""
    source = SOURCES[config.name]
    folder = cache / f"clips-{fingerprint(config, data_root)[:16]}"
    if not (folder / "clips.json").exists():
        _save(source.load(config, data_root), folder)
    table: dict[str, Any] = json.loads((folder / "clips.json").read_text())
    table["left_out"] = [LeftOut(**row) for row in table["left_out"]]
    texts: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return Clips(frames=np.load(folder / "frames.npy", mmap_mode="r"), labels=np.load(folder / "labels.npy"), **texts)


def _save(clips: Clips, folder: Path) -> None:
    """clips.json is written last: where it is, all is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("frames", clips.frames), ("labels", clips.labels)):
        np.save(folder / f"{name}.unfinished.npy", array)
        os.replace(folder / f"{name}.unfinished.npy", folder / f"{name}.npy")
    table = asdict(replace(clips, frames=np.empty((len(clips), 0, 0, 0), np.uint8)))
    del table["frames"], table["labels"]
    unfinished = folder / "clips.unfinished"
    unfinished.write_text(json.dumps(table))
    os.replace(unfinished, folder / "clips.json")


def user_cache() -> Path:
    """Where clips are kept that belong to no run."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fercompress"


def check(config: Data, data_root: Path | None, cache: Path) -> dict[str, Any]:
    """What a reader found: clips, subjects, classes with their counts, folds, and every clip left out with its reason."""
    clips = load(config, data_root, cache)
    counts = np.bincount(clips.labels, minlength=len(clips.classes))
    return {
        "name": clips.name,
        "clips": len(clips),
        "subjects": len(set(clips.subjects)),
        "classes": {name: int(count) for name, count in zip(clips.classes, counts, strict=True)},
        "left_out": [asdict(row) for row in clips.left_out],
        "folds": [
            {"name": fold.name, "train": len(fold.train), "validation": len(fold.validation), "test": len(fold.test)}
            for fold in SOURCES[config.name].folds(config, clips)
        ],
        "fingerprint": clips.fingerprint,
        "simulated": clips.simulated,
    }
