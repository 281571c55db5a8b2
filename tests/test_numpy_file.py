"""The predictor for numpy against onnxruntime and torch; the agent's engine runs it, by clips and step by step."""

import copy
import io
import zipfile
from pathlib import Path

import numpy as np
import own_model
import pytest
import torch
from fercompress_agent import Problem, engines
from torch import nn

from fercompress.compress.controls import Bottleneck, SmallDense
from fercompress.config import Measure
from fercompress.errors import InputError, ModelError
from fercompress.export import bundle, numpy_file, onnx_file
from fercompress.export.numpy_file import NumpyPredictor
from fercompress.export.runtime import Runner, session
from fercompress.measure.board import Board
from fercompress.measure.channel import LocalChannel
from fercompress.measure.session import MeasuredBundle, measure
from fercompress.model.predictor import LstmPredictor
from fercompress.records import Block, Bundle, Clips, Pass, Preprocess, Status
from fercompress.tt.layers import TTLSTM
from fercompress.tt.shape import TTShape, asymmetric, balanced

FRAMES, FEATURES, HIDDEN, CLASSES = 5, 96, 16, 7


class Head(nn.Module):
    def __init__(self, lstm: nn.Module) -> None:
        super().__init__()
        self.lstm, self.classifier = lstm, nn.Linear(HIDDEN, CLASSES)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.lstm(features)[0][:, -1])  # type: ignore[no-any-return]


def _tt(input_shape: TTShape | None, hidden_shape: TTShape | None, **more: object) -> nn.Module:
    return Head(TTLSTM(FEATURES, HIDDEN, input_shape, hidden_shape, batch_first=True, **more)).eval()  # type: ignore[arg-type]


def _predictors() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    last, hidden = asymmetric(4 * HIDDEN, FEATURES, 3, last=24), asymmetric(4 * HIDDEN, HIDDEN, 2)
    return {
        "plain": LstmPredictor(FEATURES, HIDDEN, CLASSES, 0.3),
        "plain, two layers": Head(nn.LSTM(FEATURES, HIDDEN, 2, batch_first=True)),
        "plain, without bias": Head(nn.LSTM(FEATURES, HIDDEN, bias=False, batch_first=True)),
        "asymmetric, both": _tt(last, hidden),
        "asymmetric, input": _tt(last, None),
        "balanced, both": _tt(balanced(4 * HIDDEN, FEATURES, 3, 2), balanced(4 * HIDDEN, HIDDEN, 2, 2)),
        "balanced, hidden": _tt(None, balanced(4 * HIDDEN, HIDDEN, 2, 2)),
        "two layers of trains": _tt(last, hidden, deeper=[(hidden, hidden)]),
        "bottleneck": Bottleneck(24, 4, 3, HIDDEN, CLASSES, 0.1),
        "small dense": SmallDense(24, HIDDEN, CLASSES, 0.1),
    }


PREDICTORS = _predictors()
CLIPS = np.random.default_rng(1).standard_normal((20, 1, FRAMES, FEATURES)).astype(np.float32)


def _by_onnxruntime(predictor: nn.Module) -> list[np.ndarray]:
    running = session(onnx_file.predictor_model(predictor, FRAMES, FEATURES).SerializeToString())
    return [running.run(None, {"features": clip})[0] for clip in CLIPS]


@pytest.mark.parametrize("name", PREDICTORS)
def test_numpy_answers_what_onnxruntime_answers(name: str) -> None:
    predictor = PREDICTORS[name].eval()
    made = NumpyPredictor.of(predictor, FRAMES, FEATURES)
    found = [numpy_file.logits(made.content, clip) for clip in CLIPS]
    assert np.abs(np.array(found) - np.array(_by_onnxruntime(predictor))).max() < 1e-5


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("name", ["asymmetric, both", "asymmetric, input", "balanced, both", "two layers of trains"])
def test_rounded_trains_are_the_ones_that_torch_holds_and_take_their_bits(name: str, bits: int) -> None:
    predictor = copy.deepcopy(PREDICTORS[name])
    predictor.lstm.quantize_(bits=bits)
    made = NumpyPredictor.of(predictor, FRAMES, FEATURES)
    with torch.no_grad():
        wanted = np.array([predictor(torch.from_numpy(clip)).numpy() for clip in CLIPS])
    found = np.array([numpy_file.logits(made.content, clip) for clip in CLIPS])
    assert np.abs(found - wanted).max() < 1e-5
    layers = predictor.lstm.layers
    codes = {entry.filename: entry.file_size - 128 for entry in zipfile.ZipFile(io.BytesIO(made.content)).infolist()}
    halves = sum(scale.numel() for layer in layers for part in (layer.input, layer.hidden) for scale in part.scales)
    assert codes["codes.npy" if bits == 8 else "nibbles.npy"] + 2 * halves == sum(
        part.stored_bytes for layer in layers for part in (layer.input, layer.hidden)
    )
    assert made.lstm_numbers == predictor.lstm.stored_numbers


@pytest.mark.parametrize("bits", [8, 4])
def test_rounded_dense_layers_keep_nearly_all_labels_and_are_smaller(bits: int) -> None:
    predictor = PREDICTORS["plain"].eval()
    plain, rounded = (NumpyPredictor.of(predictor, FRAMES, FEATURES, wish) for wish in (32, bits))
    wanted, found = (np.array([numpy_file.logits(made.content, clip)[0] for clip in CLIPS]) for made in (plain, rounded))
    assert 0 < np.abs(found - wanted).max() < {8: 0.01, 4: 0.1}[bits]
    # Four entries of a zip file and its `meta` take about 2 kB.
    assert len(rounded.content) - 2000 < (len(plain.content) - 2000) * (bits + 2) / 32


@pytest.mark.parametrize("name", list(PREDICTORS))
def test_streamed_step_by_step_the_last_logits_are_the_clip_s(name: str) -> None:
    made = NumpyPredictor.of(PREDICTORS[name].eval(), FRAMES, FEATURES)
    engine = numpy_file.engine_of(made.content, FRAMES, FEATURES)
    assert engine.streams
    state = engine.state()
    for features in CLIPS[0][0]:
        logits, state = engine.step(features[None], state)
    assert np.abs(logits - engine.predict(CLIPS[0])).max() < 1e-5


def test_a_model_of_one_s_own_that_reads_all_states_is_found_out_and_cannot_stream() -> None:
    torch.manual_seed(0)
    predictor = own_model.MeanPredictor(FEATURES, HIDDEN, CLASSES).eval()
    made = NumpyPredictor.of(predictor, FRAMES, FEATURES)
    assert np.abs(np.array([numpy_file.logits(made.content, clip) for clip in CLIPS]) - np.array(_by_onnxruntime(predictor))).max() < 1e-5
    assert not numpy_file.engine_of(made.content, FRAMES, FEATURES).streams


def test_a_predictor_that_computes_between_its_layers_or_has_unknown_ones_is_refused() -> None:
    class Squared(Head):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return super().forward(features * features)

    class Softened(Head):
        def __init__(self, lstm: nn.Module) -> None:
            super().__init__(lstm)
            self.soft = nn.Softplus()

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return self.soft(super().forward(features))

    for kind, words in ((Squared, "something between its layers"), (Softened, "a Softplus cannot be written")):
        with pytest.raises(ModelError, match=words):
            NumpyPredictor.of(kind(nn.LSTM(FEATURES, HIDDEN, batch_first=True)), FRAMES, FEATURES)
    with pytest.raises(ModelError, match="two directions"):
        NumpyPredictor.of(Both(), FRAMES, FEATURES)


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(FEATURES, HIDDEN, batch_first=True, bidirectional=True), nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(features)[0][:, -1])  # type: ignore[no-any-return]


def test_a_file_that_ends_early_or_is_of_a_newer_format_is_refused() -> None:
    content = NumpyPredictor.of(PREDICTORS["plain"].eval(), FRAMES, FEATURES).content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    short = io.BytesIO()
    np.save(short, np.load(io.BytesIO(entries["floats.npy"]))[:-1])
    for changed, words in (
        ({"floats.npy": short.getvalue()}, "ends inside a tensor"),
        ({"meta": entries["meta"].replace(b'"format":1', b'"format":9')}, "format 9"),
    ):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in {**entries, **changed}.items():
                archive.writestr(name, data)
        with pytest.raises(Problem, match=words):
            numpy_file.engine_of(buffer.getvalue(), FRAMES, FEATURES)


def test_equal_weights_give_equal_bytes() -> None:
    assert len({NumpyPredictor.of(PREDICTORS["asymmetric, both"], FRAMES, FEATURES).content for _ in range(2)}) == 1


PIXELS = np.random.default_rng(0).integers(0, 256, (3, 4, 16, 16), dtype=np.uint8)


def _bundle(root: Path, engine: str) -> Bundle:
    torch.manual_seed(0)
    extractor = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU(), nn.AvgPool2d(4)).eval()
    inputs = bundle.Inputs(Preprocess(0.5, 0.25, difference=True), frames=4, size=16, classes=("a", "b", "c"))
    predictor = LstmPredictor(16, 8, 3, 0.0).eval()
    size = bundle.DenseSize.of(extractor, predictor, inputs)
    return bundle.write(root, "dense", extractor, predictor, inputs, size, PIXELS, recipe=[], way="by hand", engine=engine)


@pytest.mark.parametrize("engine", ["onnxruntime+numpy", "onnxruntime", "onnxruntime-c"])
def test_a_bundle_names_an_engine_per_part_and_every_engine_gives_the_same_logits(tmp_path: Path, engine: str) -> None:
    made, plain = _bundle(tmp_path, engine), _bundle(tmp_path, "onnxruntime")
    first, _, second = engine.partition("+")
    assert (made.engine, made.manifest["extractor"]["engine"], made.manifest["predictor"]["engine"]) == (engine, first, second or first)
    assert made.manifest["agreement"]["predictor_max_abs"] < 1e-5
    assert made.size.bytes_predictor == (made.folder / made.manifest["predictor"]["file"]).stat().st_size
    # Two biases are one sum for numpy.
    assert plain.size.params_lstm - made.size.params_lstm in (0, 4 * 8)
    running = engines.make(engine, 1)
    running.start()
    running.load(str(made.folder), made.manifest)
    found = []
    for clip in PIXELS:
        joined = running.join([running.extract(frame) for frame in running.frames(clip.tobytes(), clip.shape)])
        found.append(running.numbers(running.predict(running.from_bytes(running.to_bytes(joined)))))
    assert np.abs(np.array(found) - Runner(plain).logits(PIXELS)).max() < 1e-5
    assert np.abs(Runner(made).logits(PIXELS) - Runner(plain).logits(PIXELS)).max() < 1e-5


@pytest.mark.parametrize("engine", ["onnxruntime+numpy", "onnxruntime-c"])
def test_a_session_measures_a_bundle_of_any_engine_that_its_target_lists(tmp_path: Path, engine: str) -> None:
    made, frames = _bundle(tmp_path, engine), np.random.default_rng(2).integers(0, 256, (6, 4, 16, 16), dtype=np.uint8)
    names = tuple(f"clip{place}" for place in range(6))
    clips = Clips("tiny", frames, np.arange(6) % 3, ("a", "b", "c"), names, names, names, names, (0,) * 6, "tiny", simulated=True)
    board = Board(name="odd", kind="local", engines=(engine,))
    blocks: list[Block] = []
    settings = Measure(rounds=1, block_clips=4, block_s=0.001, warmup_clips=0, stream_clips=2, passes=("accuracy", "latency", "memory"))
    channel = LocalChannel(tmp_path / "target")
    several = {"dense": [MeasuredBundle(made, 0, "f0", np.arange(6))]}
    measure(several, clips, settings, board, channel, tmp_path / "work", done=(), record=blocks.append, progress=lambda _: None)
    assert {block.status for block in blocks} == {Status.OK}
    for block in blocks:
        if block.key.pass_ is Pass.LATENCY and engine.endswith("numpy"):
            assert len(block.facts["stream_ns"]) == 2 * 4  # two clips of four frames
        elif block.key.pass_ is Pass.LATENCY:
            assert "takes whole clips" in block.facts["stream_reason"]
    logits = next(block.logits for block in blocks if block.key.pass_ is Pass.ACCURACY)
    assert logits is not None
    assert np.abs(logits - Runner(made).logits(frames)).max() < 1e-5


def test_a_bundle_for_an_engine_that_runs_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no bundle is written for the extractor of 'numpy'"):
        _bundle(tmp_path, "numpy")
