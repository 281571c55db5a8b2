"""One summary row in the making: what was measured of a variant on a target, or the reason why it is not known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from fercompress.records import NOT_HERE, NOT_MADE, Doubt, Pass, Status
from fercompress.results.tables import Tables


@dataclass
class Row:
    """values: by column; reasons: why a column is None; doubts: why numbers are weaker than they look."""

    tables: Tables
    variant: str
    target: str
    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    doubts: set[Doubt] = field(default_factory=set)

    @property
    def baseline(self) -> str:
        return str(self.tables.study["baseline"])

    @property
    def is_baseline(self) -> bool:
        return self.variant == self.baseline

    def put(self, **columns: Any) -> None:
        self.values.update(columns)

    def lack(self, reason: str, *columns: str) -> None:
        for column in columns:
            self.values[column] = None
            self.reasons[column] = reason

    def blocks(self, pass_: Pass, variant: str | None = None) -> pd.DataFrame:
        """The counted blocks of a pass on this target, failed ones too."""
        blocks = self.tables.blocks
        mine = (blocks["variant"] == (variant or self.variant)) & (blocks["target"] == self.target) & (blocks["pass"] == str(pass_))
        return blocks[mine & blocks["counted"]]

    def finished(self, pass_: Pass, variant: str | None = None) -> pd.DataFrame:
        blocks = self.blocks(pass_, variant)
        return blocks[blocks["status"] == str(Status.OK)]

    @property
    def absent(self) -> str:
        """Why nothing was tried of it on this target: it was not made, or the target does not run it; "" where something was."""
        blocks = self.tables.blocks
        mine = blocks[(blocks["variant"] == self.variant) & (blocks["target"] == self.target) & blocks["counted"]]
        reasons = [str(reason) for reason in mine["reason"]]
        return reasons[-1] if reasons and all(reason.startswith((NOT_HERE, NOT_MADE)) for reason in reasons) else ""

    def why_not(self, pass_: Pass) -> str:
        """Why there is no finished block of a pass."""
        blocks = self.blocks(pass_)
        if len(blocks):
            told = str(blocks["reason"].iloc[-1])
            if told.startswith((NOT_HERE, NOT_MADE)):  # nothing was tried
                return told
            return f"{len(blocks)} of {len(blocks)} blocks did not finish: {told}"
        if reason := self.tables.study.get("lacking", {}).get(str(pass_)):
            return str(reason)
        asked = self.tables.study.get("measure", {}).get("passes")
        return f"the study does not ask for the {pass_} pass" if asked is not None and str(pass_) not in asked else "not measured yet"
