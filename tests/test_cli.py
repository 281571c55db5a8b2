"""The command line: bad input gets one clear line, its exit code, no traceback, and nothing is written or lost."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fercompress import cli
from fercompress.errors import DiskFullError, StudyError

STUDY = """
[study]
name = "mine"
baseline = "dense"

[data]
name = "synthetic"
train_clips = 14
validation_clips = 14
test_clips = 14
frames = 4
size = 32

[model]
hidden = 16

[[variant]]
name = "dense"

[[variant]]
name = "tt"
recipe = [{ step = "tensor-train", rank = 2 }]
"""


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fercompress", *arguments]
    return subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False)


def refused(folder: Path, words: str, *arguments: str, code: int = 2) -> None:
    """It exits with `code`, says `words`, shows no traceback, and leaves the folder as it was."""
    before = sorted(str(path) for path in folder.rglob("*") if "__pycache__" not in path.parts)
    done = run(folder, *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(str(path) for path in folder.rglob("*") if "__pycache__" not in path.parts) == before


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.toml").write_text(STUDY)
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("hidden = 16", "hiden = 16", "unknown key 'hiden' in [model]; did you mean 'hidden'?"),
        ("hidden = 16", 'hidden = "16"', "model.hidden: input should be a valid integer (given: '16')"),
        ("rank = 2", "rank = 0", "greater than or equal to 1 (given: 0)"),
        ("rank = 2", "rank = 100000", "rank"),
        ("rank = 2", "rank = 2, input_modes = [3, 5], output_modes = [64, 1]", "variant 'tt'"),
        ('name = "synthetic"', 'name = "gfe"\nsize = 64\n#', "--data-root"),
    ],
)
def test_a_bad_study_is_refused_before_anything_is_written(folder, old, new, words):
    text = STUDY.replace(old, new)
    if 'name = "gfe"' in new:
        text = "\n".join(
            line for line in text.splitlines() if not line.startswith(("train_clips", "validation_clips", "test_clips", "frames = ", "size = 32"))
        )
    (folder / "mine.toml").write_text(text)
    refused(folder, words, "run", "mine.toml", "--out", "out")


def test_a_missing_data_root_is_named(folder):
    refused(folder, "nowhere", "run", "gfe", "--data-root", "nowhere", "--out", "out")


def test_an_output_path_that_cannot_be_written_is_refused(folder):
    (folder / "file").write_text("")
    refused(folder, "--out file is a file", "run", "mine.toml", "--out", "file")
    refused(folder, "cannot be written", "run", "mine.toml", "--out", "/proc/nowhere/out")


def test_misspelt_options_commands_and_variants_name_their_neighbour(folder):
    refused(folder, "Did you mean '--out'?", "run", "mine.toml", "--ouut", "x")
    refused(folder, "Did you mean 'run'?", "ruun")
    refused(folder, "did you mean 'tt'?", "run", "mine.toml", "--only", "ttt", "--out", "out")
    refused(folder, "no target named 'localhos'", "run", "mine.toml", "--target", "localhos", "--out", "out")


def test_a_corrupt_results_file_is_refused_and_kept(folder):
    (folder / "out").mkdir()
    (folder / "out/results.sqlite").write_bytes(b"not a database" * 100)
    (folder / "out/.fercompress-lock").touch()
    done = run(folder, "report", "out")
    assert done.returncode == 2
    assert "results.sqlite" in done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "out/results.sqlite").read_bytes() == b"not a database" * 100


def test_a_folder_without_results_cannot_be_reported(folder):
    refused(folder, "no results.sqlite there", "report", ".")


def test_a_bundle_whose_file_changed_is_refused(folder):
    assert run(folder, "compress", "mine.toml", "--out", "out", "--json").returncode == 0
    (bundle,) = (folder / "out/bundles").glob("tt-*")
    with open(bundle / "predictor.onnx", "ab") as file:
        file.write(b"\0")
    refused(folder, "predictor.onnx: sha256 is", "compress", "mine.toml", "--out", "out")


def test_two_runs_do_not_share_a_folder(folder):
    import fcntl

    (folder / "out").mkdir()
    with open(folder / "out/.fercompress-lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(folder, "another fercompress is writing there", "run", "mine.toml", "--out", "out")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="a full disk needs the right to mount a small one")
def test_a_full_disk_ends_with_4_and_the_run_can_go_on(folder):
    (folder / "disk").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder / "disk")], check=False).returncode:
        pytest.skip("mount is not allowed here")
    try:
        done = run(folder, "run", "mine.toml", "--out", "disk/out")
        assert done.returncode == 4, done.stderr
        assert "no space left" in done.stderr
        assert "Traceback" not in done.stderr
        subprocess.run(["mount", "-o", "remount,size=200m", str(folder / "disk")], check=True)
        assert run(folder, "compress", "mine.toml", "--out", "disk/out").returncode == 0
    finally:
        subprocess.run(["umount", str(folder / "disk")], check=True)


def test_init_writes_a_study_that_can_be_planned_and_never_overwrites(folder):
    assert run(folder, "init").returncode == 0
    rows = json.loads(run(folder, "run", "study.toml", "--plan", "--json").stdout)
    assert {row["stage"] for row in rows} >= {"train", "export", "measure"}
    assert not (folder / "reports").exists()
    refused(folder, "is there already", "init")


def test_a_plan_counts_the_power_pass_of_targets_that_may_have_a_meter_and_needs_no_host_but_says_so(folder: Path) -> None:
    (folder / "metered.toml").write_text('kind = "local"\npower = { load_s = 60, idle_s = 30, settle_s = 0 }\n')
    (folder / "plain.toml").write_text('kind = "local"\npower = { source = "none" }\n')
    wish = ("--set", 'measure.passes=["power"]', "--target", "metered.toml", "--target", "plain.toml")
    rows = json.loads(run(folder, "run", "mine.toml", "--plan", "--json", *wish).stdout)
    power = next(row for row in rows if row["what"].startswith("power"))
    assert 60 + 2 * 30 <= power["about_seconds"] / power["times"] < 60 + 2 * 30 + 30  # the start of the runtime is a guess
    rows = json.loads(run(folder, "run", "mine.toml", "--plan", "--json", "--target", "rpi4").stdout)
    assert ["rpi4 has no host yet" in row["what"] for row in rows].count(True) == 1
    refused(folder, "target 'rpi4' has no host", "run", "mine.toml", "--target", "rpi4", "--out", "out")


def test_set_replaces_a_value_of_the_study_and_is_checked_like_it(folder):
    def first(*arguments: str) -> str:
        return json.loads(run(folder, "run", "mine.toml", "--plan", "--json", *arguments).stdout)[0]["what"]

    assert "up to 10 epochs" in first()
    assert "up to 3 epochs" in first("--set", "train.epochs=3")
    refused(folder, "unknown key 'epoch' in [train]; did you mean 'epochs'?", "run", "mine.toml", "--set", "train.epoch=3", "--out", "out")


def test_data_check_counts_what_is_there(folder):
    found = json.loads(run(folder, "data", "check", "mine.toml", "--json", XDG_CACHE_HOME=str(folder / "cache")).stdout)
    assert found["clips"] == 42
    assert sum(found["classes"].values()) == 42
    assert found["subjects"] >= 3
    assert found["left_out"] == []


def test_data_show_draws_a_picture(folder):
    done = run(folder, "data", "show", "mine.toml", "--out", "sheet.png", XDG_CACHE_HOME=str(folder / "cache"))
    assert done.returncode == 0, done.stderr
    assert (folder / "sheet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["run"],
        ["train"],
        ["compress"],
        ["measure"],
        ["report"],
        ["init"],
        ["verify"],
        ["predict"],
        ["bundle"],
        ["bundle", "import"],
        ["data"],
        ["data", "check"],
        ["data", "show"],
        ["data", "get"],
        ["data", "cache"],
    ],
)
def test_every_command_explains_itself(command):
    result = CliRunner().invoke(cli.app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (StudyError("bad study"), 2, "bad study"),
        (DiskFullError("no space"), 4, "no space"),
        (KeyboardInterrupt(), 130, "stopped"),
        (KeyError("x"), 70, "Traceback"),
    ],
)
def test_every_error_has_its_exit_code(monkeypatch, capsys, error, code, words):
    def fail(**_):
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == code
    assert words in capsys.readouterr().err
