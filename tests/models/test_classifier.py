import json
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import nn
from torchvision import transforms

from shiftproof.classes import imagenet, name_classes, number_classes
from shiftproof.errors import ImageError, ModelError, UnknownNameError
from shiftproof.models import CallablePreprocess, Classifier, Preprocess
from shiftproof.models.structure import find_device

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREPROCESS = Preprocess((16, 16), 18, mean=MEAN, std=STD)


def network(classes=5, channels=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(channels, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, classes),
        )
        module[1].running_mean.normal_()
        module[1].running_var.uniform_(0.5, 2)
    return module


def pictures(count=3, height=16, width=16, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def by_torchvision(module, images, preprocess=PREPROCESS):
    """The logits of the plain module in evaluation mode on torchvision's own tensors."""
    transform = transforms.Compose(
        [
            transforms.Resize(preprocess.resize),
            transforms.CenterCrop(preprocess.size),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    batch = torch.stack([transform(PillowImage.fromarray(image)) for image in images])
    with torch.no_grad():
        return module.eval()(batch).numpy()


def geometry(images):
    return np.stack([PREPROCESS.geometry(image) for image in images])


class TestPredict:
    @pytest.mark.parametrize("mode", [True, False])
    def test_is_the_module_in_evaluation_mode_on_torchvisions_input(self, mode):
        images = pictures(4, 30, 25)
        classifier = Classifier(network().train(mode), PREPROCESS)
        logits = classifier.predict(geometry(images))
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, by_torchvision(network(), images), atol=1e-6)

    def test_leaves_the_module_as_it_was(self):
        module = network().train()
        module[3].eval()  # a mixture, as partial fine-tuning has it
        modes = [part.training for part in module.modules()]
        state = {name: value.clone() for name, value in module.state_dict().items()}
        batch = torch.rand(2, 3, 16, 16)
        generator = torch.random.get_rng_state()
        classifier = Classifier(module, PREPROCESS)
        classifier.predict(pictures())
        classifier(batch)
        assert [part.training for part in module.modules()] == modes
        assert all(torch.equal(state[name], now) for name, now in module.state_dict().items())
        assert all(parameter.grad is None for parameter in module.parameters())
        assert torch.equal(torch.random.get_rng_state(), generator)
        assert torch.is_grad_enabled()

    def test_follows_the_module_when_it_is_trained(self):
        module = network()
        classifier = Classifier(module, PREPROCESS)
        before, fingerprint = classifier.predict(pictures()), classifier.settings["fingerprint"]
        module.train()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        module(torch.rand(4, 3, 16, 16)).square().mean().backward()
        optimizer.step()
        after = classifier.predict(pictures())
        assert np.abs(after - before).max() > 1e-3
        assert classifier.settings["fingerprint"] != fingerprint
        np.testing.assert_array_equal(after, Classifier(module, PREPROCESS).predict(pictures()))
        assert module.training

    def test_runs_the_modules_own_hooks(self):
        module = network()
        module[0].register_forward_hook(lambda _module, _args, output: torch.zeros_like(output))
        logits = Classifier(module, PREPROCESS).predict(pictures())
        np.testing.assert_array_equal(logits, np.repeat(logits[:1], 3, axis=0))

    def test_takes_read_only_and_strided_arrays(self):
        classifier = Classifier(network(), PREPROCESS)
        images = pictures()
        expected = classifier.predict(images)
        frozen = images.copy()
        frozen.flags.writeable = False
        np.testing.assert_array_equal(classifier.predict(frozen), expected)
        np.testing.assert_array_equal(classifier.predict(images[::-1])[::-1], expected)
        np.testing.assert_array_equal(classifier.predict(list(images)), expected)

    def test_an_empty_batch_has_no_logits(self):
        logits = Classifier(network(), PREPROCESS).predict(pictures(0))
        assert (logits.shape, logits.dtype) == ((0, 5), np.float32)
        assert Classifier(network(), PREPROCESS)(torch.zeros(0, 3, 9, 9)).shape == (0, 5)

    @pytest.mark.parametrize(
        ("images", "words"),
        [
            (pictures(2, 17, 16), "images of 16 x 16 pixels, got 17 x 16.*preprocess.geometry"),
            (pictures().astype(np.float32), "float32"),
            (pictures().transpose(0, 3, 1, 2), "channels come last"),
            (pictures()[0], r"\(16, 16, 3\)"),
        ],
    )
    def test_other_images_are_refused(self, images, words):
        with pytest.raises(ImageError, match=words):
            Classifier(network(), PREPROCESS).predict(images)

    def test_grey_networks_get_the_luminosity(self):
        preprocess = Preprocess((16, 16), None, mean=(0.5,), std=(0.25,), channels=1)
        images = pictures()
        images[..., 1] = 250  # red and green must not be taken for each other
        grey = [PillowImage.fromarray(image).convert("L") for image in images]
        batch = torch.stack([transforms.ToTensor()(image) for image in grey])
        with torch.no_grad():
            expected = network(channels=1).eval()((batch - 0.5) / 0.25).numpy()
        classifier = Classifier(network(channels=1), preprocess)
        np.testing.assert_allclose(classifier.predict(images), expected, atol=1e-6)
        tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
        np.testing.assert_allclose(classifier(tensor).numpy(), expected, atol=1e-6)
        np.testing.assert_allclose(classifier(tensor / 255).numpy(), expected, atol=0.01)

    def test_a_network_in_half_precision_gives_float32_logits(self):
        classifier = Classifier(network().to(torch.bfloat16), PREPROCESS)
        logits = classifier.predict(pictures())
        assert logits.dtype == np.float32
        np.testing.assert_allclose(
            logits, Classifier(network(), PREPROCESS).predict(pictures()), atol=0.1
        )
        assert len(classifier.settings["fingerprint"]) == 32

    def test_a_callable_preprocess_runs_per_image_on_any_size(self):
        transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.Resize(18),
                transforms.CenterCrop(16),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )
        classifier = Classifier(network(), CallablePreprocess(transform))
        images = [pictures(1, 30, 20)[0], pictures(1, 17, 40)[0]]
        expected = by_torchvision(network(), images)
        assert len(classifier.classes) == 5
        np.testing.assert_allclose(classifier.predict(images), expected, atol=1e-6)
        tensor = torch.from_numpy(images[0].copy()).permute(2, 0, 1)[None]
        np.testing.assert_allclose(classifier(tensor).numpy(), expected[:1], atol=1e-6)

    def test_threads_get_the_same_logits(self):
        classifier = Classifier(network().train(), PREPROCESS)
        batches = [pictures(seed=seed) for seed in range(4)]
        expected = [classifier.predict(batch) for batch in batches]
        results = [None] * 4

        def work(index):
            for _ in range(5):
                results[index] = classifier.predict(batches[index])

        threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        np.testing.assert_array_equal(results, expected)


class TestTensors:
    def test_uint8_and_floats_mean_the_same_image(self):
        classifier = Classifier(network(), PREPROCESS)
        batch = torch.from_numpy(pictures()).permute(0, 3, 1, 2)
        expected = classifier.predict(pictures())
        for tensor in (batch, batch / 255, batch.double() / 255):
            np.testing.assert_allclose(classifier(tensor).numpy(), expected, atol=1e-6)
        assert not classifier((batch / 255).requires_grad_()).requires_grad

    def test_another_size_goes_through_the_geometry(self):
        images = pictures(3, 30, 25)
        classifier = Classifier(network(), PREPROCESS)
        expected = classifier.predict(geometry(images))
        batch = torch.from_numpy(images).permute(0, 3, 1, 2)
        for tensor in (batch, batch.float() / 255):
            np.testing.assert_array_equal(classifier(tensor).numpy(), expected)
        between = (batch.clamp(max=254).float() + 0.6) / 255  # rounds to the next level
        upwards = classifier.predict(geometry(np.minimum(images, 254) + 1))
        np.testing.assert_array_equal(classifier(between).numpy(), upwards)

    @pytest.mark.parametrize(
        ("batch", "words"),
        [
            (torch.zeros(3, 16, 16), r"batch\[None\]"),
            (torch.zeros(1, 16, 16, 3), "permute"),
            (torch.zeros(1, 1, 16, 16), r"\(N, 3, H, W\).*\(1, 1, 16, 16\)"),
            (torch.zeros(1, 3, 16, 16, dtype=torch.int64), "torch.int64"),
            (torch.full((1, 3, 16, 16), 255.0), "0..1 .* got 255 to 255. Pass uint8"),
            (torch.full((1, 3, 16, 16), -2.0), "normalizes itself"),
            (torch.full((1, 3, 16, 16), float("nan")), "NaN"),
            (np.zeros((1, 16, 16, 3), np.uint8), "use predict"),
        ],
    )
    def test_other_tensors_are_refused(self, batch, words):
        with pytest.raises(ImageError, match=words):
            Classifier(network(), PREPROCESS)(batch)


class TestFunctions:
    @staticmethod
    def brightness(inputs):
        assert inputs.dtype == np.float32
        assert inputs.shape[1:] == (3, 16, 16)
        return np.stack([inputs.mean((1, 2, 3)), -inputs.mean((1, 2, 3))], axis=1)

    def test_a_function_on_arrays_is_a_model(self):
        preprocess = Preprocess((16, 16), None, mean=(0.5,) * 3, std=(0.25,) * 3)
        classifier = Classifier(self.brightness, preprocess, ["bright", "dark"])
        images = pictures()
        mean = (images / 255).mean((1, 2, 3)) * 4 - 2
        np.testing.assert_allclose(
            classifier.predict(images), np.stack([mean, -mean], 1), atol=1e-5
        )
        tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
        assert torch.equal(classifier(tensor), torch.from_numpy(classifier.predict(images)))
        assert classifier.name == "brightness"
        assert classifier.settings["fingerprint"] == "unknown"
        assert json.loads(json.dumps(classifier.settings)) == classifier.settings

    def test_runs_where_torch_is_not_installed(self):
        code = """
import sys
sys.modules["torch"] = None  # import torch fails
import numpy as np
from shiftproof.models import Classifier, Preprocess
classifier = Classifier(lambda x: x.mean((2, 3)), Preprocess((8, 8), 8), device="auto")
logits = classifier.predict(np.zeros((2, 8, 8, 3), np.uint8))
assert logits.shape == (2, 3) and len(classifier.classes) == 3
from shiftproof.errors import MissingExtraError
from shiftproof.models import load_classifier
for spec in ("timm:resnet18", "torchvision:resnet18", "demo", "file:x.pt?arch=timm:resnet18"):
    try:
        load_classifier(spec)
    except MissingExtraError as error:
        assert 'pip install "shiftproof[torch]"' in str(error), error
    else:
        raise AssertionError(spec)
"""
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

    def test_a_device_that_it_does_not_run_on_is_refused(self):
        with pytest.raises(ModelError, match=r"runs on 'cpu'.*device='cuda'"):
            Classifier(self.brightness, PREPROCESS, device="cuda")


class TestOutputs:
    @pytest.mark.parametrize(
        ("output", "words"),
        [
            (lambda x: x, r"logits \(N, K\), got shape \(1, 3, 16, 16\)"),
            (lambda x: x.sum(), r"got Tensor|got shape \(\)"),
            (lambda x: ("answers", x.mean((2, 3))), "got tuple"),
            (lambda x: {"a": x.mean((2, 3)), "b": x.mean((2, 3))}, "got dict of a, b"),
        ],
    )
    def test_what_is_no_logits_is_refused_at_once(self, output, words):
        class Odd(nn.Module):
            def forward(self, x):
                return output(x)

        with pytest.raises(ModelError, match=words):
            Classifier(Odd(), PREPROCESS)
        with pytest.raises(ModelError, match="Odd: expected logits"):
            Classifier(Odd(), PREPROCESS, ["a", "b", "c"]).predict(pictures(1))

    def test_too_few_names_are_refused_with_both_numbers(self):
        classifier = Classifier(network(), PREPROCESS, ["a", "b"])
        with pytest.raises(ModelError, match="5 outputs, but 2 classes"):
            classifier.predict(pictures())
        with pytest.raises(ModelError, match="5 outputs, but 2 classes"):
            classifier(torch.rand(1, 3, 16, 16))

    def test_a_model_that_fails_on_a_black_image_says_so(self):
        with pytest.raises(ModelError, match=r"one black image of 16 x 16 pixels .*preprocessing"):
            Classifier(network(channels=1), PREPROCESS)


class TestConstruction:
    def test_classes(self):
        assert Classifier(network(), PREPROCESS).classes == number_classes(5)
        assert Classifier(network(), PREPROCESS, list("abcde")).classes == name_classes("abcde")
        assert Classifier(network(1000), PREPROCESS, imagenet()).classes is imagenet()

    @pytest.mark.parametrize(
        ("module", "classes", "words"),
        [
            ("resnet50", None, "got str"),
            ({"conv.weight": torch.zeros(1)}, None, "got dict.*file:PATH"),
            (nn.Linear, None, "class Linear: call it first"),
            (network(), "cat, dog", "list of names"),
        ],
    )
    def test_what_is_no_model_is_refused(self, module, classes, words):
        with pytest.raises(ModelError, match=words):
            Classifier(module, PREPROCESS, classes)

    def test_settings_are_json_and_name_the_weights(self):
        classifier = Classifier(network(), PREPROCESS, list("abcde"), name="mine")
        settings = json.loads(json.dumps(classifier.settings))
        assert settings == classifier.settings
        assert settings["name"] == "mine"
        assert settings["device"] == "cpu"
        assert settings["classes"]["count"] == 5
        assert settings["preprocess"]["size"] == [16, 16]
        assert settings == Classifier(network(), PREPROCESS, list("abcde"), name="mine").settings
        other = network()
        other[1].running_var[0] += 1e-6
        changed = Classifier(other, PREPROCESS, list("abcde"), name="mine").settings
        assert changed.pop("fingerprint") != settings.pop("fingerprint")
        assert changed == settings

    def test_devices(self):
        assert Classifier(network(), PREPROCESS, device="cpu").device == "cpu"
        assert find_device("auto").type in ("cpu", "cuda", "mps")
        with pytest.raises(UnknownNameError, match="Did you mean 'cuda'"):
            Classifier(network(), PREPROCESS, device="cuad")
        if not torch.cuda.is_available():
            with pytest.raises(ModelError, match="no CUDA device"):
                Classifier(network(), PREPROCESS, device="cuda")
        if not torch.backends.mps.is_available():
            with pytest.raises(ModelError, match="no Apple GPU"):
                Classifier(network(), PREPROCESS, device="mps")

    def test_a_device_beyond_the_last_is_refused(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        with pytest.raises(ModelError, match=r"'cuda:1'.*1 CUDA device"):
            find_device("cuda:1")

    def test_another_device_gets_a_copy(self, monkeypatch):
        # "meta" stands in for a GPU: its tensors are others than the caller's.
        monkeypatch.setattr(
            "shiftproof.models.module.find_device", lambda name: torch.device("meta")
        )
        module = network()
        classifier = Classifier(module, PREPROCESS, list("abcde"), device="cuda")
        assert {value.device.type for value in classifier.module.state_dict().values()} == {"meta"}
        assert {value.device.type for value in module.state_dict().values()} == {"cpu"}
        assert classifier.device == "meta"
        assert classifier(torch.rand(2, 3, 16, 16)).shape == (2, 5)

        # A real device writes to the tensors of what it is given: these must not be the caller's.
        moved = []
        monkeypatch.setattr(nn.Module, "to", lambda self, device: moved.append(self) or self)
        Classifier(module, PREPROCESS, list("abcde"), device="cuda")
        assert moved[0][0].weight.data_ptr() != module[0].weight.data_ptr()
        assert moved[0][1].running_mean.data_ptr() != module[1].running_mean.data_ptr()


class TestStructure:
    def test_train_of_the_model_itself_is_not_called(self):
        class Merging(nn.Linear):
            def train(self, mode=True):
                self.weight.data += 1  # as adapters do that merge themselves in evaluation
                return super().train(mode)

        module = nn.Sequential(nn.Flatten(), Merging(768, 4))
        before = module[1].weight.detach().clone()
        Classifier(module, PREPROCESS).predict(pictures())
        assert torch.equal(module[1].weight, before)

    def test_shared_layers_stay_shared(self):
        layer = nn.Conv2d(3, 3, 3, padding=1)
        module = nn.Sequential(layer, layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        twin = Classifier(module, PREPROCESS).module
        assert twin[0] is twin[1]
        assert twin[0] is not layer
        assert twin[0].weight is layer.weight

    def test_weight_norm_of_either_kind_can_be_wrapped(self):
        with pytest.warns(FutureWarning):
            old = nn.utils.weight_norm(nn.Linear(768, 4))
        new = nn.utils.parametrizations.weight_norm(nn.Linear(768, 4))
        for layer in (old, new):
            module = nn.Sequential(nn.Flatten(), layer)
            batch = torch.from_numpy(Preprocess((16, 16), None).normalize(pictures()))
            module(batch).sum().backward()
            expected = module(batch).detach().numpy()
            logits = Classifier(module, Preprocess((16, 16), None)).predict(pictures())
            np.testing.assert_allclose(logits, expected, atol=1e-5)

    def test_torchscript_runs(self):
        plain = network().eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises against it, and people have such files
            traced = torch.jit.trace(plain, torch.rand(1, 3, 16, 16))
        np.testing.assert_allclose(
            Classifier(traced, PREPROCESS).predict(pictures()),
            Classifier(plain, PREPROCESS).predict(pictures()),
            atol=1e-5,
        )

    def test_what_cannot_be_copied_or_is_not_there_yet_is_said(self):
        module = network()
        module.lock = threading.Lock()
        with pytest.raises(ModelError, match=r"cannot be copied.*lock"):
            Classifier(module, PREPROCESS)
        with pytest.raises(ModelError, match=r"LazyLinear .* one batch first"):
            Classifier(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), PREPROCESS)


@pytest.mark.parametrize("arch", ["resnet18", "deit_tiny_distilled_patch16_224"])
def test_a_model_of_timm_without_a_head_has_no_classes(arch):
    timm = pytest.importorskip("timm")
    headless = timm.create_model(arch, num_classes=0)
    for classes in (None, [str(number) for number in range(headless.num_features)]):
        with pytest.raises(
            ModelError, match=r"has no head \(num_classes=0\), its outputs are feat"
        ):
            Classifier(headless, PREPROCESS, classes)


def test_a_head_that_was_put_in_afterwards_is_one():
    timm = pytest.importorskip("timm")
    module = timm.create_model("resnet18", num_classes=0)
    module.fc = nn.Linear(module.num_features, 3)
    assert len(Classifier(module, PREPROCESS).classes) == 3
