"""``shiftproof segment``: what it shows, and what it refuses in one line."""

import json

import numpy as np
import pytest

from shiftproof.cli import run
from support.label_map_trees import save, scene, write_folders, write_names

FUNCTION = """
import numpy as np
COLORS = np.array([(150, 190, 230), (90, 120, 60), (220, 60, 40)], np.float32)

def segment(images):
    return [-((i[None].astype(np.float32) - COLORS[:, None, None]) ** 2).sum(-1) for i in images]

segment.classes = ["sky", "grass", "ball"]

def dark(images):
    return [np.ones(image.shape[:2], int) for image in images]

dark.classes = ["sky", "grass", "ball"]

def two(images):
    return [np.zeros((2, 4, 4), np.float32) for _ in images]

two.classes = ["sky", "grass", "ball"]
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "own_nets.py").write_text(FUNCTION)
    monkeypatch.chdir(tmp_path)
    write_folders(tmp_path / "data")
    write_names(tmp_path / "names.txt")
    return tmp_path


def start(*arguments, models=("python:own_nets:segment",), data="data"):
    named = [word for model in models for word in ("-m", model)]
    return run(
        ["segment", *named, "-d", data, "-o", "run", "-c", "brightness,fog", "-s", "2", "-w", "0",
         *arguments]
    )  # fmt: skip


def test_models_are_measured_and_shown_from_the_command_line(place, capsys):
    models = ("python:own_nets:segment", "python:own_nets:dark")
    assert start("--classes", "names.txt", models=models) == 0
    output = capsys.readouterr().out
    assert "Clean" in output
    assert "Clean pixel accuracy" in output
    assert "mean intersection over union of the classes in %, 4 images" in " ".join(output.split())
    page = (place / "run/report.html").read_text()
    assert "What each class is predicted as" in page
    # The same command again has nothing to do, and shows the same.
    assert start("--classes", "names.txt", models=models) == 0
    assert capsys.readouterr().out == output
    assert run(["report", "run", "--out", "again.html"]) == 0
    assert (place / "again.html").read_text() == page


def test_scores_are_printed_as_json(place, capsys):
    assert start("--classes", "names.txt", "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["kind"] == "segmentation"
    assert [measure["name"] for measure in scores["measures"]] == ["mIoU", "accuracy"]


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (None, {"data": "nowhere"}, "nowhere does not exist"),
        (None, {"data": "data/images"}, "not a dataset with label maps"),
        (None, {"models": ["python:own_nets:two"]}, "logits of 2 classes, but 3 are named"),
        (None, {"models": ["python:own_nets:segmemt"]}, "Did you mean 'segment'"),
        (lambda root: (root / "masks/1.png").unlink(), {}, "1 image has no label map"),
        (lambda root: (root / "images/1.png").unlink(), {}, "1 label map has no image"),
        (lambda root: save(root / "masks/1.png", scene(0)[1][1:]), {}, "36 x 23 pixels, but its"),
        (
            lambda root: save(root / "masks/1.png", np.full((24, 36), 3, np.uint8)),
            {},
            "864 pixels with the number 3, which is no class",
        ),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(change, arguments, message, place, capsys):
    if change is not None:
        change(place / "data")
    assert start("--classes", "names.txt", **arguments) == 2
    output = " ".join(capsys.readouterr().err.split())
    assert message in output
    assert "Traceback" not in output
    assert not (place / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--void", "-1"], "--void: expected numbers of 0 to 65535"),
        (["--split", "val", "--masks", "data/masks"], "has no splits and conditions"),
        (["--classes", "missing.txt"], "missing.txt"),
        (["--adapt", "batchnorm"], "A function hides its network"),
    ],
)
def test_options_that_cannot_be_are_refused(arguments, message, place, capsys):
    assert start(*arguments, models=["python:own_nets:dark"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (place / "run").exists()


def test_the_layout_is_named(place, capsys):
    assert run(["data", "data"]) == 0
    assert capsys.readouterr().out.startswith(
        "images and label maps, masks, all, 4 images in images/"
    )


def test_images_without_labels_are_estimated_beside_their_error(place, capsys):
    assert start("--classes", "names.txt", "--unlabelled", "data/images") == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "mIoU estimated on 4 images without labels" in output
    assert "by mirror" in output
    assert "over 2 cells of this run" in output
    (written,) = json.loads((place / "run/unlabeled.json").read_text()).values()
    assert written["quality"]["mirror"]["cells"] == 2


def test_clean_images_without_an_adapter_for_them_are_refused(place, capsys):
    assert start("--classes", "names.txt", "--calibrate", "data/images") == 2
    assert "add --adapt actmad" in " ".join(capsys.readouterr().err.split())
    assert start("--classes", "names.txt", "--unlabeled", "nowhere") == 2
    assert "--unlabeled nowhere" in " ".join(capsys.readouterr().err.split())
    assert not (place / "run").exists()


def test_clean_images_go_to_the_adapter_that_takes_them():
    from shiftproof.cli.dense_options import DenseOptions

    options = DenseOptions(calibrate="clean")
    assert options.complete(["batchnorm", "guard+actmad:lr=1e+3", "actmad", "actmad:clean=own"]) == [
        "batchnorm", "guard+actmad:lr=1e+3,clean=clean", "actmad:clean=clean", "actmad:clean=own",
    ]  # fmt: skip


def test_a_budget_measures_some_images_and_goes_on_to_all(place, capsys):
    for number in range(10):
        image, labels = scene(number)
        save(place / f"data/images/more{number}.png", image)
        save(place / f"data/masks/more{number}.png", labels)
    assert start("--classes", "names.txt", "--budget", "0.001s") == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "8 of 14 images" in output
    assert "not at any time one stops" in output
    assert start("--classes", "names.txt", "--budget", "10min") == 0
    assert "not at any time one stops" not in " ".join(capsys.readouterr().out.split())
    within = {path.name: path.read_bytes() for path in (place / "run/records").rglob("*.*")}
    (place / "run").rename(place / "within")
    assert start("--classes", "names.txt") == 0
    assert {path.name: path.read_bytes() for path in (place / "run/records").rglob("*.*")} == within
