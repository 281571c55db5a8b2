"""What was found, as a person reads it: counts beside published ones, reasons instead of hundreds of lines."""

from hypothesis import given
from hypothesis import strategies as st

from fercompress.data import inventory
from fercompress.records import LeftOut


def test_found_and_published_stand_side_by_side():
    assert inventory.counts({"sequences": 590, "anger": 45, "own": 3}, {"sequences": 593, "anger": 45, "fear": 25}) == [
        "           found  published",
        "sequences    590        593",
        "anger         45         45",
        "own            3          -",
        "fear           -         25",
    ]


def test_without_published_counts_there_is_no_column_for_them():
    assert inventory.counts({"clips": 12}, {}) == ["       found", "clips     12"]


def test_clips_of_one_reason_are_one_line():
    rows = [LeftOut(f"S{number:03d}/001", "no emotion label") for number in range(266)]
    assert inventory.by_reason(rows) == ["266  no emotion label: S000/001, S001/001, S002/001, S003/001 and 262 more"]


def test_reasons_that_differ_in_names_and_numbers_are_of_one_kind():
    rows = [LeftOut("a", "the same bytes as S005/001"), LeftOut("b", "no emotion label"), LeftOut("c", "the same bytes as S010/002")]
    assert inventory.by_reason(rows) == [
        "2  the same bytes as ...: a (the same bytes as S005/001); c (the same bytes as S010/002)",
        "1  no emotion label: b",
    ]


def test_a_reason_that_one_clip_has_is_told_in_full():
    assert inventory.by_reason([LeftOut("7/a", "emotion 9 is none of the six basic ones")]) == ["1  emotion 9 is none of the six basic ones: 7/a"]


def test_nothing_left_out_is_no_line():
    assert inventory.by_reason([]) == []


@given(st.lists(st.builds(LeftOut, st.text(max_size=5), st.text(min_size=1, max_size=20)), max_size=30))
def test_every_clip_is_counted_once(rows: list[LeftOut]):
    assert sum(int(line.split("  ")[0]) for line in inventory.by_reason(rows)) == len(rows)
