"""The agent's engine against the host's own arithmetic; the rest of the agent is tested in tests/agent, under the Pythons of boards."""

import os

import numpy as np
import onnxruntime
import pytest
import tiny_bundle
from fercompress_agent import Problem, timing
from fercompress_agent.engines import ENGINES, OnnxRuntime, OnnxRuntimeC, fits, make, missing
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fercompress.records import Preprocess


@pytest.fixture(params=["onnxruntime", "onnxruntime-c"])
def engine(request, tmp_path):
    bundle = tiny_bundle.write(tmp_path / "bundle")
    engine = make(request.param, 1)
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


@given(arrays(np.uint8, (2, 3, 5)), st.floats(0, 1), st.floats(0.01, 2), st.booleans())
def test_the_engine_without_numpy_prepares_a_clip_bit_by_bit_as_the_host_does(frames, mean, std, difference):
    engine = OnnxRuntimeC(1)
    engine.start()
    manifest = {
        "extractor": {
            "file": "extractor.onnx",
            "input": {"name": "frame", "shape": [1, 1 + difference, 3, 5]},
            "output": {"name": "f", "shape": [1, 4]},
        },
        "predictor": {"input": {"name": "features", "shape": [1, 2, 4]}},
        "preprocess": {"mean": mean, "std": std, "difference": difference},
        "frames": 2,
    }
    engine._session = lambda *_: None
    engine.load_extractor("", manifest)
    found = np.array([np.frombuffer(source.floats, np.float32) for source, _ in engine.frames(frames.tobytes(), frames.shape)])
    assert np.array_equal(found, Preprocess(mean, std, difference)(frames).reshape(2, -1))


def test_features_survive_the_way_through_a_file(engine):
    frames = tiny_bundle.clips().frames
    joined = engine.join([engine.extract(frame) for frame in engine.frames(frames[0].tobytes(), (3, 4, 4))])
    wanted, kept = engine.numbers(engine.predict(joined)), engine.to_bytes(joined)
    assert np.abs(np.array(wanted) - tiny_bundle.logits_by_numpy(frames[:1])[0]).max() < 1e-5
    assert len(kept) == 4 * tiny_bundle.FRAMES * tiny_bundle.FEATURES
    other = engine.join([engine.extract(frame) for frame in engine.frames(frames[1].tobytes(), (3, 4, 4))])
    assert engine.numbers(engine.predict(other)) != wanted
    assert engine.numbers(engine.predict(engine.from_bytes(kept))) == wanted


def test_an_engine_tells_its_versions(engine):
    shared = {"onnxruntime": onnxruntime.__version__}
    assert engine.versions() in ({**shared, "numpy": np.__version__}, {**shared, "onnxruntime interface": "C"})


def test_a_graph_that_the_c_interface_cannot_load_is_a_problem_in_the_runtime_s_own_words(tmp_path):
    bundle = tiny_bundle.write(tmp_path / "bundle", predictor=b"no graph")
    engine = make("onnxruntime-c", 1)
    engine.start()
    with pytest.raises(Problem, match=r"onnxruntime: .*predictor\.onnx"):
        engine.load(str(bundle.folder), bundle.manifest)


def test_halves_of_one_language_pair_and_others_do_not():
    pairs = {f"{one}+{other}" for one in ENGINES for other in ENGINES if one != other and fits(one, other)}
    on_processor = {"onnxruntime+numpy", "stored+onnxruntime", "stored+onnxruntime-c", "stored+numpy", "stored+null"}
    assert pairs == on_processor | {f"{npu}+{other}" for npu in ("rknnlite", "rknn") for other in ("onnxruntime", "numpy")}
    for name, words in (
        ("numpy", "numpy runs no extractor: name a pair"), ("onnxruntime+stored", "stored runs no predictor"),
        ("null+numpy", "what null gives as features, numpy cannot read"), ("onnxruntime+tpu", "no engine named 'tpu'"),
    ):  # fmt: skip
        with pytest.raises(Problem, match=words.replace("+", r"\+")):
            make(name, 1)


def test_a_stream_gives_a_time_for_every_frame_but_those_of_the_clip_that_warms_up():
    class Counting:
        """A clock of one tick a look."""

        now = 0

        def __call__(self):
            self.now += 1
            return self.now

    seen = []

    class Model:
        def extract(self, frame):
            return frame * 10

        class second:  # noqa: N801
            @staticmethod
            def state():
                return 0

            @staticmethod
            def step(features, state):
                seen.append((features, state))
                return None, state + 1

    assert timing.time_stream(Model(), [[1, 2], [3, 4]], 2, Counting()) == [1] * 4
    assert seen == [(10, 0), (20, 1), (30, 0), (40, 1), (10, 0), (20, 1)]
    assert timing.time_stream(Model(), [[1, 2]], 0, Counting()) == []


def test_threads_are_as_asked_and_only_several_spin(tmp_path):
    bundle = tiny_bundle.write(tmp_path / "bundle")
    for threads, spinning in ((1, "0"), (2, "1")):
        engine = OnnxRuntime(threads)
        engine.start()
        engine.load_predictor(str(bundle.folder), bundle.manifest)
        options = engine.predictor.get_session_options()
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (threads, 1)
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == spinning
        assert engine.predictor.get_providers() == ["CPUExecutionProvider"]


def test_the_threads_of_an_engine_in_this_process_do_not_reach_the_next_test():
    """Follows one that asks for two: the environment is put back after every test."""
    assert "2" not in {os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def test_nothing_that_an_engine_here_needs_is_missing_but_the_npu_s_runtimes():
    npu = {"rknnlite": ["rknnlite"], "rknn": ["rknn"]}
    assert {name: missing(name) for name in ENGINES} == {name: npu.get(name, []) for name in ENGINES}
