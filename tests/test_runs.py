"""Several runs in one page: what may be compared is told first, what was not paired is not paired."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import toy_report as toy
import toy_run
from click.testing import CliRunner

from fercompress import cli, comparing
from fercompress.errors import InputError
from fercompress.report import ReportInput, explorer, runs
from fercompress.report.runs import Run
from fercompress.results.store import FILE, Store

LATER = {
    "dense": {"stored_bytes": 2000},
    "tt": {"recipe": [toy.train(4)], "wrong": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), "stored_bytes": 250, "predictor_us": 50},
}


def pair(**changes: Any) -> tuple[Run, Run]:
    """The later run's tt is wrong on ten clips (of p0 to p4) that the first one's is right about; changes: of the later run's data"""
    first = toy.report({"dense": {"stored_bytes": 2000}, "tt": {"recipe": [toy.train(4)], "stored_bytes": 500}, "old": {}})
    later = toy.report(LATER)
    return Run("monday", first), Run("tuesday", dataclasses.replace(later, data={**later.data, **changes}))


def column(table: Any, title: str) -> list[str]:
    (index,) = [number for number, head in enumerate(table.heads) if head.text == title]
    return [row[index].text for row in table.rows]


def test_variants_that_both_runs_have_stand_side_by_side() -> None:
    found = runs.compare(pair())
    assert column(found.shared, "Variant") == ["dense", "tt"]
    assert column(found.shared, "Accuracy: monday") == ["100.0 %", "100.0 %"]
    assert column(found.shared, "Accuracy: tuesday") == ["100.0 %", "75.0 %"]
    assert column(found.shared, "Accuracy: tuesday less monday") == ["0.0", "−25.0"]
    assert column(found.shared, "Stored: tuesday over monday") == ["1.00×", "0.500×"]
    assert column(found.shared, "Time per clip: tuesday over monday") == ["1.00×", "0.750×"]
    assert [row[0].sub for row in found.everything.rows] == ["monday, here"] * 3 + ["tuesday, here"] * 2


def test_of_the_same_clips_accuracies_are_paired_and_the_same_answers_are_tied() -> None:
    found = runs.compare(pair())
    assert found.remarks[0].comparable
    seen = explorer.explorer(found.merged)
    assert seen is not None
    names = [point.variant for point in seen.points]
    (group,) = seen.groups["here"]["accuracy"]
    assert [names[index] for index in group] == ["monday: dense", "monday: tt", "monday: old", "tuesday: dense"]  # not tuesday: tt


def test_of_other_clips_nothing_is_paired() -> None:
    found = runs.compare(pair(fingerprint="another"))
    assert not found.remarks[0].comparable
    assert column(found.shared, "Accuracy: tuesday less monday") == ["n/a", "n/a"]
    seen = explorer.explorer(found.merged)
    assert seen is not None
    assert [len(group) for group in seen.groups["here"]["accuracy"]] == [3]  # within monday alone


def test_rounds_of_two_runs_are_never_paired() -> None:
    found = runs.compare(pair())
    seen = explorer.explorer(found.merged)
    assert seen is not None
    names = [point.variant for point in seen.points]
    for groups in (groups for key, groups in seen.groups["here"].items() if key.startswith("latency")):
        assert all(len({names[index].split(":")[0] for index in group}) == 1 for group in groups)


def test_folds_cut_in_another_way_are_told() -> None:
    found = runs.compare(pair(protocol="leaky-image"))
    assert not found.remarks[0].comparable
    assert "folds were cut in different ways (None, leaky-image)" in found.remarks[0].text


def test_what_differs_between_the_runs_is_said() -> None:
    table = runs.compare(pair(fingerprint="another")).facts
    told = {row[0].text: row[-1].text for row in table.rows}
    assert told["Data"] == "differs"
    assert told["Baseline"] == "alike"


@pytest.mark.parametrize(
    ("folders", "labels"),
    [(["a/one", "b/two"], ["one", "two"]), (["a/run", "b/run"], ["a/run", "b/run"]), (["a/x/run", "b/x/run", "c/d"], ["a/x/run", "b/x/run", "d"])],
)
def test_runs_are_named_by_as_much_of_their_path_as_tells_them_apart(tmp_path: Path, folders: list[str], labels: list[str]) -> None:
    found = comparing.labels([tmp_path / folder for folder in folders])
    assert [label.removeprefix(f"{tmp_path.name}/") for label in found] == labels


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs as journals: the second one's `tt` is wrong on four clips, the first one's on two."""
    made = []
    for name, wrong in (("monday", (3, 4)), ("tuesday", (3, 4, 5, 6))):
        folder = tmp_path_factory.mktemp("runs") / name
        folder.mkdir()
        with Store.open(folder / FILE) as store:
            toy_run.record_head(store, toy_run.study())
            toy_run.record_blocks(store, toy_run.study(), wrong)
        made.append(folder)
    return made[0], made[1]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, list(arguments), standalone_mode=False)


def test_the_command_writes_one_page_and_leaves_the_runs_as_they_are(folders: tuple[Path, Path], tmp_path: Path) -> None:
    before = {folder: sorted(path.name for path in folder.iterdir()) for folder in folders}
    done = run("report", *map(str, folders), "--out", str(tmp_path / "out"))
    assert done.exception is None
    assert "Accuracies can be compared: the same clips" in done.output
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "Variants that the runs share" in text
    assert "Accuracy: tuesday less monday" in text
    assert (tmp_path / "out" / "index.html").stat().st_size < 3_000_000
    assert {folder: sorted(path.name for path in folder.iterdir()) for folder in folders} == before
    first = (tmp_path / "out" / "index.html").read_bytes()
    assert json.loads(run("report", *map(str, folders), "--out", str(tmp_path / "out"), "--json").output)["runs"] == ["monday", "tuesday"]
    assert (tmp_path / "out" / "index.html").read_bytes() == first


def test_a_run_given_twice_or_an_out_that_is_a_run_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for arguments, words in (
        ((str(folders[0]), str(folders[0])), "given twice"),
        ((*map(str, folders), "--out", str(folders[1])), "is a run of its own"),
        ((str(folders[0]), "--out", str(tmp_path)), "--out is for several runs"),
    ):
        error = run("report", *arguments).exception
        assert isinstance(error, InputError)
        assert words in str(error)


def test_a_merged_input_is_one_that_every_table_takes() -> None:
    merged = runs.merge(pair())
    assert isinstance(merged, ReportInput)
    assert merged.baseline == "monday: dense"
    assert len(merged.timings) == 12 * 5
    assert merged.timings.groupby("variant")["round"].max().to_dict() == {
        "monday: dense": 5, "monday: tt": 5, "monday: old": 5, "tuesday: dense": 11, "tuesday: tt": 11,
    }  # fmt: skip
