"""The time budget that determined the number of images of a run, as ``run.json`` has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEY = "budget"
"""Key of ``run.json``: the number of measured images, and the seconds that they took."""

NOTE = "the interval holds at the end of a budget, and not at any time one stops"


def has_ended_early(info: Mapping[str, Any]) -> bool:
    """Return whether a time budget ended a run before it had seen all images.

    Args:
        info: the content of ``run.json``.
    """
    settings = info.get("settings")
    data = settings.get("data") if isinstance(settings, Mapping) else None
    return KEY in info and isinstance(data, Mapping) and "subset" in data
