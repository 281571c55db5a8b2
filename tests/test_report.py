"""The report: what a person and a script find in the folder that `render` writes."""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from likely_report import NO_POWER, VARIANTS, build
from markdown_it import MarkdownIt

from fercompress.errors import ResultsError
from fercompress.records import Doubt
from fercompress.report import ReportInput, render
from fercompress.report.canvas import lean
from fercompress.report.cells import Column, Notes
from fercompress.report.render import texts
from fercompress.report.story import speed_words, tell


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    render(build(), out)
    return out


class Page(HTMLParser):
    """What a browser would load, the table cells, and whether tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.scripts = 0
        self.open: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loads += [str(given[name]) for name in ("src", "srcset", "data", "poster", "action") if given.get(name)]
        self.loads += [str(given["href"])] if tag in ("link", "base") else []
        assert tag not in ("iframe", "object", "embed")
        self.scripts += tag == "script"
        if tag == "img":
            self.images.append(given)
        if tag not in ("img", "meta", "link", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["title"], ["script"]):
            self.words += " " + data.strip()


def written(given: ReportInput) -> tuple[str, str]:
    """The words of index.html and the text of report.md, without pictures."""
    made = texts(given, [tell(given, target) for target in given.targets], {target: [] for target in given.targets})
    return Page(made["index.html"]).words, made["report.md"]


def test_the_page_loads_nothing_from_elsewhere(folder: Path) -> None:
    text = (folder / "index.html").read_text(encoding="utf-8")
    found = Page(text)
    assert not found.open
    assert found.loads
    assert all(load.startswith("data:image/svg+xml,") for load in found.loads)
    styles = "".join(re.findall(r"<style>.*?</style>", text, re.DOTALL))
    assert styles
    assert not re.search(r"url\(|@import", styles)
    # Within a picture: its own clips and marks, and the cells of a matrix as a picture in it.
    led_to = re.findall(r"url\(([^)]*)\)|href='([^']*)'", "".join(found.loads).replace("%23", "#"))
    assert all("".join(each).startswith(("#", "data:image/png;base64,")) for each in led_to)


def test_every_picture_has_an_alternative_text_and_lies_in_figures_as_svg_and_png(folder: Path) -> None:
    images = Page((folder / "index.html").read_text(encoding="utf-8")).images
    assert all(len(image["alt"] or "") > 40 for image in images)
    names = {path.stem for path in (folder / "figures").iterdir()}
    assert names >= {"accuracy-bytes", "accuracy-latency", "speedups", "sizes", "memory", "latency-clip", "latency-predictor", "latency-extractor"}
    assert names >= {"confusion-dense-fp32", "confusion-tt-r4-int8"}
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".svg", ".png"}
    assert len(images) == len(names)


def test_a_picture_in_the_page_is_the_file_in_figures(folder: Path) -> None:
    images = Page((folder / "index.html").read_text(encoding="utf-8")).images
    shown = {urllib.parse.unquote(str(image["src"]).removeprefix("data:image/svg+xml,")).replace("'", '"') for image in images}
    assert shown == {path.read_text(encoding="utf-8") for path in (folder / "figures").glob("*.svg")}
    for text in shown:
        assert ElementTree.fromstring(text).tag.endswith("svg")


def test_a_lean_drawing_keeps_its_scales_and_rounds_its_places() -> None:
    drawn = b"""<g><!-- a "name" -->
 <path d="M 1.23456 2\n" x="0.98765" transform="translate(3.45678 9) scale(0.015625)"/></g>"""
    assert lean(drawn) == b"""<g><path d="M 1.23 2 " x="0.98" transform="translate(3.45 9) scale(0.015625)"/></g>"""


def test_every_variant_has_its_row_with_interval_and_n(folder: Path) -> None:
    words = Page((folder / "index.html").read_text(encoding="utf-8")).words
    for name, *_ in VARIANTS:
        assert f" {name} " in words
    assert "96.2 %" in words
    assert "[95.2, 97.2], n = 1,500" in words
    assert "12 blocks" in words


def test_the_same_input_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    for path in render(build(), tmp_path):
        assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes(), path.name


def test_a_missing_figure_says_why_it_is_missing(folder: Path) -> None:
    for name in ("index.html", "report.md"):
        text = (folder / name).read_text(encoding="utf-8")
        assert f"n/a: {NO_POWER}" in text
        assert "n/a: nothing is in tensor-train form" in text


def test_names_cannot_bring_html_or_paths_along(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>|**b**/../x"
    render(build(rename={"tt-r4-int8": hostile}), tmp_path / "out")  # the pick: in headline, sentences, tables, pictures
    page = Page((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert hostile in page.words
    assert page.scripts == 3  # data, plotly, the page's own
    markdown = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "<script>" not in markdown + MarkdownIt().enable("table").render(markdown)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.parent.name for path in tmp_path.rglob("*.svg")} == {"figures"}


def test_the_markdown_tables_parse_with_as_many_cells_in_every_line(folder: Path) -> None:
    tokens = MarkdownIt().enable("table").parse((folder / "report.md").read_text(encoding="utf-8"))
    widths: list[list[int]] = []
    for token in tokens:
        if token.type == "table_open":
            widths.append([])
        if token.type == "tr_open":
            widths[-1].append(0)
        if token.type in ("th_open", "td_open"):
            widths[-1][-1] += 1
    assert len(widths) >= 9
    assert all(len(set(table)) == 1 and len(table) > 1 for table in widths)


def test_the_first_screen_names_a_variant_what_it_brings_and_what_it_costs() -> None:
    told = tell(build(), "localhost")
    assert told.headline == "Use **tt-r4-int8**."
    assert "stores 133 kB instead of 18.1 MB (137× smaller)" in told.sentences[0].text
    assert "6.30 ms instead of 15.7 ms (2.49× [2.42, 2.54] faster)" in told.sentences[0].text
    assert "not worse by more than 0.9 points (one-sided 95 % limit)" in told.sentences[1].text


def test_a_control_that_the_pick_does_not_beat_is_named_right_below_it() -> None:
    told = tell(build(), "localhost")
    assert [remark.kind for remark in told.controls] == ["control", "train"]
    assert "**small-dense-int8** beats **tt-r4-int8** in speed and is not shown to be worse" in told.controls[0].text
    assert next(remark.text for remark in told.sentences if remark.kind == "but").startswith("The control **small-dense-int8** beats")


def test_accuracies_no_better_than_guessing_are_called_so() -> None:
    given = build()
    rows = [dict(row) | {"accuracy": 0.22, "accuracy_ci95": [0.2, 0.25]} for row in given.rows]
    told = tell(dataclasses.replace(given, rows=rows), "localhost")
    assert told.headline.startswith("No variant can be named")
    certainty = " ".join(told.certainty)
    assert "No variant is shown to be better than always naming the largest class (24.0 %)" in certainty
    assert "largest class" not in " ".join(tell(given, "localhost").certainty)


def test_a_control_may_win() -> None:
    given = build()
    rows = [dict(row) | {"validation_accuracy": 0.96 if "small" in row["variant"] else row["validation_accuracy"]} for row in given.rows]
    assert tell(dataclasses.replace(given, rows=rows), "localhost").headline.startswith("Use **small-dense-int8**, a control")


def test_test_accuracy_chooses_nothing() -> None:
    given = build()
    rows = [dict(row) | {"accuracy": 0.99 if row["variant"] == "tt-r2" else 0.5} for row in given.rows]
    assert tell(dataclasses.replace(given, rows=rows), "localhost").pick == rows[5]  # tt-r4-int8, as before


@pytest.mark.parametrize(("lost_clips", "allowed"), [(3, True), (5, True), (7, False)])
def test_a_loss_within_a_standard_error_of_a_point_is_allowed(lost_clips: int, allowed: bool) -> None:
    # 300 validation clips, 298 right: 1 point is 3 clips; with s.e. = sqrt((.00662 + .02) / 300) = .94 points, 5.8 clips may be lost.
    given = build()
    fold = {**given.data["folds"][0], "validation": 300}
    rows = [
        dict(row) | {"validation_accuracy": (298 - (lost_clips if row["variant"] == "tt-r2" else 0)) / 300, "stored_bytes": 10**6}
        for row in given.rows
    ]
    rows[2]["stored_bytes"] = 10
    assert rows[2]["variant"] == "tt-r2"
    chosen = tell(dataclasses.replace(given, rows=rows, data={**given.data, "folds": [fold]}), "localhost").pick
    assert (chosen == rows[2]) == allowed


def test_without_validation_accuracy_no_variant_is_named() -> None:
    rows = [dict(row) | {"validation_accuracy": None} for row in build().rows]
    assert "No variant can be named" in written(dataclasses.replace(build(), rows=rows))[0]


def test_a_run_without_latency_memory_and_accuracy_still_has_a_page(tmp_path: Path) -> None:
    given, why = build(), "the study does not ask for it"
    kept = ("variant", "target", "stored_bytes", "bytes_extractor", "bytes_predictor", "validation_accuracy", "params")
    rows = [{column: (value if column in kept else None) for column, value in row.items()} for row in given.rows]
    for row in rows:
        row |= {"reasons": {column: why for column, value in row.items() if value is None}, "doubts": []}
    bare = dataclasses.replace(given, rows=rows, timings=given.timings.head(0), predictions=given.predictions.head(0))
    assert [path.name for path in render(bare, tmp_path)] == ["index.html", "report.md", "sizes.svg", "sizes.png"]
    words = Page((tmp_path / "index.html").read_text(encoding="utf-8")).words
    assert f"Latency was not measured: {why}." in words
    assert f"n/a: {why}" in words


def test_a_run_that_has_only_begun_has_a_page() -> None:
    """As the journal gives it: rows of nulls, frames without a line and hence without types, no manifest."""
    given = build()
    rows = [{"variant": row["variant"], "target": row["target"], "doubts": [], "reasons": {}} for row in given.rows]
    empty = {name: pd.DataFrame(columns=getattr(given, name).columns) for name in ("timings", "predictions")}
    words, markdown = written(dataclasses.replace(given, rows=rows, manifests={}, **empty))
    assert "not exported yet" in words
    assert "No variant can be named" in markdown


def test_two_targets_have_sections_and_pictures_of_their_own(tmp_path: Path) -> None:
    given = build()
    few = [row for row in given.rows if row["variant"] in ("dense-fp32", "tt-r4")]
    rows = [*few, *(dict(row) | {"target": "board 1", "latency_clip_p50_ns": None, "speedup_clip": None} for row in few)]
    names = {path.name for path in render(dataclasses.replace(given, rows=rows, simulated_targets=("board 1",)), tmp_path)}
    words = Page((tmp_path / "index.html").read_text(encoding="utf-8")).words
    assert "All variants on board 1" in words
    assert "Simulated target: board 1." in words
    assert {"accuracy-bytes-localhost.svg", "accuracy-bytes-board_1.svg", "accuracy-latency-localhost.svg"} <= names
    assert "accuracy-latency-board_1.svg" not in names


def test_a_simulated_targets_times_are_marked_beside_each_number_and_its_accuracy_is_not() -> None:
    given = build(simulated=False)
    rows = [dict(row) | {"doubts": [*row["doubts"], str(Doubt.SIMULATED_TARGET)]} for row in given.rows]
    there = dataclasses.replace(given, rows=rows, simulated_targets=given.targets)
    mark = "Doubt: simulated target: a model of a board predicted it, no machine measured it"
    for key in ("latency_clip_p50_ns", "speedup_clip", "memory_peak_bytes", "power_w"):
        notes = Notes()
        Column(key, key, str).cell(there, rows[0], notes)
        assert mark in notes.texts
    notes = Notes()
    Column("accuracy", "accuracy", str).cell(there, rows[0], notes)
    assert not any("imulated" in text for text in notes.texts)
    for text in written(there):
        assert "No real machine took its timings" in text
        assert mark in text


def test_simulated_data_says_so_and_real_data_does_not() -> None:
    for text in written(build()):
        assert "No person was filmed" in text or "no person was filmed" in text
    for text in written(build(simulated=False)):
        assert "imulated" not in text


@pytest.mark.parametrize(
    ("speedup", "interval", "words"),
    [
        (6.0, [5.7, 6.3], "6.00× [5.70, 6.30] faster"),
        (0.5, [0.4, 0.8], "2.00× [1.25, 2.50] slower"),
        (1.01, [0.97, 1.04], "as fast as far as can be told, 1.01× [0.970, 1.04]"),
        (2.0, None, "2.00× faster (no interval)"),
    ],
)
def test_speed_is_claimed_only_where_the_interval_excludes_one(speedup: float, interval: list[float] | None, words: str) -> None:
    assert speed_words({"speedup_clip": speedup, "speedup_clip_ci95": interval}, "clip") == words


def test_an_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ResultsError, match="cannot write the report"):
        render(build(), tmp_path / "file")


def test_an_input_without_rows_or_columns_refuses_to_exist() -> None:
    with pytest.raises(ValueError, match="at least one measured variant"):
        dataclasses.replace(build(), rows=[])
    with pytest.raises(ValueError, match="timings lacks the columns clip_ns"):
        dataclasses.replace(build(), timings=build().timings.drop(columns="clip_ns"))


if __name__ == "__main__":
    import sys
    import time

    started = time.perf_counter()
    print(len(render(build(), Path(sys.argv[1]))), f"{time.perf_counter() - started:.1f} s")
