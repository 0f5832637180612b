"""The page on contrastive learning: its table of times is that of the measurements."""

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "contrastive.md").read_text(encoding="utf-8")
RESULTS = ROOT / "benchmarks" / "results" / "contrastive.json"


def test_the_table_is_generated_from_the_measurements(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "contrastive.py"))
    results = json.loads(RESULTS.read_text(encoding="utf-8"))["results"]
    shown = PAGE.partition("<!-- speed -->")[2].partition("<!-- end -->")[0]
    assert shown.strip() == benchmark["summary"](results).strip()


def test_all_sizes_were_measured_beside_the_peers():
    measured = json.loads(RESULTS.read_text(encoding="utf-8"))
    found = {(each["loss"], each["batch"]) for each in measured["results"]}
    assert {("shiftproof InfoNCE", batch) for batch in (1024, 4096, 16384, 32768)} <= found
    assert {("lightly NTXentLoss", 4096), ("pytorch-metric-learning SupConLoss", 4096)} <= found
    assert {"lightly", "pytorch-metric-learning"} <= set(measured["provenance"]["libraries"])
