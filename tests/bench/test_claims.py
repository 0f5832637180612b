"""mCE and mPC are claimed of the benchmark's own corruptions alone, and of the whole grid."""

import json

import pytest

from shiftproof import bench, corruptions
from shiftproof.bench.tasks.classification.task import Classification
from shiftproof.bench.tasks.interface import Grid
from shiftproof.bench.tasks.published import why_other_corruptions
from shiftproof.bench.tasks.summary import summarize
from shiftproof.corruptions import scale
from shiftproof.corruptions.identity import identify_corruption
from shiftproof.corruptions.table import COMMON
from shiftproof.runs.folder import RunFolder
from shiftproof.types import CLEAN, Cell

pytestmark = pytest.mark.usefixtures("few_resamples")

CELLS = [CLEAN, *(Cell(name, severity) for name in COMMON for severity in range(1, 6))]


def score(root, cells=CELLS):
    """Score one answer in each cell, in ImageNet's classes."""
    rows = [f"{cell.corruption},{cell.severity},a.jpg,7,7" for cell in cells]
    table = root / "answers.csv"
    table.write_text("\n".join(["corruption,severity,image,label,top1", *rows]))
    return bench.score(table, out=root / "run", classes="imagenet", workers=0)


def note(folder, message):
    """Write into a run what its corruptions were."""
    content = json.loads(folder.run_file.read_text())
    content["settings"]["corruptions"] = message
    folder.run_file.write_text(json.dumps(content))


def measure(folder):
    scores = summarize(folder, Classification(), {"classifier": "classifier"}, Grid(CELLS))
    return scores.grid.reason, scores.models[0].summary["mce"]


def test_mce_needs_the_published_constants(tmp_path):
    folder = score(tmp_path).folder
    assert measure(folder)[0] is None
    assert measure(folder)[1].value == 0
    scaled = scale("cifar-10-c")
    note(folder, {name: identify_corruption(scaled[name]) for name in COMMON})
    reason, mce = measure(folder)
    assert reason.startswith(
        "15 of the 15 corruptions are not the benchmark's own (gaussian_noise (c"
    )
    assert mce is None


def rain(image, severity, rng):
    """A corruption of somebody's own."""
    return image


@pytest.mark.parametrize(
    ("one", "is_published"),
    [
        ("fog", True),
        (corruptions.weather.fog, True),
        (rain, False),
        (scale("cifar-10-c")["fog"], False),
    ],
)
def test_what_a_run_says_of_fog_decides(tmp_path, one, is_published):
    folder = RunFolder(tmp_path)
    folder.run_file.write_text("{}")
    content = {
        "settings": {
            "corruptions": {"fog": identify_corruption(one), "frost": identify_corruption("frost")}
        }
    }
    folder.run_file.write_text(json.dumps(content))
    assert (why_other_corruptions(folder) is None) is is_published


def test_frost_keeps_its_claim_whatever_its_textures(tmp_path, monkeypatch):
    """Drawn ice is told by the page, in a sentence of its own."""
    folder = RunFolder(tmp_path)
    for one in ("frost", corruptions.weather.frost, corruptions.weather.frost_imagenet_c):
        content = {"settings": {"corruptions": {"frost": identify_corruption(one)}}}
        folder.run_file.write_text(json.dumps(content))
        assert why_other_corruptions(folder) is None
    content = {"settings": {"corruptions": {"frost": "frost with drawn textures"}}}
    folder.run_file.write_text(json.dumps(content))
    assert why_other_corruptions(folder) is None


def test_one_cell_that_lacks_takes_mce_away(tmp_path):
    """Every corruption and every severity is there, but for one cell."""
    run = score(tmp_path, [cell for cell in CELLS if cell != Cell("fog", 3)])
    assert run.scores.grid.reason == "1 cell is missing (fog-3)"
    assert run.scores.models[0].summary["mce"] is None
