"""Batches of few classes keep the source's statistics, batches under a shift do not.

On a network that answers by the mean of each channel, behind one batch norm. Each class has its own mean,
so a batch of one class is normalized to no class at all, and a shift along one class's mean
makes the source answer that class alone.
"""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from shiftproof import Classes, Classifier, Preprocess, bench
from shiftproof.adapt import ROID, ActMAD, CoTTA, Router, make_adapter
from shiftproof.adapt.base.network import AdaptedNetwork
from shiftproof.adapt.learning import source_check
from shiftproof.adapt.learning.few_classes import explain_by_classes, measure_agreement
from shiftproof.adapt.learning.source_check import SourceCheck
from shiftproof.adapt.safeguards.cautions import describe_few_classes
from shiftproof.data import ImageArrays
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.report import write_report

CHANNELS, K, HEIGHT = 16, 8, 0.4
"""Of the class means: ``HEIGHT`` times plus or minus 1 in each channel, K of them, orthogonal."""


def hadamard(size):
    return torch.tensor([[1.0]]) if size == 1 else torch.kron(hadamard(size // 2), hadamard2())


def hadamard2():
    return torch.tensor([[1.0, 1.0], [1.0, -1.0]])


CODES = hadamard(CHANNELS)[1 : K + 1]


def network():
    """Logits of 20 for the class of an image and 0 for the others; nothing known is class 0."""
    norm = nn.BatchNorm2d(CHANNELS)
    spread = HEIGHT * CODES
    norm.running_mean.copy_(spread.mean(0))
    norm.running_var.copy_(1 + spread.var(0, correction=0))
    linear = nn.Linear(CHANNELS, K)
    scale = norm.running_var.sqrt()
    with torch.no_grad():
        linear.weight.copy_(40 * CODES * scale / CHANNELS)
        linear.bias.copy_(40 * CODES @ norm.running_mean / CHANNELS)
        linear.bias[0] += 2
    return nn.Sequential(norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear).eval()


def images_of(labels, *, shift=0.0, seed=0, content=0.0):
    """Images whose means are those of their classes within 0.01, moved along those of class 1.

    ``content`` moves them along what no class depends on.
    """
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(labels), CHANNELS, 8, 8, generator=random)
    noise = noise - noise.mean((2, 3), keepdim=True)
    noise = noise / noise.std((2, 3), correction=0, keepdim=True)
    means = HEIGHT * CODES[labels] + 0.01 * torch.randn(len(labels), CHANNELS, generator=random)
    means = means + shift * CODES[1] + content * hadamard(CHANNELS)[K + 2]
    return noise + means[..., None, None]


ONE_CLASS = torch.full((16,), 3)
MIXED = torch.arange(32) % K
SPECS = ("batchnorm", "rpl:lr=0.1", "ent:lr=0.1", "hard:lr=0.1", "eata", "sar", "deyo", "roid")


def count_wrong(predict, labels, **options):
    return int((predict(images_of(labels, **options)).argmax(1) != labels).sum())


def kept(adapter):
    return sum(event.count for event in adapter.events if event.kind == "few classes")


# ---------------------------------------------------------------- the judgment


@pytest.mark.parametrize(
    ("answers", "agreement"),
    [
        ([0, 0, 1, 1], 4 / 12 - 1 / 4),  # of twelve pairs four agree
        ([0, 1, 2, 3], -1 / 4),
        ([2, 2, 2, 2], 3 / 4),
        ([2], 0.0),
    ],
)
def test_agreement_is_that_of_pairs(answers, agreement):
    sure = torch.eye(4)[answers]
    assert measure_agreement(sure) == pytest.approx(agreement)


def test_unsure_answers_agree_by_chance_alone():
    assert measure_agreement(torch.full((5, 4), 0.25)) == pytest.approx(0)


def test_the_more_classes_the_less_distance_they_explain():
    """0.28 times the agreement: 0.9 for one of ten classes, 0.4 for two."""
    one, two = torch.eye(10)[[4] * 16], torch.eye(10)[[4, 5] * 100]
    assert explain_by_classes(one, 0.25)
    assert not explain_by_classes(one, 0.26)
    assert explain_by_classes(two, 0.11)
    assert not explain_by_classes(two, 0.12)
    # At half the confidence a distance of four times as much.
    assert explain_by_classes(one, 1.0, confidence_ratio=0.5)
    assert not explain_by_classes(one, 1.02, confidence_ratio=0.5)
    assert not explain_by_classes(one, 0.26, confidence_ratio=2.0)
    assert not explain_by_classes(one, float("nan"))


# ---------------------------------------------------------------- one batch


def test_the_network_errs_as_the_tests_need_it():
    net = network()
    with torch.no_grad():
        assert count_wrong(net, ONE_CLASS) == count_wrong(net, MIXED) == 0
        assert count_wrong(net, MIXED, shift=1.0) == 28  # all but those of class 1


def test_the_measured_prior_takes_one_class_for_a_shift():
    adapter = make_adapter("batchnorm:prior=measured", network())
    assert count_wrong(adapter, ONE_CLASS) == 16
    assert kept(adapter) == 0


@pytest.mark.parametrize("spec", SPECS)
def test_one_class_is_answered_by_the_source(spec):
    net = network()
    adapter = make_adapter(spec, net)
    first = [parameter.detach().clone() for parameter in adapter.parameters()]
    assert count_wrong(adapter, ONE_CLASS) == 0
    assert kept(adapter) == 1
    assert all(map(torch.equal, first, adapter.parameters()))
    with torch.no_grad():
        x = images_of(MIXED)
        torch.testing.assert_close(adapter.merge()(x), net(x))


@pytest.mark.parametrize("spec", SPECS)
def test_a_shift_of_mixed_classes_is_repaired(spec):
    adapter = make_adapter(spec, network())
    assert count_wrong(adapter, MIXED, shift=1.0) == 0
    assert kept(adapter) == 0


@pytest.mark.parametrize("spec", ["batchnorm", "batchnorm:over=stream", "rpl", "rdumb+ent"])
def test_each_batch_is_judged_by_itself(spec):
    adapter = make_adapter(spec, network())
    assert count_wrong(adapter, ONE_CLASS) == 0
    assert count_wrong(adapter, MIXED, shift=1.0) <= (16 if "stream" in spec else 0)
    assert count_wrong(adapter, ONE_CLASS, seed=1) == 0
    assert kept(adapter) == 2
    with adapter.frozen():
        assert count_wrong(adapter, ONE_CLASS, seed=2) == 0
    assert kept(adapter) == 2


def test_small_batches_are_judged_with_the_answers_before():
    """Among the last sixteen of a mixed stream two or four of one class are few, eight are not.

    With eight, nine of sixteen answers are that class: they agree in 72 of 240 pairs.
    """
    pair = torch.tensor([3, 3])
    alone, adapter = (make_adapter("batchnorm", network()) for _ in range(2))
    for seed, label in enumerate(MIXED[:16]):
        assert count_wrong(adapter, label[None], seed=seed) == 0
    assert (count_wrong(alone, pair), kept(alone)) == (0, 1)
    wrong = [count_wrong(adapter, pair, seed=seed) for seed in range(4)]
    assert wrong[:2] == [2, 2]
    assert wrong[3] == 0
    assert kept(adapter) >= 1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_what_was_answered_goes_along_with_copies_and_states(copied):
    adapter, loaded = (make_adapter("rpl:lr=0.1", network()) for _ in range(2))
    for seed in range(4):
        adapter(images_of(torch.tensor([3, 4]), seed=seed))
    loaded.load_state(adapter.state())
    twin = copied(adapter)
    for seed in range(4, 8):
        x = images_of(torch.tensor([3, 4]), seed=seed)
        expected = adapter(x)
        assert torch.equal(twin(x), expected)
        assert torch.equal(loaded(x), expected)


@pytest.mark.parametrize("spec", ["batchnorm", "rpl"])
@pytest.mark.parametrize("answers", [torch.zeros(17, 8), torch.zeros(8), torch.zeros(2, 1)])
def test_a_state_with_other_answers_is_refused(spec, answers):
    adapter = make_adapter(spec, network())
    adapter(images_of(ONE_CLASS))
    with pytest.raises(InputError, match=r"damaged: 'answers' has the shape"):
        adapter.load_state({**adapter.state(), "answers": answers})
    adapter.load_state({k: v for k, v in adapter.state().items() if k != "answers"})


def test_answers_of_a_state_on_another_device_come_to_the_cpu(monkeypatch):
    """Batches are judged by answers on the CPU; "meta" stands for a device that is there."""
    monkeypatch.setattr(source_check, "copy_tensor", lambda state, name, like: like)
    check = SourceCheck(AdaptedNetwork(network()))
    found = check.read_state({"answers": torch.zeros(4, K, device="meta")})
    assert found.device == torch.device("cpu")


def note_sizes(net):
    """Return the sizes of all batches that reach the last layer of a network or its copies."""
    seen = []
    net[3].register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    return seen


TWO_CLASSES = torch.tensor([3, 5] * 32)


@pytest.mark.parametrize(
    ("labels", "shift", "first", "later"),
    [
        (MIXED, 0.0, [32], [32]),  # nothing to decide
        (torch.tensor([3]), 0.0, [1], [1]),
        (MIXED, 1.0, [32, 16], [16, 32]),
        (ONE_CLASS, 0.0, [16, 16], [16]),
        (TWO_CLASSES, 0.0, [64, 16, 48], [16, 48]),
    ],
)
def test_no_image_is_answered_twice_by_the_source(labels, shift, first, later):
    """The first pass is watched to its end; later ones end where the source is to answer."""
    net = network()
    sizes = note_sizes(net)
    adapter = make_adapter("batchnorm", net)
    for expected in (first, later):
        adapter(images_of(labels, shift=shift))
        assert sizes == expected
        sizes.clear()


def test_what_the_source_answers_in_parts_is_what_it_answers_at_once():
    net = network()
    adapter = make_adapter("batchnorm", net)
    x = images_of(TWO_CLASSES)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(adapter(x), net(x))
    assert kept(adapter) == 2


class BesideUntracked(nn.Module):
    """A network with a layer that normalizes by each batch, on which no answer depends here."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.norm = nn.BatchNorm2d(CHANNELS, track_running_stats=False)

    def forward(self, x):
        return self.net(x + 0 * self.norm(x))


def test_where_images_depend_on_their_batch_the_source_gets_all_of_it():
    net = network()
    sizes = note_sizes(net)
    adapter = make_adapter("batchnorm", BesideUntracked(net).eval())
    for expected in ([24, 16, 24], [16, 24]):
        adapter(images_of(torch.full((24,), 3)))
        assert sizes == expected
        sizes.clear()


class Catching(nn.Module):
    """A network that answers nothing where something fails."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        try:
            return self.net(x)
        except Exception:
            return torch.zeros(len(x), K)


@pytest.mark.parametrize("spec", ["batchnorm", "rpl:lr=0.1"])
def test_a_network_may_catch_what_ends_its_pass(spec):
    adapter = make_adapter(spec, Catching(network()))
    assert [count_wrong(adapter, ONE_CLASS) for _ in range(3)] == [0, 0, 0]
    assert kept(adapter) == 3


@pytest.mark.parametrize("loss", ["rpl", "ent"])
def test_what_learns_ends_its_pass_and_answers_without_a_graph(loss):
    """The parameters may have learned, so all images run once more."""
    net = network()
    sizes = note_sizes(net)
    adapter = make_adapter(f"{loss}:lr=0.1", net)
    for expected in ([16, 16, 16], [16, 16]):
        assert not adapter(images_of(ONE_CLASS)).requires_grad
        assert sizes == expected
        sizes.clear()
    assert kept(adapter) == 2


def test_outputs_that_are_no_logits_are_not_judged():
    maps = nn.Sequential(network()[0], nn.Conv2d(CHANNELS, 4, 1))
    x = images_of(ONE_CLASS)
    auto, measured = (make_adapter(f"batchnorm:prior={p}", maps) for p in ("auto", "measured"))
    assert torch.equal(auto(x), measured(x))
    assert kept(auto) == 0


def test_what_is_not_finite_is_not_judged():
    x = images_of(ONE_CLASS)
    x[0] = torch.nan
    for spec in ("batchnorm", "rpl"):
        adapter = make_adapter(spec, network())
        assert bool(torch.isfinite(adapter(x)[1:]).all())
        assert [event.kind for event in adapter.events] == ["skipped"]


def test_roid_learns_from_one_of_its_two_passes(monkeypatch):
    """The images that it moves may be judged otherwise than those that it is shown."""
    adapter = make_adapter("roid", network())
    x = images_of(MIXED, shift=0.3)
    monkeypatch.setattr(
        adapter._learner.check,
        "should_keep_source",
        lambda shown, *_: shown.data_ptr() != x.data_ptr(),
    )
    first = [parameter.detach().clone() for parameter in adapter.parameters()]
    adapter(x)
    assert not all(map(torch.equal, first, adapter.parameters()))


# ---------------------------------------------------------------- CoTTA, which needs pixels


def pixel_classifier(red=3.0):
    """Answers which color there is most of; if it cannot tell, red, as sure as ``red`` says."""
    preprocess = Preprocess((16, 16), None, mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3))
    clean = preprocess.normalize(colors(np.arange(90) % 3, seed=9))
    norm = nn.BatchNorm2d(3)
    norm.running_mean.copy_(torch.from_numpy(clean.mean((0, 2, 3))))
    norm.running_var.copy_(torch.from_numpy(clean.var((0, 2, 3))))
    linear = nn.Linear(3, 3)
    with torch.no_grad():
        linear.weight.copy_(60 * torch.eye(3))
        linear.bias.copy_(torch.tensor([red, 0.0, 0.0]))
    module = nn.Sequential(norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    return Classifier(module, preprocess, Classes(["red", "green", "blue"]))


def colors(labels, *, brightness=0, seed=0):
    """Noise with a little more of one color."""
    random = np.random.default_rng(seed)
    noise = random.normal(0, 0.3 * 255, (len(labels), 16, 16, 3))
    noise -= noise.mean((1, 2), keepdims=True)
    means = 127 + 25 * np.eye(3)[labels] - 8 + random.normal(0, 0.5, (len(labels), 3)) + brightness
    return np.clip(noise + means[:, None, None], 0, 255).astype(np.uint8)


def test_cotta_neither_adapts_nor_learns_where_classes_are_few():
    labels = np.full(16, 2)
    paper, safe = (CoTTA(pixel_classifier(), prior=p, augmentations=2) for p in (0, "auto"))
    assert (paper.predict(colors(labels)).argmax(1) != labels).mean() > 0.3
    assert (safe.predict(colors(labels)).argmax(1) == labels).all()
    assert kept(safe) == 1
    same = safe.state()
    assert all(torch.equal(same[k], v) for k, v in CoTTA(pixel_classifier()).state().items()
               if k.startswith("parameter/"))  # fmt: skip


def test_cotta_leaves_clean_images_alone_and_augments_shifted_ones(monkeypatch):
    looked = []
    monkeypatch.setattr(
        CoTTA,
        "_average_augmented",
        lambda self, x: (looked.append(len(x)), self._network.forward(x))[1],
    )
    adapter = CoTTA(pixel_classifier(), threshold=1, augmentations=2)
    labels = np.arange(30) % 3
    adapter.predict(colors(labels))
    assert looked == []
    adapter.predict(colors(labels, brightness=60))
    assert looked == [30]


@pytest.mark.parametrize(("few_classes", "moves"), [("skip", False), ("learn", True)])
def test_rotta_leaves_a_memory_of_one_class_alone(few_classes, moves):
    adapter = make_adapter(f"rotta:memory=16,few_classes={few_classes}", pixel_classifier())
    source = adapter.merge().state_dict()
    assert (adapter.predict(colors(np.full(16, 2))).argmax(1) == 2).all()
    learned = adapter.merge().state_dict()
    assert any(not torch.equal(learned[name], value) for name, value in source.items()) == moves
    assert kept(adapter) == (0 if moves else 1)
    adapter.reset()
    adapter.predict(colors(np.arange(30) % 3, brightness=60))
    assert kept(adapter) == 0
    assert not torch.equal(adapter.merge()[0].running_mean, source["0.running_mean"])


def test_rotta_leaves_a_memory_alone_where_normalizing_would_confuse_the_source():
    """Classes explain a distance of 0.19 at the most; by the brightness it is 0.3."""
    adapter = make_adapter("rotta:memory=16", pixel_classifier(red=0.0))
    source = adapter.merge().state_dict()
    adapter.predict(colors(np.full(16, 2), brightness=40))
    learned = adapter.merge().state_dict()
    assert all(torch.equal(learned[name], value) for name, value in source.items())
    assert kept(adapter) == 1


# ---------------------------------------------------------------- what is said


def test_a_run_and_its_page_say_how_often(tmp_path, capsys):
    labels = np.full(32, 2)
    source = pixel_classifier()
    data = ImageArrays(list(colors(labels)), labels, source.classes, name="red")
    run = bench.run(
        source, data, corruptions=["brightness"], severities=[1], adapters=["batchnorm"],
        out=tmp_path / "run", batch_size=16, show_progress=True, workers=0,
    )  # fmt: skip
    count = sum(one.event.count for one in run.events if one.event.kind == "few classes")
    assert count >= 2
    said = (
        f"{count} batches seem to hold few classes: their statistics were not used, and no step was "
        "taken."
    )
    assert said in " ".join(capsys.readouterr().err.split())
    assert said in write_report(run.path, tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("spec", ["rotta:memory=16", "actmad"])
def test_what_is_said_holds_for_methods_without_statistics_of_the_batch(spec):
    adapter = make_adapter(spec, pixel_classifier())
    adapter.predict(colors(np.full(16, 2)))
    assert describe_few_classes(adapter.events) == (
        "1 batch seems to hold few classes: its statistics were not used, and no step was taken."
    )


# ---------------------------------------------------------------- ActMAD and ROID


@pytest.mark.parametrize(("few_classes", "moves"), [("skip", False), ("learn", True)])
def test_actmad_takes_no_step_on_one_class(few_classes, moves):
    adapter = make_adapter(f"actmad:lr=0.1,few_classes={few_classes}", network())
    first = [parameter.detach().clone() for parameter in adapter.parameters()]
    assert count_wrong(adapter, ONE_CLASS) == 0
    assert (
        any(not torch.equal(a, b) for a, b in zip(first, adapter.parameters(), strict=True))
        == moves
    )
    assert kept(adapter) == (0 if moves else 1)
    adapter.reset()
    adapter(images_of(MIXED, shift=1.0))
    assert not all(map(torch.equal, first, adapter.parameters()))


@pytest.mark.parametrize("sizes", [[16], [1] * 16, [2] * 8, [4] * 4, [40]])
def test_actmad_takes_no_step_where_normalizing_would_confuse_the_source(sizes):
    """Classes explain a distance of 0.25 at the most, and here it is 0.4."""
    adapter = make_adapter("actmad:lr=0.1", network())
    first = [parameter.detach().clone() for parameter in adapter.parameters()]
    for seed, size in enumerate(sizes):
        labels = torch.full((size,), 3)
        assert count_wrong(adapter, labels, content=0.6, seed=seed) == 0
    assert all(map(torch.equal, first, adapter.parameters()))
    assert kept(adapter) == len(sizes)


@pytest.mark.parametrize(
    ("make", "images", "lr"),
    [
        (pixel_classifier, 4, 0.0025),
        (pixel_classifier, 16, 0.01),
        (pixel_classifier, 32, 0.01),
        (lambda: pixel_classifier().module, 4, 0.01),
    ],
)
def test_actmad_learns_from_few_images_of_a_classifier_at_a_lower_rate(make, images, lr):
    """0.01 for 16 images and more, in proportion to fewer; of a plain module always."""
    x = torch.from_numpy(colors(np.arange(images) % 3, brightness=60) / np.float32(255))
    x = x.permute(0, 3, 1, 2).contiguous()
    auto, given = (ActMAD(make(), lr=rate, few_classes="learn") for rate in ("auto", lr))
    first = [parameter.detach().clone() for parameter in auto.parameters()]
    for adapter in (auto, given):
        adapter(x)
    assert all(map(torch.equal, auto.parameters(), given.parameters()))
    assert not all(map(torch.equal, first, auto.parameters()))


@pytest.mark.parametrize(("images", "like"), [(15, "false"), (16, "true")])
def test_roid_corrects_by_the_mean_of_sixteen_answers(images, like):
    x = images_of(MIXED[:images])
    auto, other = (make_adapter(f"roid:lr=0,correction={c}", network()) for c in ("auto", like))
    assert torch.equal(auto(x), other(x))
    both = (make_adapter(f"roid:lr=0,correction={c}", network())(x) for c in ("true", "false"))
    assert not torch.equal(*both)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ROID(network(), correction="no"), InputError, "True, False or 'auto', got 'no'"),
        (lambda: ActMAD(network(), few_classes="skp"), UnknownNameError, "Did you mean 'skip'"),
    ],
)
def test_misspelled_options(make, error, words):
    with pytest.raises(error, match=words):
        make()


# ---------------------------------------------------------------- the router


def test_a_router_takes_batch_norm_where_the_source_is_sure_of_one_class_under_a_shift():
    router = Router(network(), experts=["batchnorm:prior=measured"])
    assert count_wrong(router, MIXED, shift=1.0) == 0
    assert router.estimates["source"] > 0.8  # all but one of eight classes
    router.reset()
    assert count_wrong(router, ONE_CLASS) == 0
    assert router.answering == "source"
