"""Checks common to the pages of all kinds of runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shiftproof.errors import BrokenFileError
from shiftproof.report import write_report
from support.page_reading import Node, parse


def page_of(run: Path | list[Path], out: Path | None = None) -> Node:
    return parse(write_report(run, out).read_text(encoding="utf-8"))


def check_that_nothing_runs_or_is_asked_for(page: Node) -> None:
    """Check for no handlers, no style attributes, and only embedded images."""
    for node in page.walk():
        for name, value in node.attributes.items():
            assert not name.startswith("on")
            assert name != "style"
            if name == "src":
                assert value.startswith("data:image/jpeg;base64,")


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return a function that sets ``path`` (``models.0.name``) in a nested value."""
    *way, last = path.split(".")

    def change(content: dict[str, Any]) -> None:
        place: Any = content
        for key in way:
            place = place[int(key)] if key.isdecimal() else place[key]
        place[int(last) if last.isdecimal() else last] = value

    return change


def check_that_scores_are_refused(run: Path, content: dict[str, Any], message: str) -> None:
    """Check for one line that names the file and the path in it, and no page."""
    (run / "scores.json").write_text(json.dumps(content))
    with pytest.raises(BrokenFileError, match=message) as caught:
        write_report(run)
    assert "scores.json" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (run / "report.html").exists()
