"""`fercompress predict`: a bundle on a video. Parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from fercompress import options, terminal
from fercompress.errors import InputError

_path = click.Path(path_type=Path)
SHOWN = 40  # stretches of one label that are printed


@click.command()
@click.argument("video", type=_path)
@click.option("--bundle", "bundle_folder", type=_path, required=True, help="The bundle's folder: reports/<study>/bundles/<variant>-<sha256>.")
@click.option("--out", type=_path, help="Where timeline.png and timeline.csv go.  [default: reports/predict-<video>]")
@click.option(
    "--faces",
    help='How faces are found: "cascade" (OpenCV\'s), the path of an ONNX detector such as YuNet, "centre" (the middle square), "none" (all of it).  '
    "[default: as the bundle's study says, else cascade]",
)
@click.option(
    "--margin", type=click.FloatRange(0, 1), help="Around a found face, share of its side.  [default: as the bundle's study says, else 0.25]"
)
@click.option(
    "--fps",
    "rates_fps",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    help="A rate to keep up with; may be repeated.  [default: 25, 30]",
)
@click.option("--restart", type=click.IntRange(min=1), metavar="N", help="Begin a new clip after N frames with a face.  [default: one clip]")
@options.as_json
def predict(
    video: Path,
    bundle_folder: Path,
    out: Path | None,
    faces: str | None,
    margin: float | None,
    rates_fps: tuple[float, ...],
    restart: int | None,
    as_json: bool,
) -> None:
    """Run a bundle on VIDEO frame by frame, as on a camera: the label over time, a picture, a table, and whether it keeps up.

    Each frame is decoded, its face is found and cut out, the extractor sees it once, and the predictor takes one step; the answer after a frame knows
    no later one.
    """
    if not video.is_file():
        raise InputError(f"{video}: no such file; give a video")
    from fercompress import predicting

    request = predicting.VideoRequest(
        video, bundle_folder, out or Path("reports") / f"predict-{video.stem}", faces, margin, rates_fps or (25.0, 30.0), restart
    )
    with terminal.progress("stopped; nothing was written: the same command begins the video anew") as tell:
        found = predicting.run(request, tell)
    if as_json:
        terminal.show_json(found)
        return
    _print(found)


def _print(found: dict[str, Any]) -> None:
    table = Table(title=escape(f"{found['video']}: {found['variant']}"), title_justify="left")
    for column in ("from s", "to s", "frames", "label", "mean probability"):
        table.add_column(column, justify="left" if column == "label" else "right")
    for each in found["labels"][:SHOWN]:
        mean = "n/a" if each["probability"] is None else f"{each['probability']:.2f}"
        table.add_row(f"{each['start_s']:.2f}", f"{each['end_s']:.2f}", str(each["frames"]), escape(each["label"] or "(no face)"), mean)
    terminal.show(table)
    if len(found["labels"]) > SHOWN:
        click.echo(f"and {len(found['labels']) - SHOWN} more: the table in the output folder has every frame")
    frame = found["frame_ms"]
    click.echo(
        f"{found['frames_per_second']:.1f} frames per second over {found['frames']} frames (this includes decoding and face search); "
        f"a frame took {frame['p50']:.2f} ms (median), {frame['max']:.2f} ms at most"
    )
    click.echo("median by stage: " + ", ".join(f"{name} {spent['p50']:.2f} ms" for name, spent in found["stages_ms"].items()))
    for each in found["deadlines"]:
        slow = ", ".join(f"{name} {count}" for name, count in each["longest_stage"].items() if count)
        click.echo(
            f"at {each['fps']:g} fps ({each['frame_ms']:.1f} ms a frame): {each['missed']} of {each['of']} frames late"
            + (f"; longest stage: {slow}" if slow else "")
        )
    for row in found["study_latency"]:
        click.echo(_study_line(row))
    if not found["study_latency"]:
        click.echo("the study's latency: n/a (the bundle lies in no run folder, or its run measured none)")
    for note in found["notes"]:
        click.echo(f"note: {note}")
    for name in found["files"]:
        click.echo(name)


def _study_line(row: dict[str, Any]) -> str:
    step = row["latency_stream_frame_p50_ns"]
    streamed = "" if step is None else f", {step / 1e6:.2f} ms a streamed frame"
    simulated = " (times simulated)" if row["simulated"] else ""
    return (
        f"the study's latency on {row['target']}{simulated}: {row['latency_clip_p50_ns'] / 1e6:.2f} ms a clip of {row['frames_per_clip']} frames"
        f"{streamed}; extractor and predictor alone"
    )
