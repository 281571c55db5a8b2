"""Each variant by itself: numbers that can be worked out by hand, from samples and manifests as a run gives them."""

from __future__ import annotations

import dataclasses
from typing import Any

import likely_report as likely
import numpy as np
import pandas as pd
import pytest
import toy_report as toy
from hypothesis import given
from hypothesis import strategies as st
from likely_report import build

from fercompress.report import answers, beside, gains, sustained, trust, variants
from fercompress.report.pairs import Change
from fercompress.report.record import BLOCKS
from fercompress.report.strips import Spot, histogram, series
from fercompress.report.units import time_text

# What `fercompress run default` wrote for its tt-r4: modelled microseconds of every way to run the projection, over 16 frames.
LAYER: dict[str, Any] = {
    "name": "lstm", "kind": "TTLSTM", "hidden_size": 256, "execution": "asymmetric", "stored_numbers": 7232,
    "input": {"inputs": [4, 4, 256], "outputs": [32, 32, 1], "ranks": [1, 4, 4, 1], "storage": "asymmetric tensor train, float32 cores"},
    "hidden": {"inputs": [4, 4, 16], "outputs": [32, 32, 1], "ranks": [1, 4, 4, 1], "storage": "asymmetric tensor train, float32 cores"},
    "plan_us": {"asymmetric": 58.2, "dense": 2444.0, "two-gemm, cut 1, right first": 288.3},
}  # fmt: skip


def block(variant: str, round_: int, position: int, minute: int, **changes: Any) -> dict[str, Any]:
    line = dict.fromkeys(BLOCKS, False) | {
        "block": 100 * round_ + position, "recorded": f"2026-01-05T10:{minute:02}:00+00:00", "counted": True, "variant": variant, "target": "here",
        "pass": "latency", "round": round_, "position": position, "status": "ok", "reason": "", "host_busy_share": 0.02,
    }  # fmt: skip
    return line | changes


def frame(*lines: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(lines), columns=list(BLOCKS))


def cells(table: Any, line: int) -> list[str]:
    return [cell.text for cell in table.rows[line]]


def test_the_confusion_shows_shares_and_each_classes_recall() -> None:
    table = answers.confusion(toy.report({"dense": {}, "tt": {"wrong": (0, 2, 4, 6, 1)}}), "here", "tt")
    assert table is not None
    assert [head.text for head in table.heads] == ["True class", "calm", "glad", "Recall"]
    assert cells(table, 0) == ["calm", "80", "20", "80.0 %"]  # 4 of 20 wrong
    assert cells(table, 1) == ["glad", "5", "95", "95.0 %"]  # 1 of 20
    assert table.rows[0][3].sub == "[58.4, 91.9], n = 20"  # Wilson's interval of 16 of 20


def test_a_clip_without_an_answer_is_a_miss_of_its_class() -> None:
    report = toy.report({"dense": {}, "tt": {"wrong": (0,)}})
    silent = report.predictions.assign(
        predicted=np.where((report.predictions["variant"] == "tt") & (report.predictions["clip_id"] == "c0"), -1, report.predictions["predicted"])
    )
    table = answers.confusion(dataclasses.replace(report, predictions=silent), "here", "tt")
    assert table is not None
    assert cells(table, 0) == ["calm", "95", "", "95.0 %"]
    assert "Without an answer: 1." in table.notes[0]


def test_people_are_listed_worst_first_and_many_are_summed_up() -> None:
    report = toy.report({"dense": {}, "tt": {"wrong": (0, 1, 2)}})  # both clips of p0, one of p1
    table = answers.people(report, "here", "tt")
    assert table is not None
    assert cells(table, 0) == ["all 20", "95.0 %, 100.0 %, 100.0 %", "40"]  # nine tenths of the way from p1's 50 % to the third's 100 %
    assert table.rows[0][1].sub.endswith("18 without a mistake")
    assert [cells(table, line)[:2] for line in (1, 2, 3)] == [["p0", "0.0 %"], ["p1", "50.0 %"], ["p10", "100.0 %"]]
    few = dataclasses.replace(report, predictions=report.predictions[report.predictions["cluster"].isin(["p0", "p1"])])
    table = answers.people(few, "here", "tt")
    assert table is not None
    assert [cells(table, line) for line in (0, 1)] == [["p0", "0.0 %", "2"], ["p1", "50.0 %", "2"]]


def test_a_projections_prediction_is_the_plan_that_its_manifest_records() -> None:
    work = gains.projection(LAYER, 16)
    assert work is not None
    assert work.macs_dense == 16 * 4096 * 1024
    assert round(work.modelled_dense_ns / 1000, 1) == 2444.0
    assert round(work.modelled_ns / 1000, 1) == 58.2
    # A frame's 4096 numbers meet 4 columns, which leaves 16 places of 4 numbers; these 64 meet 1024 columns.
    assert work.macs == 16 * (4096 * 4 + 64 * 1024)
    assert gains.projection({**LAYER, "input": "dense, float32"}, 16) is None


@pytest.mark.parametrize(
    ("fewer", "predicted", "interval", "said"),
    [
        ("fewer MACs", 3.0, (0.5, 0.8), "fewer MACs but slower; less than predicted"),
        ("fewer MACs", 3.0, (1.5, 2.0), "less than predicted"),
        ("fewer MACs", 3.0, (2.5, 3.5), "as predicted"),
        ("fewer MACs", 3.0, (3.5, 4.0), "more than predicted"),
        ("", None, (0.5, 0.8), "slower"),
        ("fewer numbers", None, (0.5, 0.8), "fewer numbers but slower"),
        ("fewer numbers", None, (0.9, 1.1), "not told apart"),
    ],
)
def test_fewer_macs_but_slower_is_flagged_only_where_the_interval_says_so(
    fewer: str, predicted: float | None, interval: tuple[float, float], said: str
) -> None:
    work = None if predicted is None else gains.Work(300, 100, 100 * predicted, 100.0)
    assert gains.words(work, Change(sum(interval) / 2, interval, 1.0), fewer) == said


def test_the_gains_table_sets_the_model_beside_the_measured_speed_up() -> None:
    report = toy.report({"dense": {"params": 100, "params_extractor": 40}, "tt": {"recipe": [toy.train(4)], "params": 60, "params_extractor": 30,
                                                                               "predictor_us": 200.0}})  # fmt: skip
    manifests = {"tt": {"layers": [LAYER], "frames": 16}}
    report = dataclasses.replace(report, manifests=manifests)
    table = gains.table(report, report.rows[1])
    assert table is not None
    assert cells(table, 0) == ["lstm: projection", "67,108,864 → 1,310,720", "2.44 ms → 58.2 µs", "42.0×", "n/a", ""]
    predictor = cells(table, 1)
    assert predictor[0] == "predictor"
    assert predictor[4] == "0.500×"
    assert predictor[5] == "fewer MACs but slower; less than predicted"
    assert table.rows[1][5].style == "words worse"
    assert gains.table(report, report.rows[0]) is None  # the baseline


def test_a_block_stands_at_its_minute_and_tells_what_its_sensors_told() -> None:
    report = toy.report({"dense": {}, "tt": {}})
    lines = [block("tt", round_, position, 2 * round_ + position) for round_ in range(6) for position in (0, 1)]
    lines[3]["throttled"] = True
    timed = sustained.timed_blocks(dataclasses.replace(report, blocks=frame(block("dense", 0, 0, 0), *lines)), "here", "tt")
    assert [each.minutes for each in timed] == [float(minute) for minute in range(12)]
    assert [bool(each.told) for each in timed] == [number == 3 for number in range(12)]
    assert all(each.minutes is None for each in sustained.timed_blocks(report, "here", "tt"))


def test_a_slow_down_begins_where_everything_after_it_is_slower() -> None:
    assert sustained.onset([100, 101, 99, 100, 106, 107, 106, 108]) == 4
    assert sustained.onset([100, 101, 99, 100, 106, 100, 106, 108]) is None  # it recovered, and two pieces at the end are noise
    assert sustained.onset([100, 101, 99, 100, 100, 100, 100, 120]) is None
    assert sustained.onset([120] * 8) is None
    assert sustained.onset([]) is None


@given(st.lists(st.floats(100, 104.9), max_size=40))
def test_what_varies_by_less_than_five_percent_has_no_slow_down(medians: list[float]) -> None:
    assert sustained.onset(medians) is None


@given(st.lists(st.integers(1, 300), min_size=1, max_size=20))
def test_pieces_hold_every_timed_clip_once_and_add_up_to_the_load(lengths: list[int]) -> None:
    blocks = [sustained.Timed(0, number, np.full(length, 1e6), None, ()) for number, length in enumerate(lengths)]
    found = sustained.pieces(blocks)
    seconds = [piece.seconds for piece in found]
    assert seconds == sorted(seconds)
    assert {piece.block for piece in found} == set(range(len(lengths)))
    assert len(found) <= sustained.MOST_MARKS + len(lengths)
    last = [piece for piece in found if piece.block == len(lengths) - 1][-1]
    assert last.seconds < sum(lengths) * 1e-3


def test_the_card_says_what_the_numbers_rest_on_and_what_is_doubted() -> None:
    report = toy.report({"dense": {}, "tt": {"doubts": ["one training seed: luck"], "rounds": 6, "latency_clip_cv": 0.021, "seeds": 1}})
    lines = [block("tt", round_, position, 0, hot_start=round_ == 0, host_busy_share=0.04) for round_ in range(6) for position in (0, 1)]
    table = trust.card(dataclasses.replace(report, blocks=frame(*lines)), report.rows[1])
    told = {row[0].text: row[1].text for row in table.rows}
    assert told["Accuracy"].startswith("40 test clips of 20 people or sentences, 1 seed, 1 fold; 95 % interval [95.0, 100.0] for new people.")
    measured = "12 blocks (fresh processes) in 6 mirrored rounds, 12 timed clips; no sample is removed. "
    assert told["Latency"] == f"{measured}Blocks' medians vary by 2.1 % (SD over mean)."
    assert told["State of the target"] == "It began hot in 2 of 12 blocks. The busiest other process took up to 4.0 % of a core during a block."
    assert told["Doubts"] == "One training seed: luck."


def test_blocks_that_no_figure_is_made_of_are_listed_with_why() -> None:
    report = toy.report({"dense": {}, "tt": {}})
    lines = (
        block("tt", 0, 0, 1), block("tt", 0, 1, 2, counted=False), block("tt", 1, 0, 3, status="failed", reason="the agent was killed"),
        block("tt", 1, 1, 4, status="excluded", reason="not run here: no NPU"),
    )  # fmt: skip
    table = trust.excluded(dataclasses.replace(report, blocks=frame(*lines)))
    assert table is not None
    assert [cells(table, line)[2:] for line in range(len(table.rows))] == [
        ["no", "finished; another block of its place counts, or its bundle or the plan was replaced"],
        ["as failed", "the agent was killed"],
    ]
    assert trust.excluded(report) is None


@given(st.lists(st.text(max_size=8), unique=True, max_size=12))
def test_every_variant_has_an_id_of_its_own_that_an_address_can_hold(names: list[str]) -> None:
    ids = variants.anchors(names)
    assert len(set(ids.values())) == len(names)
    assert all(set(each) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for each in ids.values())


def test_drawings_tell_their_figures_in_words_and_cannot_bring_markup_along() -> None:
    svg = histogram(np.linspace(1e6, 2e6, 500), {"<p50>": 1.5e6}, time_text, 'a "label" <b>')
    assert "<b>" not in svg
    assert "&lt;p50&gt; 1.5 ms" in svg
    svg = series([Spot(0, 1e6, 1.1e6, 1.2e6, "<i>tip</i>", flagged=True)], time_text, "blocks", "label", 1.1e6, 0.0)
    assert "<i>" not in svg
    assert 'class="flag"' in svg
    assert "NaN" not in svg.casefold()


def test_each_variant_of_a_likely_run_has_a_page_of_its_own() -> None:
    report = build()
    made = variants.pages(report, variants.anchors(list(report.recipes)))
    assert [page.variant for page in made] == list(report.recipes)
    assert all(len(page.measured[0].drawings) == 3 for page in made)
    assert {table.name for table in made[5].measured[0].tables} == {"trust", "confusion", "people", "gains"}


def test_targets_stand_side_by_side_with_their_answers_and_times_compared() -> None:
    report = likely.beside(build(), "board", 8.0)
    other = report.predictions["target"] == "board"
    flipped = report.predictions["predicted"].where(~(other & (report.predictions["clip_id"] == "c7")), -1)
    table = beside.targets(dataclasses.replace(report, predictions=report.predictions.assign(predicted=flipped)))
    assert table is not None
    heads = [head.text for head in table.heads]
    line = table.rows[heads.index("Variant")]
    assert line[heads.index("Time per clip: board over localhost")].text == "8.00×"
    alike = line[heads.index("Same answers: board as localhost")]
    assert (alike.text, alike.sub) == ("99.9 %", "1 of 1,500 differ")
    assert line[heads.index("Peak memory: board")].missing
    assert beside.targets(build()) is None
