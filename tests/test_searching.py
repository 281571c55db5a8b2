"""A whole search on a small study, through the command line: killed, gone on with, measured; every trial that was trained is a row."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import small_study

from fercompress.results.store import FILE, Store
from fercompress.results.summary import json_schema

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # three runs of the command line, one of them of a whole study

STUDY = small_study.text(
    "small",
    """
[[variant]]
name = "tt-r2"
recipe = [{ step = "tensor-train", rank = 2 }]
""",
    ("accuracy", "latency"),
)
TRIALS = 5


def search(folder: Path, *arguments: str) -> list[str]:
    return small_study.command(
        "search", str(folder / "small.toml"), "--out", str(folder / "out"), "--minutes", "30", "--trials", str(TRIALS), *arguments
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    """The search's file: of every trial its states in the order in which they were told."""
    path = folder / "out/search.jsonl"
    whole = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(json.loads(line)["trial"]) for line in whole[1:]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Killed with SIGKILL while its third trial was at work, then run again to its end. returns: the folder, what was told before the kill, stdout"""
    folder = tmp_path_factory.mktemp("search")
    (folder / "small.toml").write_text(STUDY)
    host = subprocess.Popen(search(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 600
    while not any(told["number"] == 2 and told["stage"] == "sketched" for told in lines(folder)):
        assert host.poll() is None, host.stderr.read().decode()
        assert time.monotonic() < deadline, "it does not come to its third trial"
        time.sleep(0.02)
    host.send_signal(signal.SIGKILL)
    host.communicate()
    before = lines(folder)
    done = subprocess.run([*search(folder), "--json"], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return folder, before, json.loads(done.stdout)


def test_killed_and_gone_on_with_it_loses_no_trial(finished):
    _, before, said = finished
    after = {trial["number"]: trial for trial in said["trials"]}
    assert sorted(after) == list(range(TRIALS))
    assert {told["number"] for told in before} == {0, 1, 2}
    for told in before:
        recipe = [{key: value for key, value in step.items() if value is not None} for step in told["variant"]["recipe"]]
        assert [step["step"] for step in after[told["number"]]["recipe"]] == [step["step"] for step in recipe]
        if told["ended"]:
            for key in ("stage", "stopped", "stored_bytes", "validation_accuracy", "seconds"):
                assert after[told["number"]][key] == told[key]
    assert all(trial["stage"] == "whole" or trial["stopped"] for trial in said["trials"])


def test_every_trial_that_was_trained_is_a_variant_of_the_results(finished):
    folder, _, said = finished
    summary = json.loads((folder / "out/summary.json").read_text())
    jsonschema.validate(summary, json_schema())
    rows = {row["variant"]: row for row in summary["rows"]}
    trained = {trial["variant"]: trial for trial in said["trials"] if trial["stage"] != "sketched" and "the same as" not in trial["stopped"]}
    assert set(rows) == {"dense-fp32", *trained}
    for name, trial in trained.items():
        if trial["stage"] == "whole":
            assert rows[name]["stored_bytes"] == trial["stored_bytes"]
            assert rows[name]["accuracy"] is not None
        else:
            assert "a trial that was stopped" in rows[name]["reasons"]["accuracy"]
        assert (rows[name]["latency_clip_p90_ns"] is None) or name in said["front"]
        if trial["stage"] == "whole" and name not in said["front"]:
            assert rows[name]["reasons"]["latency_clip_p50_ns"].startswith("not run here: beaten on validation data")
    assert said["front"]
    assert (folder / "out/index.html").exists()


def test_the_answer_is_of_the_front_and_by_the_accuracy_of_the_bundles(finished):
    _, _, said = finished
    chosen = said["answer"]["chosen"]
    accuracies = {trial["variant"]: trial["validation_accuracy"] for trial in said["trials"]}
    assert chosen["validation_accuracy"] == max(each for each in accuracies.values() if each is not None)
    assert chosen["variant"] in said["front"]


def test_a_bundle_s_validation_accuracy_is_what_its_own_answers_to_those_clips_are(finished):
    # An independent way to the same figure: the bundle on disk, the clips as the study renders them.
    from fercompress import load_bundle
    from fercompress.data import source
    from fercompress.studyfile import load_study

    folder, _, said = finished
    study = load_study(str(folder / "small.toml"))
    clips = source.load(study.data, None, folder / "again")
    (fold,) = source.SOURCES[study.data.name].folds(study.data, clips)
    with Store.open(folder / "out" / FILE, writable=False) as store:
        bundles = {stored.variant: stored for stored in store.bundles()}
    for trial in said["trials"]:
        if trial["variant"] in bundles:
            stored = bundles[trial["variant"]]
            answers = load_bundle(folder / "out/bundles" / f"{stored.variant}-{stored.sha256[:12]}").predict(clips.frames[fold.validation])
            assert trial["validation_accuracy"] == pytest.approx((answers.argmax(1) == clips.labels[fold.validation]).mean())


def test_run_again_it_has_nothing_left_to_do_and_another_seed_is_refused(finished):
    folder, _, said = finished
    again = subprocess.run([*search(folder), "--no-measure", "--json"], capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["trials"] == said["trials"]
    other = subprocess.run([*search(folder), "--seed", "3"], capture_output=True, text=True, timeout=300, check=False)
    assert other.returncode == 2
    assert "begun with --seed 0" in other.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--max", "stored_byte=60kB"), "did you mean 'stored_bytes'?"), (("--minutes", "0"), "Invalid value for '--minutes'")],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_trained(tmp_path, arguments, said):
    done = subprocess.run(
        [sys.executable, "-m", "fercompress", "search", "default", *arguments], cwd=tmp_path, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr.replace("\n", " ")
    assert not list(tmp_path.iterdir())
