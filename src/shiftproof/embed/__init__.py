"""Embedding images and texts into shards on disk, in clip-retrieval's layout with a manifest."""

from __future__ import annotations

from shiftproof.data import SavedDataset
from shiftproof.embed.extract import Embedded, embed
from shiftproof.embed.forecast import EmbeddingForecast, forecast_embedding
from shiftproof.embed.pictures import Part, Picture, Pictures, SplitPictures
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
    "Texts",
    "embed",
    "embed_texts",
    "forecast_embedding",
    "open_pictures",
    "open_texts",
]
