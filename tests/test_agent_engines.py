"""The agent's engine against the host's own arithmetic; the rest of the agent is tested in tests/agent, under the Pythons of boards."""

import numpy as np
import onnxruntime
import pytest
import tiny_bundle
from fercompress_agent.engines import ENGINES, OnnxRuntime, missing
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fercompress.records import Preprocess


@pytest.fixture
def engine(tmp_path):
    bundle = tiny_bundle.write(tmp_path / "bundle")
    engine = OnnxRuntime(1)
    engine.start()
    engine.load(str(bundle.folder), bundle.manifest)
    return engine


@given(
    arrays(np.uint8, st.tuples(*[st.integers(1, 4)] * 3)),
    st.floats(0, 1),
    st.floats(0.01, 2),
    st.booleans(),
)
def test_the_agent_prepares_a_clip_bit_by_bit_as_the_host_does(frames, mean, std, difference):
    engine = OnnxRuntime(1)
    engine.numpy = np
    engine.preprocess = {"mean": mean, "std": std, "difference": difference}
    found = engine.frames(frames.tobytes(), frames.shape)
    expected = Preprocess(mean, std, difference)(frames)
    assert [frame.shape for frame in found] == [(1, *expected.shape[1:])] * len(frames)
    assert np.array_equal(np.concatenate(found), expected)
    assert all(frame.dtype == np.float32 and frame.flags.c_contiguous for frame in found)


def test_features_survive_the_way_through_a_file(engine):
    clip = engine.frames(tiny_bundle.clips().frames[0].tobytes(), (3, 4, 4))
    joined = engine.join([engine.extract(frame) for frame in clip])
    assert joined.shape == (1, tiny_bundle.FRAMES, tiny_bundle.FEATURES)
    again = engine.from_bytes(engine.to_bytes(joined))
    assert np.array_equal(again, joined)
    assert engine.numbers(engine.predict(again)) == engine.numbers(engine.predict(joined))


def test_an_engine_tells_its_versions(engine):
    assert engine.versions() == {"numpy": np.__version__, "onnxruntime": onnxruntime.__version__}


def test_threads_are_as_asked_and_only_several_spin(tmp_path):
    bundle = tiny_bundle.write(tmp_path / "bundle")
    for threads, spinning in ((1, "0"), (2, "1")):
        engine = OnnxRuntime(threads)
        engine.start()
        engine.load(str(bundle.folder), bundle.manifest)
        options = engine.predictor.get_session_options()
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (threads, 1)
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == spinning
        assert engine.predictor.get_providers() == ["CPUExecutionProvider"]


def test_nothing_that_an_engine_here_needs_is_missing():
    assert {name: missing(name) for name in ENGINES} == {"onnxruntime": [], "null": []}
