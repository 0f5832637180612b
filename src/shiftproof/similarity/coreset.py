"""The part of a training set that lies closest to what is to be tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftproof.similarity.prune import closest, keep_by_similarity
from shiftproof.similarity.questions.nearest import Nearest, nearest_to_each
from shiftproof.similarity.search.certificate import Certificate
from shiftproof.similarity.search.options import Precision
from shiftproof.similarity.sources import Source, check_flags, open_embeddings


@dataclass(frozen=True, eq=False)
class Coreset:
    """The rows that were chosen.

    Attributes:
        keep: ``(n,)`` bool, the chosen rows.
        similarity: ``(n,)`` float32, each row's similarity to the nearest row of all test sets.
        nearest_set: ``(n,)`` int64, which of the test sets that row belongs to, the first of equal
            ones; -1 for rows that cannot be used.
        certificates: for each test set, why this is exact.
    """

    keep: NDArray[np.bool_]
    similarity: NDArray[np.float32]
    nearest_set: NDArray[np.int64]
    certificates: dict[str, Certificate]


def coreset(
    train: Source,
    tests: Mapping[str, Source],
    size: int,
    *,
    among: NDArray[np.bool_] | None = None,
    precision: Precision = "auto",
    device: str = "cpu",
    memory: int | str | None = None,
    threads: int | None = None,
) -> Coreset:
    """Choose the ``size`` training rows that are most similar to the test sets.

    This is how Mayilvahanan et al. (ICLR 2024) found 100 million images of LAION that train a CLIP
    model as well as all of its 200 million: far-pruning with the union of the out-of-distribution
    test sets. It looks at the test images: a core set says where the score comes from, and is no way
    to reach one.

    Args:
        train: embeddings of the training set.
        tests: the test sets by name.
        size: how many rows to choose. Of equal rows the first are chosen.
        among: ``(n,)`` bool, only these rows, such as those that
            :func:`~shiftproof.similarity.deduplicate` keeps.
        precision: see :func:`~shiftproof.similarity.nearest`.
        device: see there.
        memory: see there.
        threads: see there.

    Raises:
        InputError: fewer rows than ``size`` can be used.
    """
    rows = open_embeddings(train)
    if among is not None:
        among = check_flags(among, len(rows), "among")
    found = nearest_to_each(
        rows, tests, precision=precision, device=device, memory=memory, threads=threads
    )
    return choose_nearest(found, size, among)


def choose_nearest(
    found: Mapping[str, Nearest], size: int, among: NDArray[np.bool_] | None
) -> Coreset:
    """Choose rows as :func:`coreset` does, given each one's nearest row of every test set."""
    similarity, nearest_set = nearest_of_all(found)
    return Coreset(
        keep=keep_among(similarity, size, among),
        similarity=similarity,
        nearest_set=nearest_set,
        certificates={name: near.certificate for name, near in found.items()},
    )


def nearest_of_all(
    found: Mapping[str, Nearest],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return each row's similarity to the nearest row of all test sets, and which set has it."""
    similarity = closest(found)
    each = np.stack([near.similarity for near in found.values()])
    usable = ~np.isnan(similarity)
    return similarity, np.where(usable, np.where(usable, each, -np.inf).argmax(axis=0), -1)


def keep_among(
    similarity: NDArray[np.float32], size: int, among: NDArray[np.bool_] | None
) -> NDArray[np.bool_]:
    """Choose the ``size`` most similar rows, of those ``among`` alone."""
    eligible = similarity if among is None else np.where(among, similarity, np.nan)
    return keep_by_similarity(eligible.astype(np.float32, copy=False), size, "far")
