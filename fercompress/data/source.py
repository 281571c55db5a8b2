"""The data sets as a plain table: a study's [data] in, clips and folds out; a new data set is one module and one row here."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fercompress.data import afew, cache, camera, ckplus, folder, folds, gfe, mmi, synthetic
from fercompress.data.cache import Progress
from fercompress.data.listing import Listing
from fercompress.dataconfig import AfewData, CkPlusData, Data, FolderData, GfeData, MmiData, SyntheticData, VideoData
from fercompress.errors import DataError
from fercompress.records import Clips, Fold, digest

SectionType = type[SyntheticData] | type[GfeData] | type[CkPlusData] | type[MmiData] | type[AfewData] | type[FolderData]

WORST = 10  # clips whose faces were found least often that are named


@dataclass(frozen=True)
class Making:
    """What clips are made of, before they are: fingerprint: sha256 (hex) of all of that; into: writes them into a folder that the caller holds."""

    fingerprint: str
    into: Callable[[Path, Progress], None]
    listing: Listing | None = None


@dataclass(frozen=True)
class Source:
    """config: its section of a study; making: from the section and --data-root, without making clips; folds: as its protocol says

    shared: kept in the user's cache for all runs, since decoding takes long
    """

    config: SectionType
    making: Callable[[Any, Path | None], Making]
    folds: Callable[[Any, Clips], list[Fold]]
    shared: bool = False


def _gfe_folds(config: GfeData, clips: Clips) -> list[Fold]:
    if config.protocol == "across-persons":
        return folds.across_subjects(clips)
    return {"contiguous": folds.contiguous, "modulo": folds.modulo}[config.protocol](clips, config.folds)


def _synthetic_folds(config: SyntheticData, clips: Clips) -> list[Fold]:
    return [synthetic.fold(config, clips)] if config.protocol == "parts" else folds.named(config, clips)


def _root(config: Data, data_root: Path | None) -> Path:
    if data_root is None:
        raise DataError(f"the data set {config.name!r} is on your disk: give its folder with --data-root DIR")
    return data_root


def _synthetic(config: SyntheticData, _: Path | None) -> Making:
    return Making(synthetic.fingerprint(config), lambda folder, _: cache.save(synthetic.load(config), folder))


def _gfe(config: GfeData, data_root: Path | None) -> Making:
    root = _root(config, data_root)
    return Making(gfe.fingerprint(config, root), lambda folder, _: cache.save(gfe.load(config, root), folder))


def _camera(config: SectionType, find: Callable[[Any, Path], Listing]) -> Source:
    def making(wish: VideoData, data_root: Path | None) -> Making:
        listing = find(wish, _root(wish, data_root))
        manifest = camera.manifest(wish, listing)

        def into(folder: Path, progress: Progress) -> None:
            cache.save_json(manifest, folder / "manifest.json")
            camera.build(wish, listing, folder, progress)

        return Making(digest("camera", manifest), into, listing)

    return Source(config, making, folds.named, shared=True)


SOURCES: dict[str, Source] = {
    "synthetic": Source(SyntheticData, _synthetic, _synthetic_folds),
    "gfe": Source(GfeData, _gfe, _gfe_folds),
    "ckplus": _camera(CkPlusData, ckplus.find),
    "mmi": _camera(MmiData, mmi.find),
    "afew": _camera(AfewData, afew.find),
    "folder": _camera(FolderData, folder.find),
}


def fingerprint(config: Data, data_root: Path | None) -> str:
    """sha256 (hex) of all that the clips are made from, without making them. raises: DataError"""
    return SOURCES[config.name].making(config, data_root).fingerprint


def load(config: Data, data_root: Path | None, cache_: Path, progress: Progress = cache.silent) -> Clips:
    """The clips, memory-mapped from `cache_` (those of a camera from the user's cache); made if they are not there yet.

    raises: DataError, DiskFullError, TargetError
    """
    source = SOURCES[config.name]
    return _made(source, source.making(config, data_root), cache_, progress)


def _made(source: Source, making: Making, cache_: Path, progress: Progress) -> Clips:
    folder = (user_cache() if source.shared else cache_) / f"clips-{making.fingerprint[:16]}"
    shared = folder.parent == user_cache()  # what lies in a run's folder is kept by that run
    if shared:
        cache.use(folder)
    clips = cache.found(folder)
    if clips is not None:
        return clips
    with cache.held(folder, lambda: progress(0, 1, "another process makes these clips: waiting for it")):
        clips = cache.found(folder)
        if clips is None:
            making.into(folder, progress)
            clips = cache.found(folder)
        if shared:
            cache.use(folder)
    if clips is None:
        raise DataError(f"{folder}: what was just written there cannot be read back; delete the folder and run again")
    return clips


def user_cache() -> Path:
    """Where clips are kept that belong to no run."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fercompress"


def check(config: Data, data_root: Path | None, cache_: Path, progress: Progress = cache.silent) -> dict[str, Any]:
    """What a reader found: clips, subjects, classes with their counts, folds, every clip left out with its reason, how often faces were found.

    no_folds: why no fold can be cut, "" where they can
    found, published: counts of what is on disk beside those of the data set's own description; face_rates: None where nothing looked for faces
    remarks: clips that are used, though something about them is not as it should be
    """
    source = SOURCES[config.name]
    making = source.making(config, data_root)
    if making.listing is not None and not making.listing.clips:
        return _nothing(making)
    clips = _made(source, making, cache_, progress)
    counts = np.bincount(clips.labels, minlength=len(clips.classes))
    listing = making.listing
    unused = {row.clip for row in clips.left_out}
    cut, refused = _folds(source, config, clips)
    return {
        "name": clips.name,
        "clips": len(set(clips.clip_ids)),
        "subjects": len(set(clips.subjects) - {""}),
        "classes": {name: int(count) for name, count in zip(clips.classes, counts, strict=True)},
        "found": dict(listing.found) if listing else {},
        "published": dict(listing.published) if listing else {},
        "face_rates": _rates(clips),
        "remarks": [asdict(row) for row in listing.remarks if row.clip not in unused] if listing else [],
        "left_out": [asdict(row) for row in clips.left_out],
        "folds": [
            {"name": fold.name, **{part: len(set(clips.ids(getattr(fold, part)))) for part in ("train", "validation", "test")}} for fold in cut
        ],
        "no_folds": refused,
        "fingerprint": clips.fingerprint,
        "simulated": clips.simulated,
    }


def _nothing(making: Making) -> dict[str, Any]:
    """Of a listing without a clip: nothing is decoded, and why everything was left out is what a person asks."""
    assert making.listing is not None
    return {
        "name": making.listing.name,
        "clips": 0,
        "subjects": 0,
        "classes": dict.fromkeys(making.listing.classes, 0),
        "found": dict(making.listing.found),
        "published": dict(making.listing.published),
        "face_rates": None,
        "remarks": [],
        "left_out": [asdict(row) for row in making.listing.left_out],
        "folds": [],
        "no_folds": f"{making.listing.root}: no clip of {making.listing.name} can be used; see what was left out, and why",
        "fingerprint": making.fingerprint,
        "simulated": False,
    }


def _folds(source: Source, config: Data, clips: Clips) -> tuple[list[Fold], str]:
    """The folds, or none and why: what else was found is worth reading then."""
    try:
        return source.folds(config, clips), ""
    except DataError as error:
        return [], str(error)


def _rates(clips: Clips) -> dict[str, Any] | None:
    if not clips.face_rates:
        return None
    order = np.argsort(clips.face_rates, kind="stable")[:WORST]
    worst = [{"clip": clips.clip_ids[row], "face_rate": clips.face_rates[row]} for row in order if clips.face_rates[row] < 1]
    return {"mean": float(np.mean(clips.face_rates)), "worst": worst}
