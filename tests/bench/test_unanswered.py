"""A model that gives no numbers is measured, and said to."""

import io
import json
import unicodedata

import numpy as np
from PIL import Image
from rich.console import Console

from shiftproof import bench
from shiftproof.classes import name_classes
from shiftproof.data import ImageFolder
from shiftproof.models import Classifier, Preprocess, match_classes
from shiftproof.report import print_table, write_report
from shiftproof.types import Cell


def photographs(folder, names=("cat", "dog")):
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(3):
            picture = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / name / f"{number}.png")
    return folder


def measure_fog(classifier, folder):
    return bench.run(
        classifier,
        photographs(folder / "data"),
        corruptions=["fog"],
        severities=[1],
        out=folder / "run",
        workers=0,
    )


def test_nan_is_counted_in_each_cell_and_shown(tmp_path):
    def silent(inputs):
        logits = np.zeros((len(inputs), 2), np.float32)
        logits[inputs.mean(axis=(1, 2, 3)) > -10] = np.nan
        return logits

    classifier = Classifier(
        silent, Preprocess((16, 16), 16), ["cat", "dog"], name="silent", assumed=("by hand",)
    )
    run = measure_fog(classifier, tmp_path)
    assert [(one.model, one.cell, one.images) for one in run.scores.images.unanswered] == [
        ("source", Cell("clean", 0), 6),
        ("source", Cell("fog", 1), 6),
    ]
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["assumed"] == {"source": ["by hand"]}
    assert "assumed" not in info["settings"]["models"]["source"]
    page = write_report(run.path).read_text()
    assert "source gave NaN 12 times in 2 cells" in page
    assert "by hand" in page
    output = Console(record=True, width=200, file=io.StringIO())
    print_table(run.scores, output)
    assert "gave NaN 12 times" in output.export_text()


def test_infinite_logits_are_no_answer(tmp_path):
    """The class with an infinite logit was taken as the answer, and the run ended in an error."""

    def overflow(inputs):
        logits = np.zeros((len(inputs), 2), np.float32)
        logits[:, 0] = np.inf
        return logits

    classifier = Classifier(overflow, Preprocess((16, 16), 16), ["cat", "dog"])
    run = measure_fog(classifier, tmp_path)
    [model] = run.scores.models
    assert model.summary["clean"].value == model.summary["mean"].value == 1
    assert [one.images for one in run.scores.images.unanswered] == [6, 6]


def test_without_labels_nan_agrees_with_nothing(tmp_path):
    """Images that give NaN clean and corrupted counted as the same answer."""

    def half_silent(inputs):
        logits = np.eye(2, dtype=np.float32)[np.zeros(len(inputs), int)]
        logits[inputs[:, 0, 0, 0] > 0] = np.nan
        return logits

    folder = tmp_path / "flat"
    folder.mkdir()
    for number, level in enumerate((0, 0, 0, 255)):
        Image.fromarray(np.full((16, 16, 3), level, np.uint8)).save(folder / f"{number}.png")
    same = {"same": lambda image, severity, rng: image}
    preprocess = Preprocess((16, 16), 16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    classifier = Classifier(half_silent, preprocess, ["cat", "dog"])
    options = {"corruptions": same, "workers": 0}
    run = bench.run(classifier, folder, severities=[1], out=tmp_path / "run", **options)
    assert run.scores.models[0].summary["mean"].value == 0.25
    found = bench.find_breaking(classifier, folder, out=tmp_path / "breaking", **options)
    assert found.scores.models[0].clean.value == 0.25
    assert found.scores.models[0].corruptions[0].survived.value == 0.75


def test_class_folders_are_found_in_either_form_of_unicode(tmp_path):
    composed, apart = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    assert composed != apart
    classes = name_classes([composed, "dog"])
    assert ImageFolder(photographs(tmp_path / "a", (apart, "dog")), classes).is_labeled
    mapped = ImageFolder(
        photographs(tmp_path / "b", (apart, "dog")),
        name_classes(["x", "dog"]),
        class_map={composed: "x"},
    )
    assert mapped.is_labeled
    assert match_classes([apart], [composed]).data_class == (0,)
