"""`fercompress run`, `train`, `compress`, `measure`, `report` and `init`: a study from its file to its report. Parse, call, print."""

from __future__ import annotations

import importlib.resources
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from fercompress import options, terminal
from fercompress.errors import InputError
from fercompress.options import Asked


@click.command()
@options.of_study("name", "data_root", "out", "only", "target", "seeds", "wishes", "tier", "minutes", "keep", "rknn_python", *options.OF_RAY)
@click.option("--plan", "plan_only", is_flag=True, help="Print what would run and about how long, and stop.")
@click.option("--fresh", is_flag=True, help="Forget what an earlier run left in the output folder.")
@options.as_json
def run(asked: Asked, plan_only: bool, fresh: bool, as_json: bool) -> None:
    """Train, compress, measure and report: the whole study.

    Stopped at any moment, the same command goes on where it was.
    """
    request = asked.request()
    from fercompress import forecast, study

    if plan_only:
        stages = forecast.plan(request.study, request.data_root, request.pool)
        _show(stages, as_json, "What would run: seconds are rough, for two cores; finished work is skipped")
        return
    with terminal.progress() as tell:
        if fresh:
            study.forget(request)
        summary = study.run(request, tell)
    _show_summary(summary, request.out, as_json)


@click.command()
@options.of_study("name", "data_root", "out", "seeds", "wishes")
@options.as_json
def train(asked: Asked, as_json: bool) -> None:
    """Train the study's teachers, nothing more."""
    request = asked.request()
    from fercompress import study

    with terminal.progress() as tell:
        rows = study.train_only(request, tell)
    _show(rows, as_json, "Teachers")


@click.command()
@options.of_study("name", "data_root", "out", "only", "target", "seeds", "wishes", "rknn_python", *options.OF_RAY)
@options.as_json
def compress(asked: Asked, as_json: bool) -> None:
    """Make the study's variants: train, compress, export their bundles, for the engines of its targets."""
    request = asked.request()
    from fercompress import study

    with terminal.progress() as tell:
        rows = study.compress_only(request, tell)
    _show(rows, as_json, "Bundles")


@click.command()
@click.argument("names", metavar="[STUDY | BUNDLE...]", nargs=-1)
@options.of_study("data_root", "out", "only", "target", "seeds", "wishes", "tier", "minutes", "keep", "rknn_python")
@click.option(
    "--inputs", metavar="FILE", default="synthetic", help="Of bundles: .npz with frames (N, T, H, W) and perhaps labels.  [default: synthetic]"
)
@click.option("--data", metavar="NAME", help="Of bundles: measure accuracy on the test clips of this data set or study, at the bundle's size.")
@options.as_json
def measure(names: tuple[str, ...], asked: Asked, inputs: str, data: str | None, as_json: bool) -> None:
    """Everything but the report page: measure what is not measured yet. Of folders that are bundles: measure these, nothing is trained.

    The first bundle is the baseline; without labels, accuracy is left out. --set measure.rounds=2 and the like hold for bundles too.
    """
    folders = tuple(Path(name) for name in names if (Path(name) / "manifest.json").is_file())
    if folders:
        if len(folders) < len(names):
            raise InputError(f"{next(name for name in names if Path(name) not in folders)} is no bundle: give bundles alone, or one study")
        if asked.only or asked.seeds is not None:
            raise InputError("--only and --seeds are a study's: bundles are measured as they are given")
        from fercompress import bundlerun

        place = asked.out or Path("reports") / folders[0].resolve().name
        bundles = bundlerun.BundleRequest(folders, place, asked.target, asked.changes, inputs, data, asked.data_root, asked.keep)
        with terminal.progress() as tell:
            summary = bundlerun.run(bundles, tell)
        _show_summary(summary, place, as_json)
        return
    if len(names) > 1 or inputs != "synthetic" or data is not None:
        raise InputError(
            "more than one name, --inputs and --data are for bundles: folders with a manifest.json, as `fercompress bundle import` makes them"
        )
    request = replace(asked, name=names[0] if names else asked.name).request()
    from fercompress import study

    with terminal.progress() as tell:
        summary = study.measure_only(request, tell)
    _show_summary(summary, None, as_json)


@click.command()
@click.argument("run_folders", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the page that compares several runs.  [default: reports/compared]")
@options.as_json
def report(run_folders: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Render the report of the output folder RUN again, from its results alone; of several, one page that sets them side by side."""
    if len(run_folders) > 1:
        from fercompress.comparing import compare_runs

        compared = compare_runs(run_folders, out or Path("reports/compared"))
        if as_json:
            terminal.show_json({"runs": compared.labels, "remarks": compared.remarks, "files": [str(path) for path in compared.files]})
            return
        for remark in compared.remarks:
            click.echo(remark)
        click.echo(f"report: {compared.files[0]}")
        return
    if out is not None:
        raise InputError("--out is for several runs: one run's report is written into its own folder")
    from fercompress import study

    _show_summary(study.report_only(run_folders[0]), run_folders[0], as_json)


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("study.toml"))
def init(path: Path) -> None:
    """Write a commented study to edit (study.toml, or PATH)."""
    if path.exists():
        raise InputError(f"{path} is there already; choose another name")
    text = importlib.resources.files("fercompress_templates").joinpath("study.toml").read_text(encoding="utf-8")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    click.echo(f"wrote {path}; edit it, then: fercompress run {path}")


def _show(rows: terminal.Rows, as_json: bool, title: str) -> None:
    if as_json:
        terminal.show_json(rows)
    else:
        terminal.show_rows(rows, title)


def _show_summary(summary: dict[str, Any], out: Path | None, as_json: bool) -> None:
    if as_json:
        terminal.show_json(summary)
        return
    from fercompress import overview

    terminal.show_rows(overview.rows(summary), summary["study"], overview.caption(summary))
    if out is not None:
        click.echo(f"report: {out / 'index.html'}")
