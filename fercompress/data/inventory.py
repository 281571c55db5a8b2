"""What a reader found, to be read by a person: counts, remarks and what was left out in, lines of text out.

Of hundreds of clips that are left out for one reason, a few are named; a reason that only one clip has is told in full.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from fercompress.records import LeftOut

NAMED = 4  # clips of a group


def counts(found: Mapping[str, int], published: Mapping[str, int]) -> list[str]:
    """What is on disk beside what the data set's own description counts; "-" where it does not say."""
    rows = [("", "found", "published" if published else "")]
    rows += [(name, str(count), str(published.get(name, "-")) if published else "") for name, count in found.items()]
    rows += [(name, "-", str(count)) for name, count in published.items() if name not in found]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [f"{name:<{widths[0]}}  {here:>{widths[1]}}  {there:>{widths[2]}}".rstrip() for name, here, there in rows]


def by_reason(rows: Sequence[LeftOut]) -> list[str]:
    """A line for each reason, the most frequent first: how many clips, the reason, some of them."""
    groups: defaultdict[str, list[LeftOut]] = defaultdict(list)
    for row in rows:
        groups[_kind(row.reason)].append(row)
    width = max((len(str(len(group))) for group in groups.values()), default=0)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [f"{len(group):>{width}}  {_line(kind, group)}" for kind, group in ordered]


def _line(kind: str, group: list[LeftOut]) -> str:
    more = f" and {len(group) - NAMED} more" if len(group) > NAMED else ""
    if len({row.reason for row in group}) == 1:
        return f"{group[0].reason}  [{', '.join(row.clip for row in group[:NAMED])}{more}]"
    return f"{kind} ...  [{'; '.join(f'{row.clip}: {row.reason}' for row in group[:NAMED])}{more}]"


def _kind(reason: str) -> str:
    """A reason without what belongs to one clip: the file that it begins with; names with digits in them, numbers, quotes, and all that follows."""
    what = re.sub(r"^[^:]*[/.][^:]*: ", "", reason)
    told = re.split(r"[:;('\"]|\S*\d", what, maxsplit=1)[0].strip(" ,")
    return told or reason
