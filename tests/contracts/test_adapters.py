"""Every adapter keeps the contract, and the contract catches every way to break it."""

import contextlib
import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from shiftproof.adapt import ADAPTERS, Adapter, BatchNorm, SelfLearning, make_adapter
from shiftproof.errors import InputError
from shiftproof.models import Classifier, Preprocess, load_classifier
from shiftproof.testing.adapters import check_adapter

pytestmark = pytest.mark.usefixtures("one_thread")


MERGED_PREDICTS = [
    "batchnorm",
    "batchnorm:prior=0",
    "batchnorm:prior=0.5",
    "batchnorm:prior=inf",
    "batchnorm:prior=auto",
    "batchnorm:prior=layerwise",
    "batchnorm:parts=variance,layers=last-1",
    "batchnorm:over=stream,prior=16",
    "batchnorm:over=stream,prior=0,warm_up=9",
    "batchnorm:over=stream,momentum=0.1",
    "rpl:prior=16,answers=after",
    "ent:momentum=0.9,lr=0.01,answers=after",
    "rdumb:every=2+batchnorm:over=stream,prior=16",
    "rdumb:every=1+ent:answers=after",
    "guard+batchnorm",
    "t3a:preset=paper",
    "rdumb:every=1+t3a:per_class=1,preset=paper",
]
LEARNS_AFTER = [
    "actmad:lr=0.1",
    "actmad:cells=1,parameters=all,momentum=0.9,layers=last-1",
    *("rpl", "ent", "hard", "soft", "lame", "eata", "sar", "deyo", "roid", "t3a"),
    "eata:margin=1,similarity=1,lr=0.05",
    "sar:margin=1,lr=0.05,recovery=0.3",
    "deyo:margin=1,drop=0,lr=0.05",
    "roid:lr=0.05,keep=0.9",
    "roid:consistency=false,correction=false,prior=0",
    "batchnorm:over=stream,prior=auto",
    "batchnorm:over=set",
    "rpl:layers=last-50%",
    "rpl:preset=paper",
    "rpl:parameters=all,prior=auto",
    "rpl:teacher=epoch,lr=0.01",
    "ent:parameters=last,prior=inf,lr=0.1",
    "hard:momentum=0.9,lr=0.05,threshold=0.15",
    "cotta:augmentations=1,lr=0.01",
    "rotta:memory=6,every=4,lr=0.1",
    "note:memory=6,every=4,lr=0.1",
    "memo:augmentations=1,lr=0.1",
    "rdumb:every=2+hard",
    "rdumb+lame",
    "guard+rpl",
    "lame:preset=paper",
    "router",
    "router:experts=ent:lr=0.05+lame",
]


FOR_ZERO_SHOT = [
    "tda:negative_alpha=1",
    "zero:views=4,share=0.5",
    "tpt:views=3,share=0.7,lr=0.1",
    "clipartt:steps=1,lr=0.1",
]


def test_every_adapter_is_among_them():
    every = MERGED_PREDICTS + LEARNS_AFTER + FOR_ZERO_SHOT
    named = {part.partition(":")[0] for s in every for part in s.split("+")}
    assert named == set(ADAPTERS), (
        f"{sorted(named ^ set(ADAPTERS))}: give a spec of it in MERGED_PREDICTS (what is merged answers "
        "a batch as the adapter did), LEARNS_AFTER (it does not) or FOR_ZERO_SHOT"
    )


@pytest.mark.parametrize("spec", [*MERGED_PREDICTS, *LEARNS_AFTER])
def test_every_adapter_keeps_the_contract(spec):
    check_adapter(
        lambda classifier: make_adapter(spec, classifier),
        merged_predicts=spec in MERGED_PREDICTS,
    )


@pytest.mark.parametrize("spec", FOR_ZERO_SHOT)
def test_every_method_for_clip_keeps_the_contract(spec, image_text_models):
    source = load_classifier(
        f"transformers:{image_text_models / 'clip'}",
        classes=["red cat", "green dog", "blue", "cat"],
        templates="a photo of the {}",
    )
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8) for count in (3, 2)]
    check_adapter(
        lambda classifier: make_adapter(spec, classifier), source, batches, merged_predicts=False
    )


def small_batches(*counts):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8) for count in counts]


@pytest.mark.parametrize("loss", ["rpl", "hard"])
def test_a_network_with_layer_norm_keeps_it(loss):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = nn.Sequential(
            nn.Flatten(), nn.Linear(432, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)
        )
    check_adapter(
        lambda classifier: SelfLearning(classifier, loss=loss, lr=0.1, answers="after"),
        Classifier(module, Preprocess((12, 12), 12)),
        small_batches(4, 3),
    )


@pytest.mark.parametrize("spec", ["batchnorm", "ent:answers=after", "rdumb+batchnorm"])
def test_a_classifier_of_some_of_the_outputs_keeps_it(spec):
    """A class of two outputs and one of a single: the adapter must choose among them, too."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(400, 6)
        )
    source = Classifier(module, Preprocess((12, 12), 12), ["a", "b"], outputs=[[1, 4], [3]])
    check_adapter(lambda one: make_adapter(spec, one), source, small_batches(4, 3))


@pytest.mark.parametrize("mode", [True, False])
def test_on_a_model_and_images_of_ones_own(mode):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(400, 3)
        ).train(mode)
    state = copy.deepcopy(module.state_dict())
    source = Classifier(module, Preprocess((12, 12), 12))
    check_adapter(BatchNorm, source, small_batches(4, 3, 2))
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

    @property
    def events(self):
        return self.inner.events

    def frozen(self):
        return self.inner.frozen()

    def end_epoch(self):
        self.inner.end_epoch()

    def reset(self):
        self.inner.reset()

    def merge(self):
        return self.inner.merge()

    def parameters(self):
        return self.inner.parameters()

    def state(self):
        return self.inner.state()

    def load_state(self, state):
        self.inner.load_state(state)


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
    def merge(self):
        return nn.Sequential(self.inner.merge()).eval()


class MergesShared(Wrapped):
    def merge(self):
        merged = self.inner.merge()
        merged[0].weight = self.classifier.module[0].weight
        return merged


class MergesTraining(Wrapped):
    def merge(self):
        return self.inner.merge().train()


class MergesHooks(Wrapped):
    def merge(self):
        merged = self.inner.merge()
        merged[1].register_forward_pre_hook(lambda *_: None)
        return merged


class MergesMore(Wrapped):
    def merge(self):
        merged = self.inner.merge()
        merged[0].register_buffer("prior", torch.tensor(4))
        return merged


class MergesNothing(Wrapped):
    def merge(self):
        return BatchNorm(self.classifier).merge()


class KeepsEvents(Wrapped):
    def __init__(self, classifier):
        super().__init__(classifier)
        self.kept = []

    @property
    def events(self):
        return self.kept

    def predict(self, images):
        self.kept.append("predicted")
        return self.inner.predict(images)


class LearnsFrozen(Wrapped):
    def __init__(self, classifier):
        self.inner = BatchNorm(classifier, over="stream", prior=16)

    def frozen(self):
        return contextlib.nullcontext()


class RepeatsNothing(Wrapped):
    """Frozen, what it learnt rests, but another thing does not."""

    count = 0

    @contextlib.contextmanager
    def frozen(self):
        with self.inner.frozen():
            self.count = 1
            yield
            self.count = 0

    def predict(self, images):
        logits = self.inner.predict(images) * np.float32(1 + self.count / 1000)
        self.count += self.count > 0
        return logits


class ForgetsWhenFrozen(Wrapped):
    def __init__(self, classifier):
        self.inner = BatchNorm(classifier, over="stream", prior=16)

    @contextlib.contextmanager
    def frozen(self):
        with self.inner.frozen():
            yield
        self.inner.reset()


class LosesItsPlaceFrozen(Wrapped):
    """Frozen batches count for the learning rate, say, of those after."""

    def __init__(self, classifier):
        super().__init__(classifier)
        self.count = self.depth = 0

    @contextlib.contextmanager
    def frozen(self):
        with self.inner.frozen():
            self.depth = 1
            yield
            self.count += 1
            self.depth = 0

    def predict(self, images):
        return self.inner.predict(images) * np.float32(1 if self.depth else 1 + self.count / 1000)


class YieldsTheCallers(Wrapped):
    def parameters(self):
        return self.classifier.module.parameters()


class YieldsTensors(Wrapped):
    def parameters(self):
        return iter([torch.zeros(1)])


class LearnsFromEpochs(Wrapped):
    factor = 1

    def end_epoch(self):
        self.factor = 2

    def predict(self, images):
        return self.inner.predict(images) * np.float32(self.factor)

    def reset(self):
        self.inner.reset()
        self.factor = 1

    def __call__(self, batch):
        return self.inner(batch) * self.factor


class KeepsItsEpochs(Wrapped):
    """What an epoch's end changed is there after the reset."""

    factor = 1

    def end_epoch(self):
        self.factor = 2 if self.inner.state() else 1

    def predict(self, images):
        return self.inner.predict(images) * np.float32(self.factor)


class KeepsItsTeacher(Wrapped):
    def __init__(self, classifier):
        super().__init__(classifier)
        self.teacher = torch.zeros(8)

    def end_epoch(self):
        self.teacher = self.inner.state().get("last/1/mean", self.teacher)

    def state(self):
        return {**self.inner.state(), "teacher": self.teacher.clone()}

    def load_state(self, state):
        if state.get("teacher", torch.zeros(1)).shape != (8,):
            raise InputError("teacher")
        self.inner.load_state({n: v for n, v in state.items() if n != "teacher"})
        self.teacher = state["teacher"].clone()


class StateIsNoCopy(Wrapped):
    def state(self):
        return {name: value.mean for name, value in self.inner._last.items()}


class StateHasNumbers(Wrapped):
    def state(self):
        return {**self.inner.state(), "count": 3}


class StateIsMissing(Wrapped):
    def state(self):
        return {}


class StateLosesMomentum(Wrapped):
    """What is frozen comes back, but it goes on otherwise."""

    def __init__(self, classifier):
        self.inner = SelfLearning(classifier, lr=0.1, momentum=0.9, answers="after")

    def state(self):
        return {n: v for n, v in self.inner.state().items() if not n.startswith("momentum/")}


class KeepsWhatItIsGiven(Wrapped):
    given = None

    def load_state(self, state):
        self.inner.load_state(state)
        self.given = state

    def state(self):
        return copy.deepcopy(self.given) if self.given else self.inner.state()


class ResetsToTheState(Wrapped):
    given = None

    def load_state(self, state):
        self.inner.load_state(state)
        self.given = copy.deepcopy(state)

    def reset(self):
        self.inner.reset()
        if self.given:
            self.inner.load_state(self.given)


class TakesAnyState(Wrapped):
    def load_state(self, state):
        self.inner.load_state({n: v for n, v in state.items() if n.startswith("last/")})


class RefusesInWords(Wrapped):
    def load_state(self, state):
        try:
            self.inner.load_state(state)
        except InputError as error:
            raise KeyError("state") from error


class ForgetsWhatItHadWhenItRefuses(Wrapped):
    def load_state(self, state):
        self.inner.reset()
        self.inner.load_state(state)


class MergesTheSourceAfterRefusals(Wrapped):
    """Keeps its state when it refuses another one, but not the model that it deploys."""

    refused = False

    def load_state(self, state):
        try:
            self.inner.load_state(state)
        except InputError:
            self.refused = True
            raise

    def merge(self):
        return copy.deepcopy(self.classifier.module) if self.refused else self.inner.merge()


class ForgetsOnErrors(Wrapped):
    def predict(self, images):
        try:
            return self.inner.predict(images)
        except Exception:
            self.inner.reset()
            raise


class PassesLayersBy(Wrapped):
    """Adapts what is of torch's own class, and says nothing of the others."""

    def predict(self, images):
        own = any(type(part) is nn.BatchNorm2d for part in self.classifier.module.modules())
        return self.inner.predict(images) if own else self.classifier.predict(images)


BROKEN = {
    PassesLayersBy: "layers: other logits on a network with SyncBatchNorm",
    KeepsEvents: "reset: events are left",
    LearnsFrozen: "frozen: the same batch, other logits",
    RepeatsNothing: "frozen: the same batch, other logits",
    ForgetsWhenFrozen: "frozen: the state has changed",
    LosesItsPlaceFrozen: "frozen: other logits afterwards",
    YieldsTheCallers: "parameters: one is the wrapped model's",
    YieldsTensors: "parameters: yields Tensor",
    LearnsFromEpochs: "end_epoch: before any batch",
    KeepsItsEpochs: "reset: other logits",
    KeepsItsTeacher: "reset: a state is left: 'teacher'",
    StateIsNoCopy: "state: '1' is not a copy",
    StateHasNumbers: "state: 'count' is a int",
    StateIsMissing: "state: .* differs|state: other",
    StateLosesMomentum: "state: continues with other logits",
    KeepsWhatItIsGiven: "state: differs after it was loaded",
    ResetsToTheState: "reset: a state is left",
    TakesAnyState: "state: an unknown name is accepted",
    RefusesInWords: "expected an InputError for an unknown name, got KeyError",
    ForgetsWhatItHadWhenItRefuses: "state: refusing an unknown name changed it",
    MergesTheSourceAfterRefusals: r"state: refusing states of others changed merge\(\): '1\.",
    ForgetsOnErrors: "exception: it changed the state",
    ForgetsNothing: "merge: on the last batch|reset: other logits",
    ForgetsToMerge: "reset: merge",
    NotJson: "settings: not JSON-compatible",
    ChangesParameters: "wrapped model|reset: other logits|deterministic|merge",
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
    MergesShared: "merge, before any batch: shares '0.weight'",
    MergesTraining: "merge, before any batch: not in evaluation mode",
    MergesHooks: "the layer '1' has other hooks",
    MergesMore: "other state_dict keys",
    MergesNothing: "merge: on the last batch",
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
        check_adapter(LooksLike)


class Hollow:
    name = classes = preprocess = settings = None


class LooksLike:
    def __init__(self, classifier):
        self.name, self.classes = classifier.name, classifier.classes
        self.preprocess, self.settings = classifier.preprocess, {}
        self.predict = self.reset = self.merge = classifier.predict
        self.events = self.frozen = self.end_epoch = self.parameters = None
        self.state = self.load_state = None

    def __call__(self, batch):
        return batch


def test_an_adapter_that_changes_logits_and_not_the_model():
    class Doubles(Wrapped):
        def predict(self, images):
            return self.inner.predict(images) * 2

        def __call__(self, batch):
            return self.inner(batch) * 2

    with pytest.raises(AssertionError, match="merge: on the last batch"):
        check_adapter(Doubles)
    check_adapter(Doubles, merged_predicts=False)
