"""Settings of a run, converted to the types that JSON preserves."""

from __future__ import annotations

import json
import math
from typing import Any

from shiftproof.types import Settings


def normalize_settings(value: Any) -> Settings:
    """Convert settings to the types that JSON preserves, so that they can be compared."""

    def convert(item: Any) -> Any:
        if isinstance(item, dict):
            return {str(key): convert(entry) for key, entry in item.items()}
        if isinstance(item, (list, tuple)):
            return [convert(entry) for entry in item]
        if isinstance(item, float) and not math.isfinite(item):
            return str(item)
        return item

    settings: Settings = json.loads(json.dumps(convert(value), default=str))
    return settings
