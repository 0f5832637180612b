"""The page on corruptions: its code runs, and its tables are those of the measurements."""

import json
import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "corruptions.md").read_text(encoding="utf-8")
RESULTS = ROOT / "benchmarks" / "results" / "corruptions.json"


def test_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(block, "docs/corruptions.md", "exec"), names)
    assert names["inverted"].shape == (120, 160, 3)
    assert len(names["frames"]) == 4


def test_tables_are_generated_from_the_measurements():
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "corruptions.py"))
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    assert benchmark["summary"](rows).strip() in PAGE
    svg = (ROOT / "docs" / "corruptions-speed.svg").read_text(encoding="utf-8")
    assert svg.strip() == benchmark["plot"](rows).strip()


def test_every_corruption_was_measured_at_every_size():
    from shiftproof.corruptions import COMMON, HOLDOUT

    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    measured = {(r["name"], r["size"], r["severity"]) for r in rows if "imagecorruptions" in r}
    for size in ("224x224", "640x480", "2048x1024"):
        for severity in (1, 3, 5):
            assert {(n, size, severity) for n in (*COMMON, *HOLDOUT)} <= measured


def test_code_of_the_page_on_further_shifts_runs(tmp_path, monkeypatch):
    from shiftproof.corruptions import SUITES

    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "shifts.md").read_text(encoding="utf-8")
    names = {"__name__": "page"}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(compile(block, "docs/shifts.md", "exec"), names)
    assert names["frames"].shape == (31, 96, 96, 3)
    assert names["changed"].tolist() == [2 / 3]
    assert len(names["grid"]) == 10
    for name in SUITES:
        assert f"`{name}`" in page, f"docs/shifts.md does not name the set {name}"


def test_the_pages_count_the_corruptions():
    from shiftproof.corruptions import COMMON, CORRUPTIONS, EXTRA, HOLDOUT

    of_papers = len(CORRUPTIONS) - len(COMMON) - len(HOLDOUT) - len(EXTRA)
    written = {
        "docs/corruptions.md": f"shiftproof has {len(CORRUPTIONS)} corruptions of images: the 15 of "
        "the ImageNet-C benchmark, its 4 hold-out corruptions for choosing hyperparameters, "
        f"{len(EXTRA)} of its own, and {of_papers} of further papers",
        "README.md": f"models under {len(CORRUPTIONS)} corruptions",
    }
    for page, words in written.items():
        assert words in (ROOT / page).read_text(encoding="utf-8"), f"{page}: expected {words!r}"
