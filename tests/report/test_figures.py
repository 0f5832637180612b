"""Figures that stand alone."""

from xml.etree import ElementTree

import pytest

from shiftproof.errors import InputError
from shiftproof.metrics import Interval
from shiftproof.report import draw_bars, draw_curves

SVG = "{http://www.w3.org/2000/svg}"


def test_a_curve_goes_through_its_figures():
    rows = {"a": [Interval(0.0), Interval(0.2), Interval(0.4)], "b": [None, Interval(0.4), None]}
    drawing = ElementTree.fromstring(draw_curves(["1", "8", "64"], rows, title="T < U", axis="n"))
    assert drawing.find(f"{SVG}title").text == "T < U"
    # From 48 to 624 pixels across; 0 at 254, and the top of the axis, 40 %, at 14.
    first, second = drawing.findall(f"{SVG}polyline")
    assert first.get("points") == "48.0,254.0 336.0,134.0 624.0,14.0"
    assert second.get("points") == "336.0,14.0"
    words = [mark.text for mark in drawing.iter(f"{SVG}title")][1:]
    assert words[1] == "a, 8: 20.0\N{NO-BREAK SPACE}%"


def test_bars_of_changes_say_which_are_better():
    rows = {
        "better": Interval(-0.2, -0.3, -0.1),
        "worse": Interval(0.1, 0.05, 0.2),
        "neither": Interval(0.1, -0.1, 0.2),
        "not measured": None,
    }
    drawing = ElementTree.fromstring(draw_bars(rows, title="Change", signed=True))
    bars = [bar.get("class") for bar in drawing.iter(f"{SVG}rect")][1:]
    assert bars == ["bar better", "bar worse", "bar flat"]
    assert any(text.text == "not measured" for text in drawing.iter(f"{SVG}text"))


def test_a_row_needs_a_figure_for_each_column():
    with pytest.raises(InputError, match="each of 2 columns, got 1 for 'a'"):
        draw_curves(["1", "8"], {"a": [Interval(0.1)]}, title="T")
