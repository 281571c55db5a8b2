"""Clips that are ready, one by one in a file: what was appended comes back, and a file that ends anywhere keeps its whole clips."""

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fercompress.data import prepared
from fercompress.data.prepared import Prepared


@st.composite
def clips(draw):
    rows = draw(st.integers(0, 3))
    frames = np.frombuffer(draw(st.binary(min_size=rows * 8, max_size=rows * 8)), np.uint8).reshape(rows, 2, 2, 2)
    rates = tuple(draw(st.lists(st.floats(0, 1), min_size=rows, max_size=rows)))
    return Prepared(draw(st.integers(0, 10**6)), draw(st.text()), draw(st.text()), frames, rates, tuple(draw(st.lists(st.text(), max_size=2))))


def told(clip):
    return clip.number, clip.clip_id, clip.label, clip.frames.shape, clip.frames.tobytes(), clip.face_rates, clip.reasons


@given(st.lists(clips(), max_size=4), st.data())
def test_every_whole_clip_of_a_file_that_ends_anywhere_comes_back_as_it_was(written, data):
    file, ends = io.BytesIO(), [0]
    for clip in written:
        prepared.append(file, clip)
        ends.append(file.tell())
    end = data.draw(st.integers(0, ends[-1]))
    cut = io.BytesIO(file.getvalue()[:end])
    found = list(prepared.read(cut))
    assert list(map(told, found)) == list(map(told, written[: len(found)]))
    assert cut.tell() == max(place for place in ends if place <= end)


@given(st.lists(clips(), min_size=1, max_size=3, unique_by=lambda clip: clip.number), st.data())
def test_a_changed_byte_is_never_taken_for_a_clip(written, data):
    file = io.BytesIO()
    for clip in written:
        prepared.append(file, clip)
    content = bytearray(file.getvalue())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    found = list(prepared.read(io.BytesIO(bytes(content))))
    assert list(map(told, found)) == list(map(told, written[: len(found)]))
    assert len(found) < len(written)


@given(st.binary(max_size=200))
def test_any_other_file_holds_no_clip(content):
    assert list(prepared.read(io.BytesIO(content))) == []
