"""CoTTA against the published algorithm, computed by hand on a tiny network."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from shiftproof.adapt import CoTTA
from shiftproof.adapt.methods import cotta
from support.norm_networks import classifier_of, network
from support.small_networks import pictures


def scale_only(monkeypatch):
    """Let an augmentation be nothing but its brightness, and return the factors in their order."""
    factors = []

    def apply(pixels, jitter):
        factors.append(jitter.scale)
        return (pixels * jitter.scale).clamp(0, 1)

    monkeypatch.setattr(cotta, "apply_jitter", apply)
    return factors


def as_inputs(images):
    return (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 * 2 - 1).double()


def answer(module, inputs):
    """Run a network with batch statistics and without dropout."""
    for layer in module.modules():
        layer.train(isinstance(layer, nn.BatchNorm2d))
    return module(inputs)


class ByHand:
    """Wang et al. 2022, algorithm 1, with Adam after Kingma & Ba 2015, algorithm 1."""

    def __init__(self, module, *, lr, momentum, threshold):
        self.student, self.teacher, self.anchor = (copy.deepcopy(module) for _ in range(3))
        self.lr, self.momentum, self.threshold = lr, momentum, threshold
        self.first = [torch.zeros_like(p) for p in module.parameters()]
        self.second = [torch.zeros_like(p) for p in module.parameters()]
        self.time = 0

    def __call__(self, images, factors, *, symmetric=False):
        x = as_inputs(images)
        with torch.no_grad():
            target = answer(self.teacher, x)
            if answer(self.anchor, x).softmax(1).max(1).values.mean() < self.threshold:
                bright = [((x + 1) / 2 * f).clamp(0, 1) * 2 - 1 for f in factors]
                target = torch.stack([answer(self.teacher, b) for b in bright]).mean(0)
        student = answer(self.student, x)
        loss = -(target.softmax(1) * student.log_softmax(1)).sum(1)
        if symmetric:
            loss = loss / 2 - (student.softmax(1) * target.log_softmax(1)).sum(1) / 2
        gradients = torch.autograd.grad(loss.mean(), list(self.student.parameters()))
        self.move(gradients)
        return target.numpy()

    @torch.no_grad()
    def move(self, gradients):
        self.time += 1
        learned = zip(self.student.parameters(), self.teacher.parameters(), strict=True)
        for place, ((own, taught), g) in enumerate(zip(learned, gradients, strict=True)):
            self.first[place] = 0.9 * self.first[place] + 0.1 * g
            self.second[place] = 0.999 * self.second[place] + 0.001 * g * g
            mean = self.first[place] / (1 - 0.9**self.time)
            spread = (self.second[place] / (1 - 0.999**self.time)).sqrt()
            own -= self.lr * mean / (spread + 1e-8)
            taught.copy_(self.momentum * taught + (1 - self.momentum) * own)


# Not one-sided without augmentations: the student is its own teacher then, its gradient nought, and
# Adam takes whole steps down the rounding.
@pytest.mark.parametrize(
    ("loss", "threshold"), [("one-sided", 1), ("symmetric", 1), ("symmetric", 0)]
)
@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_the_published_algorithm(kind, threshold, loss, monkeypatch):
    factors = scale_only(monkeypatch)
    # In double precision, for the same reason: batch norm takes the gradient of a bias before it.
    module = network(kind).double()
    adapter = CoTTA(
        classifier_of(module), lr=0.01, momentum=0.5, restore=0, threshold=threshold,
        augmentations=3, loss=loss, prior=0,
    )  # fmt: skip
    reference = ByHand(module, lr=0.01, momentum=0.5, threshold=threshold)
    for seed in range(3):
        factors.clear()
        logits = adapter.predict(pictures(4, seed=seed))
        assert len(factors) == (3 if threshold else 0)
        expected = reference(pictures(4, seed=seed), factors, symmetric=loss == "symmetric")
        np.testing.assert_allclose(logits, expected, atol=1e-4)
    merged = adapter.merge()
    for name, value in reference.teacher.named_parameters():
        moved = value.data - module.get_parameter(name).data
        # Single weights whose gradient is almost nought may go either way.
        error = merged.get_parameter(name).data - value.data
        assert float(error.norm()) < 0.02 * float(moved.norm()) + 1e-6, name


def test_the_threshold_is_the_mean_confidence_of_the_source(monkeypatch):
    factors = scale_only(monkeypatch)
    source = classifier_of(network("layer"))
    with torch.no_grad():
        logits = torch.from_numpy(source.predict(pictures(4)))
        confidence = float(logits.softmax(1).max(1).values.mean())
    for threshold, count in ((confidence - 1e-3, 0), (confidence + 1e-3, 2)):
        factors.clear()
        CoTTA(source, threshold=threshold, augmentations=2).predict(pictures(4))
        assert len(factors) == count


def test_restore_sets_back_that_share_of_the_weights():
    source = network("batch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        source[4] = nn.Conv2d(4, 6, 15, padding=7)  # 5,400 weights
    counts = {}
    for share in (0.0, 0.3, 1.0):
        adapter = CoTTA(classifier_of(source), lr=0.1, restore=share, threshold=0, prior=0)
        adapter.predict(pictures(4))
        state = adapter.state()
        back = state["parameter/4.weight"] == source[4].weight
        counts[share] = float(back.float().mean())
        stepped = CoTTA(classifier_of(source), lr=0.1, restore=0, threshold=0, prior=0)
        stepped.predict(pictures(4))
        moved = stepped.state()["parameter/4.weight"]
        assert torch.equal(state["parameter/4.weight"][~back], moved[~back])
        # The teacher moved before, towards weights that were not set back.
        assert torch.equal(state["teacher/4.weight"], stepped.state()["teacher/4.weight"])
    assert counts[0.0] < 0.01
    assert counts[1.0] == 1
    assert abs(counts[0.3] - 0.3) < 0.04  # six standard errors


def test_each_batch_restores_other_weights():
    source = network("batch")
    adapter = CoTTA(classifier_of(source), lr=0.1, restore=0.3, threshold=0)
    back = []
    for seed in range(2):
        adapter.predict(pictures(4, seed=seed))
        back.append(adapter.state()["parameter/0.weight"] == source[0].weight)
    assert not torch.equal(*back)
    # 0.3 of those that had been restored are restored again, and not all of them.
    assert 0.05 < float(back[1][back[0]].float().mean()) < 0.7


def test_what_learns_are_weights_and_biases_of_all_layers():
    adapter = CoTTA(classifier_of(network("batch")))
    assert len(list(adapter.parameters())) == len(list(network("batch").parameters()))
    transformer = nn.Sequential(nn.Flatten(), nn.Linear(768, 4), _WithToken(), nn.Linear(4, 5))
    names = {n for n in CoTTA(classifier_of(transformer)).state() if n.startswith("parameter/")}
    assert names == {f"parameter/{i}.{part}" for i in (1, 3) for part in ("weight", "bias")}


class _WithToken(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.ones(4))

    def forward(self, values):
        return values + self.token


def test_it_learns_in_a_stream_that_it_is_unsure_of():
    """Seen from afar: the teacher moves, slowly, and a reset forgets it."""
    source = classifier_of(network("batch"))
    adapter = CoTTA(source, lr=0.01, augmentations=1)
    first = adapter.predict(pictures(4))
    for _ in range(3):
        adapter.predict(pictures(4))
    assert not np.array_equal(adapter.predict(pictures(4)), first)
    adapter.reset()
    np.testing.assert_array_equal(adapter.predict(pictures(4)), first)
