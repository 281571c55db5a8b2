"""What makes the page interactive: its own script, plotly's, and the data that they draw, as one file can carry them out.

plotly's script is 4.8 MB of text: it travels compressed, and the page inflates it when it is opened. A browser that cannot do so shows the page as it
is without scripts. No script runs but these: the page's policy names their sha256.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scripts:
    """page: the text of page.js; plotly: a data URI of its zlib-compressed script; sources: for the policy's script-src"""

    page: str
    plotly: str
    sources: str


@functools.cache
def scripts() -> Scripts:
    templates = importlib.resources.files("fercompress_templates")
    page = "\n".join(templates.joinpath(name).read_text(encoding="utf-8") for name in ("page.js", "budget.js"))
    plotly = importlib.resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    packed = base64.b64encode(zlib.compress(plotly, 9)).decode("ascii")
    return Scripts(page, f"data:application/zlib;base64,{packed}", f"{_source(page.encode())} {_source(plotly)}")


def _source(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode('ascii')}'"


def json_element(content: Mapping[str, Any]) -> str:
    """JSON that no name in it can break out of: the element's end, comments and line separators are written as escapes."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
