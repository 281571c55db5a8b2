"""Markdown pages as a reader follows them: a page in, its files, commands and shown outputs out, in order; a folder in which they are followed.

A fenced block ```toml title="first.toml" is a file that the reader writes; ```sh are commands; ```text title="output" is what the commands before it
print. An HTML comment right above a block of commands says what a reader cannot see:

<!-- not run: REASON -->             the commands are only parsed: programs, subcommands, options and their values
<!-- exit 0, 1 or 3: REASON -->      codes with which the block may end; else 0
<!-- answer: y -->                   what is typed when a command asks

and on lines of their own, of the whole page:

<!-- after: tutorial -->             it goes on in the folder that another page left
<!-- given: clips, x.onnx -->        its reader has these already
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from fercompress.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "pages"
# Programs that are not ours: a command that is not run is looked at no further.
OTHERS = {"cd", "export", "git", "pip", "python", "python3", "sh", ".venv/bin/pip", "docker", ".", "mkdir", "cp", "ray"}
COMMENTS = ("not run", "exit", "answer")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)(?: +title=\"(?P<title>[^\"]+)\")?[^\n]*\n(?P<text>.*?)^(?P=indent)```", re.M | re.S)
_COMMENT = re.compile(r"<!-- (?P<word>not run|exit|answer)\b:? ?(?P<rest>(?:(?!-->).)*?) -->\s*\Z", re.S)


@dataclass(frozen=True)
class Fence:
    """One fenced block. place: page:line; word, rest: of the comment above it, "" where there is none"""

    place: str
    language: str
    title: str
    text: str
    word: str = ""
    rest: str = ""

    @property
    def codes(self) -> tuple[int, ...]:
        """Exit codes with which its commands may end."""
        return tuple(map(int, re.findall(r"\d+", self.rest.partition(":")[0]))) if self.word == "exit" else (0,)


def fences(path: Path) -> list[Fence]:
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    found = []
    for match in _FENCE.finditer(text):
        above = _COMMENT.search(text[: match.start()])
        block = re.sub(f"^{match['indent']}", "", match["text"], flags=re.M)
        place = f"{name}:{text.count(chr(10), 0, match.start()) + 1}"
        word, rest = (above["word"], above["rest"].strip()) if above else ("", "")
        found.append(Fence(place, match["language"], match["title"] or "", block, word, rest))
    return found


def after(path: Path) -> str | None:
    """The page in whose folder this one goes on."""
    found = re.search(r"^<!-- after: ([\w/-]+) -->$", path.read_text(encoding="utf-8"), re.M)
    return found[1] if found else None


def given(path: Path) -> list[str]:
    """Files and folders that the page's reader has already."""
    found = re.search(r"^<!-- given: (.+?) -->$", path.read_text(encoding="utf-8"), re.M)
    return found[1].split(", ") if found else []


class Reader:
    """Follows pages in a folder of its own; variables and the current folder last from block to block.

    environment: beside the process's own; HOME should be one without anybody's settings
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], limit_s: float = 900.0) -> None:
        self.folder = folder
        self.limit_s = limit_s
        self.state = folder.with_name(folder.name + ".state")
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `fercompress` and `python` are the tests' own
        self.environment = {**os.environ, "PATH": path, **environment}
        folder.mkdir(parents=True, exist_ok=True)

    def follow(self, path: Path) -> None:
        """raises: AssertionError where a command ends otherwise than the page says, or prints other words"""
        printed = ""
        for fence in fences(path):
            if fence.language == "sh" and fence.word != "not run":
                printed = self.run(fence)
            elif fence.title == "output":
                assert _plain(printed) == _plain(fence.text), f"{fence.place}: the page shows another output than the commands print:\n{printed}"
            elif fence.title:
                target = self.folder / fence.title
                assert target.resolve().is_relative_to(self.folder.resolve()), f"{fence.place}: {fence.title} is outside of the reader's folder"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(fence.text, encoding="utf-8")

    def run(self, fence: Fence) -> str:
        """returns: what was printed to stdout"""
        state = shlex.quote(str(self.state))
        script = f"[ ! -f {state} ] || . {state}\n{fence.text}\n{{ export -p; printf 'cd %q\\n' \"$PWD\"; }} > {state}\n"
        typed = f"{fence.rest}\n" if fence.word == "answer" else ""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=self.environment, input=typed,
            capture_output=True, text=True, timeout=self.limit_s, check=False,
        )  # fmt: skip
        said = f"{fence.place}: exit code {done.returncode}, the page says {fence.codes}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert done.returncode in fence.codes, said
        assert "Traceback" not in done.stderr, said
        return done.stdout


def _plain(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a script, without redirections, variables set for it, and remarks."""
    joined = text.replace("\\\n", " ")
    for line in joined.splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, ";"]:
            if word and set(word) <= set("|&;"):
                while command and re.fullmatch(r"\w+=.*", command[0]):
                    del command[0]
                if command:
                    yield command
                command = []
            elif word and set(word) <= set("<>"):
                yield from [command] if command else []
                command = []
                break
            else:
                command.append(word)


def check_parses(fence: Fence) -> None:
    """That every command of a block exists with these options and values. raises: AssertionError, click.UsageError"""
    for command in commands(fence.text):
        program = command[0]
        if program.endswith("fercompress"):
            parse(command[1:])
        elif program.rpartition("/")[2] == "tox":
            _check_tox(command, fence.place)
        else:
            assert program in OTHERS, f"{fence.place}: {program!r} is neither ours nor a program that the pages may use"


def parse(arguments: list[str]) -> None:
    """As the command line parses them; nothing runs. raises: click.UsageError"""
    words, command, context = list(arguments), app, click.Context(app, info_name="fercompress")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no command {name!r} in {' '.join(['fercompress', *arguments])}")
        command, context = found, click.Context(found, info_name=name, parent=context)
    if not isinstance(command, click.Group):
        command.make_context(command.name, words, parent=context.parent)


def _check_tox(command: list[str], place: str) -> None:
    known = configparser.ConfigParser(interpolation=None)
    known.read(ROOT / "tox.ini")
    for name in [command[i + 1] for i, word in enumerate(command) if word == "-e"]:
        assert f"testenv:{name}" in known, f"{place}: tox has no environment {name!r}"
