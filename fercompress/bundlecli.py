"""`fercompress bundle`: bring a model of one's own. Parse, call, print."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import click

from fercompress import options, terminal
from fercompress.errors import InputError

_file = click.Path(path_type=Path)


@click.group()
def bundle() -> None:
    """Make a bundle of a model that was not trained here, so that it can be measured."""


@bundle.command("import")
@click.option("--extractor", type=_file, help="ONNX: a frame, or a clip's frames, to features; or .rknn, see below.")
@click.option("--predictor", type=_file, help="ONNX: a clip's features to one number per class.")
@click.option("--model", type=_file, help="ONNX: a clip's frames to one number per class, in the place of the two; its stages are not told apart.")
@click.option("--labels", help="Names of the classes, in the order of the outputs: angry,happy,sad.  [default: class0,class1,...]")
@click.option("--name", help="Of the variant in results.  [default: the predictor's or the model's file name]")
@click.option("--frames", type=click.IntRange(1, 256), default=16, show_default=True, help="Of a clip, where the files leave it open.")
@click.option("--side", type=click.IntRange(1, 4096), help="Of the picture in pixels, where the file leaves it open.")
@click.option("--layout", default="", help="Axes of the frames' input, as in NTHWC.  [default: found by the number of channels; NCHW, NTCHW first]")
@click.option(
    "--mean", type=float, default=0.0, show_default=True, help="Taken from pixel / 255; 0 with --std 1 gives 0..1, 0.5 with 0.5 gives -1..1."
)
@click.option("--std", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True, help="Divided by; --std 0.00392157 gives 0..255.")
@click.option("--channels", type=click.IntRange(1, 3), help="Of an .rknn file's input: 1, 2 (with the difference), 3.  [default: 1]")
@click.option("--input-dtype", type=click.Choice(["uint8", "float32"]), help="Of an .rknn file's input: uint8 if mean and std are in it.")
@click.option("--features", type=click.IntRange(1, 10**7), help="That an .rknn file gives for a frame, where the predictor's file leaves it open.")
@click.option("--engine", type=click.Choice(["rknnlite", "rknn"]), help="That is to run an .rknn file.  [default: rknnlite]")
@click.option("--out", type=_file, default=Path("bundles"), show_default=True, help="The folder that the bundle is written into.")
@options.as_json
def import_(
    extractor: Path | None,
    predictor: Path | None,
    model: Path | None,
    labels: str | None,
    name: str | None,
    frames: int,
    side: int | None,
    layout: str,
    mean: float,
    std: float,
    channels: int | None,
    input_dtype: Literal["uint8", "float32"] | None,
    features: int | None,
    engine: Literal["rknnlite", "rknn"] | None,
    out: Path,
    as_json: bool,
) -> None:
    """Make a bundle of your own ONNX files, run it once on random frames, and print its folder.

    Clips here are grey, 8 bits: one channel takes them as they are, two take the difference to the clip's first frame too, three the grey three
    times. An input of uint8 gets the pixels themselves. What is measured are your files, byte for byte.

    An extractor may be an .rknn file for the RK3399Pro's NPU. It does not tell what it takes: state --side, --channels, --input-dtype and,
    where the predictor leaves it open, --features. It runs on a board alone, on targets whose engines hold rknnlite (or rknn).
    """
    if (model is None) == (extractor is None and predictor is None) or (extractor is None) != (predictor is None):
        raise InputError("give --extractor and --predictor, or --model alone")
    shown = name or _name((predictor or model or Path()).stem)
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,59}", shown):
        raise InputError(f"--name {shown}: lower-case letters, digits, '.', '_' and '-', at most 60, the first a letter or digit")
    from fercompress.export import foreign, foreign_axes, foreign_npu

    wishes = foreign_axes.Wishes(shown, _labels(labels), frames, side, layout.upper(), mean, std)
    npu = extractor is not None and extractor.suffix == ".rknn"
    if not npu and any(each is not None for each in (channels, input_dtype, features, engine)):
        raise InputError("--channels, --input-dtype, --features and --engine are for an extractor that is an .rknn file")
    if model is not None:
        if model.suffix == ".rknn":
            raise InputError(f"--model {model}: an .rknn file is the extractor alone: the agent runs no predictor on the NPU")
        made = foreign.imported_whole(model, wishes, out)
    else:
        assert extractor is not None
        assert predictor is not None
        if npu:
            stated = foreign_npu.Npu(channels or 1, input_dtype or "uint8", features, engine or "rknnlite")
            made = foreign_npu.imported(extractor, predictor, wishes, stated, out)
        else:
            made = foreign.imported(extractor, predictor, wishes, out)
    manifest = made.manifest
    if as_json:
        terminal.show_json({"folder": str(made.folder), "sha256": made.sha256, "manifest": manifest})
        return
    told = manifest["extractor"]["input"]
    taken = "pixels as they are" if told["dtype"] == "uint8" else f"(pixel / 255 - {mean:g}) / {std:g}"
    click.echo(f"input {told['name']}: {told['layout']} {tuple(told['shape'])} {told['dtype']}, {taken}; {manifest['frames']} frames a clip")
    if not manifest["one_file"]:
        told = manifest["predictor"]["input"]
        click.echo(f"features {told['name']}: {told['layout']} {tuple(told['shape'])}")
    click.echo(f"classes: {', '.join(manifest['classes'])}; {made.size.stored_bytes:,} bytes")
    if npu:
        click.echo(f"the extractor was not run: what you stated is proven on a board: fercompress measure {made.folder} --target BOARD")
        return
    click.echo(f"ran on random frames; measure it: fercompress measure {made.folder}")


def _labels(text: str | None) -> tuple[str, ...]:
    labels = tuple(part.strip() for part in (text or "").split(",")) if text else ()
    if not all(labels):
        raise InputError(f"--labels {text}: an empty name between two commas")
    return labels


def _name(stem: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:60] or "model"
