"""Detectors and segmenters that learn from their answers and their features."""

import math

import numpy as np
import pytest

from shiftproof import Detections, Detector, Segmenter
from shiftproof.adapt import AdaptedDetector, AdaptedSegmenter, load, save
from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.models import NormalizedSegmentation
from shiftproof.models.segmenters.windows import Framing
from shiftproof.testing import check_adapted

torch = pytest.importorskip("torch")

from shiftproof.adapt import ActMAD, BatchNorm, DenseLearning, MeanTeacher, SelfLearning  # noqa: E402
from shiftproof.adapt.dense.mean_teacher import select_boxes  # noqa: E402
from shiftproof.adapt.normalization.feature_statistics import measure_moments  # noqa: E402

NAMES = ["road", "sky", "car"]


class Pixels(torch.nn.Module):
    """A small network for segmentation, with an activation that works in place."""

    def __init__(self, norm=torch.nn.BatchNorm2d):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
            self.norm = norm(4)
            self.act = torch.nn.ReLU(inplace=True)
            self.head = torch.nn.Conv2d(4, 3, 1)

    def forward(self, images):
        return {"out": self.head(self.act(self.norm(self.conv(images))))}


class Scaled(torch.nn.Module):
    """Logits are the channels of the image, shifted by what is learned: layer norm without statistics."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.GroupNorm(1, 2)

    def forward(self, images):
        return images[:, :2] * self.norm.weight[:, None, None] + self.norm.bias[:, None, None]


class Boxes(torch.nn.Module):
    """One box an image, whose score hangs on features; with a training loss as torchvision has it."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.head = torch.nn.Linear(4, 2)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            for parameter in self.parameters():
                parameter.normal_(0.2, 0.5)

    def forward(self, images, targets=None):
        found, losses = [], []
        of_one_size = len({image.shape for image in images}) == 1
        groups = [torch.stack(list(images))] if of_one_size else [image[None] for image in images]
        rows = torch.cat([self.head(self.norm(self.conv(one)).mean((2, 3))) for one in groups])
        for place, logits in enumerate(rows):
            if self.training:
                label = targets[place]["labels"][:1] - 1
                losses.append(torch.nn.functional.cross_entropy(logits[None], label))
            score, label = logits.softmax(0).max(0)
            box = torch.tensor([[1.0, 2, 9, 8]])
            found.append({"boxes": box, "scores": score[None], "labels": label[None] + 1})
        return {"loss": torch.stack(losses).mean()} if self.training else found


class TorchvisionLike:
    """Torchvision's convention without torchvision."""

    def detect(self, network, images, device):
        batch = [torch.from_numpy(np.array(i)).permute(2, 0, 1).float() / 255 for i in images]
        return [
            Detections(o["boxes"].numpy(), o["scores"].numpy(), o["labels"].numpy() - 1)
            for o in network(batch)
        ]

    def settings(self, network):
        return {}


def segmenter(network=None, framing=None):
    return Segmenter(
        network or Pixels(), NAMES, convention=NormalizedSegmentation(), framing=framing
    )


def detector(network=None):
    return Detector(network or Boxes(), ["one", "two"], convention=TorchvisionLike())


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (12, 16, 3), dtype=np.uint8) for _ in range(4)]


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize(
    "spec",
    [
        "batchnorm", "ent:lr=0.1", "rpl:lr=0.1,threshold=0.2,rows=40", "ent:momentum=0.9,prior=0,lr=0.01",
        "actmad:lr=0.1", "actmad:parameters=all,cells=1", "guard:window=4,probation=2+ent:lr=0.5",
        "guard+batchnorm",
    ],
)  # fmt: skip
def test_segmenters_keep_the_contract(spec):
    check_adapted(lambda model: AdaptedSegmenter(model, spec), segmenter())


@pytest.mark.parametrize(
    "spec",
    [
        "batchnorm", "actmad:lr=0.1", "teacher:threshold=0,lr=0.1", "guard+actmad",
        "teacher:threshold=0.4,momentum=0.5,parameters=all,strength=0",
    ],
)  # fmt: skip
def test_detectors_keep_the_contract(spec):
    check_adapted(lambda model: AdaptedDetector(model, spec), detector())


def test_the_contract_sees_what_is_broken():
    class Forgetful(torch.nn.Module):
        pass

    def make(model):
        adapted = AdaptedSegmenter(model, "ent:lr=1")
        adapted._method.reset = lambda: None
        return adapted

    with pytest.raises(AssertionError, match="reset"):
        check_adapted(make, segmenter())


# ---------------------------------------------------------------- entropy and pseudo-labels of pixels


def test_a_step_of_entropy_is_the_one_by_hand():
    """Two logits a, b of one pixel: dH/da = -p q (a - b); weights get it times the input, shifts plain."""
    batch = torch.zeros(1, 2, 1, 2)
    batch[0, :, 0, 0] = torch.tensor([1.0, 0.0])
    batch[0, :, 0, 1] = torch.tensor([0.0, 2.0])
    adapted = DenseLearning(Scaled(), loss="ent", lr=0.5)
    adapted(batch)
    by_hand = 0.0
    for a, b in ((1.0, 0.0), (0.0, 2.0)):
        p = 1 / (1 + math.exp(b - a))
        by_hand += -p * (1 - p) * (a - b) / 2  # the mean over two pixels
    shift = dict(adapted.merge().named_parameters())["norm.bias"]
    assert shift.tolist() == pytest.approx([-0.5 * by_hand, 0.5 * by_hand], abs=1e-6)


def test_a_step_of_robust_pseudo_labels_is_the_one_by_hand():
    """(1 - p^q) / q with q = 1 is 1 - p: its derivative in the logit of the answer is -p (1 - p)."""
    batch = torch.tensor([[[[1.0]], [[0.0]]]])
    adapted = DenseLearning(Scaled(), loss="rpl", q=1, lr=0.5)
    adapted(batch)
    p = 1 / (1 + math.exp(-1))
    shift = dict(adapted.merge().named_parameters())["norm.bias"]
    assert shift.tolist() == pytest.approx([0.5 * p * (1 - p), -0.5 * p * (1 - p)], abs=1e-6)


def test_pixels_that_are_unsure_do_not_count():
    sure = torch.tensor([[[[3.0]], [[0.0]]]])
    both = torch.cat([sure, torch.zeros_like(sure)], dim=3)
    one = DenseLearning(Scaled(), loss="rpl", threshold=0.9, lr=0.5)
    two = DenseLearning(Scaled(), loss="rpl", threshold=0.9, lr=0.5)
    one(sure), two(both)
    assert torch.equal(one.state()["parameter/norm.bias"], two.state()["parameter/norm.bias"])
    unsure = DenseLearning(Scaled(), loss="rpl", threshold=1.0, lr=0.5)
    unsure(both)
    assert unsure.state()["parameter/norm.bias"].tolist() == [0, 0]
    assert unsure.events == ()


@pytest.mark.parametrize("loss", ["ent", "rpl"])
def test_with_a_pixel_an_image_it_is_self_learning(loss):
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.LayerNorm(12), torch.nn.Linear(12, 3)
    )
    batch = torch.rand(6, 3, 2, 2)
    one, two = DenseLearning(network, loss=loss, lr=0.3), SelfLearning(network, loss=loss, lr=0.3)
    assert torch.allclose(one(batch), two(batch))
    for name, value in two.state().items():
        assert torch.allclose(one.state()[name], value, atol=1e-7), name


def test_images_shown_one_by_one_make_the_step_of_the_whole_batch(images):
    """With the source's statistics the gradients of the calls add up to that of the batch."""
    whole = AdaptedSegmenter(segmenter(), "ent:prior=inf,lr=0.5")
    whole.predict(images, batch_size=4)
    single = AdaptedSegmenter(
        segmenter(framing=Framing(window=(12, 16), stride=(12, 16))), "ent:prior=inf,lr=0.5"
    )
    single.predict(images, batch_size=4)
    for name, value in whole.state().items():
        assert torch.allclose(value, single.state()[name], atol=1e-6), name


def test_windows_learn_and_are_merged(images):
    adapted = AdaptedSegmenter(
        segmenter(framing=Framing(window=(8, 8), stride=(4, 4))), "ent:lr=0.2,prior=4"
    )
    adapted.predict(images[:2], batch_size=2)
    merged = adapted.merge()
    assert not torch.equal(merged.module.norm.weight, adapted.segmenter.module.norm.weight)
    assert not torch.equal(
        merged.module.norm.running_mean, adapted.segmenter.module.norm.running_mean
    )
    merged.predict(images[:1])


def test_some_pixels_are_drawn_by_key(images):
    states = []
    for spec in (
        "ent:lr=1,rows=10",
        "ent:lr=1,rows=10",
        "ent:lr=1,rows=10,seed=1",
        "ent:lr=1,rows=192",
    ):
        adapted = AdaptedSegmenter(segmenter(), spec)
        adapted.predict(images)
        states.append(adapted.state()["parameter/norm.bias"])
    everything = AdaptedSegmenter(segmenter(), "ent:lr=1")
    everything.predict(images)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert torch.equal(states[3], everything.state()["parameter/norm.bias"])


def test_entropy_falls_on_the_images(images):
    adapted = DenseLearning(Pixels(), loss="ent", lr=0.5)
    batch = torch.rand(2, 3, 8, 8)
    entropies = []
    for _ in range(4):
        p = adapted(batch)["out"].softmax(1)
        entropies.append(float(-(p * p.log()).sum(1).mean()))
    assert entropies == sorted(entropies, reverse=True)


def test_a_broken_image_takes_no_step_and_the_others_are_answered(images):
    adapted = DenseLearning(Pixels(), loss="ent", lr=0.5, prior=0)
    batch = torch.rand(2, 3, 8, 8)
    batch[0, 0, 0, 0] = float("nan")
    answers = adapted(batch)["out"]
    assert [event.kind for event in adapted.events] == ["skipped"]
    assert torch.allclose(answers[1], Pixels().eval()(batch)["out"][1], atol=1e-6)


def test_a_batch_of_one_and_a_saved_state(images, tmp_path):
    adapted = AdaptedSegmenter(segmenter(), "ent:lr=0.2")
    adapted.predict(images[:1])
    save(adapted, tmp_path / "state.safetensors")
    again = AdaptedSegmenter(segmenter(), "ent:lr=0.2")
    load(again, tmp_path / "state.safetensors")
    assert all(torch.equal(again.state()[k], v) for k, v in adapted.state().items())


# ---------------------------------------------------------------- the guard


def test_the_guard_puts_the_source_back(images):
    source = segmenter().predict(images)
    adapted = AdaptedSegmenter(segmenter(), "guard:window=8,probation=2+ent:lr=1000,prior=inf")
    for _ in range(6):
        found = adapted.predict(images)
    assert {event.kind for event in adapted.events} & {"rolled back", "source answers"}
    assert all(np.array_equal(a, b) for a, b in zip(found, source, strict=True))
    merged = adapted.merge().predict(images)
    assert all(np.array_equal(a, b) for a, b in zip(merged, source, strict=True))


# ---------------------------------------------------------------- features


def test_moments_are_those_by_hand():
    maps = torch.arange(16.0).reshape(2, 1, 2, 4)
    whole = measure_moments(maps, 1)
    assert whole.first.item() == 7.5
    assert whole.variance.item() == pytest.approx(np.arange(16).var())
    each = measure_moments(maps, "all")
    assert torch.equal(each.first[0], maps.mean(0)[0])
    assert torch.allclose(each.variance[0], torch.full((2, 4), 16.0))
    halves = measure_moments(maps, (1, 2))
    left = np.arange(16).reshape(2, 2, 4)[:, :, :2]
    assert halves.first[0, 0, 0].item() == left.mean()
    assert halves.variance[0, 0, 0].item() == pytest.approx(left.var())


def test_the_distance_to_running_statistics_is_the_one_by_hand():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(1, eps=0.0)).eval()
    network[0].running_mean.fill_(1.0)
    network[0].running_var.fill_(4.0)
    network[0].weight.data.fill_(3.0)
    network[0].bias.data.fill_(0.5)
    adapted = ActMAD(network)
    values = torch.tensor([[[[3.0, 5.0]]]])  # normalized 1 and 2, then 3.5 and 6.5
    outputs = {"0": torch.tensor([[[[3.5, 6.5]]]])}
    # Clean: mean 0.5 and variance 9; here mean 5 and variance 2.25.
    assert float(adapted.measure_distance(outputs).detach()) == pytest.approx(4.5 + 6.75)
    adapted(values)
    # d/dshift of |mean - 0.5| is 1, so the shift falls by the rate.
    assert adapted.merge()[0].bias.item() == pytest.approx(0.5 - 1e-2)


def test_clean_images_are_measured_location_by_location(images):
    network = Pixels()
    adapted = AdaptedSegmenter(
        segmenter(network), ActMAD(network, clean=images, cells="all", lr=0.1,
        predict_with=segmenter(network).predict_with),
    )  # fmt: skip
    by_hand = []
    hook = network.norm.register_forward_hook(
        lambda _, __, out: by_hand.append(out.detach().clone())
    )
    plain = Segmenter(network, NAMES, convention=NormalizedSegmentation())
    plain.predict_with(network.eval(), images)
    hook.remove()
    method = adapted._method
    assert torch.allclose(method._clean["norm"].first, by_hand[0].mean(0), atol=1e-6)
    assert torch.allclose(
        method._clean["norm"].variance, by_hand[0].var(0, unbiased=False), atol=1e-5
    )
    assert adapted.settings["clean"]["images"] == 4
    with pytest.raises(ModelError, match="cells='all' compares location with location"):
        adapted.predict([images[0][:8]])


def test_on_the_clean_images_themselves_nothing_is_learned(images):
    network = Pixels()
    adapted = ActMAD(
        network, clean=images, cells=2, lr=0.1, predict_with=segmenter(network).predict_with
    )
    wrapped = AdaptedSegmenter(segmenter(network), adapted)
    wrapped.predict(images, batch_size=4)
    moved = adapted.state()["parameter/norm.bias"] - network.norm.bias.detach()
    # The derivative of an absolute value is a sign, or 0 where it is 0 to the last bit.
    assert float(moved.abs().max()) <= 0.1 * 1.0001


def test_a_shift_of_the_features_is_undone(images):
    dark = [(image // 4).astype(np.uint8) for image in images]
    model = segmenter()
    adapted = AdaptedSegmenter(
        model, ActMAD(model.module, clean=images, predict_with=model.predict_with, lr=0.05)
    )
    method = adapted._method

    def distance():
        found = {}
        hook = method._network.module.norm.register_forward_hook(
            lambda _, __, out: found.update(norm=out)
        )
        with adapted.frozen():
            adapted.predict(dark)
        hook.remove()
        return float(method.measure_distance(found))

    before = distance()
    for _ in range(30):
        adapted.predict(dark)
    assert distance() < 0.6 * before


def test_frozen_batch_norm_lets_all_parameters_learn():
    ops = pytest.importorskip("torchvision.ops")
    network = Pixels(norm=ops.FrozenBatchNorm2d)
    adapted = AdaptedSegmenter(segmenter(network), "actmad:lr=0.01")
    assert adapted.settings["parameters"] == "all"
    assert adapted.settings["compared"] == 1


def test_clean_images_are_read_from_a_folder(images, tmp_path):
    from PIL import Image

    for number, image in enumerate(images):
        (tmp_path / "below").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "below" / f"{number}.png")
    read = AdaptedSegmenter(segmenter(), f"actmad:clean={tmp_path}")
    given = AdaptedSegmenter(
        segmenter(), ActMAD(Pixels(), clean=images, predict_with=segmenter().predict_with)
    )
    assert read.settings["clean"] == given.settings["clean"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found none in"):
        AdaptedSegmenter(segmenter(), f"actmad:clean={tmp_path / 'empty'}")


# ---------------------------------------------------------------- detectors


def test_boxes_of_the_teacher_are_chosen_by_score_and_area():
    found = {
        "boxes": torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [3, 3, 3, 5]]),
        "scores": torch.tensor([0.9, 0.5, 0.99]),
        "labels": torch.tensor([1, 2, 1]),
        "masks": torch.tensor([[[[0.4, 0.6]]]] * 3),
    }
    target = select_boxes(found, 0.7)
    assert target["labels"].tolist() == [1]
    assert target["masks"].tolist() == [[[0, 1]]]


def test_the_teacher_follows_the_student_by_hand(images):
    adapted = MeanTeacher(Boxes(), threshold=0.0, keep=0.75, lr=0.1, strength=0)
    batch = [torch.from_numpy(np.array(i)).permute(2, 0, 1).float() / 255 for i in images]
    adapted.run_batch(lambda module: module(batch), 4)
    state, first = adapted.state(), Boxes().norm.bias.detach()
    student, teacher = state["parameter/norm.bias"], state["teacher/norm.bias"]
    assert not torch.equal(student, first)
    assert torch.allclose(teacher, 0.75 * first + 0.25 * student, atol=1e-7)


def test_without_a_sure_box_nothing_is_learned(images):
    adapted = AdaptedDetector(detector(), "teacher:threshold=1")
    before = adapted.state()
    adapted.predict(images)
    after = adapted.state()
    assert all(torch.equal(after[k], v) for k, v in before.items() if k != "batches")


def test_the_proposals_of_torchvision_are_learned_from():
    detection = pytest.importorskip("torchvision.models.detection")
    from shiftproof.models.detectors.torchvision import TorchvisionConvention

    class Backbone(torch.nn.Sequential):
        out_channels = 8

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = Backbone(
            torch.nn.Conv2d(3, 8, 3, stride=8, padding=1),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(inplace=True),
        )
        network = detection.FasterRCNN(
            backbone, num_classes=3, min_size=32, max_size=48, rpn_pre_nms_top_n_test=20,
            rpn_post_nms_top_n_test=8, rpn_pre_nms_top_n_train=20, rpn_post_nms_top_n_train=8,
            box_score_thresh=0.0,
            rpn_anchor_generator=detection.rpn.AnchorGenerator(((16,),), ((1.0,),)),
            box_roi_pool=__import__("torchvision").ops.MultiScaleRoIAlign(["0"], 2, 1),
        )  # fmt: skip
    wrapped = Detector(network, ["a", "b"], convention=TorchvisionConvention())
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (32, 40, 3), dtype=np.uint8) for _ in range(2)]
    for spec in ("ent:lr=0.1", "rpl:lr=0.1", "actmad:lr=0.1", "teacher:threshold=0.1,lr=0.1"):
        adapted = AdaptedDetector(wrapped, spec)
        before = torch.random.get_rng_state()
        adapted.predict(pictures)
        assert torch.equal(torch.random.get_rng_state(), before), spec
        moved = adapted.state()["parameter/backbone.1.bias"] - network.backbone[1].bias.detach()
        assert float(moved.abs().max()) > 0, spec
        assert adapted.events == (), spec


# ---------------------------------------------------------------- what is refused


def test_what_cannot_be_learned_from_is_refused_in_a_sentence(images):
    with pytest.raises(
        ModelError, match="entropy of a detector is defined for mutually exclusive classes"
    ):
        AdaptedDetector(detector(), "ent")
    with pytest.raises(InputError, match="teacher is for detectors"):
        AdaptedSegmenter(segmenter(), "teacher")
    with pytest.raises(InputError, match="lame learns from one answer per image"):
        AdaptedSegmenter(segmenter(), "lame")
    with pytest.raises(UnknownNameError, match="actmad"):
        AdaptedSegmenter(segmenter(), "actmat")
    with pytest.raises(InputError, match="only guard can stand before"):
        AdaptedSegmenter(segmenter(), "rdumb+ent")
    with pytest.raises(InputError, match="expected a spec"):
        AdaptedSegmenter(segmenter(), 3)
    with pytest.raises(ModelError, match="gives no training loss"):
        AdaptedDetector(Detector(Pixels(), ["one"]), "teacher")
    with pytest.raises(ModelError, match="keeps no statistics of clean images"):
        ActMAD(Scaled())
    with pytest.raises(ModelError, match="no norm layer"):
        ActMAD(torch.nn.Conv2d(3, 4, 1))
    with pytest.raises(InputError, match="does not say how images become its input"):
        ActMAD(Pixels(), clean=images)
    with pytest.raises(InputError, match="rows"):
        DenseLearning(Pixels(), rows=-1)
    with pytest.raises(ModelError, match="label maps and other outputs have no gradient"):
        DenseLearning(torch.nn.Sequential(torch.nn.GroupNorm(1, 3)))(torch.rand(2, 3, 4))


def test_a_network_that_leaves_torch_is_told_to_detach(images):
    class Leaves(Pixels):
        def forward(self, images):
            return torch.from_numpy(super().forward(images)["out"].numpy())

    with pytest.raises(ModelError, match=r"write \.detach\(\)"):
        AdaptedSegmenter(segmenter(Leaves()), "ent").predict(images)


def test_a_method_that_is_handed_in_is_used(images):
    model = segmenter()
    adapted = AdaptedSegmenter(model, BatchNorm(model.module, prior=0))
    assert adapted.settings["prior"] == 0
