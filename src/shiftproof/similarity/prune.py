"""Pruning training rows that are similar to test sets: gap-matched, near, far, or random.

The rules are those of Mayilvahanan et al., "Does CLIP's generalization performance mainly stem from
high train-test similarity?" (ICLR 2024, arXiv 2310.09562).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal, TypeAlias

import numpy as np

from shiftproof import rng
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.similarity.gap import check_found
from shiftproof.similarity.questions.above import Above, AboveQuestion
from shiftproof.similarity.questions.nearest import Nearest, search_nearest
from shiftproof.similarity.questions.top_k import TopK, search_top_k
from shiftproof.similarity.search.certificate import Certificate
from shiftproof.similarity.search.in_memory import search
from shiftproof.similarity.search.options import Precision, SearchOptions
from shiftproof.similarity.sources import Embeddings, Source, open_sources
from shiftproof.types import F32, F64, Flags

PruningRule: TypeAlias = Literal["near", "far", "random"]


@dataclass(frozen=True, eq=False)
class Pruning:
    """The training rows removed for each test set.

    Attributes:
        removed: for each test set ``(n,)`` bool, the rows that are too similar to it.
        thresholds: for each test set ``(m,)`` float64, the largest allowed similarity to each of
            its rows.
        skipped: ``(n,)`` bool, unusable rows, which are not compared.
        certificates: for each test set, the evidence that the rule was applied exactly.
    """

    removed: dict[str, Flags]
    thresholds: dict[str, F64]
    skipped: Flags
    certificates: dict[str, Certificate]

    def keep(self, *names: str) -> Flags:
        """Return the rows to keep when pruning for these test sets, by default for all of them.

        Unusable rows are dropped.
        """
        for name in names:
            if name not in self.removed:
                raise UnknownNameError.of("test set", name, self.removed)
        removed = reduce(np.logical_or, [self.removed[name] for name in names or self.removed])
        kept: Flags = ~(removed | self.skipped)
        return kept

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows removed for each test set."""
        return {name: int(rows.sum()) for name, rows in self.removed.items()}

    @property
    def shared(self) -> F64:
        """``(sets, sets)``: the share of the rows removed for the column's test set that are also
        removed for the row's.

        NaN if none are removed for the column's.
        """
        names = list(self.removed)
        both = np.array(
            [[(self.removed[a] & self.removed[b]).sum() for b in names] for a in names], dtype=float
        )
        own = np.array([self.removed[name].sum() for name in names], dtype=float)
        shares: F64 = np.divide(
            both, own[None], out=np.full(both.shape, np.nan), where=own[None] > 0
        )
        return shares


@dataclass(frozen=True, eq=False)
class Proof:
    """Verification of a pruning for one test set.

    Attributes:
        similarity: ``(m,)`` float64, each test row's similarity to the nearest kept row.
        thresholds: ``(m,)`` float64, the largest allowed similarity.
        certificate: evidence that this is exact.
    """

    similarity: F64
    thresholds: F64
    certificate: Certificate

    @property
    def holds(self) -> bool:
        """Whether no kept row exceeds the thresholds."""
        return bool((self.similarity <= self.thresholds).all())

    @property
    def violations(self) -> int:
        """Number of test rows whose threshold is exceeded."""
        return int((self.similarity > self.thresholds).sum())


def prune(
    train: Source,
    tests: Mapping[str, Source],
    *,
    reference: Source | None = None,
    thresholds: Mapping[str, F64 | float] | None = None,
    precision: Precision = "auto",
    device: str = "cpu",
    memory: int | str | None = None,
    threads: int | None = None,
    shards: Sequence[int] | None = None,
) -> Pruning:
    """Find the training rows that are more similar to a test row than the reference set is.

    Gap-matched pruning (section 4 of the paper): a row x is removed if ``<x, q> > s_R(q)`` for some
    test row q, where ``s_R(q)`` is the largest similarity of q to the reference training set. The
    comparison is strict, and made per test row.

    Differs from the reference code: every row is compared with every test row, while the code
    considers only the 10,000 nearest training rows of each test row.

    Args:
        train: embeddings of the training set.
        tests: the test sets by name; all are searched in one pass.
        reference: embeddings of the reference training set, such as ImageNet's.
        thresholds: instead of a reference, for each test set one value per row, or one for all
            rows.
        precision: see :func:`~shiftproof.similarity.nearest`.
        device: see there.
        memory: see there.
        threads: see there.
        shards: only these shards of the training source; see :func:`merge_prunings`.

    Raises:
        InputError: not exactly one of ``reference`` and ``thresholds``; a threshold outside -1..1;
            no usable training row, or no usable reference row.

    >>> import numpy
    >>> rows = numpy.eye(4, dtype="float32")
    >>> close = prune(rows, {"test": rows[:2]}, thresholds={"test": 0.5})
    >>> close.keep().tolist()
    [False, False, True, True]
    """
    rows, sets = open_sources(train, tests)
    check_one_of(reference, thresholds)
    options = SearchOptions(precision, device, memory, threads)
    if reference is not None:
        limits = find_limits(search_top_k(reference, sets, 1, options))
    else:
        limits = check_limits(sets, thresholds or {})
    found = search(AboveQuestion(limits), rows, sets, options, shards=shards)
    pruning = make_pruning(found, limits)
    if shards is None:
        check_usable(pruning)
    return pruning


def check_usable(pruning: Pruning) -> None:
    """Check that a training row is usable.

    Raises:
        InputError: none is.
    """
    if pruning.skipped.all():
        raise InputError("None of the training rows can be used.")


def find_limits(near: Mapping[str, TopK]) -> dict[str, F64]:
    """Return each test row's threshold: its similarity to the nearest reference row.

    Raises:
        InputError: no reference row is usable: then every training row would be removed.
    """
    for found in near.values():
        check_found(found, "reference")
    return {name: found.similarity[:, 0] for name, found in near.items()}


def make_pruning(found: Mapping[str, Above], limits: Mapping[str, F64]) -> Pruning:
    """Return the pruning, given the rows above the limits of each test set."""
    return Pruning(
        removed={name: above.marked for name, above in found.items()},
        thresholds=dict(limits),
        skipped=next(iter(found.values())).skipped,
        certificates={name: above.certificate for name, above in found.items()},
    )


def merge_prunings(parts: Sequence[Pruning]) -> Pruning:
    """Join the results for neighboring shards, in their order; associative."""
    names = list(parts[0].removed)
    return Pruning(
        removed={name: np.concatenate([part.removed[name] for part in parts]) for name in names},
        thresholds=parts[0].thresholds,
        skipped=np.concatenate([part.skipped for part in parts]),
        certificates={
            name: reduce(Certificate.merge, (part.certificates[name] for part in parts))
            for name in names
        },
    )


def prove(
    train: Source,
    tests: Mapping[str, Source],
    pruning: Pruning,
    *names: str,
    memory: int | str | None = None,
    threads: int | None = None,
) -> dict[str, Proof]:
    """Verify a pruning: search the kept rows again, in float32, for any above the thresholds.

    Args:
        train: the training set that was pruned.
        tests: all the test sets, also those not in ``names``.
        pruning: the result of :func:`prune`.
        names: the test sets to verify, by default all.
        memory: see :func:`~shiftproof.similarity.nearest`.
        threads: see there.
    """
    options = SearchOptions("fp32", memory=memory, threads=threads)
    near = search_top_k(train, tests, 1, options, keep=pruning.keep(*names))
    return make_proofs(near, pruning.thresholds)


def make_proofs(near: Mapping[str, TopK], limits: Mapping[str, F64]) -> dict[str, Proof]:
    """Return the verifications, given the nearest kept row of each test row."""
    return {
        name: Proof(found.similarity[:, 0], limits[name], found.certificate)
        for name, found in near.items()
    }


def prune_to(
    train: Source,
    tests: Mapping[str, Source],
    size: int,
    rule: PruningRule,
    *,
    seed: int = 0,
    precision: Precision = "auto",
    device: str = "cpu",
    memory: int | str | None = None,
    threads: int | None = None,
) -> Flags:
    """Keep ``size`` rows: the least similar to the test sets, the most similar, or random ones.

    Args:
        train: embeddings of the training set.
        tests: the test sets; with several, the nearest row among all counts.
        size: number of rows to keep.
        rule: "near" removes the nearest rows, "far" the farthest, "random" is a control of the same
            size. Of ties the first are kept.
        seed: random seed of "random".
        precision: see :func:`~shiftproof.similarity.nearest`.
        device: see there.
        memory: see there.
        threads: see there.

    Returns:
        ``(n,)`` bool: the rows to keep.

    Raises:
        InputError: fewer usable rows than ``size``, or a size below 1.
    """
    if rule not in ("near", "far", "random"):
        raise UnknownNameError.of("pruning rule", rule, ["near", "far", "random"])
    found = search_nearest(train, tests, SearchOptions(precision, device, memory, threads))
    return keep_by_similarity(find_highest(found), size, rule, seed=seed)


def find_highest(found: Mapping[str, Nearest]) -> F32:
    """Return each training row's similarity to the nearest row of all test sets; NaN if skipped."""
    return reduce(np.maximum, [near.similarity for near in found.values()])


def keep_by_similarity(similarity: F32, size: int, rule: PruningRule, *, seed: int = 0) -> Flags:
    """Keep ``size`` of the rows, given each one's nearest similarity (NaN: unusable)."""
    usable = np.flatnonzero(~np.isnan(similarity))
    check_size(size, len(usable))
    if rule == "random":
        order = rng.generator(seed, "random pruning").permutation(len(usable))
    else:
        values = similarity[usable] if rule == "near" else -similarity[usable]
        order = np.argsort(values, kind="stable")
    keep = np.zeros(len(similarity), dtype=bool)
    keep[usable[order[:size]]] = True
    return keep


def check_size(size: int, rows: int) -> None:
    """Check the number of rows to keep.

    Raises:
        InputError: it is one of these.
    """
    if rows == 0:
        raise InputError("None of the rows can be used.")
    if not 1 <= size <= rows:
        raise InputError(f"Expected a size of 1 to {rows}, the number of rows, got {size}.")


def _check_named(thresholds: object, name: str) -> None:
    if not isinstance(thresholds, Mapping):
        raise InputError(
            f"Expected thresholds by test set, got {thresholds!r:.40}; write {{{name!r}: ...}}."
        )


def check_one_of(reference: object, thresholds: object) -> None:
    """Check that either a reference or thresholds are given.

    Raises:
        InputError: both or neither are given.
    """
    if (reference is None) == (thresholds is None):
        raise InputError("Expected either a reference training set or thresholds.")


def check_limits(
    tests: Mapping[str, Embeddings], thresholds: Mapping[str, F64 | float]
) -> dict[str, F64]:
    """Return one threshold per row ``(m,)`` for each test set, from those or a single one.

    Raises:
        InputError: thresholds that are missing for a test set, of another shape, or outside -1..1.
    """
    _check_named(thresholds, next(iter(tests)))
    return {
        name: _check_limits(name, thresholds.get(name), len(rows)) for name, rows in tests.items()
    }


def _check_limits(name: str, limit: F64 | float | None, count: int) -> F64:
    if limit is None:
        raise InputError(f"Expected thresholds for every test set, got none for {name}.")
    values = np.broadcast_to(np.asarray(limit, dtype=np.float64), np.shape(limit) or (count,))
    if values.shape != (count,):
        raise InputError(
            f"Expected one threshold for each row ({count:,}) of {name}, got shape {values.shape}."
        )
    if not (np.abs(values) <= 1).all():
        raise InputError(
            f"Expected thresholds in -1..1 for {name}, got {values.min()} to {values.max()}."
        )
    return values
