"""mkdocs calls this: a page's markers become tables that are made from the code, and the built site may ask for nothing on the network."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pygments.formatters.html import HtmlFormatter

from fercompress_docs import commands, formats, keys

MADE: dict[str, Callable[[], str]] = {
    "commands": commands.page,
    "study-keys": lambda: keys.page(keys.STUDY),
    "target-keys": lambda: keys.page(keys.TARGET),
    "run-folder": lambda: formats.two_columns(formats.RUN_FOLDER, "file"),
    "journal": formats.journal_tables,
    "summary": formats.summary_columns,
    "manifest": lambda: formats.two_columns(formats.MANIFEST),
    "manifest-imported": lambda: formats.two_columns(formats.IMPORTED),
    "seal": lambda: formats.two_columns(formats.SEAL),
    "baseline": lambda: formats.two_columns(formats.BASELINE),
    "baseline-entry": lambda: formats.two_columns(formats.ENTRY),
}
# What a browser would fetch by itself; a link that a person may follow is none of these.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//|<link\b[^>]*\bhref=["']?(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import"""
)


def on_page_markdown(markdown: str, **_: Any) -> str:
    return filled(markdown)


def filled(markdown: str) -> str:
    """raises: KeyError for a marker that nothing is made for"""
    return re.sub(r"^<!-- made: ([\w-]+) -->$", lambda found: MADE[found[1]](), markdown, flags=re.M)


def on_post_build(config: Any, **_: Any) -> None:
    site = Path(config["site_dir"])
    with (site / "style.css").open("a", encoding="utf-8") as style:
        style.write(HtmlFormatter(style="default").get_style_defs(".highlight"))
    found = network_uses(site)
    if found:
        raise RuntimeError("the site must work offline, but fetches from the network:\n" + "\n".join(found))


def network_uses(site: Path) -> list[str]:
    """One line per page or style sheet that fetches something from another machine."""
    lines = []
    for path in sorted(site.rglob("*")):
        if path.suffix in (".html", ".css"):
            lines += [f"{path.relative_to(site)}: {found[0]}" for found in FETCHED.finditer(path.read_text(encoding="utf-8"))]
    return lines
