"""Copies of adapters, by ``copy.deepcopy`` and ``pickle``: independent, and they go on alike."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from shiftproof.adapt import AdaptedDetector, BatchNorm, make_adapter
from shiftproof.models import Detector
from shiftproof.types import Detections
from support.small_networks import classifier, convolutional, noise, pictures, portrait

SPECS = [
    "batchnorm:prior=4", "batchnorm:over=stream", "batchnorm:over=set", "batchnorm:prior=auto",
    "rpl:lr=0.01", "ent:lr=0.01,momentum=0.9,answers=after", "hard:lr=0.01,momentum=0.5", "soft",
    "lame", "rdumb:every=2+ent:lr=0.01", "guard:window=12,probation=6+rpl:lr=0.01",
    "guard:window=12,probation=6+rdumb:every=2+batchnorm:prior=0",
]  # fmt: skip
TECHNIQUES = {"deepcopy": copy.deepcopy, "pickle": lambda a: pickle.loads(pickle.dumps(a))}
BATCHES = [noise(6, seed=seed) for seed in range(5)]


@pytest.mark.parametrize("way", TECHNIQUES)
@pytest.mark.parametrize("plain", [True, False], ids=["module", "classifier"])
@pytest.mark.parametrize("spec", SPECS)
def test_a_copy_goes_on_alike_and_alone(spec, plain, way):
    def step(adapter, seed):
        if plain:
            return adapter(BATCHES[seed]).numpy()
        return adapter.predict(pictures(seed=seed))

    source = convolutional() if plain else classifier()
    adapter, alone = (make_adapter(spec, source) for _ in range(2))
    for one in (adapter, alone):
        for seed in (0, 1):
            step(one, seed)
    before = portrait(adapter)
    twin = TECHNIQUES[way](adapter)
    assert type(twin) is type(adapter)
    assert portrait(twin) == before
    assert twin.settings == adapter.settings
    # The copy goes its own way, and the adapter goes on as if there were none.
    for seed in (2, 3):
        expected = step(alone, seed)
        np.testing.assert_array_equal(step(adapter, seed), expected)
    assert portrait(twin) == before
    for seed in (2, 3):
        step(twin, seed)
    assert portrait(twin) == portrait(adapter)
    assert twin.events == adapter.events
    learnt = portrait(adapter)
    twin.reset()
    step(twin, 4)
    assert portrait(adapter) == learnt


@pytest.mark.parametrize("way", TECHNIQUES)
def test_a_copy_shares_no_tensor_with_the_callers_model(way):
    module = convolutional()
    twin = TECHNIQUES[way](make_adapter("rpl", module))
    with torch.no_grad():
        expected = twin(BATCHES[0])
        module[0].weight.zero_()
        twin.reset()
        assert torch.equal(twin(BATCHES[0]), expected)


def test_a_copy_is_held_by_nobody():
    adapter = BatchNorm(convolutional())
    with adapter._network.lock:
        twin = copy.deepcopy(adapter)
    assert twin._network.lock is not adapter._network.lock
    twin(BATCHES[0])


@pytest.mark.parametrize("spec", ["ent:lr=0.1", "rdumb+ent:lr=0.1"])
def test_a_copy_made_while_frozen_learns(spec):
    adapter = make_adapter(spec, convolutional())
    with adapter.frozen():
        twin = copy.deepcopy(adapter)
    before = portrait(twin)
    twin(BATCHES[0])
    assert portrait(twin) != before


class Middle(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images):
        values = torch.stack([torch.from_numpy(i).permute(2, 0, 1) for i in images]).float()
        levels = self.norm(values).abs().mean((1, 2, 3)).tolist()
        return [Detections([[0, 0, 4, 4]], [min(level, 1.0)], [0]) for level in levels]


@pytest.mark.parametrize("way", TECHNIQUES)
def test_a_detector_that_adapts(way):
    adapter = AdaptedDetector(Detector(Middle(), ["thing"]), "batchnorm:over=stream,prior=16")
    images = [np.full((8, 8, 3), level, np.uint8) for level in (90, 110)]
    adapter.predict(images)
    twin = TECHNIQUES[way](adapter)
    found = [one.predict(images) for one in (adapter, twin)]
    assert [float(f.scores[0]) for f in found[0]] == [float(f.scores[0]) for f in found[1]]
    state = adapter.state()
    twin.predict([images[0]] * 2)
    assert all(torch.equal(state[name], value) for name, value in adapter.state().items())
