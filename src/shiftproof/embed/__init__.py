"""Images as vectors on the disk, in the shards of clip-retrieval with a manifest beside them."""

from __future__ import annotations

from shiftproof.data import SavedDataset
from shiftproof.embed.extract import Embedded, embed
from shiftproof.embed.pictures import Part, Picture, Pictures, SplitPictures
from shiftproof.embed.sources import open_pictures
from shiftproof.embed.tars import TarPictures

__all__ = [
    "Embedded",
    "Part",
    "Picture",
    "Pictures",
    "SavedDataset",
    "SplitPictures",
    "TarPictures",
    "embed",
    "open_pictures",
]
