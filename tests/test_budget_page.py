"""The page's own answer to a budget: in a browser, the same as `pick`'s on random results; and what a person sees of it."""

from __future__ import annotations

import importlib.resources
import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import test_report
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment, FileSystemLoader
from test_choice import LIMITS, ROWS, VALIDATED

from fercompress import choice
from fercompress.choice import Drop
from fercompress.report import budgets

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium"), pytest.mark.timeout(600)]
TEMPLATES = importlib.resources.files("fercompress_templates")


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """The part of a page that answers budgets, by itself, with the report of `test_report`."""
    given_ = test_report.build()
    part = Environment(loader=FileSystemLoader(str(TEMPLATES)), autoescape=True).get_template("budget.html").render(given=given_)
    script = TEMPLATES.joinpath("budget.js").read_text(encoding="utf-8")
    told = json.dumps({"budget": budgets.data(given_)})
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.set_default_timeout(120_000)
        opened.set_content(f"<!DOCTYPE html>{part}<script>const DATA = {told};\n{script}</script>")
        yield opened
        browser.close()


@given(ROWS, LIMITS, st.one_of(st.none(), st.integers(0, 6)))
@settings(max_examples=150, deadline=None)
def test_the_page_chooses_as_pick_does(page, rows, limits, drop) -> None:
    most = [limit for limit in limits if limit.most]
    lost = [] if drop is None else [Drop("validation_accuracy", drop / VALIDATED, "")]
    wanted = choice.choose(rows, rows[0], [*most, *lost], VALIDATED)
    columns = ("validation_accuracy", "stored_bytes", "latency_clip_p50_ns", "memory_peak_bytes")
    told = [{"variant": row["variant"], "runs": row["engine"] is not None, "figures": {column: row[column] for column in columns}} for row in rows]
    asked = [{"column": each.column, "value": each.value, "drop": isinstance(each, Drop)} for each in (*most, *lost)]
    found = page.evaluate("([rows, limits, baseline]) => budgetChoice(rows, limits, baseline)", [told, asked, rows[0]["variant"]])
    assert [row["variant"] for row in found["fitting"]] == [row["variant"] for row in wanted.fitting]
    assert [row["variant"] for row, _ in found["unfit"]] == [each.row["variant"] for each in wanted.unfit]
    assert (found["unlimited"] or {}).get("variant") == (wanted.unlimited or {}).get("variant")


def test_a_person_sees_the_choice_its_test_figures_the_runner_up_and_the_cost(page) -> None:
    told = page.locator("#budget [role=status]")
    assert told.inner_text().startswith("Best on validation data: dense-fp32 (96.1 % of validation clips, 18.1 MB")
    page.fill("#budget input[name=stored_bytes]", "300")
    text = told.inner_text()
    assert "Best on validation data: tt-r4-int8 (95.6 %" in text
    assert "Tested: 95.7 %" in text
    assert "Runner-up: small-dense-int8 (93.9 %" in text
    assert "Without the budget: dense-fp32" in text
    assert "the budget costs 0.5 points of validation accuracy" in text
    assert text.count("Tested:") == 1
    page.fill("#budget input[name=stored_bytes]", "1")
    assert told.inner_text().startswith("No variant fits, or is known to.")
    page.fill("#budget input[name=stored_bytes]", "")
    page.fill("#budget input[name=validation_accuracy]", "0.2")
    assert "tt-r2 (loss of validation accuracy)" in told.inner_text()
    assert page.locator("#budget input[name=energy_clip_j]").count() == 0, "nobody measured it"
