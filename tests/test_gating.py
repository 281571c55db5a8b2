"""Gates for real: a small run, twins of its bundles with a planted fault, baseline files, a user's own tests and the CI script."""

import contextlib
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import planted  # noqa: E402

from fercompress import cli, gating  # noqa: E402
from fercompress.errors import FercompressError  # noqa: E402
from fercompress.gate import baseline  # noqa: E402

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

[train]
epochs = 1

[fine_tune]
epochs = 1

[measure]
block_s = 0.01
block_clips = 4
warmup_clips = 1

[[variant]]
name = "dense"

[[variant]]
name = "tt"
recipe = [{ step = "tensor-train", rank = 2 }]
"""
QUICK = ("--tier", "smoke", "--rounds", "6", "--no-confirm", "--on-inconclusive", "warn")
TIMED = ("--metric", "latency_predictor_p50_ns", "--effect", "latency_predictor_p50_ns=25%")


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


class Place:
    """A folder with a finished run `mine`, and a configuration folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"XDG_CONFIG_HOME": str(folder / "config"), "XDG_CACHE_HOME": str(folder / "cache"), "NO_COLOR": "1"}

    def __call__(self, *arguments: str | Path) -> Done:
        """The command line, in this process: a process of its own takes seconds to import what this one has."""
        with contextlib.chdir(self.folder):
            result = CliRunner().invoke(cli.app, [str(each) for each in arguments], env=self.environment)
        if isinstance(result.exception, FercompressError):
            return Done(result.exception.exit_code, result.stdout, f"{result.stderr}{result.exception}")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return Done(result.exit_code, result.stdout, result.stderr)

    def command(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.environment, **environment}
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=280, check=False)

    @property
    def bundle(self) -> Path:
        return next((self.folder / "mine" / "bundles").glob("tt-*"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = Place(tmp_path_factory.mktemp("gating"))
    (made.folder / "mine.toml").write_text(STUDY)
    done = made("run", "mine.toml", "--out", "mine")
    assert done.returncode == 0, done.stderr
    planted.slower(made.bundle, made.folder / "slow", 300)
    shutil.copytree(made.bundle, made.folder / "copy")
    return made


def test_a_slower_twin_fails_the_gate_and_the_outputs_say_so(place):
    done = place("gate", "--candidate", "slow", "--baseline", "mine:tt", "--markdown", "g.md", "--junit", "g.xml", "--out", "g", *QUICK, *TIMED)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "gate FAILED (worse: latency_predictor_p50_ns)" in done.stdout
    assert "| worse |" in (place.folder / "g.md").read_text()
    assert "<failure" in (place.folder / "g.xml").read_text()
    assert json.loads((place.folder / "g" / "gate.json").read_text())["exit_code"] == 1


def test_two_variants_of_one_run_are_judged_by_its_own_rounds(place):
    done = place("compare", "mine:tt", "mine:dense", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["exit_code"] == 0, "whatever was found: nothing fails here"
    assert "measured beside mine:dense in one run already; its 6 rounds are judged" in told["notes"][0]
    findings = {each["metric"]: each for each in told["judgements"][0]["findings"]}
    assert list(findings)[:2] == ["accuracy", "worst_class_recall"]
    assert [doubt[:9] for doubt in findings["accuracy"]["doubts"]] == ["fewer tha", "simulated"], "few people, and none of them real"
    assert "doubts" in findings["latency_clip_p50_ns"]
    assert not (place.folder / "reports" / "compare" / "tt").exists(), "nothing was measured"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--candidate", "mine:tt2", "--baseline", "mine:dense"), "has no variant 'tt2'; did you mean 'tt'"),
        (("--candidate", "mine", "--baseline", "copy"), "has several variants: name one, as mine:VARIANT"),
        (("--candidate", "nowhere", "--baseline", "copy"), "there is nothing of that name"),
        (("--candidate", "mine.toml", "--baseline", "copy"), "neither a run's output folder"),
        (("--candidate", "copy", "--baseline", "slow"), "give --data STUDY"),
        (("--candidate", "mine:tt", "--baseline", "mine:tt"), "compared with itself"),
        (("--candidate", "mine:tt", "--baseline", "mine:dense", "--limit", "latency_clip_p50_ns"), "write it as in latency_clip_p90_ns=25ms"),
        (("--candidate", "mine:tt", "--baseline", "mine:dense", "--limit", "latency_clip_p50_ns=2MB"), "no unit 'MB' fits there"),
    ],
)
def test_sides_and_limits_that_cannot_be_meant_are_refused(place, arguments, said):
    done = place("gate", *arguments, "--out", "refused")
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr.replace("\n", " ")


def test_compare_says_in_its_own_words_what_is_better_and_worse_and_nothing_passes(place):
    done = place("compare", "slow", "mine:tt", "--markdown", "c.md", "--out", "c", "--tier", "smoke", "--rounds", "6", *TIMED)
    assert done.returncode == 0, done.stdout + done.stderr
    said = "slow beside mine:tt: worse in latency_predictor_p50_ns"
    assert done.stdout.splitlines()[-1] == said
    assert (place.folder / "c.md").read_text().startswith(f"### {said}\n")
    kept = json.loads((place.folder / "c" / "compare.json").read_text())
    assert (kept["exit_code"], kept["judgements"][0]["findings"][0]["verdict"]) == (0, "worse")
    told = done.stdout + (place.folder / "c.md").read_text()
    assert not [word for word in ("gate", "candidate", "baseline") if word in told]
    assert "| verdict | B | A |" in told


def test_compare_calls_its_sides_by_their_places(place):
    for sides, said in ((("nowhere", "copy"), "A nowhere: neither"), (("copy", "mine:tt2"), "B mine:tt2: mine has no variant")):
        done = place("compare", *sides)
        assert done.returncode == 2
        assert said in done.stderr.replace("\n", " ")
        assert "--candidate" not in done.stderr


def test_five_baselines_that_say_nothing_fail_in_five_ways(place):
    path = place.folder / "baselines" / "localhost.json"
    accept = ("gate", "--candidate", "mine:dense", "--baseline", path, "--update", "--reason", "first release", "--owner", "ann")
    missing = place("gate", "--candidate", "mine:tt", "--baseline", path)
    done = place(*accept)
    assert done.returncode == 0, done.stderr
    good = json.loads(path.read_text())
    assert sorted(good["entries"]) == ["newest", "release"]

    def told_of(change) -> Done:
        table = json.loads(json.dumps(good))
        change(table)
        table["sha256"] = baseline._sha256(table)
        path.write_text(json.dumps(table))
        return place("gate", "--candidate", "mine:tt", "--baseline", path)

    def expire(table) -> None:
        table["entries"]["newest"]["expires"] = (datetime.date.today() - datetime.timedelta(days=2)).isoformat()

    def other_machine(table) -> None:
        table["entries"]["newest"]["conditions"]["machine"] = ["aarch64", "Rockchip RK3399Pro", 6, "Linux 4.4"]

    def few(table) -> None:
        rounds = table["entries"]["newest"]["rounds"]
        table["entries"]["newest"]["rounds"] = {stage: dict(list(values.items())[:3]) for stage, values in rounds.items()}

    expired, elsewhere, too_few = told_of(expire), told_of(other_machine), told_of(few)
    assert "a verdict needs at least 6" in (place.folder / "reports" / "gate" / "gate.json").read_text()
    path.write_text(json.dumps(good)[:-200])
    corrupt = place("gate", "--candidate", "mine:tt", "--baseline", path)
    path.write_text(json.dumps({**good, "target": "another"}))
    edited = place("gate", "--candidate", "mine:tt", "--baseline", path)
    for told, code, words in (
        (missing, 2, "there is no baseline yet"),
        (expired, 2, "the baseline expired on"),
        (elsewhere, 5, "machine: ["),
        (too_few, 3, "gate INCONCLUSIVE"),
        (corrupt, 2, "damaged, it cannot be read"),
        (edited, 2, "does not match its sha256"),
    ):
        assert told.returncode == code, told.stdout + told.stderr
        assert words in (told.stdout + told.stderr).replace("\n", " ")
        assert "gate passed" not in told.stdout


def test_a_baseline_is_accepted_only_with_an_owner_and_a_reason_and_keeps_its_release(place):
    path = place.folder / "kept.json"
    accept = ("gate", "--baseline", path, "--update")
    refused = place(*accept, "--candidate", "mine:dense", "--owner", "ann")
    assert (refused.returncode, path.exists()) == (2, False)
    assert place(*accept, "--candidate", "mine:dense", "--owner", "ann", "--reason", "release 1").returncode == 0
    assert place(*accept, "--candidate", "mine:tt", "--owner", "bob", "--reason", "smaller").returncode == 0
    entries = baseline.read(path).entries
    assert (entries["newest"].evidence.name, entries["newest"].owner) == ("mine:tt", "bob")
    assert entries["release"].evidence.name == "mine:dense"
    same = place("gate", "--candidate", "mine:tt", "--baseline", path, "--on-inconclusive", "warn")
    assert same.returncode == 0, same.stdout + same.stderr
    assert "accepted" in same.stdout


def test_the_users_own_tests_fail_on_a_slower_model_and_pass_on_an_equal_one(place):
    project = Path(__file__).parent / "example_project"
    options = ["--fercompress-tier", "smoke", "--fercompress-rounds", "6", "--fercompress-no-confirm", "--fercompress-on-inconclusive", "skip"]
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "--rootdir", str(project), "-c", os.devnull, str(project)]
    slow = place.command([*pytest_here, *options], MY_CANDIDATE="slow", MY_BASELINE="mine:tt")
    assert slow.returncode == 1, slow.stdout + slow.stderr
    assert re.search("^FAILED .*test_the_predictor_did_not_become_slower", slow.stdout, re.M)
    assert "worse" in slow.stdout
    assert re.search("^PASSED .*test_the_accuracy_is_kept", slow.stdout, re.M), "the answers are the same"
    equal = place.command([*pytest_here, *options], MY_CANDIDATE="copy", MY_BASELINE="mine:tt")
    assert equal.returncode == 0, equal.stdout + equal.stderr


def test_the_ci_script_is_advisory_until_it_is_told_to_enforce(place):
    script = ROOT / "reports" / "fercompress_templates" / "gate.sh"
    tools = place.folder / "tools"
    tools.mkdir()
    program = tools / "fercompress"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m fercompress "$@" --rounds 6 --no-confirm {" ".join(TIMED)}\n')
    program.chmod(0o755)
    settings = {"CANDIDATE": "slow", "BASELINE": "mine:tt", "TIER": "smoke", "PATH": f"{tools}:{os.environ['PATH']}", "OUT": "ci"}
    summary = place.folder / "summary.md"
    advisory = place.command(["sh", str(script)], **settings, GITHUB_STEP_SUMMARY=str(summary))
    assert advisory.returncode == 0, advisory.stdout + advisory.stderr
    assert "advisory: this would have ended with exit code 1; " in advisory.stderr.replace("\n", " ")
    assert "gate FAILED" in summary.read_text()
    enforced = place.command(["sh", str(script)], **settings, ENFORCE="1", LIMITS="memory_peak_bytes=1MiB stored_bytes=1GB")
    assert enforced.returncode == 1, enforced.stdout + enforced.stderr
    assert "limit broken: memory_peak_bytes" in enforced.stdout
    assert place.command(["sh", str(script)], BASELINE="x", CANDIDATE="").returncode == 2


def test_a_gate_that_was_finished_is_measured_anew(tmp_path, monkeypatch):
    (tmp_path / "gate.json").write_text("{}")
    forgotten = []
    monkeypatch.setattr(gating, "forget", forgotten.append)
    monkeypatch.setattr(gating, "verdicts", lambda *_: gating.Outcome((), gating.ExitCode.PASSED))
    request = gating.Request("a", "b", tmp_path)
    gating.gate(request, None)
    assert forgotten == [tmp_path]
