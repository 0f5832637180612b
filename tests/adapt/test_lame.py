"""LAME against an implementation of the paper's equations in numpy, and its energy by hand."""

import math

import numpy as np
import pytest
import scipy.special
import timm
import torch
from torch import nn

from shiftproof.adapt import LAME
from shiftproof.adapt.learning.few_classes import holds_few_classes
from shiftproof.adapt.methods.lame import laplacian_assignments
from shiftproof.errors import InputError, ModelError, UnknownNameError
from support.small_networks import (
    classifier,
    convolutional,
    noise,
    pictures,
    portrait,
    with_layer_norm,
)


def random_batch(count=20, classes=4, width=7, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 2, (classes, width))
    labels = rng.integers(0, classes, count)
    features = centres[labels] + rng.normal(0, 0.7, (count, width))
    logits = rng.normal(0, 1.2, (count, classes))
    logits[np.arange(count), labels] += 1
    return logits, features, labels


def affinity(features, k, links="published"):
    """Nearest by the Euclidean distance of normalised features, which orders as the cosine does."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distance = ((unit[:, None] - unit[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    w = np.zeros_like(distance)
    for i, row in enumerate(distance):
        w[i, np.argsort(row)[:k]] = 1
    return (w + w.T) / 2 if links == "symmetric" else w


def energy(z, p, w):
    """Sum of KL(z_i || p_i) less the agreement of neighbours (Boudiaf et al. 2022, eq. 4).

    The agreement of a pair counts once, in both orders by half: its gradient is then w z.
    """
    return (z * (np.log(z) - np.log(p))).sum() - 0.5 * (w * (z @ z.T)).sum()


def by_the_paper(logits, features, k, links="published", steps=2000):
    """z_i <- p_i exp(sum_j w_ij z_j), one image and one class after the other."""
    p, w = scipy.special.softmax(logits, 1), affinity(features, k, links)
    z = p.copy()
    for _ in range(steps):
        new = np.empty_like(z)
        for i in range(len(z)):
            new[i] = p[i] * np.exp(sum(w[i, j] * z[j] for j in range(len(z)) if w[i, j]))
            new[i] /= new[i].sum()
        if np.abs(new - z).max() < 1e-9:
            break
        z = new
    return new


def by_the_published_code(logits, features, k):
    """LAME as its authors wrote it: kNN by Euclidean distance, one direction, energy as the stop.

    Boudiaf et al. 2022: unary = -log(p + 1e-10); Y = softmax(-unary); then Y = softmax(W Y - unary)
    until the energy, the sum of unary Y - pairwise Y + Y log Y, settles to 1e-8.
    """
    unary = -np.log(scipy.special.softmax(logits, 1) + 1e-10)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distance = np.linalg.norm(unit[:, None] - unit[None], axis=-1)
    w = np.zeros_like(distance)
    for i, row in enumerate(distance):
        w[i, np.argsort(row)[1 : k + 1]] = 1  # the first is the image itself
    y, before = scipy.special.softmax(-unary, 1), math.inf
    for step in range(100):
        pairwise = w @ y
        y = scipy.special.softmax(pairwise - unary, 1)
        energy = (unary * y - pairwise * y + y * np.log(np.clip(y, 1e-20, None))).sum()
        if step > 1 and abs(energy - before) <= 1e-8 * abs(before):
            break
        before = energy
    return y


def assigned(logits, features, k, links="published"):
    logits, features = torch.from_numpy(logits), torch.from_numpy(features)
    result = laplacian_assignments(logits, features, k, links)
    return result.exp().double().numpy()


class TestMathematics:
    @pytest.mark.parametrize("links", ["published", "symmetric"])
    @pytest.mark.parametrize("k", [1, 3, 5, 100])
    def test_it_is_the_paper_s_fixed_point(self, k, links):
        logits, features, _ = random_batch()
        expected = by_the_paper(logits, features, min(k, 19), links)
        np.testing.assert_allclose(assigned(logits, features, k, links), expected, atol=2e-4)

    @pytest.mark.parametrize(("count", "seed"), [(64, 1), (128, 0), (200, 0)])
    def test_the_default_gives_the_published_code_s_answers(self, count, seed):
        """Its steps with its own constants; the two ways to link differ in some of the answers."""
        logits, features, _ = random_batch(count, seed=seed)
        expected = by_the_published_code(logits, features, 5).argmax(1)
        assert (assigned(logits, features, 5).argmax(1) == expected).all()
        assert (assigned(logits, features, 5, "symmetric").argmax(1) != expected).any()

    def test_one_direction_by_hand(self):
        """0 and 1 are each other's nearest; 2's nearest is 1, and nobody's nearest is 2."""
        features = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 1.0]])
        logits = np.log([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]])
        one_way = assigned(logits, features, 1)
        np.testing.assert_allclose(one_way[:2], 0.5, atol=1e-5)
        # p (0.9, 0.1) times exp of (0.5, 0.5)
        np.testing.assert_allclose(one_way[2], [0.9, 0.1], atol=1e-5)
        assert assigned(logits, features, 1, "symmetric")[1, 0] > 0.51

    def test_it_has_the_lowest_energy_of_all_steps_to_it(self):
        logits, features, _ = random_batch()
        p, w = scipy.special.softmax(logits, 1), affinity(features, 3, "symmetric")
        result = np.clip(assigned(logits, features, 3, "symmetric"), 1e-30, 1)
        energies = [energy((1 - t) * p + t * result, p, w) for t in np.linspace(0, 1, 11)]
        assert energies == sorted(energies, reverse=True)

    def test_two_images_by_hand(self):
        """Neighbours of each other, p = (1/2, 1/2) both: symmetry keeps them where they are."""
        logits = np.zeros((2, 2))
        np.testing.assert_allclose(assigned(logits, np.ones((2, 3)), 5), 0.5)

    def test_neighbours_pull_an_unsure_image_over(self):
        logits = np.array([[4.0, 0], [4, 0], [4, 0], [0, 0.3]])
        features = np.ones((4, 2)) + np.arange(8).reshape(4, 2) / 1000
        assert assigned(logits, features, 3).argmax(1).tolist() == [0, 0, 0, 0]

    def test_it_mends_answers_of_images_that_lie_in_groups(self):
        logits, features, labels = random_batch(60)
        before = (logits.argmax(1) == labels).mean()
        after = (assigned(logits, features, 5).argmax(1) == labels).mean()
        assert after > before + 0.1

    def test_the_order_of_the_batch_does_not_matter(self):
        logits, features, _ = random_batch()
        order = np.random.default_rng(1).permutation(len(logits))
        np.testing.assert_allclose(
            assigned(logits[order], features[order], 3), assigned(logits, features, 3)[order],
            atol=1e-5,
        )  # fmt: skip

    def test_a_single_image_keeps_its_answer(self):
        logits = torch.tensor([[1.0, 2.0]])
        expected = torch.log_softmax(logits, 1)
        torch.testing.assert_close(laplacian_assignments(logits, torch.ones(1, 3)), expected)
        assert laplacian_assignments(logits[:0], torch.ones(0, 3)).shape == (0, 2)

    def test_extreme_logits_and_empty_features(self):
        logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4], [0, 0]])
        result = laplacian_assignments(logits, torch.zeros(3, 2))
        assert torch.isfinite(result).all()
        torch.testing.assert_close(result.exp().sum(1), torch.ones(3))


class TestFewClasses:
    @pytest.mark.parametrize(
        ("counts", "few"),
        [
            # Of 16 sure answers: the entropy is 4 times 1/4 log 4, of log 10 at the most: 0.60.
            ((4, 4, 4, 4), True),
            # 6 classes: log 6 / log 10 is 0.78.
            ((3, 3, 3, 3, 3, 3), False),
            ((16,), True),
            # Two images of two classes are as mixed as two can be.
            ((1, 1), False),
            ((1,), False),
        ],
    )
    def test_by_the_entropy_of_the_mean_answer(self, counts, few):
        labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        assert holds_few_classes(100.0 * torch.eye(10)[labels]) is few

    def test_ruled_out_classes_and_no_images(self):
        logits = torch.zeros(8, 10).index_fill(1, torch.tensor([3]), -math.inf)
        assert not holds_few_classes(logits)
        assert not holds_few_classes(torch.zeros(0, 10))

    def test_a_batch_of_many_keeps_the_source_s_answers(self):
        x = 100 * torch.eye(5).repeat(3, 1)
        module = nn.Sequential(nn.Linear(5, 5, bias=False))
        module[0].weight.data = torch.eye(5)
        torch.testing.assert_close(LAME(module)(x), x.log_softmax(1))
        collapsed = 3 * torch.eye(5)[[0, 0, 0, 0, 0, 0, 0, 1]]
        paper = LAME(module, preset="paper")(collapsed)
        torch.testing.assert_close(LAME(module)(collapsed), paper)
        assert not torch.allclose(paper, collapsed.log_softmax(1))

    def test_presets(self):
        with pytest.raises(UnknownNameError, match="paper"):
            LAME(convolutional(), preset="papre")


class TestAdapter:
    def test_the_features_are_what_goes_into_the_last_linear_layer(self):
        module, x = convolutional(), noise(12)
        with torch.no_grad():
            features, logits = module[:-1](x), module(x)
        expected = by_the_paper(logits.double().numpy(), features.double().numpy(), 3)
        result = LAME(module, neighbors=3, preset="paper")(x)
        np.testing.assert_allclose(result.exp().numpy(), expected, atol=2e-4)

    def test_on_a_classifier(self):
        adapter = LAME(classifier())
        result = adapter.predict(pictures())
        np.testing.assert_allclose(np.exp(result).sum(1), 1, rtol=1e-5)
        assert list(adapter.parameters()) == []
        assert adapter.state() == {}
        assert adapter.events == ()
        with pytest.raises(InputError, match="holds 'last/images'"):
            adapter.load_state({"last/images": torch.tensor(0)})

    @pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
    def test_networks_of_timm(self, name):
        options = {"img_size": 32} if name.startswith("vit") else {}
        module = timm.create_model(name, num_classes=5, **options)
        assert torch.isfinite(LAME(module)(noise(4, 32))).all()

    def test_a_head_that_is_a_convolution_and_one_that_is_called_by_keyword(self):
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 5, 1))
        assert LAME(nn.Sequential(module, nn.Flatten()))(noise()).shape == (6, 5)

        class Keyword(nn.Module):
            def __init__(self):
                super().__init__()
                self.head = nn.Linear(768, 5)

            def forward(self, x):
                return self.head(input=x.flatten(1))

        assert LAME(Keyword())(noise()).shape == (6, 5)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_broken_image_spoils_no_other(self, value):
        x = noise(6)
        x[0, 0, 0, 0] = value
        module = with_layer_norm()
        result = LAME(module)(x)
        torch.testing.assert_close(result[1:], LAME(module)(x[1:]))
        assert not torch.isfinite(result[0]).all()

    def test_nor_one_whose_logits_are_finite_all_the_same(self):
        class Clamped(nn.Module):
            def __init__(self):
                super().__init__()
                self.head = nn.Linear(768, 5)

            def forward(self, x):
                return self.head(x.flatten(1)).nan_to_num(0, 0, 0)

        x, module = noise(6), Clamped()
        x[0, 0, 0, 0] = math.inf
        result = LAME(module)(x)
        torch.testing.assert_close(result[1:], LAME(module)(x[1:]))
        assert torch.isfinite(result).all()

    def test_it_remembers_nothing(self):
        adapter = LAME(convolutional())
        before = portrait(adapter)
        first = adapter(noise())
        adapter(noise(seed=1))
        assert torch.equal(adapter(noise()), first)
        assert portrait(adapter) == before


class TestRefusals:
    def test_unknown_links(self):
        with pytest.raises(UnknownNameError, match="Did you mean 'published'"):
            LAME(convolutional(), links="publishd")

    @pytest.mark.parametrize("neighbors", [0, -1, 2.5, True])
    def test_numbers_of_neighbours(self, neighbors):
        with pytest.raises(InputError, match="neighbors: expected a whole number, 1 or more"):
            LAME(convolutional(), neighbors=neighbors)

    def test_models_without_a_last_layer(self):
        with pytest.raises(ModelError, match="no linear or convolutional layer"):
            LAME(nn.Sequential(nn.Flatten(), nn.LayerNorm(768)))

    def test_models_with_several_rows_for_an_image(self):
        class Tokens(nn.Module):
            def __init__(self):
                super().__init__()
                self.head = nn.Linear(256, 5)

            def forward(self, x):
                return self.head(x.flatten(2).flatten(0, 1)).unflatten(0, (len(x), 3)).mean(1)

        with pytest.raises(ModelError, match=r"features .* \(6, K\), .* got the shape \(18, 256\)"):
            LAME(Tokens())(noise())

    def test_models_that_give_no_logits(self):
        with pytest.raises(ModelError, match=r"Expected logits \(6, K\)"):
            LAME(nn.Conv2d(3, 4, 3))(noise())

    def test_models_that_pass_the_layer_by(self):
        class Bypass(nn.Module):
            def __init__(self):
                super().__init__()
                self.head = nn.Linear(768, 5)

            def forward(self, x):
                return self.head.forward(x.flatten(1))

        with pytest.raises(ModelError, match="without calling its last linear layer"):
            LAME(Bypass())(noise())


def test_a_class_that_is_ruled_out_stays_so_and_its_images_take_part():
    class Without(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = with_layer_norm()

        def forward(self, x):
            return self.inner(x).masked_fill(torch.arange(5) == 2, -math.inf)

    module, x = Without(), noise(12)
    with torch.no_grad():
        features, logits = module.inner[:-1](x), module(x)
    kept = [0, 1, 3, 4]
    expected = by_the_paper(logits[:, kept].double().numpy(), features.double().numpy(), 5)
    result = LAME(module, preset="paper")(x).exp().numpy()
    np.testing.assert_allclose(result[:, kept], expected, atol=2e-4)
    assert (result[:, 2] == 0).all()
