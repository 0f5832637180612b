"""The folder of a run over embeddings: what it is of, and whether it may be resumed."""

from __future__ import annotations

from pathlib import Path

from shiftproof.io import manifest
from shiftproof.provenance import provenance
from shiftproof.shards import Scheduled
from shiftproof.similarity.sharded import Place
from shiftproof.similarity.sources import Embeddings
from shiftproof.types import Settings

RUN_FILE = "run.json"


def describe(rows: Embeddings) -> Settings:
    """Return what tells embeddings from others, and what they were called."""
    return {
        "source": rows.name,
        "rows": len(rows),
        "width": rows.width,
        "shards": len(rows.shards),
        "fingerprint": rows.fingerprint(),
    }


def begin(folder: Path, kind: str, settings: Settings, place: Place) -> None:
    """Make a run's folder, or resume the one that is there.

    What sources are called may differ: their fingerprints say what they are.

    Raises:
        RunMismatchError: the folder belongs to another run.
        InputError: it holds other things, or cannot be written to.
    """
    manifest.begin(
        folder,
        RUN_FILE,
        {"kind": kind, "settings": settings},
        what="a run",
        about={"provenance": provenance("cpu", place.backend.processes())},
        unnamed=("source",),
        shared=isinstance(place.backend, Scheduled),
    )
