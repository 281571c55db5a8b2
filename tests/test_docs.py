"""The documentation's commands do what the pages say: the tutorial is followed literally in an empty folder, each guide in what it left."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import facetrees
import foreign_models
import pytest
import walkthrough
from fercompress_docs import formats
from hypothesis import given
from hypothesis import strategies as st
from sshlab import Sshd
from walkthrough import PAGES, ROOT, Fence, Reader

pytestmark = pytest.mark.timeout(1800)  # a whole tutorial on a machine that does other work

TUTORIAL = PAGES / "tutorial.md"
EVERY_PAGE = sorted(PAGES.rglob("*.md"))
GUIDES = [page for page in EVERY_PAGE if page != TUTORIAL and any(fence.language == "sh" for fence in walkthrough.fences(page))]
BOARD = "192.168.1.20"  # the address that the pages use


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A reader's environment: a home whose ssh config leads the pages' board to a real sshd on this machine."""
    folder = tmp_path_factory.mktemp("reader")
    sshd = Sshd(folder / "lab")
    sshd.rc.write_text(f"export PATH={Path(sys.executable).parent}:$PATH\n")  # the board's python3 has numpy and onnxruntime
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/config").write_text(
        f"Host {BOARD}\n    HostName 127.0.0.1\n    Port {sshd.port}\n    User {getpass.getuser()}\n    IdentityFile {sshd.folder}/user_key\n"
    )
    sshd.start()
    yield {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "XDG_CACHE_HOME": str(home / ".cache"), "SSH_AUTH_SOCK": ""}
    sshd.stop()


GIVEN: dict[str, Callable[[Path], object]] = {  # what a guide supposes that its reader has
    "clips": lambda path: facetrees.folder(path, subjects=6, clips=1, traps=False),
    "ckplus": lambda path: facetrees.ckplus(path, subjects=16, sequences=2, traps=False),
    "extractor.onnx": foreign_models.extractor,
    "predictor.onnx": foreign_models.predictor,
}


@pytest.fixture(scope="module")
def tutorial(board: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader who followed the tutorial."""
    folder = tmp_path_factory.mktemp("tutorial") / "empty"
    folder.mkdir()
    Reader(folder, board).follow(TUTORIAL)
    return folder


@pytest.mark.slow
def test_the_tutorial_is_followed_literally_in_an_empty_folder(tutorial):
    report = tutorial / "reports/first"
    assert {"index.html", "report.md", "summary.json", "results.sqlite", "seal.json"} <= set(os.listdir(report))
    assert "my-board" in (report / "report.md").read_text()


@pytest.mark.slow
def test_the_files_that_the_tutorial_leaves_are_those_of_the_reference(tutorial):
    report = tutorial / "reports/first"
    assert {path.name for path in report.iterdir() if not path.name.startswith(".")} <= set(formats.RUN_FOLDER)
    manifests = [json.loads(path.read_text()) for path in report.glob("bundles/*/manifest.json")]
    assert len(manifests) == 3
    assert set().union(*manifests) == set(formats.MANIFEST)


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_a_guide_is_followed_literally(page, board, request, tmp_path):
    folder = tmp_path / "guide"
    before = walkthrough.after(page)
    assert before in (None, "tutorial")
    if before:
        shutil.copytree(request.getfixturevalue("tutorial"), folder)
    folder.mkdir(exist_ok=True)
    for there in walkthrough.given(page):
        GIVEN[there](folder / there)
    Reader(folder, board).follow(page)


@pytest.mark.parametrize("page", EVERY_PAGE, ids=name)
def test_what_is_not_run_is_at_least_parsed_and_says_why(page):
    for fence in walkthrough.fences(page):
        assert fence.language in ("sh", "toml", "text", "python", "yaml", "json", "csv"), f"{fence.place}: ```{fence.language} is not followed"
        if fence.word == "not run":
            assert len(fence.rest) > 10, f"{fence.place}: no reason"
            walkthrough.check_parses(fence)


README = ROOT / "README.md"
# Commands of the README that need nothing but a run folder: they are run, in a copy of the tutorial's. The others train for minutes, download, or
# need a board, a video or data that may not be passed on; guides run smaller ones of most of them.
RUN_HERE = ("verify", "report", "plan", "init", "bundle import", "run boards --plan")


def readme_commands() -> list[list[str]]:
    """Every `fercompress` command of the README; "..." stands for the options of the command above it."""
    found: list[list[str]] = []
    for each in walkthrough.fences(README):
        for command in walkthrough.commands(each.text) if each.language == "sh" else ():
            if command[0] == "fercompress":
                above = found[-1][2:] if "..." in command else []
                found.append([*command[:2], *above, *[word for word in command[2:] if word != "..."]])
    return found


@pytest.mark.parametrize("command", readme_commands(), ids=" ".join)
def test_a_command_of_the_readme_parses(command):
    walkthrough.parse(command[1:])


def test_the_environments_that_the_readme_names_exist():
    for each in walkthrough.fences(README):
        if each.language == "sh" and "fercompress" not in each.text:
            walkthrough.check_parses(each)


@pytest.mark.slow
def test_what_the_readme_does_with_a_run_folder_works(board, tutorial, tmp_path):
    folder = tmp_path / "reader"
    shutil.copytree(tutorial, folder)
    (folder / "reports/first").rename(folder / "reports/default")
    for day in ("monday", "tuesday"):  # two runs to set side by side
        shutil.copytree(folder / "reports/default", folder / "reports" / day)
    (folder / "study.toml").unlink()
    foreign_models.extractor(folder / "x.onnx")
    foreign_models.predictor(folder / "y.onnx", weight=foreign_models.SECOND[:, :3])
    chosen = [command for command in readme_commands() if " ".join(command[1:]).startswith(RUN_HERE)]
    assert len(chosen) >= len(RUN_HERE)
    Reader(folder, board).run(fence("\n".join(shlex.join(command) for command in chosen)))


def fence(text: str, **more: str) -> Fence:
    return Fence("page:1", "sh", more.pop("title", ""), text, **more)


@pytest.mark.parametrize(
    "line",
    [
        "fercompress rnu default",
        "fercompress run default --sedes 3",
        "fercompress run default --seeds none",
        "fercompress gate --candidate a",
        "cd x && fercompress report",
        "fercompress board trust a.toml --finger b",
    ],
)
def test_a_command_that_the_command_line_would_refuse_is_found(line):
    with pytest.raises(click.UsageError):
        walkthrough.check_parses(fence(line))


@pytest.mark.parametrize("line", ["tox -e dmeo", "frecompress run", ".venv/bin/tox -e docz"])
def test_a_program_or_an_environment_that_does_not_exist_is_found(line):
    with pytest.raises(AssertionError):
        walkthrough.check_parses(fence(line))


def page(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("```sh\nfalse\n```\n", "page.md:1: exit code 1"),
        ("<!-- exit 3: unsure -->\n```sh\ntrue\n```\n", "the page says (3,)"),
        ('```sh\necho 2\n```\n\n```text title="output"\n1\n```\n', "page.md:5: the page shows another output"),
        ("```sh\nfalse\necho hidden\n```\n", "exit code 1"),
        ("```sh\nfalse | cat\n```\n", "exit code 1"),
    ],
)
def test_a_page_whose_commands_do_otherwise_than_it_says_fails(tmp_path, text, words):
    with pytest.raises(AssertionError) as caught:
        Reader(tmp_path / "reader", {}).follow(page(tmp_path, text))
    assert words in str(caught.value)


def test_files_variables_and_the_current_folder_last_from_block_to_block(tmp_path):
    text = (
        '```toml title="made/a.toml"\nb = 1\n```\nthen\n```sh\ncd made\nexport NAME="c d"\n```\n'
        '<!-- answer: yes -->\n```sh\nread answer\necho "$NAME $answer" > said\ncat a.toml said\n```\n```text title="output"\nb = 1\nc d yes\n```\n'
    )
    Reader(tmp_path / "reader", {}).follow(page(tmp_path, text))
    assert (tmp_path / "reader/made/said").read_text() == "c d yes\n"


def test_a_comment_is_of_the_block_right_below_it_alone(tmp_path):
    text = "<!-- not run: a reason -->\n```sh\na\n```\nwords\n\n```sh\nb\n```\n<!-- exit 0 or 3: unsure -->\n\n```sh\nc\n```\n"
    found = walkthrough.fences(page(tmp_path, text))
    assert [(each.text, each.word, each.codes) for each in found] == [("a\n", "not run", (0,)), ("b\n", "", (0,)), ("c\n", "exit", (0, 3))]


LINE = st.text(st.characters(blacklist_characters="\r\n`", blacklist_categories=("Cs", "Cc", "Zl", "Zp")), max_size=30)


@given(st.lists(st.tuples(st.lists(LINE, min_size=1, max_size=4), st.booleans(), LINE.filter(lambda line: "<!--" not in line)), max_size=5))
def test_blocks_are_read_as_they_are_written_whatever_stands_between(tmp_path_factory, blocks):
    text = "".join(
        f"{between}\n{'<!-- not run: far away -->' if skipped else ''}\n```sh\n" + "".join(f"{line}\n" for line in lines) + "```\n"
        for lines, skipped, between in blocks
    )
    path = page(tmp_path_factory.getbasetemp(), text)
    found = walkthrough.fences(path)
    assert [each.text for each in found] == ["".join(f"{line}\n" for line in lines) for lines, _, _ in blocks]
    assert [each.word for each in found] == ["not run" if skipped else "" for _, skipped, _ in blocks]
