"""The agent's NPU engines and its whole jobs, against strict stand-ins for RKNNLite and RKNN; no board is in it."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fercompress_agent import Problem
from fercompress_agent.engine_rknn import RknnLite, parsed
from fercompress_agent.engines import make
from onnx import TensorProto, helper, numpy_helper
from stand_in import FAKE
from torch import nn

from fercompress.export import onnx_file, rknn_file
from fercompress.export.rknn_file import Converted, Converter, Rounding, convert
from fercompress.records import Preprocess

ROOT = Path(__file__).parents[1]
FRAMES, SIDE, CLASSES = 3, 8, ("calm", "glad", "sad")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """{difference: (folder, manifest, extractor's graph, predictor's weight, uint8 clips)}, each extractor converted to fp16."""
    root = tmp_path_factory.mktemp("npu")
    python = root / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{FAKE}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    made = {}
    for difference in (False, True):
        torch.manual_seed(0)
        preprocess = Preprocess(0.4, 0.25, difference)
        net = nn.Sequential(nn.Conv2d(preprocess.channels, 4, 3, 2, 1), nn.ReLU()).eval()
        graph = onnx_file.extractor_model(net, preprocess.channels, SIDE, opset=rknn_file.OPSET)
        clips = np.random.default_rng(0).integers(0, 256, (4, FRAMES, SIDE, SIDE), dtype=np.uint8)
        folder = root / f"bundle-{difference}"
        converted = convert(graph, clips, preprocess, Rounding("fp16"), Converter(str(python)), root / f"work-{difference}")
        assert isinstance(converted, Converted), converted
        folder.mkdir()
        converted.path.rename(folder / "extractor.rknn")
        features = graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value
        weight = np.random.default_rng(1).normal(size=(features, len(CLASSES))).astype(np.float32)
        (folder / "predictor.onnx").write_bytes(predictor(weight, features))
        manifest = {
            "schema": 1, "variant": "npu", "engine": "rknnlite+onnxruntime", "classes": list(CLASSES), "frames": FRAMES, "size": SIDE,
            "files": {
                path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size} for path in folder.iterdir()
            },
            "preprocess": {"mean": 0.4, "std": 0.25, "difference": difference},
            "extractor": {
                "file": "extractor.rknn",
                "input": {"name": "frame", "shape": [1, preprocess.channels, SIDE, SIDE], "dtype": converted.input_dtype, "layout": "nhwc"},
                "output": {"name": "features", "shape": [1, features], "dtype": "float32"},
            },
            "predictor": {
                "file": "predictor.onnx",
                "input": {"name": "features", "shape": [1, FRAMES, features], "dtype": "float32"},
                "output": {"name": "logits", "shape": [1, len(CLASSES)], "dtype": "float32"},
            },
        }  # fmt: skip
        (folder / "manifest.json").write_text(json.dumps(manifest, sort_keys=True))
        with torch.no_grad():
            pixels = torch.from_numpy(preprocess(clips)).flatten(0, 1)
            features_by_torch = net(pixels).permute(0, 2, 3, 1).reshape(len(clips), FRAMES, -1).numpy()
        made[difference] = (folder, manifest, clips, features_by_torch.mean(1) @ weight)
    return made


def predictor(weight, features):
    nodes = [
        helper.make_node("ReduceMean", ["features"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["logits"]),
    ]
    source = helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, FRAMES, features])
    target = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(CLASSES)])
    graph = helper.make_graph(nodes, "p", [source], [target], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def started(name, bundle, for_memory=False):
    engine = make(name, 1)
    engine.start()
    engine.first.for_memory = for_memory
    engine.load(str(bundle[0]), bundle[1])
    return engine


def logits_of(engine, clip):
    return engine.numbers(engine.predict(engine.join([engine.extract(frame) for frame in engine.frames(clip.tobytes(), clip.shape)])))


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize("difference", [False, True], ids=["pixels", "difference"])
@pytest.mark.parametrize("npu", ["rknnlite", "rknn"])
def test_an_extractor_on_the_npu_and_a_predictor_on_the_processor_answer_as_torch_does(bundles, npu, difference):
    engine = started(f"{npu}+onnxruntime", bundles[difference])
    found = np.array([logits_of(engine, clip) for clip in bundles[difference][2]])
    # The stand-in's fp16 weights have 11 bits.
    assert np.abs(found - bundles[difference][3]).max() < 2e-3 * np.abs(bundles[difference][3]).max()
    assert "FAKE" in engine.versions()["npu"]
    assert "\n" not in engine.versions()["npu"]
    engine.first.release()


@pytest.mark.usefixtures("board")
def test_pixels_go_over_the_link_as_one_byte_each(bundles):
    for difference, dtype, channels in ((False, np.uint8, 1), (True, np.float32, 2)):
        engine = started("rknnlite+onnxruntime", bundles[difference])
        clip = bundles[difference][2][0]
        frames = engine.frames(clip.tobytes(), clip.shape)
        assert [(frame.dtype, frame.shape) for frame in frames] == [(dtype, (1, SIDE, SIDE, channels))] * FRAMES
        assert all(frame.flags.c_contiguous for frame in frames)


@pytest.mark.usefixtures("board")
def test_a_second_file_in_one_process_gives_the_first_context_back(bundles):
    engine = started("rknnlite+onnxruntime", bundles[True])
    first = engine.first.runtime
    engine.load(str(bundles[False][0]), bundles[False][1])
    assert first.released
    assert not engine.first.runtime.released
    engine.first.release()
    engine.first.release()
    assert engine.first.runtime is None


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize(("answer", "words"), [("none", "inference gave nothing"), ("zeros", "zeros for every frame of a clip")])
def test_an_npu_that_gives_nothing_is_a_problem(bundles, monkeypatch, answer, words):
    engine = started("rknnlite+onnxruntime", bundles[True])
    monkeypatch.setenv("FAKE_RKNN_ANSWER", answer)
    with pytest.raises(Problem, match=words):
        logits_of(engine, bundles[True][2][0])


@pytest.mark.usefixtures("board")
def test_no_npu_and_a_file_that_is_none_are_problems(bundles, monkeypatch, tmp_path):
    (tmp_path / "extractor.rknn").write_bytes(b"RKNN of another make")
    with pytest.raises(Problem, match=r"RKNNLite\.load_rknn failed with -1"):
        started("rknnlite+numpy", (tmp_path, bundles[True][1]))
    monkeypatch.setenv("FAKE_RKNN_BOARD", "0")
    with pytest.raises(Problem, match="no NPU found"):
        started("rknnlite+onnxruntime", bundles[True])
    with pytest.raises(Problem, match=r"RKNN\.init_runtime failed with -1"):
        started("rknn+onnxruntime", bundles[True])


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize(("kind", "ns"), [("dict", 5438980), ("text", 5438980), ("printed", 5438980), ("nothing", None)])
def test_the_full_toolkit_tells_the_npu_s_own_time_however_it_says_it(bundles, monkeypatch, capsys, kind, ns):
    monkeypatch.setenv("FAKE_RKNN_PERF", kind)
    found = started("rknn+onnxruntime", bundles[True]).own_facts()["npu_ns"]
    assert found == ns if ns else found.startswith("n/a: eval_perf told no time")
    assert "Average" not in capsys.readouterr().out


def test_times_are_read_from_both_forms_that_are_printed():
    detailed = "Layer ID  Name  Operator  Uid  Time(us)\n0  conv  CONVOLUTION  1  120\nTotal Time(us): 36700\nFPS: 27.25\n"
    assert parsed(None, detailed) == 36700
    assert parsed({"layers": {}}, "") is None
    assert parsed("no time here", "Average inference Time(us): 12.5") == 12.5


@pytest.mark.usefixtures("board")
def test_memory_of_the_npu_is_told_by_the_full_toolkit_alone_and_only_if_asked_before(bundles):
    found = started("rknn+onnxruntime", bundles[True], for_memory=True).own_facts()
    assert found["npu_memory"]["npu_memory"] == {"maximum_allocation": 2000, "total_allocation": 2500}
    assert started("rknnlite+onnxruntime", bundles[True], for_memory=True).own_facts()["npu_memory"].startswith("n/a: RKNNLite has neither")
    assert started("rknnlite+onnxruntime", bundles[True]).own_facts()["npu_ns"].startswith("n/a: RKNNLite has neither")


def test_the_npu_s_half_runs_no_predictor():
    with pytest.raises(Problem, match="rknnlite runs no predictor: name a pair"):
        make("rknnlite", 1)
    assert RknnLite.parts == ("extractor",)


def job(bundles, tmp_path, engine, **settings):
    """The agent's own job in a process that plays the board; returns what it answers."""
    folder, _, clips, _ = bundles[True]
    np.save(tmp_path / "clips.npy", clips)
    asked = {
        "engine": engine, "threads": 1, "bundle": str(folder), "clips": str(tmp_path / "clips.npy"), "rows": [0, 1, 2, 3],
        "bundle_sha256": hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest(),
        "clips_sha256": hashlib.sha256((tmp_path / "clips.npy").read_bytes()).hexdigest(), **settings,
    }  # fmt: skip
    code = (
        "import json, sys\nfrom fercompress_agent import jobs\nanswer = jobs.run(json.loads(sys.argv[1]), 0)\n"
        "json.dump(answer, open('answer.json', 'w'))\n"
    )
    paths = os.pathsep.join([str(FAKE), str(ROOT / "remote")])
    environment = {**os.environ, "PYTHONPATH": paths, "FAKE_RKNN_BOARD": "1"}
    subprocess.run([sys.executable, "-c", code, json.dumps(asked)], cwd=tmp_path, env=environment, check=True)
    return json.loads((tmp_path / "answer.json").read_text())


def test_whole_jobs_run_on_the_npu_and_say_what_it_told(bundles, tmp_path):
    found = job(bundles, tmp_path, "rknnlite+numpy", job="probe")["engines"]
    assert {"rknnlite", "rknn", "rknnlite+onnxruntime", "rknn+numpy"} <= set(found)
    found = job(bundles, tmp_path, "rknn+onnxruntime", job="accuracy", logits="logits.npy")
    logits = np.load(tmp_path / "logits.npy")
    assert np.abs(logits - bundles[True][3]).max() < 2e-3 * np.abs(bundles[True][3]).max()
    timing = {"warmup_clips": 1, "warmup_cap_s": 1, "block_clips": 4, "block_s": 0.01}
    found = job(bundles, tmp_path, "rknn+onnxruntime", job="latency", **timing)
    assert found["facts"]["npu_ns"] == 5438980
    assert "FAKE" in found["facts"]["engine"]["npu"]
    assert len(found["frame_ns"]) == FRAMES * len(found["clip_ns"]) >= 4 * FRAMES
    found = job(bundles, tmp_path, "rknn+onnxruntime", job="memory")
    assert found["facts"]["npu_memory"]["total_memory"]["maximum_allocation"] == 3000
