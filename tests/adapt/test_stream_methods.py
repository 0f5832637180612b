"""CoTTA, RoTTA, NOTE and MEMO: what holds for all four, on every kind of norm layer."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from shiftproof.adapt import MEMO, NOTE, CoTTA, RoTTA, load, make_adapter, save
from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.models import CallablePreprocess, Classifier, Preprocess
from shiftproof.testing import check_adapter
from support.norm_networks import KINDS, classifier_of, network
from support.small_networks import noise, pictures

SPECS = {
    "cotta": "cotta:augmentations=2,lr=0.01,restore=0.1",
    "rotta": "rotta:memory=6,every=4,lr=0.05,momentum=0.2",
    "note": "note:memory=6,every=4,lr=0.05,weight=0.2",
    "memo": "memo:augmentations=2,lr=0.05",
}


pytestmark = pytest.mark.usefixtures("one_thread")


def learned(adapter):
    return {name: value.clone() for name, value in adapter.state().items()}


@pytest.mark.parametrize("kind", ["layer", "group"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_contract_without_batch_norm(spec, kind):
    check_adapter(
        lambda one: make_adapter(spec, one),
        classifier_of(network(kind)),
        [pictures(4), pictures(2, seed=1)],
        merged_predicts=False,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_going_on_from_a_file_equals_running_through(spec, kind, tmp_path):
    through = make_adapter(spec, classifier_of(network(kind)))
    first = make_adapter(spec, classifier_of(network(kind)))
    answers = [through.predict(pictures(5, seed=seed)) for seed in range(4)]
    for seed in range(2):
        first.predict(pictures(5, seed=seed))
    save(first, tmp_path / "half.safetensors")
    second = make_adapter(spec, classifier_of(network(kind)))
    load(second, tmp_path / "half.safetensors")
    for seed in (2, 3):
        np.testing.assert_array_equal(second.predict(pictures(5, seed=seed)), answers[seed])
    assert all(torch.equal(v, through.state()[n]) for n, v in second.state().items())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_copy_goes_on_alike_and_alone(spec, copied):
    adapter = make_adapter(spec, classifier_of(network("batch")))
    adapter.predict(pictures(5))
    twin = copied(adapter)
    before = learned(adapter)
    answer = twin.predict(pictures(5, seed=1))
    assert all(torch.equal(v, before[n]) for n, v in adapter.state().items())
    np.testing.assert_array_equal(adapter.predict(pictures(5, seed=1)), answer)


@pytest.mark.parametrize("name", ["cotta", "rotta", "memo"])
def test_another_seed_is_another_augmentation(name):
    def answer(seed):
        adapter = make_adapter(f"{SPECS[name]},seed={seed}", classifier_of(network("group")))
        return [adapter.predict(pictures(5, seed=s)) for s in range(2)]

    np.testing.assert_array_equal(answer(1), answer(1))
    assert not np.array_equal(answer(1), answer(2))


@pytest.mark.parametrize("name", SPECS)
def test_a_broken_image_teaches_nothing_and_is_told(name):
    spec = SPECS[name]
    poisoned = nn.Sequential(_BreakBright(), *network("batch")).eval()
    adapter, other = (make_adapter(spec, classifier_of(poisoned)) for _ in range(2))
    bright = pictures(3)
    bright[1] = 255
    adapter.predict(pictures(2))
    other.predict(pictures(2))
    before = learned(adapter)
    answer = adapter.predict(bright)
    assert np.isfinite(answer[[0, 2]]).all()
    assert len(adapter.events) == 1
    kept = {n for n in before if n.startswith(("parameter/", "teacher/"))}
    if name in ("cotta", "memo"):
        assert all(torch.equal(adapter.state()[n], before[n]) for n in kept)
    else:
        # As if the broken one had not come.
        other.predict(bright[[0, 2]])
        assert all(torch.equal(v, other.state()[n]) for n, v in adapter.state().items())
    for _ in range(3):
        assert np.isfinite(adapter.predict(pictures(4, seed=3))).all()


class _BreakBright(nn.Module):
    """Makes NaN of every image that is white."""

    def forward(self, images):
        white = (images > 0.99).flatten(1).all(1)
        return torch.where(white.view(-1, 1, 1, 1), torch.nan, images)


@pytest.mark.parametrize("name", ["cotta", "rotta", "memo"])
def test_a_plain_module_is_refused_as_its_pixels_are_unknown(name):
    with pytest.raises(ModelError, match="Wrap it first"):
        make_adapter(SPECS[name], network("batch"))


@pytest.mark.parametrize("kind", [CoTTA, RoTTA, MEMO])
def test_a_preprocessing_of_ones_own_is_refused(kind):
    own = CallablePreprocess(lambda image: image.transpose(2, 0, 1).astype(np.float32))
    with pytest.raises(ModelError, match=r"undo their normalization, but this.*CallablePreprocess"):
        kind(Classifier(network("batch"), own, list("abcde")))


def test_note_takes_a_plain_module():
    adapter = NOTE(network("batch"), memory=4, lr=0.1)
    plain = network("batch")
    assert adapter(noise(6)).shape == (6, 5)
    assert not torch.equal(adapter.merge()[1].weight, plain[1].weight)


@pytest.mark.parametrize("kind", [RoTTA, NOTE])
def test_a_network_without_norm_layers_is_refused(kind):
    module = nn.Sequential(nn.Flatten(), nn.Linear(768, 5))
    with pytest.raises(ModelError, match=f"{kind.__name__} learns the scale and shift of norm"):
        kind(classifier_of(module))


@pytest.mark.parametrize("kind", [CoTTA, MEMO])
def test_a_network_without_norm_layers_learns_its_weights(kind):
    module = nn.Sequential(nn.Flatten(), nn.Linear(768, 5))
    adapter = kind(classifier_of(module), augmentations=2, lr=0.1)
    assert adapter.predict(pictures(2)).shape == (2, 5)
    assert not adapter.events


@pytest.mark.parametrize("kind", [CoTTA, RoTTA, NOTE, MEMO])
def test_half_precision_is_refused(kind):
    with pytest.raises(ModelError, match=r"is torch.float16: .* Use model.float\(\)"):
        kind(classifier_of(network("batch").half(), name="half"))


@pytest.mark.parametrize("kind", [CoTTA, RoTTA, NOTE, MEMO])
def test_a_graph_that_is_fixed_is_refused(kind):
    def run_graph(inputs):
        return np.zeros((len(inputs), 5), np.float32)

    with pytest.raises(ModelError, match="its graph is fixed, as in an ONNX file"):
        kind(Classifier(run_graph, Preprocess((16, 16), 16), list("abcde")))


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        ("cotta:restore=1.5", InputError, "restore: expected a number, 0 to 1, got 1.5"),
        ("cotta:augmentations=0", InputError, "augmentations: expected a whole number, 1 or more"),
        ("cotta:loss=both", UnknownNameError, "both"),
        ("cotta:optimizer=sgd", UnknownNameError, "sgd"),
        ("cotta:prior=-1", InputError, "prior: expected 0 or more"),
        ("rotta:memory=0", InputError, "memory: expected a whole number, 1 or more, got 0"),
        ("rotta:lr=-1", InputError, "lr: expected a number, 0 or more, got -1"),
        ("rotta:lr=inf", InputError, "lr: expected a finite number"),
        ("note:k=-1", InputError, "k: expected a number, 0 or more, got -1"),
        ("note:weight=2", InputError, "weight: expected a number, 0 to 1, got 2"),
        ("note:every=0", InputError, "every: expected a whole number"),
        ("memo:crop=none", UnknownNameError, "none"),
        ("memo:steps=0", InputError, "steps: expected a whole number"),
        ("memo:optimizer=adam", UnknownNameError, "adam"),
        ("memo:seed=-1", InputError, "seed: expected a whole number, 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(spec, error, text):
    with pytest.raises(error, match=text):
        make_adapter(spec, classifier_of(network("batch")))


@pytest.mark.parametrize("kind", [CoTTA, RoTTA, NOTE, MEMO])
def test_grey_networks_and_classes_of_some_outputs(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(4, 6),
        )  # fmt: skip
    grey = Preprocess((16, 16), 16, mean=(0.4,), std=(0.3,), channels=1)
    source = Classifier(module, grey, ["a", "b"], outputs=[[1, 4], [3]])
    adapter = kind(source, **({} if kind in (RoTTA, NOTE) else {"augmentations": 2}))
    assert (
        adapter.predict(pictures(70)[:66] if kind in (RoTTA, NOTE) else pictures(2)).shape[1] == 2
    )
    assert not adapter.events


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("kind", [CoTTA, RoTTA, NOTE])
def test_a_reentrant_checkpoint_learns(kind):
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(nn.Sequential):
        def forward(self, inputs):
            return checkpoint(super().forward, inputs, use_reentrant=True)

    plain = network("batch")
    parts = list(copy.deepcopy(plain))
    wrapped = nn.Sequential(Checkpointed(*parts[:6]), *parts[6:])
    options = {"augmentations": 1} if kind is CoTTA else {"memory": 4}
    one, other = (kind(classifier_of(m), lr=0.1, **options) for m in (plain, wrapped))
    for seed in range(2):
        np.testing.assert_allclose(
            one.predict(pictures(4, seed=seed)), other.predict(pictures(4, seed=seed)), atol=1e-4
        )


@pytest.mark.parametrize("prior", ["auto", "layerwise"])
def test_a_prior_that_is_measured_is_refused_by_its_name(prior):
    """By MEMO, whose batches are one image."""
    with pytest.raises(InputError, match=f"expected a number, 0 or more, got '{prior}'"):
        MEMO(classifier_of(network("batch")), prior=prior)
