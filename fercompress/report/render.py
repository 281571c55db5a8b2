"""Render: a `ReportInput` in; `index.html` (one file, nothing loaded from elsewhere), `report.md` and `figures/` out."""

from __future__ import annotations

import errno
import importlib.resources
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from fercompress.errors import DiskFullError, ResultsError
from fercompress.report import (
    beside,
    budgets,
    cells,
    controls,
    explorer,
    figures,
    flips,
    folds,
    ladder,
    paper,
    provenance,
    runs,
    sizes,
    story,
    tables,
    training,
    trust,
    variants,
)
from fercompress.report.canvas import Picture
from fercompress.report.record import ReportInput
from fercompress.report.scripts import json_element, scripts
from fercompress.report.story import Story

WITHOUT_ACCURACY = ("speed", "size", "costs", "power")  # tables by name


def render(given: ReportInput, out: Path) -> list[Path]:
    """Write the report into `out`; returns the files written. The same input gives the same bytes.

    raises: ResultsError where `out` cannot be written, DiskFullError where no space is left
    """
    with _named_errors(out):
        (out / "figures").mkdir(parents=True, exist_ok=True)
    stories = [story.tell(given, target) for target in given.targets]
    pictures = {told.target: _pictures(given, told) for told in stories}
    contents = {name: text.encode() for name, text in texts(given, stories, pictures).items()}
    for picture in (picture for drawn in pictures.values() for picture in drawn):
        contents |= {f"figures/{picture.name}.svg": picture.svg, f"figures/{picture.name}.png": picture.png}
    return [_write(out / name, content) for name, content in contents.items()]


@dataclass(frozen=True)
class RenderedRuns:
    """remarks: what may be compared, and what not"""

    remarks: tuple[str, ...]
    files: tuple[Path, ...]


def render_runs(compared_runs: Sequence[runs.Run], out: Path) -> RenderedRuns:
    """Write one page and its text version that set two or more runs side by side; raises as `render` does."""
    with _named_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    compared = runs.compare(compared_runs)
    context = {"compared": compared, "ids": {}, **_interactive(compared.merged, {}, None)}
    environment = _environment()
    names = {"index.html": "runs.html", "report.md": "runs.md"}
    made = [_write(out / name, environment.get_template(template).render(context).encode()) for name, template in names.items()]
    return RenderedRuns(tuple(remark.text for remark in compared.remarks), tuple(made))


def _interactive(given: ReportInput, ids: Mapping[str, str], budget: Mapping[str, Any] | None) -> dict[str, Any]:
    """What every page needs: its style, its scripts and what they draw. ids: variant -> the id of its section; budget: what a budget chooses from"""
    seen = explorer.explorer(given)
    return {
        "given": given,
        "explorer": seen,
        "scripts": scripts(),
        "data": json_element({"explorer": None if seen is None else explorer.data(given, seen, ids), "budget": budget}),
        "css": importlib.resources.files("fercompress_templates").joinpath("page.css").read_text(encoding="utf-8"),
    }


def texts(given: ReportInput, stories: Sequence[Story], pictures: Mapping[str, Sequence[Picture]]) -> dict[str, str]:
    """index.html and report.md. stories: one per target; pictures: by target"""
    ids = variants.anchors(list(given.recipes))
    context = {
        **_interactive(given, ids, budgets.data(given)),
        "ids": ids,
        "beside": beside.targets(given),
        "variants": variants.pages(given, ids),
        "stories": stories,
        "pictures": pictures,
        "rule": story.RULE,
        "main": {
            target: _marked(given, target, tables.variants(given, target, tables.MAIN, "main", "All variants at a glance"))
            for target in given.targets
        },
        "details": {told.target: [_marked(given, told.target, table) for table in _details(given, told)] for told in stories},
        "provenance": _provenance(given),
        "recipes": provenance.recipes(given),
    }
    environment = _environment()
    return {name: environment.get_template(name).render(context) for name in ("index.html", "report.md")}


def _provenance(given: ReportInput) -> list[cells.Table]:
    made = [provenance.facts(given), provenance.faults(given), trust.excluded(given), provenance.faces(given), provenance.left_out(given)]
    return [table for table in made if table is not None]


def _marked(given: ReportInput, target: str, table: cells.Table) -> cells.Table:
    """No table of a simulated target is mistaken for a measured one's, none with accuracies of leaky folds for a fair one."""
    marks = ["simulated target"] if target in given.simulated_targets else []
    marks += ["leaky-image folds"] if given.leaky and table.name not in WITHOUT_ACCURACY else []
    return replace(table, caption=f"{table.caption} ({', '.join(marks)})") if marks else table


def _pictures(given: ReportInput, told: Story) -> list[Picture]:
    suffix = "" if len(given.targets) == 1 else f"-{told.target}"
    return figures.chosen(given, told.target, list(dict.fromkeys([given.baseline, _compared(given, told)])), told.rungs, suffix)


def _compared(given: ReportInput, told: Story) -> str:
    """The variant that stands for the study beside the baseline and the paper: the pick, or the smallest tensor train where the pick is none."""
    if told.pick is not None and given.family(told.pick["variant"]) == "tensor train":
        return str(told.pick["variant"])
    trains = [row for row in given.run_on(told.target) if given.family(row["variant"]) == "tensor train"]
    return str(min(trains, key=lambda row: row.get("stored_bytes") or float("inf"))["variant"]) if trains else given.baseline


def _details(given: ReportInput, told: Story) -> list[cells.Table]:
    target = told.target
    compared = next(row for row in given.on(target) if row["variant"] == _compared(given, told))
    measured = [row for row in given.on(target) if row.get("power_w") is not None]
    power = tables.variants(given, target, tables.POWER, "power", "Power and energy, idle included and net of it (an inference is one frame)")
    speed = tables.with_npu(given, target, tables.SPEED, tables.NPU_FRAME)
    costs = tables.with_npu(given, target, tables.COSTS, tables.NPU_MEMORY)
    return [
        ladder.steps(given, told.rungs),
        ladder.totals(given, told.rungs),
        tables.variants(given, target, speed, "speed", "Speed, by stage (p50: median, p90: 90th percentile)"),
        controls.table(given, target),
        sizes.four_ways(given, target),
        tables.variants(given, target, tables.ACCURACIES, "accuracy", "Accuracy"),
        folds.table(given, target),
        flips.table(given, target),
        training.costs(given, target),
        training.ways(given, target),
        tables.variants(given, target, costs, "costs", "Memory (high-water mark after each step) and power"),
        *([power] if measured else []),
        tables.steps(given, target),
        paper.beside_the_paper(given, compared),
    ]


def _environment() -> Environment:
    folder = importlib.resources.files("fercompress_templates")
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=select_autoescape(("html",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(moment=_moment, bold=_bold, data_uri=_data_uri, markdown=cells.markdown, plain=cells.plain)
    return environment


def _moment(iso_utc: str) -> str:
    return datetime.fromisoformat(iso_utc).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _bold(sentence: str) -> Markup:
    """Escaped first, so that a name cannot bring markup along."""
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(sentence))))


def _data_uri(svg: bytes) -> Markup:
    """As text, a quarter shorter than base64; what could end the attribute, or means something in an address, is written as its code."""
    text = svg.decode("utf-8").replace("'", "&apos;").replace('"', "'").replace("%", "%25")
    for sign in "#&\n":
        text = text.replace(sign, f"%{ord(sign):02X}")
    return Markup("data:image/svg+xml," + text)


def _write(path: Path, content: bytes) -> Path:
    """Whole or not at all: a reader never sees half a file."""
    unfinished = path.with_name(f".{path.name}.part")
    with _named_errors(path):
        try:
            unfinished.write_bytes(content)
            unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
    return path


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"{path}: no space left to write the report; free some and run `fercompress report` again") from error
        raise ResultsError(f"{path}: cannot write the report ({error.strerror}); choose another folder with --out") from error
