"""Batches that a network does not take are refused at the border, in the caller's words."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shiftproof import Classifier, Detections, Detector, Preprocess, Segmenter  # noqa: E402
from shiftproof.adapt import (  # noqa: E402
    ADAPTERS,
    AdaptedDetector,
    AdaptedSegmenter,
    BatchNorm,
    make_adapter,
)
from shiftproof.errors import ImageError, InputError, ModelError  # noqa: E402
from shiftproof.models import Encoder  # noqa: E402
from support.small_networks import convolutional  # noqa: E402

GOOD = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
WRAPPED = {"rdumb": "rdumb+ent", "guard": "guard+ent"}
WRONG = {
    "uint8": (
        (GOOD * 255).byte(),
        r"batch of float32, got uint8 \(4, 3, 16, 16\).*float\(\) / 255",
    ),
    "int64": ((GOOD * 255).long(), "batch of float32, got int64"),
    "float64": (GOOD.double(), r"got float64 .*Convert it: batch\.to\(torch\.float32\)"),
    "one image": (
        GOOD[0],
        r"batch \(N, 3, H, W\), got float32 \(3, 16, 16\)\. Add .*batch\[None\]",
    ),
    "five axes": (GOOD[None], r"batch \(N, 3, H, W\), got float32 \(1, 4, 3, 16, 16\)"),
    "NHWC": (GOOD.permute(0, 2, 3, 1), r"channels come second: batch\.permute\(0, 3, 1, 2\)"),
    "gray": (GOOD[:, :1], r"batch \(N, 3, H, W\), got float32 \(4, 1, 16, 16\)"),
}


# They have to know the preprocessing, or the texts of the classes.
OF_CLASSIFIERS = {"cotta", "rotta", "memo", "tda", "zero", "tpt", "clipartt"}
OF_MODULES = sorted(ADAPTERS.keys() - OF_CLASSIFIERS - {"teacher"})


def make_on_module(name):
    return make_adapter(WRAPPED.get(name, name), convolutional())


@pytest.mark.parametrize("name", sorted(OF_CLASSIFIERS))
def test_what_needs_more_than_a_module_says_so(name):
    with pytest.raises(ModelError, match=r"plain torch\.nn\.Module|for zero-shot classifiers"):
        make_on_module(name)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", OF_MODULES)
def test_every_adapter_of_a_plain_module_says_what_it_takes(name, wrong):
    adapter = make_on_module(name)
    batch, words = WRONG[wrong]
    if name == "deyo" and wrong in ("one image", "five axes"):
        # Its network takes one image alone; that it cuts images into patches is its own refusal.
        with pytest.raises(ModelError, match=r"expected \(N, C, H, W\), got"):
            adapter(batch)
        return
    with pytest.raises(ImageError, match=words) as caught:
        adapter(batch)
    assert "Classifier(module, preprocess, classes)" in str(caught.value)
    assert adapter(GOOD).shape == (4, 5)


@pytest.mark.parametrize("wrong", WRONG)
def test_an_adapter_of_a_classifier_says_what_it_takes(wrong):
    classifier = Classifier(convolutional(), Preprocess((16, 16), 16), list("abcde"))
    batch, _ = WRONG[wrong]
    for model in (classifier, BatchNorm(classifier)):
        if wrong in ("uint8", "float64"):
            assert model(batch).shape == (4, 5)
        else:
            with pytest.raises(ImageError, match="Expected"):
                model(batch)


class Converting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = convolutional()

    def forward(self, batch):
        if batch.shape[-1] == 7:
            raise RuntimeError("of its own")
        return self.inner(batch.float() / 255)


def test_a_network_that_converts_its_input_is_left_alone():
    adapter = BatchNorm(Converting().eval())
    assert adapter((GOOD * 255).byte()).shape == (4, 5)


def test_an_error_of_a_network_on_a_batch_that_fits_is_its_own():
    adapter = BatchNorm(Converting().eval())
    with pytest.raises(RuntimeError, match="of its own"):
        adapter(GOOD[..., :7])


def test_networks_in_half_precision_or_of_one_axis_say_what_they_take():
    half = BatchNorm(convolutional().to(torch.bfloat16))
    with pytest.raises(ImageError, match=r"Expected a batch of bfloat16, got float32"):
        half(GOOD)
    series = torch.nn.Sequential(
        torch.nn.Conv1d(3, 4, 3),
        torch.nn.BatchNorm1d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(56, 2),
    ).eval()
    with pytest.raises(ImageError, match=r"\(N, 3, \.\.\.\), got float32 \(4, 5, 16\)"):
        BatchNorm(series)(torch.rand(4, 5, 16))


# ---------------------------------------------------------------- images


class Level(torch.nn.Module):
    """Images to boxes or label maps by their brightness."""

    def __init__(self, gives_boxes):
        super().__init__()
        self.norm, self.gives_boxes = torch.nn.BatchNorm2d(3), gives_boxes

    def forward(self, images):
        values = torch.stack([torch.from_numpy(np.array(one)) for one in images])
        normal = self.norm(values.permute(0, 3, 1, 2).float())
        if self.gives_boxes:
            return [Detections([[0, 0, 4, 4]], [0.5], [0]) for _ in images]
        return normal[:, :2]


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)


def make_models():
    pooled = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    small = Preprocess((8, 8), 8)
    detector, segmenter = Detector(Level(True), ["a"]), Segmenter(Level(False), ["a", "b"])
    classifier = Classifier(convolutional(), small, list("abcde"))
    return {
        "classifier": classifier.predict,
        "prepare": classifier.prepare,
        "adapter": BatchNorm(classifier).predict,
        "guard": make_adapter("guard+ent", classifier).predict,
        "router": make_adapter("router", classifier).predict,
        "encoder": Encoder(pooled, small).encode,
        "detector": detector.predict,
        "segmenter": segmenter.predict,
        "adapted detector": AdaptedDetector(detector).predict,
        "adapted segmenter": AdaptedSegmenter(segmenter).predict,
    }


@pytest.mark.parametrize("kind", make_models())
def test_what_are_no_images_is_refused_by_every_model(kind):
    predict = make_models()[kind]
    assert len(predict(list(IMAGES))) == 2
    for wrong, words in [
        (None, "got NoneType"),
        ((image for image in IMAGES), "got generator. Of an iterator make a list"),
        (np.array(3), "got ndarray"),
        ("photo.png", "got str"),
        (IMAGES / 255, "float64"),
        (IMAGES.transpose(0, 3, 1, 2), r"\(2, 3, 8, 8\)|\(3, 8, 8\)"),
        (IMAGES[0], r"\(8, 8, 3\).*(\[None\]|predict\(\[image\]\))"),
        ([torch.from_numpy(IMAGES[0])], "got Tensor"),
        (np.full((1, 8, 8, 3), np.nan), "float64"),
    ]:
        with pytest.raises((ImageError, InputError), match=words) as caught:
            predict(wrong)
        assert isinstance(caught.value, ImageError), (kind, words)
