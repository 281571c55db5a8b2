"""Onset-apex-offset coding of MMI: an `-oao_aucs.xml` in, the clip's moments out.

`<ActionUnit Number="12"><Marker Frame="9" Type="2"/>...`: from that frame (the first is 1) on, the unit is at rest (0), in its onset (1), at its apex
(2) or in its offset (3). A clip's apex is where most of its units are at theirs together; the longest such stretch, of equals the first.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from xml.etree.ElementTree import Element

from fercompress.data import xmlfile
from fercompress.data.listing import Moments
from fercompress.errors import DataError

REST, ONSET, APEX, OFFSET = range(4)
LONGEST = 100_000  # frames; a marker beyond is damage

Phase = tuple[int, int, int]  # kind, first frame, frame after the last; from 0


def moments(path: Path) -> tuple[Moments | None, str]:
    """(moments, "") or (None, what is wrong); (None, "") where the file is not there, or codes no apex."""
    if not path.is_file():
        return None, ""
    try:
        phases = [phase for unit in xmlfile.read(path).iter("ActionUnit") for phase in _phases(unit)]
    except DataError as error:
        return None, f"onset, apex and offset are not used: {str(error).replace(f'{path.parent}/', '')}"
    except ValueError as error:
        return None, f"onset, apex and offset are not used: {path.name}: {error}"
    apex = _together([(first, stop) for kind, first, stop in phases if kind == APEX])
    if apex is None:
        return None, ""
    onset = min([first for kind, first, _ in phases if kind == ONSET] + [apex[0]])
    offset = max([stop - 1 for kind, _, stop in phases if kind == OFFSET] + [apex[1]])
    return Moments(onset, *apex, offset), ""


def _phases(unit: Element) -> list[Phase]:
    """One unit's, in order; the last one, which nothing ends, is a frame long. raises: ValueError"""
    markers = sorted({(_number(marker, "Frame") - 1, _number(marker, "Type")) for marker in unit.iter("Marker")})
    for frame, kind in markers:
        if not 0 <= frame < LONGEST or kind > OFFSET:
            raise ValueError(f"a marker of type {kind} at frame {frame + 1}")
    ends = [frame for frame, _ in markers[1:]] + [markers[-1][0] + 1 if markers else 0]
    return [(kind, first, stop) for (first, kind), stop in zip(markers, ends, strict=False) if stop > first]


def _number(marker: Element, name: str) -> int:
    text = marker.get(name, "").strip()
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise ValueError(f"a marker's {name} is {text[:20]!r}")
    return int(text)


def _together(spans: list[tuple[int, int]]) -> tuple[int, int] | None:
    """First and last frame of the longest stretch that the most spans share."""
    edges = sorted({edge for span in spans for edge in span})
    pieces = [(sum(first <= start and end <= stop for first, stop in spans), start, end) for start, end in itertools.pairwise(edges)]
    if not pieces:
        return None
    most = max(count for count, _, _ in pieces)
    stretches: list[list[int]] = []
    for count, start, end in pieces:
        if count == most and stretches and stretches[-1][1] == start:
            stretches[-1][1] = end
        elif count == most:
            stretches.append([start, end])
    start, end = max(stretches, key=lambda stretch: (stretch[1] - stretch[0], -stretch[0]))
    return start, end - 1
