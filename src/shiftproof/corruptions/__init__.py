"""The corruptions of the benchmark, image to image, at any size, reproducible to the pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shiftproof.lazy import load_name

if TYPE_CHECKING:
    from shiftproof.corruptions.chains import chain
    from shiftproof.corruptions.checks import Corruption, CorruptionFunction
    from shiftproof.corruptions.depth_sources import DepthFolder, with_depth
    from shiftproof.corruptions.suites import SUITES, Suite, suite
    from shiftproof.corruptions.table import (
        COMMON,
        CORRUPTIONS,
        EXTRA,
        GROUPS,
        HOLDOUT,
        corrupt,
        find_function,
        scale,
    )
    from shiftproof.corruptions.transforms import (
        Corrupt,
        CorruptedDataset,
        CorruptTargets,
        corrupt_batch,
    )
    from shiftproof.corruptions.video import corrupt_video
    from shiftproof.corruptions.weather import frost_with

__all__ = [
    "COMMON",
    "CORRUPTIONS",
    "EXTRA",
    "GROUPS",
    "HOLDOUT",
    "SUITES",
    "Corrupt",
    "CorruptTargets",
    "CorruptedDataset",
    "Corruption",
    "CorruptionFunction",
    "DepthFolder",
    "Suite",
    "chain",
    "corrupt",
    "corrupt_batch",
    "corrupt_video",
    "find_function",
    "frost_with",
    "scale",
    "suite",
    "with_depth",
]

# Loaded at first use, so that code that needs one of these modules does not wait for all.
_NAMES = {
    "COMMON": "shiftproof.corruptions.table",
    "CORRUPTIONS": "shiftproof.corruptions.table",
    "EXTRA": "shiftproof.corruptions.table",
    "GROUPS": "shiftproof.corruptions.table",
    "HOLDOUT": "shiftproof.corruptions.table",
    "SUITES": "shiftproof.corruptions.suites",
    "Corrupt": "shiftproof.corruptions.transforms",
    "CorruptTargets": "shiftproof.corruptions.transforms",
    "CorruptedDataset": "shiftproof.corruptions.transforms",
    "Corruption": "shiftproof.corruptions.checks",
    "CorruptionFunction": "shiftproof.corruptions.checks",
    "DepthFolder": "shiftproof.corruptions.depth_sources",
    "Suite": "shiftproof.corruptions.suites",
    "chain": "shiftproof.corruptions.chains",
    "corrupt": "shiftproof.corruptions.table",
    "corrupt_batch": "shiftproof.corruptions.transforms",
    "corrupt_video": "shiftproof.corruptions.video",
    "frost_with": "shiftproof.corruptions.weather",
    "find_function": "shiftproof.corruptions.table",
    "scale": "shiftproof.corruptions.table",
    "suite": "shiftproof.corruptions.suites",
    "with_depth": "shiftproof.corruptions.depth_sources",
}


def __getattr__(name: str) -> Any:
    return load_name(__name__, name, _NAMES)


def __dir__() -> list[str]:
    return sorted(__all__)
