"""EATA, SAR, DeYO and ROID against the published algorithms, written out with torch's optimiser."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shiftproof.adapt import EATA, ROID, SAR, DeYO, make_adapter
from shiftproof.adapt.learning.sample_weights import update_mean, weigh_entropies
from shiftproof.adapt.methods.deyo import measure_drops, shuffle_patches
from shiftproof.adapt.methods.eata import default_similarity
from shiftproof.adapt.methods.roid import correct_prior, soft_likelihood_ratio, weigh_answers
from shiftproof.errors import InputError, ModelError
from shiftproof.rng import generator
from support.small_networks import (
    classifier,
    convolutional,
    noise,
    pictures,
    portrait,
    with_layer_norm,
)

BATCHES = [noise(8, seed=1), noise(8, seed=2), noise(5, seed=3)]


def spread(make, factor):
    """Return what makes a network with answers of all kinds: centered, and times a factor."""

    def make_spread():
        module = make()
        with torch.no_grad():
            head = module[-1]
            head.bias -= training_batch_norm(module)(BATCHES[0]).mean(0)
            head.weight *= factor
            head.bias *= factor
        return module

    return make_spread


NETWORKS = {"batch norm": spread(convolutional, 12), "layer norm": spread(with_layer_norm, 3)}
RATE, MOMENTUM = 0.05, 0.9
LOG_K = math.log(5)


def training_batch_norm(module):
    module = copy.deepcopy(module).eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.train()
    return module


def affine(module):
    kinds = (nn.BatchNorm2d, nn.LayerNorm)
    return [p for layer in module.modules() if isinstance(layer, kinds) for p in layer.parameters()]


def compute_entropy(logits):
    return torch.distributions.Categorical(logits=logits).entropy()


def make_student(network, rate=RATE):
    student = training_batch_norm(NETWORKS[network]())
    return student, torch.optim.SGD(affine(student), lr=rate, momentum=MOMENTUM)


def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def check(adapter, outputs, student):
    """Hold the answers to each batch and what was learned against those of a plain loop."""
    for batch, expected in zip(BATCHES, outputs, strict=True):
        torch.testing.assert_close(adapter(batch), expected, rtol=2e-5, atol=2e-5)
    learned = dict(adapter.merge().named_parameters())
    moved = 0.0
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(learned[name], parameter, rtol=1e-4, atol=1e-5)
        start = adapter._learner.first.get(name, parameter.detach())
        moved = max(moved, float((parameter.detach() - start).abs().max()))
    assert moved > 1e-3


@pytest.mark.parametrize("network", NETWORKS)
class TestAgainstAPlainLoop:
    @pytest.mark.parametrize("with_source", [False, True])
    def test_eata(self, network, with_source):
        student, optimizer = make_student(network)
        margin, similarity, alpha = 0.8 * LOG_K, 0.97, 50.0
        source = [noise(6, seed=7), noise(6, seed=8)] if with_source else []
        first = [p.detach().clone() for p in affine(student)]
        fisher = [torch.zeros_like(p) for p in first]
        for batch in source:
            logits = student(batch)
            grads = torch.autograd.grad(F.cross_entropy(logits, logits.argmax(1)), affine(student))
            fisher = [f + g**2 / len(source) for f, g in zip(fisher, grads, strict=True)]
        mean, outputs, counts = None, [], []
        for batch in BATCHES:
            logits = student(batch)
            outputs.append(logits.detach())
            h, p = compute_entropy(logits), logits.softmax(1).detach()
            kept = h.detach() < margin
            if mean is not None:
                kept &= F.cosine_similarity(mean[None], p).abs() < similarity
            counts.append(int(kept.sum()))
            loss = (h[kept] / torch.exp(h[kept].detach() - margin)).mean()
            for importance, parameter, start in zip(fisher, affine(student), first, strict=True):
                loss = loss + alpha * (importance * (parameter - start) ** 2).sum()
            step(optimizer, loss)
            mean = p[kept].mean(0) if mean is None else 0.9 * mean + 0.1 * p[kept].mean(0)
        assert min(counts) > 0
        assert sum(counts) < 21
        adapter = EATA(
            NETWORKS[network](), source=source, fisher=alpha, margin=0.8, similarity=similarity,
            lr=RATE, prior=0,
        )  # fmt: skip
        assert adapter.settings["method"] == ("EATA" if with_source else "ETA")
        check(adapter, outputs, student)

    def test_sar(self, network):
        student, optimizer = make_student(network)
        margin, rho = 0.8 * LOG_K, 0.1
        outputs, counts = [], []
        for batch in BATCHES:
            logits = student(batch)
            outputs.append(logits.detach())
            h = compute_entropy(logits)
            reliable = h.detach() < margin
            grads = torch.autograd.grad(h[reliable].mean(), affine(student))
            norm = torch.cat([g.flatten() for g in grads]).norm()
            starts = [p.detach().clone() for p in affine(student)]
            with torch.no_grad():
                for parameter, gradient in zip(affine(student), grads, strict=True):
                    parameter.add_(rho * gradient / norm)
            second = compute_entropy(student(batch))
            kept = reliable & (second.detach() < margin)
            counts.append(int(kept.sum()))
            optimizer.zero_grad()
            second[kept].mean().backward()
            with torch.no_grad():
                for parameter, start in zip(affine(student), starts, strict=True):
                    parameter.copy_(start)
            optimizer.step()
        assert min(counts) > 0
        assert sum(counts) < 21
        adapter = SAR(
            NETWORKS[network](), margin=0.8, rho=rho, recovery=0, lr=RATE, layers="all", prior=0
        )
        check(adapter, outputs, student)

    def test_deyo(self, network):
        student, optimizer = make_student(network)
        outputs, counts = [], []
        for number, batch in enumerate(BATCHES):
            orders = generator(0, "deyo", str(number)).random((len(batch), 16)).argsort(1)
            patches = F.unfold(batch, 4, stride=4)  # (N, 3 * 16, 16 places)
            moved = torch.stack([one[:, o] for one, o in zip(patches, orders, strict=True)])
            shuffled = F.fold(moved, (16, 16), 4, stride=4)
            with torch.no_grad():
                after = student(shuffled).softmax(1)
            logits = student(batch)
            outputs.append(logits.detach())
            h, p = compute_entropy(logits), logits.softmax(1).detach()
            rows, answer = torch.arange(len(batch)), p.argmax(1)
            drop = p[rows, answer] - after[rows, answer]
            kept = (h.detach() < 0.95 * LOG_K) & (drop > -0.05)
            counts.append(int(kept.sum()))
            weight = 1 / torch.exp(h.detach() - 0.4 * LOG_K) + 1 / torch.exp(-drop)
            if counts[-1]:
                step(optimizer, (h * weight)[kept].mean())
        assert 0 < sum(counts) < 21
        adapter = DeYO(NETWORKS[network](), margin=0.95, lr=RATE, layers="all", prior=0)
        adapter.drop = -0.05  # below its range, so that some images of noise count
        check(adapter, outputs, student)

    @pytest.mark.parametrize("consistency", [False, True])
    def test_roid(self, network, consistency):
        student, optimizer = make_student(network, 0.002)
        first = [p.detach().clone() for p in affine(student)]
        adapter = ROID(
            NETWORKS[network](),
            keep=0.9,
            consistency=consistency,
            correction=False,
            lr=0.002,
            prior=0,
        )
        mean, outputs = torch.full((5,), 0.2), []
        for number, batch in enumerate(BATCHES):
            logits = student(batch)
            outputs.append(logits.detach())
            p = logits.softmax(1)
            with torch.no_grad():
                novelty = 1 - F.cosine_similarity(mean[None], p)
                novelty = (novelty - novelty.min()) / (novelty.max() - novelty.min())
                sure = -compute_entropy(logits)
                sure = (sure - sure.min()) / (sure.max() - sure.min())
                weights = torch.exp(novelty * sure * 3) * (novelty >= novelty.mean())
            clipped = p.clamp(0, 0.99)
            losses = -(clipped * torch.log(clipped / (1 - clipped) + 1e-5)).sum(1)
            if consistency:
                other = student(adapter._augment(batch, number))
                losses = losses - 0.5 * (p * other.log_softmax(1)).sum(1)
                losses = losses - 0.5 * (other.softmax(1) * logits.log_softmax(1)).sum(1)
            step(optimizer, (losses * weights).sum() / len(batch))
            with torch.no_grad():
                for parameter, start in zip(affine(student), first, strict=True):
                    parameter.copy_(0.9 * parameter + 0.1 * start)
            mean = 0.9 * mean + 0.1 * p.detach().mean(0)
        check(adapter, outputs, student)


class TestParts:
    """By hand."""

    def test_the_weight_of_an_entropy(self):
        weights = weigh_entropies(torch.tensor([0.0, 1.0, 2.0]), 1.0)
        assert weights.tolist() == pytest.approx([math.e, 1, 1 / math.e])

    def test_the_moving_average(self):
        rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        assert update_mean(None, rows).tolist() == [0.5, 0.5]
        assert update_mean(torch.tensor([1.0, 0.0]), rows).tolist() == pytest.approx([0.95, 0.05])

    def test_the_published_similarities(self):
        assert default_similarity(10) == pytest.approx(0.4)
        assert default_similarity(1000) == pytest.approx(0.05)
        assert default_similarity(100) == pytest.approx(math.sqrt(0.4 * 0.05))
        assert default_similarity(2) == 0.4

    def test_patches_change_places(self):
        image = torch.arange(16.0).reshape(1, 1, 4, 4)
        moved = shuffle_patches(image, torch.tensor([[3, 0, 1, 2]]), 2)
        expected = [[10, 11, 0, 1], [14, 15, 4, 5], [2, 3, 8, 9], [6, 7, 12, 13]]
        assert moved[0, 0].tolist() == expected
        odd = torch.rand(2, 3, 7, 9)
        assert shuffle_patches(odd, torch.tensor([[0, 1, 2, 3]] * 2), 2).shape == odd.shape

    def test_the_drop_of_the_answer(self):
        before = torch.tensor([[0.7, 0.3], [0.4, 0.6]]).log()
        after = torch.tensor([[0.2, 0.8], [0.1, 0.9]]).log()
        assert measure_drops(before, after).tolist() == pytest.approx([0.5, -0.3], abs=1e-6)

    def test_the_likelihood_ratio(self):
        logits = torch.tensor([[0.8, 0.2]]).log()
        expected = -(0.8 * math.log(4 + 1e-5) + 0.2 * math.log(0.25 + 1e-5))
        assert float(soft_likelihood_ratio(logits)) == pytest.approx(expected, rel=1e-5)
        sure = torch.tensor([[20.0, 0.0]], requires_grad=True)
        soft_likelihood_ratio(sure).sum().backward()
        assert torch.isfinite(sure.grad).all()

    def test_the_prior_of_the_batch(self):
        """p = (0.7, 0.3) on average of two images: s = (1 / 2) / 0.7."""
        p = torch.tensor([[0.9, 0.1], [0.5, 0.5]])
        s = 0.5 / 0.7
        prior = torch.tensor([(0.7 + s) / (1 + 2 * s), (0.3 + s) / (1 + 2 * s)])
        torch.testing.assert_close(correct_prior(p.log()).exp(), p * prior)
        broken = torch.cat([p.log(), torch.full((1, 2), math.nan)])
        torch.testing.assert_close(correct_prior(broken)[:2].exp(), p * prior)

    def test_a_single_image_weighs_one(self):
        assert weigh_answers(torch.tensor([[3.0, 0.0]]), torch.tensor([0.5, 0.5])).tolist() == [1.0]


class TestMemory:
    def test_eata_leaves_out_what_is_like_what_came_before(self):
        adapter = EATA(convolutional(), margin=1.0, similarity=0.0, lr=RATE)
        adapter(BATCHES[0])  # there is no average yet
        before = portrait(adapter)
        adapter(BATCHES[0])
        after = portrait(adapter)
        assert all(after[name] == value for name, value in before.items() if "weight" in name)

    def test_eata_is_held_by_the_source(self):
        free = EATA(convolutional(), margin=1.0, similarity=1.0, lr=RATE)
        held = EATA(
            convolutional(), source=[noise(8)], fisher=20.0, margin=1.0, similarity=1.0, lr=RATE
        )
        distances = []
        for adapter in (free, held):
            for batch in BATCHES * 3:
                adapter(batch)
            start, now = convolutional(), adapter.merge()
            distances.append(float((now[5].bias - start[5].bias).detach().norm()))
        assert distances[1] < distances[0]

    def test_eata_takes_images_of_a_classifier(self):
        one = EATA(classifier(), source=[pictures()])
        inputs = torch.from_numpy(pictures()).permute(0, 3, 1, 2)
        other = EATA(classifier(), source=[inputs])
        assert one.settings["importance"] == other.settings["importance"] is not None
        another = EATA(classifier(), source=[pictures(seed=1)])
        assert another.settings["importance"] != one.settings["importance"]

    def test_sar_recovers_from_answers_that_are_too_sure(self):
        adapter = SAR(convolutional(), margin=1.0, recovery=0.99, lr=RATE, layers="all")
        adapter(BATCHES[0])
        [event] = adapter.events
        assert event.kind == "reset"
        assert "The mean entropy of the answers fell to" in event.reason
        assert torch.equal(adapter.merge()[5].weight, convolutional()[5].weight)

    def test_sar_leaves_the_last_layers(self):
        assert SAR(convolutional(), layers="first-50%").settings["learnt"] == 2
        assert make_adapter("sar", classifier()).settings["layers"] == "first-75%"

    @pytest.mark.parametrize(
        "spec", ["eata:margin=1,lr=0.05", "sar:margin=1,lr=0.05", "roid:lr=0.05"]
    )
    def test_a_broken_batch_poisons_nothing(self, spec):
        adapter, other = (make_adapter(spec, convolutional()) for _ in range(2))
        broken = BATCHES[1].clone()
        broken[0, 0, 3, 3] = math.nan
        for one in (adapter, other):
            one(BATCHES[0])
        before = portrait(adapter)
        outputs = adapter(broken)
        assert portrait(adapter) == before
        assert [event.kind for event in adapter.events] == ["skipped"]
        assert torch.isfinite(outputs[1:]).all()
        assert torch.equal(adapter(BATCHES[2]), other(BATCHES[2]))


def test_refusals():
    for make, words in (
        (lambda: EATA(convolutional(), margin=2), "margin: expected a number, 0 to 1"),
        (lambda: EATA(convolutional(), fisher=-1), "fisher: expected a number, 0 or more"),
        (lambda: EATA(convolutional(), source=[noise() * math.nan]), "answers that are not finite"),
        (lambda: SAR(convolutional(), rho=-1), "rho: expected a number, 0 or more"),
        (lambda: DeYO(convolutional(), patches=0), "patches: expected a whole number, 1 or more"),
        (lambda: ROID(convolutional(), keep=1.5), "keep: expected a number, 0 to 1"),
    ):
        with pytest.raises(InputError, match=words):
            make()
    flat = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    with pytest.raises(ModelError, match=r"expected \(N, C, H, W\), got \(2, 4\)"):
        DeYO(flat)(torch.rand(2, 4))
