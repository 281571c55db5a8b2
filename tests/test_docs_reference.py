"""The reference is made from the code: no key, command, column or file is missing, and none is there without words."""

from __future__ import annotations

import json
import re
import sys

import click
import foreign_models
import numpy as np
import pytest
from fercompress_docs import commands, figures, formats, hooks, keys
from gate_evidence import pair
from toy_run import record_blocks, record_head, study
from walkthrough import PAGES, ROOT

from fercompress.cli import app
from fercompress.config import Study
from fercompress.export import foreign
from fercompress.export.foreign_axes import Wishes
from fercompress.gate import baseline
from fercompress.measure.board import Board
from fercompress.results import seal, summary
from fercompress.results.store import FILE, Store
from fercompress.workspace import _OURS


def rows(text: str) -> dict[str, str]:
    """First cell -> the last one, of every table's rows."""
    cells = [re.split(r"(?<!\\) *\| *", line.strip("| ")) for line in text.splitlines() if line.startswith("| `")]
    return {line[0].strip("`"): line[-1] for line in cells}


@pytest.mark.parametrize(("root", "places"), [(Study, keys.STUDY), (Board, keys.TARGET)])
def test_every_key_of_every_section_is_there_with_words_of_what_it_means(root, places):
    assert {place.model for place in places} == set(keys.models(root))
    for place in places:
        found = rows(keys.section(place))
        assert set(found) == set(place.model.model_fields) - set(place.skip)
        assert [key for key, words in found.items() if not words] == []
        assert sys.prefix not in keys.section(place)


def test_a_key_tells_its_values_its_default_and_the_remark_beside_it():
    text = keys.page(keys.STUDY)
    assert "| `rounds` | whole number ≥ 1 | `6` | each is a random order of all variants and its mirror: two blocks per variant |" in text
    assert '| `layout` | "asymmetric" or "balanced" | `"asymmetric"` |' in text
    assert "| `dropout` | number ≥ 0, &lt; 1 | `0.2` |" in text
    assert "| `baseline` | text | **required** |" in text


def test_every_command_and_every_option_is_there():
    text = commands.page()
    for path, command, context in commands.every(app, click.Context(app, info_name="fercompress")):
        assert f"# `{path}`\n" in text
        section = text.split(f"# `{path}`\n")[1].split("\n## ")[0].split("\n### ")[0]
        for parameter in command.get_params(context):
            if isinstance(parameter, click.Option) and "--help" not in parameter.opts:
                assert max(parameter.opts, key=len) in section, f"{path} {parameter.opts}"


def test_every_column_of_the_summary_is_there_with_its_unit():
    text = formats.summary_columns()
    found = rows(text)
    assert list(found) == list(summary.json_schema()["$defs"]["row"]["properties"])
    assert [name for name, words in found.items() if not words] == []
    assert "| `latency_clip_p95_ns_ci95` | ns | interval or null |" in text
    assert "| `stored_bytes` | bytes |" in text


def test_every_table_and_column_of_the_journal_is_there(tmp_path):
    with Store.open(tmp_path / FILE) as store:
        tables = [name for (name,) in store._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {table: [row[1] for row in store._db.execute(f"PRAGMA table_info({table})")] for table in tables}
    sections = formats.journal_tables().split("### ")[1:]
    assert {section.split("`")[1]: list(rows(section)) for section in sections} == columns


def test_every_file_of_a_run_is_there():
    ours = {name for name in _OURS if not name.endswith(("-wal", "-shm"))}
    assert set(formats.RUN_FOLDER) == ours


def test_every_key_of_an_imported_bundles_manifest_is_there(tmp_path):
    wishes = Wishes("mine", ("a", "b", "c", "d"), foreign_models.T, foreign_models.SIDE, "", 0.0, 1.0)
    made = foreign.imported(foreign_models.extractor(tmp_path / "x.onnx"), foreign_models.predictor(tmp_path / "y.onnx"), wishes, tmp_path)
    assert set(made.manifest) <= set(formats.MANIFEST) | set(formats.IMPORTED)
    assert set(formats.IMPORTED) <= set(made.manifest)


def test_every_key_of_a_seal_is_there(tmp_path):
    the_study = study()
    with Store.open(tmp_path / FILE) as store:
        record_head(store, the_study)
        record_blocks(store, the_study)
        summary.write_summary(store, tmp_path)
    seal.write(tmp_path, [tmp_path / "summary.json"])
    assert set(json.loads((tmp_path / seal.FILE).read_text())) == set(formats.SEAL)


def test_every_key_of_a_baseline_file_is_there(tmp_path):
    evidence = pair(np.random.default_rng(0))[0]
    entry = baseline.Accepted(evidence, "ann", "first", "2026-01-01", "2026-04-01")
    baseline.write(tmp_path / "b.json", evidence.target, {"newest": entry})
    table = json.loads((tmp_path / "b.json").read_text())
    assert set(table) == set(formats.BASELINE)
    assert set(table["entries"]["newest"]) == set(formats.ENTRY)


def test_pages_name_only_markers_that_something_is_made_for():
    used = {name for path in PAGES.rglob("*.md") for name in re.findall(r"^<!-- made: ([\w-]+) -->$", path.read_text(), re.M)}
    assert used == set(hooks.MADE)
    with pytest.raises(KeyError):
        hooks.filled("<!-- made: nothing -->")


def test_figures_of_the_default_study_and_of_claims_are_quoted_from_the_readme():
    readme = (ROOT / "README.md").read_text()
    page = (PAGES / "explanation/bottleneck.md").read_text()
    quoted = re.findall(r"\d+\.\d %(?: \[[\d., ]+\])?|\d+\.\d+ [kM]B|\d+\.\d times|(?:and|predictor) \d+\.\d", page)
    assert len(quoted) > 10
    for words in quoted:
        number = re.sub(r" times$|^(and|predictor) ", "", words)
        assert number in readme, f"{words!r} is not in the README (any more)"


def test_pictures_are_what_the_script_draws():
    folder = PAGES / "figures"
    assert {path.name: path.read_text() for path in folder.glob("*.svg")} == {name: drawn() for name, drawn in figures.FIGURES.items()}


def test_a_drift_makes_equal_variants_differ_only_where_they_are_measured_one_after_the_other():
    assert figures.drifted(mirrored=False)[1] == pytest.approx((1 + 0.02 * 5.5) / (1 + 0.02 * 1.5) - 1)
    assert figures.drifted(mirrored=True)[1] == pytest.approx(0)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('<script src="https://cdn/x.js"></script>', 1),
        ("<link rel='stylesheet' href='//fonts/x.css'>", 1),
        ('<a href="https://zensical.org">a link that a person may follow</a>', 0),
        ('<img src="figures/train.svg"><script src="js/x.js"></script>', 0),
    ],
)
def test_a_page_that_fetches_from_the_network_is_found(tmp_path, text, found):
    (tmp_path / "page.html").write_text(text)
    assert len(hooks.network_uses(tmp_path)) == found


def test_the_site_builds_without_a_warning(tmp_path):
    build = pytest.importorskip("mkdocs.commands.build", reason="mkdocs is in the tox environment `docs`")
    from mkdocs.config import load_config

    build.build(load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path)))
    assert "Measured:" in (tmp_path / "explanation/measuring.html").read_text()  # of the README
    assert (tmp_path / "reference/study.html").read_text().count("<table") > 15
