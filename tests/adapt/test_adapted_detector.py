"""Batch norm of a detector adapts to the images it sees."""

import numpy as np
import pytest

from shiftproof import Detections, Detector
from shiftproof.adapt import AdaptedDetector, BatchNorm
from shiftproof.errors import InputError, ModelError, UnknownNameError

torch = pytest.importorskip("torch")


class Patches(torch.nn.Module):
    """Gives one box an image, whose score is the mean of what batch norm leaves of the image."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)

    def forward(self, images):
        batch = torch.stack([torch.from_numpy(i).permute(2, 0, 1).float() / 255 for i in images])
        level = torch.sigmoid(self.norm(batch)).mean(dim=(1, 2, 3))
        return [Detections([[0, 0, 8, 6]], [float(one)], [0]) for one in level]


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 120 + 20 * k, (6, 8, 3)).astype(np.uint8) for k in range(6)]


@pytest.fixture
def detector():
    network = Patches()
    network.norm.running_mean += 0.4
    network.norm.running_var *= 0.05
    return Detector(network, ["thing"])


def scores(found):
    return [float(one.scores[0]) for one in found]


def by_hand(images, prior):
    """The published mix, in float64."""
    batch = np.stack(images).astype(np.float64) / 255
    n = len(images)
    mean = prior / (prior + n) * 0.4 + n / (prior + n) * batch.mean((0, 1, 2))
    var = prior / (prior + n) * 0.05 + n / (prior + n) * batch.var((0, 1, 2))
    normed = (batch - mean) / np.sqrt(var + 1e-5)
    return (1 / (1 + np.exp(-normed))).mean((1, 2, 3))


@pytest.mark.parametrize("prior", [0, 16])
def test_the_statistics_are_the_published_mix(detector, images, prior):
    adapted = AdaptedDetector(detector, f"batchnorm:prior={prior}")
    found = adapted.predict(images, batch_size=6)
    assert scores(found) == pytest.approx(by_hand(images, prior), abs=1e-5)


def test_a_batch_is_one_call_of_the_network(detector, images):
    adapted = AdaptedDetector(detector, "batchnorm:prior=0")
    found = adapted.predict(images, batch_size=4)
    expected = [*by_hand(images[:4], 0), *by_hand(images[4:], 0)]
    assert scores(found) == pytest.approx(expected, abs=1e-5)


def test_the_detector_is_not_changed(detector, images):
    before = scores(detector.predict(images))
    state = {k: v.clone() for k, v in detector.module.state_dict().items()}
    adapted = AdaptedDetector(detector, "batchnorm:prior=0")
    assert scores(adapted.predict(images)) != before
    assert scores(detector.predict(images)) == before
    assert all(torch.equal(state[k], v) for k, v in detector.module.state_dict().items())


def test_merged_is_a_plain_detector_with_the_last_statistics(detector, images):
    adapted = AdaptedDetector(detector, "batchnorm:prior=0")
    found = scores(adapted.predict(images))
    merged = adapted.merge()
    assert isinstance(merged, Detector)
    assert scores(merged.predict(images)) == pytest.approx(found, abs=1e-6)


def test_a_stream_is_remembered_and_forgotten(detector, images):
    adapted = AdaptedDetector(detector, "batchnorm:prior=0,over=stream")
    first = scores(adapted.predict(images[:3]))
    second = scores(adapted.predict(images[3:]))
    other = AdaptedDetector(detector, "batchnorm:prior=0,over=stream")
    other.predict(images[:3])
    other.load_state(adapted.state())
    with adapted.frozen(), other.frozen():
        assert scores(other.predict(images)) == scores(adapted.predict(images))
    adapted.reset()
    assert scores(adapted.predict(images[:3])) == first
    assert scores(adapted.predict(images[3:])) == second


def test_a_batch_that_is_not_finite_falls_back_and_says_so(detector, images):
    class Poisoned(Patches):
        def forward(self, images):
            batch = torch.stack([torch.from_numpy(i).permute(2, 0, 1).float() for i in images])
            batch[0, 0, 0, 0] = float("nan")
            normed = self.norm(batch)
            assert torch.isfinite(normed[1:]).all() or self.training is False
            return [Detections([], [], []) for _ in images]

    adapted = AdaptedDetector(Detector(Poisoned(), ["thing"]), "batchnorm:prior=0")
    adapted.predict(images)
    [event] = adapted.events
    assert event.kind == "skipped"


def test_settings_name_adapter_and_detector(detector):
    settings = AdaptedDetector(detector, "batchnorm:prior=4").settings
    assert settings["adapter"] == "batchnorm"
    assert settings["prior"] == 4
    assert settings["detector"] == detector.settings
    assert "module" not in settings


def test_what_cannot_be_adapted_is_refused(detector):
    with pytest.raises(ModelError, match="expected a Detector around a torch"):
        AdaptedDetector(Detector(lambda images: [], ["thing"]))
    with pytest.raises(ModelError, match="for mutually exclusive classes"):
        AdaptedDetector(detector, "ent")
    with pytest.raises(ModelError, match="no batch-norm layer"):
        AdaptedDetector(Detector(torch.nn.Linear(1, 1), ["thing"]))
    with pytest.raises(InputError, match="batch_size"):
        AdaptedDetector(detector).predict([], batch_size=0)
    with pytest.raises(InputError, match="images: expected a whole number"):
        BatchNorm(detector.module).run_batch(lambda network: None, 0)


def test_nothing_in_is_nothing_out(detector):
    assert AdaptedDetector(detector).predict([]) == []


def test_a_method_for_one_answer_an_image_is_refused_for_what_it_is():
    """Not for layers that it would lack, or for a library."""
    frozen = Detector(torch.nn.Sequential(torch.nn.ReLU()), ["thing"])
    for spec in ("hard:lr=0.01", "guard+lame", "eata"):
        with pytest.raises(
            InputError, match=r"one answer per image, which a detector does not give"
        ):
            AdaptedDetector(frozen, spec)
    with pytest.raises(UnknownNameError, match="Did you mean 'batchnorm'"):
        AdaptedDetector(frozen, "batchnrm")
