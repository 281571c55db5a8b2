"""Accuracy against stored bytes over ranks: which variants share a line, and a picture of as many as there are."""

from __future__ import annotations

import itertools

from toy_report import quantize, report, train

from fercompress.report.ranks import accuracy_bytes_ranks, lines


def many(ranks: tuple[int, ...], starts: tuple[str, ...], bits: tuple[int, ...]) -> dict:
    variants: dict = {"dense": {"stored_bytes": 1_000_000}}
    for start, rank, bit in itertools.product(starts, ranks, bits):
        recipe = [train(rank, start), *(quantize(bit) if bit < 32 else [])]
        variants[f"{start}-r{rank}-{bit}"] = {"recipe": recipe, "stored_bytes": 1000 * rank * bit + 5000, "wrong": range(10 - rank % 10)}
    variants["bottleneck-r4"] = {"recipe": [{"step": "bottleneck", "rank": 4}], "stored_bytes": 500_000_000}
    return variants


def test_a_line_holds_what_differs_in_rank_alone_by_rising_rank() -> None:
    given = report(many((8, 2), ("decompose", "from-scratch"), (32, 8)))
    found = lines(given.rows, given.recipes)
    assert [(line.way, line.bits, [row["tt_rank"] for row in line.rows]) for line in found] == [
        ("from-scratch", (32, 32), [2, 8]), ("from-scratch", (8, 8), [2, 8]), ("decomposed", (32, 32), [2, 8]), ("decomposed", (8, 8), [2, 8]),
    ]  # fmt: skip


def test_layouts_never_share_a_line() -> None:
    given = report({"dense": {}, "a": {"recipe": [train(2)]}, "b": {"recipe": [train(4) | {"layout": "balanced"}]}})
    assert len(lines(given.rows, given.recipes)) == 2


def test_one_rank_makes_no_picture() -> None:
    assert accuracy_bytes_ranks(report(many((4,), ("decompose",), (32, 8))), "here") is None


def test_seventy_two_points_are_drawn_by_way_and_bits_and_all_are_told_in_words() -> None:
    drawn = accuracy_bytes_ranks(report(many((1, 2, 3, 4, 6, 8, 12, 16), ("from-scratch", "decompose", "data-aware"), (32, 8, 4))), "here")
    assert drawn is not None
    assert drawn.alt.count("rank ") == 72
    assert "decomposed at all int4: rank 1 " in drawn.alt
    assert "221 times fewer bytes" in drawn.caption
    assert "At the right edge, larger than the axis reaches: bottleneck-r4 (500 MB)." in drawn.caption
    assert "Pale lines" in drawn.caption


def test_few_points_share_a_panel_per_way() -> None:
    drawn = accuracy_bytes_ranks(report(many((2, 4), ("decompose",), (32, 8))), "here")
    assert drawn is not None
    assert "Pale lines" not in drawn.caption
