"""Detectors: what each of them answers, and how one is refused that is none. The networks here are made up: a constant answer in the real form."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fercompress.data import detectors
from fercompress.data.detectors import Box
from fercompress.errors import DataError

GREY = np.full((240, 320), 90, np.uint8)


def network(path, outputs, shape=(1, 3, 240, 320)):
    """An ONNX file that answers `outputs` ({name: array}) whatever it is shown."""
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "mean"], ["nothing"]),
        *(helper.make_node("Add", [f"{name}_is", "nothing"], [name]) for name in outputs),
    ]
    answers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in outputs.items()]
    constants = [numpy_helper.from_array(array.astype(np.float32), f"{name}_is") for name, array in outputs.items()]
    graph = helper.make_graph(nodes, "made-up", [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)], answers, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8), str(path))
    return str(path)


def yunet(path, score):
    """One face: at stride 8, in cell (row 10, column 15) of 40 x 40; its middle there, 32 wide and 48 high."""
    outputs = {}
    for stride, cells in ((8, 1600), (16, 400), (32, 100)):
        outputs |= {f"{kind}_{stride}": np.zeros((1, cells, width)) for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))}
    cell = 10 * 40 + 15
    outputs["cls_8"][0, cell] = outputs["obj_8"][0, cell] = score
    outputs["bbox_8"][0, cell] = [0, 0, np.log(32 / 8), np.log(48 / 8)]
    return network(path, outputs, (1, 3, 320, 320))


def test_boxes_overlap_by_the_shared_area_over_the_joined():
    assert Box(0, 0, 10, 10).overlap(Box(5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert Box(0, 0, 10, 10).overlap(Box(20, 0, 10, 10)) == 0


def test_the_cascade_finds_no_face_in_a_grey_picture():
    assert detectors.detector("cascade")(GREY) == []


def test_a_network_of_scores_and_boxes_answers_in_pixels_and_each_face_once(tmp_path):
    scores = np.array([[[0.1, 0.9], [0.05, 0.95], [0.2, 0.8], [0.9, 0.1]]])
    boxes = np.array([[[0.5, 0.5, 0.75, 1.0], [0.5, 0.5, 0.75, 0.95], [0.0, 0.0, 0.25, 0.5], [0.3, 0.3, 0.4, 0.4]]])
    find = detectors.detector(network(tmp_path / "faces.onnx", {"scores": scores, "boxes": boxes}))
    sides = [(box.left, box.top, box.width, box.height) for box in find(np.zeros((480, 640), np.uint8))]
    assert sides == [pytest.approx((320, 240, 160, 216)), pytest.approx((0, 0, 160, 240))]


def test_yunet_answers_in_pixels_of_the_picture_that_was_given(tmp_path):
    find = detectors.detector(yunet(tmp_path / "yunet.onnx", 0.9))
    (box,) = find(np.zeros((480, 640), np.uint8))  # seen at half the size
    assert (box.left, box.top, box.width, box.height) == pytest.approx((2 * (120 - 16), 2 * (80 - 24), 64, 96), abs=1)


def test_yunets_doubtful_faces_are_none(tmp_path):
    assert detectors.detector(yunet(tmp_path / "doubtful.onnx", 0.4))(GREY) == []


@pytest.mark.parametrize("name", ["nowhere.onnx", "cascad"])
def test_a_detector_that_is_not_there_is_one_clear_error(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r'give "cascade", or the path of an ONNX face detector'):
        detectors.fingerprint(name)


def test_a_file_that_is_no_detector_is_refused_with_what_was_looked_for(tmp_path):
    other = network(tmp_path / "other.onnx", {"logits": np.zeros((1, 7))})
    with pytest.raises(DataError, match="its outputs are logits; need YuNet's"):
        detectors.detector(other)
    text = tmp_path / "text.onnx"
    Path(text).write_text("no network")
    with pytest.raises(DataError, match="not an ONNX file that runs"):
        detectors.detector(str(text))


def test_another_detector_is_another_fingerprint(tmp_path):
    assert detectors.fingerprint("cascade") != detectors.fingerprint(yunet(tmp_path / "y.onnx", 0.9))
