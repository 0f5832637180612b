"""image -> image: the corruptions of the benchmark, at any size, reproducible to the pixel."""

from shiftproof.corruptions.contract import Corruption, CorruptionFunction
from shiftproof.corruptions.table import (
    COMMON,
    CORRUPTIONS,
    GROUPS,
    HOLDOUT,
    corrupt,
    function_of,
)
from shiftproof.corruptions.weather import frost_with

__all__ = [
    "COMMON",
    "CORRUPTIONS",
    "GROUPS",
    "HOLDOUT",
    "Corruption",
    "CorruptionFunction",
    "corrupt",
    "frost_with",
    "function_of",
]
