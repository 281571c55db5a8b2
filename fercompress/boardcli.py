"""`fercompress board`: what a person does with a target before and after a study. Parse, call, print."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from fercompress import options, terminal
from fercompress.errors import InputError, TargetError

_target = click.argument("target")
_COLOURS = {"ok": "green", "note": "yellow", "fails": "red"}


@click.group()
def board() -> None:
    """Trust, check, provision and clean the machine that measures. TARGET is a shipped target's name or a .toml file."""


@board.command()
@_target
@click.option(
    "--answers",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also ask what the RK3399Pro's data sheets leave open, which takes minutes there, and write it to FILE (.toml or .json).",
)
@click.option(
    "--rknn", "models", multiple=True, metavar="FILE=H,W,C", help="With --answers: a model for the NPU and its input's shape; may be repeated."
)
@options.as_json
def check(target: str, answers: Path | None, models: tuple[str, ...], as_json: bool) -> int:
    """A doctor: is the target fit for a long run? Each line that is not well says how to mend it.

    Exit codes: 0 ok, or with notes; 4 something fails, or the target is out of reach.
    """
    from fercompress.measure import board as boards
    from fercompress.measure import doctor, openquestions

    loaded = boards.load_board(target)
    given = [openquestions.Model.parse(text) for text in models]
    if given and answers is None:
        raise InputError("--rknn: models are for the questions of --answers FILE")
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = doctor.examine(loaded, Path(folder))
            if answers is not None:
                openquestions.write(answers, loaded, *openquestions.settle(loaded, Path(folder), given))
                click.echo(f"answers: {answers}", err=True)
        except TargetError as error:
            found = doctor.unreachable(loaded, error)
    if as_json:
        terminal.show_json([dataclasses.asdict(finding) for finding in found])
    else:
        table = Table(title=f"target {escape(loaded.name)}", title_justify="left", show_lines=False)
        for column in ("", "what", "found", "what to do"):
            table.add_column(column, overflow="fold")
        for finding in found:
            table.add_row(f"[{_COLOURS[finding.level]}]{finding.level}[/]", *map(escape, (finding.what, finding.found, finding.mend)))
        terminal.show(table, 160)
    return TargetError.exit_code if doctor.worst(found) is doctor.Level.FAILS else 0


@board.command()
@_target
@click.option("--yes", is_flag=True, help="Pin what the host shows, without asking.")
@click.option("--fingerprint", "expected", metavar="SHA256:...", help="Pin the host's key only if it is this one.")
@click.option("--replace", is_flag=True, help="Forget a key that was pinned before: the board was set up anew.")
def trust(target: str, yes: bool, expected: str | None, replace: bool) -> None:
    """Show the host key's fingerprint and pin it, so that every later connection is checked against it."""
    from fercompress.measure import board as boards
    from fercompress.measure import hostkeys, ssh

    loaded = boards.load_board(target)
    if loaded.kind != "ssh":
        raise InputError(f"target {loaded.name!r} is not reached over SSH: there is no host key to trust")
    address = boards.address(loaded)
    key = ssh.host_key(address)
    shown = ssh.fingerprint(key)
    known = hostkeys.Pinned(address)
    if known.holds(key):
        click.echo(f"{shown} ({key.get_name()}) is pinned already, in {known.path}")
        return
    if known.other(key) and not replace:
        raise InputError(
            f"{known.path}: another key is pinned for {address.host}. If the board was set up anew, add --replace; else somebody sits in between"
        )
    click.echo(f"{address.host} shows {shown} ({key.get_name()})")
    click.echo("compare, on the board itself:  for f in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $f; done")
    if expected is not None and expected != shown:
        raise InputError(f"the host's key is not {expected}: nothing was pinned")
    if expected is None and not yes:
        click.confirm("Is it the same?", abort=True)
    known.pin(key)
    click.echo(f"pinned in {known.path}")


@board.command()
@_target
@click.option("--wheelhouse", required=True, type=click.Path(path_type=Path), help="Folder of .whl files on this machine.")
@click.option("--plan", is_flag=True, help="Say which wheels would be installed, and stop.")
def provision(target: str, wheelhouse: Path, plan: bool) -> None:
    """Install numpy and onnxruntime for the Python on a board: below its workspace, for fercompress alone; no pip and no network are needed there.

    Where nothing fits, the pip command that fills the wheelhouse is printed.
    """
    from fercompress.measure import board as boards
    from fercompress.measure import provision as provisioning

    loaded = boards.load_board(target)
    with tempfile.TemporaryDirectory() as folder:
        done = provisioning.provision(loaded, wheelhouse, Path(folder), plan=plan, tell=lambda line: click.echo(line, err=True))
    click.echo(f"{loaded.name}: {done.choice.interpreter}")
    for wheel in done.choice.wheels:
        click.echo(f"  {wheel.path.name}, unpacked {wheel.unpacked_bytes / 1e6:.1f} MB")
    for engine, reason in done.choice.lacking.items():
        click.echo(f"  engine {engine} not: {reason}")
    if done.choice.lacking:
        click.echo(f"to fill the wheelhouse:\n{provisioning.fill(done.choice, wheelhouse)}")
    engines = ", ".join(done.choice.engines)
    where = f"{loaded.workspace}/files/{done.folder}"
    click.echo(
        f"already there: {where}" if done.there else f"would serve: {engines}" if not done.folder else f"installed in {where}; serves: {engines}"
    )


@board.command()
@_target
@click.option("--all", "everything", is_flag=True, help="The agent's own file and provisioned wheels too.")
@click.option("--end", is_flag=True, help="Also where a run is at work there: end it.")
def clean(target: str, everything: bool, end: bool) -> None:
    """Remove what fercompress put on a target. Where somebody's run is at work there, say whose and stop, unless --end is given."""
    from fercompress.measure import board as boards
    from fercompress.measure.sshchannel import SshChannel

    loaded = boards.load_board(target)
    if loaded.kind != "ssh":
        raise InputError(f"target {loaded.name!r} keeps its files in each study's output folder, under work/: delete them there")
    with SshChannel(boards.address(loaded), take_over=end) as channel:
        done = channel.clean(everything)
    whose = f"; the last there was {done.owner}, since {done.since}" if done.owner else ""
    click.echo(f"{done.freed_bytes / 1e6:.1f} MB freed on {loaded.name}{whose}")
