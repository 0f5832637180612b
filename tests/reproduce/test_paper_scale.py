"""The papers' scale on a -C tree of a few pixels, with a network of one layer."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from shiftproof.errors import InputError
from shiftproof.metrics import Interval
from shiftproof.models import Classifier, Preprocess
from shiftproof_reproduce import paper, render
from shiftproof_reproduce.published import read_errors


@pytest.fixture
def tree(tmp_path):
    random = np.random.default_rng(0)
    root = tmp_path / "tiny-C"
    for corruption in ("fog", "snow"):
        for severity in range(1, 4 if corruption == "snow" else 6):
            for label in ("cat", "dog"):
                folder = root / corruption / str(severity) / label
                folder.mkdir(parents=True)
                for name in range(3):
                    pixels = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"{name}.png")
    return root


@pytest.fixture
def classifier():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3),
            torch.nn.BatchNorm2d(4),
            torch.nn.Flatten(),
            torch.nn.Linear(144, 2),
        )
    return Classifier(network, Preprocess((8, 8), None), ["cat", "dog"], name="tiny")


@pytest.mark.parametrize("recipe", paper.PARTS)
def test_ours_stands_before_the_published_rows(recipe, tree, classifier, tmp_path):
    result = paper.reproduce(
        recipe, tmp_path / "out", data=tree, model=classifier, workers=0, show_progress=False
    )
    [table] = result.tables
    assert table.rows[:2] == ["this run: tiny, mean error", "ResNet-50"]
    assert table.columns[0] == "none"
    assert None not in table.values[0]
    assert table.values[1][0].value == pytest.approx(0.767)
    assert "No mCE of this run" in table.note
    settings = result.settings["runs"][table.columns[1]]
    assert settings["corruptions"].keys() == {"snow", "fog"}
    assert settings["severities"] == [1, 2, 3]  # those that both have
    assert [finding.name for finding in result.findings] == [
        method.replace(" ", "").lower() for method in table.columns[1:]
    ]
    assert "| this run: tiny, mean error |" in render(result)["README.md"]


def test_the_protocols_are_the_papers(tree, classifier, tmp_path):
    result = paper.reproduce(
        "self-learning", tmp_path, data=tree, model=classifier, workers=0, show_progress=False
    )
    runs = result.settings["runs"]
    assert runs["RPL"]["protocol"]["epochs"] == 5
    assert runs["ENT"]["protocol"]["epochs"] == 1
    assert runs["RPL"]["adapters"]["adapted"]["q"] == 0.8
    assert {run["batch_size"] for run in runs.values()} == {128}


def test_mce_is_taken_where_it_is_claimed():
    def scores(mce):
        def model(name, value):
            figure = Interval(value, mce - 0.01, mce + 0.01)
            return SimpleNamespace(name=name, summary={"mce": figure})

        models = [model("source", 0.76), model("adapted", mce)]
        return SimpleNamespace(
            scores=SimpleNamespace(grid=SimpleNamespace(reason=None), models=models)
        )

    table = paper.compare_published(
        "bn-adaptation", "resnet50", {"n = 8": scores(0.65), "full": scores(0.62)}, "mce"
    )
    assert table.columns == ["none", "n = 8", "full"]
    assert table.rows[0] == "this run: resnet50"
    assert [value.value for value in table.values[0]] == [0.76, 0.65, 0.62]
    # Schneider et al. 2020: no adaptation with n = 8 was published for the largest model.
    assert table.values[-1][1] is None
    assert table.note == ""


def test_published_numbers_are_the_papers():
    bn = read_errors("bn-adaptation")
    assert bn["ResNet-50"] == {"none": 76.7, "n = 8": 65.0, "full": 62.2}
    assert bn["ResNeXt-101 DeepAugment+AugMix"] == {"none": 44.5, "n = 8": 40.7, "full": 38.0}
    sl = read_errors("self-learning")
    assert sl["ResNet-50"] == {"none": 76.7, "BN": 62.2, "ENT": 51.6, "RPL": 50.5}
    assert sl["EfficientNet-L2"] == {"none": 28.3, "ENT": 23.0, "RPL": 22.0}


def test_what_is_no_imagenet_c_is_refused(tree, classifier, tmp_path):
    with pytest.raises(InputError, match=r"needs ImageNet-C on disk.*--data"):
        paper.reproduce("bn-adaptation", tmp_path / "out", data=None, model=classifier)
    with pytest.raises(InputError, match="no -C tree"):
        paper.reproduce(
            "bn-adaptation", tmp_path / "out", data=tree / "fog" / "1", model=classifier
        )
    assert not (tmp_path / "out").exists()
