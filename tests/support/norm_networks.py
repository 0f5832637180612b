"""Small classifiers with each kind of norm layer, for methods that learn from a stream."""

import torch
from torch import nn

from shiftproof.models import Classifier, Preprocess
from support.small_networks import convolutional

HALF = (0.5, 0.5, 0.5)


def _with(norm, seed=3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), norm(), nn.GELU(), nn.Dropout(0.5),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5),
        )  # fmt: skip
        for parameter in module.parameters():
            parameter.data.normal_(0.3, 0.7)
        return module.eval()


def network(kind):
    if kind == "batch":
        return convolutional()
    if kind == "layer":
        return _with(lambda: nn.LayerNorm([4, 7, 7]))
    return _with(lambda: nn.GroupNorm(2, 4))


def classifier_of(module, **options):
    return Classifier(module, Preprocess((16, 16), 16, mean=HALF, std=HALF), **options)


KINDS = ("batch", "layer", "group")
