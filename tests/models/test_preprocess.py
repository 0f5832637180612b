import json
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image as PillowImage
from torchvision import transforms

from shiftproof import Classifier, Encoder
from shiftproof.errors import ImageError, InputError, ModelError, UnknownNameError
from shiftproof.models import CallablePreprocess, Preprocess
from shiftproof.models.classifiers.timm import convert_config
from shiftproof.models.preprocess import group_by_geometry

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MODES = {
    "bilinear": transforms.InterpolationMode.BILINEAR,
    "bicubic": transforms.InterpolationMode.BICUBIC,
    "lanczos": transforms.InterpolationMode.LANCZOS,
    "nearest": transforms.InterpolationMode.NEAREST,
}
SHAPES = [(1, 1), (1, 50), (31, 17), (40, 40), (41, 57), (57, 41), (64, 200), (300, 123)]


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def reference(image, *steps):
    return np.asarray(transforms.Compose(steps)(PillowImage.fromarray(image)))


class TestGeometry:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("interpolation", MODES)
    def test_equals_torchvision_pixel_for_pixel(self, shape, interpolation):
        image = picture(*shape)
        for size, resize in [((32, 32), 36), ((32, 32), 37), ((33, 32), 33), ((32, 48), 40)]:
            expected = reference(
                image,
                transforms.Resize(resize, MODES[interpolation]),
                transforms.CenterCrop(size),
            )
            result = Preprocess(size, resize, interpolation).geometry(image)
            np.testing.assert_array_equal(result, expected)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_exact_resize_and_none_equal_torchvision(self, shape):
        image = picture(*shape)
        crop = transforms.CenterCrop((32, 33))
        exact = reference(image, transforms.Resize((37, 41)), crop)
        np.testing.assert_array_equal(Preprocess((32, 33), (37, 41)).geometry(image), exact)
        np.testing.assert_array_equal(
            Preprocess((32, 33), None).geometry(image), reference(image, crop)
        )

    @pytest.mark.parametrize("shape", [(41, 57), (57, 41), (300, 123)])
    @pytest.mark.parametrize("size", [32, 33])
    @pytest.mark.parametrize("share", [0.875, 0.9, 0.95, 1.0])
    @pytest.mark.parametrize("mode", ["center", "squash", None])
    def test_equals_timm(self, shape, size, share, mode):
        config = {
            "input_size": (3, size, size),
            "interpolation": "bicubic",
            "mean": MEAN,
            "std": STD,
            "crop_pct": share,
            "crop_mode": mode,
        }
        image = picture(*shape)
        transform = timm.data.create_transform(**config, is_training=False)
        preprocess = convert_config(config)
        result = preprocess.normalize(preprocess.geometry(image)[None])[0]
        expected = transform(PillowImage.fromarray(image)).numpy()
        np.testing.assert_array_equal(result, expected)

    def test_squash_at_a_size_that_is_not_square_equals_timm(self):
        config = {"input_size": (3, 32, 48), "interpolation": "bilinear", "mean": MEAN, "std": STD}
        config |= {"crop_pct": 0.9, "crop_mode": "squash"}
        image = picture(41, 57)
        transform = timm.data.create_transform(**config, is_training=False)
        preprocess = convert_config(config)
        np.testing.assert_array_equal(
            preprocess.normalize(preprocess.geometry(image)[None])[0],
            transform(PillowImage.fromarray(image)).numpy(),
        )

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"crop_mode": "border"}, "'border'"),
            ({"input_size": (3, 32, 48)}, "32 x 48"),
        ],
    )
    def test_a_timm_configuration_that_cannot_be_followed_is_refused(self, change, words):
        config = {"input_size": (3, 32, 32), "interpolation": "bilinear", "mean": MEAN, "std": STD}
        with pytest.raises(ModelError, match=words):
            convert_config(config | change)

    def test_a_resampling_that_there_is_not_is_refused(self):
        config = {"input_size": (3, 32, 32), "interpolation": "bilinera", "mean": MEAN, "std": STD}
        with pytest.raises(UnknownNameError, match="Did you mean 'bilinear'"):
            convert_config(config)

    def test_returns_an_array_of_its_own(self):
        image = picture(32, 32)
        result = Preprocess((32, 32), None).geometry(image)
        result[:] = 0
        np.testing.assert_array_equal(image, picture(32, 32))
        assert Preprocess((32, 32), 40).geometry(image).flags.writeable

    def test_a_long_strip_is_refused_before_it_takes_the_memory(self):
        with pytest.raises(ImageError, match=r"1 x 9000 .* 256 x 2304000.* 178 megapixels"):
            Preprocess((224, 224), 256).geometry(picture(1, 9000))

    @pytest.mark.parametrize(
        ("image", "words"),
        [
            (np.zeros((4, 4, 3), np.float32), "float32. Convert it to 0..255"),
            (np.zeros((3, 4, 4), np.uint8), "channels come last"),
            (np.zeros((4, 4), np.uint8), "Repeat a gray image"),
            (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
            (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
            ("cat.jpg", "got str"),
        ],
    )
    def test_what_is_no_image_is_refused(self, image, words):
        for preprocess in (Preprocess((2, 2), None), CallablePreprocess(lambda image: image)):
            with pytest.raises(ImageError, match=words):
                preprocess.geometry(image)


class TestNormalize:
    def test_equals_torchvision_bit_for_bit(self):
        images = np.stack([picture(9, 7, seed) for seed in range(3)])
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
        expected = torch.stack([transform(PillowImage.fromarray(image)) for image in images])
        result = Preprocess((9, 7), None, mean=MEAN, std=STD).normalize(images)
        assert result.dtype == np.float32
        assert result.flags.c_contiguous
        np.testing.assert_array_equal(result, expected.numpy())

    def test_grey_is_pillows_luminosity(self):
        images = np.stack([picture(50, 40, seed) for seed in range(3)])
        preprocess = Preprocess((50, 40), None, mean=(0.25,), std=(0.5,), channels=1)
        grey = np.stack([np.asarray(PillowImage.fromarray(image).convert("L")) for image in images])
        expected = (grey.astype(np.float32) / np.float32(255) - np.float32(0.25)) / np.float32(0.5)
        np.testing.assert_array_equal(preprocess.normalize(images), expected[:, None])

    def test_takes_a_list_of_images_of_one_size(self):
        images = [picture(4, 4, seed) for seed in range(2)]
        preprocess = Preprocess((4, 4), None)
        np.testing.assert_array_equal(
            preprocess.normalize(images), preprocess.normalize(np.stack(images))
        )
        with pytest.raises(ImageError, match=r"\(4, 4, 3\), \(5, 4, 3\)"):
            preprocess.normalize([picture(4, 4), picture(5, 4)])

    @pytest.mark.parametrize("shape", [(4, 4, 3), (2, 3, 4, 4), (2, 4, 4, 1)])
    def test_what_is_no_batch_is_refused(self, shape):
        with pytest.raises(ImageError, match=r"\(N, H, W, 3\)"):
            Preprocess((4, 4), None).normalize(np.zeros(shape, np.uint8))


class TestSettings:
    @pytest.mark.parametrize(
        "arguments",
        [
            {"size": (224,)},
            {"size": (0, 224)},
            {"size": (224.0, 224)},
            {"resize": 0},
            {"resize": (256,)},
            {"mean": (0.5,)},
            {"mean": (0.5, 0.5, float("nan"))},
            {"std": (0.5, 0.5, 0)},
            {"channels": 2},
            {"channels": 1},
            {"interpolation": "cubic"},
        ],
    )
    def test_what_cannot_be_is_refused(self, arguments):
        with pytest.raises(InputError):
            Preprocess(**({"size": (224, 224), "resize": 256} | arguments))

    def test_json_gives_the_same_preprocess_back(self):
        for preprocess in (
            Preprocess((224, 320), (256, 366), "lanczos", mean=(0.1, 0.2, 0.3)),
            Preprocess((28, 28), None, mean=(0.5,), std=(0.5,), channels=1),
        ):
            again = Preprocess(**json.loads(json.dumps(preprocess.settings())))
            assert again == preprocess
            assert hash(again) == hash(preprocess)

    def test_a_process_that_unpickles_it_does_not_load_torch(self):
        code = """
import pickle, sys
import numpy as np
preprocess = pickle.load(sys.stdin.buffer)
assert preprocess.geometry(np.zeros((50, 40, 3), np.uint8)).shape == (32, 32, 3)
preprocess.normalize(np.zeros((1, 32, 32, 3), np.uint8))
assert not {"torch", "torchvision", "timm", "onnxruntime"} & set(sys.modules)
"""
        subprocess.run(
            [sys.executable, "-c", code],
            input=pickle.dumps(Preprocess((32, 32), 36)),
            check=True,
            timeout=60,
        )


class TestCallable:
    def test_is_called_on_each_image_as_it_is(self):
        transform = transforms.Compose(
            [transforms.ToPILImage(), transforms.Resize((8, 9)), transforms.ToTensor()]
        )
        preprocess = CallablePreprocess(transform)
        images = [picture(30, 20), picture(11, 50)]
        np.testing.assert_array_equal(preprocess.geometry(images[0]), images[0])
        assert preprocess.size is None
        result = preprocess.normalize(images)
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, [transform(image).numpy() for image in images])

    def test_what_comes_back_is_checked(self):
        with pytest.raises(ImageError, match="one shape for all"):
            CallablePreprocess(lambda image: image).normalize([picture(4, 4), picture(4, 5)])
        with pytest.raises(ImageError, match=r"\(C, H, W\), got shape \(\)"):
            CallablePreprocess(lambda image: image.mean()).normalize([picture(4, 4)])

    def test_settings_name_the_function(self):
        [name, code] = CallablePreprocess(transforms.ToTensor()).settings()["function"].split()
        assert name == "torchvision.transforms.transforms.ToTensor"
        assert len(code) == 32
        assert "picture" in CallablePreprocess(picture).settings()["function"]

    def test_settings_tell_functions_of_one_name_apart(self):
        def resize(size):
            return transforms.Compose([transforms.ToPILImage(), transforms.Resize(size)])

        one, same, other = (CallablePreprocess(resize(size)).settings() for size in (8, 8, 9))
        assert one == same != other


class TestGroupByGeometry:
    def test_only_what_comes_after_the_geometry_may_differ(self):
        one = Preprocess((32, 32), 36)
        models = {
            "one": one,
            "other mean": Preprocess((32, 32), 36, mean=(0.5, 0.5, 0.5)),
            "other margin": Preprocess((32, 32), 36, odd_margin="down"),
            "function": CallablePreprocess(np.asarray),
            "same function": CallablePreprocess(np.asarray),
        }
        groups = group_by_geometry(
            {name: SimpleNamespace(preprocess=preprocess) for name, preprocess in models.items()}
        )
        assert [list(group) for group in groups] == [
            ["one", "other mean"], ["other margin"], ["function"], ["same function"],
        ]  # fmt: skip


@pytest.mark.parametrize("model", [Classifier, Encoder])
@pytest.mark.parametrize("preprocess", [transforms.Compose([]), "imagenet", None])
def test_what_is_no_preprocessing_is_refused(model, preprocess):
    with pytest.raises(InputError, match=r"got (Compose|str|NoneType)\. .*CallablePreprocess"):
        model(torch.nn.Flatten(), preprocess)
