"""Several finished runs side by side: their folders in; one page, made from their journals alone, out. The runs themselves are not changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fercompress.errors import InputError, ResultsError
from fercompress.report import ReportInput, render_runs
from fercompress.report.runs import Run
from fercompress.results.store import FILE, Store
from fercompress.results.summary import document
from fercompress.results.tables import read_tables
from fercompress.study import report_input
from fercompress.workspace import check_out, full_disk_is_an_error


@dataclass(frozen=True)
class Compared:
    """labels: of the runs, in order; remarks: what may be compared, and what not; files: that were written"""

    labels: tuple[str, ...]
    remarks: tuple[str, ...]
    files: tuple[Path, ...]


def compare_runs(folders: Sequence[Path], out: Path) -> Compared:
    """folders: two or more, the first is what the others are compared with

    raises: InputError where a folder is given twice, or `out` holds a run of its own; ResultsError where a folder holds no results
    """
    check_out(out)
    if (out / FILE).exists():
        raise InputError(f"--out {out} is a run of its own, whose report this would replace; give another folder")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(f"a run is given twice: {' '.join(map(str, folders))}; give each once")
    runs = [Run(label, _read(folder)) for label, folder in zip(labels(folders), folders, strict=True)]
    with full_disk_is_an_error(out):
        made = render_runs(runs, out)
    return Compared(tuple(run.label for run in runs), made.remarks, made.files)


def labels(folders: Sequence[Path]) -> list[str]:
    """The folders' names, each with as many of its parents as tell it apart."""
    parts = [folder.resolve().parts for folder in folders]
    found = []
    for mine in parts:
        others = [other for other in parts if other != mine]
        depth = next(depth for depth in range(1, len(mine) + 1) if all(other[-depth:] != mine[-depth:] for other in others))
        found.append("/".join(mine[-depth:]))
    return found


def _read(folder: Path) -> ReportInput:
    if not (folder / FILE).is_file():
        raise ResultsError(f"{folder}: no {FILE} there; give output folders of `fercompress run`")
    with Store.open(folder / FILE, writable=False) as store:
        found = read_tables(store)
    return report_input(found, document(found))
