import pytest

from shiftproof.errors import BrokenFileError
from shiftproof.metrics import Interval
from shiftproof_reproduce.formatting import format_figure, list_corruptions
from shiftproof_reproduce.rendering import draw, write_markdown
from shiftproof_reproduce.result import Result, Table, read_result, write_result
from shiftproof_reproduce.verdicts import above, at_most, below, judge


@pytest.mark.parametrize(
    ("interval", "under", "over", "limited"),
    [
        ((-0.2, -0.3, -0.1), "yes", "no", "yes"),
        ((-0.2, -0.5, 0.1), "undecided", "undecided", "yes"),
        ((0.005, -0.1, 0.1), "undecided", "undecided", "yes"),
        ((0.05, -0.1, 0.2), "undecided", "undecided", "undecided"),
        ((0.2, 0.1, 0.3), "no", "yes", "no"),
        ((0.0, 0.0, 0.0), "undecided", "undecided", "yes"),
    ],
)
def test_a_verdict_claims_no_more_than_the_interval(interval, under, over, limited):
    figure = Interval(*interval)
    assert below(figure) == under
    assert above(figure) == over
    assert at_most(figure, 0.01) == limited


def test_figures_are_spelt_with_their_unit():
    assert format_figure(Interval(0.174, 0.169, 0.18), "error") == "17.4 (16.9–18.0)"
    assert format_figure(Interval(-0.02, -0.03, 0.01), "change") == "−2.0 (−3.0 to +1.0)"
    assert format_figure(Interval(0.5, 0.5, 0.5), "error") == "50.0"
    assert format_figure(Interval(12, 12, 12), "number") == "12"
    assert format_figure(None, "error") == "–"


def test_a_finding_says_its_figure_and_its_verdict():
    figure = Interval(-0.02, -0.03, -0.01)
    found = judge("gain", "It gains", "a paper", figure, "{} points", holds=below)
    assert (found.ours, found.holds, found.figure) == ("−2.0 (−3.0 to −1.0) points", "yes", figure)
    limited = judge("gain", "It gains", "a paper", figure, "{}", holds=below, limit=-0.025)
    assert limited.holds == "undecided"
    missing = judge("gain", "It gains", "a paper", None, "{} points", holds=below)
    assert (missing.ours, missing.holds) == ("– points", "undecided")


def test_corruptions_in_a_sentence():
    assert list_corruptions(["gaussian_noise", "jpeg_compression", "fog"]) == (
        "Gaussian noise, JPEG compression and fog"
    )


def test_a_table_as_markdown():
    table = Table("t", "T", "n", ["1", "8"], ["a"], [[Interval(0.1, 0.1, 0.1), None]])
    assert write_markdown(table) == "| n | 1 | 8 |\n|---|---:|---:|\n| a | 10.0 | – |"


@pytest.mark.parametrize("unit", ["error", "change"])
def test_a_figure_can_have_holes_and_odd_names(unit):
    value = Interval(0.1, -0.1, 0.3)
    for drawing in ("bars", "curves"):
        table = Table("t", "T < U", "n", ["1", "8"], ["a & b", "c"],
                      [[value, None], [None, value]], unit=unit, drawing=drawing)  # fmt: skip
        text = draw(table)
        assert "T &lt; U" in text
        assert "a &amp; b" in text


def test_what_is_no_result_is_refused(tmp_path):
    path = tmp_path / "result.json"
    for content in ('{"format": 9}', "[]", '{"format": 1, "tables": [{}], "findings": []}', "{"):
        path.write_text(content)
        with pytest.raises(BrokenFileError, match=r"result\.json"):
            read_result(path)


def test_a_result_of_another_format_is_refused(tmp_path):
    path = tmp_path / "result.json"
    result = Result("r", "small", "R", "", {}, {}, [], [])
    write_result(result, path)
    assert read_result(path) == result
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(BrokenFileError, match="another format"):
        read_result(path)
