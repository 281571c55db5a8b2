"""The explorer's figures, texts and groups: what the page's script draws, made of samples that can be worked out by hand."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import toy_report as toy
from hypothesis import given
from hypothesis import strategies as st

from fercompress.report import explorer
from fercompress.report.scripts import json_element

VARIANTS: dict[str, dict[str, Any]] = {
    "dense": {"stored_bytes": 2000, "predictor_us": 100},
    "tt": {"recipe": [toy.train(4)], "stored_bytes": 510, "predictor_us": 50, "wrong": (0,)},
    "control": {"recipe": [{"step": "bottleneck", "rank": 4}], "stored_bytes": 500, "predictor_us": 50, "wrong": tuple(range(20))},
}


def seen(**changes: Any) -> explorer.Explorer:
    found = explorer.explorer(dataclasses.replace(toy.report(VARIANTS), **changes))
    assert found is not None
    return found


def names(found: explorer.Explorer, key: str) -> list[list[str]]:
    return [[found.points[index].variant for index in group] for group in found.groups["here"].get(key, [])]


def test_only_what_was_measured_can_be_an_axis() -> None:
    assert [axis.key for axis in seen().axes] == ["accuracy", "stored_bytes", "latency_clip_p50_ns"]
    bare = [{"variant": row["variant"], "target": "here", "stored_bytes": 5, "doubts": [], "reasons": {}} for row in toy.report(VARIANTS).rows]
    assert explorer.explorer(dataclasses.replace(toy.report(VARIANTS), rows=bare)) is None


def test_a_figure_stands_in_the_unit_of_its_axis_with_its_interval() -> None:
    point = seen().points[1]
    assert point.figures["accuracy"] == (97.5, 92.5, 100.0)
    assert point.figures["stored_bytes"] == (510.0, None, None)
    assert point.figures["latency_clip_p50_ns"] == (0.00015, 0.00015, 0.00015)  # 100 + 50 us in each of six rounds
    assert (point.family, point.way, point.rounded, point.baseline) == ("tensor train", "decomposed", False, False)


def test_a_point_tells_its_figures_and_its_recipe() -> None:
    lines = seen().points[1].lines
    assert lines[:3] == ("accuracy: 97.5 % [92.5, 100.0]", "stored bytes: 510 B", "latency per clip: 150 µs [150, 150] µs")
    assert lines[-1] == "· tensor-train: rank 4, part both, layout asymmetric, start decompose"
    assert seen().points[0].lines[-1] == "· none: the teacher itself"


def test_what_further_columns_a_row_has_is_told_too() -> None:
    rows = [dict(row) | {"front_probability_stored_bytes": 0.75} for row in toy.report(VARIANTS).rows]
    assert "probability to be on the front of accuracy and bytes: 75.0 %" in seen(rows=rows).points[0].lines


def test_groups_are_tied_on_all_their_axes() -> None:
    found = seen()
    assert names(found, "accuracy") == [["tt", "dense"]]  # one clip of 40 tells nothing, twenty do
    assert names(found, "stored_bytes") == [["control", "tt"]]  # within 5 %
    assert names(found, "latency_clip_p50_ns") == [["tt", "control"]]  # the same in every round
    assert names(found, "accuracy|stored_bytes") == []
    assert names(found, "stored_bytes|latency_clip_p50_ns") == [["tt", "control"]]


def test_a_simulated_target_is_said_with_its_times() -> None:
    assert "simulated latency per clip: 150 µs [150, 150] µs" in seen(simulated_targets=("here",)).points[1].lines


@given(
    st.recursive(
        st.text() | st.integers(-5, 5) | st.none(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    )
)
def test_data_in_the_page_can_be_read_back_and_cannot_end_its_element(content: Any) -> None:
    text = json_element({"data": content})
    assert json.loads(text) == {"data": content}
    assert not set("<>&\u2028\u2029") & set(text)
