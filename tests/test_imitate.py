"""A compressed extractor learns to stand in for the teacher's, which stays as it was."""

import copy

import pytest
import torch
from test_train import FOLD, SETTINGS, StoppedError, make_clips, network
from torch.nn import functional

from fercompress.compress.lowrank import low_rank
from fercompress.model import imitate, inference
from fercompress.records import Preprocess

PREPROCESS = Preprocess(0.2, 0.2)


def answer_loss(logits, answers, _rows):
    return functional.mse_loss(logits, answers)


def student_of(teacher):
    torch.manual_seed(0)
    return low_rank(teacher.extractor, 3.0, torch.randn(8, 1, 32, 32))


def fit(student, teacher, folder, stop_after=None):
    def epoch_done(done, _of, _history):
        if done == stop_after:
            raise StoppedError

    return imitate.fit_extractor(student, teacher, make_clips(), FOLD, PREPROCESS, SETTINGS, answer_loss, 0, folder / "checkpoint", epoch_done)


@pytest.fixture
def teacher():
    net = network()
    net.extractor.train()(torch.randn(64, 1, 32, 32))  # running figures of batch normalisation
    return net


def test_the_student_comes_closer_and_the_teacher_stays_as_it_was(teacher, tmp_path):
    before = copy.deepcopy(teacher.extractor.state_dict()), copy.deepcopy(teacher.predictor.state_dict())
    clips = make_clips()

    def distance(student):
        found, wanted = (imitate.plain_features(module, clips.frames[FOLD.test], PREPROCESS) for module in (student, teacher.extractor))
        return float(((found - wanted) ** 2).mean() / wanted.var())

    student = student_of(teacher)
    untrained = distance(student)
    trained = fit(student, teacher, tmp_path)
    student.load_state_dict(trained.best)
    assert distance(student) < 0.5 * untrained
    for module, state in zip((teacher.extractor, teacher.predictor), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
        assert all(parameter.requires_grad for parameter in module.parameters())


def test_the_history_tells_the_teacher_s_predictor_on_the_student_s_features(teacher, tmp_path):
    student = student_of(teacher)
    trained = fit(student, teacher, tmp_path)
    student.load_state_dict(trained.best)
    clips = make_clips()
    features = imitate.plain_features(student, clips.frames[FOLD.validation], PREPROCESS)
    found = inference.accuracy(inference.logits_of(teacher.predictor, features), clips.labels[FOLD.validation], clips.ids(FOLD.validation))
    assert found == trained.history.validation_accuracy[trained.history.best_epoch]


def test_a_stopped_imitation_ends_with_the_weights_of_an_uninterrupted_one(teacher, tmp_path):
    whole = fit(student_of(teacher), teacher, tmp_path / "whole")
    with pytest.raises(StoppedError):
        fit(student_of(teacher), teacher, tmp_path / "stopped", stop_after=2)
    resumed = fit(student_of(teacher), teacher, tmp_path / "stopped")
    assert all(torch.equal(resumed.last[name], whole.last[name]) for name in whole.last)
