"""Embedding images and texts into shards on disk, in clip-retrieval's layout with a manifest."""

from __future__ import annotations

from shiftproof.data import SavedDataset
from shiftproof.embed.extract import Embedded, embed
from shiftproof.embed.forecast import (
    EmbeddingForecast,
    TextForecast,
    forecast_embedding,
    forecast_texts,
)
from shiftproof.embed.image_source import Part, Picture, Pictures, SplitPictures
from shiftproof.embed.sources import open_pictures
from shiftproof.embed.tars import TarPictures
from shiftproof.embed.text_source import Texts, open_texts
from shiftproof.embed.texts import embed_texts

__all__ = [
    "Embedded",
    "EmbeddingForecast",
    "Part",
    "Picture",
    "Pictures",
    "SavedDataset",
    "SplitPictures",
    "TarPictures",
    "TextForecast",
    "Texts",
    "embed",
    "embed_texts",
    "forecast_embedding",
    "forecast_texts",
    "open_pictures",
    "open_texts",
]
