"""Searches over a training set in parts: resumable, in processes, by a scheduler, or on Ray.

A part is some neighbouring rows of the training set, compared on one thread; what comes of them all is
what :func:`~shiftproof.similarity.nearest`, :func:`~shiftproof.similarity.top_k` and
:func:`~shiftproof.similarity.prune` give, bit for bit.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import InputError
from shiftproof.io import files
from shiftproof.shards import Arrays, Backend, Job, Local, PartFolder, Ray, merge_parts, run_shards
from shiftproof.similarity.halfprecision import choose_half
from shiftproof.similarity.neighbours import (
    Group,
    Nearest,
    TopK,
    merge_nearest,
    merge_top_k,
    nearest_of_groups,
    open_both,
    passes,
    top_k_of_groups,
)
from shiftproof.similarity.prune import (
    Proof,
    Pruning,
    check_one_of,
    check_usable,
    limits_of,
    limits_of_reference,
    merge_prunings,
    prune_by_groups,
)
from shiftproof.similarity.search import (
    Certificate,
    How,
    Precision,
    parse_memory,
    rows_in_memory,
    sample_of,
)
from shiftproof.similarity.sources import Embeddings, Source
from shiftproof.types import Settings

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
        device: see :func:`~shiftproof.similarity.nearest`; each process has a share of its own of a
            GPU's memory, so take few of them there.
    """

    folder: Path
    backend: Backend = field(default_factory=Local)
    precision: Precision = "auto"
    memory: int | str | None = None
    part_rows: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        parse_memory(self.memory)
        if self.part_rows is not None and self.part_rows < 1:
            raise InputError(f"Expected parts of 1 row or more, got {self.part_rows}.")

    def processes(self, parts: int) -> int:
        """Return how many of so many parts are made at a time on one machine."""
        return max(1, min(self.backend.processes(), parts))

    def how(self, parts: int) -> How:
        """Return how one of so many parts is searched."""
        memory = parse_memory(self.memory) // self.processes(parts)
        return How(self.precision, self.device, memory, threads=1)


@dataclass(frozen=True, eq=False)
class Search:
    """What a worker needs for any part.

    Attributes:
        train: the training rows, in shards that no part cuts.
        tests: the test sets.
        parts: the shards of each part.
        how: how a part is searched.
        k: training rows that each test row keeps, where it keeps some.
        limits: thresholds by test set, where there are some.
        folder: of the place.
        key: tells this search from others.
    """

    train: Embeddings
    tests: dict[str, Embeddings]
    parts: tuple[tuple[int, ...], ...]
    how: How
    k: int
    limits: dict[str, F64]
    folder: Path
    key: str


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
    parts = run_search("top-k", _top_k_part, train, tests, place, k, {})
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
        limits = limits_of_reference(near)
    else:
        limits = limits_of(open_both(train, tests)[1], thresholds or {})
    parts = pruning_parts(train, tests, place, limits)
    pruning = merge_parts(pruning_each(parts, limits), merge_prunings)
    check_usable(pruning)
    return pruning


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
    plain = dataclasses.replace(place, precision="fp32", device="cpu")
    parts = run_search("proof", _proof_part, train, tests, plain, 1, dict(limits))
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
    return run_search("nearest", _nearest_part, train, tests, place, 0, {})


def nearest_each(parts: PartFolder, tests: Iterable[str]) -> Iterator[dict[str, Nearest]]:
    """Yield the results of neighbouring parts of the training rows, in order."""
    return _each(parts, _nearest_of, tests)


def nearest_of(part: Arrays, tests: Iterable[str]) -> dict[str, Nearest]:
    """Return the results of one part of :func:`nearest_parts`."""
    return {name: _nearest_of(part, number) for number, name in enumerate(tests)}


def pruning_parts(
    train: Source, tests: Mapping[str, Source], place: Place, limits: Mapping[str, F64]
) -> PartFolder:
    """Make the parts of :func:`prune_in_parts`, to be read one at a time (:func:`pruning_each`)."""
    return run_search("prune", _pruning_part, train, tests, place, 0, dict(limits))


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


def run_search(
    name: str,
    function: Callable[[Search, int], Arrays],
    train: Source,
    tests: Mapping[str, Source],
    place: Place,
    k: int,
    limits: dict[str, F64],
) -> PartFolder:
    """Make the parts of a search.

    Args:
        name: of the search, and of its folder.
        function: makes one part.
        train: the training rows, which are cut.
        tests: what they are compared with.
        place: where.
        k: goes to the function.
        limits: go to the function.

    Raises:
        UnfinishedError: this worker's share is done, others' are not.
        InputError: too little memory, a device that is not there, or what the function refuses.
    """
    rows, sets = open_both(train, tests)
    if not isinstance(place.backend, Ray):
        # Before anything is begun; machines of a cluster have devices of their own.
        choose_half(place.precision, place.device)
    pieces, parts = cut_to_parts(rows, place.part_rows)
    how = place.how(len(parts))
    try:
        rows_in_memory(parse_memory(how.memory), rows.width, 1, k)
    except InputError as error:
        raise InputError(
            f"{error} So much has each of {place.processes(len(parts))} processes; allow more, or use "
            "fewer workers."
        ) from error
    settings: Settings = {
        "train": rows.fingerprint(),
        "tests": {name: of_set.fingerprint() for name, of_set in sets.items()},
        "k": k,
        "thresholds": {name: _print_of(limit) for name, limit in limits.items()},
        "precision": place.precision,
        "device": place.device.partition(":")[0],
        "part_rows": size_of_parts(len(rows), place.part_rows),
    }
    search = Search(
        train=pieces,
        tests=sets,
        parts=parts,
        how=how,
        k=k,
        limits=limits,
        folder=place.folder,
        key=files.fingerprint([json.dumps([name, settings, how.memory], sort_keys=True).encode()]),
    )
    job = Job(name, function, search, len(parts), settings)
    try:
        return run_shards(job, place.folder / name, place.backend)
    finally:
        _kept.clear()


def _print_of(limit: F64) -> str:
    return files.fingerprint([np.ascontiguousarray(limit).tobytes()])


# ---------------------------------------------------------------- one part


_kept: dict[str, Group] = {}
"""The test rows of this process's last part, by its search: the next part is of the same one."""


def _ready(search: Search) -> Iterator[Group]:
    """Yield the test rows of a search, made ready once in a process if memory holds all of them.

    How they are made ready hangs on the search alone, so that a part does not on those before it.
    """
    group = _kept.get(search.key)
    if group is None:
        _kept.clear()
        sample = sample_of(search.train, None)
        groups = passes(search.train, search.tests, search.how, 1, sample, search.k)
        group = next(groups)
        held = sum(len(side.rows) for _, side in group)
        if held < sum(len(of_set) for of_set in search.tests.values()):
            yield group
            yield from groups
            return
        _kept[search.key] = group
    yield [(name, side.again()) for name, side in group]


def _nearest_part(search: Search, number: int) -> Arrays:
    found = nearest_of_groups(
        search.train, list(search.tests), _ready(search), 1, search.parts[number]
    )
    return _as_arrays(found.values())


def _top_k_part(search: Search, number: int, keep: NDArray[np.bool_] | None = None) -> Arrays:
    found = top_k_of_groups(
        search.train,
        list(search.tests),
        _ready(search),
        search.k,
        1,
        search.parts[number],
        keep,
    )
    return _as_arrays(found.values())


def _proof_part(search: Search, number: int) -> Arrays:
    pruned = PartFolder(search.folder / "prune", len(search.parts)).read(number)
    # Of the whole source, of which only this part's rows are looked at.
    keep = np.zeros(len(search.train), dtype=bool)
    first = int(search.train.starts[search.parts[number][0]])
    kept = _pruning_of(pruned, search.limits).keep()
    keep[first : first + len(kept)] = kept
    return _top_k_part(search, number, keep)


def _pruning_part(search: Search, number: int) -> Arrays:
    found = prune_by_groups(search.train, search.limits, _ready(search), 1, search.parts[number])
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
    parts: PartFolder, of_set: Callable[[Arrays, int], Any], tests: Iterable[str]
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
