"""NOTE against the published algorithm, computed by hand on a tiny network."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from shiftproof.adapt import NOTE
from shiftproof.adapt.learning.memory import ReservoirMemory
from shiftproof.adapt.normalization.instances import correct_by_instance
from shiftproof.adapt.normalization.statistics import Statistics
from shiftproof.errors import InputError
from support.norm_networks import classifier_of, network
from support.small_networks import noise, pictures

K, LR, WEIGHT = 1.5, 0.02, 0.2


def soft_shrink(value, by):
    return math.copysign(max(abs(value) - by, 0), value)


def test_the_correction_by_hand():
    """Equations 3 to 6 of Gong et al. 2022, one channel of one image at a time, in numpy."""
    x = noise(3).double() * torch.tensor([0.2, 1, 5]).view(3, 1, 1, 1)
    layer = Statistics(torch.tensor([0.1, 0.9, -2]).double(), torch.tensor([1, 3, 0.5]).double())
    for k in (0.0, 1.0, 4.0):
        means, variances = correct_by_instance(x, layer, k, 1e-3)
        for n in range(3):
            for c in range(3):
                values, size = x[n, c].numpy(), 256
                mu, sigma2 = float(layer.mean[c]), float(layer.variance[c])
                by_mean = k * math.sqrt((sigma2 + 1e-3) / size)
                by_variance = k * (sigma2 + 1e-3) * math.sqrt(2 / (size - 1))
                mean = mu + soft_shrink(values.mean() - mu, by_mean)
                variance = sigma2 + soft_shrink(values.var(ddof=1) - sigma2, by_variance)
                assert float(means[n, c]) == pytest.approx(mean)
                assert float(variances[n, c]) == pytest.approx(max(variance, 0))
    # Without tolerance each image has its own statistics alone.
    own, _ = correct_by_instance(x, layer, 0.0, 1e-3)
    torch.testing.assert_close(own, x.mean((2, 3)))


@pytest.mark.parametrize(
    ("shape", "k"), [((4, 3, 1, 1), 2.0), ((4, 3), 2.0), ((4, 3, 5), math.inf)]
)
def test_nothing_is_corrected_by_a_single_value(shape, k):
    layer = Statistics(torch.zeros(3), torch.ones(3))
    mean, variance = correct_by_instance(torch.full(shape, 50.0), layer, k, 1e-5)
    assert torch.equal(mean, layer.mean)
    assert torch.equal(variance, layer.variance)


class InstanceAware(nn.Module):
    """Instance-aware batch norm as the paper defines it; by the batch while ``learns`` is on."""

    def __init__(self, layer):
        super().__init__()
        self.mean, self.variance = layer.running_mean.clone(), layer.running_var.clone()
        self.weight, self.bias, self.eps = layer.weight, layer.bias, layer.eps
        self.learns = False

    def forward(self, x):
        mean, variance = self.mean, self.variance
        if self.learns:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
            self.mean = ((1 - WEIGHT) * self.mean + WEIGHT * mean).detach()
            self.variance = ((1 - WEIGHT) * self.variance + WEIGHT * variance).detach()
        size = x[0, 0].numel()
        own, spread = x.mean((2, 3)) - mean, x.var((2, 3)) - variance
        by_mean = K * ((variance + self.eps) / size).sqrt()
        by_variance = K * (variance + self.eps) * (2 / (size - 1)) ** 0.5
        center = mean + own.sign() * (own.abs() - by_mean).clamp(min=0)
        scale = variance + spread.sign() * (spread.abs() - by_variance).clamp(min=0)
        center, scale = center[..., None, None], scale.clamp(min=0)[..., None, None]
        z = (x - center) / (scale + self.eps).sqrt()
        return z * self.weight[:, None, None] + self.bias[:, None, None]


@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_the_published_algorithm(kind):
    module = network(kind).double()
    adapter = NOTE(classifier_of(module), lr=LR, k=K, weight=WEIGHT, memory=40, every=4)
    reference = copy.deepcopy(module).eval()
    for place, layer in enumerate(reference):
        if isinstance(layer, nn.BatchNorm2d):
            reference[place] = InstanceAware(layer)
    norms = [m for m in reference if isinstance(m, (InstanceAware, nn.LayerNorm))]
    optimizer = torch.optim.Adam([p for m in norms for p in m.parameters()], lr=LR)
    seen = []
    for seed in range(3):
        logits = adapter.predict(pictures(5, seed=seed))
        x = (torch.from_numpy(pictures(5, seed=seed)).permute(0, 3, 1, 2) / 255 * 2 - 1).double()
        for image, answer in zip(x, logits, strict=True):
            with torch.no_grad():
                np.testing.assert_allclose(answer, reference(image[None])[0], atol=1e-4)
            seen.append(image)
            if len(seen) % 4 == 0:
                learn(reference, norms, optimizer, torch.stack(seen))
    merged = adapter.merge()
    for place, wanted in enumerate(reference):
        if wanted in norms:
            torch.testing.assert_close(
                merged[place].weight.data, wanted.weight.data, atol=1e-4, rtol=1e-4
            )
            assert not torch.allclose(merged[place].weight, module[place].weight, atol=LR)
        if isinstance(wanted, InstanceAware):
            torch.testing.assert_close(merged[place].running_var, wanted.variance)


def learn(reference, norms, optimizer, x):
    for layer in norms:
        layer.learns = True
    p = reference(x).softmax(1)
    optimizer.zero_grad()
    (-(p * p.log()).sum(1)).mean().backward()
    optimizer.step()
    for layer in norms:
        layer.learns = False


def test_a_stream_cut_into_other_batches_gives_the_same_answers():
    def run(*cuts):
        adapter = NOTE(classifier_of(network("batch")), memory=6, every=4, lr=0.1)
        parts = np.split(pictures(13), cuts)
        return np.concatenate([adapter.predict(part) for part in parts])

    np.testing.assert_allclose(run(5), run(1, 2, 9, 12), atol=1e-5)


def test_without_correction_it_predicts_as_its_merged_model():
    source = classifier_of(network("batch"))
    adapter = NOTE(source, k=math.inf, memory=4, lr=0.1, weight=0.5)
    np.testing.assert_allclose(adapter.predict(pictures(4)), source.predict(pictures(4)), atol=1e-5)
    with adapter.frozen():
        np.testing.assert_allclose(
            adapter.predict(pictures(4)),
            classifier_of(adapter.merge()).predict(pictures(4)),
            atol=1e-5,
        )


def test_images_of_another_size_are_refused():
    module = network("batch")
    adapter = NOTE(module, memory=4)
    adapter(noise(3))
    with pytest.raises(InputError, match=r"expected images \(3, 16, 16\) as those it remembers"):
        adapter(noise(3, size=20))
    adapter.reset()
    adapter(noise(3, size=20))


class TestReservoir:
    def test_all_enter_until_it_is_full_and_none_beyond(self):
        memory = ReservoirMemory(5)
        for number in range(9):
            memory = memory.add(torch.full((1,), float(number)), number % 2)
            assert len(memory.items) == min(number + 1, 5)
        assert memory.counts == {0: 5, 1: 4}

    def test_it_is_balanced_under_a_stream_that_is_sorted(self):
        memory = ReservoirMemory(12)
        for number in range(400):
            memory = memory.add(torch.zeros(1), number // 100)
        labels = [item.label for item in memory.items]
        assert [labels.count(label) for label in range(4)] == [3] * 4

    def test_each_image_of_a_class_stays_with_the_same_probability(self):
        """Vitter 1985: 3 of 12, in 800 reservoirs; each is kept 200 times, give or take 12."""
        kept = np.zeros(12)
        for seed in range(800):
            memory = ReservoirMemory(3, seed)
            for _ in range(12):
                memory = memory.add(torch.zeros(1), 0)
            kept[[item.born for item in memory.items]] += 1
        assert kept.sum() == 2400
        assert abs(kept - 200).max() < 50  # four standard deviations
        assert ((kept - 200) ** 2 / 200).sum() < 35

    def test_a_smaller_class_takes_the_place_of_a_larger(self):
        memory = ReservoirMemory(4)
        for label in (0, 0, 0, 0, 1):
            memory = memory.add(torch.zeros(1), label)
        assert sorted(item.label for item in memory.items) == [0, 0, 0, 1]
