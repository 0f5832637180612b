"""The classes that open images in the rows of tables, by layout."""

from __future__ import annotations

from collections.abc import Mapping

from shiftproof.data.images.parquet import ParquetImages
from shiftproof.data.images.saved import SavedDataset

TABLE_READERS: Mapping[str, type[SavedDataset] | type[ParquetImages]] = {
    "saved": SavedDataset,
    "parquet": ParquetImages,
}
