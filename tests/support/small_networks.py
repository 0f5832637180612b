"""Small networks and images for the tests of adapters."""

import numpy as np
import torch
from torch import nn

from shiftproof.models import Classifier, Preprocess


def convolutional(seed=0, classes=5):
    """Return a network with two non-trivial batch norms and a dropout, for images of any size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4, eps=1e-3, momentum=0.3),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Conv2d(4, 6, 3, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(1),
            nn.Linear(6, classes),
        )
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.5)
                layer.running_var.uniform_(0.5, 3)
                layer.weight.data.uniform_(0.5, 2)
                layer.bias.data.normal_()
        module[-1].weight.data.mul_(4)
        return module.eval()


def with_layer_norm(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(768, 8), nn.LayerNorm(8), nn.Dropout(0.5), nn.Linear(8, 5)
        ).eval()


def classifier(module=None):
    half = (0.5, 0.5, 0.5)
    module = convolutional() if module is None else module
    return Classifier(module, Preprocess((16, 16), 16, mean=half, std=half))


def noise(count=6, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, size, size, generator=generator) * 2 + 1


def pictures(count=6, seed=0):
    return np.random.default_rng(seed).integers(0, 200, (count, 16, 16, 3), dtype=np.uint8)


def portrait(adapter):
    """Return the state and the merged model of an adapter as bytes."""
    tensors = {**adapter.state(), **adapter.merge().state_dict()}
    return {name: value.numpy().tobytes() for name, value in tensors.items()}
