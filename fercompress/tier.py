"""How much is timed: a tier's name in; a block's length, the rounds at which verdicts are tried, and a study's settings out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fercompress.config import Measure

BLOCKS_PER_ROUND = 2  # of each variant: an order and its mirror
LOOKS = (8, 12, 16, 24)  # rounds in all, after which a verdict is tried


@dataclass(frozen=True)
class Tier:
    """How much is timed of each variant at the least, in total over the blocks of the first look's rounds."""

    clips: int
    seconds: float

    def settings(self, asked: Measure, rounds: int, first: int = LOOKS[0]) -> Measure:
        """first: rounds of the first look, over whose blocks the totals are spread; later blocks are as long, or they were not alike"""
        blocks = BLOCKS_PER_ROUND * first
        return asked.model_copy(update={"rounds": rounds, "block_clips": math.ceil(self.clips / blocks), "block_s": self.seconds / blocks})


TIERS: Mapping[str, Tier] = {"smoke": Tier(64, 6.0), "quick": Tier(128, 10.0), "full": Tier(1024, 60.0), "soak": Tier(1024, 600.0)}
