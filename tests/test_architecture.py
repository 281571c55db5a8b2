"""The import rules are executed: an import from one stage into another is found, with its file and line."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytest.importorskip("importlinter", reason="import-linter is in the tox environment `arch`")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None))"]
    environment = {"PYTHONPATH": f"{folder}:{folder / 'remote'}", "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(tmp_path):
    for name in ("fercompress", "remote/fercompress_agent"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_source_keeps_the_rules(tree):
    result = lint(tree)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("file", "line", "words"),
    [
        ("fercompress/report/render.py", "import fercompress.results.store", "fercompress.report.render -> fercompress.results.store"),
        ("fercompress/stats/verdict.py", "import fercompress.measure.session", "fercompress.stats.verdict -> fercompress.measure.session"),
        ("fercompress/export/bundle.py", "import fercompress.study", "fercompress.export.bundle -> fercompress.study"),
        ("remote/fercompress_agent/timing.py", "import fercompress.records", "fercompress_agent.timing -> fercompress.records"),
    ],
)
def test_a_planted_import_is_found(tree, file, line, words):
    path = tree / file
    path.write_text(path.read_text() + f"\n{line}\n")
    result = lint(tree)
    assert result.returncode == 1
    assert words in result.stdout
