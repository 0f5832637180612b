"""The folder of a run over embeddings, and resuming it."""

from __future__ import annotations

import functools
from pathlib import Path

from shiftproof.errors import InputError
from shiftproof.io import files, manifest
from shiftproof.io.folder_locks import lock_folder, lock_for_setup, on_error
from shiftproof.io.text import read_object
from shiftproof.provenance import provenance
from shiftproof.shards import Scheduled
from shiftproof.shards.folder import PARTS_FILE, mark_superseded
from shiftproof.similarity.sharded import Sharding
from shiftproof.similarity.sources import Embeddings
from shiftproof.types import Settings

RUN_FILE = "run.json"


def describe_source(rows: Embeddings) -> Settings:
    """Return the fingerprint, the name and the sizes of embeddings.

    Checks the first row, so that rows that are not normalized are refused before a folder is
    created: its settings would not match once the user adds ``normalize``.

    Raises:
        InputError: the first row is unusable.
    """
    rows.check_first()
    return {
        "source": rows.name,
        "rows": len(rows),
        "width": rows.width,
        "shards": len(rows.shards),
        "fingerprint": rows.fingerprint(),
    }


def begin_run(folder: Path, kind: str, settings: Settings, sharding: Sharding) -> None:
    """Create a run's folder, or resume an existing one.

    Names of sources may differ: fingerprints identify them. The folder of a run that ended in an
    InputError, such as a pruning that would keep no row, accepts other settings: the parts that fit
    them are kept, and the others replaced.

    Raises:
        RunMismatchError: the folder belongs to another run.
        InputError: it has other content, or is not writable.
    """
    _take_over(folder, kind, settings, shared=isinstance(sharding.backend, Scheduled))
    manifest.begin(
        folder,
        RUN_FILE,
        {"kind": kind, "settings": settings},
        what="a run",
        about={"provenance": provenance("cpu", sharding.backend.processes())},
        ignored=("source",),
        shared=isinstance(sharding.backend, Scheduled),
    )
    on_error(functools.partial(_mark_refused, folder / RUN_FILE, settings))


def _mark_refused(file: Path, settings: Settings, error: BaseException) -> None:
    """Mark a run as refused if its settings caused the error."""
    # Not its subclasses: a damaged file or parts of another run can be fixed with the same
    # settings.
    if type(error) is not InputError:
        return
    content = read_object(file)
    if content.get("settings") == settings:
        files.write_json(file, {**content, "refused": str(error)})


def _take_over(folder: Path, kind: str, settings: Settings, *, shared: bool) -> None:
    """Replace the settings of a refused run of the same kind."""
    file = folder / RUN_FILE
    if not _is_refused(file, kind):
        return
    lock_folder(folder, shared=shared)
    with lock_for_setup(folder):
        if not _is_refused(file, kind):
            return  # another worker was here first
        content = read_object(file)
        del content["refused"]
        if content.get("settings") != settings:
            for part in sorted((folder / "parts").rglob(PARTS_FILE)):
                mark_superseded(part.parent)
        files.write_json(file, {**content, "settings": settings})


def _is_refused(file: Path, kind: str) -> bool:
    if not file.is_file():
        return False
    content = read_object(file)
    return content.get("kind") == kind and "refused" in content
