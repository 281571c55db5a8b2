"""Rounds of a study with a tier: added until each verdict against the baseline stands, or the minutes end; by the real agent, without a model."""

import dataclasses
import io

import numpy as np
import pytest
import tiny_bundle
from rich.console import Console

from fercompress import measuring, tier
from fercompress.errors import StudyError
from fercompress.measure import board
from fercompress.measure.schedule import MeasuredBundle
from fercompress.progress import Reporter
from fercompress.records import Fold
from fercompress.results.store import Store
from fercompress.studyfile import parse_study
from fercompress.tier import TIERS, Tier
from fercompress.workspace import Workspace

STUDY = """
[study]
name = "mine"
baseline = "a"
[data]
name = "synthetic"
[measure]
passes = ["latency"]
warmup_clips = 1
tier = "smoke"
[[variant]]
name = "a"
[[variant]]
name = "b"
"""


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Measures two variants that do nothing alike. returns: rounds in the journal, and what was said"""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(measuring, "LOOKS", (6, 7, 8))
    monkeypatch.setitem(TIERS, "smoke", Tier(12, 0.012))

    def measure(*wishes):
        study = measuring.settled(parse_study(STUDY, "mine", wishes))
        clips, said = tiny_bundle.clips(), io.StringIO()
        workspace = Workspace(tmp_path / "run")
        place = workspace.root / "bundles"
        several = {}
        for name in "ab":
            folder = place / name
            made = tiny_bundle.write(folder, name, engine="null") if not folder.exists() else several_kept[name]
            several_kept[name] = made
            several[name] = [MeasuredBundle(made, 0, "f", np.arange(12))]
        with Store.open(workspace.results) as store:
            store.record_study({**study.model_dump(mode="json"), "targets": ["localhost"]})
            store.record_clips(clips, [Fold("f", np.arange(0), np.arange(0), np.arange(12))])
            for name, (each,) in several.items():
                store.record_bundle(dataclasses.replace(each.bundle, variant=name), 0, "f", timed=True)
            target = tiny_bundle.modelless(board.load_board("localhost"))
            with Reporter(Console(file=said, width=400)) as tell:
                keys = measuring.measure_on(target, study, several, workspace, clips, store, tell, keep=True)
            store.record_plan(keys)
            return 1 + max(key.round for key in store.done()), said.getvalue()

    several_kept = {}
    return measure


def verdicts(monkeypatch, undecided, round_s):
    """What a look finds is the gate's matter, and chance here: these rounds' verdicts are made up."""
    monkeypatch.setattr(measuring, "_undecided", lambda *_: (undecided.pop(0), round_s))


def test_rounds_are_added_until_every_verdict_stands(measured, monkeypatch):
    verdicts(monkeypatch, [{"b": ["latency_clip_p50_ns"]}, {}], 0.1)
    rounds, said = measured()
    assert rounds == 7
    assert "localhost: 7 rounds; 1 of 1 variants have every timed verdict against the baseline" in said


def test_the_minutes_end_what_no_verdict_does_and_the_same_command_adds_nothing(measured, monkeypatch):
    for _ in range(2):
        # One more round takes 10 s: seven take longer than a minute.
        verdicts(monkeypatch, [{"b": ["latency_clip_p50_ns"]}] * 3, 10.0)
        rounds, said = measured("measure.minutes=1")
        assert rounds == 6
        assert "inconclusive: b (latency_clip_p50_ns); more rounds would take longer than 1 minutes" in said


def test_the_last_look_is_the_last(measured):
    """With the gate's own verdicts: two that do the same differ by less than a round's noise, or nearly so."""
    rounds, said = measured()
    assert 6 <= rounds <= 8
    assert f"localhost: {rounds} rounds; " in said


def test_a_tier_spreads_its_totals_over_the_first_look_and_needs_no_settings_of_blocks():
    study = measuring.settled(parse_study(STUDY.replace("smoke", "full"), "mine"))
    assert (study.measure.rounds, study.measure.block_clips, study.measure.block_s) == (tier.LOOKS[0], 64, 3.75)
    with pytest.raises(StudyError, match="name a tier too"):
        parse_study(STUDY.replace('tier = "smoke"', ""), "mine", ("measure.minutes=3",))
