"""`fercompress data get`: download a data set, or learn where to ask for it. Parse, call, print."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click


@click.command("get")
@click.argument("name", type=click.Choice(["gfe", "ckplus", "mmi", "afew"]))
@click.option("--to", type=click.Path(path_type=Path), help="Folder for the files.  [default: ~/.cache/fercompress/gfe]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
def get(name: str, to: Path | None, as_json: bool) -> None:
    """Download NAME and check it; of a data set that only its owners give away, say where to ask for it.

    gfe has an open licence. ckplus, mmi and afew are given to researchers who sign for them: nothing here downloads them.
    """
    from rich.console import Console

    from fercompress.data import download, source
    from fercompress.progress import Reporter

    if name in download.ASKED:
        asked = download.ASKED[name]
        if as_json:
            click.echo(json.dumps(dataclasses.asdict(asked), indent=1))
            return
        click.echo(f"{asked.title}\nask for it: {asked.address}\nterms: {asked.terms}; the text that you sign holds\nunpack into DIR: {asked.unpack}")
        click.echo(f"then: fercompress data check {name} --data-root DIR")
        return
    folder = to or source.user_cache() / "gfe"
    with Reporter(Console(stderr=True)) as tell, tell.stage(f"get {name}"):
        got = download.get_gfe(folder)
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(got), "folder": str(folder), "licence": download.GFE_LICENCE}, indent=1))
        return
    click.echo(f"{got.files} files in {folder}: {got.compared} equal the known sha256, every pair reads as frames with one target each")
    if got.zip_sha256:
        click.echo(f"sha256 of the zip file that came: {got.zip_sha256} (none is published to compare it with)")
    click.echo(f"licence: {download.GFE_LICENCE}; keep this attribution")
    click.echo(f"then: fercompress run gfe --data-root {folder}")
