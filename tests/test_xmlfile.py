"""XML from strangers: read, or refused in one line; nothing outside the file is opened and nothing in it multiplies."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fercompress.data import xmlfile
from fercompress.errors import DataError

LAUGHS = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><a>&c;</a>'


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        xmlfile.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_elements_attributes_and_text_are_read(tmp_path: Path):
    (tmp_path / "a.xml").write_text('<?xml version="1.0" encoding="ISO-8859-1"?><a><b c="é">text</b><b/></a>', encoding="latin-1")
    root = xmlfile.read(tmp_path / "a.xml")
    assert (root.tag, [(child.tag, child.get("c"), child.text) for child in root]) == ("a", [("b", "é", "text"), ("b", None, None)])


@pytest.mark.parametrize(
    "content", [LAUGHS, '<!DOCTYPE a [<!ENTITY b SYSTEM "secret.txt">]><a>&b;</a>', '<!DOCTYPE a [<!ENTITY % p SYSTEM "secret.txt"> %p;]><a/>']
)
def test_entities_are_refused(tmp_path: Path, content: str):
    (tmp_path / "secret.txt").write_text("secret")
    told = refused(tmp_path / "a.xml", content.encode())
    assert "declares entities" in told
    assert "secret" not in told.replace("secret.txt", "")


def test_a_doctype_alone_is_not_followed(tmp_path: Path):
    (tmp_path / "a.xml").write_text('<!DOCTYPE a SYSTEM "nowhere.dtd"><a b="1"/>')
    assert xmlfile.read(tmp_path / "a.xml").get("b") == "1"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no element found"),
        (b"<a>", "not well-formed XML"),
        (b"\xff\xfe\xfd", "not well-formed XML"),
        (b'<?xml version="1.0" encoding="no-such"?><a/>', "not well-formed XML"),
        (b"<a>" * 10_000 + b"</a>" * 10_000, "more than 50 deep"),
        (b"<a>" + b" " * xmlfile.LARGEST_BYTES + b"</a>", "an annotation has no more than"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, content: bytes, told: str):
    assert told in refused(tmp_path / "a.xml", content)


def test_a_file_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(DataError, match="No such file"):
        xmlfile.read(tmp_path / "a.xml")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.one_of(st.binary(max_size=60), st.text('<>/ab&;!"=[]x ', max_size=40).map(str.encode)))
@example(b"<a\x00/>")
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes):
    (tmp_path / "a.xml").write_bytes(content)
    try:
        assert xmlfile.read(tmp_path / "a.xml").tag
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017
