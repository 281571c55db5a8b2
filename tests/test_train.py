"""Training: resumable to the bit, chosen by validation data, and honest about what it was given."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from fercompress import config
from fercompress.errors import ModelError, StudyError
from fercompress.model import augment, extractor, inference, optimise, train, zoo
from fercompress.records import Clips, Fold, Preprocess

SETTINGS = config.Train(epochs=4, batch=8, patience=4, dropout=0.3)


def make_clips(n: int = 48) -> Clips:
    """Two classes: a bright square that moves right or left."""
    random = np.random.default_rng(0)
    frames = random.integers(0, 60, (n, 4, 32, 32)).astype(np.uint8)
    labels = np.arange(n, dtype=np.int64) % 2
    for clip, label in enumerate(labels):
        for t in range(4):
            x = 4 + 6 * t if label else 22 - 6 * t
            frames[clip, t, 12:20, x : x + 6] = 220
    names = tuple(f"c{i}" for i in range(n))
    return Clips("squares", frames, labels, ("left", "right"), names, names, names, names, tuple(range(n)), "f", True)


@pytest.fixture
def clips():
    return make_clips()


FOLD = Fold("0", np.arange(0, 32), np.arange(32, 40), np.arange(40, 48))


def network(seed: int = 0) -> zoo.Network:
    return zoo.build(config.Model(hidden=8), channels=1, size=32, frames=4, classes=2, dropout=0.3, seed=seed)


class StoppedError(Exception):
    pass


def fit(clips, folder, stop_after=None, settings=SETTINGS):
    net = network()

    def epoch_done(done, _of, _history):
        if done == stop_after:
            raise StoppedError

    trained = train.fit(net, clips, FOLD, Preprocess(0.2, 0.2), settings, seed=3, checkpoint=folder / "checkpoint", epoch_done=epoch_done)
    return net, trained


def test_windows_of_one_clip_are_validated_together(clips, tmp_path):
    pairs = tuple(f"c{row // 2}" for row in range(len(clips)))  # the eight rows of the validation part are of four clips
    windowed = dataclasses.replace(clips, clip_ids=pairs)
    net, trained = fit(windowed, tmp_path)
    nn.ModuleDict({"extractor": net.extractor, "predictor": net.predictor}).load_state_dict(trained.best)
    logits = inference.predict(net, clips.frames[FOLD.validation], Preprocess(0.2, 0.2))
    kept = trained.history.validation_accuracy[trained.history.best_epoch]
    means = logits.reshape(4, 2, 2).mean(axis=1)
    assert kept == np.mean(means.argmax(1) == clips.labels[FOLD.validation][::2])
    assert {4 * share % 1 for share in trained.history.validation_accuracy} == {0}, "shares of four clips"


def test_a_stopped_training_ends_with_the_weights_of_an_uninterrupted_one(clips, tmp_path):
    settings = SETTINGS.model_copy(update={"augment": config.Augment(shift=0.1, rotate_deg=5, flip=True)})
    _, whole = fit(clips, tmp_path / "whole", settings=settings)
    with pytest.raises(StoppedError):
        fit(clips, tmp_path / "stopped", stop_after=2, settings=settings)
    _, resumed = fit(clips, tmp_path / "stopped", settings=settings)
    assert resumed.history.train_loss == whole.history.train_loss
    assert all(torch.equal(resumed.last[name], whole.last[name]) for name in whole.last)
    assert all(torch.equal(resumed.best[name], whole.best[name]) for name in whole.best)


def test_blended_paced_smoothed_and_averaged_training_resumes_to_the_bit_too(clips, tmp_path):
    wished = {"mixup": 0.4, "label_smoothing": 0.1, "average": 0.9, "augment": config.Augment(pace=0.2)}
    settings = SETTINGS.model_copy(update=wished)
    _, whole = fit(clips, tmp_path / "whole", settings=settings)
    with pytest.raises(StoppedError):
        fit(clips, tmp_path / "stopped", stop_after=2, settings=settings)
    _, resumed = fit(clips, tmp_path / "stopped", settings=settings)
    assert resumed.history.train_loss == whole.history.train_loss
    assert resumed.history.validation_accuracy == whole.history.validation_accuracy
    assert all(torch.equal(resumed.last[name], whole.last[name]) for name in whole.last)


@pytest.mark.parametrize("wished", [{"mixup": 0.4}, {"label_smoothing": 0.1}, {"average": 0.9}, {"augment": config.Augment(pace=0.2)}])
def test_each_option_of_training_changes_the_weights_and_still_learns(clips, tmp_path, wished):
    base = config.Train(epochs=16, batch=8, patience=16, dropout=0, learning_rate=5e-3)
    _, plain = fit(clips, tmp_path / "plain", settings=base)
    net, trained = fit(clips, tmp_path / "other", settings=base.model_copy(update=wished))
    assert not all(torch.equal(trained.last[name], plain.last[name]) for name in plain.last)
    nn.ModuleDict({"extractor": net.extractor, "predictor": net.predictor}).load_state_dict(trained.last)
    assert (
        inference.accuracy(inference.predict(net, clips.frames[FOLD.test], Preprocess(0.2, 0.2)), clips.labels[FOLD.test], clips.ids(FOLD.test))
        == 1.0
    )


def test_an_average_changes_what_is_kept_but_not_the_steps(clips, tmp_path):
    _, plain = fit(clips, tmp_path / "plain")
    _, averaged = fit(clips, tmp_path / "averaged", settings=SETTINGS.model_copy(update={"average": 0.5}))
    assert averaged.history.train_loss == plain.history.train_loss
    assert not torch.equal(averaged.last["predictor.classifier.weight"], plain.last["predictor.classifier.weight"])


def test_the_running_average_is_that_of_torch():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    oracle = torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True)
    averaged: train.State = {}
    for _ in range(5):
        module(torch.randn(4, 1, 5, 5))  # moves batch normalisation's running figures
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += torch.randn_like(parameter)
        oracle.update_parameters(module)
        averaged = optimise.running_average(averaged, module, 0.9)
    for name, tensor in oracle.module.state_dict().items():
        if name != "1.num_batches_tracked":  # a count; ours is the module's own
            torch.testing.assert_close(averaged[name], tensor)
    assert averaged["1.num_batches_tracked"] == 5


def test_mixing_draws_every_partner_once_and_shares_from_the_beta_distribution():
    generator = torch.Generator().manual_seed(0)
    drawn = [augment.mixing(8, 0.5, generator) for _ in range(4000)]
    assert all(sorted(partners.tolist()) == list(range(8)) for _, partners in drawn)
    shares = np.array([share for share, _ in drawn])
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / 8, abs=0.01)  # of Beta(a, a): 1 / (4 (2a + 1))


def test_another_pace_keeps_both_ends_and_the_order_and_moves_the_middle_by_its_share():
    frames = np.arange(33, dtype=np.uint8)[None, :, None, None].repeat(64, axis=0) * np.ones((1, 1, 2, 2), np.uint8)
    paced = (
        augment.augmented(frames, Preprocess(0.0, 1 / 255), config.Augment(pace=0.25), torch.Generator().manual_seed(0))[:, :, 0, 0, 0]
        .numpy()
        .round()
    )
    assert (paced[:, 0] == 0).all()
    assert (paced[:, -1] == 32).all()
    assert (np.diff(paced, axis=1) >= 0).all()
    middles = paced[:, 16] - 16
    assert middles.min() == -8  # of 64 draws, one comes close to either limit: a quarter of 32 steps
    assert middles.max() == 8
    assert set(np.unique(paced)) <= set(range(33))  # no two frames are blended


def test_a_moving_square_is_learnt(clips, tmp_path):
    settings = config.Train(epochs=10, batch=8, patience=10, dropout=0, learning_rate=5e-3)
    net, trained = fit(clips, tmp_path, settings=settings)
    nn.ModuleDict({"extractor": net.extractor, "predictor": net.predictor}).load_state_dict(trained.best)
    logits = inference.predict(net, clips.frames[FOLD.test], Preprocess(0.2, 0.2))
    assert inference.accuracy(logits, clips.labels[FOLD.test], clips.ids(FOLD.test)) == 1.0


@pytest.mark.parametrize(
    ("accuracies", "clips", "best"),
    [
        ([0.5, 0.9, 0.9, 0.7], 100, 2),  # of equals the latest
        ([0.5, 0.90, 0.88, 0.85], 100, 2),  # s.e. of .9 on 100 clips is .030: .88 is within, .85 is not
        ([0.5, 0.90, 0.88, 0.85], 10_000, 1),  # .003 on 10,000
        ([1.0, 0.97, 0.90], 24, 1),  # all right on 24: Laplace's 25/26, s.e. .039
        ([0.3], 5, 0),
    ],
)
def test_the_best_epoch_is_the_latest_within_a_standard_error_of_the_highest(accuracies, clips, best):
    assert optimise.best_epoch(accuracies, clips) == best


def test_the_best_state_is_that_of_the_best_epoch(clips, tmp_path):
    net, trained = fit(clips, tmp_path)
    both = nn.ModuleDict({"extractor": net.extractor, "predictor": net.predictor})
    both.load_state_dict(trained.best)
    logits = inference.predict(net, clips.frames[FOLD.validation], Preprocess(0.2, 0.2))
    assert (
        inference.accuracy(logits, clips.labels[FOLD.validation], clips.ids(FOLD.validation))
        == trained.history.validation_accuracy[trained.history.best_epoch]
    )


def test_training_stops_when_patience_runs_out(clips, tmp_path):
    settings = config.Train(epochs=50, batch=8, patience=2, learning_rate=1e-9)
    _, trained = fit(clips, tmp_path, settings=settings)
    assert len(trained.history.train_loss) < 50


def test_a_finished_training_reads_back_as_it_was(clips, tmp_path):
    _, trained = fit(clips, tmp_path)
    assert optimise.load_trained(tmp_path / "t") is None
    optimise.save_trained(trained, tmp_path / "t")
    again = optimise.load_trained(tmp_path / "t")
    assert again.history == trained.history
    assert all(torch.equal(again.best[name], trained.best[name]) for name in trained.best)


def test_cached_features_are_the_extractors(clips, tmp_path):
    net = network()
    preprocess = Preprocess(0.2, 0.2)
    cached = inference.cache_features(net.extractor, clips, FOLD, preprocess, config.Augment(shift=0.1), 3, 0, tmp_path)
    assert cached.train.shape == (3 * 32, 4, 256 * 2 * 2)
    net.extractor.eval()
    with torch.no_grad():
        expected = inference.features_of(net.extractor, torch.from_numpy(preprocess(clips.frames[FOLD.train])))
    np.testing.assert_allclose(cached.train[:32], expected, atol=2e-3, rtol=2e-3)
    assert not np.allclose(cached.train[32:64], expected, atol=1e-2)
    np.testing.assert_allclose(
        inference.logits_of(net.predictor, cached.train[:32]), inference.predict(net, clips.frames[FOLD.train], preprocess), atol=1e-2
    )


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_predictor_learns_from_cached_features(clips, tmp_path, average):
    net = network()
    cached = inference.cache_features(net.extractor, clips, FOLD, Preprocess(0.2, 0.2), config.Augment(shift=0.05), 2, 0, tmp_path)
    labels = torch.from_numpy(cached.train_labels)
    settings = config.FineTune(epochs=15, batch=8, patience=15, learning_rate=5e-3, average=average)
    trained = train.fit_predictor(
        net.predictor, cached, settings, lambda logits, _, rows: nn.functional.cross_entropy(logits, labels[rows]), 0, tmp_path / "c", lambda *_: None
    )
    assert max(trained.history.validation_accuracy) == 1.0


def test_timing_an_epoch_leaves_the_predictor_alone(clips, tmp_path):
    net = network()
    before = {name: tensor.clone() for name, tensor in net.predictor.state_dict().items()}
    cached = inference.cache_features(net.extractor, clips, FOLD, Preprocess(0.2, 0.2), config.Augment(), 1, 0, tmp_path)
    assert train.predictor_epoch_s(net.predictor, cached, config.FineTune(), 0) > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.predictor.state_dict().items())


def test_no_augmentation_is_the_plain_picture_and_a_flip_mirrors_whole_clips(clips):
    frames = clips.frames[:16]
    plain = Preprocess(0.0, 1.0)
    assert torch.equal(augment.augmented(frames, plain, config.Augment(), torch.Generator()), torch.from_numpy(plain(frames)))
    flipped = augment.augmented(frames, plain, config.Augment(flip=True), torch.Generator().manual_seed(1)).numpy()
    straight = plain(frames)
    mirrored = straight[..., ::-1]
    kinds = [("straight" if np.allclose(f, s, atol=0.01) else "mirrored" if np.allclose(f, m, atol=0.01) else "neither")
             for f, s, m in zip(flipped, straight, mirrored, strict=True)]  # fmt: skip
    assert set(kinds) == {"straight", "mirrored"}


def test_class_weights_are_one_on_average_and_zero_for_an_absent_class():
    weights = train.class_weights(np.array([0, 0, 0, 2]), 3)
    assert weights.tolist() == pytest.approx([4 / 6, 0, 2])


@pytest.mark.parametrize("name", zoo.ZOO)
def test_every_zoo_model_runs_and_learns(name):
    net = zoo.build(config.Model(zoo=name, hidden=4), channels=2, size=32, frames=2, classes=3, dropout=0, seed=0)
    logits = inference.forward(net, torch.rand(2, 2, 2, 32, 32))
    assert logits.shape == (2, 3)
    logits.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.predictor.parameters())


def test_the_default_model_is_as_large_as_documented():
    net = zoo.build(config.Model(), channels=1, size=64, frames=16, classes=7, dropout=0, seed=0)
    assert 60_000 <= sum(p.numel() for p in net.extractor.parameters()) <= 80_000
    assert net.predictor.lstm.input_size == 4096


def test_features_are_flattened_channels_last():
    feature_map = torch.arange(24).reshape(1, 2, 3, 4)  # (N, c, h, w)
    assert extractor.flatten(feature_map)[0, :4].tolist() == [0, 12, 1, 13]


def test_an_unknown_zoo_model_names_its_neighbour():
    with pytest.raises(StudyError, match="did you mean 'resnet18'"):
        zoo.build(config.Model(zoo="resnet-18"), 1, 32, 2, 2, 0, 0)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def make(**k): return 3", "must return two nn.Modules"),
        ("def make(**k): return nn.Flatten(), nn.Flatten()", r"must map \(N, 1, 32, 32\) to \(N, c, h, w\)"),
        ("def make(**k): return nn.Conv2d(9, 1, 1), nn.Flatten()", "a forward pass failed"),
        ("def make(**k): return nn.Conv2d(1, 1, 1), nn.Flatten()", "the predictor must map"),
        ("def make(): return None", "failed"),
        ("def other(): return None", "failed"),
    ],
)
def test_a_factory_that_does_not_fit_says_how(tmp_path, monkeypatch, body, words):
    (tmp_path / f"factory_{abs(hash(body))}.py").write_text(f"from torch import nn\n{body}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=words):
        zoo.build(config.Model(factory=f"factory_{abs(hash(body))}:make"), 1, 32, 2, 2, 0, 0)


def test_another_brightness_is_one_factor_per_clip_within_its_share_and_repeats_with_the_seed():
    frames = np.full((64, 3, 4, 4), 100, np.uint8)

    def lit(seed):
        brightness = config.Augment(brightness=0.2)
        return augment.augmented(frames, Preprocess(0.0, 1 / 255), brightness, torch.Generator().manual_seed(seed)).numpy().round()

    levels = lit(0).reshape(64, -1)
    assert (levels == levels[:, :1]).all(), "the light of a clip does not flicker"
    assert (levels.min(), levels.max()) == (pytest.approx(80, abs=2), pytest.approx(120, abs=2))
    assert levels.min() >= 80
    assert levels.max() <= 120
    np.testing.assert_array_equal(lit(0), lit(0))
    assert (lit(1) != lit(0)).any()


def test_validation_and_test_clips_are_never_augmented(clips, tmp_path):
    net, preprocess = network(), Preprocess(0.2, 0.2)
    every = config.Augment(shift=0.2, scale=0.2, rotate_deg=20, flip=True, pace=0.2, brightness=0.3)
    plain = inference.cache_features(net.extractor, clips, FOLD, preprocess, config.Augment(), 2, 0, tmp_path / "plain")
    moved = inference.cache_features(net.extractor, clips, FOLD, preprocess, every, 2, 0, tmp_path / "moved")
    np.testing.assert_array_equal(moved.validation, plain.validation)
    tested = inference.cache_test_features(net.extractor, clips, FOLD.validation, preprocess, tmp_path / "test")
    np.testing.assert_array_equal(tested, plain.validation)
    np.testing.assert_array_equal(moved.train[: len(FOLD.train)], plain.train[: len(FOLD.train)])  # the first copy is the plain clip
    assert (np.asarray(moved.train[len(FOLD.train) :]) != np.asarray(plain.train[len(FOLD.train) :])).any()
