"""What a run says of the budget of time that chose the number of its images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEY = "budget"
"""Of ``run.json``: how many images were measured, and in how many seconds."""

NOTE = "the interval holds at the end of a budget, and not at any time one stops"


def has_ended_early(info: Mapping[str, Any]) -> bool:
    """Return whether a budget of time has ended a run before it had seen all its images.

    Args:
        info: the content of ``run.json``.
    """
    settings = info.get("settings")
    data = settings.get("data") if isinstance(settings, Mapping) else None
    return KEY in info and isinstance(data, Mapping) and "subset" in data
