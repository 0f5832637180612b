import json
import sys
import types

import numpy as np
import pytest
import torch

import shiftproof
from shiftproof import Encoder, Preprocess
from shiftproof.errors import (
    ImageError,
    InputError,
    MissingExtraError,
    ModelError,
    UnknownNameError,
)
from shiftproof.models import CallablePreprocess, load_encoder
from shiftproof.testing import check_encoder

PLAIN = Preprocess((8, 8), 8, mean=(0, 0, 0), std=(1, 1, 1))


def pictures(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def means(inputs):
    """The mean of each channel, in 0..1."""
    return inputs.mean(axis=(2, 3))


class Pooled(torch.nn.Module):
    """Twice the mean of each channel, through a dropout and a batch norm."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))
        self.drop = torch.nn.Dropout(0.5)
        self.norm = torch.nn.BatchNorm2d(3)

    def forward(self, inputs):
        return self.drop(self.norm(inputs)).mean(dim=(2, 3)) * self.weight


class TestVectors:
    def test_of_a_function(self):
        image = np.zeros((8, 8, 3), np.uint8)
        image[..., 0], image[..., 1] = 153, 204
        encoder = Encoder(means, PLAIN, normalize=False)
        np.testing.assert_allclose(encoder.encode([image]), [[0.6, 0.8, 0.0]], rtol=1e-6)
        assert (encoder.name, encoder.width, encoder.device) == ("means", 3, "cpu")
        assert repr(encoder) == "Encoder(means, width 3, cpu)"

    def test_have_length_one_unless_they_are_wanted_as_they_are(self):
        image = np.full((8, 8, 3), 255, np.uint8)
        image[..., 2] = 0
        half = np.sqrt(0.5)
        np.testing.assert_allclose(Encoder(means, PLAIN).encode([image]), [[half, half, 0]])
        raw = Encoder(means, PLAIN, normalize=False).encode([image])
        np.testing.assert_allclose(raw, [[1, 1, 0]])

    def test_that_are_zero_or_no_numbers_are_left_as_they_are(self):
        def odd(inputs):
            return np.array([[0, 0], [np.nan, 1], [3, 4]], np.float32)[: len(inputs)]

        found = Encoder(odd, PLAIN).encode(np.zeros((3, 8, 8, 3), np.uint8))
        np.testing.assert_allclose(found, [[0, 0], [np.nan, 1], [0.6, 0.8]])

    def test_of_large_numbers_do_not_overflow(self):
        huge = Encoder(lambda inputs: np.full((len(inputs), 4), 1e30, np.float32), PLAIN)
        np.testing.assert_allclose(huge.encode(np.zeros((1, 8, 8, 3), np.uint8)), [[0.5] * 4])

    def test_of_a_network_are_those_of_its_evaluation_mode(self):
        network = Pooled().train()
        network.norm.running_mean.fill_(0.1)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        images = np.stack(pictures((8, 8), (8, 8)))
        found = Encoder(network, PLAIN, normalize=False).encode(images)
        expected = (images / 255 - 0.1).mean(axis=(1, 2)) / np.sqrt(1 + 1e-5) * 2
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert network.training
        assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())

    def test_follow_the_weights_and_so_does_the_fingerprint(self):
        network = Pooled()
        encoder = Encoder(network, PLAIN, normalize=False)
        images = np.stack(pictures((8, 8)))
        old, fingerprint = encoder.encode(images), encoder.settings["fingerprint"]
        with torch.no_grad():
            network.weight.fill_(4)
        np.testing.assert_allclose(encoder.encode(images), 2 * old, rtol=1e-6)
        assert encoder.settings["fingerprint"] != fingerprint

    def test_in_half_precision(self):
        found = Encoder(Pooled().bfloat16(), PLAIN).encode(np.stack(pictures((8, 8))))
        assert found.dtype == np.float32

    def test_of_images_of_any_sizes_where_the_preprocessing_takes_them(self):
        def thumbnail(image):
            return image[:2, :2].transpose(2, 0, 1).astype(np.float32)

        encoder = Encoder(means, CallablePreprocess(thumbnail), normalize=False)
        images = pictures((8, 9), (30, 4))
        expected = [image[:2, :2].mean(axis=(0, 1)) for image in images]
        np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-6)

    def test_of_no_image(self):
        assert Encoder(means, PLAIN).encode([]).shape == (0, 3)


class TestRefused:
    def test_images_of_another_size(self):
        with pytest.raises(ImageError, match=r"preprocess\.geometry first"):
            Encoder(means, PLAIN).encode(pictures((9, 8)))

    def test_what_is_no_model(self):
        with pytest.raises(ModelError, match=r"Expected a torch\.nn\.Module or a function"):
            Encoder("resnet50", PLAIN)

    @pytest.mark.parametrize("shape", [(1, 3, 2, 2), (3,), (2, 3), (1, 0)])
    def test_outputs_that_are_no_vectors(self, shape):
        with pytest.raises(ModelError, match=r"expected vectors \(1, width\)"):
            Encoder(lambda inputs: np.zeros(shape, np.float32), PLAIN)

    def test_outputs_of_another_width(self):
        encoder = Encoder(lambda inputs: np.ones((len(inputs), len(inputs)), np.float32), PLAIN)
        with pytest.raises(ModelError, match=r"expected vectors \(2, 1\), got shape \(2, 2\)"):
            encoder.encode(np.zeros((2, 8, 8, 3), np.uint8))

    def test_networks_that_give_several_outputs(self):
        class Two(torch.nn.Module):
            def forward(self, inputs):
                return {"last": inputs.mean(dim=(2, 3)), "first": inputs}

        with pytest.raises(ModelError, match=r"as one tensor.*, got dict of last, first"):
            Encoder(Two(), PLAIN)

    def test_networks_that_fail(self):
        with pytest.raises(ModelError, match="failed on one black image of 8 x 8 pixels"):
            Encoder(torch.nn.Linear(5, 5), PLAIN)


def test_settings_say_what_reproduces_it():
    settings = Encoder(Pooled(), PLAIN, normalize=False, name="pooled").settings
    assert json.loads(json.dumps(settings)) == settings
    assert (settings["name"], settings["width"], settings["normalize"]) == ("pooled", 3, False)
    assert settings["preprocess"]["size"] == [8, 8]
    assert len(settings["fingerprint"]) == 32


class TestContract:
    def test_is_kept(self):
        check_encoder(Encoder(means, PLAIN))
        check_encoder(Encoder(Pooled(), PLAIN, normalize=False))

    @pytest.mark.parametrize(
        ("vectors", "clause"),
        [
            (lambda inputs: np.random.rand(len(inputs), 3), "deterministic"),  # noqa: NPY002
            (lambda inputs: np.ones((len(inputs), 3)), "vectors: the same for all"),
            (lambda inputs: means(inputs) - means(inputs).mean(axis=0) + 0.1, "order|batches"),
            (lambda inputs: means(inputs) * (1 if len(inputs) < 2 else np.nan), "not finite"),
            (lambda inputs: means(inputs) * (1 if len(inputs) < 2 else 0), "not of length 1"),
        ],
    )
    def test_is_broken(self, vectors, clause):
        with pytest.raises(AssertionError, match=clause):
            check_encoder(Encoder(vectors, PLAIN))

    def test_of_others_is_checked_too(self):
        inner = Encoder(means, PLAIN)

        class Own:
            name, width, normalize, preprocess = "own", 3, True, PLAIN
            settings = inner.settings

            def encode(self, images):
                return inner.encode(images).astype(np.float64)

        with pytest.raises(AssertionError, match="vectors of float64, expected float32"):
            check_encoder(Own())
        Own.settings = {**inner.settings, "width": 4}
        with pytest.raises(AssertionError, match="settings: another width"):
            check_encoder(Own())
        del Own.encode
        with pytest.raises(AssertionError, match="no attribute 'encode'"):
            check_encoder(Own())


def last_input(module, layer, inputs):
    """What goes into ``layer`` of a module, seen by a hook: the reference for its features."""
    seen = []
    layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    with torch.inference_mode():
        module.eval()(inputs)
    return seen[0].numpy()


class TestLoaders:
    def test_demo_gives_the_pooled_features(self):
        encoder = load_encoder(normalize=False)
        images = np.stack(pictures((224, 224)))
        assert repr(encoder) == "Encoder(EfficientNet-Lite0, width 1280, cpu)"
        module = shiftproof.load_classifier("demo").module
        inputs = torch.from_numpy(encoder.preprocess.normalize(images))
        with torch.inference_mode():
            expected = module.extract_features(inputs).mean(dim=(2, 3)).numpy()
        np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("name", "layer", "width"),
        [
            ("resnet18", "fc", 512),
            ("mobilenet_v3_small", "classifier.3", 1024),
            ("squeezenet1_1", None, None),
        ],
    )
    def test_torchvision_gives_what_the_last_layer_looks_at(self, name, layer, width):
        import torchvision

        spec = f"torchvision:{name}?pretrained=false&size=64"
        if layer is None:
            with pytest.raises(ModelError, match="no linear layer at its end"):
                load_encoder(spec)
            return
        state = torch.random.get_rng_state()
        encoder = load_encoder(spec, normalize=False)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert encoder.width == width
        module = torchvision.models.get_model(name, weights=None)
        module.load_state_dict(encoder.module.state_dict(), strict=False)
        images = np.stack(pictures((64, 64), (64, 64)))
        inputs = torch.from_numpy(encoder.preprocess.normalize(images))
        expected = last_input(module, module.get_submodule(layer), inputs)
        np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-4, atol=1e-5)

    def test_timm_gives_the_pooled_features(self):
        import timm

        encoder = load_encoder("timm:resnet10t?pretrained=false&size=64", normalize=False)
        module = timm.create_model("resnet10t").eval()
        module.load_state_dict(encoder.module.state_dict(), strict=False)
        images = np.stack(pictures((64, 64)))
        with torch.inference_mode():
            inputs = torch.from_numpy(encoder.preprocess.normalize(images))
            expected = module.forward_head(module.forward_features(inputs), pre_logits=True)
        np.testing.assert_allclose(encoder.encode(images), expected.numpy(), rtol=1e-4, atol=1e-5)
        assert encoder.width == 512

    def test_a_checkpoint_gives_the_features_of_its_weights(self, tmp_path):
        import torchvision

        torch.manual_seed(5)
        module = torchvision.models.resnet18(num_classes=7)
        torch.save(module.state_dict(), tmp_path / "seven.pt")
        encoder = load_encoder(
            f"file:{tmp_path}/seven.pt", arch="torchvision:resnet18", size=64, normalize=False
        )
        images = np.stack(pictures((64, 64)))
        inputs = torch.from_numpy(encoder.preprocess.normalize(images))
        expected = last_input(module, module.fc, inputs)
        np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-4, atol=1e-5)

    def test_onnx_gives_the_output_of_the_graph(self, tmp_path):
        from onnx import TensorProto, helper, save

        graph = helper.make_graph(
            [helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0)],
            "means",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 8, 8])],
            [helper.make_tensor_value_info("means", TensorProto.FLOAT, ["N", 3])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        save(model, tmp_path / "means.onnx")
        encoder = load_encoder(
            f"onnx:{tmp_path}/means.onnx?mean=0,0,0&std=1,1,1&resize=8", normalize=False
        )
        images = np.stack(pictures((8, 8)))
        np.testing.assert_allclose(
            encoder.encode(images), images.mean(axis=(1, 2)) / 255, rtol=1e-5
        )
        assert encoder.name.startswith("onnx:")
        assert len(encoder.settings["fingerprint"]) == 32

    def test_a_model_that_gives_no_numbers_is_refused(self, tmp_path):
        import torchvision

        module = torchvision.models.resnet18()
        with torch.no_grad():
            module.conv1.weight.fill_(torch.nan)
        torch.save(module.state_dict(), tmp_path / "nan.pt")
        with pytest.raises(ModelError, match="NaN or infinity for a gray image of 32 x 32"):
            load_encoder(f"file:{tmp_path}/nan.pt?arch=torchvision:resnet18&size=32")

    def test_what_is_not_there(self):
        with pytest.raises(UnknownNameError, match="Did you mean 'open_clip'"):
            load_encoder("openclip:ViT-B-32")
        with pytest.raises(InputError, match="arch is an option of file models"):
            load_encoder("demo", arch="timm:resnet18")


class TestOpenClip:
    """Against a stand-in with the functions that OpenCLIP's documentation has."""

    @pytest.fixture
    def open_clip(self, monkeypatch):
        library = types.ModuleType("open_clip")

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.visual = Pooled()
                self.text = torch.nn.Linear(3, 3)

            def encode_image(self, images, normalize=False):
                return self.visual(images) + 1

        library.config = {
            "size": 8,
            "mode": "RGB",
            "mean": (0.1, 0.2, 0.3),
            "std": (0.5, 0.5, 0.5),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
            "fill_color": 0,
        }
        library.asked = []

        def create_model(name, pretrained=None):
            library.asked.append((name, pretrained))
            return Model()

        library.create_model = create_model
        library.list_models = lambda: ["ViT-B-32", "RN50"]
        library.list_pretrained_tags_by_model = lambda name: ["openai", "laion2b_s34b_b79k"]
        library.get_model_preprocess_cfg = lambda model: library.config
        monkeypatch.setitem(sys.modules, "open_clip", library)
        return library

    def test_it_gives_what_the_image_tower_gives(self, open_clip):
        encoder = load_encoder("open_clip:ViT-B-32/openai", normalize=False)
        assert open_clip.asked == [("ViT-B-32", "openai")]
        preprocess = Preprocess((8, 8), 8, "bicubic", mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5))
        assert encoder.preprocess == preprocess
        images = np.stack(pictures((8, 8)))
        scaled = (images / 255 - [0.1, 0.2, 0.3]) / 0.5
        expected = scaled.mean(axis=(1, 2)) / np.sqrt(1 + 1e-5) * 2 + 1
        np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-4)
        check_encoder(load_encoder("open_clip:RN50?pretrained=false"))
        assert open_clip.asked[-1] == ("RN50", None)

    def test_weights_on_disk_go_too(self, open_clip):
        load_encoder("open_clip:ViT-B-32//models/mine.pt")
        assert open_clip.asked == [("ViT-B-32", "/models/mine.pt")]

    def test_an_image_that_is_squashed(self, open_clip):
        open_clip.config = {**open_clip.config, "resize_mode": "squash", "size": (8, 6)}
        assert load_encoder("open_clip:RN50/openai").preprocess.resize == (8, 6)

    def test_a_resizing_that_cannot_be_followed(self, open_clip):
        open_clip.config = {**open_clip.config, "resize_mode": "longest"}
        with pytest.raises(ModelError, match="'longest' to 8 x 8 pixels is not supported"):
            load_encoder("open_clip:RN50/openai")

    def test_names_that_it_has_not(self, open_clip):
        with pytest.raises(UnknownNameError, match="Did you mean 'ViT-B-32'"):
            load_encoder("open_clip:ViT-B32/openai")
        with pytest.raises(UnknownNameError, match="Did you mean 'openai'"):
            load_encoder("open_clip:RN50/openia")
        with pytest.raises(ModelError, match="Say which weights of RN50"):
            load_encoder("open_clip:RN50")

    def test_it_is_an_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "open_clip", None)
        with pytest.raises(MissingExtraError, match=r'pip install "shiftproof\[clip\]"'):
            load_encoder("open_clip:RN50/openai")
