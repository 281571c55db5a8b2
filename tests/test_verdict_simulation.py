"""The simulation of verdicts, small: the promises of the gate hold, and the two other rules fail as they are said to."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fercompress import stats

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "verdict_simulation.py"


@pytest.fixture(scope="module")
def simulation():
    spec = importlib.util.spec_from_file_location("verdict_simulation", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def figures(simulation):
    return {figure.name: figure for figure in simulation.study(40, 3)}


def shares(figures, *words):
    found = [figure.share for name, figure in figures.items() if all(word in name for word in words)]
    assert found, words
    return found


def test_nothing_changed_is_hardly_ever_called_worse_at_any_drift(figures):
    assert max(shares(figures, "gate says worse of any")) <= 3 / 40  # at 2.5 %, four of 40 come by chance once in 60 times


def test_equal_variants_are_called_equivalent(figures):
    assert min(shares(figures, "nothing changed", "gate says equivalent")) >= 0.8


def test_slowdowns_are_found(figures):
    assert min(shares(figures, "5 % slower, at most 8 rounds", "correlated 0.5", "gate says worse")) >= 0.85
    assert min(shares(figures, "3 % slower, at most 16 rounds", "correlated 0.5", "gate says worse")) >= 0.5


def test_intervals_hold_the_truth(figures):
    assert min(shares(figures, "interval holds the truth")) >= 0.9


def test_single_inferences_find_differences_that_are_not_there(figures):
    assert min(shares(figures, "nothing changed", "Mann-Whitney", "says worse")) >= 0.1
    assert min(shares(figures, "nothing changed, 8 % drift", "Mann-Whitney", "A before B")) >= 0.9


def test_the_fixed_threshold_misses_about_every_second_slowdown_of_its_own_size(figures):
    assert 0.2 <= shares(figures, "5 % slower, at most 8 rounds", "correlated 0.5", "mean:5%")[0] <= 0.8


def test_the_model_is_what_it_says(simulation):
    random = np.random.default_rng(0)
    noise = simulation.correlated(random, (4000, 8), 0.5)
    assert noise.std() == pytest.approx(1, abs=0.02)
    assert np.corrcoef(noise[:, 3], noise[:, 4])[0, 1] == pytest.approx(0.5, abs=0.04)
    made = simulation.simulate(simulation.World(0.08, (("predictor", 0.05),)), 400, 8, random)
    medians = {name: np.median(values) for name, values in made.logs.items()}
    assert medians["latency_predictor_p50_ns"] == pytest.approx(0.05, abs=0.001)
    assert medians["latency_extractor_p50_ns"] == pytest.approx(0, abs=0.001)  # mirrored rounds cancel the drift
    assert medians["latency_clip_p50_ns"] == pytest.approx(0.05 * 5 / 25, abs=0.002)
    assert made.inferences["clip"].shape == (400, 2, 16 * simulation.INFERENCES)


def test_other_rules_see_a_slowdown_that_is_plain_and_none_where_both_sides_are_one(simulation):
    random = np.random.default_rng(0)
    one = random.normal(100, 1, (5, 1, 200))
    assert not simulation.mean_rule({"clip": np.concatenate([one, one], axis=1)}).any()
    assert not simulation.mann_whitney({"clip": np.concatenate([one, one], axis=1)}).any()
    slower = {"clip": np.concatenate([one, 1.06 * one], axis=1)}
    assert simulation.mean_rule(slower).all()
    assert simulation.mann_whitney(slower).all()


def test_a_figure_holds_or_fails_against_its_limit(simulation):
    assert simulation.figure("f", [True] + [False] * 99, "<= 0.025").holds is True
    assert simulation.figure("f", [True] * 3 + [False] * 97, "<= 0.025").holds is False
    assert simulation.figure("f", [True] * 94 + [False] * 6, ">= 0.95").holds is False
    assert simulation.figure("f", [True]).holds is None
    assert simulation.figure("f", [True, False]).interval == stats.wilson_interval(1, 2)


def test_the_file_that_is_shown_is_whole_and_its_figures_hold(simulation):
    made = json.loads((SCRIPT.parent / "results" / "verdicts.json").read_text(encoding="utf-8"))
    assert made["settings"]["runs"] >= 2000
    assert len({figure["name"] for figure in made["figures"]}) == len(made["figures"])
    assert all(figure["holds"] for figure in made["figures"] if figure["limit"])
    table = (SCRIPT.parent / "results" / "verdicts.md").read_text(encoding="utf-8")
    assert table == simulation.markdown(made)


def test_it_writes_what_it_prints(simulation, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(simulation, "study", lambda runs, seed: [simulation.figure(f"{runs} and {seed}", [True, True], "<= 0.025")])
    out = tmp_path / "verdicts.json"
    assert simulation.main(["--runs", "7", "--seed", "2", "--out", str(out)]) == 1  # a figure fails
    assert "7 and 2  [<= 0.025: FAILS]" in capsys.readouterr().out
    assert json.loads(out.read_text())["figures"][0]["share"] == 1
    assert "| 7 and 2 | 100.00 % | 34.24 to 100.00 % | <= 0.025: broken |" in (tmp_path / "verdicts.md").read_text()
