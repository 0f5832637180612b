"""MEMO against the published algorithm, computed by hand on a tiny network."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from shiftproof.adapt import MEMO
from shiftproof.adapt.learning.losses import marginal_entropy
from shiftproof.adapt.methods import memo
from support.norm_networks import classifier_of, network
from support.small_networks import pictures


def brighten(monkeypatch):
    """Let the augmentations be brightnesses, by number."""
    numbers = []

    def augment(image, rng, crop):
        numbers.append(0.4 + 0.3 * (len(numbers) % 3))
        return (image / np.float32(255) * np.float32(numbers[-1])).astype(np.float32)

    monkeypatch.setattr(memo, "augment_by_mixing", augment)
    return numbers


class Mixed(nn.Module):
    """Batch norm by ``16 / 17`` of the source's statistics and ``1 / 17`` of the batch's."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        own = x.detach().mean((0, 2, 3))
        spread = ((x.detach() - own[:, None, None]) ** 2).mean((0, 2, 3))
        mean = 16 / 17 * self.layer.running_mean + own / 17
        variance = 16 / 17 * self.layer.running_var + spread / 17
        z = (x - mean[:, None, None]) / (variance[:, None, None] + self.layer.eps).sqrt()
        return z * self.layer.weight[:, None, None] + self.layer.bias[:, None, None]


def by_hand(module, image, lr, steps):
    """Zhang et al. 2022, algorithm 1: steps of plain SGD on equation 3, and the image itself."""
    module = copy.deepcopy(module).eval()
    for place, layer in enumerate(module):
        if isinstance(layer, nn.BatchNorm2d):
            module[place] = Mixed(layer)
    x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    for _ in range(steps):
        looks = torch.cat([x * factor for factor in (0.4, 0.7, 1.0)]) * 2 - 1
        mean = module(looks.double()).softmax(1).mean(0)
        loss = -(mean * mean.log()).sum()
        parameters = [p for p in module.parameters() if p.requires_grad]
        for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.data -= lr * g
    with torch.no_grad():
        return module((x * 2 - 1).double())[0].numpy()


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("kind", ["batch", "layer", "group"])
def test_the_published_algorithm(kind, steps, monkeypatch):
    brighten(monkeypatch)
    module = network(kind).double()
    adapter = MEMO(classifier_of(module), lr=0.05, augmentations=3, steps=steps)
    logits = adapter.predict(pictures(3))
    expected = [by_hand(module, image, 0.05, steps) for image in pictures(3)]
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    unmoved = [by_hand(module, image, 0.0, steps) for image in pictures(3)]
    assert np.abs(logits - unmoved).max() > 0.01


def test_adamw_decays_the_weights(monkeypatch):
    """The first step of AdamW is ``lr (0.01 w + g / |g|)`` (Loshchilov & Hutter 2019)."""
    brighten(monkeypatch)
    seen = []
    adapter = MEMO(
        classifier_of(network("group").double()), lr=0.1, optimizer="adamw", augmentations=3
    )
    restore = adapter._steps.restore
    monkeypatch.setattr(
        adapter._steps,
        "restore",
        lambda first: (
            seen.extend(p.detach().clone() for p in adapter.parameters()),
            restore(first),
        ),
    )
    adapter.predict(pictures(1))
    for moved, first in zip(seen, network("group").double().parameters(), strict=True):
        step = (first.data - moved) / 0.1 - 0.01 * first.data
        assert float((step.abs() - 1).abs().median()) < 1e-3


def test_the_marginal_entropy_by_hand():
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    p = np.exp(logits.numpy()).astype(float)
    p = (p / p.sum(1, keepdims=True)).mean(0)
    assert float(marginal_entropy(logits)) == pytest.approx(-(p * np.log(p)).sum())
    # Sure and at odds; sure and agreed; one class ruled out.
    assert float(marginal_entropy(torch.eye(4) * 500)) == pytest.approx(math.log(4))
    assert float(marginal_entropy(torch.tensor([[500.0, 0], [500, 0]]))) == 0
    ruled_out = torch.tensor([[0.0, 0.0, -math.inf]]).requires_grad_()
    assert float(marginal_entropy(ruled_out).detach()) == pytest.approx(math.log(2))


def test_neither_order_nor_batch_changes_an_answer():
    adapter = MEMO(classifier_of(network("batch")), lr=0.1, augmentations=2)
    together = adapter.predict(pictures(4))
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(adapter.predict(pictures(4)[order]), together[order], atol=1e-6)
    alone = [adapter.predict(image[None])[0] for image in pictures(4)]
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_what_it_learns_is_the_source_again_afterwards():
    module = network("batch")
    adapter = MEMO(classifier_of(module), lr=1.0, augmentations=2)
    answer = adapter.predict(pictures(2))
    assert not np.allclose(answer, classifier_of(module).predict(pictures(2)), atol=0.1)
    for own, first in zip(adapter.parameters(), module.parameters(), strict=True):
        assert torch.equal(own, first)
    assert adapter.state() == {}


def test_tensors_and_images_are_augmented_alike():
    adapter = MEMO(classifier_of(network("batch")), lr=0.1, augmentations=2)
    images = pictures(2)
    floats = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    np.testing.assert_allclose(adapter(floats).numpy(), adapter.predict(images), atol=1e-4)
