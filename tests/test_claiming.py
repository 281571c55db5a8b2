"""What a study can claim within so many minutes: rounds that fit, percentiles, and effects of calibrated targets alone."""

import dataclasses
import datetime
import json
from pathlib import Path

import numpy as np
import pytest
import toy_run as toy
from click.testing import CliRunner
from gate_evidence import pair

from fercompress import calibrating, claiming, cli, stats, studyfile
from fercompress.config import Measure
from fercompress.errors import ResultsError
from fercompress.gate import calibration
from fercompress.pace import paces
from fercompress.results.store import Store
from fercompress.results.tables import read_tables

STUDY = """
[study]
name = "mine"
baseline = "dense"
[data]
name = "synthetic"
[measure]
block_s = 2.0
block_clips = 8
rounds = 8
[[variant]]
name = "dense"
[[variant]]
name = "tt-r{rank}"
matrix = { rank = [1, 2, 4, 8, 16, 32] }
recipe = [{ step = "tensor-train", rank = "{rank}" }]
"""


@pytest.fixture
def calibrated(tmp_path, monkeypatch):
    """A configuration folder, with a calibration of localhost made `days` ago."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def make(days: int) -> calibration.Calibration:
        created = (datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=days)).isoformat()
        made = calibration.calibrate([pair(np.random.default_rng(0))], created, "a bundle", None, None)
        calibration.write(calibrating.file("localhost"), made)
        return made

    return make


def test_twenty_minutes_of_seven_variants_are_eight_rounds_with_a_p95_and_no_p99(calibrated):
    made = calibrated(3)
    study = studyfile.parse_study(STUDY.replace("block_s = 2.0", "block_s = 8.0"), "mine")
    (found,) = claiming.claims(study, 20)
    # A block is 8 s, a fifth more to warm up, and 0.6 s to start: 10.2 s; a round is 14 of them: 8.4 rounds in 20 minutes.
    assert (found.variants, found.fitting, found.rounds, found.timed_clips) == (7, 8, 8, 128)
    assert found.percentiles == {"p50": True, "p90": True, "p95": False, "p99": False}
    assert found.sentence == "20 minutes of localhost: these 7 variants x 8 rounds; p50 yes, p90 yes, p95 no, p99 no"
    expected = made.detectable("latency_clip_p50_ns", 8)
    power = found.powers["latency_clip_p50_ns"]
    assert power.found_from == pytest.approx(expected)
    assert power.rounds <= 8
    assert power.found >= 0.9
    assert power.smallest >= 0.02
    assert found.about_minutes == pytest.approx(8 * 14 * 10.2 / 60, abs=0.01)


def test_too_few_minutes_give_no_interval_and_no_effect(calibrated):
    calibrated(3)
    (found,) = claiming.claims(studyfile.parse_study(STUDY, "mine"), 2)
    assert found.rounds < stats.FEWEST_ROUNDS
    assert not found.intervals
    assert {(power.found_from, power.found, power.equivalent) for power in found.powers.values()} == {(None, 0.0, 0.0)}
    assert "no interval and no verdict: that takes 6 rounds" in found.sentence


def test_without_a_calibration_or_with_an_expired_one_no_effect_is_promised(calibrated):
    for prepare, words in ((lambda: None, "is not calibrated"), (lambda: calibrated(91), "expired on")):
        prepare()
        (found,) = claiming.claims(studyfile.parse_study(STUDY, "mine"), 60)
        assert set(found.powers.values()) == {None}
        assert words in found.note


def test_a_tier_plans_with_its_own_blocks_and_the_rounds_at_which_verdicts_are_tried(calibrated):
    calibrated(3)
    study = studyfile.parse_study(STUDY, "mine", ("measure.tier=full",))
    (found,) = claiming.claims(study, 20)
    # 60 s over 16 blocks: 3.75 s and 64 clips each; with start and warm-up 5.1 s a block, 71.4 s a round: 16.8 rounds.
    assert (found.fitting, found.rounds, found.wanted, found.timed_clips) == (16, 16, 24, 2048)
    assert found.percentiles["p99"]


def test_the_command_prints_the_sentence_and_json(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "mine.toml").write_text(STUDY)
    arguments = ["plan", str(tmp_path / "mine.toml"), "--minutes", "20"]
    said = CliRunner().invoke(cli.app, arguments, catch_exceptions=False).output
    assert "20 minutes of localhost: these 7 variants x 8 rounds" in said
    assert "is not calibrated" in said
    told = json.loads(CliRunner().invoke(cli.app, [*arguments, "--json"], catch_exceptions=False).output)
    assert (told[0]["variants"], told[0]["rounds"]) == (7, 8)


def test_blocks_of_an_earlier_run_tell_how_long_one_takes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))  # of a target that was never calibrated
    with Store.open(tmp_path / "results.sqlite") as store:
        toy.record_head(store, toy.study())
        for round_ in range(2):
            for half in (0, 1):
                for variant, clip_us in (("dense", 300_000), ("tt", 100_000)):
                    store.record(toy.latency_block(variant, round_, half, clip_us, clips=10))
        tables = read_tables(store)
    # A block ends 5 s after the one before it, one 500 s after: the run stood still there. Of dense's 3 s are timed, of tt's 1 s.
    ends_s = [0, 5, 10, 15, 20, 520, 525, 530]
    blocks = tables.blocks.assign(recorded=[f"2026-11-28T10:{s // 60:02d}:{s % 60:02d}+00:00" for s in ends_s])
    found = paces(dataclasses.replace(tables, blocks=blocks), "localhost")
    assert {name: (round(pace.clip_s, 6), round(pace.beside_s, 6), pace.blocks) for name, pace in found.items()} == {
        "dense": (0.3, 2.0, 3), "tt": (0.1, 4.0, 4),
    }  # fmt: skip
    assert paces(tables, "elsewhere") == {}
    asked = Measure(block_s=2.0, block_clips=20)
    assert found["dense"].block_s(asked) == pytest.approx(2 + 20 * 0.3), "its clips take longer than the seconds that are asked for"
    assert found["tt"].block_s(asked) == pytest.approx(4 + 2.0)
    study = studyfile.parse_study(
        STUDY.replace("tt-r{rank}", "tt").replace("matrix = { rank = [1, 2, 4, 8, 16, 32] }", "").replace('"{rank}"', "4"), "mine"
    )
    study = study.model_copy(update={"measure": asked})
    monkeypatch.setattr(claiming, "paces", lambda *_: found)
    (told,) = claiming.claims(study, 20, tmp_path)
    assert (told.block_s, told.paced_by) == (7.0, "7 blocks of an earlier run")
    assert told.fitting == int(20 * 60 / (2 * 2 * 7.0))
    (guessed,) = claiming.claims(study, 20)
    assert (guessed.block_s, guessed.paced_by) == (3.0, "estimated from the study's settings")


def test_a_plan_finds_the_studys_own_run_and_refuses_a_folder_without_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(STUDY.replace("tt-r{rank}", "tt").replace("matrix = { rank = [1, 2, 4, 8, 16, 32] }", "").replace('"{rank}"', "4"))
    plan = ["plan", "mine.toml", "--minutes", "20"]
    assert "estimated from the study's settings" in CliRunner().invoke(cli.app, plan, catch_exceptions=False).output
    Path("reports/mine").mkdir(parents=True)
    with Store.open(Path("reports/mine/results.sqlite")) as store:
        toy.record_head(store, toy.study())
        toy.record_blocks(store, toy.study())
    for more in ((), ("--out", "reports/mine")):
        assert "blocks of an earlier run" in CliRunner().invoke(cli.app, [*plan, *more], catch_exceptions=False).output
    refused = CliRunner().invoke(cli.app, [*plan, "--out", "nowhere"])
    assert isinstance(refused.exception, ResultsError)
