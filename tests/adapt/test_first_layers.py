"""Answers where the first layers alone normalize by the batch, against torch's own training mode."""

import copy

import torch
from torch import nn
from torch.nn import functional

from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.safeguards.first_layers import FirstLayers
from support.small_networks import convolutional, noise


def deep():
    """Five batch norms with statistics of their own; the first that runs is the last that is made."""
    torch.manual_seed(0)

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(5))
            self.last = nn.Linear(3, 4)

        def forward(self, inputs):
            for norm in reversed(self.norms):
                inputs = functional.leaky_relu(norm(inputs), 0.3)
            return self.last(inputs.mean((2, 3)))

    module = Deep()
    for norm in module.norms:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 3)
        norm.bias.data.normal_()
    return module.eval()


def test_three_layers_normalize_by_the_batch_and_the_others_do_not():
    module = deep()
    trained = copy.deepcopy(module)
    for norm in trained.norms[2:]:
        norm.train()
    answers = FirstLayers(AdaptedNetwork(module)).predict(noise(8))
    torch.testing.assert_close(answers, trained(noise(8)).detach())
    assert not torch.allclose(answers, module(noise(8)), atol=0.1)


def test_a_network_of_first_layers_alone_has_no_answers():
    assert FirstLayers(AdaptedNetwork(convolutional())).predict(noise(8)) is None


def test_the_network_is_as_it_was():
    network = AdaptedNetwork(deep())
    with torch.no_grad():
        before = network.forward(noise(8))
        FirstLayers(network).predict(noise(8))
        torch.testing.assert_close(network.forward(noise(8)), before, rtol=0, atol=0)


def test_batch_norm_that_cannot_be_followed_has_no_answers():
    class Called(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, inputs):
            norm = self.norm
            normalized = functional.batch_norm(inputs, norm.running_mean, norm.running_var)
            return normalized.mean((2, 3))

    assert FirstLayers(AdaptedNetwork(Called().eval())).predict(noise(8)) is None
