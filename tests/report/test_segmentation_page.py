"""The page of segmenters: its words, its tables, its pictures, its safety."""

import copy
import json
import shutil

import pytest

from shiftproof import Segmenter, bench
from shiftproof.data import open_segmentation_data
from shiftproof.errors import BrokenFileError
from shiftproof.report import write_report
from support.label_map_trees import NAMES, nearest_color, write_folders
from support.page_checks import (
    check_that_nothing_runs_or_is_asked_for,
    check_that_scores_are_refused,
    page_of,
    put,
)

CLASSES = [*NAMES, "<b>cow</b>"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("page")
    data = open_segmentation_data(write_folders(place / "data", 3), classes=CLASSES)
    models = {
        "near": Segmenter(nearest_color, NAMES),
        "all": Segmenter(
            lambda images: [image[..., 0].astype(int) * 0 + 1 for image in images], CLASSES
        ),
    }
    return bench.run(
        models, data, out=place / "run", corruptions=["fog"], severities=[3, 5], workers=0,
        show_progress=False,
    )  # fmt: skip


@pytest.fixture
def page(run):
    return page_of(run.path)


def test_the_lead_says_what_is_kept(page, run):
    model = run.scores.models[0]
    clean, mean = model.summary["clean"].value, model.summary["mean"].value
    text = page.text
    assert f"near reaches mIoU {100 * clean:.1f} % on clean images and {100 * mean:.1f} %" in text
    assert f"it keeps {100 * mean / clean:.1f} % of it" in text
    assert "MIoU" not in text


def test_classes_stand_with_their_loss_first(page, run):
    rows = page.by_id("classes").one("table", "dropping").all("tr")[1:]
    detail = run.scores.models[0].detail["classes"]
    assert [row.inside("th")[0].text for row in rows] == [one["name"] for one in detail]
    cells = [cell.text for cell in rows[0].inside("td")]
    first = detail[0]
    assert cells[0] == "3"
    assert cells[1] == f"{first['pixels']:,}"
    ends = first["ranges"]["mean"]
    span = f"{100 * ends['low']:.1f}–{100 * ends['high']:.1f}"
    assert cells[3] == f"{100 * first['clean']:.1f} → {100 * first['mean']:.1f} {span}"


def test_confusions_are_shown_in_percent_of_the_row(page, run):
    table = page.by_id("takers").all("table", "confusion")[0]
    shares = run.scores.models[0].detail["confusion"]["mean"]
    rows = table.all("tr")[1:]
    assert len(rows) == 3
    for row, expected in zip(rows, shares, strict=True):
        shown = [cell.text or "0" for cell in row.inside("td")]
        assert shown == [f"{100 * value:.0f}" for value in expected]


def test_classes_that_a_model_has_not_are_said(page):
    assert "near cannot predict <b>cow</b>: the model has no class for it." in page.text


def test_pictures_are_shown_worst_first(page, run):
    cases = page.by_id("gallery").all("div", "case")
    sheets = json.loads((run.path / "gallery.json").read_text())["sheets"]
    assert [case.all("p")[0].text.split(". ")[1].split()[0] for case in cases] == [
        sheet["id"] for sheet in sheets
    ]
    titles = [figure.one("span", "cell").text for figure in cases[0].all("figure")]
    assert titles[0] == "Clean"
    assert titles[2:] == ["Truth", "near", "near", "all", "all"]
    assert all(case.all("img") for case in cases)


def test_examples_stand_under_every_corruption_with_all_answers(page):
    section = page.by_id("examples")
    cells = [one.text for one in section.all("p", "cell")]
    assert cells[:2] == ["Clean", "Fog, severity 5"]
    first = section.all("div", "shots")[0]
    assert [one.text.split()[0] for one in first.all("figcaption")] == [
        "truth", "image", "near", "all",
    ]  # fmt: skip
    assert len(first.all("img")) == 4


def test_nothing_runs_and_names_are_escaped(page):
    check_that_nothing_runs_or_is_asked_for(page)
    assert not page.by_id("classes").all("b", "cow")
    assert "<b>cow" in page.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("models.0.detail.classes.0.clean", 7), r"models\[0\].detail.classes\[0\].clean"),
        (put("models.0.detail.confusion.mean.0", [1]), r"3 rows of 4 shares"),
        (put("models.0.detail.classes.0.recall", 1), r"models\[0\].detail.classes\[0\].recall"),
        (put("models.0.detail.conditions", {"fog": 1}), r"models\[0\].detail.conditions"),
    ],
)
def test_damaged_scores_are_named_by_place(change, message, run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("report.html"))
    content = copy.deepcopy(json.loads((run.path / "scores.json").read_text()))
    change(content)
    check_that_scores_are_refused(tmp_path / "run", content, message)


def test_a_damaged_gallery_is_named(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    gallery = json.loads((run.path / "gallery.json").read_text())
    gallery["colors"][0]["color"] = [0, 300, 0]
    (tmp_path / "run/gallery.json").write_text(json.dumps(gallery))
    with pytest.raises(BrokenFileError, match=r"gallery.json.*colors\[0\]"):
        write_report(tmp_path / "run")
