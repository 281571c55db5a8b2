import pytest
import torch
from torch.nn import functional

from fercompress.compress.distill import loss

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]])
TEACHER = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
LABELS = torch.tensor([0, 1])


def test_without_soft_labels_it_is_the_cross_entropy() -> None:
    found = loss(LOGITS, LABELS, TEACHER, weight=0.0, temperature=3.0)
    torch.testing.assert_close(found, functional.cross_entropy(LOGITS, LABELS))


def test_the_soft_part_is_the_divergence_from_the_teacher_times_the_squared_temperature() -> None:
    student = functional.log_softmax(LOGITS / 2, 1)
    wanted = 4 * functional.kl_div(student, functional.softmax(TEACHER / 2, 1), reduction="batchmean")
    torch.testing.assert_close(loss(LOGITS, LABELS, TEACHER, weight=1.0, temperature=2.0), wanted)


def test_a_student_that_equals_its_teacher_has_no_soft_loss_and_no_gradient() -> None:
    student = TEACHER.clone().requires_grad_()
    found = loss(student, LABELS, TEACHER, weight=1.0, temperature=3.0)
    found.backward()
    assert float(found.detach()) == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(student.grad, torch.zeros_like(TEACHER), rtol=0, atol=1e-6)


def test_hidden_states_count_with_their_weight_and_the_teachers_get_no_gradient() -> None:
    mine, theirs = torch.ones(2, 4, requires_grad=True), torch.zeros(2, 4, requires_grad=True)
    plain = loss(LOGITS, LABELS, TEACHER, weight=0.5, temperature=1.0)
    found = loss(LOGITS, LABELS, TEACHER, weight=0.5, temperature=1.0, states=(mine, theirs), states_weight=0.25)
    found.backward()
    assert float((found - plain).detach()) == pytest.approx(0.25)
    assert mine.grad is not None
    assert theirs.grad is None


def test_class_weights_reach_the_labels_part() -> None:
    weights = torch.tensor([1.0, 3.0, 1.0])
    found = loss(LOGITS, LABELS, TEACHER, weight=0.0, temperature=1.0, class_weights=weights)
    torch.testing.assert_close(found, functional.cross_entropy(LOGITS, LABELS, weight=weights))
