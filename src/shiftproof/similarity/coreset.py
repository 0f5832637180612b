"""Core sets: the part of a training set that is most similar to test sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shiftproof.similarity.prune import find_highest, keep_by_similarity
from shiftproof.similarity.questions.nearest import Nearest, search_nearest
from shiftproof.similarity.search.certificate import Certificate
from shiftproof.similarity.search.options import Precision, SearchOptions
from shiftproof.similarity.sources import Source, check_flags, open_embeddings
from shiftproof.types import F32, I64, Flags


@dataclass(frozen=True, eq=False)
class Coreset:
    """The selected rows.

    Attributes:
        keep: ``(n,)`` bool, the selected rows.
        similarity: ``(n,)`` float32, each row's similarity to the nearest row of all test sets.
        nearest_set: ``(n,)`` int64, index of that row's test set, ties to the first; -1 for
            unusable rows.
        certificates: for each test set, the evidence that this is exact.
    """

    keep: Flags
    similarity: F32
    nearest_set: I64
    certificates: dict[str, Certificate]


def coreset(
    train: Source,
    tests: Mapping[str, Source],
    size: int,
    *,
    among: Flags | None = None,
    precision: Precision = "auto",
    device: str = "cpu",
    memory: int | str | None = None,
    threads: int | None = None,
) -> Coreset:
    """Choose the ``size`` training rows that are most similar to the test sets.

    This is how Mayilvahanan et al. (ICLR 2024) found 100 million images of LAION that train a CLIP
    model as well as all of its 200 million: far-pruning with the union of the out-of-distribution
    test sets. It uses the test images, so it serves to explain a score, not to obtain one.

    Args:
        train: embeddings of the training set.
        tests: the test sets by name.
        size: number of rows to select; ties go to the first.
        among: ``(n,)`` bool, restricts the selection to these rows, such as those kept by
            :func:`~shiftproof.similarity.deduplicate`.
        precision: see :func:`~shiftproof.similarity.nearest`.
        device: see there.
        memory: see there.
        threads: see there.

    Raises:
        InputError: fewer usable rows than ``size``.
    """
    rows = open_embeddings(train)
    if among is not None:
        among = check_flags(among, len(rows), "among")
    found = search_nearest(rows, tests, SearchOptions(precision, device, memory, threads))
    return choose_nearest(found, size, among)


def choose_nearest(found: Mapping[str, Nearest], size: int, among: Flags | None) -> Coreset:
    """Select rows like :func:`coreset`, given each row's nearest row of every test set."""
    similarity, nearest_set = combine_nearest(found)
    return Coreset(
        keep=keep_among(similarity, size, among),
        similarity=similarity,
        nearest_set=nearest_set,
        certificates={name: near.certificate for name, near in found.items()},
    )


def combine_nearest(
    found: Mapping[str, Nearest],
) -> tuple[F32, I64]:
    """Return each row's similarity to the nearest row of all test sets, and that set's index."""
    similarity = find_highest(found)
    each = np.stack([near.similarity for near in found.values()])
    usable = ~np.isnan(similarity)
    return similarity, np.where(usable, np.where(usable, each, -np.inf).argmax(axis=0), -1)


def keep_among(similarity: F32, size: int, among: Flags | None) -> Flags:
    """Select the ``size`` most similar rows among ``among``."""
    eligible = similarity if among is None else np.where(among, similarity, np.nan)
    return keep_by_similarity(eligible.astype(np.float32, copy=False), size, "far")
