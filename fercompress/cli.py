"""The command line: parse, call, print, exit code. Results go to stdout (`--json` for machines), progress to stderr."""

from __future__ import annotations

import importlib.resources
import json
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fercompress import __version__
from fercompress.boardcli import board
from fercompress.bundlecli import bundle
from fercompress.datacli import get
from fercompress.errors import DataError, FercompressError, InputError
from fercompress.gatecli import calibrate, compare, gate
from fercompress.pickcli import pick
from fercompress.plancli import plan
from fercompress.predictcli import predict
from fercompress.records import Doubt, LeftOut
from fercompress.searchcli import search
from fercompress.verifycli import verify

INTERNAL_ERROR = 70  # sysexits.h: a mistake of ours, with a traceback
INTERRUPTED = 130  # 128 + SIGINT

Rows = list[dict[str, Any]]

_study = click.argument("name", metavar="[STUDY]", default="default")
_out = click.option("--out", type=click.Path(path_type=Path), help="Output folder.  [default: reports/<study>]")
_data_root = click.option("--data-root", type=click.Path(path_type=Path), help="Folder of a data set that is on your disk.")
_only = click.option("--only", multiple=True, metavar="VARIANT", help="Only this variant beside the baseline; may be repeated.")
_target = click.option("--target", multiple=True, metavar="NAME", help="Measure here instead of on the study's targets; may be repeated.")
_seeds = click.option("--seeds", type=click.IntRange(1, 1000), metavar="N", help="Train with N seeds (0 .. N-1) instead of the study's.")
_set = click.option("--set", "wishes", multiple=True, metavar="KEY=VALUE", help="Instead of what STUDY says (data.protocol=modulo); may be repeated.")
_tier = click.option(
    "--tier", type=click.Choice(["smoke", "quick", "full", "soak"]), help="Time so much of each variant, in rounds until each has its verdicts."
)
_minutes = click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="With a tier: add no rounds beyond so many minutes a target.")
_fresh = click.option("--fresh", is_flag=True, help="Forget what an earlier run left in the output folder.")
_keep = click.option("--keep", is_flag=True, help="Leave bundles and clips on boards, which are else removed at the end.")
_rknn_python = click.option(
    "--rknn-python", envvar="FERCOMPRESS_RKNN_PYTHON", show_envvar=True, metavar="PATH",
    help="The Python that has rknn-toolkit 1.7: converts extractors for the RK3399Pro's NPU.",
)  # fmt: skip
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")


def main() -> None:
    """Run the command line and exit with its code; the only place where errors become text."""
    stderr = Console(stderr=True)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        code = app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        stderr.print("stopped; the same command goes on where it was (nothing is sealed before the end)", style="yellow")
        code = INTERRUPTED
    except FercompressError as error:
        stderr.print(f"fercompress: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        code = error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception:
        stderr.print(traceback.format_exc(), markup=False, highlight=False, soft_wrap=True)
        stderr.print("fercompress: internal error, a mistake of ours: please report it with the text above", style="red")
        code = INTERNAL_ERROR
    sys.exit(code or 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fercompress")
def app() -> None:
    """Compress video expression models by quantization and tensor trains, measure every variant, report what each choice bought.

    STUDY is a shipped study's name or a .toml file (`fercompress init` writes one to edit).

    Exit codes: 0 ok, 1 a gate found something worse, a sealed run was changed or no variant fits a budget, 2 usage or bad input, 3 a gate was
    inconclusive or no variant is known to fit, 4 device or infrastructure (a full disk too), 5 not comparable, 70 internal error, 130 Ctrl-C.
    """


@app.command()
@_study
@_data_root
@_out
@_only
@_target
@_seeds
@_set
@_tier
@_minutes
@click.option("--plan", "plan_only", is_flag=True, help="Print what would run and about how long, and stop.")
@_fresh
@_keep
@_rknn_python
@_json
def run(
    name: str,
    data_root: Path | None,
    out: Path | None,
    only: tuple[str, ...],
    target: tuple[str, ...],
    seeds: int | None,
    wishes: tuple[str, ...],
    tier: str | None,
    minutes: float | None,
    plan_only: bool,
    fresh: bool,
    keep: bool,
    rknn_python: str | None,
    as_json: bool,
) -> None:
    """Train, compress, measure and report: the whole study.

    Stopped at any moment, the same command goes on where it was.
    """
    request = _request(name, data_root, out, only, target, seeds, wishes + _measured(tier, minutes), keep, rknn_python)
    from fercompress import forecast, study

    if plan_only:
        stages = forecast.plan(request.study, data_root)
        _print(stages, as_json, "What would run: seconds are rough, for two cores; finished work is skipped")
        return
    with _progress() as tell:
        if fresh:
            study.forget(request)
        summary = study.run(request, tell)
    _print_summary(summary, request.out, as_json)


@app.command()
@_study
@_data_root
@_out
@_seeds
@_set
@_json
def train(name: str, data_root: Path | None, out: Path | None, seeds: int | None, wishes: tuple[str, ...], as_json: bool) -> None:
    """Train the study's teachers, nothing more."""
    request = _request(name, data_root, out, (), (), seeds, wishes)
    from fercompress import study

    with _progress() as tell:
        rows = study.train_only(request, tell)
    _print(rows, as_json, "Teachers")


@app.command()
@_study
@_data_root
@_out
@_only
@_target
@_seeds
@_set
@_rknn_python
@_json
def compress(
    name: str,
    data_root: Path | None,
    out: Path | None,
    only: tuple[str, ...],
    target: tuple[str, ...],
    seeds: int | None,
    wishes: tuple[str, ...],
    rknn_python: str | None,
    as_json: bool,
) -> None:
    """Make the study's variants: train, compress, export their bundles, for the engines of its targets."""
    request = _request(name, data_root, out, only, target, seeds, wishes, rknn_python=rknn_python)
    from fercompress import study

    with _progress() as tell:
        rows = study.compress_only(request, tell)
    _print(rows, as_json, "Bundles")


@app.command()
@click.argument("names", metavar="[STUDY | BUNDLE...]", nargs=-1)
@_data_root
@_out
@_only
@_target
@_seeds
@_set
@_tier
@_minutes
@_keep
@click.option(
    "--inputs", metavar="FILE", default="synthetic", help="Of bundles: .npz with frames (N, T, H, W) and perhaps labels.  [default: synthetic]"
)
@click.option("--data", metavar="NAME", help="Of bundles: measure accuracy on the test clips of this data set or study, at the bundle's size.")
@_rknn_python
@_json
def measure(
    names: tuple[str, ...],
    data_root: Path | None,
    out: Path | None,
    only: tuple[str, ...],
    target: tuple[str, ...],
    seeds: int | None,
    wishes: tuple[str, ...],
    tier: str | None,
    minutes: float | None,
    keep: bool,
    inputs: str,
    data: str | None,
    rknn_python: str | None,
    as_json: bool,
) -> None:
    """Everything but the report page: measure what is not measured yet. Of folders that are bundles: measure these, nothing is trained.

    The first bundle is the baseline; without labels, accuracy is left out. --set measure.rounds=2 and the like hold for bundles too.
    """
    wishes += _measured(tier, minutes)
    folders = tuple(Path(name) for name in names if (Path(name) / "manifest.json").is_file())
    if folders:
        if len(folders) < len(names):
            raise InputError(f"{next(name for name in names if Path(name) not in folders)} is no bundle: give bundles alone, or one study")
        if only or seeds is not None:
            raise InputError("--only and --seeds are a study's: bundles are measured as they are given")
        from fercompress import bundlerun

        place = out or Path("reports") / folders[0].resolve().name
        request_ = bundlerun.BundleRequest(folders, place, target, wishes, inputs, data, data_root, keep)
        with _progress() as tell:
            summary = bundlerun.run(request_, tell)
        _print_summary(summary, place, as_json)
        return
    if len(names) > 1 or inputs != "synthetic" or data is not None:
        raise InputError(
            "more than one name, --inputs and --data are for bundles: folders with a manifest.json, as `fercompress bundle import` makes them"
        )
    request = _request(names[0] if names else "default", data_root, out, only, target, seeds, wishes, keep, rknn_python)
    from fercompress import study

    with _progress() as tell:
        summary = study.measure_only(request, tell)
    _print_summary(summary, None, as_json)


@app.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@_json
def report(run_folder: Path, as_json: bool) -> None:
    """Render the report of the output folder RUN again, from its results alone."""
    from fercompress import study

    _print_summary(study.report_only(run_folder), run_folder, as_json)


@app.command()
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


for command in (board, bundle, calibrate, compare, gate, pick, plan, predict, search, verify):
    app.add_command(command)


@app.group()
def data() -> None:
    """Look at a data set before training on it.

    NAME is a data set (synthetic, gfe, ckplus, mmi, afew, folder), a shipped study or a study file.
    """


data.add_command(get)


@data.command("prepare")
@click.argument("name")
@_data_root
@_json
def data_prepare(name: str, data_root: Path | None, as_json: bool) -> None:
    """Read or render every clip of NAME once, and say what was found."""
    _check_data(name, data_root, as_json)


@data.command("check")
@click.argument("name")
@_data_root
@_json
def data_check(name: str, data_root: Path | None, as_json: bool) -> None:
    """Say what was found: clips, subjects, classes, folds, every clip left out and why."""
    _check_data(name, data_root, as_json)


@data.command("show")
@click.argument("name")
@_data_root
@click.option("--out", type=click.Path(path_type=Path), default=Path("clips.png"), show_default=True, help="The PNG to write.")
def data_show(name: str, data_root: Path | None, out: Path) -> None:
    """Draw a contact sheet: clips of every class, frame by frame."""
    from fercompress import study

    with _progress() as tell, tell.stage("read clips") as bar:
        study.contact_sheet(name, data_root, out, bar.done)
    click.echo(str(out))


def _check_data(name: str, data_root: Path | None, as_json: bool) -> None:
    from fercompress import study

    with _progress() as tell, tell.stage("read clips") as bar:
        found = study.check_data(name, data_root, bar.done)
    if as_json:
        _print_json(found)
    else:
        _print_found(found)
    if found["no_folds"]:
        raise DataError(found["no_folds"])


def _print_found(found: dict[str, Any]) -> None:
    from fercompress.data import inventory

    for key in ("name", "clips", "subjects"):
        click.echo(f"{key}: {found[key]}")
    click.echo("classes: " + ", ".join(f"{label} {count}" for label, count in found["classes"].items()))
    for line in inventory.counts(found["found"], found["published"]) if found["found"] else []:
        click.echo(f"  {line}")
    for fold in found["folds"]:
        click.echo(f"fold {fold['name']}: {fold['train']} train, {fold['validation']} validation, {fold['test']} test")
    if rates := found["face_rates"]:
        click.echo(f"faces: found in {rates['mean']:.1%} of the frames")
        for row in rates["worst"]:
            click.echo(f"  {row['clip']}: in {row['face_rate']:.0%}")
    for title, rows in (("used, with a remark", found["remarks"]), ("left out", found["left_out"])):
        click.echo(f"{title}: {len(rows)}")
        for line in inventory.by_reason([LeftOut(**row) for row in rows]):
            click.echo(f"  {line}")


def _request(
    name: str,
    data_root: Path | None,
    out: Path | None,
    only: tuple[str, ...],
    target: tuple[str, ...],
    seeds: int | None,
    wishes: tuple[str, ...],
    keep: bool = False,
    rknn_python: str | None = None,
) -> Any:
    """A validated study.Request; everything that can be refused is refused here, before torch is imported."""
    from fercompress import studyfile

    loaded = studyfile.restricted(studyfile.load_study(name, wishes), only, target, seeds)
    from fercompress.measuring import settled
    from fercompress.study import Request

    return Request(settled(loaded), out or Path("reports") / loaded.name, data_root, keep, rknn_python)


def _measured(tier: str | None, minutes: float | None) -> tuple[str, ...]:
    """As wishes."""
    return (*((f"measure.tier={tier}",) if tier else ()), *((f"measure.minutes={float(minutes)}",) if minutes else ()))


def _progress() -> Any:
    from fercompress.progress import Reporter

    return Reporter(Console(stderr=True))


def _print_json(content: Any) -> None:
    click.echo(json.dumps(content, indent=1))


def _print(rows: Rows, as_json: bool, title: str) -> None:
    if as_json:
        _print_json(rows)
    else:
        _print_table(rows, title)


def _print_table(rows: Rows, title: str, caption: str = "") -> None:
    table = Table(title=escape(title), caption=escape(caption), title_justify="left", caption_justify="left")
    for column in rows[0] if rows else ():
        table.add_column(column.replace("_", " "), justify="left" if isinstance(rows[0][column], str) else "right", overflow="fold")
    for row in rows:
        table.add_row(
            *(
                "n/a" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
                for value in row.values()
            )
        )
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _print_summary(summary: dict[str, Any], out: Path | None, as_json: bool) -> None:
    if as_json:
        _print_json(summary)
        return
    from fercompress.report import paper

    caption = "n/a: the reason stands in the report; [low, high] are 95 % intervals"
    several = len({row["engine"] for row in summary["rows"] if row["engine"]}) > 1
    data = summary["data"] or {"name": "", "protocol": None}
    if data["protocol"] == "leaky-image":
        caption += "\nleaky-image: folds cut without regard to people; tested faces are trained on too"
    if published := paper.sentence(data["name"], data["protocol"]):
        caption += f"\n{published}"
    _print_table([_short(row, several) for row in summary["rows"]], summary["study"], caption)
    if out is not None:
        click.echo(f"report: {out / 'index.html'}")


def _short(row: dict[str, Any], with_engine: bool) -> dict[str, str]:
    """The few columns that fit a terminal, as text."""

    def interval(key: str, scale: float, digits: int, suffix: str = "") -> str:
        if row[key] is None:
            return "n/a"
        bounds = row[f"{key}_ci95"]
        around = "" if bounds is None else f" [{bounds[0] * scale:.{digits}f}, {bounds[1] * scale:.{digits}f}]"
        return f"{row[key] * scale:.{digits}f}{around}{suffix}"

    def number(key: str, scale: float, digits: int, unit: str) -> str:
        return "n/a" if row[key] is None else f"{row[key] * scale:,.{digits}f} {unit}"

    return {
        "variant": row["variant"],
        **({"engine": row["engine"] or "n/a"} if with_engine else {}),
        "target": row["target"] + (" (times simulated)" if str(Doubt.SIMULATED_TARGET) in (row["doubts"] or ()) else ""),
        "accuracy %": interval("accuracy", 100, 1) + (" leaky-image" if str(Doubt.LEAKY_FOLDS) in (row["doubts"] or ()) else ""),
        "n": f"{row['n_clips']:,}" if row["n_clips"] is not None else "n/a",
        "stored": number("stored_bytes", 1e-3, 1, "kB"),
        "smaller": "n/a" if row["ratio_model_bytes"] is None else f"{row['ratio_model_bytes']:.1f}x",
        "clip p50": number("latency_clip_p50_ns", 1e-6, 2, "ms"),
        "clip faster": interval("speedup_clip", 1, 2, "x"),
        "predictor faster": interval("speedup_predictor", 1, 2, "x"),
        "peak memory": number("memory_peak_bytes", 1e-6, 1, "MB"),
        "power": "n/a" if row["power_w"] is None else f"{row['power_w']:.2f} W",
    }
