"""What is packed on one machine is the same folder on another; nothing is written outside it, and nothing that is there is touched."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fercompress.errors import InputError
from fercompress.parcel import packed, unpack

NAMES = st.text("abc-._0", min_size=1, max_size=8).filter(lambda name: name not in (".", ".."))
TREES = st.dictionaries(st.tuples(st.sampled_from(["work", "bundles"]), NAMES, NAMES), st.binary(max_size=40), max_size=8)


@given(TREES)
def test_a_parcel_unpacks_to_the_same_files(tmp_path_factory: pytest.TempPathFactory, tree: dict[tuple[str, ...], bytes]) -> None:
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    for parts, content in tree.items():
        file = first.joinpath(*parts)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    parcel = packed(first, [first / "work", first / "bundles", first / "work/none"])
    assert parcel == {"/".join(parts): content for parts, content in tree.items()}
    unpack(parcel, second)
    assert packed(second, [second / "work", second / "bundles"]) == parcel


def test_single_files_are_packed_too(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/bundle-1.json").write_text("{}")
    unpack(packed(tmp_path, [tmp_path / "work/bundle-1.json"]), tmp_path / "other")
    assert (tmp_path / "other/work/bundle-1.json").read_text() == "{}"


def test_what_is_there_stays_and_half_a_folder_never_is(tmp_path: Path) -> None:
    (tmp_path / "work/teacher-1").mkdir(parents=True)
    (tmp_path / "work/.arriving-teacher-2").mkdir()
    (tmp_path / "work/.arriving-teacher-2/junk").write_text("of a host that died")
    unpack({"work/teacher-1/new": b"1", "work/teacher-2/a": b"2"}, tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "work",
        "work/teacher-1",
        "work/teacher-2",
        "work/teacher-2/a",
    ]


@pytest.mark.parametrize("name", ["/etc/passwd", "../x/y", "work/../../x", "work/a/../../../b", "results.sqlite", ""])
def test_a_path_that_leaves_the_folder_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    root = tmp_path / "run"
    with pytest.raises(InputError, match="no path inside the run's folder"):
        unpack({"work/good/file": b"", name: b"x"}, root)
    assert not root.exists()
    assert list(tmp_path.iterdir()) == []
