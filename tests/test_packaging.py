"""The wheel carries everything that a run needs: agent, boards, templates and studies, file by file as git knows them."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = [
    "fercompress",
    "remote/fercompress_agent",
    "remote/fercompress_boards",
    "remote/fercompress_convert",
    "benchmarks/fercompress_studies",
    "reports/fercompress_templates",
]


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_exactly_the_tracked_files_of_the_packages(wheel_files):
    tracked = subprocess.run(["git", "ls-files", "--cached", "--", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    expected = {
        name if package == "fercompress" else name.split("/", 1)[1] for package in PACKAGES for name in tracked if name.startswith(package + "/")
    }
    assert wheel_files == expected


@pytest.mark.parametrize(
    "name",
    [
        "fercompress_agent/__main__.py",
        "fercompress_boards/localhost.toml",
        "fercompress_convert/convert.py",
        "fercompress_studies/default.toml",
        "fercompress_studies/gfe.toml",
        "fercompress_templates/index.html",
        "fercompress_templates/study.toml",
        "fercompress/data/synthetic.py",
        "fercompress/results/summary.schema.json",
    ],
)
def test_the_wheel_holds_what_a_run_reads(wheel_files, name):
    assert name in wheel_files
