"""Conversion to .rknn through the real script, in a process of its own, against a strict stand-in for the toolkit that has no board in it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from stand_in import FAKE
from torch import nn

from fercompress import config
from fercompress.compress import lowrank
from fercompress.errors import InputError, ShapeError
from fercompress.export import onnx_file, rknn_file, rknn_toolkit
from fercompress.export.rknn_file import Converted, Converter, Rounding, Unconvertible, convert, ready
from fercompress.export.rknn_operators import LIMITS, ONNX_1_6, refusals
from fercompress.model import zoo
from fercompress.records import Preprocess

PLAIN, DIFFERENCE = Preprocess(0.4, 0.25, False), Preprocess(0.4, 0.25, True)


@pytest.fixture
def python(tmp_path):
    """A Python that has the toolkit: the stand-in's folder is on its path, this process knows nothing of it."""

    def made(version="1.7.5", before=""):
        path = tmp_path / "rknn-python"
        path.write_text(f'#!/bin/sh\nexport PYTHONPATH="{FAKE}" FAKE_RKNN_TOOLKIT={version}\n{before}\nexec "{sys.executable}" "$@"\n')
        path.chmod(0o755)
        return Converter(str(path), version if version != "1.6.0" else "1.7.0")

    return made


def extractor(channels=2, size=16, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(channels, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, 2, 1), nn.ReLU())
    return onnx_file.extractor_model(net.eval(), channels, size, opset=rknn_file.OPSET)


def clips(n=6, frames=4, size=16):
    return np.random.default_rng(0).integers(0, 256, (n, frames, size, size), dtype=np.uint8)


def by_file(path, inputs, data_type, tmp_path):
    """Features from the stand-in's runtime, in another process that plays the board: float32 (N, D)."""
    np.save(tmp_path / "given.npy", inputs)
    code = (
        "import numpy as np, sys\nfrom rknnlite.api import RKNNLite\nlite = RKNNLite()\n"
        "assert lite.load_rknn(sys.argv[1]) == 0 and lite.init_runtime() == 0\n"
        "np.save('found.npy', np.concatenate([lite.inference([x[None]], data_type=sys.argv[2])[0] for x in np.load('given.npy')]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(FAKE), "FAKE_RKNN_BOARD": "1"}
    subprocess.run([sys.executable, "-c", code, str(path), data_type], cwd=tmp_path, env=environment, check=True)
    return np.load(tmp_path / "found.npy")


def by_onnx(model, frames):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {session.get_inputs()[0].name: frame[None]})[0] for frame in frames])


def error_of(found, wanted):
    return float(np.square(found - wanted).mean() / wanted.var())


@pytest.mark.parametrize("preprocess", [PLAIN, DIFFERENCE], ids=["pixels", "difference"])
@pytest.mark.parametrize(("npu", "bound"), [("fp16", 1e-5), ("u8", 1e-2)])
def test_the_file_answers_as_the_graph_does_on_frames_as_the_agent_gives_them(python, tmp_path, preprocess, npu, bound):
    model, shown = extractor(preprocess.channels), clips()
    found = convert(model, shown, preprocess, Rounding(npu), python(), tmp_path / "work")
    assert isinstance(found, Converted), found
    prepared = preprocess(shown).reshape(-1, preprocess.channels, 16, 16)
    if preprocess.difference:
        assert found.input_dtype == "float32"
        given = prepared.transpose(0, 2, 3, 1)
    else:
        assert found.input_dtype == "uint8"
        given = shown.reshape(-1, 16, 16, 1)
    error = error_of(by_file(found.path, np.ascontiguousarray(given), found.input_dtype, tmp_path), by_onnx(model, prepared))
    assert 0 < error < bound
    assert found.toolkit.startswith("rknn-toolkit")


def test_an_old_toolkit_whose_config_returns_zero_is_no_failure(python, tmp_path):
    assert isinstance(convert(extractor(), clips(), DIFFERENCE, Rounding("u8"), python("1.6.0"), tmp_path / "work"), Converted)


def test_calibration_frames_lie_channels_last_and_are_the_clips_own(python, tmp_path):
    shown = clips()
    convert(extractor(), shown, DIFFERENCE, Rounding("u8", samples=5), python(), tmp_path / "plane")
    names = (tmp_path / "plane" / "dataset.txt").read_text().split()
    assert len(names) == 5
    first, last = (np.load(tmp_path / "plane" / name) for name in (names[0], names[-1]))
    assert (first.shape, first.dtype) == ((1, 16, 16, 2), np.float32)
    assert np.array_equal(first[0].transpose(2, 0, 1), DIFFERENCE(shown)[0, 0])
    assert np.array_equal(last[0].transpose(2, 0, 1), DIFFERENCE(shown)[5, 3])
    convert(extractor(1), shown, PLAIN, Rounding("u8", samples=1000), python(), tmp_path / "pixels")
    names = (tmp_path / "pixels" / "dataset.txt").read_text().split()
    assert len(names) == 24
    found = np.load(tmp_path / "pixels" / names[1])
    assert found.dtype == np.uint8
    assert np.array_equal(found, shown[0, 1][None, :, :, None])


def test_a_layer_left_in_fp16_brings_a_u8_file_nearer(python, tmp_path):
    model, shown = extractor(), clips()
    prepared = DIFFERENCE(shown).reshape(-1, 2, 16, 16)
    given = np.ascontiguousarray(prepared.transpose(0, 2, 3, 1))
    layers = [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
    plain = convert(model, shown, DIFFERENCE, Rounding("u8"), python(), tmp_path / "plain")
    mixed = convert(model, shown, DIFFERENCE, Rounding("u8", dict.fromkeys(layers, "float32")), python(), tmp_path / "mixed")
    assert isinstance(plain, Converted)
    assert isinstance(mixed, Converted), mixed
    wanted = by_onnx(model, prepared)
    errors = [error_of(by_file(one.path, given, "float32", tmp_path), wanted) for one in (mixed, plain)]
    assert errors[0] < errors[1]
    config_text = (tmp_path / "mixed" / "extractor.quantization.cfg").read_text()
    assert all(f'"{name}": float32' in config_text for name in layers)


def test_a_layer_that_the_toolkit_does_not_know_is_a_failed_conversion(python, tmp_path):
    found = convert(extractor(), clips(), DIFFERENCE, Rounding("u8", {"nowhere": "float32"}), python(), tmp_path / "work")
    assert isinstance(found, Unconvertible)
    assert "knows no layer 'nowhere'" in found.reason


@pytest.mark.parametrize(
    ("name", "channels", "ratio"),
    [("small", 1, None), ("small", 2, 3.0), ("mobilenet-like", 2, None), ("mobilenet-like", 1, 3.0), ("resnet18", 2, None)],
)
def test_nothing_stands_against_the_zoo_s_extractors_dense_or_low_rank(name, channels, ratio):
    extractor = zoo.build(config.Model(zoo=name), channels, 64, 16, 7, 0.0, 0).extractor.eval()
    if ratio is not None:
        extractor = lowrank.low_rank(extractor, ratio, torch.rand(2, channels, 64, 64))
    model = onnx_file.extractor_model(extractor, channels, 64, opset=rknn_file.OPSET)
    prepared = ready(model, "1.7.0")
    assert refusals(prepared, "1.7.0") == ()
    assert "Identity" not in {node.op_type for node in prepared.graph.node}
    frames = np.random.default_rng(0).normal(size=(2, channels, 64, 64)).astype(np.float32)
    assert np.array_equal(by_onnx(prepared, frames), by_onnx(model, frames))


def graph(node, inputs=((1, 2, 16, 16),), weights=(), opset=11, ir_version=6, output=None):
    sources = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in zip("xy", inputs, strict=False)]
    target = [helper.make_tensor_value_info("out", TensorProto.FLOAT, output)]
    stored = [numpy_helper.from_array(np.ones(shape, np.float32), f"w{index}") for index, shape in enumerate(weights)]
    made = helper.make_graph([node], "g", sources, target, stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


CONV = {"kernel_shape": [3, 3]}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (graph(helper.make_node("Softplus", ["x"], ["out"], name="soft")), "node soft, operator Softplus: not in the list"),
        (graph(helper.make_node("GRU", ["x", "w0"], ["out"]), weights=[(1,)]), r"node 0 \(to 'out'\), operator GRU: .*spreadsheet"),
        (graph(helper.make_node("Conv", ["x", "w0"], ["out"], kernel_shape=[11, 11]), weights=[(4, 2, 11, 11)]), r"11 \* stride - 1"),
        (graph(helper.make_node("Conv", ["x", "w0"], ["out"], dilations=[6, 6], **CONV), weights=[(4, 2, 3, 3)]), r"spans \[13, 13\]"),
        (graph(helper.make_node("Conv", ["x", "w0"], ["out"], group=2, **CONV), inputs=[(1, 8, 9, 9)], weights=[(8, 4, 3, 3)]), "2 groups for 8"),
        (graph(helper.make_node("Conv", ["x", "y"], ["out"], **CONV), inputs=[(1, 2, 9, 9), (4, 2, 3, 3)]), "computed while the graph runs"),
        (graph(helper.make_node("Conv", ["x", "w0"], ["out"]), inputs=[(1, 2, 9, 9, 9)], weights=[(4, 2, 3, 3, 3)]), "three-dimensional"),
        (graph(helper.make_node("MaxPool", ["x"], ["out"], kernel_shape=[2]), inputs=[(1, 2, 9)]), "one-dimensional pooling"),
        (graph(helper.make_node("MaxPool", ["x"], ["out"], kernel_shape=[2, 2], ceil_mode=1)), "ceil_mode"),
        (graph(helper.make_node("Relu", ["x"], ["out"]), opset=13), "opset 13 is not read: toolkit 1.7.5 takes 8 to 12"),
        (graph(helper.make_node("Relu", ["x"], ["out"]), ir_version=8), "IR version 8 is above 7"),
        (graph(helper.make_node("Relu", ["x"], ["out"]), inputs=[("n", 2, 16, 16)]), "input 'x' has a dynamic shape"),
    ],
)
def test_what_the_toolkit_would_not_read_is_named_with_its_node(model, words):
    (found,) = refusals(model, "1.7.5")
    assert re.search(words, found), found


def test_a_depthwise_and_a_strided_wide_convolution_are_taken():
    depthwise = graph(helper.make_node("Conv", ["x", "w0"], ["out"], group=8, **CONV), inputs=[(1, 8, 9, 9)], weights=[(8, 1, 3, 3)])
    wide = graph(helper.make_node("Conv", ["x", "w0"], ["out"], kernel_shape=[11, 11], strides=[2, 2]), weights=[(4, 2, 11, 11)])
    assert refusals(depthwise, "1.7.5") == refusals(wide, "1.7.5") == ()
    assert set(LIMITS) <= ONNX_1_6


def test_opset_12_is_read_by_1_7_5_alone():
    model = graph(helper.make_node("Relu", ["x"], ["out"]), opset=12)
    assert refusals(model, "1.7.5") == ()
    assert "opset 12 is not read" in refusals(model, "1.7.3")[0]


def test_a_refused_graph_is_a_result_without_a_log_and_the_toolkit_is_not_asked(tmp_path):
    model = graph(helper.make_node("Softplus", ["x"], ["out"]))
    found = convert(model, clips(), DIFFERENCE, Rounding("u8"), Converter("/no/such/python"), tmp_path / "work")
    assert isinstance(found, Unconvertible)
    assert "Softplus" in found.reason
    assert found.log is None
    assert not (tmp_path / "work").exists()


def test_weights_are_not_inputs_after_preparing():
    model = extractor()
    model.graph.input.append(helper.make_tensor_value_info(model.graph.initializer[0].name, TensorProto.FLOAT, model.graph.initializer[0].dims))
    model.ir_version = 9
    prepared = ready(model, "1.7.5")
    assert [item.name for item in prepared.graph.input] == ["frame"]
    assert prepared.ir_version == 7
    assert model.ir_version == 9


def test_a_step_that_fails_is_named_and_the_logs_are_kept(python, tmp_path):
    # 1.7.0's tables against a graph that was prepared for 1.7.5: the toolkit's own refusal, not ours.
    converter = python("1.7.0")
    model = onnx_file.extractor_model(nn.Conv2d(2, 4, 3).eval(), 2, 16, opset=12)
    found = convert(model, clips(), DIFFERENCE, Rounding("fp16"), Converter(converter.python, "1.7.5"), tmp_path / "work")
    assert isinstance(found, Unconvertible)
    assert "failed in load_onnx (code -1)" in found.reason
    assert found.log is not None
    assert "opset above 11" in found.log.read_text()
    assert "opset above 11" in (tmp_path / "work" / "toolkit.log").read_text()
    assert (tmp_path / "work" / "log_feedback_to_the_rknn_toolkit_dev_team.log").is_file()


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("export PYTHONPATH=", "no rknn-toolkit"),
        ("kill -9 $$", "code -9 and no answer"),
        ("sleep 30", "longer than 1 s"),
    ],
)
def test_a_conversion_without_an_answer_says_why(python, tmp_path, before, words):
    converter = Converter(python(before=before).python, deadline_s=1 if "sleep" in before else 60)
    found = convert(extractor(), clips(), DIFFERENCE, Rounding("fp16"), converter, tmp_path / "work")
    assert isinstance(found, Unconvertible)
    assert words in found.reason


def test_a_python_that_is_not_there_and_an_old_answer_are_not_taken_for_success(python, tmp_path):
    assert isinstance(convert(extractor(), clips(), DIFFERENCE, Rounding("fp16"), python(), tmp_path / "work"), Converted)
    found = convert(extractor(), clips(), DIFFERENCE, Rounding("fp16"), Converter(str(tmp_path / "none")), tmp_path / "work")
    assert isinstance(found, Unconvertible)
    assert "cannot be run" in found.reason
    assert not (tmp_path / "work" / "extractor.rknn").exists()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Rounding("fp16", {"a": "float32"}), "nothing to mix"),
        (lambda: Rounding("u8", {"a": "int8"}), "'int8' is not known"),
        (lambda: Rounding("u8", {"a": "float32", "b": "dynamic_fixed_point-i16"}), "one other dtype only"),
        (lambda: Rounding("u8", batch=0), "at least 1"),
        (lambda: Converter("python", "2.3.2"), "'2.3.2' is not known"),
    ],
)
def test_wishes_that_the_toolkit_cannot_fulfil_are_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_clips_of_another_size_are_refused(tmp_path):
    for wrong in (clips(size=8), clips(n=0)):
        with pytest.raises(ShapeError, match="calibration clips"):
            convert(extractor(), wrong, DIFFERENCE, Rounding("u8"), Converter("python"), tmp_path)
    with pytest.raises(ShapeError, match=r"frames \[1, 1, 16, 16\]"):
        convert(extractor(), clips(), PLAIN, Rounding("u8"), Converter("python"), tmp_path)


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """An RKNN in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(FAKE))
    from rknn.api import RKNN

    yield RKNN()
    for name in [name for name in sys.modules if name.split(".")[0] in ("rknn", "fake_npu")]:
        del sys.modules[name]  # other tests run where there is none


def test_the_stand_in_refuses_what_the_toolkit_does(stand_in, monkeypatch):
    onnx.save(ready(extractor(), "1.7.5"), "good.onnx")
    rknn = stand_in
    assert rknn.load_onnx("good.onnx") == -1  # before config
    with pytest.raises(TypeError):
        rknn.config(8)
    with pytest.raises(TypeError):
        rknn.config(batchsize=8)
    assert rknn.config(target_platform="rk3399pro") == -1
    assert rknn.config(target_platform=["rk3399pro"]) is None
    assert rknn.build(do_quantization=False) == -1  # before load
    assert rknn.load_onnx("good.onnx") == 0
    assert rknn.export_rknn("out.rknn") == -1  # before build
    np.save("wrong.npy", np.zeros((1, 2, 16, 16), np.float32))
    Path("dataset.txt").write_text("wrong.npy\n")
    assert rknn.build(dataset="dataset.txt") == -1  # NCHW
    Path("dataset.txt").write_text("")
    assert rknn.build(dataset="dataset.txt") == -1
    assert rknn.build(do_quantization=False, pre_compile=True) == -1
    assert rknn.build(do_quantization=False) == 0
    assert rknn.export_rknn("out.rknn") == 0
    assert rknn.load_rknn("out.rknn") == 0
    assert rknn.init_runtime() == -1  # 1.7.5 has no simulator
    monkeypatch.setenv("FAKE_RKNN_BOARD", "1")
    assert rknn.get_sdk_version() is None
    assert rknn.init_runtime() == 0
    assert "FAKE" in rknn.get_sdk_version()
    frame = np.zeros((1, 16, 16, 2), np.float32)
    assert rknn.inference([frame]) is None  # the default is uint8
    assert rknn.inference([frame], data_type="float32", data_format="nchw") is None
    assert rknn.inference([frame], data_type="float32")[0].dtype == np.float32
    model = extractor()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(ready(model, "1.7.5"), "dynamic.onnx")
    assert rknn.load_onnx("dynamic.onnx") == -1


def test_a_toolkit_of_a_version_that_is_not_known_is_refused_and_one_that_tells_none_is_taken_for_the_oldest(python, tmp_path):
    site = tmp_path / "site"
    (site / "rknn_toolkit-1.6.0.dist-info").mkdir(parents=True)
    found = python(before='export PYTHONPATH="$PYTHONPATH:$SITE"').python
    told = {}
    for version in ("1.6.0", "1.7.3", "2.3.2"):
        text = f"Metadata-Version: 2.1\nName: rknn-toolkit\nVersion: {version}\n"
        (site / "rknn_toolkit-1.6.0.dist-info/METADATA").write_text(text)
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("SITE", str(site))
            try:
                told[version] = rknn_toolkit.converter(found).toolkit
            except InputError as error:
                told[version] = str(error).partition(": ")[2].partition(";")[0]
    known = ", ".join(rknn_toolkit.VERSIONS)
    assert told == {"1.6.0": f"has rknn-toolkit 1.6.0, known are {known}", "1.7.3": "1.7.3", "2.3.2": f"has rknn-toolkit 2.3.2, known are {known}"}
    assert rknn_toolkit.converter(found).toolkit == "1.7.0"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo nonsense; exit 3", "exit code 3: it said nothing"),
        ("echo '{\"ok\": true}'", "cannot import rknn-toolkit"),
        ("echo '[]'", "cannot import rknn-toolkit"),
        ("echo broken >&2; kill -9 $$", "exit code -9: broken"),
    ],
)
def test_a_program_that_is_no_such_python_is_named_with_what_it_said(tmp_path, script, words):
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    with pytest.raises(InputError, match=words):
        rknn_toolkit.converter(str(path))
