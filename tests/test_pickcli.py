"""`fercompress pick` on a toy run: what fits, what it costs, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import toy_run as toy
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fercompress import cli, study
from fercompress.records import History
from fercompress.report.story import tell
from fercompress.results.store import FILE, Store, Training
from fercompress.results.summary import write_summary
from fercompress.results.tables import read_tables


def finished(folder, dense=0.5, tt=0.5, **blocks):
    """The toy run with these validation accuracies."""
    folder.mkdir(exist_ok=True)
    the_study = toy.study()
    with Store.open(folder / FILE) as store:
        toy.record_head(store, the_study)
        for variant, share in (("dense", dense), ("tt", tt)):
            for fold in toy.TESTS:
                store.record_training(Training(variant, 0, fold, "", History((1.0,), (share,), (1.0,), 0)))
        toy.record_blocks(store, the_study, **blocks)
        write_summary(store, folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("pick") / "run", dense=0.9, tt=0.8)


def pick(*arguments) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["pick", *map(str, arguments)], standalone_mode=False, catch_exceptions=False)
    return done.return_value, done.output


def told(*arguments):
    code, said = pick(*arguments, "--json")
    return code, json.loads(said)


def test_the_most_accurate_on_validation_data_that_fits_is_named_and_tested_once(run):
    code, found = told(run, "--max", "stored_bytes=2kB")
    assert (code, found["chosen"]["variant"], found["runner_up"]) == (0, "tt", None)
    assert found["chosen"]["test"]["accuracy"] == 22 / 24
    assert found["cost"]["without_budget"]["variant"] == "dense"
    assert found["cost"]["validation_accuracy"] == pytest.approx(0.1)
    assert found["not_fitting"] == [{"variant": "dense", "misses": [{"column": "stored_bytes", "value": 12000, "reason": ""}]}]
    code, found = told(run, "--max", "latency_clip_p50_ns=1ms")
    assert (found["chosen"]["variant"], found["runner_up"]["variant"]) == ("dense", "tt")
    assert "test" not in found["runner_up"]


def test_the_answer_for_people_says_the_same(run):
    code, said = pick(run, "--max", "stored_bytes=2kB", "--max", "latency_clip_p90_ns=25ms")
    assert code == 0
    assert "tt: validation_accuracy 80.0 %, stored_bytes 1.50 kB" in said
    assert "tested once: accuracy 91.7 %" in said
    assert "without the budget: dense (+10.0 points of validation accuracy)" in said
    assert "without stored_bytes <= 2kB alone: dense" in said
    assert "dense" in said
    assert "stored_bytes: 12.0 kB" in said


def test_accuracy_means_validation_accuracy(run):
    # On the test clips dense is right 24 times of 24, tt 22 times: 8.3 points; on validation data 10.
    assert told(run, "--max-drop", "accuracy=9pt", "--by", "stored_bytes")[1]["chosen"]["variant"] == "dense"
    assert told(run, "--max-drop", "accuracy=10pt", "--by", "stored_bytes")[1]["chosen"]["variant"] == "tt"
    assert told(run, "--min", "accuracy=85%")[1]["fitting"] == ["dense"]


def test_nothing_fits_ends_with_1_and_what_is_not_known_with_3(run):
    assert pick(run, "--max", "stored_bytes=1kB")[0] == 1
    code, said = pick(run, "--max", "power_w=2W")
    assert code == 3
    assert "no variant is known to fit" in said
    assert "power_w: n/a (no sensor found)" in said


def test_a_test_figure_in_a_budget_is_marked(run):
    assert any("macro_f1 is a test figure" in note for note in told(run, "--min", "macro_f1=0.5")[1]["notes"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--max", "stored_byte=1kB"), "--max stored_byte: no column of summary.json that holds numbers; did you mean 'stored_bytes'?"),
        (("--max", "stored_bytes=1ms"), "stored_bytes: no unit 'ms' fits there; it takes B, kB, MB"),
        (("--max", "stored_bytes"), "--max 'stored_bytes': write it as in latency_clip_p90_ns=25ms"),
        (("--max-drop", "stored_bytes=1kB"), "a drop is of a share"),
        (("--target", "locahost"), "did you mean 'localhost'?"),
        (("--min", "variant=1"), "no column of summary.json that holds numbers"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(run, arguments, said):
    done = subprocess.run(
        [sys.executable, "-m", "fercompress", "pick", str(run), *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_a_folder_without_results_is_refused(tmp_path):
    done = subprocess.run([sys.executable, "-m", "fercompress", "pick", str(tmp_path)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "give a folder that `fercompress run` wrote" in done.stderr


@given(st.integers(40, 60), st.integers(40, 60))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_without_a_budget_it_names_what_the_first_screen_names(tmp_path_factory, dense, tt):
    folder = finished(tmp_path_factory.mktemp("random") / "run", dense / 60, tt / 60)
    with Store.open(folder / FILE) as store:
        given_ = study.report_input(read_tables(store), write_summary(store, folder))
    code, found = told(folder)
    assert code == 0
    assert found["chosen"]["variant"] == tell(given_, "localhost").pick["variant"]
    # By hand: 12 validation clips (two folds of six); within a point and a standard error the smaller one is advised.
    error = np.sqrt(sum(share * (1 - share) for share in (dense / 60, tt / 60)) / 12)
    assert found["chosen"]["variant"] == ("tt" if (dense - tt) / 60 <= 0.01 + error + 1e-9 else "dense")
