"""Worker processes that map functions over items, and the progress display.

Both modules are imported on first use, because compiled loops need neither.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shiftproof.compute import processes, progress

__all__ = ["processes", "progress"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"shiftproof.compute.{name}")
    raise AttributeError(f"module 'shiftproof.compute' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
