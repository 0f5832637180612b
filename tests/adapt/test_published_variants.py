"""The option strings that docs/adaptation-methods.md gives for published forms of batch norm."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from shiftproof.adapt import make_adapter
from support.small_networks import noise

PAGE = Path(__file__).parents[2] / "docs" / "adaptation-methods.md"


def read_spec(published_as):
    """Return the first option string of a row of the page's tables."""
    [spec] = re.findall(
        rf"^\| {re.escape(published_as)} \| `([^`]+)`", PAGE.read_text("utf-8"), re.M
    )
    return spec


def layer():
    module = nn.Sequential(nn.BatchNorm2d(3))
    module[0].running_mean.copy_(torch.tensor([0.5, -1.0, 2.0]))
    module[0].running_var.copy_(torch.tensor([1.0, 4.0, 0.5]))
    return module.eval()


def used(spec, batches, *, epochs=1):
    """Return the statistics that the last batch was normalised by."""
    adapter = make_adapter(spec, layer())
    for _ in range(epochs):
        for batch in batches:
            adapter(batch)
        adapter.end_epoch()
    merged = adapter.merge()[0]
    return merged.running_mean, merged.running_var


def moments(x):
    return x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)


BATCHES = [noise(4, seed=0) * 3, noise(4, seed=1) - 2]
SOURCE = (torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.0, 4.0, 0.5]))


def test_adabn_takes_the_whole_set():
    for got, wanted in zip(
        used("batchnorm:prior=0,over=set", BATCHES), moments(torch.cat(BATCHES)), strict=True
    ):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("weight", [0.1, 0.5])
def test_alpha_bn_is_a_prior_for_a_fixed_batch_size(weight):
    prior = 4 * (1 - weight) / weight
    for got, source, batch in zip(
        used(f"batchnorm:prior={prior}", BATCHES), SOURCE, moments(BATCHES[-1]), strict=True
    ):
        torch.testing.assert_close(got, (1 - weight) * source + weight * batch)


def test_moving_average_statistics():
    wanted = [list(SOURCE)]
    for batch in BATCHES:
        wanted.append([0.7 * s + 0.3 * b for s, b in zip(wanted[-1], moments(batch), strict=True)])
    for got, value in zip(
        used("batchnorm:over=stream,momentum=0.3", BATCHES), wanted[-1], strict=True
    ):
        torch.testing.assert_close(got, value)


def test_instance_aware_batch_norm_alone_learns_nothing():
    spec = read_spec("only instance-aware batch norm (in NOTE)")
    adapter = make_adapter(f"{spec},memory=2", layer_with_head())
    first = adapter(BATCHES[0])
    adapter(BATCHES[1])
    assert torch.equal(adapter(BATCHES[0]), first)
    assert not torch.allclose(first, layer_with_head()(BATCHES[0]), atol=0.1)


def layer_with_head():
    """Weights of one, so that the logits tell the mean of each channel."""
    head = nn.Linear(3, 3, bias=False).requires_grad_(False)
    head.weight.copy_(torch.eye(3))
    return nn.Sequential(*layer(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
