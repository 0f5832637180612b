"""A corruption's identity tells functions with other constants apart."""

import functools

import numpy as np
import pytest

from shiftproof import Classifier, Preprocess, bench
from shiftproof.adapt import SelfLearning, generalized_cross_entropy
from shiftproof.corruptions import find_function
from shiftproof.corruptions.identity import identify_corruption
from shiftproof.data import ImageArrays
from shiftproof.errors import RunMismatchError
from shiftproof.models import CallablePreprocess

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)


def roll(image, severity, rng, by=1):
    return np.roll(image, by * severity, axis=0)


class Roll:
    def __init__(self, by):
        self.by = by

    def __call__(self, image, severity, rng):
        return roll(image, severity, rng, self.by)


def bind(by):
    return lambda image, severity, rng: roll(image, severity, rng, by)


@pytest.mark.parametrize("make", [lambda by: functools.partial(roll, by=by), Roll, bind])
def test_a_run_is_of_one_set_of_constants(make, tmp_path):
    def mean(inputs):
        return np.stack([inputs.mean((1, 2, 3)), 1 - inputs[:, :, 0].mean((1, 2))], axis=1)

    model = Classifier(mean, Preprocess((8, 8), None), ["a", "b"])
    data = ImageArrays(IMAGES, labels=[0, 1, 0, 1], classes=model.classes)

    def measure(by):
        return bench.run(
            model, data, corruptions={"roll": make(by)}, severities=[1], out=tmp_path / "run",
            workers=0,
        )  # fmt: skip

    first = measure(1).records()
    assert measure(1).records().equals(first)
    with pytest.raises(RunMismatchError, match=r"roll was .*, now "):
        measure(3)


def test_other_constants_are_not_published_ones():
    fog = find_function("fog")
    assert identify_corruption(functools.partial(fog, table=())).startswith("functools.partial of ")
    assert identify_corruption(fog).startswith("shiftproof.corruptions.weather.fog ")


def test_preprocessing_and_losses_have_their_constants():
    torch = pytest.importorskip("torch")

    def cut(image, size):
        return np.moveaxis(image[:size, :size], -1, 0).astype(np.float32)

    def settings(size):
        return CallablePreprocess(functools.partial(cut, size=size)).settings()

    assert settings(4) == settings(4)
    assert settings(4) != settings(6)
    assert set(CallablePreprocess(np.transpose).settings()) == {"function"}

    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2), torch.nn.Flatten(1)
    )

    def learn(q):
        loss = functools.partial(generalized_cross_entropy, q=q)
        return SelfLearning(network, loss=loss).settings["loss"]

    assert learn(0.8) == learn(0.8)
    assert learn(0.8) != learn(0.5)
