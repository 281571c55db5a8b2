"""Variants that are not measured: what was not made, or what a target does not run, in; the blocks that say so in the journal, as results, out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fercompress import config
from fercompress.assignment import Assignment
from fercompress.made import Unmade
from fercompress.measure.schedule import Bundles
from fercompress.records import NOT_HERE, Block, BlockKey, Pass, Status, digest


def blocks(
    study: config.Study, target: str, assignment: Assignment, bundles: Bundles, unmade: Mapping[str, Sequence[Unmade]], first: tuple[int, str]
) -> Iterator[Block]:
    """bundles, unmade: variant -> its bundles, and the seeds and folds that have none; first: the study's first seed and fold

    Where a target runs no bundle of a variant, every pass has one block; where only some seeds or folds are missing, accuracy has one for each.
    """
    passes = [Pass(name) for name in study.measure.passes]
    for variant in study.variants:
        there, missing = bundles.get(variant.name, ()), unmade.get(variant.name, ())
        sha256, place = (there[0].bundle.sha256, (there[0].seed, there[0].fold)) if there else ("", first)
        if reason := assignment.absent[target].get(variant.name):
            yield from (_block(variant.name, target, pass_, place, sha256, Status.EXCLUDED, reason) for pass_ in passes)
        elif missing and not there:
            yield from (_block(variant.name, target, pass_, place, sha256, Status.FAILED, missing[0].reason) for pass_ in passes)
        elif Pass.ACCURACY in passes:
            places = [((each.seed, each.fold.name), each.reason) for each in missing]
            yield from (_block(variant.name, target, Pass.ACCURACY, place, "", Status.FAILED, reason) for place, reason in places)


def passed_over(study: config.Study, target: str, bundles: Bundles, why: Mapping[str, str]) -> Iterator[Block]:
    """One block for each pass but accuracy of variants that are worth no more than that. why: by variant"""
    for name, (first, *_) in bundles.items():
        for pass_ in map(Pass, study.measure.passes):
            if pass_ is not Pass.ACCURACY:
                place = (first.seed, first.fold)
                yield _block(name, target, pass_, place, first.bundle.sha256, Status.EXCLUDED, f"{NOT_HERE}{why[name]}")


def _block(variant: str, target: str, pass_: Pass, place: tuple[int, str], sha256: str, status: Status, reason: str) -> Block:
    """Its settings are what it says: another reason, or another bundle, is another block."""
    return Block(BlockKey(variant, target, pass_, *place, 0, 0, digest("not measured", sha256, reason)), sha256, status, reason)
