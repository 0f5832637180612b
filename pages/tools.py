"""The tables of the page on other tools, from what was measured beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pages.tables import write_table

ROOT = Path(__file__).parent.parent
MEASURED = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "other-tools.md"
SEVERITY = 3

_PLACE = re.compile(r"<!-- tools:(\w+) -->\n.*?<!-- end -->", flags=re.DOTALL)


def write_tools() -> str:
    """Return the page with its tables as they follow from the measurements."""

    def fill(place: re.Match[str]) -> str:
        return f"<!-- tools:{place[1]} -->\n\n{_TABLES[place[1]]()}\n<!-- end -->"

    return _PLACE.sub(fill, PAGE.read_text("utf-8"))


def _compare_corruptions() -> str:
    """Return how many times faster than each library, the least and the most over the corruptions."""
    ratios: dict[str, dict[str, list[float]]] = {}
    for row in _read("corruptions")["rows"]:
        if row["severity"] != SEVERITY:
            continue
        peers = dict(row.get("other semantics", {}))
        if "imagecorruptions" in row:
            peers["imagecorruptions-imaug"] = row["imagecorruptions"]
        for peer, milliseconds in peers.items():
            sizes = ratios.setdefault(peer, {})
            sizes.setdefault(row["size"], []).append(milliseconds / row["shiftproof"])
    sizes = ("224x224", "640x480", "2048x1024")
    rows = [
        (peer, *(_tell_range(found.get(size, [])) for size in sizes))
        for peer, found in sorted(ratios.items(), key=lambda item: -len(item[1]["224x224"]))
    ]
    head = ("CPU time relative to shiftproof, lowest–highest of the corruptions (how many)", *sizes)
    return write_table(head, rows, numbers=True)


def _tell_range(ratios: list[float]) -> str:
    if not ratios:
        return ""
    slower = sum(ratio < 1 for ratio in ratios)
    faster = f", faster than ours in {slower}" if slower else ""
    return f"{_tell(min(ratios))}–{_tell(max(ratios))} ({len(ratios)}{faster})"


def _tell(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"


def _compare_metrics() -> str:
    detection, maps = _read("detection"), _read("segmentation")
    ours = detection["seconds"]["shiftproof"]
    rows = [
        ("COCO evaluation of 5,000 images", peer, f"{seconds:.1f} s", f"{ours:.1f} s")
        for peer, seconds in detection["seconds"].items()
        if peer != "shiftproof"
    ]
    label_maps = maps["milliseconds per label map"]
    own = label_maps.pop("shiftproof.metrics.pixel_confusion")
    rows += [
        ("mIoU, a label map of 1024 x 512", peer, f"{each:.1f} ms", f"{own:.1f} ms")
        for peer, each in label_maps.items()
    ]
    return write_table(("task", "library", "time", "shiftproof's time"), rows)


def _compare_contrastive() -> str:
    found = _read("contrastive")
    faster, share = (found["met"][name][0] for name in
                     ("times_faster_than_lightly", "share_of_lightly_memory"))  # fmt: skip
    batch, at_most = found["targets"]["batch"], found["met"]["megabytes_at_16384"][0]
    rows = [
        (f"batch of {batch:,}, forward and backward", f"{faster:.1f} times faster than lightly"),
        (f"memory at {batch:,}", f"{100 * share:.0f} % of lightly's"),
        ("memory at 16,384", f"{at_most:.0f} MB; lightly's grows with the square of the batch"),
    ]
    return write_table(("InfoNCE, 128 dimensions, one core", "shiftproof"), rows)


def _read(name: str) -> Any:
    return json.loads((MEASURED / f"{name}.json").read_text("utf-8"))


_TABLES = {
    "corruptions": _compare_corruptions,
    "metrics": _compare_metrics,
    "contrastive": _compare_contrastive,
}
