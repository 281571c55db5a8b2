"""`fercompress data`: get a data set, and look at it before training on it. Parse, call, print."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from fercompress import options, terminal
from fercompress.errors import DataError, InputError
from fercompress.records import LeftOut


@click.group()
def data() -> None:
    """Get a data set, and look at it before training on it.

    NAME is a data set (synthetic, gfe, ckplus, mmi, afew, folder), a shipped study or a study file.
    """


@data.command()
@click.argument("name")
@options.data_root
@options.as_json
def prepare(name: str, data_root: Path | None, as_json: bool) -> None:
    """Read or render every clip of NAME once, and say what was found."""
    _check(name, data_root, as_json)


@data.command()
@click.argument("name")
@options.data_root
@options.as_json
def check(name: str, data_root: Path | None, as_json: bool) -> None:
    """Say what was found: clips, subjects, classes, folds, every clip left out and why."""
    _check(name, data_root, as_json)


@data.command()
@click.argument("name")
@options.data_root
@click.option("--out", type=click.Path(path_type=Path), default=Path("clips.png"), show_default=True, help="The PNG to write.")
def show(name: str, data_root: Path | None, out: Path) -> None:
    """Draw a contact sheet: clips of every class, frame by frame."""
    from fercompress import study

    with terminal.progress() as tell, tell.stage("read clips") as bar:
        study.contact_sheet(name, data_root, out, bar.done)
    click.echo(str(out))


def _check(name: str, data_root: Path | None, as_json: bool) -> None:
    from fercompress import study

    with terminal.progress() as tell, tell.stage("read clips") as bar:
        found = study.check_data(name, data_root, bar.done)
    if as_json:
        terminal.show_json(found)
    else:
        _show_found(found)
    if found["no_folds"]:
        raise DataError(found["no_folds"])


def _show_found(found: dict[str, Any]) -> None:
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


@data.command()
@click.option("--clean", is_flag=True, help="Remove those that no process uses.")
@click.option("--days", type=click.FloatRange(min=0), default=0.0, help="With --clean: only those that none has used for so many days.")
@options.as_json
def cache(clean: bool, days: float, as_json: bool) -> None:
    """List the clips that are kept ready for all runs: data set, size, days since they were used last.

    Each data set, wish and version has a folder of its own in the user's cache folder, and none is removed by itself. What --clean removes is made
    again when it is needed; what a process uses now, and downloads, stay.
    """
    from fercompress.data import caches, source

    if days and not clean:
        raise InputError("--days says which ones --clean removes: add --clean")
    root = source.user_cache()
    found = caches.remove(root, days) if clean else caches.listed(root)
    rows = [
        {"folder": kept.folder.name, "data": kept.name or "not finished", "clips": kept.clips, "MB": kept.size_bytes / 1e6,
         "days unused": kept.idle_days, "in use": "yes" if kept.in_use else "no"}
        for kept in found
    ]  # fmt: skip
    if as_json:
        terminal.show_json([{**dataclasses.asdict(kept), "folder": str(kept.folder)} for kept in found])
        return
    if rows:
        terminal.show_rows(rows, f"removed from {root}" if clean else str(root))
    total = sum(kept.size_bytes for kept in found) / 1e6
    click.echo(f"{'removed' if clean else 'kept'}: {len(rows)} {'folder' if len(rows) == 1 else 'folders'}, {total:.1f} MB, in {root}")


@data.command()
@click.argument("name", type=click.Choice(["gfe", "ckplus", "mmi", "afew"]))
@click.option("--to", type=click.Path(path_type=Path), help="Folder for the files.  [default: ~/.cache/fercompress/gfe]")
@options.as_json
def get(name: str, to: Path | None, as_json: bool) -> None:
    """Download NAME and check it; of a data set that only its owners give away, say where to ask for it.

    gfe has an open licence. ckplus, mmi and afew are given to researchers who sign for them: nothing here downloads them.
    """
    from fercompress.data import download, source

    if name in download.ASKED:
        asked = download.ASKED[name]
        if as_json:
            terminal.show_json(dataclasses.asdict(asked))
            return
        click.echo(f"{asked.title}\nask for it: {asked.address}\nterms: {asked.terms}; the text that you sign holds\nunpack into DIR: {asked.unpack}")
        click.echo(f"then: fercompress data check {name} --data-root DIR")
        return
    folder = to or source.user_cache() / "gfe"
    with terminal.progress("stopped; the same command downloads what is not complete from its beginning") as tell, tell.stage(f"get {name}"):
        got = download.get_gfe(folder)
    if as_json:
        terminal.show_json({**dataclasses.asdict(got), "folder": str(folder), "licence": download.GFE_LICENCE})
        return
    click.echo(f"{got.files} files in {folder}: {got.compared} equal the known sha256, every pair reads as frames with one target each")
    if got.zip_sha256:
        click.echo(f"sha256 of the zip file that came: {got.zip_sha256} (none is published to compare it with)")
    click.echo(f"licence: {download.GFE_LICENCE}; keep this attribution")
    click.echo(f"then: fercompress run gfe --data-root {folder}")
