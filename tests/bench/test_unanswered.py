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


def test_nan_is_counted_in_each_cell_and_shown(tmp_path):
    def silent(inputs):
        logits = np.zeros((len(inputs), 2), np.float32)
        logits[inputs.mean(axis=(1, 2, 3)) > -10] = np.nan
        return logits

    classifier = Classifier(
        silent, Preprocess((16, 16), 16), ["cat", "dog"], name="silent", assumed=("by hand",)
    )
    run = bench.run(
        classifier,
        photographs(tmp_path / "data"),
        corruptions=["fog"],
        severities=[1],
        out=tmp_path / "run",
        workers=0,
    )
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
