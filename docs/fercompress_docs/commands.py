"""The command line's reference: click's own commands in, Markdown out."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from fercompress.cli import app


def page() -> str:
    return "\n".join(_section(name, command, context) for name, command, context in every(app, click.Context(app, info_name="fercompress")))


def every(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    """A command and all below it, with the words that call each."""
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from every(below, click.Context(below, info_name=name, parent=context))


def _section(path: str, command: click.Command, context: click.Context) -> str:
    lines = [f"## `{path}`" if path.count(" ") < 2 else f"### `{path}`", "", inspect.cleandoc(command.help or ""), ""]
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    lines += ["```text", usage, "```", ""]
    rows = [row for parameter in command.get_params(context) if (row := _row(parameter, context))]
    if rows:
        lines += ["| option | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _row(parameter: click.Parameter, context: click.Context) -> str:
    """As `--help` prints it, default and variable included; "" for an argument, which usage and text tell of, and for --help itself."""
    record = None if isinstance(parameter, click.Argument) else parameter.get_help_record(context)
    if record is None or "--help" in parameter.opts:
        return ""
    option, words = (part.replace("|", "\\|").replace("<", "&lt;") for part in record)
    return f"| `{option}` | {words} |"
