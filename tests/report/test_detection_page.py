"""The page of detectors: its numbers, its words, its boxes, its safety."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shiftproof import cli
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.report import write_report
from shiftproof.report.svg import boxes
from shiftproof.report.svg.boxes import Mark
from shiftproof.runs.scores.detection import GroundTruthBox, PredictedBox
from support.detection_report_runs import CLASSES, detector_scores, write_detector_run
from support.page_checks import (
    check_that_nothing_runs_or_is_asked_for,
    check_that_scores_are_refused,
    page_of,
    put,
)
from support.page_reading import Node, parse
from support.report_runs import COMMON, write_run


def rows_of(table: Node) -> dict[str, list[Node]]:
    return {
        row.inside("th")[0].text: row.inside("td")
        for row in table.all("tr")
        if row.inside("td") and row.inside("th")
    }


def changed(low: float, value: float, high: float) -> dict[str, Any]:
    content = detector_scores()
    content["differences"][0]["summary"]["mean"] = {"value": value, "low": low, "high": high}
    return content


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """The page of a run without photographs; no test may change it."""
    run = tmp_path_factory.mktemp("page") / "run"
    return page_of(write_detector_run(run, sheets=0, worst=0))


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """The page of a run with photographs; no test may change it."""
    return page_of(write_detector_run(tmp_path_factory.mktemp("pictured") / "run"))


# ---------------------------------------------------------------- numbers

# By hand, from p_of: over the severities 42 - 4 * 3 = 30, less 0, 1, 2 or 3 for the corruption, which
# is 1.4 on average over the 15; the second model has 3 more, and 2 less on clean images.


def test_cards_hold_clean_p_mpc_and_rpc(page: Node) -> None:
    shown = {
        card.one("h3").text: [figure.one(style="big").text for figure in card.all(style="figure")]
        for card in page.all(style="card")
    }
    assert shown == {
        "Clean AP": ["50.0 % 45.0–55.0", "48.0 % 43.0–53.0"],
        "mPC": ["28.6 % 23.6–33.6", "31.6 % 26.6–36.6"],
        "rPC": ["57.2 % 52.2–62.2", "65.8 % 60.8–70.8"],
    }
    for card in page.all(style="card"):
        assert "higher is better" in card.text


def test_the_heat_map_shows_p_and_colours_the_loss(page: Node) -> None:
    plain, _, change = page.all("table", "heat")
    fog = rows_of(plain)["Fog"]
    assert [cell.text for cell in fog] == ["37.0", "33.0", "29.0", "25.0", "21.0", "29.0"]
    # 37 of 50 is a loss of 26 %, and so on, in steps of 5 %.
    assert [cell.attributes["class"].split()[-1] for cell in fog] == [
        "s5", "s7", "s8", "s10", "s12", "s8",
    ]  # fmt: skip
    assert rows_of(plain)["Clean"][-1].attributes["class"] == "h mean s0"
    assert rows_of(plain)["Noise"][-1].text == "29.0"
    assert rows_of(plain)["Mean"][-1].text == "28.6"
    # Three points more are better: blue, on a scale that reaches to ten.
    (cell, *_) = rows_of(change)["Fog"]
    assert cell.text == "+3.0"
    assert cell.attributes["class"] == "h d7 sure"
    (clean,) = rows_of(change)["Clean"][-1:]
    assert (clean.text, clean.attributes["class"]) == ("−2.0", "h mean d12 sure")
    scale = page.by_id("heat").all(style="scale")[1]
    assert [step.text for step in scale.all("span", "h")] == ["+10", "+5", "0", "−5", "−10"]


def test_bars_hold_every_corruption_and_every_group(page: Node) -> None:
    rows = rows_of(page.one("table", "barred"))
    assert len(rows) == 15 + 4 + 2
    assert [cell.text for cell in rows["Mean over noise"]][1:] == [
        "29.0 24.0–34.0",
        "32.0 27.0–37.0",
        "+3.0 +2.0 to +4.0",
    ]
    assert rows["Gaussian noise"][1].text == "30.0 25.0–35.0"
    # The axis holds the clean figure too, which is the highest.
    bar = rows["Clean images"][0].all("rect", "bar")[0]
    assert bar.attributes["width"] == "83.33%"
    assert "Longer bars are better" in page.by_id("corruptions").text


def test_curves_begin_at_the_clean_images_and_fall(page: Node) -> None:
    charts = page.all("svg", "curves")
    assert len(charts) == 15
    fog = next(chart for chart in charts if chart.attributes["aria-label"].startswith("Fog "))
    titles = [node.raw for node in fog.all("title")]
    assert titles[0] == "plain, clean: 50.0\xa0% (45.0–55.0)"
    assert titles[3] == "plain, severity 3: 29.0\xa0% (24.0–34.0)"
    ys = [float(p.split(",")[1]) for p in fog.all("polyline")[0].attributes["points"].split()]
    assert ys == sorted(ys)


def test_every_cell_is_listed_with_every_number(page: Node) -> None:
    table = page.one("table", "cells")
    assert [cell.text for cell in table.all("th")] == [
        "Model", "Corruption", "Severity", "AP", "Interval", "AP50", "AP75", "AR100",
    ]  # fmt: skip
    shown = [[cell.text for cell in row.all("td")] for row in table.all("tr") if row.all("td")]
    assert len(shown) == 3 * 76
    assert ["plain", "Fog", "3", "29.0", "24.0–34.0", "49.0", "24.0", "–"] in shown
    assert ["stylised − plain", "Fog", "3", "+3.0", "+2.0 to +4.0", "–", "–", "–"] in shown


def test_sizes_are_held_against_clean(tmp_path: Path) -> None:
    page = page_of(write_detector_run(tmp_path / "run", sheets=0, worst=0))
    rows = rows_of(page.by_id("sizes").one("table"))
    assert [cell.text for cell in rows["Small"]][1:] == [
        "25.0 → 5.0", "−20.0", "23.0 → 8.0", "−15.0",
    ]  # fmt: skip
    # A ring at 25 %, a mark at 5 %.
    chart = rows["Small"][0].one("svg")
    assert chart.all("circle", "ring")[0].attributes["cx"] == "25%"
    assert chart.all("circle", "mark")[0].attributes["cx"] == "5%"
    voc = detector_scores(measure="AP50")
    page = page_of(write_detector_run(tmp_path / "voc", voc, sheets=0, worst=0))
    assert "Sizes" not in page.one("nav").text
    assert "Clean AP50" in page.by_id("overview").text


def test_classes_stand_in_the_order_of_their_loss(page: Node) -> None:
    rows = rows_of(page.by_id("classes").one("table"))
    assert list(rows) == ["dog", "car", "person", "sheep"]
    assert rows["dog"][0].text == "20"
    assert [cell.text for cell in rows["dog"]][2:4] == ["70.0 → 40.0", "−30.0"]
    assert "1 of the 4 classes has fewer than 20 objects" in page.by_id("classes").text


def test_many_classes_are_folded(tmp_path: Path) -> None:
    content = detector_scores(classes=[f"class {n}" for n in range(80)])
    page = page_of(write_detector_run(tmp_path / "run", content, sheets=0, worst=0))
    assert page.by_id("classes").one("summary").text == "55 more"
    assert sum(len(rows_of(table)) for table in page.by_id("classes").all("table")) == 80


# ---------------------------------------------------------------- words


def test_the_first_sentence_says_what_is_kept(page: Node) -> None:
    assert page.one(style="lead").text == (
        "plain reaches an AP of 50.0 % on clean images and 28.6 % under corruption (over 15 "
        "corruptions at severities 1 to 5): it keeps 57.2 % of its AP. stylised is 3.0 points higher "
        "under corruption. The cost of stylised: the clean AP falls by 2.0 points."
    )


def test_a_gain_is_more_and_its_price_is_named(page: Node) -> None:
    card = page.one(style="change")
    assert "better" in card.attributes["class"].split()
    assert card.one(style="verdict").text == (
        "stylised raises the AP under corruption by 3.0 percentage points against plain "
        "(95 % interval +2.0 to +4.0)."
    )
    assert "The cost: on clean images the AP falls by 2.0 points" in card.text
    assert "Of 15 corruptions, 15 get better (15 significantly)." in card.text
    assert card.one(style="ends").text == "← worsebetter →"


def test_harm_is_called_harm(tmp_path: Path) -> None:
    content = changed(-0.06, -0.034, -0.01)
    content["differences"][0]["corruptions"][9]["figures"]["AP"] = {
        "value": -0.2,
        "low": -0.3,
        "high": -0.1,
    }
    page = page_of(write_detector_run(tmp_path / "run", content, sheets=0, worst=0))
    card = page.one(style="change")
    assert "worse" in card.attributes["class"].split()
    assert "stylised does harm here: it lowers the AP under corruption by 3.4" in card.text
    assert "It hurts on Fog −20.0 (significant)." in card.text
    assert "stylised is 3.4 points lower" in page.one(style="lead").text


@pytest.mark.parametrize("ends", [(-0.04, 0.015), (-0.04, 0.0), (0.0, 0.015)])
def test_no_effect_is_claimed_where_the_interval_holds_zero(
    tmp_path: Path, ends: tuple[float, float]
) -> None:
    content = changed(ends[0], sum(ends) / 2, ends[1])
    page = page_of(write_detector_run(tmp_path / "run", content, sheets=0, worst=0))
    card = page.one(style="change")
    assert "flat" in card.attributes["class"].split()
    assert "Whether stylised helps is unclear from 120 images" in card.text
    assert "is unclear from 120 images" in page.one(style="lead").text


def test_a_partial_grid_claims_no_mpc(tmp_path: Path) -> None:
    content = detector_scores(severities=(3,), corruptions=("fog", "my_own"))
    page = page_of(write_detector_run(tmp_path / "run", content))
    titles = [card.one("h3").text for card in page.all(style="card")]
    assert titles == ["Clean AP", "AP under corruption", "Share that is kept"]
    assert "mPC is not reported: only a part of the grid" in page.by_id("overview").text
    assert "My own" in page.by_id("heat").text


def test_missing_cells_are_named_and_not_counted(tmp_path: Path) -> None:
    content = detector_scores(missing=("fog-3", "snow-1"))
    page = page_of(write_detector_run(tmp_path / "run", content, sheets=0, worst=0))
    note = page.one("header").one(style="warning").text
    assert "2 cells of the grid are missing: Fog, severity 3 and Snow, severity 1" in note
    fog = rows_of(page.all("table", "heat")[0])["Fog"]
    assert [cell.text for cell in fog] == ["37.0", "33.0", "–", "25.0", "21.0", "29.0"]


def test_classes_that_a_detector_has_not_are_said_first(tmp_path: Path) -> None:
    run = write_detector_run(
        tmp_path / "run",
        sheets=0,
        worst=0,
        missing={"plain": ["dog", "unicorn"], "stylised": ["dog", "unicorn"]},
    )
    (note,) = page_of(run).one("header").all(style="warning")
    assert note.text == (
        "plain and stylised cannot find dog (20 objects) and unicorn: the detector has no class for "
        "them. In the AP, a mean over the classes, 1 of the 4 classes with objects here counts as 0, "
        "clean and corrupted. Compare it only with detectors that lack the same classes."
    )


def test_a_table_without_images_leaves_out_what_needs_them(tmp_path: Path) -> None:
    content = detector_scores(resampled=False, images=None)
    run = write_detector_run(tmp_path / "run", content, sheets=0, worst=0)
    page = page_of(run)
    shown = [figure.text for figure in page.all(style="big")]
    assert shown[:6] == ["50.0 %", "48.0 %", "28.6 %", "31.6 %", "57.2 %", "65.8 %"]
    assert "These figures have no intervals" in page.one("header").text
    assert "without images to resample there is no interval" in page.one(style="verdict").text
    assert "stylised is 3.0 points higher under corruption, without an interval." in (
        page.one(style="lead").text
    )
    anchors = {link.attributes["href"] for link in page.one("nav").all("a")}
    assert not anchors & {"#gallery", "#worst", "#broken"}
    assert not page.all(style="whisker")
    assert not page.all(style="band")
    assert not page.all(style="sure")
    assert "()" not in page.one("main").text
    assert "None" not in page.one("main").text
    assert "95 %" not in page.by_id("overview").text
    lines = [line.text for line in page.by_id("settings").all("div") if line.inside("dt")]
    assert "in the datasetnot known" in lines


def test_without_a_clean_cell_the_darker_is_the_less(tmp_path: Path) -> None:
    content = detector_scores(models=("only",), missing=("clean",))
    (model,) = content["models"]
    model["clean"] = None
    model["summary"] |= {"clean": None, "relative": None, "rpc": None}
    page = page_of(write_detector_run(tmp_path / "run", content, sheets=0, worst=0))
    assert "There is no figure for clean images" in page.one(style="lead").text
    assert "Darker is lower." in page.by_id("heat").text
    assert rows_of(page.one("table", "heat"))["Fog"][0].attributes["class"] == "h s13"


def test_broken_images_are_listed(tmp_path: Path) -> None:
    broken = [{"id": "a.jpg", "cells": 76, "first_cell": "clean", "reason": "a.jpg: empty."}]
    content = detector_scores(broken=broken)
    page = page_of(write_detector_run(tmp_path / "run", content, sheets=0, worst=0))
    assert "1 image of 121 could not be read" in page.one("header").text
    assert "left out of all cells" in page.by_id("broken").text
    assert "a.jpg: empty." in page.by_id("broken").text


# ---------------------------------------------------------------- boxes


def outlines(drawing: Node) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for group in drawing.inside("g"):
        if "label" not in group.attributes["class"]:
            found.setdefault(group.attributes["class"], []).append(group.one("title").raw)
    return found


def thumb(page: Node, title: str) -> Node:
    (found,) = [
        figure
        for figure in page.by_id("gallery").all("figure", "thumb")
        if figure.one("img").attributes["alt"] == f"photo_0.jpg: {title}"
    ]
    return found


def test_boxes_are_kept_lost_extra_or_never_found(pictured: Node) -> None:
    clean, other = thumb(pictured, "Clean").all("svg")
    assert clean.attributes["class"] == "boxes w0"
    assert outlines(clean) == {
        "kept": ["person 90", "dog 70"],
        "extra": ["car 55"],
        "missed": ["car"],
    }
    # A box on an object that does not count is neither right nor wrong, and is not named.
    assert outlines(other)["aside"] == ["sheep 50"]
    assert not [label for label in other.all("text") if "sheep" in label.raw]
    plain, stylised = thumb(pictured, "Fog, severity 4").all("svg")
    assert outlines(plain) == {
        "kept": ["person 90"],
        "lost": ["dog"],
        "extra": ["car 55"],
        "missed": ["car"],
    }
    assert "lost" not in outlines(stylised)
    assert thumb(pictured, "Fog, severity 4").all("span", "told")[0].text == (
        "✓ 1 found ✗ 1 lost ? 1 on nothing"
    )
    hidden = plain.attributes["aria-label"]
    assert hidden == "found: person 90; lost: dog; on no object: car 55; never found: car"


def test_boxes_lie_where_they_are_in_the_image(pictured: Node) -> None:
    drawing = thumb(pictured, "Clean").all("svg")[0]
    # The picture is half as large as the image; the drawing is in the image's pixels.
    # The parser writes names small; a browser knows the names of SVG.
    assert drawing.attributes["viewbox"] == "0 0 120 80"
    kept = next(g for g in drawing.inside("g") if g.one("title").raw == "person 90")
    edge, box = kept.all("rect")
    for node in (edge, box):
        assert [node.attributes[k] for k in ("x", "y", "width", "height")] == [
            "11", "11", "30", "40",
        ]  # fmt: skip


def test_the_styles_differ_by_line_and_shape_too(pictured: Node) -> None:
    drawing = thumb(pictured, "Fog, severity 4").all("svg")[0]
    by_kind = {g.attributes["class"]: g for g in drawing.inside("g")}
    assert len(by_kind["lost"].all("line", "cross")) == 2
    assert not by_kind["kept"].all("line")
    assert "rx" in by_kind["extra"].all("rect")[0].attributes
    assert "rx" not in by_kind["kept"].all("rect")[0].attributes
    style = pictured.one("style").raw
    dashes = [
        re.search(rf"\.boxes \.{kind} \.box{{[^}}]*stroke-dasharray:([\d ]+)", style)
        for kind in ("kept", "lost", "extra", "missed")
    ]
    assert [None if found is None else found.group(1) for found in dashes] == [
        None, "7 4", "2 4", "3 3",
    ]  # fmt: skip
    signs = {text.raw[0] for text in drawing.all("text")}
    assert signs == {"✓", "✗", "?"}


def test_names_never_run_into_each_other() -> None:
    crowd = [
        Mark(boxes.KEPT, f"person number {n}", 0.9 - n / 100, (20.0 + 3 * n, 30.0 + 2 * n, 40, 60))
        for n in range(18)
    ]
    drawing = parse(boxes.draw_boxes((500, 375), crowd)).one("svg")
    placed = [
        [float(label.one("rect").attributes[k]) for k in ("x", "y", "width", "height")]
        for label in drawing.all("g", "label")
    ]
    assert 2 <= len(placed) <= boxes.MAX_LABELS
    for at, (x, y, width, height) in enumerate(placed):
        assert x >= 0
        assert y >= 0
        assert x + width <= 500
        assert y + height <= 375
        for ox, oy, other_width, other_height in placed[at + 1 :]:
            apart = (
                x + width <= ox
                or ox + other_width <= x
                or y + height <= oy
                or oy + other_height <= y
            )
            assert apart
    assert all(len(text.raw) <= 20 for text in drawing.all("text"))
    # What has no room for a name is drawn all the same.
    assert len(outlines(drawing)["kept"]) == 18


def test_boxes_beyond_the_image_end_at_its_rim() -> None:
    mark = Mark(boxes.KEPT, "dog", 0.5, (-1000.0, -5.0, 5000.0, 30.0))
    box = parse(boxes.draw_boxes((200, 100), [mark])).all("rect", "box")[0].attributes
    assert (box["x"], box["width"], box["y"], box["height"]) == ("1", "198", "1", "24")


def test_without_the_clean_image_nothing_is_called_lost() -> None:
    things = [
        GroundTruthBox("dog", (0, 0, 9, 9), counts=True),
        GroundTruthBox("cat", (0, 0, 9, 9), counts=False),
    ]
    found = PredictedBox("dog", 0.5, (0, 0, 9, 9), 0)
    assert [mark.kind for mark in boxes.list_marks(things, [], None)] == ["missed"]
    assert [mark.kind for mark in boxes.list_marks(things, [], [found])] == ["lost"]
    assert [mark.kind for mark in boxes.list_marks(things, [], [])] == ["missed"]
    assert [mark.kind for mark in boxes.list_marks(things, [found], [])] == ["kept"]
    aside = PredictedBox("cat", 0.5, (0, 0, 9, 9), 1)
    assert [mark.kind for mark in boxes.list_marks(things, [aside], [])] == ["aside", "missed"]


def test_the_worst_stand_clean_beside_corrupted(tmp_path: Path) -> None:
    page = page_of(write_detector_run(tmp_path / "run", worst=2))
    cases = page.by_id("worst").all(style="case")
    assert len(cases) == 2
    clean, corrupted = cases[0].all("figure")
    assert clean.one("span", "cell").text == "Clean"
    assert corrupted.one("span", "cell").text == "JPEG compression, severity 5"
    assert outlines(corrupted.one("svg"))["lost"] == ["person", "dog"]
    assert "Finds 2 objects on the clean image, and loses 75.0 %" in cases[0].text


def test_one_model_and_one_severity_leave_no_switch(tmp_path: Path) -> None:
    content = detector_scores(models=("only",), severities=(3,))
    page = page_of(write_detector_run(tmp_path / "run", content))
    assert [node.attributes["type"] for node in page.all("input")] == ["checkbox"]
    assert {svg.attributes["class"] for svg in page.by_id("gallery").all("svg", "boxes")} == {
        "boxes", "boxes sample",
    }  # fmt: skip


def test_pictures_outside_the_run_are_not_shown(tmp_path: Path) -> None:
    run = write_detector_run(tmp_path / "run")
    (tmp_path / "secret.jpg").write_bytes((run / "gallery" / "0.jpg").read_bytes())
    content = json.loads((run / "gallery.json").read_text())
    files = content["sheets"][0]["files"]
    files["clean"], files["fog-3"] = "../secret.jpg", str(tmp_path / "secret.jpg")
    (run / "gallery.json").write_text(json.dumps(content))
    page = page_of(run)
    labels = [node.attributes["aria-label"] for node in page.all("span", "gone")]
    assert "photo_0.jpg: Clean: no picture" in labels
    assert "photo_0.jpg: Fog, severity 3: no picture" in labels
    assert "2 of the run's pictures could not be read" in page.by_id("gallery").text


# ---------------------------------------------------------------- safety and damage

EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></svg><b>",
    "gnp\u202egpj",
)


def test_evil_names_stay_text(tmp_path: Path) -> None:
    content = detector_scores(
        models=EVIL[:2], corruptions=("fog", *EVIL), classes=EVIL, title=EVIL[2], missing=EVIL[:1]
    )
    content["measures"][0]["title"] = EVIL[0]
    run = write_detector_run(
        tmp_path / "run",
        content,
        names=EVIL,
        missing={EVIL[0]: list(EVIL)},
        settings={evil: {evil: evil} for evil in EVIL},
    )
    gallery = json.loads((run / "gallery.json").read_text())
    gallery["sheets"][0]["id"] = gallery["worst"][0]["id"] = EVIL[1]
    (run / "gallery.json").write_text(json.dumps(gallery))
    page = page_of(run)
    assert len(page.all("script")) == 1
    assert len(page.all("svg", "boxes")) > 20
    check_that_nothing_runs_or_is_asked_for(page)
    for evil in EVIL:
        assert evil in page.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("format", 9), "expected format 2, got 9"),
        (put("measures", []), "at least one of them at measures"),
        (put("models", []), "at least one of them at models"),
        (put("models.1.name", "plain"), "names of their own"),
        (
            put("models.0.cells.3.figures.AP.value", 28.6),
            r"from 0 to 1 at models\[0\].cells\[3\].figures.AP.value",
        ),
        (
            put("models.0.cells.3.figures.AP.low", None),
            r"both of its ends at models\[0\].cells\[3\].figures.AP",
        ),
        (put("models.0.cells.3.figures.AP.low", 0.9), "low end below its high end"),
        (
            put("models.0.cells.3.figures.AP", 0.5),
            r"an object or nothing at models\[0\].cells\[3\].figures.AP",
        ),
        (put("models.0.cells.3.severity", 3), "one entry per corruption and severity"),
        (put("models.0.cells.3.numbers.AP50", "x"), r"cells\[3\].numbers.AP50, got 'x'"),
        (
            put("models.0.detail.classes.1.objects", -2),
            r"whole number >= 0 at models\[0\].detail.classes",
        ),
        (put("models.0.detail.sizes.APs.mean", float("nan")), "a number or nothing at .*got 'nan'"),
        (put("differences.0.against", "nobody"), "between two of the models"),
        (put("images.used", "many"), "whole number"),
        (put("grid.missing", "fog-3"), "a list at grid.missing"),
    ],
)
def test_damaged_scores_are_named_by_place(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    run = write_detector_run(tmp_path / "run", sheets=0, worst=0)
    content = detector_scores()
    change(content)
    check_that_scores_are_refused(run, content, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("sheets.0.size", [120]), r"a list of 2 at sheets\[0\].size"),
        (put("sheets.0.size", [120, 0]), r"a whole number >= 1 at sheets\[0\].size\[1\]"),
        (put("sheets.0.things.0.box", [1, 2, 3]), r"a list of 4 at sheets\[0\].things\[0\].box"),
        (put("sheets.0.things.0.box", [1, 2, -3, 4]), r"a number >= 0 at .*things\[0\].box\[2\]"),
        (put("sheets.0.things.0.box.0", float("inf")), "a number at .*, got 'inf'"),
        (put("sheets.0.things.0.counts", 1), "true or false"),
        (put("sheets.0.found.plain.clean.0.thing", 4), "one of the 4 objects"),
        (put("sheets.0.found.plain.clean.0.score", 55), "a number <= 1 at"),
        (put("sheets.0.found.plain.clean", None), r"a list at sheets\[0\].found.plain.clean"),
        (put("worst.0.clean", None), r"an object at worst\[0\].clean"),
        (put("worst.0.lost", 7.5), r"a number <= 1 at worst\[0\].lost"),
        (put("thresholds.plain", "high"), "a number at thresholds.plain"),
    ],
)
def test_a_damaged_gallery_is_named_by_place(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    run = write_detector_run(tmp_path / "run")
    content = json.loads((run / "gallery.json").read_text())
    change(content)
    (run / "gallery.json").write_text(json.dumps(content))
    with pytest.raises(BrokenFileError, match=message) as caught:
        write_report(run)
    assert "gallery.json" in str(caught.value)


def test_settings_of_any_shape_do_no_harm(tmp_path: Path) -> None:
    for number, classes in enumerate((None, [], {"plain": 3}, {"plain": {"missing": "dog"}})):
        run = write_detector_run(
            tmp_path / str(number),
            sheets=0,
            worst=0,
            settings={"classes": classes, "models": classes},
        )
        assert not page_of(run).all(style="warning")


def test_a_photograph_of_which_nothing_could_be_read_is_left_out(tmp_path: Path) -> None:
    run = write_detector_run(tmp_path / "run", sheets=2, worst=0)
    content = json.loads((run / "gallery.json").read_text())
    content["sheets"][0] |= {"files": {}}
    (run / "gallery.json").write_text(json.dumps(content))
    assert len(page_of(run).all("details", "sheet")) == 1


# ---------------------------------------------------------------- several runs


def test_runs_are_shown_side_by_side(tmp_path: Path) -> None:
    first = write_detector_run(tmp_path / "big", sheets=0, worst=0)
    second = write_detector_run(tmp_path / "small", sheets=1)
    page = page_of([first, second], tmp_path / "both.html")
    captions = [table.one("caption").text for table in page.all("table", "heat")]
    assert captions == [
        "big: plain %", "big: stylised %", "small: plain %", "small: stylised %",
        "big: stylised − plain points", "small: stylised − plain points",
    ]  # fmt: skip
    assert not page.all(style="alarm")
    assert "from the run" not in page.by_id("gallery").text
    assert "of the run small in every cell" in page.by_id("gallery").text
    assert "Models of different runs have no paired interval" in page.by_id("overview").text


@pytest.mark.parametrize(
    ("aspect", "kwargs", "settings"),
    [
        ("severities", {"severities": (1, 3, 5)}, {}),
        ("corruptions", {"corruptions": COMMON[:14]}, {}),
        ("images used", {"images": 119}, {}),
        ("data", {}, {"data": {"fingerprint": "aa"}}),
        ("measure", {}, {"measure": "coco-masks"}),
        ("corrupted images", {}, {"images": {"encode": "jpeg"}}),
        ("seed", {}, {"seed": 7}),
    ],
)
def test_runs_that_are_not_alike_are_not_compared_silently(
    tmp_path: Path, aspect: str, kwargs: dict[str, Any], settings: dict[str, Any]
) -> None:
    first = write_detector_run(tmp_path / "first", sheets=0, worst=0)
    second = write_detector_run(
        tmp_path / "second", detector_scores(**kwargs), sheets=0, worst=0, settings=settings
    )
    alarm = page_of([first, second]).one(style="alarm").text
    assert "not comparable" in alarm
    assert f"{aspect} (first: " in alarm


def test_the_protocol_counts_only_where_a_detector_adapts(tmp_path: Path) -> None:
    first = write_detector_run(tmp_path / "first", sheets=0, worst=0)
    other = {"protocol": {"description": "mixed"}}
    second = write_detector_run(tmp_path / "second", sheets=0, worst=0, settings=other)
    page = page_of([first, second])
    assert not page.all(style="alarm")
    assert "Protocol" not in page.by_id("overview").text
    adapted = {"adapters": {"stylised": {"prior": 16}}}
    third = write_detector_run(tmp_path / "third", sheets=0, worst=0, settings=other | adapted)
    page = page_of([first, third])
    assert "protocol (first: online; third: mixed)" in page.one(style="alarm").text
    assert "Settings: prior 16" in page.by_id("overview").text


def test_what_no_axis_holds_has_parts_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_detector_run(tmp_path / "first", sheets=0, worst=0)
    voc = detector_scores(measure="AP50")
    second = write_detector_run(tmp_path / "second", voc, sheets=0, worst=0)
    classifiers = write_run(tmp_path / "third", sheets=0)
    page = page_of([first, second, classifiers, first])
    assert [part.attributes["id"] for part in page.all("article")] == ["p1-top", "p2-top", "p3-top"]
    assert cli.run(["report", str(first), str(second), "--table", "csv"]) == 2
    assert "measure (AP, AP50), so their models have no ranking" in " ".join(
        capsys.readouterr().err.split()
    )
    assert cli.run(["report", str(first), str(classifiers), "--table", "md"]) == 2
    assert "kind (classification, detection)" in " ".join(capsys.readouterr().err.split())


def test_a_calibration_is_for_classifiers(tmp_path: Path) -> None:
    run = write_detector_run(tmp_path / "run", sheets=0, worst=0)
    with pytest.raises(InputError, match="only errors of classifiers"):
        write_report(run, calibration=run)


def test_the_page_is_a_function_of_the_run(tmp_path: Path) -> None:
    run = write_detector_run(tmp_path / "run")
    first = write_report(run).read_bytes()
    assert write_report(run, tmp_path / "again.html").read_bytes() == first


def test_every_drawing_says_what_it_shows(pictured: Node) -> None:
    for chart in pictured.all("svg"):
        silent = chart.attributes.get("aria-hidden") == "true"
        spoken = chart.attributes.get("role") == "img" and chart.attributes.get("aria-label")
        assert silent or spoken


def test_the_classes_of_the_simulation_are_those_of_the_pictures() -> None:
    assert [one["name"] for one in detector_scores()["models"][0]["detail"]["classes"]] == list(
        CLASSES
    )
