"""The page: its numbers, its words, its safety and its size."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shiftproof import load_run
from shiftproof.errors import BrokenFileError, InputError, MissingExtraError
from shiftproof.report import write_report
from shiftproof.report.page import LIMIT
from shiftproof.report.svg import colors as colours
from support.page_checks import (
    check_that_nothing_runs_or_is_asked_for,
    check_that_scores_are_refused,
    page_of,
    put,
)
from support.page_reading import Node, parse
from support.report_runs import COMMON, interval, scores, write_run


# How the page is to spell figures, written down here a second time on purpose.
def percent(value: dict[str, float] | None) -> str:
    return "–" if value is None else f"{100 * value['value']:.1f}"


def span(value: dict[str, float] | None) -> str:
    return "" if value is None else f"{100 * value['low']:.1f}–{100 * value['high']:.1f}"


def signed(number: float) -> str:
    text = f"{100 * number:+.1f}".replace("-", "−")
    return "0.0" if text in ("+0.0", "−0.0") else text


def points(value: dict[str, float] | None) -> str:
    return "–" if value is None else signed(value["value"])


def title_of(name: str) -> str:
    words = name.replace("_", " ").replace("jpeg", "JPEG")
    return words[:1].upper() + words[1:]


def table_rows(table: Node) -> dict[str, list[str]]:
    return {
        row.inside("th")[0].text: [cell.text for cell in row.inside("td")]
        for row in table.all("tr")
        if row.inside("td") and row.inside("th")
    }


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """Scores of a whole grid; no test may change them."""
    return scores()


@pytest.fixture(scope="module")
def page(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Node:
    """The page of a run with these scores."""
    return page_of(write_run(tmp_path_factory.mktemp("page") / "run", content, sheets=0))


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("models", [("source",), ("source", "BN"), ("source", "BN", "ENT")])
def test_heat_maps_hold_the_figures_of_the_run(tmp_path: Path, models: tuple[str, ...]) -> None:
    content = scores(models=models)
    page = page_of(write_run(tmp_path / "run", content, sheets=0))
    maps = page.all("table", "heat")
    scored = [*content["models"], *content["differences"]]
    assert len(maps) == len(scored)
    for table, model in zip(maps, scored, strict=True):
        spell = points if "against" in model else percent
        caption = table.one("caption").text
        assert caption.startswith(
            f"{model['name']} − {model['against']}"
            if "against" in model
            else model["title" if len(models) == 1 else "name"]
        )
        rows = table_rows(table)
        for entry in model["corruptions"]:
            cells = {
                cell["severity"]: cell["figures"]["error"]
                for cell in model["cells"]
                if cell["corruption"] == entry["corruption"]
            }
            expected = [
                *(spell(cells[severity]) for severity in range(1, 6)),
                spell(entry["figures"]["error"]),
            ]
            assert rows[title_of(entry["corruption"])] == expected
        assert rows["Clean"][-1] == spell(model["clean"]["figures"]["error"])
        assert rows["Mean"][-1] == spell(model["summary"]["mean"])


def test_bars_stand_beside_the_figures_of_the_run(content: dict[str, Any], page: Node) -> None:
    rows = table_rows(page.one("table", "barred"))
    source, adapted = content["models"]
    (difference,) = content["differences"]
    for number, entry in enumerate(source["corruptions"]):
        change = difference["corruptions"][number]["figures"]["error"]
        after = adapted["corruptions"][number]["figures"]["error"]
        assert rows[title_of(entry["corruption"])][1:] == [
            f"{percent(entry['figures']['error'])} {span(entry['figures']['error'])}",
            f"{percent(after)} {span(after)}",
            f"{points(change)} {signed(change['low'])} to {signed(change['high'])}",
        ]


def test_bars_are_as_long_as_the_figures_say(tmp_path: Path) -> None:
    content = scores(images=2000)
    page = page_of(write_run(tmp_path / "run", content, sheets=0))
    row = next(
        row
        for row in page.one("table", "barred").all("tr")
        if "Gaussian noise" in row.text and row.all("rect")
    )
    lengths = [float(bar.attributes["width"].rstrip("%")) for bar in row.all("rect", "bar")]
    errors = [model["corruptions"][0]["figures"]["error"]["value"] for model in content["models"]]
    assert lengths[0] / lengths[1] == pytest.approx(errors[0] / errors[1], rel=1e-3)


def test_every_cell_is_listed_with_all_its_figures(content: dict[str, Any], page: Node) -> None:
    table = page.one("table", "cells")
    shown = [[cell.text for cell in row.all("td")] for row in table.all("tr") if row.all("td")]
    assert len(shown) == 3 * 76
    cell = content["models"][1]["cells"][7]
    assert [
        "BN",
        title_of(cell["corruption"]),
        str(cell["severity"]),
        "20",
        percent(cell["figures"]["error"]),
        span(cell["figures"]["error"]),
        percent(cell["figures"]["top5_error"]),
        percent(cell["figures"]["calibration_error"]),
        f"{cell['figures']['loss']['value']:.2f}",
    ] in shown


def test_cards_hold_the_headline_figures(content: dict[str, Any], page: Node) -> None:
    shown = {
        card.one("h3").text: [figure.one(style="big").text for figure in card.all(style="figure")]
        for card in page.all(style="card")
    }
    for title, key in (
        ("Clean error", "clean"),
        ("Error under corruption", "mean"),
        ("mCE", "mce"),
        ("rPC", "rpc"),
        ("Calibration error", "calibration_error"),
    ):
        figures = [model["summary"][key] for model in content["models"]]
        assert shown[title] == [f"{percent(figure)} % {span(figure)}" for figure in figures]


def test_curves_carry_their_figures(content: dict[str, Any], page: Node) -> None:
    charts = page.all("svg", "curves")
    assert len(charts) == 15
    fog = next(chart for chart in charts if chart.attributes["aria-label"].startswith("Fog "))
    assert len(fog.all("polyline")) == 2
    assert len(fog.all(style="band")) == 2
    titles = [node.raw for node in fog.all("title")]
    cell = next(
        cell
        for cell in content["models"][0]["cells"]
        if cell["corruption"] == "fog" and cell["severity"] == 4
    )
    assert (
        f"source, severity 4: {percent(cell['figures']['error'])}\xa0% ({span(cell['figures']['error'])})"
        in titles
    )
    # A point lies where its figure says: twice the error is twice the height above the axis.
    axis = float(fog.one("line", "axis").attributes["y1"])
    ys = [
        float(point.split(",")[1]) for point in fog.all("polyline")[0].attributes["points"].split()
    ]
    errors = [content["models"][0]["clean"]["figures"]["error"]["value"]] + [
        cell["figures"]["error"]["value"]
        for cell in content["models"][0]["cells"]
        if cell["corruption"] == "fog"
    ]
    heights = [axis - y for y in ys]
    assert heights == pytest.approx([heights[-1] * e / errors[-1] for e in errors], abs=0.15)


def test_every_chart_says_what_it_shows(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run"))
    for chart in page.all("svg"):
        silent = chart.attributes.get("aria-hidden") == "true"
        spoken = chart.attributes.get("role") == "img" and chart.attributes.get("aria-label")
        assert silent or spoken


def test_the_page_is_a_function_of_the_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    first = write_report(run).read_bytes()
    assert write_report(run, tmp_path / "again.html").read_bytes() == first
    assert write_report(load_run(run), tmp_path / "opened.html").read_bytes() == first


# ---------------------------------------------------------------- words


def verdict_page(tmp_path: Path, low: float, value: float, high: float) -> str:
    content = scores(images=500)
    content["differences"][0]["summary"]["mean"] = {"value": value, "low": low, "high": high}
    page = page_of(write_run(tmp_path / "run", content, sheets=0))
    return page.one(style="verdict").text + " / " + page.one(style="lead").text


def test_a_gain_is_called_a_gain(tmp_path: Path) -> None:
    text = verdict_page(tmp_path, -0.14, -0.102, -0.061)
    assert "BN lowers the error under corruption by 10.2 percentage points" in text
    assert "95 % interval −14.0 to −6.1" in text
    assert "BN lowers this by 10.2 points." in text


def test_harm_is_called_harm(tmp_path: Path) -> None:
    text = verdict_page(tmp_path, 0.01, 0.034, 0.06)
    assert "BN does harm here: it raises the error under corruption by 3.4" in text
    assert "BN raises this by 3.4 points." in text


@pytest.mark.parametrize("ends", [(-0.04, 0.015), (-0.04, 0.0), (0.0, 0.015)])
def test_no_effect_is_claimed_where_the_interval_holds_zero(
    tmp_path: Path, ends: tuple[float, float]
) -> None:
    text = verdict_page(tmp_path, ends[0], sum(ends) / 2, ends[1])
    assert "Whether BN helps is unclear from 500 images" in text
    assert "lowers" not in text
    assert "harm" not in text
    has_both = ends[0] < 0 < ends[1]
    assert ("the interval contains both gains and losses (" in text) == has_both
    assert ("the interval contains 0 (" in text) != has_both


def test_no_change_at_all_is_said(tmp_path: Path) -> None:
    assert "the error under corruption is the same" in verdict_page(tmp_path, 0, 0, 0)


def test_losses_are_shown_beside_wins(tmp_path: Path) -> None:
    content = scores(images=2000)
    page = page_of(write_run(tmp_path / "run", content, sheets=0))
    worse = [
        entry
        for entry in content["differences"][0]["corruptions"]
        if entry["figures"]["error"]["value"] > 0
    ]
    assert any(entry["corruption"] == "brightness" for entry in worse)
    change = page.one(style="change").text
    for entry in worse:
        assert f"{title_of(entry['corruption'])} {points(entry['figures']['error'])}" in change
    captions = [caption.text for caption in page.by_id("worst").all("caption")]
    assert captions == ["Helped most", "Hurt most"]


def test_of_many_adapters_the_first_are_in_the_lead_and_all_have_a_card(tmp_path: Path) -> None:
    names = ("source", *(f"adapter-{number}" for number in range(7)))
    page = page_of(write_run(tmp_path / "run", scores(models=names, gain=0.02), sheets=0))
    lead = page.one(style="lead").text
    assert [name for name in names if name in lead] == [f"adapter-{number}" for number in range(4)]
    assert "3 more are below." in lead
    assert len(page.all(style="change")) == 7


def test_few_images_are_warned_of(tmp_path: Path) -> None:
    few = page_of(write_run(tmp_path / "few", scores(images=99), sheets=0))
    assert "Only 99 images" in few.one("header").text
    many = page_of(write_run(tmp_path / "many", scores(images=100), sheets=0))
    assert not many.all(style="warning")


def test_without_labels_nothing_is_called_an_error(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", scores(labeled=False)))
    assert "These images have no labels" in page.one("header").text
    cards = [card.one("h3").text for card in page.all(style="card")]
    assert cards == ["Disagreement under corruption"]
    assert "mCE is not reported" not in page.text
    assert "Clean error" not in page.text
    assert "Disagreement" in page.by_id("reading").text
    signs = {sign.text for sign in page.all(style="sign")}
    assert signs <= {"=", "≠"}
    assert signs


def test_a_partial_grid_says_why_there_is_no_mce(tmp_path: Path) -> None:
    content = scores(models=("source",), severities=(3,), corruptions=("fog", "my_own"))
    page = page_of(write_run(tmp_path / "run", content, sheets=1))
    assert "it needs all 15 benchmark corruptions" in page.by_id("overview").text
    assert "mCE" not in [card.one("h3").text for card in page.all(style="card")]
    rows = table_rows(page.one("table", "heat"))
    assert len(rows["My own"]) == 2
    # Nothing to choose from: no switch, and every picture shows.
    assert not page.all("input")
    assert not page.all("figure", "v3")


def test_missing_cells_are_shown_as_missing(tmp_path: Path) -> None:
    content = scores(models=("source",))
    content["models"][0]["cells"] = [
        cell
        for cell in content["models"][0]["cells"]
        if (cell["corruption"], cell["severity"]) != ("fog", 2)
    ]
    content["models"][0]["clean"] = None
    page = page_of(write_run(tmp_path / "run", content, sheets=0))
    assert table_rows(page.one("table", "heat"))["Fog"][1] == "–"


def test_broken_files_are_listed_with_their_reason(tmp_path: Path) -> None:
    broken = [
        {"id": f"cat/{n}.jpg", "cells": 76, "first_cell": "clean", "reason": f"{n}.jpg: empty."}
        for n in range(350)
    ]
    page = page_of(write_run(tmp_path / "run", scores(broken=broken), sheets=0))
    assert "350 images of 370 could not be read" in page.one("header").text
    section = page.by_id("broken")
    assert len(section.all("tr")) == 301
    assert "cat/7.jpg" in section.text
    assert "7.jpg: empty." in section.text
    assert "And 50 more" in section.text


def test_adapter_settings_come_from_the_run_where_the_scores_have_none(tmp_path: Path) -> None:
    content = scores()
    for model in content["models"]:
        model["adapter"] = None
        if model["name"] == "BN":
            model["title"] = "BN"
    settings = {"adapters": {"BN": {"prior": 16, "momentum": None}}}
    page = page_of(write_run(tmp_path / "run", content, settings=settings, sheets=0))
    assert "prior 16" in page.one(style="change").text
    assert page.one("h1").text == "EfficientNet-Lite0 under 15 corruptions"


# ---------------------------------------------------------------- gallery


def test_every_model_is_judged_under_every_picture(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sheets=2)
    page = page_of(run)
    sheets = json.loads((run / "gallery.json").read_text())["sheets"]
    shown = page.all("details", "sheet")
    assert len(shown) == 2
    for sheet, node in zip(sheets, shown, strict=True):
        thumbs = node.all("figure", "thumb")
        assert len(thumbs) == 76
        for thumb in thumbs:
            alt = thumb.all("img")[0].attributes["alt"]
            cell = _cell_of(alt.split(": ", 1)[1])
            said = thumb.all(style="said")
            assert len(said) == 2
            for model, node in zip(("source", "BN"), said, strict=True):
                expected = sheet["predictions"][model][cell]
                assert node.one(style="sign").text == ("✓" if expected["correct"] else "✗")
                assert node.one(style="name").text == expected["name"]
                assert node.one(style="conf").text == f"{100 * expected['confidence']:.0f} %"
                assert (", right:" if expected["correct"] else ", wrong:") in node.text


def _cell_of(title: str) -> str:
    found = {
        f"{title_of(name)}, severity {s}": f"{name}-{s}" for name in COMMON for s in range(1, 6)
    }
    return found.get(title, "clean")


def test_the_worst_photographs_are_shown_with_what_was_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sheets=2)
    worst = json.loads((run / "gallery.json").read_text())["worst"]
    cases = page_of(run).all(style="case")
    assert len(cases) == len(worst) == 2
    for case, expected in zip(cases, worst, strict=True):
        assert f"wrong in {expected['errors']} of 75" in case.text
        assert expected["id"] in case.text
        clean, corrupted = case.all("figure")
        for figure, shown in ((clean, expected["clean"]), (corrupted, expected["corrupted"])):
            assert figure.one(style="name").text == shown["prediction"]["name"]
            assert figure.one(style="right" if shown["prediction"]["correct"] else "wrong")


def test_settings_and_provenance_are_listed(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run",
        sheets=0,
        settings={"corruptions": {"fog": "fog", "snow": "snow"}, "deep": {"a": {"b": [1, 2]}}},
        provenance={"libraries": {"numpy": "2.0"}},
    )
    section = page_of(run).by_id("settings")
    lines = [line.text for block in section.all("dl") for line in block.inside("div")]
    assert "fingerprint" + "0f" * 16 in lines
    assert "namesfog, snow" in lines
    assert "a.b1, 2" in lines
    assert "libraries.numpy2.0" in lines
    assert "replicates1000" in lines
    titles = [title.text for title in section.all("h3")]
    assert titles[0] == "Settings"
    assert titles[-4:-1] == ["Classes", "Images used", "Intervals"]
    assert titles[-1].startswith("Provenance of the command that began the run; the number")


def test_an_image_that_could_not_be_read_in_one_cell_is_not_judged(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sheets=1)
    content = json.loads((run / "gallery.json").read_text())
    content["sheets"][0]["predictions"]["source"]["fog-3"] = {
        "class": None,
        "confidence": None,
        "correct": None,
    }
    (run / "gallery.json").write_text(json.dumps(content))
    page = page_of(run)
    assert "of 74" in page.one("details", "sheet").one(style="tally").text


def test_without_a_gallery_the_page_stands(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", sheets=0))
    assert not page.all("img")
    assert "gallery" not in [section.attributes["id"] for section in page.all("section")]


def test_pictures_that_cannot_be_used_are_left_blank(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sheets=1)
    (run / "gallery/0/clean.jpg").unlink()
    (run / "gallery/0/fog-1.jpg").write_text("not a picture")
    page = page_of(run)
    assert "2 of the run's pictures could not be read" in page.by_id("gallery").text
    blanks = [node.attributes["aria-label"] for node in page.all("span", "gone")]
    assert any("Fog, severity 1: no picture" in blank for blank in blanks)


@pytest.mark.parametrize("absolute", [True, False])
def test_no_file_outside_the_run_gets_into_the_page(tmp_path: Path, absolute: bool) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (60, 40), (1, 200, 3)).save(secret)
    run = write_run(tmp_path / "run", sheets=1)
    (run / "link.png").symlink_to(secret)
    content = json.loads((run / "gallery.json").read_text())
    files = content["sheets"][0]["files"]
    files["fog-1"] = str(secret) if absolute else "../secret.png"
    files["fog-2"] = "link.png"
    (run / "gallery.json").write_text(json.dumps(content))
    page = page_of(run)
    labels = [node.attributes["aria-label"] for node in page.all("span", "gone")]
    assert len([label for label in labels if "Fog, severity" in label]) == 2


def test_the_page_stays_under_its_limit(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sheets=14, size=16)
    # Noise is what compresses worst; the same two files for all cells keep the test short.
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    Image.fromarray(noise).save(run / "noise.png")
    data = (run / "noise.png").read_bytes()
    content = json.loads((run / "gallery.json").read_text())
    content["sheets"] *= 3
    for sheet in content["sheets"]:
        sheet["files"] = {
            cell: f"noise-{number % 2}.png" for number, cell in enumerate(sheet["files"])
        }
    for number in range(2):
        (run / f"noise-{number}.png").write_bytes(data)
    (run / "gallery.json").write_text(json.dumps(content))
    page = write_report(run).read_bytes()
    assert 3_000_000 < len(page) <= LIMIT
    text = parse(page.decode()).by_id("gallery").text
    assert re.search(r"\d+ of the run's 42 photographs are shown", text)


# ---------------------------------------------------------------- safety

EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><style>*{display:none}",
    "</title></svg></textarea><b>",
    "'\" onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "gnp\u202egpj.exe",
    "javascript:alert(1)",
    "&lt;already&amp;",
    "=HYPERLINK(1)",
    "bad\udcffname \x1b[31m\x00",
]


def evil_run(folder: Path) -> Path:
    corruptions = ("fog", *EVIL)
    content = scores(
        models=(EVIL[0], EVIL[1]),
        corruptions=corruptions,
        severities=(1, 3),
        labels=EVIL,
        title=EVIL[3],
        broken=[{"id": x, "cells": 1, "first_cell": f"{x}-1", "reason": x} for x in EVIL],
    )
    content["grid"]["reason"] = EVIL[1]
    content["interval"]["method"] = EVIL[0]
    for model in content["models"]:
        for entry in model["corruptions"][1:]:
            entry["group"] = EVIL[2] + EVIL[6]
    write_run(
        folder,
        content,
        sheets=2,
        size=16,
        ids=EVIL[:2],
        labels=EVIL,
        settings={x: {x: [x, {x: x}]} for x in EVIL},
        provenance={x: x for x in EVIL},
    )
    return folder


def test_evil_names_stay_text(tmp_path: Path) -> None:
    page = page_of(evil_run(tmp_path / "run"))
    assert len(page.all("script")) == 1
    assert len(page.all("style")) == 1
    assert not page.all("b", "x")
    check_that_nothing_runs_or_is_asked_for(page)
    links = [node.attributes["href"] for node in page.walk() if "href" in node.attributes]
    assert all(link.startswith(("#", "data:,")) for link in links)
    text = page.text
    for evil in EVIL[:-1]:
        assert evil in text
    assert "49" not in page.by_id("settings").text
    assert "bad\ufffdname \ufffd[31m\ufffd" in text


def test_text_that_turns_the_line_is_kept_apart(tmp_path: Path) -> None:
    page = page_of(evil_run(tmp_path / "run"))
    turning = [
        node
        for node in page.one("main").walk()
        if "\u202e" in node.raw and node.tag not in ("title", "pre")
    ]
    assert turning
    for node in turning:
        assert node.tag == "bdi"


def test_the_policy_allows_this_style_and_this_script_only(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run"))
    policy = next(
        meta.attributes["content"]
        for meta in page.all("meta")
        if meta.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))

    def digest(node: Node) -> str:
        return base64.b64encode(hashlib.sha256(node.raw.encode()).digest()).decode()

    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": f"'sha256-{digest(page.one('style'))}'",
        "script-src": f"'sha256-{digest(page.one('script'))}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_the_policy_stands_before_all_that_it_governs(tmp_path: Path) -> None:
    text = write_report(write_run(tmp_path / "run", sheets=0)).read_text(encoding="utf-8")
    assert text.index("Content-Security-Policy") < text.index("<style")
    assert text.index("Content-Security-Policy") < text.index("<link")


# ---------------------------------------------------------------- colours


@pytest.mark.parametrize("dark", [True, False])
def test_text_on_heat_cells_can_be_read(dark: bool) -> None:
    for level in (*colours.make_sequential(dark=dark), *colours.make_diverging(dark=dark)):
        assert wcag(level.ground, level.text) >= 4.5


def test_palettes_are_steady_in_lightness() -> None:
    light = [luminance(level.ground) for level in colours.make_sequential(dark=False)]
    dark = [luminance(level.ground) for level in colours.make_sequential(dark=True)]
    assert light == sorted(light, reverse=True)
    assert dark == sorted(dark)


def test_the_text_of_the_page_can_be_read(tmp_path: Path) -> None:
    style = page_of(write_run(tmp_path / "run", sheets=0)).one("style").raw
    themes = re.findall(r"color-scheme:(\w+);(.*?)\}", style, re.S)
    assert {name for name, _ in themes} == {"light", "dark"}
    for _, block in themes:
        colour = dict(re.findall(r"--([\w-]+):(#[0-9a-f]{6})", block))
        for ink in ("ink", "soft", "link", "better", "worse", "right", "wrong"):
            assert wcag(colour[ink], colour["paper"]) >= 4.5, ink
        for ink in ("ink", "soft"):
            assert wcag(colour[ink], colour["panel"]) >= 4.5, ink
        assert wcag(colour["ink"], colour["warn-ground"]) >= 4.5
        for number in range(len(colours.MODEL_LIGHT)):
            # Marks are graphics, for which WCAG asks 3:1.
            assert wcag(colour[f"m{number}"], colour["paper"]) >= 3


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance, with the threshold of the standard's text."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def wcag(first: str, second: str) -> float:
    a, b = sorted((luminance(first), luminance(second)))
    return (b + 0.05) / (a + 0.05)


# ---------------------------------------------------------------- several runs


def test_runs_are_shown_side_by_side(tmp_path: Path) -> None:
    first = write_run(tmp_path / "big", scores(seed=1, title="ResNet-50"), sheets=0)
    second = write_run(tmp_path / "small", scores(seed=2), sheets=1)
    page = page_of([first, second], tmp_path / "both.html")
    captions = [table.one("caption").text for table in page.all("table", "heat")]
    assert [caption.rsplit(" ", 1)[0] for caption in captions] == [
        "big: source",
        "big: BN",
        "small: source",
        "small: BN",
        "big: BN − source",
        "small: BN − source",
    ]
    assert not page.all(style="alarm")
    assert len(page.all("details", "sheet")) == 1


@pytest.mark.parametrize(
    ("aspect", "kwargs", "settings"),
    [
        ("severities", {"severities": (1, 3, 5)}, {}),
        ("corruptions", {"corruptions": COMMON[:14]}, {}),
        ("images used", {"images": 19}, {}),
        ("data", {}, {"data": {"fingerprint": "aa"}}),
        ("protocol", {}, {"protocol": "other"}),
        ("corrupted images", {}, {"encode": "jpeg"}),
        ("corrupted images", {}, {"images": {"encode": "jpeg"}}),
        ("seed", {}, {"seed": 7}),
    ],
)
def test_runs_that_are_not_alike_are_not_compared_silently(
    tmp_path: Path, aspect: str, kwargs: dict[str, Any], settings: dict[str, Any]
) -> None:
    first = write_run(tmp_path / "first", sheets=0)
    second = write_run(tmp_path / "second", scores(**kwargs), sheets=0, settings=settings)
    page = page_of([first, second])
    alarm = page.one(style="alarm").text
    assert "not comparable" in alarm
    assert f"{aspect} (first: " in alarm
    assert "If their intervals do not overlap" not in page.by_id("overview").text


def test_errors_and_disagreements_share_no_axis(tmp_path: Path) -> None:
    first = write_run(tmp_path / "first", sheets=0)
    second = write_run(tmp_path / "second", scores(labeled=False), sheets=0)
    page = page_of([first, second])
    assert len(page.all("article")) == 2
    assert "Error" in page.by_id("p1-heat").text
    assert "Disagreement" in page.by_id("p2-heat").text


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / place / "run", sheets=0) for place in "ab"]
    assert "run (2): BN" in page_of(runs).by_id("overview").text


def test_an_empty_list_of_runs_is_refused() -> None:
    with pytest.raises(InputError, match="empty list"):
        write_report([])


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("format", 9), "expected format 2, got 9"),
        (put("measures", []), "at least one of them at measures"),
        (put("models", []), "at least one of them at models"),
        (put("models", {}), "a list at models"),
        (put("models.0", 3), r"an object at models\[0\]"),
        (put("models.1.name", None), r"a text at models\[1\].name, got nothing"),
        (put("models.1.name", "source"), "names of their own"),
        (
            put("models.0.cells.3.figures.error", 0.5),
            r"an object or nothing at models\[0\].cells\[3\].figures.error",
        ),
        (
            put("models.0.cells.3.figures.error.value", "x"),
            r"cells\[3\].figures.error.value, got 'x'",
        ),
        (put("models.0.cells.3.figures.error.value", 57.9), "a number from 0 to 1"),
        (put("models.0.cells.3.figures.error.value", float("nan")), "a number at .*, got 'nan'"),
        (put("models.0.cells.3.figures.error.value", 10**400), "finite"),
        (put("models.0.cells.3.figures.error", interval(0.5, -0.1)), "low end below its high end"),
        (put("models.0.cells.3.severity", 1.5), "whole number"),
        (put("models.0.cells.3.severity", 3), "one entry per corruption and severity"),
        (put("models.0.summary.mce.value", True), "a number"),
        (put("differences.0.against", "nobody"), "between two of the models"),
        (put("differences.0.cells.0.figures.error.value", -1.5), "from -1 to 1"),
        (put("images.used", -1), "whole number"),
        (put("interval", None), "an object at interval"),
        (put("grid.severities", "12345"), "a list at grid.severities"),
    ],
)
def test_damaged_scores_are_named_by_place(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    content = scores()
    change(content)
    run = write_run(tmp_path / "run", scores(), sheets=0)
    check_that_scores_are_refused(run, content, message)


def test_scores_that_are_cut_short_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sheets=0)
    data = (run / "scores.json").read_bytes()
    (run / "scores.json").write_bytes(data[: len(data) // 2])
    with pytest.raises(BrokenFileError, match=r"scores\.json, line 1, column \d+: not valid JSON"):
        write_report(run)


def test_a_damaged_gallery_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sheets=1)
    (run / "gallery.json").write_text('{"sheets": [{"id": 3}]}')
    with pytest.raises(BrokenFileError, match=r"gallery\.json: expected a text at sheets\[0\]\.id"):
        write_report(run)


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sheets=0)
    (run / "scores.json").unlink()
    with pytest.raises(InputError, match="a run that is not finished"):
        write_report(run)
    with pytest.raises(InputError, match="holds no run"):
        write_report(tmp_path / "nothing")


def test_a_task_that_this_version_does_not_know_has_what_all_have(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", sheets=0, kind="something else"))
    anchors = [node.attributes["id"] for node in page.all("section")]
    assert anchors == [
        "overview", "next", "corruptions", "separation", "robustness", "gains", "heat",
        "curves", "numbers", "settings", "reading",
    ]  # fmt: skip
    assert "EfficientNet-Lite0: error " in page.one(style="lead").text


def test_pictures_of_a_task_that_this_version_does_not_know_are_not_shown(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", sheets=1, kind="something else"))
    assert not page.all("img")


def test_an_output_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sheets=0)
    with pytest.raises(InputError, match="cannot be written"):
        write_report(run, tmp_path / "no" / "folder" / "page.html")


def test_a_report_that_was_there_stays_when_the_new_one_fails(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sheets=0)
    before = write_report(run).read_bytes()
    (run / "scores.json").write_text("{}")
    with pytest.raises(BrokenFileError):
        write_report(run)
    assert (run / "report.html").read_bytes() == before


# ---------------------------------------------------------------- the extra


def test_importing_needs_no_template_library() -> None:
    code = "import sys; sys.modules['jinja2'] = None; import shiftproof.report"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_writing_without_the_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r'pip install "shiftproof\[report\]"'):
        write_report(write_run(tmp_path / "run", sheets=0))
