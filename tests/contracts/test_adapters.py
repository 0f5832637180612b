"""Every adapter keeps the contract, and the contract catches every way to break it."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from shiftproof.adapt import ADAPTERS, Adapter, BatchNorm, make_adapter
from shiftproof.adapt.contract import check_adapter
from shiftproof.models import Classifier, Preprocess


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SPECS = [*ADAPTERS, "batchnorm:prior=0", "batchnorm:prior=0.5", "batchnorm:prior=inf"]


@pytest.mark.parametrize("spec", SPECS)
def test_every_adapter_keeps_the_contract(spec):
    check_adapter(lambda classifier: make_adapter(spec, classifier))


@pytest.mark.parametrize("mode", [True, False])
def test_on_a_model_and_images_of_ones_own(mode):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(400, 3)
        ).train(mode)
    state = copy.deepcopy(module.state_dict())
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (n, 12, 12, 3), dtype=np.uint8) for n in (4, 3, 2)]
    check_adapter(BatchNorm, Classifier(module, Preprocess((12, 12), 12)), batches)
    assert module.training == mode
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())


def test_batches_that_check_nothing_are_refused():
    with pytest.raises(ValueError, match="two batches or more"):
        check_adapter(BatchNorm, None, [np.zeros((2, 32, 32, 3), np.uint8)])


class Wrapped(Adapter):
    """Batch-norm adaptation, to be broken in one place."""

    def __init__(self, classifier):
        self.inner = BatchNorm(classifier, prior=4)

    @property
    def classifier(self):
        return self.inner.classifier

    @property
    def settings(self):
        return self.inner.settings

    def predict(self, images):
        return self.inner.predict(images)

    def __call__(self, batch):
        return self.inner(batch)

    def reset(self):
        self.inner.reset()

    def merged(self):
        return self.inner.merged()


def test_what_is_broken_below_is_whole_before():
    check_adapter(Wrapped)


class ForgetsNothing(Wrapped):
    """Learns the mean of what it sees, and keeps it."""

    count = 0

    def predict(self, images):
        self.count += len(images)
        return self.inner.predict(images) * np.float32(1 + self.count / 1000)


class ForgetsToMerge(Wrapped):
    def reset(self):
        pass


class NotJson(Wrapped):
    @property
    def settings(self):
        return {"prior": float("inf")}


class ChangesParameters(Wrapped):
    def predict(self, images):
        with torch.no_grad():
            self.classifier.module[0].weight += 1e-7
        return self.inner.predict(images)


class ChangesBuffers(Wrapped):
    def predict(self, images):
        self.classifier.module[1].num_batches_tracked += 1
        return self.inner.predict(images)


class ChangesMode(Wrapped):
    def __init__(self, classifier):
        super().__init__(classifier)
        classifier.module[3].training = True

    def predict(self, images):
        self.classifier.module[3].training = True
        return self.inner.predict(images)


class LeavesHooks(Wrapped):
    def __init__(self, classifier):
        super().__init__(classifier)
        classifier.module[0].register_forward_hook(lambda *_: None)


class ChangesGradients(Wrapped):
    def __init__(self, classifier):
        super().__init__(classifier)
        classifier.module[0].weight.requires_grad_(False)


class MovesTorch(Wrapped):
    def predict(self, images):
        torch.rand(1)
        return self.inner.predict(images)


class MovesNumpy(Wrapped):
    def predict(self, images):
        np.random.random()  # noqa: NPY002
        return self.inner.predict(images)


class MovesPython(Wrapped):
    def predict(self, images):
        random.random()
        return self.inner.predict(images)


class SetsThreads(Wrapped):
    def predict(self, images):
        torch.set_num_threads(torch.get_num_threads() + 1)
        return self.inner.predict(images)


class SwitchesGradients(Wrapped):
    def predict(self, images):
        torch.set_grad_enabled(False)
        return self.inner.predict(images)


class ReadsRandomState(Wrapped):
    def __init__(self, classifier):
        drawn = random.Random(hash(random.getstate()[1])).random()
        self.inner = BatchNorm(classifier, prior=1 + drawn)


class NeedsTwo(Wrapped):
    def predict(self, images):
        if len(images) == 1:
            raise ValueError("Expected more than 1 value per channel when training")
        return self.inner.predict(images)


class NotFinite(Wrapped):
    def predict(self, images):
        return self.inner.predict(images) / np.float32(0 if len(images) == 1 else 1)


class OtherDtype(Wrapped):
    def predict(self, images):
        return self.inner.predict(images).astype(np.float64)


class OtherShape(Wrapped):
    def predict(self, images):
        return self.inner.predict(images)[:, :-1]


class FollowsMode(Wrapped):
    """The published way to fail, turned round: adaptation is off in one of the two modes."""

    def predict(self, images):
        if not self.classifier.module.training:
            return self.inner.predict(images)
        return self.classifier.predict(images)


class TensorsDiffer(Wrapped):
    def __call__(self, batch):
        return self.classifier(batch)


class ChangesImages(Wrapped):
    def predict(self, images):
        logits = self.inner.predict(images)
        images[...] = 0
        return logits


class MergesItself(Wrapped):
    def merged(self):
        return nn.Sequential(self.inner.merged()).eval()


class MergesShared(Wrapped):
    def merged(self):
        merged = self.inner.merged()
        merged[0].weight = self.classifier.module[0].weight
        return merged


class MergesTraining(Wrapped):
    def merged(self):
        return self.inner.merged().train()


class MergesHooks(Wrapped):
    def merged(self):
        merged = self.inner.merged()
        merged[1].register_forward_pre_hook(lambda *_: None)
        return merged


class MergesMore(Wrapped):
    def merged(self):
        merged = self.inner.merged()
        merged[0].register_buffer("prior", torch.tensor(4))
        return merged


class MergesNothing(Wrapped):
    def merged(self):
        return BatchNorm(self.classifier).merged()


BROKEN = {
    ForgetsNothing: "merged: on the last batch|reset: other logits",
    ForgetsToMerge: "reset: merged",
    NotJson: "settings: not what JSON takes",
    ChangesParameters: "wrapped model|reset: other logits|deterministic|merged",
    ChangesBuffers: "wrapped model: 'buffer 1.num_batches_tracked' was changed",
    ChangesMode: "wrapped model: its modes were changed",
    LeavesHooks: "hooks",
    ChangesGradients: "wrapped model: its gradients were changed",
    MovesTorch: "globals: torch's global random state",
    MovesNumpy: "globals: numpy's global random state",
    MovesPython: "globals: Python's global random state",
    SetsThreads: "globals: torch's number of threads",
    SwitchesGradients: "globals: torch's gradient mode",
    ReadsRandomState: "deterministic: a second adapter",
    NeedsTwo: "batch of one: predict raised ValueError",
    NotFinite: "finite: batch of one",
    OtherDtype: "logits of float64, expected float32",
    OtherShape: r"logits of shape \(8, 9\), expected \(8, 10\)",
    FollowsMode: "mode: train",
    TensorsDiffer: "call: other logits than predict",
    ChangesImages: "images: predict changed its argument",
    MergesItself: "other state_dict keys",
    MergesShared: "merged, before any batch: shares '0.weight'",
    MergesTraining: "merged, before any batch: not in evaluation mode",
    MergesHooks: "the layer '1' has other hooks",
    MergesMore: "other state_dict keys",
    MergesNothing: "merged: on the last batch",
}


@pytest.fixture
def _globals_restored():
    words = np.random.get_state()  # noqa: NPY002
    states = torch.random.get_rng_state(), random.getstate()
    yield
    torch.set_grad_enabled(True)
    torch.random.set_rng_state(states[0])
    np.random.set_state(words)  # noqa: NPY002
    random.setstate(states[1])


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.usefixtures("_globals_restored")
@pytest.mark.parametrize("broken", BROKEN, ids=lambda kind: kind.__name__)
def test_each_way_to_break_it_is_caught_and_named(broken):
    with pytest.raises(AssertionError, match=BROKEN[broken]):
        check_adapter(broken)


def test_what_is_no_adapter_is_named():
    with pytest.raises(AssertionError, match="is a classifier: it has no attribute 'predict'"):
        check_adapter(lambda classifier: object.__new__(Hollow))
    with pytest.raises(AssertionError, match="is an adapter"):
        check_adapter(lambda classifier: LooksLike(classifier))


class Hollow:
    name = classes = preprocess = settings = None


class LooksLike:
    def __init__(self, classifier):
        self.name, self.classes = classifier.name, classifier.classes
        self.preprocess, self.settings = classifier.preprocess, {}
        self.predict = self.reset = self.merged = classifier.predict

    def __call__(self, batch):
        return batch


def test_an_adapter_that_changes_logits_and_not_the_model():
    class Doubles(Wrapped):
        def predict(self, images):
            return self.inner.predict(images) * 2

        def __call__(self, batch):
            return self.inner(batch) * 2

    with pytest.raises(AssertionError, match="merged: on the last batch"):
        check_adapter(Doubles)
    check_adapter(Doubles, merged_predicts=False)
