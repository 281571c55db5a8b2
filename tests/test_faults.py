import dataclasses

import toy_run as toy

from fercompress.records import QUARANTINED, REBOOTED, Doubt, Status
from fercompress.report import render
from fercompress.results import conditions
from fercompress.results.faults import faults
from fercompress.results.store import FILE, Store
from fercompress.results.summary import document
from fercompress.results.tables import read_tables
from fercompress.study import report_input


def excluded(block, reason):
    return dataclasses.replace(toy.failed(block), status=Status.EXCLUDED, reason=reason)


def lines(store):
    return [(line["variant"], line["pass"], line["times"], line["done"]) for line in faults(read_tables(store).blocks)]


def test_a_block_that_was_redone_is_told_with_what_was_done_and_its_number_counts(tmp_path):
    with Store.open(tmp_path / FILE) as store:
        toy.record_head(store, toy.study())
        for reason in ("the agent was killed", "the agent was killed"):
            store.record(toy.failed(toy.latency_block("tt", 0, 0), reason))
        store.record(excluded(toy.latency_block("tt", 1, 0), REBOOTED))
        toy.record_blocks(store, toy.study())
        assert lines(store) == [("tt", "latency", 2, "redone, and counted"), ("tt", "latency", 1, "redone, and counted")]
        found = document(read_tables(store))["rows"][1]
        assert found["rounds"] == 6
        assert Doubt.INCOMPLETE not in found["doubts"]


def test_a_quarantined_variant_is_a_result_with_its_reason_on_the_page(tmp_path):
    reason = f"{QUARANTINED}: failed 2 times, at last because it hung"
    with Store.open(tmp_path / FILE) as store:
        toy.record_head(store, toy.study())
        for _ in range(2):
            store.record(toy.failed(toy.latency_block("tt", 0, 0), "it hung"))
        for block in (*[toy.latency_block("tt", round_, half) for round_ in range(6) for half in (0, 1)][1:], toy.memory_block("tt")):
            store.record(excluded(block, reason))
        store.record(toy.latency_block("dense", 0, 0))
        assert lines(store) == [
            ("tt", "latency", 1, "tried again, in vain"),
            ("tt", "latency", 1, "the variant was quarantined"),
            ("tt", "latency, memory", 12, "left out; the same command tries again"),
        ]
        tables = read_tables(store)
        summary = document(tables)
        render(report_input(tables, summary), tmp_path)
    row = summary["rows"][1]
    assert row["memory_peak_bytes"] is None
    assert reason in row["reasons"]["memory_peak_bytes"]
    page = (tmp_path / "index.html").read_text()
    assert "Faults met" in page
    assert "Quarantined" in page
    assert reason in page


def test_the_state_of_the_target_weakens_what_was_timed_on_it():
    cool = {"temperature_mc_start": {"z": 40_000}, "temperature_mc_end": {"z": 55_000}, "cool_down_over_mc": 0}
    assert not conditions.throttled(cool)
    assert conditions.throttled({**cool, "temperature_mc_end": {"z": 55_001}})
    assert conditions.throttled({"cooling_start": {"cooling_device0 cpu": 0}, "cooling_end": {"cooling_device0 cpu": 2}})
    assert not conditions.hot_start(cool)
    assert conditions.hot_start({"cool_down_over_mc": 1})
    clocks = {"cpu0": {"governor": "performance", "khz": 1, "max_khz": 2}}
    assert not conditions.clock_changed({"clocks_start": clocks, "clocks_end": {"cpu0": {**clocks["cpu0"], "khz": 2}}})
    for changed in ({"governor": "powersave"}, {"max_khz": 1}):
        assert conditions.clock_changed({"clocks_start": clocks, "clocks_end": {"cpu0": {**clocks["cpu0"], **changed}}})


def test_facts_of_another_form_tell_nothing():
    odd = {"clocks_start": 1, "clocks_end": {"cpu0": 5}, "cooling_start": [], "temperature_mc_start": {"z": "hot"}, "cool_down_over_mc": "much"}
    assert not any(told(odd) for told in (conditions.throttled, conditions.clock_changed, conditions.hot_start))


def test_such_a_block_puts_a_doubt_on_its_variants_latency(tmp_path):
    told = {"cool_down_over_mc": 500, "cooling_start": {"c": 0}, "cooling_end": {"c": 1}}
    with Store.open(tmp_path / FILE) as store:
        toy.record_head(store, toy.study())
        store.record(toy.latency_block("tt", 0, 0, **told))
        toy.record_blocks(store, toy.study())
        dense, tt = document(read_tables(store))["rows"]
    assert {Doubt.HOT_START, Doubt.THROTTLED} <= set(tt["doubts"])
    assert not {Doubt.HOT_START, Doubt.THROTTLED, Doubt.CLOCK_CHANGED} & set(dense["doubts"])
