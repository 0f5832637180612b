"""Errors without labels on the page: estimated against true errors, and estimates for a stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shiftproof.bench.estimates.error_estimates import (
    CellEstimate,
    EstimatedCell,
    ModelEstimate,
    Quality,
    StreamEstimate,
)
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.metrics import Interval
from shiftproof.report import write_report
from shiftproof.report.classification import wording
from shiftproof.types import CLEAN, Cell
from support.page_reading import Node, parse
from support.report_runs import GUESSES, scores, with_guesses, write_run


def page_of(run: Path, **options: Any) -> Node:
    return parse(write_report(run, **options).read_text(encoding="utf-8"))


def rows_of(table: Node) -> list[list[str]]:
    return [[cell.text for cell in row.inside("td")] for row in table.one("tbody").all("tr")]


# ---------------------------------------------------------------- a run with labels


def test_every_guess_stands_beside_the_truth(tmp_path: Path) -> None:
    content = with_guesses(scores())
    section = page_of(write_run(tmp_path / "run", content, sheets=0)).by_id("estimators")
    assert rows_of(section.one("table", "cells")) == [
        [
            model["name"],
            f"{(cell['corruption'][:1].upper() + cell['corruption'][1:]).replace('_', ' ')}, "
            f"severity {cell['severity']}".replace("Jpeg", "JPEG"),
            f"{100 * cell['figures']['error']['value']:.1f}",
            *(
                f"{100 * guesses_of(model, cell)[name]:.1f}"
                if name in guesses_of(model, cell)
                else "–"
                for name in GUESSES
            ),
        ]
        for model in content["models"]
        for cell in model["cells"]
    ]


def test_how_far_each_guess_is_off_is_said(tmp_path: Path) -> None:
    content = with_guesses(scores())
    section = page_of(write_run(tmp_path / "run", content, sheets=0)).by_id("estimators")
    rows = rows_of(section.one("table", "estimators"))
    entries = [
        (model, entry) for model in content["models"] for entry in model["detail"]["estimators"]
    ]
    assert len(rows) == len(entries) == 5
    for row, (model, entry) in zip(rows, entries, strict=True):
        assert row[:5] == [
            model["name"],
            entry["title"].capitalize(),
            f"{100 * entry['mean_absolute_error']:.1f}",
            f"{100 * entry['root_mean_square']:.1f}",
            f"−{-100 * entry['bias']:.1f}",
        ]
        assert row[5].endswith(f"severity {entry['worst']['severity']}")
        assert row[6:] == [
            f"{100 * entry['worst']['estimate']:.1f}",
            f"{100 * entry['worst']['error']:.1f}",
        ]
    best = min(
        content["models"][0]["detail"]["estimators"], key=lambda entry: entry["root_mean_square"]
    )
    assert (
        f"For source the {best['title']} comes nearest: it is off by "
        f"{100 * best['mean_absolute_error']:.1f} points on average over 75 cells"
    ) in section.text
    assert "too optimistic" in section.text


def test_marks_lie_where_guess_and_truth_say(tmp_path: Path) -> None:
    content = with_guesses(scores(models=("source", "BN"), corruptions=("fog",)))
    section = page_of(write_run(tmp_path / "run", content, sheets=0)).by_id("estimators")
    charts = section.all("svg", "scatter")
    assert len(charts) == 3
    for chart, name in zip(charts, GUESSES, strict=True):
        [line] = chart.all("line", "agree")
        x1, y1, x2, y2 = (float(line.attributes[end]) for end in ("x1", "y1", "x2", "y2"))
        # The axis ends at a round number that the largest figure of all panels fits under.
        top = float(chart.all("text")[-4].raw) / 100
        model = content["models"][name == "disagreement"]
        marks = chart.all("rect", "mark") if name == "disagreement" else chart.all("circle", "mark")
        assert len(marks) == 5
        for mark, cell in zip(marks, model["cells"], strict=True):
            if mark.tag == "circle":
                x, y = float(mark.attributes["cx"]), float(mark.attributes["cy"])
            else:
                half = float(mark.attributes["width"]) / 2
                x, y = float(mark.attributes["x"]) + half, float(mark.attributes["y"]) + half
            assert (x - x1) / (x2 - x1) * top == pytest.approx(
                cell["figures"]["error"]["value"], abs=0.002
            )
            estimate = guesses_of(model, cell)[name]
            assert (y - y1) / (y2 - y1) * top == pytest.approx(estimate, abs=0.002)
            assert f"{100 * estimate:.1f}" in mark.one("title").raw


def test_every_scatter_says_what_it_shows(tmp_path: Path) -> None:
    content = with_guesses(scores())
    section = page_of(write_run(tmp_path / "run", content, sheets=0)).by_id("estimators")
    for chart in section.all("svg", "scatter"):
        assert chart.attributes["role"] == "img"
        assert "75 cells" in chart.attributes["aria-label"]


def test_a_run_without_guesses_has_no_such_section(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "run", scores(), sheets=0))
    assert not [node for node in page.all("section") if node.attributes["id"] == "estimators"]


def guesses_of(model: dict[str, Any], cell: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = model["detail"]["estimates"][
        f"{cell['corruption']}-{cell['severity']}"
    ]
    return found


def put(place: Callable[[dict[str, Any]], tuple[dict[str, Any], str]], value: Any) -> Any:
    content = with_guesses(scores(models=("source",), corruptions=("fog",)))
    node, key = place(content["models"][0])
    node[key] = value
    return content


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            put(lambda model: (model["detail"]["estimates"]["fog-2"], "atc"), 1.5),
            r"a number <= 1 at models\[0\].detail.estimates.fog-2.atc",
        ),
        (
            put(lambda model: (model["detail"]["estimates"], "fog-2"), [1]),
            r"an object at models\[0\].detail.estimates.fog-2",
        ),
        (
            put(lambda model: (model["detail"]["estimators"][0], "worst"), {}),
            r"models\[0\].detail.estimators\[0\].worst.corruption",
        ),
        (
            put(lambda model: (model["detail"]["estimators"][1], "bias"), "low"),
            r"a number at models\[0\].detail.estimators\[1\].bias",
        ),
    ],
)
def test_damaged_guesses_are_named_by_place(
    content: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(BrokenFileError, match=says):
        write_report(write_run(tmp_path / "run", content, sheets=0))


def test_no_guess_gets_around_the_escaping(tmp_path: Path) -> None:
    content = with_guesses(scores(models=("<b>m</b>",), corruptions=("fog",)))
    content["models"][0]["title"] = "<b>m</b>"
    entry = content["models"][0]["detail"]["estimators"][0]
    entry["title"], entry["worst"]["corruption"] = "<i>t</i>", "<u>w</u>"
    section = page_of(write_run(tmp_path / "run", content, sheets=0)).by_id("estimators")
    assert not [node for node in section.walk() if node.tag in ("i", "u")]
    assert "<b>m</b>" in section.text
    assert "<i>t</i>" in section.text


# ---------------------------------------------------------------- a stream without labels


def estimated(
    value: float, *, reach: float = 0.06, other: float | None = None, images: int = 500,
    max_error: float = 0.9,
) -> StreamEstimate:  # fmt: skip
    """The estimates of one model: wrong on ``value``, by a second estimator on ``other``."""

    def ends(center: float) -> Interval:
        return Interval(center, max(0.0, center - reach), min(1.0, center + reach))

    estimates = {"atc": ends(value), "doc": ends(value if other is None else other)}
    quality = Quality(75, 0.021, 0.03, -0.01, 71, EstimatedCell(Cell("glass_blur", 5), 0.61, 0.73))
    return StreamEstimate(
        models=(
            ModelEstimate(
                "source", "atc", dict.fromkeys(estimates, quality), max_error,
                (CellEstimate(CLEAN, images, estimates), CellEstimate(Cell("fog", 3), 9, estimates)),
            ),
        ),
        calibration=Path("somewhere/labeled"),
        images=2000,
        corruptions=("fog", "glass_blur"),
        severities=(1, 2, 3, 4, 5),
    )  # fmt: skip


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Node]:
    run = write_run(tmp_path / "run", scores(models=("source",), labeled=False), sheets=0)

    def build(stream: StreamEstimate) -> Node:
        monkeypatch.setattr("shiftproof.bench.estimate_stream", lambda run, calibration: stream)
        return page_of(run, calibration=tmp_path)

    return build


def test_the_belief_is_said_with_what_it_rests_on(page: Callable[..., Node]) -> None:
    seen = page(estimated(0.29))
    header = seen.one("header").text
    assert (
        "EfficientNet-Lite0 is estimated to be right on 71 ± 6 % of your original images." in header
    )
    assert "Outside “How accurate is it on your images?” every percentage is" in header
    section = seen.by_id("estimate")
    assert section.one(style="big").text == "71 ± 6 % 65.0–77.0"
    for words in (
        "Average thresholded confidence",
        "Fitted on 2,000 labeled images of the run “labeled”",
        "In its 75 corrupted cells, where the error is known, this estimator was off by 3.0 points",
        "at worst by 12.0 (Glass blur, severity 5: 73.0 % of the predictions were wrong, and the "
        "estimate was 61.0 %)",
        "In 71 of these 75 cells the error was within 1.96 times the root mean square",
        "When not to trust it",
        "the corruptions on which the estimator was validated (Fog and Glass blur; severities 1 to 5)",
    ):
        assert words in section.text
    assert not section.all(style="alarm")
    assert rows_of(section.one("table", "cells"))[0] == [
        "EfficientNet-Lite0", "Clean", "Average thresholded confidence", "500", "71.0", "65.0–77.0",
    ]  # fmt: skip


def test_a_belief_that_is_too_wide_is_not_put_as_a_number(page: Callable[..., Node]) -> None:
    seen = page(estimated(0.29, reach=0.25))
    assert "cannot be estimated without labels: anything within 46–96 % is plausible." in seen.text
    assert "is estimated to be right" not in seen.text
    assert seen.by_id("estimate").one(style="big").text == "46–96 % too wide to be of use"


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (
            estimated(0.5, max_error=0.45),
            "exceeds all errors measured with labels (at most 45.0 % wrong)",
        ),
        (estimated(0.3, other=0.5), "difference of confidences says 50 ± 6 %, which contradicts"),
        (estimated(0.3, images=99), "only 99 images"),
    ],
)
def test_what_speaks_against_a_belief_is_said(
    page: Callable[..., Node], stream: StreamEstimate, says: str
) -> None:
    [alarm] = page(stream).by_id("estimate").all(style="alarm")
    assert says in alarm.text


def test_a_calibration_needs_one_run_without_labels(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", scores(), sheets=0)
    with pytest.raises(InputError, match="its errors are measured and need no estimate"):
        write_report(run, calibration=run)
    blind = write_run(tmp_path / "blind", scores(labeled=False), sheets=0)
    with pytest.raises(InputError, match="Expected one run to calibrate, got 2"):
        write_report([blind, blind], calibration=run)


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.713, "71"), (0.0061, "1"), (0.004, "0.4"), (0.0, "0"), (0.0002, "0"), (1.0, "100")],
)
def test_a_guess_has_no_more_digits_than_it_deserves(fraction: float, text: str) -> None:
    assert wording.round_percent(fraction) == text


@pytest.mark.parametrize(
    ("bias", "says"),
    [(-0.02, "optimistic"), (0.02, "pessimistic"), (0.004, "no bias"), (-0.004, "no bias")],
)
def test_a_guess_leans_to_a_side(bias: float, says: str) -> None:
    assert says in wording.describe_bias(bias)
