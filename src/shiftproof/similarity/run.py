"""The folder of a run over embeddings, and resuming it."""

from __future__ import annotations

from pathlib import Path

from shiftproof.io import manifest
from shiftproof.provenance import provenance
from shiftproof.shards import Scheduled
from shiftproof.similarity.sharded import Sharding
from shiftproof.similarity.sources import Embeddings
from shiftproof.types import Settings

RUN_FILE = "run.json"


def describe(rows: Embeddings) -> Settings:
    """Return the fingerprint and the name of embeddings.

    Their first row is looked at: rows that are not normalized are refused before a folder is begun,
    whose settings would refuse them normalized.

    Raises:
        InputError: it cannot be used.
    """
    rows.check_first()
    return {
        "source": rows.name,
        "rows": len(rows),
        "width": rows.width,
        "shards": len(rows.shards),
        "fingerprint": rows.fingerprint(),
    }


def begin(folder: Path, kind: str, settings: Settings, sharding: Sharding) -> None:
    """Create a run's folder, or resume an existing one.

    Names of sources may differ: fingerprints identify them.

    Raises:
        RunMismatchError: the folder belongs to another run.
        InputError: it has other content, or is not writable.
    """
    manifest.begin(
        folder,
        RUN_FILE,
        {"kind": kind, "settings": settings},
        what="a run",
        about={"provenance": provenance("cpu", sharding.backend.processes())},
        unnamed=("source",),
        shared=isinstance(sharding.backend, Scheduled),
    )
