"""Figures in their own unit: their digits, the axes that hold them, and a page of a loss."""

import copy
import math
import re

import pytest

from shiftproof.metrics.intervals import Interval
from shiftproof.report import table_latex, write_report
from shiftproof.report.svg import charts as figures
from shiftproof.report.wording import NATS, NUMBERS, SHARES
from support.report_runs import measure_of, scores, write_run


@pytest.mark.parametrize(
    ("number_format", "value", "figure", "change", "signed"),
    [
        (SHARES, 0.5789, "57.9", "+57.9", "57.9\N{NO-BREAK SPACE}%"),
        (SHARES, -0.0004, "0.0", "0.0", "0.0\N{NO-BREAK SPACE}%"),
        (NATS, 0.6149, "0.61", "+0.61", "0.61\N{NO-BREAK SPACE}nats"),
        (NATS, -0.001, "0.00", "0.00", "0.00\N{NO-BREAK SPACE}nats"),
        (NUMBERS, 17.393, "17.4", "+17.4", "17.4"),
        (NUMBERS, -1739.3, "−1739.3", "−1739.3", "−1739.3"),
        (NUMBERS, 1.7393, "1.74", "+1.74", "1.74"),
        (NUMBERS, 0.17393, "0.17", "+0.17", "0.17"),
        (NUMBERS, 0.017393, "0.017", "+0.017", "0.017"),
        (NUMBERS, 0.99999, "1.00", "+1.00", "1.00"),
        (NUMBERS, 0, "0.0", "0.0", "0.0"),
        (NUMBERS, -2.5e7, "−2.5e+07", "−2.5e+07", "−2.5e+07"),
        (NUMBERS, 3e-9, "3e−09", "+3e−09", "3e−09"),
        (NUMBERS, None, "–", "–", "–"),
    ],
)
def test_the_digits(number_format, value, figure, change, signed):
    assert number_format.figure(value) == figure
    assert number_format.change(value) == change
    assert number_format.with_sign(value) == signed


def test_the_ends_of_an_interval():
    drop = Interval(-2.3125, -3.5, 0.25)
    assert SHARES.change_with_span(Interval(-0.1, -0.14, -0.06)) == "−10.0 points (−14.0 to −6.0)"
    assert NATS.change_with_span(drop) == "−2.31 nats (−3.50 to +0.25)"
    assert NUMBERS.change_with_span(drop) == "−2.31 (−3.50 to +0.25)"
    assert NUMBERS.with_span(Interval(12.5)) == "12.5"
    assert NUMBERS.span(Interval(-2.0, -2.5, -1.25)) == "−2.50 to −1.25"
    assert NATS.span(None) == ""


@pytest.mark.parametrize("highest", [1e-6, 0.07, 1.0, 1.01, 9.99, 17.4, 101, 255, 3.3e6])
def test_an_axis_of_numbers_holds_the_largest_without_wasting_half(highest):
    top = figures.choose_top(highest, NUMBERS)
    assert highest <= top * (1 + 1e-12)
    assert top < 2 * highest
    assert all(len(NUMBERS.tick(top * step / 4)) <= 7 for step in range(5))


def test_an_axis_begins_below_0_where_there_are_such_figures():
    low, top = figures.choose_axis_range([Interval(-3.0, -7.5, 1.0), None, Interval(11.0)], NUMBERS)
    assert (low, top) == (-8, 12)
    assert figures.choose_axis_range([Interval(-3.0)], NUMBERS) == (pytest.approx(-3.2), 0)
    assert figures.choose_axis_range([Interval(-0.01, -0.1, 1.01)], SHARES) == (0, 1)
    assert figures.choose_axis_range([], NUMBERS) == (0, 1)
    assert figures.choose_axis_range([Interval(0.0)], NUMBERS) == (0, 1)


def in_unit(unit, scale):
    """The scores of the simulated run as figures of another unit, all times ``scale``."""
    content = copy.deepcopy(scores(images=120))
    content["kind"] = "gauge"
    for headline in content["headlines"]:
        headline["unit"] = unit if headline["name"] in ("clean", "mean") else "share"
    content["measures"] = [measure_of("error", "error", unit, None) | {"low": None}]

    def rescale(figures_of):
        for figure in figures_of.values():
            for end in ("value", "low", "high"):
                if figure is not None:
                    figure[end] *= scale
        if scale < 0:
            for figure in figures_of.values():
                if figure is not None:
                    figure["low"], figure["high"] = figure["high"], figure["low"]

    for one in (*content["models"], *content["differences"]):
        rescale({name: one["summary"][name] for name in ("clean", "mean")})
        for row in (one["clean"], *one["cells"], *one["corruptions"]):
            rescale(row["figures"])
    return content


def test_a_page_of_a_loss_is_in_nats(tmp_path):
    content = in_unit("nats", 4)
    page = write_report(write_run(tmp_path / "run", content, sheets=0, kind="gauge")).read_text(
        encoding="utf-8"
    )
    assert (
        "error 0.60\N{NO-BREAK SPACE}nats on clean images and 1.96\N{NO-BREAK SPACE}nats under"
        in page
    )
    assert "lowers this by 0.15 nats" in page
    overview = page.partition('id="overview"')[2].partition("</section>")[0]
    assert re.findall(r'class="value">([^<]*)</span><span class="unit">([^<]*)<', overview)[0] == (
        "0.60",
        " nats",
    )
    assert "nats of error, better to worse" in page
    assert "nats, better to worse" in page
    assert "in nats, with 95" in page
    latex = table_latex(content)
    assert "Error in nats, severities 1 to 5" in latex
    assert "differences in nats" in latex
    assert re.search(r"mCE & \d+\.\d\\,\\% ", latex)
    assert re.search(r"Clean & 0\.60 ", latex)


def test_figures_below_0_stay_on_their_axes(tmp_path):
    content = in_unit("number", -30)
    page = write_report(write_run(tmp_path / "run", content, sheets=0, kind="gauge")).read_text(
        encoding="utf-8"
    )
    curves = page.partition('id="curves"')[2].partition("</section>")[0]
    heights = [float(y) for y in re.findall(r'c?y1?="([-\d.]+)"', curves)]
    for points in re.findall(r'points="([^"]*)"', curves):
        heights += [float(pair.split(",")[1]) for pair in points.split()]
    assert all(0 <= height <= 136 for height in heights)
    widths = re.findall(r'class="bar m\d" x="0" y="[\d.]+" width="([\d.]+)%"', page)
    assert len({round(float(width)) for width in widths}) > 5
    assert not any(math.isclose(float(width), 0) for width in widths)
