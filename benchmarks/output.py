"""Print what a benchmark has measured, and write it where it was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def show(result: dict[str, Any], out: Path | None) -> None:
    """Print ``result`` as JSON."""
    print(json.dumps(result, indent=1))
    if out is not None:
        write(result, out)


def write(result: dict[str, Any], out: Path) -> None:
    """Write ``result`` as JSON, and make the folder."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
