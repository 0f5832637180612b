"""The losses against hand values, torch's and scipy's own, autograd in float64, and at the limits."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F

from shiftproof.adapt import SelfLearning, entropy, generalized_cross_entropy
from shiftproof.adapt.learning.losses import (
    hard_pseudo_label_loss,
    is_confident,
    robust_pseudo_label_loss,
    soft_pseudo_label_loss,
)
from shiftproof.errors import InputError
from support.small_networks import noise, with_layer_norm

HALVES = (torch.float16, torch.bfloat16)


def some_logits(rows=6, classes=5, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)


def of_pairs(loss):
    """A loss of logits alone: the teacher is another network."""
    teacher = some_logits(seed=1)

    def run(logits):
        return loss(logits, teacher.to(logits.dtype)[: len(logits)])

    return run


LOSSES = {
    "ent": entropy,
    "rpl": of_pairs(robust_pseudo_label_loss),
    "hard": of_pairs(hard_pseudo_label_loss),
    "soft": of_pairs(soft_pseudo_label_loss),
}


class TestValues:
    def test_entropy_is_scipys(self):
        logits = some_logits()
        expected = scipy.stats.entropy(scipy.special.softmax(logits.numpy(), 1), axis=1)
        np.testing.assert_allclose(entropy(logits).numpy(), expected, rtol=1e-12)

    def test_entropy_of_equal_logits_is_log_k(self):
        assert entropy(torch.full((1, 7), 3.0)).item() == pytest.approx(math.log(7))

    def test_pseudo_labels_are_torchs_cross_entropy(self):
        logits, teacher = some_logits(), some_logits(seed=1)
        hard = F.cross_entropy(logits, teacher.argmax(1), reduction="none")
        soft = F.cross_entropy(logits, teacher.softmax(1), reduction="none")
        torch.testing.assert_close(hard_pseudo_label_loss(logits, teacher), hard)
        torch.testing.assert_close(soft_pseudo_label_loss(logits, teacher), soft)

    @pytest.mark.parametrize("q", [0.3, 0.8, 0.9999])
    def test_generalized_cross_entropy_is_its_formula(self, q):
        logits, target = some_logits(), torch.tensor([0, 1, 2, 3, 4, 0])
        p = scipy.special.softmax(logits.numpy(), 1)[range(6), target.numpy()]
        result = generalized_cross_entropy(logits, target, q)
        np.testing.assert_allclose(result.numpy(), (1 - p**q) / q, rtol=1e-12)

    def test_its_limits_are_cross_entropy_and_absolute_error(self):
        logits, target = some_logits(), torch.tensor([0, 1, 2, 3, 4, 0])
        cross = F.cross_entropy(logits, target, reduction="none")
        for q, tolerance in ((0, 0), (1e-12, 1e-9), (1e-4, 1e-2)):
            torch.testing.assert_close(
                generalized_cross_entropy(logits, target, q), cross, rtol=tolerance, atol=0
            )
        p = logits.softmax(1)[range(6), target]
        torch.testing.assert_close(generalized_cross_entropy(logits, target, 1), 1 - p)

    def test_a_small_q_keeps_its_digits_in_float32(self):
        """(1 - p^q) / q by its formula has none left at q = 1e-7."""
        logits, target = some_logits().float(), torch.tensor([0, 1, 2, 3, 4, 0])
        cross = F.cross_entropy(logits, target, reduction="none")
        result = generalized_cross_entropy(logits, target, 1e-7)
        torch.testing.assert_close(result, cross, rtol=1e-5, atol=1e-6)

    def test_robust_pseudo_labels_take_the_class_that_the_teacher_answers(self):
        logits = torch.tensor([[0.25, 0.75]]).log()
        teacher = torch.tensor([[2.0, 1.0]])
        expected = (1 - 0.25**0.8) / 0.8
        assert robust_pseudo_label_loss(logits, teacher).item() == pytest.approx(expected)

    def test_confident_is_at_least_the_threshold(self):
        teacher = torch.tensor([[0.5, 0.5], [0.75, 0.25], [0.1, 0.9]]).log()
        assert is_confident(teacher, 0.7).tolist() == [False, True, True]
        assert is_confident(torch.zeros(1, 2), 0.5).tolist() == [True]
        assert is_confident(torch.tensor([[math.nan, 0.0]]), 0.1).tolist() == [False]

    @pytest.mark.parametrize("q", [-0.1, 1.1, math.nan, True])
    def test_other_q_are_refused(self, q):
        with pytest.raises(InputError, match="q: expected 0 to 1"):
            generalized_cross_entropy(torch.zeros(1, 2), torch.tensor([0]), q)


class TestGradients:
    def test_that_of_entropy_goes_through_both_factors(self):
        """By hand: dH/dz_k = -p_k (log p_k + H); through the logarithm alone it would be 0."""
        logits = some_logits().requires_grad_()
        entropy(logits).sum().backward()
        p = scipy.special.softmax(logits.detach().numpy(), 1)
        expected = -p * (np.log(p) + scipy.stats.entropy(p, axis=1)[:, None])
        np.testing.assert_allclose(logits.grad.numpy(), expected, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("name", LOSSES)
    def test_all_agree_with_finite_differences(self, name):
        assert torch.autograd.gradcheck(LOSSES[name], some_logits(3).requires_grad_())

    def test_none_goes_to_the_teacher(self):
        logits = some_logits().requires_grad_()
        for loss in (hard_pseudo_label_loss, soft_pseudo_label_loss, robust_pseudo_label_loss):
            teacher = some_logits(seed=1).requires_grad_()
            loss(logits, teacher).sum().backward()
            assert teacher.grad is None

    @pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
    @pytest.mark.parametrize("name", LOSSES)
    def test_they_are_finite_where_probabilities_underflow(self, name, dtype):
        logits = torch.tensor([[1e4, -1e4, 0.0, 0, 0], [-1e4, 1e4, 1e4, 0, 0]], dtype=dtype)
        logits.requires_grad_()
        losses = LOSSES[name](logits)
        assert torch.isfinite(losses).all()
        losses.sum().backward()
        assert torch.isfinite(logits.grad).all()

    def test_that_of_robust_labels_vanishes_there(self):
        logits = torch.tensor([[0.0, 1e4]]).requires_grad_()
        generalized_cross_entropy(logits, torch.tensor([0])).sum().backward()
        assert logits.grad.tolist() == [[0.0, 0.0]]


class TestPrecision:
    @pytest.mark.parametrize("dtype", HALVES)
    @pytest.mark.parametrize("name", LOSSES)
    def test_half_precision_is_computed_in_float32(self, name, dtype):
        logits = some_logits().to(dtype)
        result = LOSSES[name](logits)
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, LOSSES[name](logits.float()), rtol=1e-2, atol=1e-2)
        exact = entropy(logits)
        torch.testing.assert_close(exact.double(), entropy(logits.double()), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("name", LOSSES)
    def test_autocast_changes_nothing(self, name):
        logits = some_logits().float()
        expected = LOSSES[name](logits)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(LOSSES[name](logits), expected)

    @pytest.mark.parametrize("name", LOSSES)
    def test_a_row_is_a_row_s_own(self, name):
        logits = some_logits()
        torch.testing.assert_close(LOSSES[name](logits)[:2], LOSSES[name](logits[:2]))
        assert LOSSES[name](logits[:0]).shape == (0,)


class TestClassesThatAreRuledOut:
    """A logit of minus infinity: a probability of 0, as torch's own distributions have it."""

    ROWS = torch.tensor([[0.0, 0.0, -math.inf], [1.0, -math.inf, -2.0], [3.0, 1.0, 0.5]])

    def gradient(self, loss):
        logits = self.ROWS.clone().requires_grad_()
        values = loss(logits)
        values.sum().backward()
        return values.detach(), logits.grad

    def test_entropy(self):
        values, gradient = self.gradient(entropy)
        expected = torch.distributions.Categorical(logits=self.ROWS).entropy()
        torch.testing.assert_close(values, expected)
        assert values[0].item() == pytest.approx(math.log(2), abs=1e-6)
        # Of the two classes alone, by autograd.
        rest = self.ROWS[1, [0, 2]][None].requires_grad_()
        entropy(rest).sum().backward()
        torch.testing.assert_close(gradient[1, [0, 2]], rest.grad[0])
        assert gradient[1, 1] == 0

    @pytest.mark.parametrize("q", [0, 0.5, 0.8, 1])
    def test_robust_pseudo_labels(self, q):
        values, gradient = self.gradient(lambda x: robust_pseudo_label_loss(x, self.ROWS, q))
        p = self.ROWS.softmax(1).amax(1)
        torch.testing.assert_close(values, -p.log() if q == 0 else (1 - p**q) / q)
        assert torch.isfinite(gradient).all()

    def test_soft_pseudo_labels(self):
        """The cross-entropy of a distribution with itself is its entropy, at gradient 0."""
        values, gradient = self.gradient(lambda x: soft_pseudo_label_loss(x, self.ROWS))
        expected = torch.distributions.Categorical(logits=self.ROWS).entropy()
        torch.testing.assert_close(values, expected)
        torch.testing.assert_close(gradient, torch.zeros(3, 3), atol=1e-6, rtol=0)

    def test_a_class_that_only_the_student_rules_out_is_an_infinite_loss(self):
        teacher = torch.zeros(1, 3)
        assert soft_pseudo_label_loss(self.ROWS[:1], teacher).item() == math.inf
        assert soft_pseudo_label_loss(teacher, self.ROWS[:1]).item() == pytest.approx(math.log(3))

    @pytest.mark.parametrize("loss", ["rpl", "ent", "hard", "soft"])
    def test_no_step_is_left_out(self, loss):
        class Without(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = with_layer_norm()

            def forward(self, x):
                return self.inner(x).masked_fill(torch.arange(5) == 2, -math.inf)

        adapter = SelfLearning(Without(), loss=loss, lr=0.1)
        for _ in range(3):
            adapter(noise())
        assert not adapter.events
        assert all(torch.isfinite(p).all() for p in adapter.parameters())
