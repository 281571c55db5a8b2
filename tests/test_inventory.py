"""What was found, as a person reads it: counts beside published ones, reasons instead of hundreds of lines."""

from hypothesis import HealthCheck, given, settings
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
    assert inventory.by_reason(rows) == ["266  no emotion label  [S000/001, S001/001, S002/001, S003/001 and 262 more]"]


def test_reasons_that_differ_in_names_and_numbers_are_of_one_kind():
    rows = [LeftOut("a", "the same bytes as S005/001"), LeftOut("b", "no emotion label"), LeftOut("c", "the same bytes as S010/002")]
    assert inventory.by_reason(rows) == [
        "2  the same bytes as ...  [a: the same bytes as S005/001; c: the same bytes as S010/002]",
        "1  no emotion label  [b]",
    ]


def test_a_reason_that_one_clip_has_is_told_in_full():
    assert inventory.by_reason([LeftOut("7/a", "emotion 9 is none of the six basic ones")]) == ["1  emotion 9 is none of the six basic ones  [7/a]"]


def test_the_file_that_a_reason_begins_with_is_no_kind_of_its_own():
    rows = [
        LeftOut(name, f"/my data/{name}.avi: ends early ({size} of 900 bytes are there); 3 frames decoded") for name, size in (("a", 10), ("b", 70))
    ]
    (line,) = inventory.by_reason(rows)
    assert line.startswith("2  ends early ...  [a: /my data/a.avi: ends early (10 of 900 bytes are there)")


def test_nothing_left_out_is_no_line():
    assert inventory.by_reason([]) == []


REASONS = st.text("ab1 :;('\"./é\n", min_size=1, max_size=12)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.builds(LeftOut, st.sampled_from("abc"), REASONS.filter(str.strip)), max_size=12))
def test_every_clip_is_counted_once(rows: list[LeftOut]):
    assert sum(int(line.lstrip().split("  ")[0]) for line in inventory.by_reason(rows)) == len(rows)
