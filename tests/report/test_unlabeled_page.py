"""What a page says of images without labels: estimates beside what was measured, and their error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shiftproof.errors import BrokenFileError
from shiftproof.report import write_report
from support.detection_report_runs import detector_scores, write_detector_run
from support.page_checks import page_of

NAME = detector_scores()["models"][0]["name"]


def belief(**changes: Any) -> dict[str, Any]:
    worst = {"cell": "fog-3", "estimate": 0.5, "truth": 0.375}
    off = {"cells": 2, "mean absolute error": 0.082, "bias": 0.042, "worst": worst}
    cells = [
        {"cell": "fog-3", "truth": 0.375, "estimates": {"confidence": 0.5}},
        {"cell": "fog-1", "truth": 0.44, "estimates": {"confidence": 0.4}},
    ]
    return {
        "format": 1,
        "measure": "AP50",
        "clean": 0.61,
        "labeled": 40,
        "images": 7,
        "estimates": {"confidence": 0.33},
        "quality": {"confidence": off},
        "cells": cells,
        **changes,
    }


def write(folder: Path, content: Any) -> Path:
    run = write_detector_run(folder, sheets=0, worst=0)
    (folder / "unlabeled.json").write_text(json.dumps(content), encoding="utf-8")
    return run


def test_an_estimate_stands_beside_what_was_measured_and_its_error(tmp_path: Path) -> None:
    section = page_of(write(tmp_path / "run", {NAME: belief()})).by_id("unlabeled")
    assert "AP50 61.0 % measured on 40 clean labeled images" in section.text.replace("\xa0", " ")
    rows = [[cell.text for cell in row.all("td")] for row in section.all("tr") if row.all("td")]
    assert rows[0] == [
        *("from confidences", "61.0", "33.0", "8.2", "+4.2"),
        *("Fog, severity 3", "50.0", "37.5"),
    ]
    assert rows[1:] == [["Fog, severity 3", "37.5", "50.0"], ["Fog, severity 1", "44.0", "40.0"]]


def test_an_error_that_was_not_measured_is_said_to_be_so(tmp_path: Path) -> None:
    content = {NAME: belief(quality={}, cells=[])}
    section = page_of(write(tmp_path / "run", content)).by_id("unlabeled")
    assert "was not measured" in section.text


def test_a_page_without_estimates_has_no_such_section(tmp_path: Path) -> None:
    page = page_of(write_detector_run(tmp_path / "run", sheets=0, worst=0))
    assert not [node for node in page.walk() if node.attributes.get("id") == "unlabeled"]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ([], "unlabeled.json"),
        ({NAME: belief(clean=61)}, "clean"),
        ({NAME: belief(format=9)}, "format"),
        ({NAME: belief(estimates={"confidence": "much"})}, "estimates"),
    ],
)
def test_a_file_that_was_edited_is_refused(tmp_path: Path, content: Any, place: str) -> None:
    with pytest.raises(BrokenFileError, match=place):
        write_report(write(tmp_path / "run", content), tmp_path / "page.html")
