"""What a change costs is said beside what it brings, and a subset says what it bought."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shiftproof import cli
from shiftproof.report import describe_subset
from shiftproof.runs import load_run
from support.page_checks import page_of
from support.report_runs import scores, write_run


def with_costs(**changed: tuple[float, float, float]) -> dict[str, Any]:
    """Scores whose one difference has these headlines: value, low, high."""
    content = scores(models=("source", "BN"))
    summary = content["differences"][0]["summary"]
    for name, (value, low, high) in changed.items():
        summary[name] = {"value": value, "low": low, "high": high}
    return content


def test_a_calibration_error_that_rises_is_said_in_the_lead_and_on_the_card(tmp_path: Path) -> None:
    content = with_costs(
        mean=(-0.1, -0.12, -0.08), clean=(0.02, 0.01, 0.03), calibration_error=(0.034, 0.02, 0.05)
    )
    page = page_of(write_run(tmp_path / "run", content, sheets=0))
    [lead, *_] = [one.text for one in page.all("p", "lead")]
    assert lead.endswith(
        "BN lowers this by 10.0 points. The cost of BN: the clean error rises by 2.0 points and the "
        "calibration error rises by 3.4 points."
    )
    card = page.by_id("overview").text
    assert "The cost: the calibration error rises by 3.4 points (95 % interval +2.0 to +5.0)" in (
        card.replace("\N{NO-BREAK SPACE}", " ")
    )
    assert card.count("The cost: on clean images") == 1


def test_what_may_be_chance_and_what_gets_better_is_no_price(tmp_path: Path) -> None:
    content = with_costs(
        mean=(-0.1, -0.12, -0.08),
        clean=(-0.02, -0.03, -0.01),
        calibration_error=(0.034, -0.01, 0.05),
        rpc=(0.05, 0.01, 0.09),
        mce=(0.2, 0.1, 0.3),
    )
    page = page_of(write_run(tmp_path / "run", content, sheets=0))
    assert "The cost" not in page.text


def test_a_run_of_some_images_says_how_many_and_how_near_that_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = scores(models=("source",), images=5000)
    content["models"][0]["summary"]["mce"] = {"value": 0.7, "low": 0.692, "high": 0.708}
    run = write_run(tmp_path / "run", content, sheets=0)
    assert describe_subset(load_run(run)) is None
    about = json.loads((run / "run.json").read_text(encoding="utf-8"))
    about["settings"]["data"] = {
        "name": "val", "subset": {"images of all": 50000, "rule": "drawn by name"},
    }  # fmt: skip
    (run / "run.json").write_text(json.dumps(about), encoding="utf-8")
    expected = "5,000 of 50,000 images, drawn by name; mCE ±0.8 points."
    assert describe_subset(load_run(run)) == expected
    assert expected in [one.text for one in page_of(run).all("p", "lead")]
    assert cli.run(["report", str(run), "--table", "text"]) == 0
    assert expected in " ".join(capsys.readouterr().out.split())
