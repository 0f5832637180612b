"""image -> image: the corruptions of the benchmark, at any size, reproducible to the pixel."""

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
    function_of,
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
    "frost_with",
    "function_of",
    "scale",
    "suite",
    "with_depth",
]
