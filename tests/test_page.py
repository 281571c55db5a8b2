"""The page in a browser, from `file://`: every control used, without scripts, on a narrow screen, in print; no error, nothing from elsewhere."""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from likely_report import VARIANTS, beside, build, many
from markdown_it import MarkdownIt

from fercompress.report import render
from fercompress.report.render import texts
from fercompress.report.story import tell

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser on the path: chromium, chromium-browser or google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    render(beside(build(), "board", 8.0), out)
    return out / "index.html"


@contextlib.contextmanager
def opened(browser: Any, path: Path, *, scripts: bool = True, width: int = 1280, clipboard: bool = True, place: str = "") -> Iterator[Any]:
    """The page as a person opens it from a folder; whatever it complains of or loads besides itself fails the test."""
    context = browser.new_context(java_script_enabled=scripts, viewport={"width": width, "height": 900})
    if clipboard:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else complaints.append(request.url))
    page.goto(path.as_uri() + place)
    if scripts:
        page.wait_for_selector("html.ready", state="attached")
    yield page
    assert complaints == []
    context.close()


def points(page: Any) -> list[str]:
    return [item.inner_text() for item in page.query_selector_all("#explorer-points button")]


def test_every_axis_can_be_chosen_and_two_axes_never_show_the_same(browser: Any, page_path: Path) -> None:
    with opened(browser, page_path) as page:
        keys = page.eval_on_selector_all("#explorer-x option", "options => options.map(option => option.value)")
        assert keys == [
            "accuracy", "stored_bytes", "latency_clip_p50_ns", "latency_extractor_p50_ns", "latency_predictor_p50_ns", "memory_peak_bytes",
        ]  # fmt: skip
        for side in "xy":
            for key in keys:
                page.select_option(f"#explorer-{side}", key)
                shown = {name: page.input_value(f"#explorer-{name}") for name in "xy"}
                assert shown[side] == key
                assert shown["x"] != shown["y"]
                assert len(points(page)) == len(VARIANTS)
        assert page.locator("#explorer-plot .scatterlayer .points path").count() >= len(VARIANTS)


def test_a_group_is_told_and_shrinks_with_the_filter(browser: Any, page_path: Path) -> None:
    with opened(browser, page_path) as page:
        page.select_option("#explorer-ties", "vertical")
        told = page.inner_text("#explorer-shown")
        assert told.startswith("8 of 8 variants shown. Tied: ")
        assert "dense-int8 = " in told or " = dense-int8" in told
        bands = page.locator("#explorer-plot .scatterlayer .trace path.js-line")
        with_bands = bands.count()
        page.select_option("#explorer-ties", "none")
        assert "Tied" not in page.inner_text("#explorer-shown")
        assert bands.count() < with_bands
        page.select_option("#explorer-ties", "vertical")
        page.uncheck("#explorer input[value=as-trained]")
        assert points(page) == ["tt-r4-int8", "small-dense-int8", "tt-r2", "tt-r4", "tt-r8", "bottleneck-r4"]
        assert "dense-int8 " not in page.inner_text("#explorer-shown").replace("small-dense-int8", "")


def test_a_target_a_way_an_interval_the_front_and_reset_do_what_they_say(browser: Any, page_path: Path) -> None:
    with opened(browser, page_path) as page:
        page.select_option("#explorer-target", "board")
        page.select_option("#explorer-x", "memory_peak_bytes")
        assert points(page) == []
        assert "Not measured on both axes: dense-fp32" in page.inner_text("#explorer-shown")
        page.click("#explorer-reset")
        assert page.input_value("#explorer-x") == "stored_bytes"
        assert page.input_value("#explorer-target") == "localhost"
        assert len(points(page)) == len(VARIANTS)
        bars = page.locator("#explorer-plot .errorbar path:visible")
        assert bars.count() > 0
        page.uncheck("#explorer-intervals")
        assert bars.count() == 0
        lines = page.locator("#explorer-plot .scatterlayer path.js-line")
        before = lines.count()
        page.uncheck("#explorer-front")
        assert lines.count() == before - 1
        page.click("#explorer-swap")
        assert (page.input_value("#explorer-x"), page.input_value("#explorer-y")) == ("accuracy", "stored_bytes")
        for box in page.query_selector_all("#explorer input[name=way]"):
            box.uncheck()
        assert page.inner_text("#explorer-shown").startswith("0 of 0 variants shown.")


def test_the_keyboard_reaches_every_point_and_tells_its_recipe(browser: Any, page_path: Path) -> None:
    with opened(browser, page_path) as page:
        page.focus("#explorer-reset")
        reached = []
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.closest('#explorer-points') !== null"):
                reached.append(page.evaluate("document.activeElement.textContent"))
                assert reached[-1] in page.inner_text("#explorer-told")
        assert sorted(reached) == sorted(name for name, *_ in VARIANTS)
        page.click("#explorer-points button:has-text('tt-r4-int8')")
        told = page.inner_text("#explorer-told")
        assert "tensor-train: rank 4" in told
        assert "accuracy: 95.7 % [94.7, 96.7]" in told
        assert page.locator("#explorer-plot .hoverlayer .hovertext").count() == 1


def test_hovering_over_a_point_tells_its_recipe(browser: Any, page_path: Path) -> None:
    with opened(browser, page_path) as page:
        page.locator("#explorer-plot").scroll_into_view_if_needed()
        box = page.locator("#explorer-plot .scatterlayer .points path").last.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_selector("#explorer-plot .hoverlayer .hovertext")
        assert "recipe:" in page.inner_text("#explorer-told")


@pytest.mark.parametrize("name", ["Markdown", "LaTeX", "CSV"])
def test_a_table_is_copied_whole_in_every_format(browser: Any, page_path: Path, name: str) -> None:
    with opened(browser, page_path) as page:
        page.locator(f"button[aria-label^='Copy as {name}: All variants at a glance']").first.click()
        page.wait_for_selector(f"text=Copied as {name}.")
        text = page.evaluate("navigator.clipboard.readText()")
    if name == "Markdown":
        tokens = MarkdownIt().enable("table").parse(text)
        cells = [tokens[index + 1].content for index, token in enumerate(tokens) if token.type in ("th_open", "td_open")]
        assert cells[0] == "Variant"
        assert len(cells) == (len(VARIANTS) + 1) * 8
        assert any("96.2 % · [95.2, 97.2], n = 1,500" in cell for cell in cells)
    elif name == "CSV":
        lines = list(csv.reader(io.StringIO(text)))
        assert len({len(line) for line in lines}) == 1
        assert [line[0] for line in lines] == ["Variant", *(variant for variant, *_ in VARIANTS)]
        assert lines[1][lines[0].index("Accuracy")] == "96.2 %"
        assert lines[1][lines[0].index("Accuracy (finer)")] == "[95.2, 97.2], n = 1,500"
    else:
        body = text.split("\\midrule\n")[1].split("\n\\bottomrule")[0].splitlines()
        assert [line.split(" & ")[0].split(" ")[0] for line in body] == [variant for variant, *_ in VARIANTS]
        assert all(line.count(" & ") == 7 and line.endswith(r" \\") for line in body)
        assert r"96.2 \%" in body[0]


def test_a_browser_that_refuses_the_clipboard_shows_the_text_to_copy(browser: Any, page_path: Path) -> None:
    with opened(browser, page_path, clipboard=False) as page:
        page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: {writeText: () => Promise.reject(new Error('no'))}})")
        page.locator("button[aria-label^='Copy as CSV: All variants at a glance']").first.click()
        assert page.input_value("textarea.by-hand").startswith("Variant,")
        assert "press Ctrl+C" in page.inner_text(".told:not(:empty)")


def test_every_table_can_be_copied(browser: Any, page_path: Path) -> None:
    with opened(browser, page_path) as page:
        tables = page.locator("figure.table").count()
        assert page.locator("figure.table > .copy").count() == tables
        failed = page.evaluate("""() => [...document.querySelectorAll("figure.table")].filter((figure) => {
            const first = figure.querySelector("tbody tr :first-child").textContent.trim().split(/\\W/)[0];
            return Object.values(FORMATS).some((format) => !format(tableParts(figure)).includes(first));
        }).map((figure) => figure.textContent)""")
        assert failed == []


def test_without_scripts_everything_but_the_explorer_is_there(browser: Any, page_path: Path) -> None:
    with opened(browser, page_path, scripts=False) as page:
        assert page.locator("h2.headline").first.is_visible()
        assert not page.locator("#explorer").is_visible()
        assert page.locator(".copy").count() == 0
        assert page.locator("figure.table table").first.is_visible()
        assert page.locator(".picture img").first.is_visible()
        wide = page.locator(".picture img")
        assert all(wide.nth(index).evaluate("image => image.naturalWidth > 0") for index in range(wide.count()))


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(browser: Any, page_path: Path, width: int) -> None:
    with opened(browser, page_path, width=width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.select_option("#explorer-y", "latency_clip_p50_ns")
        assert page.locator("#explorer-plot .main-svg").first.bounding_box()["width"] <= width


def test_print_leaves_the_controls_out_and_keeps_pictures_and_tables(browser: Any, page_path: Path, tmp_path: Path) -> None:
    with opened(browser, page_path) as page:
        page.emulate_media(media="print")
        assert not page.locator("#explorer").is_visible()
        assert page.locator(".copy:visible").count() == 0
        assert page.locator(".picture img").first.is_visible()
        page.pdf(path=tmp_path / "page.pdf")
        assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_a_hostile_name_runs_nothing(browser: Any, tmp_path: Path) -> None:
    hostile = "</script><b onclick='x()'>a</b>"
    given = build(rename={"tt-r4-int8": hostile})
    (tmp_path / "index.html").write_text(texts(given, [tell(given, "localhost")], {"localhost": []})["index.html"], encoding="utf-8")
    with opened(browser, tmp_path / "index.html") as page:
        page.locator("#explorer-points button").first.click()
        assert hostile in points(page)
        assert page.locator("[onclick]").count() == 0


def test_no_script_runs_but_those_that_came_with_the_page(browser: Any, page_path: Path) -> None:
    page = browser.new_page()
    page.goto(page_path.as_uri())
    page.wait_for_selector("html.ready", state="attached")
    ran = """() => {
        const made = document.createElement("script");
        made.textContent = "window.ran = true";
        document.head.append(made);
        return window.ran === true;
    }"""
    assert page.evaluate(ran) is False
    page.close()


def test_thirty_variants_stay_below_six_megabytes_and_can_be_explored(browser: Any, tmp_path: Path) -> None:
    render(many(build(), 30), tmp_path)
    assert (tmp_path / "index.html").stat().st_size < 6_000_000
    with opened(browser, tmp_path / "index.html") as page:
        assert len(points(page)) == 30


def test_a_variants_name_leads_to_its_own_section_and_unfolds_it(browser: Any, page_path: Path) -> None:
    with opened(browser, page_path) as page:
        section = page.locator("#variant-tt-r4-int8")
        assert section.get_attribute("open") is None
        page.locator("tbody th a", has_text="tt-r4-int8").first.click()
        section.locator("h4", has_text="Sustained").first.wait_for(state="visible")
        assert section.locator(".strip:visible").count() == 6  # three on each of two targets
        page.locator("#variant-dense-fp32 > summary").press("Enter")
        assert page.locator("#variant-dense-fp32 .confusion").first.is_visible()
    with opened(browser, page_path, place="#variant-tt-r2") as page:
        assert page.locator("#variant-tt-r2 .trust").first.is_visible()


def test_a_click_on_a_point_leads_to_its_variants_section(browser: Any, page_path: Path) -> None:
    with opened(browser, page_path) as page:
        page.locator("#explorer-plot").scroll_into_view_if_needed()
        box = page.locator("#explorer-plot .scatterlayer .points path").last.bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_selector("details.variant[open]")


def test_without_scripts_a_variants_section_unfolds_by_itself(browser: Any, page_path: Path) -> None:
    with opened(browser, page_path, scripts=False) as page:
        page.click("#variant-tt-r4 > summary")
        assert page.locator("#variant-tt-r4 .gains").first.is_visible()
