"""Classifiers and encoders of transformers, held against its own pipeline and processors."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from shiftproof.classes import imagenet
from shiftproof.errors import ModelError
from shiftproof.models import load_classifier, load_encoder
from shiftproof.models.image_text.image_processor import convert_processor
from support.image_text import SIDE, photographs, write_vit

transformers = pytest.importorskip("transformers", exc_type=ImportError)

# An odd margin is cut off these on all sides.
PICTURES = photographs(3, side=(43, 58))


def test_the_scores_are_those_of_its_own_pipeline(image_text_models):
    path = image_text_models / "vit"
    classifier = load_classifier(f"transformers:{path}")
    assert classifier.classes.names == ("cat", "dog", "horse")
    images = np.stack([classifier.preprocess.geometry(picture) for picture in PICTURES])
    mine = torch.from_numpy(classifier.predict(images)).softmax(dim=1)
    pipeline = transformers.pipeline("image-classification", str(path))
    for picture, scores in zip(PICTURES, mine.tolist(), strict=True):
        theirs = {entry["label"]: entry["score"] for entry in pipeline(Image.fromarray(picture))}
        for name, score in zip(classifier.classes.names, scores, strict=True):
            assert score == pytest.approx(theirs[name], abs=0.005)


PROCESSORS = {
    "ViT": lambda: transformers.ViTImageProcessor(size={"height": 30, "width": 34}),
    "CLIP": lambda: transformers.CLIPImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 31, "width": 36}
    ),
    "ConvNeXT": lambda: transformers.ConvNextImageProcessor(size={"shortest_edge": SIDE}),
    "ConvNeXT, warped": lambda: transformers.ConvNextImageProcessor(size={"shortest_edge": 384}),
    "DeiT": lambda: transformers.DeiTImageProcessor(
        size={"height": 40, "width": 40}, crop_size={"height": 33, "width": 33}
    ),
    "0 to 255": lambda: transformers.ViTImageProcessor(do_rescale=False, do_normalize=False),
    "-1 to 1": lambda: transformers.ViTImageProcessor(
        rescale_factor=1 / 127.5, image_mean=[1.0] * 3, image_std=[1.0] * 3
    ),
    "0 to 1": lambda: transformers.ViTImageProcessor(do_normalize=False, resample=3),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_processor_is_followed(name):
    processor = PROCESSORS[name]()
    preprocess = convert_processor(processor, name)
    for picture in PICTURES:
        [expected] = processor(images=[Image.fromarray(picture)], return_tensors="np").pixel_values
        [found] = preprocess.normalize([preprocess.geometry(picture)])
        assert found.shape == expected.shape
        step = 1 / 255 / np.array(preprocess.std)[:, None, None]
        assert (np.abs(found - expected) / step).max() <= 2
        assert (np.abs(found - expected) / step).mean() < 0.3


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: transformers.ViTImageProcessor(resample=4), "Pillow's number 4"),
        (lambda: transformers.ViTImageProcessor(do_resize=False), "keep their own shapes"),
        (
            lambda: transformers.ViTImageProcessor(size={"shortest_edge": 30, "longest_edge": 60}),
            "sizes by longest_edge, shortest_edge",
        ),
        (
            lambda: transformers.EfficientNetImageProcessor(
                size={"height": 30, "width": 30}, rescale_offset=True
            ),
            "pixels comes out otherwise",
        ),
    ],
)
def test_a_processor_that_cannot_be_expressed(build, words):
    with pytest.raises(ModelError, match=f"cannot be expressed as .*{words}.*CallablePreprocess"):
        convert_processor(build(), "transformers:x")


class TestClasses:
    def config_with(self, image_text_models, tmp_path, names):
        folder = write_vit(tmp_path / "vit", names)
        return load_classifier(f"transformers:{folder}")

    def test_imagenet_is_known_by_its_lemmas(self, image_text_models, tmp_path):
        lemmas = list(imagenet().names)
        lemmas[0] = "tench, Tinca tinca"
        classifier = self.config_with(image_text_models, tmp_path, lemmas)
        assert classifier.classes == imagenet()

    def test_labels_without_names_are_numbered(self, image_text_models, tmp_path):
        classifier = self.config_with(image_text_models, tmp_path, ["LABEL_0", "LABEL_1"])
        assert classifier.classes.names == ("0", "1")


def test_a_head_that_the_file_has_not(image_text_models, tmp_path):
    import safetensors.torch

    folder = tmp_path / "headless"
    shutil.copytree(image_text_models / "vit", folder)
    path = folder / "model.safetensors"
    weights = {
        name: value
        for name, value in safetensors.torch.load_file(path).items()
        if not name.startswith("classifier")
    }
    safetensors.torch.save_file(weights, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"no weights for classifier.bias and 1 more.*random"):
        load_classifier(f"transformers:{folder}")


class TestEncoders:
    def test_the_image_tower(self, image_text_models):
        path = image_text_models / "clip"
        encoder = load_encoder(f"transformers:{path}", normalize=False)
        images = np.stack([encoder.preprocess.geometry(picture) for picture in PICTURES])
        model = transformers.CLIPModel.from_pretrained(path).eval()
        with torch.no_grad():
            pixels = torch.from_numpy(encoder.preprocess.normalize(images))
            hidden = model.vision_model(pixel_values=pixels).pooler_output
            expected = model.visual_projection(hidden).numpy()
        np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-4, atol=1e-5)

    def test_the_features_of_a_classifier(self, image_text_models):
        path = image_text_models / "vit"
        encoder = load_encoder(f"transformers:{path}", normalize=False)
        classifier = load_classifier(f"transformers:{path}")
        images = np.stack([encoder.preprocess.geometry(picture) for picture in PICTURES])
        head = classifier.module.model.classifier
        with torch.no_grad():
            logits = head(torch.from_numpy(encoder.encode(images))).numpy()
        np.testing.assert_allclose(logits, classifier.predict(images), rtol=1e-4, atol=1e-5)

    def test_a_backbone_without_a_pooling_layer_gives_its_first_token(
        self, image_text_models, tmp_path
    ):
        path = image_text_models / "vit"
        model = transformers.ViTModel.from_pretrained(path, add_pooling_layer=False).eval()
        model.save_pretrained(tmp_path)
        shutil.copy(path / "preprocessor_config.json", tmp_path)
        assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["ViTModel"]
        encoder = load_encoder(f"transformers:{tmp_path}", normalize=False)
        assert "the first token, as the file has no pooling layer" in encoder.assumed
        images = np.stack([encoder.preprocess.geometry(picture) for picture in PICTURES])
        with torch.no_grad():
            pixels = torch.from_numpy(encoder.preprocess.normalize(images))
            expected = model(pixel_values=pixels).last_hidden_state[:, 0].numpy()
        np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-4, atol=1e-5)
        with pytest.raises(ModelError, match="neither a head for classes nor a text tower"):
            load_classifier(f"transformers:{tmp_path}")
