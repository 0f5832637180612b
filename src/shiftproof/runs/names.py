"""Names that can name folders, and settings in the form in which JSON gives them back."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from shiftproof.types import Settings


def folder_name(name: str, otherwise: str) -> str:
    """Return a name that can name a folder ("batchnorm:prior=0" is a usual one).

    ``otherwise`` stands for a name of which nothing is left.
    """
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or otherwise


def plain(value: Any) -> Settings:
    """Bring settings to the form in which JSON gives them back, so that they can be compared."""

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
