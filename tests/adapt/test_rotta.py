"""RoTTA against the published algorithm, computed by hand on a tiny network."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from shiftproof.adapt import RoTTA
from shiftproof.adapt.learning.memory import TimelyMemory
from shiftproof.adapt.methods import rotta
from support.norm_networks import classifier_of, network
from support.small_networks import pictures

WEIGHT, MOMENTUM, LR = 0.3, 0.4, 0.02


class MovingNorm(nn.Module):
    """Batch norm by statistics that move while ``moves`` is on, with the gradient through them."""

    def __init__(self, layer):
        super().__init__()
        self.mean, self.variance = layer.running_mean.clone(), layer.running_var.clone()
        self.weight, self.bias, self.eps = layer.weight, layer.bias, layer.eps
        self.moves = False

    def forward(self, x):
        mean, variance = self.mean, self.variance
        if self.moves:
            own = x.mean((0, 2, 3))
            spread = ((x - own[:, None, None]) ** 2).mean((0, 2, 3))
            mean = (1 - WEIGHT) * mean + WEIGHT * own
            variance = (1 - WEIGHT) * variance + WEIGHT * spread
            self.mean, self.variance = mean.detach(), variance.detach()
        z = (x - mean[:, None, None]) / (variance[:, None, None] + self.eps).sqrt()
        return z * self.weight[:, None, None] + self.bias[:, None, None]


def moving(module):
    module = copy.deepcopy(module).eval()
    for place, layer in enumerate(module):
        if isinstance(layer, nn.BatchNorm2d):
            module[place] = MovingNorm(layer)
    return module


def affine(module):
    kinds = (MovingNorm, nn.LayerNorm, nn.GroupNorm)
    return [p for layer in module if isinstance(layer, kinds) for p in layer.parameters()]


class SharedOut:
    """The memory of Yuan et al. 2023, algorithm 1, as one list per class."""

    def __init__(self, capacity, classes, timeliness=1):
        self.capacity, self.lists = capacity, [[] for _ in range(classes)]
        self.timeliness = timeliness

    def badness(self, age, entropy):
        recency = self.timeliness / (1 + math.exp(-age / self.capacity))
        return recency + entropy / math.log(len(self.lists))

    def offer(self, thing, label, entropy):
        sizes = [len(part) for part in self.lists]
        asked = []
        if sizes[label] >= self.capacity / len(self.lists):
            asked = [label]
        elif sum(sizes) >= self.capacity:
            asked = [place for place, size in enumerate(sizes) if size == max(sizes)]
        held = [(self.badness(*e[1:]), c, i) for c in asked for i, e in enumerate(self.lists[c])]
        enters = True
        if held:
            worst = max(held)
            enters = worst[0] > self.badness(0, entropy)
            if enters:
                del self.lists[worst[1]][worst[2]]
        if enters:
            self.lists[label].append([thing, 0, entropy])
        for part in self.lists:
            for entry in part:
                entry[1] += 1

    def all(self):
        return [entry for part in self.lists for entry in part]


def scale_only(monkeypatch):
    factors = []

    def apply(pixels, jitter):
        factors.append(jitter.scale)
        return (pixels * jitter.scale).clamp(0, 1)

    monkeypatch.setattr(rotta, "apply_jitter", apply)
    return factors


@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_the_published_algorithm(kind, monkeypatch):
    factors = scale_only(monkeypatch)
    module = network(kind).double()
    adapter = RoTTA(
        classifier_of(module), lr=LR, weight=WEIGHT, momentum=MOMENTUM, memory=6, every=4
    )
    student, teacher = moving(module), moving(module)
    optimizer = torch.optim.Adam(affine(student), lr=LR, betas=(0.9, 0.999))
    memory, count = SharedOut(6, 5), 0
    for seed in range(4):
        logits = adapter.predict(pictures(6, seed=seed))
        x = (torch.from_numpy(pictures(6, seed=seed)).permute(0, 3, 1, 2) / 255 * 2 - 1).double()
        with torch.no_grad():
            expected = teacher(x)
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        p = expected.softmax(1)
        for image, label, entropy in zip(x, p.argmax(1), -(p * p.log()).sum(1), strict=True):
            memory.offer(image, int(label), float(entropy))
            count += 1
            if count % 4 == 0:
                learn(student, teacher, optimizer, memory, factors[count // 4 - 1])
    assert len(factors) == 6
    merged = adapter.merge()
    for own, wanted in zip(merged, teacher, strict=True):
        if isinstance(wanted, MovingNorm):
            torch.testing.assert_close(own.running_mean, wanted.mean, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(own.running_var, wanted.variance, atol=1e-4, rtol=1e-4)
        if isinstance(wanted, (MovingNorm, nn.LayerNorm)):
            torch.testing.assert_close(own.weight.data, wanted.weight.data, atol=1e-4, rtol=1e-4)
            assert not torch.equal(own.weight, module[1].weight)


def learn(student, teacher, optimizer, memory, factor):
    entries = memory.all()
    x = torch.stack([entry[0] for entry in entries])
    ages = torch.tensor([entry[1] / memory.capacity for entry in entries])
    for layer in (*student, *teacher):
        layer.moves = True
    with torch.no_grad():
        target = teacher(x).softmax(1)
    bright = (((x + 1) / 2 * factor).clamp(0, 1) * 2 - 1).double()
    losses = -(target * student(bright).log_softmax(1)).sum(1)
    weights = torch.exp(-ages) / (1 + torch.exp(-ages))
    optimizer.zero_grad()
    (losses * weights).mean().backward()
    optimizer.step()
    with torch.no_grad():
        for taught, own in zip(affine(teacher), affine(student), strict=True):
            taught.copy_((1 - MOMENTUM) * taught + MOMENTUM * own)
    for layer in (*student, *teacher):
        layer.moves = False


@pytest.mark.parametrize("timeliness", [1, 0])
@pytest.mark.parametrize("capacity", [1, 4, 7, 20])
def test_the_memory_is_that_of_the_algorithm(capacity, timeliness):
    rng = np.random.default_rng(capacity)
    memory = TimelyMemory(capacity, timeliness)
    wanted = SharedOut(capacity, 4, timeliness)
    for number in range(120):
        label = int(rng.integers(4)) if number % 3 else 0
        # Without ages many are equally dispensable: then the last one goes.
        entropy = float(rng.uniform(0, math.log(4)) if timeliness else rng.integers(3) / 3)
        memory = memory.add(torch.full((1, 1, 1), number), label, entropy, 4)
        wanted.offer(number, label, entropy)
        held = sorted(
            (int(i.image), i.label, round(age * capacity))
            for i, age in zip(memory.items, memory.ages(), strict=True)
        )
        assert held == sorted(
            (entry[0], c, entry[1]) for c, part in enumerate(wanted.lists) for entry in part
        )


def test_the_memory_is_balanced_under_a_stream_of_one_class():
    memory = TimelyMemory(8)
    for number in range(40):
        memory = memory.add(torch.zeros(1, 1, 1), 0 if number > 3 else number, 0.1, 4)
    labels = [item.label for item in memory.items]
    assert labels.count(0) == 2  # 8 / 4
    assert {1, 2, 3} <= set(labels)


def test_a_prediction_does_not_hang_on_its_batch():
    adapter = RoTTA(classifier_of(network("batch")), memory=6, every=6, lr=0.1, momentum=0.5)
    adapter.predict(pictures(12))
    with adapter.frozen():
        together = adapter.predict(pictures(5, seed=1))
        alone = [adapter.predict(image[None])[0] for image in pictures(5, seed=1)]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_merge_predicts_as_the_frozen_adapter():
    source = classifier_of(network("batch"))
    adapter = RoTTA(source, memory=6, every=6, lr=0.1, momentum=0.5)
    adapter.predict(pictures(12))
    plain = classifier_of(adapter.merge())
    with adapter.frozen():
        np.testing.assert_allclose(
            plain.predict(pictures(5)), adapter.predict(pictures(5)), atol=1e-5
        )
    assert not np.allclose(source.predict(pictures(5)), plain.predict(pictures(5)), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("memory/images", torch.zeros(3, 3)),
        ("memory/labels", torch.zeros(2, dtype=torch.int64)),
        ("memory/labels", -torch.ones(5, dtype=torch.int64)),
        ("memory/born", torch.full((5,), 99)),
        ("memory/images", torch.full((5, 3, 16, 16), torch.nan)),
        ("memory/offered", torch.tensor(-1)),
    ],
)
def test_a_damaged_memory_is_refused(name, value):
    from shiftproof.errors import InputError

    adapter = RoTTA(classifier_of(network("batch")), memory=30)
    adapter.predict(pictures(5))
    state = adapter.state()
    with pytest.raises(InputError):
        adapter.load_state({**state, name: value})
    with pytest.raises(InputError):
        adapter.load_state({n: v for n, v in state.items() if n != name})
    adapter.load_state(state)
