"""What a person names on a side of a comparison: a run, a variant of one, a bundle or a baseline file; found on disk, read, checked."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fercompress.data import source
from fercompress.dataconfig import Data
from fercompress.errors import ComparabilityError, DataError, InputError, ResultsError
from fercompress.examination import Examination, Wanted, check_alike, check_fits, of_bundles
from fercompress.export import bundle as bundles
from fercompress.records import LEAKY, NOT_HERE, NOT_MADE, Bundle
from fercompress.results.store import FILE, Store
from fercompress.results.tables import Tables, read_tables
from fercompress.studyfile import load_study


@dataclass(frozen=True)
class Side:
    """One variant: its bundles (the timed one first) with seed and fold of each; run: where it was made, None for a bare bundle."""

    name: str
    bundles: tuple[tuple[Bundle, int, str], ...]
    run: Run | None = None

    @property
    def variant(self) -> str:
        return self.bundles[0][0].variant


@dataclass(frozen=True)
class Run:
    """A run's folder and everything that its journal holds."""

    folder: Path
    tables: Tables

    @property
    def variants(self) -> list[str]:
        return [str(variant["name"]) for variant in self.tables.study["variants"]]

    @property
    def protocol(self) -> str | None:
        return self.tables.protocol

    def unmade(self, variant: str) -> str:
        """Why the run has no bundle of a variant, where it says so; else ""."""
        blocks = self.tables.blocks
        reasons = blocks.loc[(blocks["variant"] == variant) & blocks["counted"], "reason"]
        told = [str(reason) for reason in reasons if str(reason).startswith((NOT_MADE, NOT_HERE))]
        return "" if not told or any(each.variant == variant for each in self.tables.bundles) else told[-1]


def is_run(path: Path) -> bool:
    return (path / FILE).is_file()


def is_bundle(path: Path) -> bool:
    return (path / "manifest.json").is_file()


def read_run(folder: Path) -> Run:
    """raises: ResultsError"""
    with Store.open(folder / FILE, writable=False) as store:
        return Run(folder, read_tables(store))


def find(text: str, option: str) -> list[Side]:
    """text: RUN (all of its variants that have a bundle), RUN:VARIANT or a bundle's folder. raises: InputError, ResultsError, BundleError"""
    path = Path(text)
    if is_bundle(path):
        return [Side(text, ((bundles.load(path), 0, ""),))]
    if is_run(path):
        run = read_run(path)
        return [_of_run(run, variant, f"{text}:{variant}") for variant in run.variants if not run.unmade(variant)]
    folder, colon, variant = text.rpartition(":")
    if colon and is_run(Path(folder)):
        run = read_run(Path(folder))
        if variant not in run.variants:
            near = difflib.get_close_matches(variant, run.variants, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{option} {text}: {folder} has no variant {variant!r}{hint} (variants: {', '.join(run.variants)})")
        return [_of_run(run, variant, text)]
    raise InputError(
        f"{option} {text}: neither a run's output folder (with {FILE}), nor RUN:VARIANT, nor a bundle's folder (with manifest.json)"
        + ("" if path.exists() or colon else ", and there is nothing of that name")
    )


def one(text: str, option: str) -> Side:
    """As `find`, of exactly one variant. raises: as `find`"""
    found = find(text, option)
    if len(found) > 1:
        raise InputError(f"{option} {text} has several variants: name one, as {text}:VARIANT")
    return found[0]


def check_protocols(candidate: Side, baseline: Side) -> None:
    """raises: ComparabilityError where one side's tested faces were trained on, and the other's were not: their accuracies mean different things"""
    runs = [side.run for side in (candidate, baseline)]
    told = ["unknown" if run is None else run.protocol or "one way only" for run in runs]
    if None not in runs and told.count(LEAKY) == 1:
        other = next(each for each in told if each != LEAKY)
        leaky, fair = (candidate, baseline) if told[0] == LEAKY else (baseline, candidate)
        raise ComparabilityError(
            f"{leaky.name} was tested under {LEAKY} folds, on faces that it was trained on, {fair.name} was not ({other}): "
            "their accuracies must not be compared; make both by one protocol, or compare other metrics alone with --metric"
        )


def _of_run(run: Run, variant: str, name: str) -> Side:
    stored = sorted((each for each in run.tables.bundles if each.variant == variant), key=lambda each: not each.timed)
    if not stored and (told := run.unmade(variant)):
        raise ResultsError(f"{name}: has no bundle, it was {told}")
    if not stored:
        raise ResultsError(f"{name}: no bundle of it is recorded yet; finish the run first: fercompress run")
    found = []
    for each in stored:
        folder = run.folder / "bundles" / f"{variant}-{each.sha256[:12]}"
        if not is_bundle(folder):
            raise ResultsError(f"{name}: its bundle is not there any more ({folder}); run the study again")
        loaded = bundles.load(folder)
        if loaded.sha256 != each.sha256:
            raise ResultsError(f"{folder}: is not the bundle that the journal names; run the study again")
        found.append((loaded, each.seed, each.fold))
    return Side(name, tuple(found), run)


def examination(sides: list[Side], wanted: Wanted | None, cache: Callable[[], Path], note: Callable[[str], None]) -> Examination:
    """The clips to ask about: those that a person names, else those of the run that a side comes from.

    wanted: None where nothing was said; note: takes what a reader must know
    raises: InputError where nothing says which clips, or two runs used different ones; BundleError for a side that takes other ones; DataError
    """
    runs = {side.run.folder: side.run for side in sides if side.run is not None}
    bare = [bundle for side in sides if side.run is None for bundle, *_ in side.bundles]
    if wanted is not None:
        fitted = wanted.data is None or (not runs and any(bundle.manifest.get("foreign") for bundle in bare))
        found = _fitted(sides, wanted, cache(), note) if fitted else _whole(_named(wanted.data), wanted.data_root, cache())
    elif not runs:
        raise InputError(
            "two bundles do not say which clips to run: give --data STUDY (or the name of a data set), --inputs FILE.npz, or --inputs synthetic "
            "(no labels: accuracy is not judged)"
        )
    else:
        found = _of_runs(sides, runs, cache, note)
    _check_folds(runs, found)
    for side in sides:
        for bundle, *_ in side.bundles:
            check_fits(bundle, found.clips, side.name)
    return found


def _of_runs(sides: list[Side], runs: Mapping[Path, Run], cache: Callable[[], Path], note: Callable[[str], None]) -> Examination:
    seen = {run.tables.clips.fingerprint for run in runs.values() if run.tables.clips is not None}
    if len(seen) > 1:
        raise InputError(f"{' and '.join(map(str, runs))} were tested on different clips: give --data STUDY to ask both about the same")
    first = next(iter(runs.values()))
    told = first.tables.study["data"]
    if "inputs" in told:  # a run of bundles that were there already
        found = _fitted(sides, Wanted(str(told["inputs"]), told["data"]), cache(), note)
    else:
        found = _whole(_recorded(first), None, first.folder / "work")
    if found.clips.fingerprint not in seen:
        raise DataError(f"{first.folder}: its clips cannot be made again as they were; was the data set on disk changed?")
    return found


def _check_folds(runs: Mapping[Path, Run], found: Examination) -> None:
    """Folds of one name may hold other clips. raises: ComparabilityError"""
    tested = {fold.name: fold.test.tolist() for fold in found.folds}
    for run in runs.values():
        clips = run.tables.clips
        if clips is None or clips.fingerprint != found.clips.fingerprint:
            continue
        for fold in clips.folds:
            if fold.name in tested and fold.index.tolist() != tested[fold.name]:
                raise ComparabilityError(
                    f"{' and '.join(map(str, runs))} cut the clips into other folds of one name ({fold.name}): a side would be asked about clips "
                    "that it was trained on; make both by one protocol and one number of folds"
                )


def _recorded(run: Run) -> Data:
    """raises: InputError for a run whose clips came out of a file that it does not name"""
    try:
        return TypeAdapter[Data](Data).validate_json(json.dumps(run.tables.study["data"]))
    except ValidationError as error:
        raise InputError(f"{run.folder}: its clips are no data set's that is known here: give them again with --inputs or --data") from error


def _named(name: str | None) -> Data:
    assert name is not None
    return source.SOURCES[name].config.model_validate({"name": name}) if name in source.SOURCES else load_study(name).data


def _whole(data: Data, data_root: Path | None, cache: Path) -> Examination:
    clips = source.load(data, data_root, cache)
    protocol = getattr(data, "protocol", None)  # some data sets can be cut in one way only
    return Examination(clips, tuple(source.SOURCES[data.name].folds(data, clips)), protocol=protocol)


def _fitted(sides: list[Side], wanted: Wanted, cache: Path, note: Callable[[str], None]) -> Examination:
    bundles = [bundle for side in sides for bundle, *_ in side.bundles]
    check_alike(bundles)
    return of_bundles(bundles, wanted, cache, note)
