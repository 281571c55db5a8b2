"""The report: what a person and a script find in the folder that `render` writes."""

from __future__ import annotations

import dataclasses
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt

from fercompress.errors import ResultsError
from fercompress.records import Doubt
from fercompress.report import ReportInput, render
from fercompress.report.cells import Column, Notes
from fercompress.report.render import texts
from fercompress.report.story import speed_words, tell

CLASSES = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")
TT = {"step": "tensor-train", "rank": 4, "hidden_rank": None, "part": "both", "layout": "asymmetric", "start": "decompose"}
INT8 = [{"step": "quantize", "part": part, "bits": 8, "calibration_clips": 32} for part in ("extractor", "predictor")]
NO_POWER = "no sensor found: looked for /sys/class/powercap/intel-rapl*"

# name, recipe, accuracy, validation accuracy, extractor bytes, predictor bytes, LSTM params, extractor ms, predictor ms
VARIANTS: list[tuple[str, list[dict[str, Any]], float, float, int, int, int, float, float]] = [
    ("dense-fp32", [], 0.962, 0.961, 291_340, 17_845_120, 4_457_472, 9.1, 6.6),
    ("dense-int8", INT8, 0.960, 0.959, 88_210, 4_480_760, 4_457_472, 5.2, 2.4),
    ("tt-r2", [TT | {"rank": 2}], 0.931, 0.936, 291_340, 62_410, 12_300, 9.1, 0.9),
    ("tt-r4", [TT], 0.958, 0.957, 291_340, 99_720, 21_540, 9.1, 1.05),
    ("tt-r8", [TT | {"rank": 8}], 0.961, 0.960, 291_340, 184_230, 42_620, 9.1, 1.5),
    ("tt-r4-int8", [TT, *INT8], 0.957, 0.956, 88_210, 44_310, 21_540, 5.2, 1.1),
    ("bottleneck-r4", [{"step": "bottleneck", "rank": 4}], 0.955, 0.954, 291_340, 2_120_400, 526_000, 9.1, 1.3),
    ("small-dense-int8", [{"step": "small-dense", "bytes_of": "tt-r4-int8"}, *INT8], 0.948, 0.939, 88_210, 44_900, 40_100, 5.2, 0.5),
]


def build(simulated: bool = True, rename: dict[str, str] | None = None) -> ReportInput:
    """A finished run of the default study's eight variants, with figures of a likely size."""
    random = np.random.default_rng(5)
    rename = rename or {}
    n, dense = 1500, VARIANTS[0]
    labels = random.choice(7, n, p=[0.14, 0.06, 0.18, 0.08, 0.21, 0.09, 0.24])
    rows, timings, predictions, recipes, manifests = [], [], [], {}, {}
    for name, recipe, accuracy, validation, extractor, predictor, lstm, extractor_ms, predictor_ms in VARIANTS:
        name, half = rename.get(name, name), 1.96 * (accuracy * (1 - accuracy) / n) ** 0.5
        reasons = {"power_w": NO_POWER}
        tt = lstm if any(step["step"] == "tensor-train" for step in recipe) else None
        if tt is None:
            reasons["ratio_tt_params"] = "nothing is in tensor-train form"
        drop = 100 * (dense[2] - accuracy)
        row = {
            "variant": name, "target": "localhost", "accuracy": accuracy, "accuracy_ci95": [accuracy - half, accuracy + half], "n_clips": n,
            "chance": 1 / 7, "majority_share": 0.24, "seeds": 1, "accuracy_drop": drop, "accuracy_drop_limit95": drop + 0.4,
            "accuracy_last_epoch": accuracy - 0.002, "validation_accuracy": validation, "way_text": "trained",
            "way": "decomposed" if tt else "control" if "bytes_of" in str(recipe) or "bottleneck" in str(recipe) else "as-trained",
            "tt_rank": recipe[0]["rank"] if tt else None, "extractor_bits": 8 if "quantize" in str(recipe) else 32,
            "predictor_bits": 8 if "quantize" in str(recipe) else 32,
            "train_epoch_s": 2.2 if tt else 3.1, "train_epochs": 20, "train_total_s": 44.0, "time_to_dense_s": 30.0 if tt else None,
            "params": 72_000 + lstm, "params_lstm": lstm, "params_tt": tt or 0,
            "params_dense": 72_000 + dense[6], "params_lstm_dense": dense[6], "params_tt_dense": dense[6] if tt else 0,
            "stored_bytes": extractor + predictor, "bytes_extractor": extractor, "bytes_predictor": predictor,
            "ratio_tt_params": tt and dense[6] / tt, "ratio_lstm_params": dense[6] / lstm,
            "ratio_model_params": (72_000 + dense[6]) / (72_000 + lstm), "ratio_model_bytes": (dense[4] + dense[5]) / (extractor + predictor),
            "memory_interpreter_bytes": 11_200_000, "memory_runtime_bytes": 71_400_000, "memory_model_bytes": 78_000_000 + extractor + predictor,
            "memory_peak_bytes": 90_000_000 + int(1.3 * (extractor + predictor)), "power_w": None, "power_reason": NO_POWER,
            "blocks": 12, "timed_clips": 480, "doubts": [Doubt.ONE_SEED.value], "reasons": reasons,
        }  # fmt: skip
        row["doubts"] += [Doubt.SIMULATED.value] * simulated + [Doubt.NOISY.value] * (name == "tt-r8")
        for stage, milliseconds in {"extractor": extractor_ms, "predictor": predictor_ms, "clip": extractor_ms + predictor_ms}.items():
            base = {"extractor": dense[7], "predictor": dense[8], "clip": dense[7] + dense[8]}[stage]
            row |= {f"latency_{stage}_p50_ns": milliseconds * 1e6, f"latency_{stage}_p90_ns": milliseconds * 1.06e6}
            row |= {f"speedup_{stage}": base / milliseconds, f"speedup_{stage}_ci95": [base / milliseconds * 0.97, base / milliseconds * 1.02]}
        rows.append(row)
        for round_, position in itertools.product(range(6), (0, 15)):
            shape = (1 + 0.01 * np.sin(7 * round_ + position)) * (0.985 + random.gamma(1.2, 0.02, 40))
            a, b = extractor_ms * 1e6 * shape, predictor_ms * 1e6 * shape
            place = {"variant": name, "target": "localhost", "round": round_, "position": position}
            timings.append(pd.DataFrame({**place, "extractor_ns": a, "predictor_ns": b, "clip_ns": a + b}))
        wrong = random.random(n) > accuracy
        answers = np.where(wrong, (labels + random.integers(1, 3, n)) % 7, labels)
        predictions.append(pd.DataFrame({
            "variant": name, "target": "localhost", "seed": 0, "fold": "only", "clip_id": [f"c{i}" for i in range(n)],
            "cluster": [f"s{i // 10}" for i in range(n)], "label": labels, "predicted": answers,
        }))  # fmt: skip
        recipes[name] = recipe
        manifests[name] = {
            "variant": name, "engine": "onnxruntime", "opset": 17, "recipe": recipe, "made_with": {"torch": "2.13", "onnxruntime": "1.24"},
            "way": "decomposed, fine-tuned with distillation" if recipe else "trained",
            "layers": [{"name": "lstm.input", "kind": "tensor-train", "shape": [4096, 1024], "ranks": [1, 4, 1], "params": lstm, "bits": 32}],
        }  # fmt: skip
    return ReportInput(
        study="default", title="Posed synthetic expressions, small model", created_utc="2026-01-05T10:00:00Z",
        baseline=rename.get("dense-fp32", "dense-fp32"), rows=rows, recipes=recipes, manifests=manifests,
        timings=pd.concat(timings), predictions=pd.concat(predictions),
        data={
            "name": "synthetic", "simulated": simulated, "fingerprint": "5e" * 32, "classes": CLASSES, "left_out": 0,
            "folds": [{"name": "only", "train": 1200, "validation": 3000, "test": 1500}],
        },
        host={"localhost": {"cpu": "Example CPU, 2 cores", "python": "3.11.2", "onnxruntime": "1.24.1", "clock": {"before_mhz": 2600}}},
        settings={"rounds": 6, "block_clips": 16, "threads": 1},
        faults=[{"variant": "tt-r2", "target": "localhost", "pass": "latency", "status": "excluded", "reason": "the machine was suspended"}],
    )  # fmt: skip


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
        self.open: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loads += [str(given[name]) for name in ("src", "srcset", "data", "poster", "action") if given.get(name)]
        self.loads += [str(given["href"])] if tag in ("link", "base") else []
        assert tag not in ("script", "iframe", "object", "embed")
        if tag == "img":
            self.images.append(given)
        if tag not in ("img", "meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["title"]):
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
    assert all(load.startswith("data:image/svg+xml;base64,") for load in found.loads)
    assert not re.search(r"url\(|@import", text)


def test_every_picture_has_an_alternative_text_and_lies_in_figures_as_svg_and_png(folder: Path) -> None:
    images = Page((folder / "index.html").read_text(encoding="utf-8")).images
    assert all(len(image["alt"] or "") > 40 for image in images)
    names = {path.stem for path in (folder / "figures").iterdir()}
    assert names >= {"accuracy-bytes", "accuracy-latency", "speedups", "sizes", "memory", "latency-clip", "latency-predictor", "latency-extractor"}
    assert names >= {"confusion-dense-fp32", "confusion-tt-r4-int8"}
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".svg", ".png"}
    assert len(images) == len(names)


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
    assert hostile in Page((tmp_path / "out" / "index.html").read_text(encoding="utf-8")).words  # Page fails on a script element
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
