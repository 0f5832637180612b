"""The tables of detectors: the same figures as CSV, as LaTeX and in a terminal."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from shiftproof.errors import BrokenFileError
from shiftproof.report import print_table, table_csv, table_latex
from shiftproof.report.grid.tables import write_cells
from shiftproof.runs.scores.grid import GridScores
from shiftproof.runs.scores.reading import convert
from support.detection_report_runs import detector_scores
from support.report_runs import COMMON


def read_csv(text: str) -> dict[str, dict[str, str]]:
    return {row["row"]: row for row in csv.DictReader(io.StringIO(text))}


def printed(content: dict[str, Any]) -> list[str]:
    target = io.StringIO()
    print_table(content, Console(file=target, width=80, color_system=None))
    return target.getvalue().splitlines()


def test_csv_holds_the_figures_in_full_precision() -> None:
    content = detector_scores()
    rows = read_csv(table_csv(content))
    groups = ["mean_noise", "mean_blur", "mean_weather", "mean_digital"]
    assert list(rows) == ["clean", *COMMON, *groups, "mean", "rpc"]
    source, stylised = content["models"]
    (difference,) = content["differences"]
    for number, name in enumerate(COMMON):
        for column, scored in (("plain", source), ("stylised-plain", difference)):
            for suffix, end in (("", "value"), ("_low", "low"), ("_high", "high")):
                expected = scored["corruptions"][number]["figures"]["AP"][end]
                assert float(rows[name][column + suffix]) == expected
    assert float(rows["rpc"]["stylised"]) == stylised["summary"]["rpc"]["value"]
    assert rows["fog"]["measure"] == "AP"


def test_a_partial_grid_has_a_mean_under_its_own_name() -> None:
    content = detector_scores(severities=(1, 3))
    rows = read_csv(table_csv(content))
    assert float(rows["mean"]["plain"]) == content["models"][0]["summary"]["mean"]["value"]
    assert "mPC" not in table_latex(content)
    text = "\n".join(printed(content))
    assert "no mPC: only a part of the grid is there" in text
    assert "Share that is kept" in text


def test_csv_of_every_cell_has_every_number() -> None:
    content = detector_scores()
    scores = convert(content, GridScores, Path("scores.json"))
    rows = list(csv.DictReader(io.StringIO(write_cells(scores))))
    assert len(rows) == 3 * 76
    (row,) = [
        row
        for row in rows
        if (row["model"], row["corruption"], row["severity"]) == ("plain", "fog", "3")
    ]
    assert (row["AP"], row["AP_low"], row["AR100"]) == ("0.29", "0.24", "")
    assert float(row["AP50"]) == pytest.approx(0.49)


def test_the_terminal_holds_every_corruption_and_the_summary() -> None:
    lines = printed(detector_scores())
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert text.isascii()
    assert "..." not in text

    def line(title: str) -> list[str]:
        (found,) = [line for line in lines if line.startswith(f"{title} ")]
        return found.removeprefix(title).split()

    assert line("Clean") == [
        "50.0", "45.0-55.0", "48.0", "43.0-53.0", "-2.0", "-3.0", "to", "-1.0",
    ]  # fmt: skip
    assert line("Fog")[:4] == ["29.0", "24.0-34.0", "32.0", "27.0-37.0"]
    assert line("Mean over noise")[0] == "29.0"
    assert line("mPC")[:2] == ["28.6", "23.6-33.6"]
    assert line("rPC")[2:4] == ["65.8", "60.8-70.8"]
    for name in COMMON:
        assert name.replace("_", " ").lower() in text.lower()
    assert "AP of boxes (COCO, mean over IoU 0.50 to 0.95) in %, 120 images" in text


def test_figures_without_intervals_have_no_ends() -> None:
    content = detector_scores(resampled=False, images=None, missing=("fog-3",))
    rows = read_csv(table_csv(content))
    assert (rows["clean"]["plain"], rows["clean"]["plain_low"]) == ("0.5", "")
    latex = table_latex(content)
    assert r"Clean & 50.0 & 48.0 & $-$2.0 \\" in latex
    assert "bootstrap" not in latex
    text = " ".join(" ".join(printed(content)).split())
    assert "Clean 50.0 48.0 -2.0" in text
    assert "no intervals: there are no images to resample" in text
    assert "None" not in text


def test_latex_says_what_is_measured() -> None:
    latex = table_latex(detector_scores(measure="AP50"))
    assert (
        r"\caption{AP50 (Pascal VOC, 11-point) in \%, severities 1 to 5; 95\,\% intervals from a "
        r"bootstrap over 120 images; differences in percentage points.}"
    ) in latex
    assert r"mPC & 28.6 {\footnotesize (23.6--33.6)} & 31.6" in latex


@pytest.mark.parametrize("write", [table_csv, table_latex, printed])
def test_damaged_scores_are_refused(write: Any) -> None:
    content = detector_scores()
    content["models"][0]["summary"] = None
    with pytest.raises(BrokenFileError, match=r"an object at models\[0\]\.summary"):
        write(content)
