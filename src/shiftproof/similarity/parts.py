"""Searches over a training set in parts: resumable, in processes, by a scheduler, or on Ray.

A part is some neighbouring rows of the training set, compared on one thread; what comes of them all is
what :func:`~shiftproof.similarity.nearest`, :func:`~shiftproof.similarity.top_k` and
:func:`~shiftproof.similarity.prune` give, bit for bit.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof import files
from shiftproof.errors import InputError
from shiftproof.shards import (
    Arrays,
    Backend,
    Job,
    Local,
    PartFolder,
    merge_parts,
    run_shards,
)
from shiftproof.types import Settings

from .neighbours import (
    Nearest,
    TopK,
    merge_nearest,
    merge_top_k,
    nearest_to_each,
    open_both,
    top_k_of_each,
)
from .prune import Proof, Pruning, check_one_of, limits_of, merge_prunings, prune
from .search import Certificate, Precision, parse_memory, rows_in_memory
from .sources import Embeddings, Source

F64 = NDArray[np.float64]

FEWEST, MOST = 20_000, 1_000_000
"""Rows of a part where none are named: a sixteenth of all within these. With fewer, making the test rows
ready would count; with more, an interruption would cost much."""


@dataclass(frozen=True)
class Place:
    """Where parts are made and kept.

    Attributes:
        folder: one folder below it for every search.
        backend: what makes them.
        precision: see :func:`~shiftproof.similarity.nearest`.
        memory: for all processes of one machine together.
        part_rows: training rows in a part, about; None chooses by their number.
    """

    folder: Path
    backend: Backend = field(default_factory=Local)
    precision: Precision = "auto"
    memory: int | str | None = None
    part_rows: int | None = None

    def __post_init__(self) -> None:
        parse_memory(self.memory)
        if self.part_rows is not None and self.part_rows < 1:
            raise InputError(f"Expected parts of 1 row or more, got {self.part_rows}.")


@dataclass(frozen=True, eq=False)
class _Search:
    """What a worker needs for any part."""

    train: Embeddings
    tests: dict[str, Embeddings]
    parts: tuple[tuple[int, ...], ...]
    precision: Precision
    memory: int
    k: int
    limits: dict[str, F64]
    folder: Path


def nearest_in_parts(
    train: Source, tests: Mapping[str, Source], place: Place
) -> dict[str, Nearest]:
    """Find every training row's nearest row in each of several test sets.

    Raises:
        UnfinishedError: this worker's share is done, others' are not.
        InputError: what :func:`~shiftproof.similarity.nearest` refuses.
    """
    parts = nearest_parts(train, tests, place)
    return merge_parts(_each(parts, _nearest_of, tests), _for_each_set(merge_nearest))


def top_k_in_parts(
    train: Source, tests: Mapping[str, Source], place: Place, k: int = 1
) -> dict[str, TopK]:
    """Find the ``k`` nearest training rows of every row of several test sets.

    Raises:
        UnfinishedError: this worker's share is done, others' are not.
        InputError: what :func:`~shiftproof.similarity.top_k` refuses.
    """
    if k < 1:
        raise InputError(f"Expected k of 1 or more, got {k}.")
    parts = _run("top-k", _top_k_part, train, tests, place, k, {})
    merge = _for_each_set(lambda lists: reduce(merge_top_k, lists))
    return merge_parts(_each(parts, _top_k_of, tests), merge)


def prune_in_parts(
    train: Source,
    tests: Mapping[str, Source],
    place: Place,
    *,
    reference: Source | None = None,
    thresholds: Mapping[str, F64 | float] | None = None,
) -> Pruning:
    """Find the training rows that are closer to some test row than the reference set is.

    Raises:
        UnfinishedError: this worker's share is done, others' are not.
        InputError: what :func:`~shiftproof.similarity.prune` refuses.
    """
    check_one_of(reference, thresholds)
    if reference is not None:
        near = top_k_in_parts(reference, tests, of_reference(place), 1)
        limits = {name: found.similarity[:, 0] for name, found in near.items()}
    else:
        limits = limits_of(open_both(train, tests)[1], thresholds or {})
    parts = pruning_parts(train, tests, place, limits)
    return merge_parts(pruning_each(parts, limits), merge_prunings)


def prove_in_parts(
    train: Source, tests: Mapping[str, Source], place: Place, limits: Mapping[str, F64]
) -> dict[str, Proof]:
    """Search the rows that :func:`prune_in_parts` kept once more, in float32, for anything too close.

    Args:
        train: the training set that was pruned.
        tests: the test sets that it was pruned for.
        place: where it was pruned; the parts there say what was kept.
        limits: how close training rows may come, as the pruning's ``thresholds``.

    Raises:
        UnfinishedError: this worker's share is done, others' are not.
    """
    plain = dataclasses.replace(place, precision="fp32")
    parts = _run("proof", _proof_part, train, tests, plain, 1, dict(limits))
    merge = _for_each_set(lambda lists: reduce(merge_top_k, lists))
    near = merge_parts(_each(parts, _top_k_of, tests), merge)
    return {
        name: Proof(found.similarity[:, 0], limits[name], found.certificate)
        for name, found in near.items()
    }


def of_reference(place: Place) -> Place:
    """Return the place of what is searched in the reference set."""
    return dataclasses.replace(place, folder=place.folder / "reference")


def nearest_parts(train: Source, tests: Mapping[str, Source], place: Place) -> PartFolder:
    """Make the parts of :func:`nearest_in_parts`, to be read one at a time (:func:`nearest_each`)."""
    return _run("nearest", _nearest_part, train, tests, place, 0, {})


def nearest_each(parts: PartFolder, tests: Mapping[str, Source]) -> Iterator[dict[str, Nearest]]:
    """Yield the results of neighbouring parts of the training rows, in order."""
    return _each(parts, _nearest_of, tests)


def pruning_parts(
    train: Source, tests: Mapping[str, Source], place: Place, limits: Mapping[str, F64]
) -> PartFolder:
    """Make the parts of :func:`prune_in_parts`, to be read one at a time (:func:`pruning_each`)."""
    return _run("prune", _pruning_part, train, tests, place, 0, dict(limits))


def pruning_each(parts: PartFolder, limits: Mapping[str, F64]) -> Iterator[Pruning]:
    """Yield what is pruned of neighbouring parts of the training rows, in order."""
    return (_pruning_of(part, limits) for part in parts.each())


def cut_to_parts(
    train: Embeddings, part_rows: int | None
) -> tuple[Embeddings, tuple[tuple[int, ...], ...]]:
    """Cut large files and put small ones together, to parts of about ``part_rows`` rows.

    Returns:
        The training rows in their shards, and the shards of each part. They depend on the rows and
        ``part_rows`` alone, not on who does the work.
    """
    rows = size_of_parts(len(train), part_rows)
    pieces = train.cut(rows)
    parts: list[list[int]] = []
    held = 0
    for shard in pieces.shards:
        if not shard.rows:
            continue
        if not parts or held + shard.rows > rows:
            parts.append([])
            held = 0
        parts[-1].append(shard.number)
        held += shard.rows
    return pieces, tuple(tuple(part) for part in parts)


def size_of_parts(rows: int, part_rows: int | None) -> int:
    """Return how many rows a part has, about."""
    return part_rows or min(max(-(-rows // 16), FEWEST), MOST)


def _run(
    name: str,
    function: Callable[[_Search, int], Arrays],
    train: Source,
    tests: Mapping[str, Source],
    place: Place,
    k: int,
    limits: dict[str, F64],
) -> PartFolder:
    rows, sets = open_both(train, tests)
    pieces, parts = cut_to_parts(rows, place.part_rows)
    processes = max(1, min(place.backend.processes(), len(parts)))
    memory = parse_memory(place.memory) // processes
    try:
        rows_in_memory(memory, rows.width, 1, k)
    except InputError as error:
        raise InputError(
            f"{error} So much has each of {processes} processes; allow more, or use fewer workers."
        ) from error
    search = _Search(
        train=pieces,
        tests=sets,
        parts=parts,
        precision=place.precision,
        memory=memory,
        k=k,
        limits=limits,
        folder=place.folder,
    )
    settings: Settings = {
        "train": rows.fingerprint(),
        "tests": {name: of_set.fingerprint() for name, of_set in sets.items()},
        "k": k,
        "thresholds": {name: _print_of(limit) for name, limit in limits.items()},
        "precision": place.precision,
        "part_rows": size_of_parts(len(rows), place.part_rows),
    }
    job = Job(name, function, search, len(parts), settings)
    return run_shards(job, place.folder / name, place.backend)


def _print_of(limit: F64) -> str:
    return files.fingerprint([np.ascontiguousarray(limit).tobytes()])


# ---------------------------------------------------------------- one part


def _nearest_part(search: _Search, number: int) -> Arrays:
    found = nearest_to_each(
        search.train,
        search.tests,
        precision=search.precision,
        memory=search.memory,
        threads=1,
        shards=search.parts[number],
    )
    return _as_arrays(found.values())


def _top_k_part(search: _Search, number: int, keep: NDArray[np.bool_] | None = None) -> Arrays:
    found = top_k_of_each(
        search.train,
        search.tests,
        search.k,
        precision=search.precision,
        memory=search.memory,
        threads=1,
        shards=search.parts[number],
        keep=keep,
    )
    return _as_arrays(found.values())


def _proof_part(search: _Search, number: int) -> Arrays:
    pruned = PartFolder(search.folder / "prune", len(search.parts)).read(number)
    # Of the whole source, of which only this part's rows are looked at.
    keep = np.zeros(len(search.train), dtype=bool)
    first = int(search.train.starts[search.parts[number][0]])
    kept = _pruning_of(pruned, search.limits).keep()
    keep[first : first + len(kept)] = kept
    return _top_k_part(search, number, keep)


def _pruning_part(search: _Search, number: int) -> Arrays:
    found = prune(
        search.train,
        search.tests,
        thresholds=search.limits,
        precision=search.precision,
        memory=search.memory,
        threads=1,
        shards=search.parts[number],
    )
    return {
        "skipped": np.packbits(found.skipped),
        "rows": np.array(len(found.skipped)),
        **{f"{n}.removed": np.packbits(rows) for n, rows in enumerate(found.removed.values())},
        **{f"{n}.certificate": _spelt(one) for n, one in enumerate(found.certificates.values())},
    }


def _as_arrays(found: Any) -> Arrays:
    """Return lists of neighbours as arrays, sets by their place in the order."""
    arrays: Arrays = {}
    for number, near in enumerate(found):
        arrays[f"{number}.similarity"] = near.similarity
        arrays[f"{number}.index"] = near.index
        arrays[f"{number}.certificate"] = _spelt(near.certificate)
    return arrays


def _spelt(certificate: Certificate) -> NDArray[np.str_]:
    return np.array(json.dumps(dataclasses.asdict(certificate)))


# ---------------------------------------------------------------- parts, read


def _each(
    parts: PartFolder, of_set: Callable[[Arrays, int], Any], tests: Mapping[str, Source]
) -> Iterator[dict[str, Any]]:
    for part in parts.each():
        yield {name: of_set(part, number) for number, name in enumerate(tests)}


def _nearest_of(part: Arrays, number: int) -> Nearest:
    return Nearest(*_lists_of(part, number))


def _top_k_of(part: Arrays, number: int) -> TopK:
    return TopK(*_lists_of(part, number))


def _lists_of(part: Arrays, number: int) -> tuple[Any, Any, Certificate]:
    return part[f"{number}.similarity"], part[f"{number}.index"], _certificate(part, number)


def _pruning_of(part: Arrays, limits: Mapping[str, F64]) -> Pruning:
    count = int(part["rows"])
    return Pruning(
        removed={
            name: np.unpackbits(part[f"{n}.removed"], count=count).astype(bool)
            for n, name in enumerate(limits)
        },
        thresholds=dict(limits),
        skipped=np.unpackbits(part["skipped"], count=count).astype(bool),
        certificates={name: _certificate(part, n) for n, name in enumerate(limits)},
    )


def _certificate(part: Arrays, number: int) -> Certificate:
    return Certificate(**json.loads(str(part[f"{number}.certificate"])))


def _for_each_set(
    merge: Callable[[Sequence[Any]], Any],
) -> Callable[[Sequence[dict[str, Any]]], dict[str, Any]]:
    return lambda parts: {name: merge([part[name] for part in parts]) for name in parts[0]}
