"""The gate of this project's own commits: which commit is compared, what is a warning, and a planted regression that it finds."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import commit_gate  # noqa: E402


class Repository:
    """A git repository in a folder, with commits of made-up files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(["git", "-C", str(self.folder), *who, *arguments], capture_output=True, text=True, check=True).stdout.strip()

    def commit(self, text: str) -> str:
        (self.folder / "file").write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", text)
        return self.git("rev-parse", "HEAD")


def test_the_last_release_before_head_is_compared_or_else_the_first_parent(tmp_path):
    made = Repository(tmp_path)
    first, second = made.commit("one"), made.commit("two")
    assert commit_gate.compared_commit(tmp_path) == first
    made.git("tag", "v0.1.0", first)
    made.git("tag", "a-note", second)
    made.commit("three")
    assert commit_gate.compared_commit(tmp_path) == "v0.1.0"
    made.git("tag", "v0.2.0")
    assert commit_gate.compared_commit(tmp_path) == "v0.1.0", "a release is compared with the one before"


def test_the_parent_of_a_merge_is_the_one_on_the_first_parent_line(tmp_path):
    made = Repository(tmp_path)
    made.commit("one")
    main = made.commit("two")
    made.git("checkout", "-q", "-b", "side", "HEAD~1")
    (tmp_path / "other").write_text("")
    made.git("add", "-A")
    made.git("commit", "-q", "-m", "aside")
    made.git("checkout", "-q", "main")
    made.git("merge", "-q", "--no-ff", "-m", "merge", "side")
    assert commit_gate.compared_commit(tmp_path) == main


def test_without_history_it_warns_with_the_reason_and_never_says_that_it_passed(tmp_path, capsys):
    assert commit_gate.main(["--root", str(tmp_path / "nowhere")]) == 0
    assert "NOT COMPARED" in capsys.readouterr().out
    made = Repository(tmp_path / "young")
    made.commit("one")
    assert commit_gate.main(["--root", str(made.folder)]) == 0
    said = capsys.readouterr().out
    assert "warning: HEAD has no parent here: a first commit, or a shallow clone" in said
    assert "passed" not in said


def test_an_earlier_source_that_cannot_make_its_bundle_is_a_warning_and_this_one_an_error(tmp_path):
    made = Repository(tmp_path / "source")
    (made.folder / "fercompress").mkdir()
    (made.folder / "fercompress" / "__init__.py").write_text("raise RuntimeError('planted: it cannot be built')")
    made.commit("broken")
    out = tmp_path / "out"
    before = commit_gate.unpacked(made.folder, "HEAD", out / "before")
    with pytest.raises(commit_gate.NotComparedError, match=r"the source before cannot make the bundle: .*planted: it cannot be built"):
        commit_gate.made(before, "before", out)
    with pytest.raises(RuntimeError, match="this source cannot make the bundle"):
        commit_gate.made(before, "now", out)
    with pytest.raises(commit_gate.NotComparedError, match="git archive nothing"):
        commit_gate.unpacked(made.folder, "nothing", out / "again")


@pytest.mark.parametrize(("slower", "expected"), [(1.5, "worse"), (1.0, "equivalent"), (0.6, "better")])
def test_agents_are_judged_by_mirrored_rounds(slower, expected):
    blocks = iter(range(1000))

    def timed(side):
        drift = 1 + 0.001 * next(blocks)  # of the machine, the same for both
        return 1e6 * drift * (slower if side == "now" else 1.0)

    verdict, (change, _) = commit_gate.agent_verdict(timed, confirm=True)
    assert verdict == expected
    assert change.startswith(f"{100 * (slower - 1):+.1f}")


@pytest.fixture
def source(tmp_path):
    """This source in a repository of its own, with a commit before the last one."""
    folder = tmp_path / "source"
    for name in ("fercompress", "remote", "benchmarks", "reports/fercompress_templates"):
        left = ("__pycache__", *(("results",) if name == "benchmarks" else ()))
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*left))
    made = Repository(folder)
    made.commit("as it is")
    made.commit("nothing that counts")
    return folder


@pytest.mark.slow
def test_a_commit_that_changes_neither_files_nor_agent_is_not_timed(source, tmp_path, capsys):
    assert commit_gate.compare(source, "HEAD^1", tmp_path / "same") == 0
    said = capsys.readouterr().out
    assert "equal to the byte" in said
    assert "its source is the same, so nothing is timed" in said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_planted_regression_of_the_export_and_of_the_loop_fails(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(commit_gate, "ROUNDS", 6)
    plant(source / "fercompress/export/part.py", "        content = stored.SerializeToString", '        stored.doc_string = "x" * 20000')
    plant(source / "remote/fercompress_agent/timing.py", "    before = clock()", "    time.sleep(0.002)")
    assert commit_gate.compare(source, "HEAD", tmp_path / "worse") == 1
    said = capsys.readouterr().out
    assert "worse: stored_bytes" in said
    assert f"| {commit_gate.AGENT} | worse |" in said


def plant(path: Path, before: str, line: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, f"{line}\n{before}"))
