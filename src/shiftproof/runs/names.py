"""Folder names, and settings normalized to the types that JSON preserves."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from shiftproof.types import Settings


def folder_name(name: str, otherwise: str) -> str:
    """Return a valid folder name for a model's name, such as "batchnorm:prior=0".

    ``otherwise`` is used if no valid character is left.
    """
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or otherwise


def plain(value: Any) -> Settings:
    """Convert settings to the types that JSON preserves, so that they can be compared."""

    def fix(item: Any) -> Any:
        if isinstance(item, dict):
            return {str(key): fix(entry) for key, entry in item.items()}
        if isinstance(item, (list, tuple)):
            return [fix(entry) for entry in item]
        if isinstance(item, float) and not math.isfinite(item):
            return str(item)
        return item

    settings: Settings = json.loads(json.dumps(fix(value), default=str))
    return settings
