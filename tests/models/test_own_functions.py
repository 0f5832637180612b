"""Functions of one's own as models: ``python:MODULE:FUNCTION``."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shiftproof import (
    Classifier,
    load_classifier,
    load_detector,
    load_encoder,
    load_segmenter,
)
from shiftproof.cli import run
from shiftproof.compute.processes import map_ordered
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.models.classifiers.load import check_classifier
from support.detection_trees import coco_tree
from support.photos_by_class import write_photos_by_class

torch = pytest.importorskip("torch")

NETS = """
import numpy as np
import torch
from shiftproof import Classifier, Detections, Detector, Encoder, Preprocess, Segmenter

SMALL = Preprocess((8, 8), 8, mean=(0, 0, 0), std=(1, 1, 1))

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        self.head = torch.nn.Linear(3, 2)

    def forward(self, images):
        return self.head(self.pool(images))

def make():
    return Net()

make.classes = ["cat", "dog"]
stored = Net()

def exported():
    count = torch.export.Dim("count")
    inputs = (torch.zeros(2, 3, 8, 8),)
    return torch.export.export(stored, inputs, dynamic_shapes=({0: count},))

def means():
    return lambda inputs: inputs.mean((2, 3))

def classifier():
    return Classifier(Net(), SMALL, ["cat", "dog"], outputs=[1, 0])

def half():
    return classifier().with_dtype("bf16")

def encoder():
    return Encoder(Net(), SMALL)

class Boxes(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)

    def forward(self, images):
        for image in images:
            self.norm(image[None])
        box = torch.tensor([[1.0, 2.0, 11.0, 22.0]])
        return [{"boxes": box, "scores": torch.ones(1), "labels": torch.ones(1, dtype=int)}
                for _ in images]

def boxes():
    return Boxes()

boxes.classes = ["cat", "car"]

def detector():
    return Detector(lambda images: [Detections([[0, 0, 1, 1]], [0.5], [1]) for _ in images],
                    ["cat", "car"])

class PerPixel(torch.nn.Module):
    def forward(self, images):
        return images[:, :2]

def per_pixel():
    return PerPixel()

per_pixel.classes = ["red", "green"]

def segmenter():
    return Segmenter(lambda images: [i[..., 0] // 200 for i in images], ["dark", "bright"])

def takes(size, classes=2):
    return Net()

def nothing():
    pass

def fails():
    raise KeyError("weights")

def leaves():
    raise SystemExit(0)

number = 3

class Cut:
    size = (8, 8)

    def geometry(self, image):
        from own_models_helper import cut

        return cut(image)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "own_models.py").write_text(NETS)
    (tmp_path / "own_models_helper.py").write_text("def cut(image):\n    return image[:8, :8]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield tmp_path
    for name in ("own_models", "own_models_helper"):
        sys.modules.pop(name, None)


def test_a_network_is_a_classifier_with_the_options_of_other_sources(place):
    (place / "names.txt").write_text("a\nb\n")
    text = "python:own_models:make?size=16&resize=20&mean=0,0,0&std=1,1,1"
    plain, named = load_classifier(text), load_classifier(text + "&classes=names.txt")
    assert plain.name == "python:own_models:make"
    assert (plain.preprocess.size, plain.preprocess.resize) == ((16, 16), 20)
    assert (plain.classes.names, named.classes.names) == (("cat", "dog"), ("a", "b"))
    # The mean of white pixels in 0..1 is 1 in each channel.
    head = plain.module.head
    expected = (head.weight.sum(1) + head.bias).detach().numpy()
    white = np.full((1, 16, 16, 3), 255, np.uint8)
    assert plain.predict(white)[0] == pytest.approx(expected, abs=1e-6)


def test_what_a_function_returns_is_taken_as_it_is(place):
    classifier = load_classifier("python:own_models:classifier")
    assert classifier.preprocess.size == (8, 8)
    assert classifier.outputs == ((1,), (0,))
    function = load_classifier("python:own_models:means?size=8&mean=0,0,0&std=1,1,1")
    assert function.predict(np.full((1, 8, 8, 3), 255, np.uint8)).tolist() == [[1, 1, 1]]
    assert load_classifier("python:own_models:Net?size=8").classes.names == ("0", "1")
    half = [load_classifier("python:own_models:half", dtype=dtype) for dtype in (None, "fp32")]
    assert [one.dtype for one in half] == ["bf16", "fp32"]
    assert load_classifier("python:own_models:classifier").dtype == "fp32"
    stored = load_classifier("python:own_models:stored?size=8")
    assert stored.module.head.weight is sys.modules["own_models"].stored.head.weight


def test_an_exported_program_gives_its_module(place):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    loaded, expected = (
        load_classifier(f"python:own_models:{name}?size=8") for name in ("exported", "stored")
    )
    np.testing.assert_allclose(loaded.predict(images), expected.predict(images), atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_an_archive_of_torchscript_is_a_network_too(place):
    network = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2)
    ).eval()
    torch.jit.trace(network, torch.zeros(1, 3, 8, 8)).save("archive.pt")
    Path("own_archive.py").write_text(
        "import torch\n\ndef make():\n    return torch.jit.load('archive.pt')\n"
    )
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    loaded = load_classifier("python:own_archive:make?size=8")
    plain = Classifier(network, loaded.preprocess)
    with warnings.catch_warnings():
        # The user's own call warns, and nothing that is done with its result does.
        warnings.simplefilter("error")
        again = Classifier(loaded.module, loaded.preprocess)
        for model in (loaded, again):
            np.testing.assert_allclose(model.predict(images), plain.predict(images), atol=1e-6)
        assert again.settings["fingerprint"] == plain.settings["fingerprint"]


def test_encoders_give_outputs_or_the_features_of_a_classifier(place):
    assert load_encoder("python:own_models:make?size=8").width == 2
    assert load_encoder("python:own_models:encoder").preprocess.size == (8, 8)
    features = load_encoder("python:own_models:classifier", normalize=False)
    white = np.full((1, 8, 8, 3), 255, np.uint8)
    assert features.encode(white).tolist() == [[1, 1, 1]]  # the pooled pixels, before the head


def test_detectors_follow_torchvision_or_bring_their_own(place):
    image = np.zeros((30, 20, 3), np.uint8)
    [found] = load_detector("python:own_models:boxes").predict([image])
    assert (found.boxes.tolist(), found.labels.tolist()) == ([[1, 2, 11, 22]], [0])
    [own] = load_detector("python:own_models:detector").predict([image])
    assert own.labels.tolist() == [1]


def test_segmenters_may_be_made_too(place):
    image = np.full((4, 4, 3), 255, np.uint8)
    image[0, 0, 0] = 0
    made = load_segmenter("python:own_models:per_pixel").predict([image])[0]
    # ImageNet's mean and deviation make white greener than red.
    assert (made == 1).all()
    own = load_segmenter("python:own_models:segmenter").predict([image])[0]
    assert (own[0, 0], own[1, 1]) == (0, 1)


def test_the_fingerprint_is_that_of_the_weights_or_of_the_code(place):
    def fingerprint(name):
        return load_classifier(f"python:own_models:{name}?size=8").settings["fingerprint"]

    stored, means = fingerprint("stored"), fingerprint("means")
    with (place / "own_models.py").open("a") as file:
        file.write("\n# a comment")
    assert (fingerprint("stored") == stored, fingerprint("means") == means) == (True, True)
    with (place / "own_models.py").open("a") as file:
        file.write("\nchanged = True")
    assert (fingerprint("stored") == stored, fingerprint("means") == means) == (True, False)
    with torch.no_grad():
        sys.modules["own_models"].stored.head.bias += 1
    assert fingerprint("stored") != stored


def test_the_callers_random_state_stays(place):
    load_classifier("python:own_models:stored?size=8")  # the import draws weights itself
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    load_classifier("python:own_models:make?size=8")
    assert torch.rand(1) == expected


@pytest.mark.parametrize(
    ("load", "rest", "message"),
    [
        (load_classifier, "", "names no function"),
        (load_classifier, ":mak", "Did you mean 'make'"),
        (load_classifier, ":takes", r"takes arguments \(size\); expected a function without"),
        (load_classifier, ":nothing", "returned None; expected a torch.nn.Module"),
        (load_classifier, ":fails", r"failed \(KeyError: 'weights'\)"),
        (load_classifier, ":leaves", r"failed \(SystemExit"),
        (load_classifier, ":number", "is a int; expected a function"),
        (load_classifier, ":encoder", "returned an Encoder"),
        (load_classifier, ":classifier?size=9&std=1,1,1", "size, std: .* own preprocessing"),
        (load_classifier, ":make?arch=x", "arch is an option of file models"),
        (load_encoder, ":detector", "returned a Detector; expected a torch.nn.Module"),
        (load_encoder, ":encoder?mean=1,1,1", "mean: .* own preprocessing"),
        (load_detector, ":classifier", "returned a Classifier; expected"),
        (load_detector, ":make?size=9", "size is an option of"),
        (load_segmenter, ":segmenter?window=9", "window: .* frames images by itself"),
        (load_segmenter, ":nothing", "returned None; expected"),
    ],
)
def test_what_cannot_be_a_model_is_refused(load, rest, message, place):
    with pytest.raises(InputError, match=message):
        load(f"python:own_models{rest}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("python:no_such_module:make", "cannot be imported"),
        ("python:broken_models:make", "ZeroDivisionError"),
        ("python:own_models.py:make", "expected its module: python:own_models:make"),
        ("nets/own_models.py", "name a function in it: python:own_models:FUNCTION"),
    ],
)
def test_a_module_that_cannot_be_is_one_sentence_on_the_command_line(spec, message, place, capsys):
    (place / "broken_models.py").write_text("1 / 0\n\ndef make():\n    pass\n")
    (place / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(place / "photos" / "a.png")
    assert run(["bench", "-m", spec, "-d", "photos", "-o", "run"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert "Traceback" not in said
    assert not (place / "run").exists()


@pytest.mark.parametrize(
    "text",
    [
        "globals()['made'] = print",
        "from os.path import *",
        "def __getattr__(name):\n    return print",
        "def define():\n    global made\n    made = print",
        "import sys\nsys.modules[__name__].__dict__['made'] = print",
        "made: object = print",
        "for made in (print,):\n    pass",
        "if True:\n    import os as made",
        "(made := print)",
        "def broken(:",
    ],
)
def test_a_function_that_the_text_may_define_is_not_refused(text, place):
    (place / "written.py").write_text(text)
    check_classifier("python:written:made")


@pytest.mark.parametrize(
    "text", ["def other():\n    made = print", "class Made:\n    made = print", "mad = print"]
)
def test_a_function_that_the_text_does_not_define_is_refused_unread(text, place):
    (place / "written.py").write_text(f"{text}\nraise SystemExit\n")
    with pytest.raises(UnknownNameError, match="Unknown function of written 'made'"):
        check_classifier("python:written:made")
    assert "written" not in sys.modules


def test_a_function_of_a_package_is_looked_for_without_importing_it(place):
    (place / "nets" / "small").mkdir(parents=True)
    (place / "nets" / "__init__.py").write_text("raise SystemExit\n")
    (place / "nets" / "small" / "__init__.py").write_text("def make():\n    pass\n")
    (place / "nets" / "large.py").write_text("def make():\n    pass\n")
    for module in ("nets.small", "nets.large"):
        check_classifier(f"python:{module}:make")
        with pytest.raises(UnknownNameError, match="Did you mean 'make'"):
            check_classifier(f"python:{module}:mak")
    assert "nets" not in sys.modules


def _call_geometry(preprocess, image):
    return preprocess.geometry(image).shape


def test_worker_processes_find_the_module_and_what_it_imports_later(place):
    load_classifier("python:own_models:stored?size=8")
    cut = sys.modules["own_models"].Cut()
    shapes = map_ordered(_call_geometry, [np.zeros((9, 9, 3))], context=cut, workers=1)
    assert list(shapes) == [(8, 8, 3)]


def test_a_detector_of_ones_own_is_measured_and_adapted(place, capsys):
    coco_tree(place / "coco")
    options = ["-c", "brightness", "-s", "1", "-w", "0", "--adapt", "batchnorm"]
    assert (
        run(["detect", "-m", "python:own_models:boxes", "-d", "coco", "-o", "run", *options]) == 0
    )
    assert "batchnorm" in capsys.readouterr().out
    assert "python:own_models:boxes" in (place / "run/run.json").read_text()


def test_init_loads_it_and_names_its_classes_by_the_folders(place, capsys):
    write_photos_by_class(place / "photos", 1)
    assert run(["init", "-m", "own_models.py", "-d", "photos"]) == 2
    assert "name a function in it" in " ".join(capsys.readouterr().err.split())
    assert run(["init", "-m", "python:own_models:stored?size=8", "-d", "photos"]) == 0
    assert 'model = "python:own_models:stored?size=8"' in (place / "shiftproof.toml").read_text()
    assert (place / "classes.txt").read_text() == "cat\ndog\n"
