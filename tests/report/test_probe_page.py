"""The page and the table of a probe: its numbers, its words, its pictures, what it refuses."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from shiftproof.errors import BrokenFileError
from shiftproof.report import print_table, table_csv, table_latex, write_report
from support.browser_visits import CHROMIUM, visit
from support.page_reading import Node, parse

FACTORS = {
    "hue": ("Hue", "color", -0.2, 0.2, "turns", False),
    "brightness": ("Brightness", "color", 0.4, 1.6, "factor", False),
    "flip": ("Flip", "geometry", 0, 1, "no or yes", True),
    "fog_severity": ("Fog", "weather", 1, 5, "severity", False),
    "jpeg_compression_severity": ("JPEG compression", "texture", 1, 5, "severity", False),
}

KEPT = {
    # Beside the unchanged image, and the verdict.
    "net": {
        "hue": (0.02, "collapsed"),
        "brightness": (0.92, "kept"),
        "flip": (0.0, "unread"),
        "fog_severity": (0.5, "kept"),
        "jpeg_compression_severity": (0.05, "undecided"),
    },
    "other": {
        "hue": (0.4, "kept"),
        "brightness": (0.9, "kept"),
        "flip": (0.0, "unread"),
        "fog_severity": (0.0, "hidden"),
        "jpeg_compression_severity": (0.03, "undecided"),
    },
    "net-random": dict.fromkeys(FACTORS, (0.3, None)),
    "pixels": dict.fromkeys(FACTORS, (0.25, None)),
}


def interval(value: float, low: float = 0.0) -> dict[str, float]:
    return {"value": value, "low": max(value - 0.05, low), "high": min(value + 0.05, 1.0)}


def model(name: str, title: str, control: str | None, of: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "title": title,
        "control": control,
        "of": of,
        "factors": {
            factor: {
                "beside": interval(value),
                "alone": interval(value / 2),
                "network": interval(value),
                **({} if verdict is None else {"verdict": verdict}),
            }
            for factor, (value, verdict) in KEPT[name].items()
        },
    }


def probe_scores(*, used: int = 20) -> dict[str, Any]:
    def change(name: str, against: str) -> dict[str, Any]:
        return {
            "name": name,
            "against": against,
            "factors": {
                factor: {
                    "beside": interval(KEPT[name][factor][0] - KEPT[against][factor][0], -1.0),
                    "alone": interval(0.0, -1.0),
                    "network": None,
                }
                for factor in FACTORS
            },
        }

    return {
        "format": 2,
        "kind": "probe",
        "measure": "kept",
        "interval": {"level": 0.95, "method": "bootstrap", "replicates": 1000, "seed": 0},
        "images": {"total": used, "used": used, "broken": [], "versions": 6},
        "collapsed_below": 0.1,
        "factors": [
            {
                "name": name, "title": title, "group": group, "low": low, "high": high,
                "unit": unit, "binary": binary,
            }
            for name, (title, group, low, high, unit, binary) in FACTORS.items()
        ],
        "models": [
            model("net", "A network", None, None),
            model("other", "Another", None, None),
            model("net-random", "random weights", "random", "net"),
            model("pixels", "16 × 16 pixels", "pixels", None),
        ],
        "differences": [change("other", "net"), change("net", "pixels")],
    }  # fmt: skip


def write_probe(path: Path, scores: dict[str, Any] | None = None) -> Path:
    path.mkdir(parents=True)
    head = {
        "format": 1,
        "kind": "probe",
        "settings": {"data": {"name": "photos", "fingerprint": "ab"}, "versions": 6, "seed": 0},
        "provenance": {"started": "2026-01-02T03:04:05+00:00"},
    }
    (path / "run.json").write_text(json.dumps(head))
    (path / "scores.json").write_text(json.dumps(scores or probe_scores()))
    (path / "gallery" / "hue").mkdir(parents=True)
    pictures = []
    for number, value in enumerate((-0.2, 0.0, 0.2)):
        pixels = np.full((20, 20, 3), 80 * number, np.uint8)
        Image.fromarray(pixels).save(path / "gallery" / "hue" / f"{number}.jpg")
        pictures.append({"value": value, "file": f"gallery/hue/{number}.jpg"})
    strips = [{"factor": "hue", "id": "cat.jpg", "pictures": pictures}]
    (path / "gallery.json").write_text(json.dumps({"strips": strips}))
    return path


def page_of(run: Path | list[Path]) -> Node:
    return parse(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_probe(tmp_path_factory.mktemp("probe") / "run")


@pytest.fixture(scope="module")
def page(written: Path) -> Node:
    return page_of(written)


def test_the_lead_says_what_is_kept_and_what_is_not(page: Node) -> None:
    first, second = (node.text for node in page.all(style="lead"))
    assert first == (
        "A network keeps 92.0 % of brightness and 50.0 % of fog. It has collapsed hue. Controls keep "
        "30.0 % of hue (an untrained network, by a linear probe). Whether it keeps JPEG compression "
        "is unclear from 20 images. Neither the encoder nor the controls predict flip, so these "
        "images say nothing about the encoder there."
    )
    assert second.startswith("Another keeps 90.0 % of brightness and 40.0 % of hue. Only a network")
    assert page.one("h1").text == "What A network and Another keep"
    assert page.one(style="byline").text == (
        "run run · 20 images · 5 factors · 6 versions · photos · 2026-01-02"
    )


def test_few_images_are_said_to_be_few(page: Node, tmp_path: Path) -> None:
    (note,) = page.all(style="warning")
    assert "Only 20 images" in note.text
    assert "a lower bound" in note.text
    many = page_of(write_probe(tmp_path / "run", probe_scores(used=100)))
    assert not many.all(style="warning")


def test_bars_stand_in_groups_most_first_beside_both_controls(page: Node) -> None:
    anchors = [link.attributes["href"] for link in page.one("nav").all("a")]
    assert anchors[:6] == [
        "#overview", "#next", "#geometry", "#color", "#texture", "#weather",
    ]  # fmt: skip
    rows = [row for row in page.by_id("color").all("tr") if row.inside("td")]
    assert [row.inside("th")[0].text for row in rows] == ["Brightness", "Hue"]
    hue = rows[1]
    assert [cell.text for cell in hue.all("td", "number")] == [
        "2.0 0.0–7.0", "40.0 35.0–45.0", "30.0 25.0–35.0", "25.0 20.0–30.0",
    ]  # fmt: skip
    widths = [bar.attributes["width"] for bar in hue.all("rect", "bar")]
    assert widths == ["2%", "40%", "30%", "25%"]
    assert "−0.2 to 0.2, turns · net: collapsed, other: kept" in hue.text


def test_the_overview_lists_verdicts_and_compares_beyond_chance(page: Node) -> None:
    overview = page.by_id("overview")
    shown = [(line.one("dt").text, line.one("dd").text) for line in overview.all("div")]
    # Five verdicts for each of two encoders, none for the controls.
    assert len(shown) == 10
    assert shown[:5] == [
        ("Kept (2)", "Brightness; Fog"),
        ("Only by a network", "nothing"),
        ("Collapsed (1)", "Hue"),
        ("Undecided (1)", "JPEG compression"),
        ("Read by nothing (1)", "Flip"),
    ]
    # Brightness differs by 2 points and JPEG by 2, within intervals of 5.
    assert [line.text for line in overview.all("p")] == [
        "other keeps more of hue (+38.0) and less of fog (−50.0) than net, in percentage points.",
        "net keeps more of brightness (+67.0) and fog (+25.0) and less of flip (−25.0), hue (−23.0) "
        "and JPEG compression (−20.0) than pixels, in percentage points.",
    ]


def test_every_reading_is_listed_and_every_factor_pictured(page: Node) -> None:
    rows = [[cell.text for cell in row.all("td")] for row in page.one("table", "cells").all("tr")]
    assert len(rows) == 1 + 4 * 5
    assert ["net", "Fog", "50.0 45.0–55.0", "25.0 20.0–30.0", "50.0 45.0–55.0", "kept"] in rows
    strip = page.by_id("strips")
    assert [cell.text for cell in strip.all("figcaption")] == ["−0.2", "0", "0.2"]
    images = strip.all("img")
    assert all(image.attributes["src"].startswith("data:image/jpeg") for image in images)
    assert images[0].attributes["alt"] == "Hue at −0.2"


def test_the_table_is_written_three_ways() -> None:
    lines = table_csv(probe_scores()).splitlines()
    assert lines[0].startswith("row,group,measure,net,net_low,net_high,other,")
    assert lines[0].endswith("other-net,other-net_low,other-net_high")
    assert "brightness,color,kept,0.92,0.87," in lines[2]
    assert r"Brightness & 92.0 {\footnotesize (87.0--97.0)}" in table_latex(probe_scores())
    console = Console(file=io.StringIO(), width=100)
    print_table(probe_scores(), console)
    assert isinstance(console.file, io.StringIO)
    printed = " ".join(console.file.getvalue().split())
    assert "JPEG compression 5.0 0.0-10.0" in printed
    assert "A network keeps 92.0 % of brightness and 50.0 % of fog." in printed
    assert "few images" in printed


def test_two_runs_stand_side_by_side(written: Path, tmp_path: Path) -> None:
    other = write_probe(tmp_path / "second", probe_scores(used=40))
    both = page_of([other, written])
    assert both.one("h1").text == "What A network and Another keep"
    assert "images used (second: 40; run: 20)" in both.one(style="alarm").text
    assert "run: net" in both.by_id("color").text


def test_another_kind_is_a_part_of_its_own(written: Path, tmp_path: Path) -> None:
    from support.report_runs import write_run

    page = page_of([written, write_run(tmp_path / "classifier", sheets=0)])
    assert [part.all("h2")[0].text for part in page.all("article")] == [
        "What A network and Another keep", "EfficientNet-Lite0 under 15 corruptions",
    ]  # fmt: skip


def changed(where: list[Any], value: Any) -> dict[str, Any]:
    content = copy.deepcopy(probe_scores())
    target: Any = content
    for key in where[:-1]:
        target = target[key]
    target[where[-1]] = value
    return content


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (["factors", 0, "group"], "taste", "invalid enum value"),
        (["models", 0, "factors", "hue", "verdict"], "great", "invalid enum value"),
        (["models", 0, "factors", "hue", "beside"], {"value": 92, "low": 90, "high": 95}, "0 to 1"),
        (["models", 0, "factors"], {}, "a figure for each of the factors"),
        (["models"], [], "at least one encoder"),
        (["differences", 0, "against"], "nobody", "a difference between two of the models"),
        (["images", "versions"], "six", "a whole number"),
    ],
)
def test_damage_is_named(tmp_path: Path, where: list[Any], value: Any, message: str) -> None:
    run = write_probe(tmp_path / "run", changed(where, value))
    with pytest.raises(BrokenFileError, match=message):
        write_report(run)


def test_controls_alone_are_no_probe(tmp_path: Path) -> None:
    content = probe_scores()
    content["models"] = content["models"][2:]
    content["differences"] = []
    with pytest.raises(BrokenFileError, match="at least one encoder"):
        write_report(write_probe(tmp_path / "run", content))


@pytest.mark.skipif(CHROMIUM is None, reason="no browser found on the path")
def test_the_page_opens_without_a_word_and_without_a_request(written: Path, tmp_path: Path) -> None:
    seen = visit(write_report(written, tmp_path / "page.html"), tmp_path / "visit")
    assert seen.console == []
    assert seen.requests == []


def test_the_next_step_is_about_what_collapsed_and_what_is_undecided(page: Node) -> None:
    text = page.by_id("next").text
    assert "Do not use" in text
    assert "needs hue" in text
    assert "To decide about JPEG compression" in text
