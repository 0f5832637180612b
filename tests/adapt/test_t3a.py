"""T3A against the published algorithm, written out with numpy."""

import numpy as np
import pytest
import scipy.special
import torch
from torch import nn

from shiftproof.adapt import T3A
from shiftproof.errors import InputError, ModelError
from shiftproof.models import Classifier, Preprocess
from support.small_networks import convolutional, noise

BATCHES = [noise(8, seed=1), noise(8, seed=2), noise(5, seed=3)]


def entropy(logits):
    log_p = scipy.special.log_softmax(logits, axis=1)
    return -(np.exp(log_p) * log_p).sum(1)


def published(module, batches, per_class):
    """Algorithm 1 of Iwasawa & Matsuo 2021: the answers to each batch."""
    weight, bias = (p.detach().double().numpy() for p in module[-1].parameters())
    features_of = module[:-1]
    supports = weight
    logits = supports @ weight.T + bias
    labels, entropies = logits.argmax(1), entropy(logits)
    answers = []
    for batch in batches:
        with torch.no_grad():
            z = features_of(batch).double().numpy()
        logits = z @ weight.T + bias
        supports = np.concatenate([supports, z])
        labels = np.concatenate([labels, logits.argmax(1)])
        entropies = np.concatenate([entropies, entropy(logits)])
        kept = [
            place
            for label in range(len(weight))
            for place in sorted(np.flatnonzero(labels == label), key=lambda i: entropies[i])[
                :per_class
            ]
        ]
        supports, labels, entropies = supports[kept], labels[kept], entropies[kept]
        unit = supports / np.linalg.norm(supports, axis=1, keepdims=True)
        sums = np.stack([unit[labels == label].sum(0) for label in range(len(weight))])
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        answers.append(z @ (sums / np.where(norms > 0, norms, 1)).T)
    return answers


@pytest.mark.parametrize("per_class", [1, 3, 100])
def test_it_is_the_published_algorithm(per_class):
    adapter = T3A(convolutional(), per_class=per_class, preset="paper")
    for batch, expected in zip(
        BATCHES, published(convolutional(), BATCHES, per_class), strict=True
    ):
        np.testing.assert_allclose(adapter(batch).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_until_the_first_image_it_is_the_source():
    adapter = T3A(convolutional(), preset="paper")
    with adapter.frozen(), torch.no_grad():
        torch.testing.assert_close(adapter(BATCHES[0]), convolutional()(BATCHES[0]))
    adapter(BATCHES[0])
    merged = adapter.merge()
    with adapter.frozen(), torch.no_grad():
        torch.testing.assert_close(adapter(BATCHES[1]), merged(BATCHES[1]))
    adapter.reset()
    assert torch.equal(adapter.merge()[-1].weight, convolutional()[-1].weight)


def test_a_broken_image_is_left_out():
    adapter, other = T3A(convolutional()), T3A(convolutional())
    broken = BATCHES[0].clone()
    broken[0] = float("nan")
    answers = adapter(broken)
    torch.testing.assert_close(answers[1:], other(BATCHES[0][1:]))
    assert torch.equal(adapter(BATCHES[1]), other(BATCHES[1]))


def test_a_classifier_of_some_outputs_has_prototypes_of_those_alone():
    preprocess = Preprocess((16, 16), 16)
    some = Classifier(convolutional(), preprocess, ["b", "d"], outputs=[1, 3])
    adapter = T3A(some)
    inputs = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (6, 3, 16, 16), np.uint8))
    answers = adapter(inputs)
    assert answers.shape == (6, 2)
    head = adapter.merge()[-1]
    assert torch.equal(head.weight[[0, 2, 4]], convolutional()[-1].weight[[0, 2, 4]])
    np.testing.assert_allclose(head.weight[[1, 3]].detach().norm(dim=1), 1, rtol=1e-5)


def identity():
    """A network whose features are its inputs, and whose logits are 3 times the first five of them."""
    module = nn.Sequential(nn.Linear(5, 5, bias=False))
    module[0].weight.data = 3 * torch.eye(5)
    return module


def test_prototypes_answer_where_the_network_is_unsure_alone():
    sure, unsure = torch.eye(5), 0.2 * torch.eye(5)  # largest probabilities 0.83 and 0.31
    batch = torch.cat([sure, unsure])
    answers = T3A(identity())(batch)
    torch.testing.assert_close(answers[:5], 3 * sure)
    torch.testing.assert_close(answers[5:], T3A(identity(), preset="paper")(batch)[5:])
    assert not torch.allclose(answers[5:], 3 * unsure)


def test_nor_do_they_in_batches_of_few_classes():
    batch = torch.cat([torch.eye(5)[[0, 0, 0, 0]], 0.2 * torch.eye(5)[[0, 0]]])
    torch.testing.assert_close(T3A(identity())(batch), 3 * batch)


def test_refusals():
    with pytest.raises(InputError, match="per_class: expected a whole number, 1 or more, got 0"):
        T3A(convolutional(), per_class=0)
    with pytest.raises(ModelError, match="'0' is Conv2d: prototypes take the place"):
        T3A(nn.Sequential(nn.Conv2d(3, 5, 16), nn.Flatten()))
    two = Classifier(convolutional(), Preprocess((16, 16), 16), ["a", "b"], outputs=[[1, 4], [3]])
    with pytest.raises(ModelError, match="needs one output a class"):
        T3A(two)
    doubled = nn.Sequential(convolutional(), nn.Unflatten(1, (5, 1)), nn.Upsample(2), nn.Flatten())
    with pytest.raises(ModelError, match="gives 5 values, and the model 10"):
        T3A(doubled)(BATCHES[0])
