"""What went wrong while a run was measured, and what was done about it: the blocks of a journal in, one line per fault met out."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fercompress.records import NOT_HERE, NOT_MADE, QUARANTINED, Status

_KEY = ["variant", "target", "pass", "seed", "fold", "round", "position", "settings_sha256", "bundle_sha256"]


def faults(blocks: pd.DataFrame) -> list[dict[str, Any]]:
    """blocks: `Tables.blocks`

    returns: {"variant", "target", "pass", "status", "reason", "times", "done"}, alike ones as one line, in the order of the first of each;
        the blocks that a variant misses which was quarantined, or not made, are one line, their passes joined
    """
    counted = blocks[blocks["counted"].astype(bool)]
    stands = {tuple(key): str(status) for *key, status in counted[[*_KEY, "status"]].itertuples(index=False)}
    quarantined = {
        (variant, target)
        for variant, target, reason in counted[["variant", "target", "reason"]].itertuples(index=False)
        if str(reason).startswith(QUARANTINED)
    }
    lines: dict[tuple[str, ...], dict[str, Any]] = {}
    for *key, status, reason, is_counted in blocks[[*_KEY, "status", "reason", "counted"]].itertuples(index=False):
        if str(reason).startswith(NOT_HERE):  # no fault: nobody asked that target for it
            continue
        if status == Status.OK or tuple(key) not in stands:  # what was measured of a bundle or with settings that are replaced tells nothing any more
            continue
        variant, target, pass_ = key[:3]
        left_out = str(reason).startswith((QUARANTINED, NOT_MADE))
        if is_counted:
            done = _standing(status, str(reason), (variant, target) in quarantined)
        else:
            done = "redone, and counted" if stands[tuple(key)] == Status.OK else "tried again, in vain"
        group = (variant, target, "" if left_out else pass_, status, reason, done)
        line = lines.setdefault(group, dict(zip(("variant", "target", "pass", "status", "reason", "done"), group, strict=True)) | {"times": 0})
        line["times"] += 1
        if left_out and pass_ not in line["pass"].split(", "):
            line["pass"] = f"{line['pass']}, {pass_}".removeprefix(", ")
    return list(lines.values())


def _standing(status: str, reason: str, quarantined: bool) -> str:
    """Of a block for which there is no better one."""
    if reason.startswith(QUARANTINED):
        return "left out; the same command tries again"
    if quarantined:
        return "the variant was quarantined"
    return "not measured" if status == Status.EXCLUDED else "none: the same command tries again"
