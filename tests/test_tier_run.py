"""`run --tier`, whole: as many rounds as the tier's looks ask for, verdicts against the baseline, and a plan that learns from its blocks."""

import json
import re

import jsonschema
import pytest
import small_study

from fercompress.results.store import FILE, Store
from fercompress.results.summary import json_schema
from fercompress.results.tables import read_tables
from fercompress.tier import LOOKS, TIERS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]  # 32 blocks of a process each: a minute, ten on a machine that is busy
TT = '[[variant]]\nname = "tt"\nrecipe = [{ step = "tensor-train", rank = 2 }]'


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that adds no rounds beyond the first look, and what it said."""
    folder = tmp_path_factory.mktemp("tier")
    (folder / "small.toml").write_text(small_study.text("small", TT, ("latency", "accuracy")))
    mine = {"XDG_CONFIG_HOME": str(folder / "config")}
    done = small_study.run(folder, "run", "small.toml", "--out", "out", "--tier", "smoke", "--minutes", "0.01", timeout_s=1200, **mine)
    assert done.returncode == 0, done.stderr
    return folder, done, mine


def test_a_smoke_run_times_what_its_tier_says_in_the_rounds_of_its_first_look(finished):
    folder, done, _ = finished
    summary = json.loads((folder / "out/summary.json").read_text())
    jsonschema.validate(summary, json_schema())
    smoke = TIERS["smoke"]
    for row in summary["rows"]:
        assert row["rounds"] == LOOKS[0]
        assert row["timed_clips"] >= smoke.clips
        assert row["accuracy"] is not None
    with Store.open(folder / "out" / FILE, writable=False) as store:
        timings = read_tables(store).timings
    assert (timings.groupby("variant")["clip_ns"].sum() / 1e9 >= 0.8 * smoke.seconds).all(), "the loop's own time is the rest"
    told = re.search(r"8 rounds; (\d) of 1 variants have every timed verdict against the baseline", " ".join(done.stderr.split()))
    assert told is not None, done.stderr


def test_compare_judges_the_tiers_rounds_and_plan_takes_their_length(finished):
    folder, _, mine = finished
    compared = small_study.run(folder, "compare", "out:tt", "out:dense-fp32", "--json", **mine)
    assert compared.returncode == 0, compared.stderr
    (judged,) = json.loads(compared.stdout)["judgements"]
    assert judged["rounds"] == LOOKS[0]
    planned = small_study.run(folder, "plan", "small.toml", "--minutes", "20", "--tier", "smoke", "--out", "out", "--json", **mine)
    assert planned.returncode == 0, planned.stderr
    (told,) = json.loads(planned.stdout)
    smoke = TIERS["smoke"]
    assert told["paced_by"] == f"{2 * 2 * LOOKS[0] - 1} blocks of an earlier run", "the first follows none"
    assert told["block_s"] > smoke.seconds / (2 * LOOKS[0]), "a process starts, beside what is timed"
    assert told["wanted"] == LOOKS[-1]
