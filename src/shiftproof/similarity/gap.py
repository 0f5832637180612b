"""The similarity gap: how much more similar a training set is to a test set than a reference is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftproof.display import encode_figure, make_figure, write_table
from shiftproof.errors import InputError
from shiftproof.similarity.questions.top_k import TopK, search_top_k
from shiftproof.similarity.search.certificate import Certificate
from shiftproof.similarity.search.options import Precision, SearchOptions
from shiftproof.similarity.sources import Source
from shiftproof.types import F64, I64, Flags

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class SimilarityGap:
    """The nearest training rows of one test set.

    Attributes:
        similarity: ``(m,)`` float64, each test row's similarity to its nearest training row.
        index: ``(m, k)`` int64, its nearest training rows, the nearest first.
        density: ``(m,)`` float64, its mean similarity to them.
        reference: ``(m,)`` float64, its similarity to the nearest row of the reference training
            set; None without a reference.
        certificate: evidence that these are exact.
    """

    similarity: F64
    index: I64
    density: F64
    reference: F64 | None
    certificate: Certificate

    @property
    def gap(self) -> float:
        """Mean difference of the similarities to training set and reference; NaN without a
        reference.
        """
        if self.reference is None:
            return float("nan")
        return float((self.similarity - self.reference).mean())

    @property
    def share_closer(self) -> float:
        """Share of test rows more similar to the training set than to the reference; NaN without
        one.
        """
        if self.reference is None:
            return float("nan")
        return float((self.similarity > self.reference).mean())

    def _repr_html_(self) -> str:
        """Show the means in a notebook."""
        told = {
            "test rows": f"{len(self.similarity):,}",
            "similarity to the nearest training row": f"{self.similarity.mean():.4f}",
            "near-duplicates (0.95 or more)": f"{self.near_duplicates():.1%}",
        }
        if self.reference is not None:
            told |= {
                "the same of the reference": f"{self.reference.mean():.4f}",
                "gap": f"{self.gap:+.4f}",
                "closer than the reference": f"{self.share_closer:.1%}",
            }
        return write_table("SimilarityGap", ["", "mean"], list(told.items()))

    def _repr_png_(self) -> bytes | None:
        """Show the histogram of the similarities in a notebook; None without matplotlib."""
        return encode_figure(self._draw)

    def _draw(self) -> Figure:
        figure = make_figure(6, 3.5)
        axes: Any = figure.subplots()
        axes.hist(self.similarity, bins=40, alpha=0.7, label="training set")
        if self.reference is not None:
            axes.hist(self.reference, bins=40, alpha=0.7, label="reference")
        axes.set_xlabel("similarity to the nearest row")
        axes.set_ylabel("test rows")
        axes.legend()
        return figure

    def near_duplicates(self, threshold: float = 0.95) -> float:
        """Return the share of test rows with a training row at or above the threshold."""
        check_threshold(threshold)
        return float((self.similarity >= threshold).mean())


def gap(
    train: Source,
    tests: Mapping[str, Source],
    *,
    reference: Source | None = None,
    k: int = 10,
    precision: Precision = "auto",
    device: str = "cpu",
    memory: int | str | None = None,
    threads: int | None = None,
) -> dict[str, SimilarityGap]:
    """Measure how similar the training set and the reference are to every test set.

    Args:
        train: embeddings of the training set.
        tests: the test sets by name.
        reference: embeddings of the training set to compare with, such as ImageNet's.
        k: number of nearest training rows whose mean similarity is the density.
        precision: see :func:`~shiftproof.similarity.nearest`.
        device: see there.
        memory: see there.
        threads: see there.

    Raises:
        InputError: no usable training row, or no usable reference row.

    >>> import numpy
    >>> rows = numpy.eye(3, dtype="float32")
    >>> found = gap(rows, {"test": rows[:2]}, reference=rows[1:], k=1)["test"]
    >>> found.similarity.tolist(), found.reference.tolist(), found.gap
    ([1.0, 1.0], [0.0, 1.0], 0.5)
    """
    options = SearchOptions(precision, device, memory, threads)
    near = search_top_k(train, tests, k, options)
    of_reference = None if reference is None else search_top_k(reference, tests, 1, options)
    return {
        name: make_gap(found, None if of_reference is None else of_reference[name])
        for name, found in near.items()
    }


def make_gap(near: TopK, reference: TopK | None) -> SimilarityGap:
    """Return the gap, given a test set's nearest training rows and nearest reference rows.

    Raises:
        InputError: no usable training row, or no usable reference row.
    """
    check_found(near, "training")
    if reference is not None:
        check_found(reference, "reference")
    return SimilarityGap(
        similarity=near.similarity[:, 0],
        index=near.index,
        density=_average_found(near.similarity),
        reference=None if reference is None else reference.similarity[:, 0],
        certificate=near.certificate,
    )


def check_found(near: TopK, side: str) -> None:
    """Check that every test row has a neighbor.

    Raises:
        InputError: none of the training or reference rows (``side``) is usable.
    """
    if not np.isfinite(near.similarity[:, 0]).all():
        raise InputError(f"None of the {side} rows can be used.")


def _average_found(similarity: F64) -> F64:
    found = np.isfinite(similarity)
    total = np.where(found, similarity, 0).sum(axis=1)
    means: F64 = total / np.maximum(found.sum(axis=1), 1)
    return means


def histogram(similarity: ArrayLike, bins: int = 50, low: float = -1) -> tuple[F64, I64]:
    """Return the edges ``(bins + 1,)`` and the counts ``(bins,)``; the last bin includes its upper
    edge.

    Values outside ``low..1``, which come from rounding, count in the first or last bin.

    Args:
        similarity: ``(n,)``; NaN is ignored.
        bins: number of bins of equal width.
        low: lower edge of the first bin.
    """
    values = np.clip(np.asarray(similarity, dtype=np.float64), low, 1)
    counts, edges = np.histogram(values[~np.isnan(values)], bins=bins, range=(low, 1))
    return edges, counts.astype(np.int64)


def cumulative(similarity: ArrayLike, at: ArrayLike) -> F64:
    """Return the share of values at or below each of the values ``at``.

    Args:
        similarity: ``(n,)``; NaN is ignored.
        at: ``(m,)``.

    Returns:
        ``(m,)`` in 0..1.

    Raises:
        InputError: all values are NaN, or there are none.
    """
    values = np.asarray(similarity, dtype=np.float64)
    values = np.sort(values[~np.isnan(values)])
    if not len(values):
        raise InputError("Expected at least one similarity.")
    shares: F64 = np.searchsorted(values, np.asarray(at, dtype=np.float64), side="right") / len(
        values
    )
    return shares


def by_class(values: ArrayLike, labels: ArrayLike) -> dict[int | str, float]:
    """Return the mean value of each class, in the order of the classes.

    Args:
        values: ``(m,)``.
        labels: ``(m,)``, whole numbers or strings.

    Raises:
        InputError: other shapes, or missing labels, such as NaN or None.
    """
    of_row = np.asarray(values, dtype=np.float64)
    classes = _check_labels(labels)
    if of_row.shape != classes.shape or of_row.ndim != 1:
        raise InputError(
            f"Expected one label for each of {of_row.size} values, got {classes.shape}."
        )
    return {label.item(): float(of_row[classes == label].mean()) for label in np.unique(classes)}


def _check_labels(labels: ArrayLike) -> NDArray[Any]:
    """Return labels as int64 or text."""
    given = np.asarray(labels)
    if given.dtype == object and all(isinstance(label, str) for label in given.flat):
        given = given.astype(str)
    if given.dtype.kind == "U":
        return given
    whole = given.dtype.kind in "biu" or (
        given.dtype.kind == "f" and np.isfinite(given).all() and (given == np.rint(given)).all()
    )
    if not whole:
        raise InputError(
            f"Expected labels that are whole numbers or texts, got {given.dtype}, such as "
            f"{_find_odd_label(given)!r}. Leave out rows without a label."
        )
    return given.astype(np.int64)


def _find_odd_label(labels: NDArray[Any]) -> object:
    """Return the first label that is neither a whole number nor a string."""
    for label in labels.ravel().tolist():
        whole = label.is_integer() if isinstance(label, float) else isinstance(label, str | int)
        if not whole:
            return label
    return labels.ravel()[0]


@dataclass(frozen=True, eq=False)
class AccuracyBySimilarity:
    """Accuracy of a model as a function of the similarity to the training set.

    Attributes:
        similarity: ``(bins,)`` float64, the mean similarity in bins of equally many test rows.
        accuracy: ``(bins,)`` float64, the accuracy in each bin.
        count: ``(bins,)`` int64, the number of test rows in each bin.
        advantage: area under the ROC curve of the similarity as a predictor of a correct answer:
            0.5 if it predicts nothing; NaN if all answers are right or all wrong.
    """

    similarity: F64
    accuracy: F64
    count: I64
    advantage: float


def accuracy_by_similarity(
    similarity: ArrayLike, correct: ArrayLike, bins: int = 10
) -> AccuracyBySimilarity:
    """Return the accuracy of a model in bins of similarity to the training set.

    This is a correlation: test rows far from the training set may also be harder for other reasons.

    Args:
        similarity: ``(m,)``, each test row's similarity to its nearest training row.
        correct: ``(m,)`` bool, whether the model's answer is correct.
        bins: number of bins of equal size.

    Raises:
        InputError: different shapes, similarities that are not finite, other values than true and
            false, or more bins than rows.
    """
    near, right = np.asarray(similarity, dtype=np.float64), np.asarray(correct)
    if near.shape != right.shape or near.ndim != 1 or not len(near):
        raise InputError(
            f"Expected one answer for each of {near.shape} similarities, got shape {right.shape}."
        )
    if not np.isfinite(near).all():
        row = int(np.flatnonzero(~np.isfinite(near))[0])
        raise InputError(
            f"Expected finite similarities, got {near[row]} in row {row}; leave out such rows."
        )
    if right.dtype != np.bool_:
        if right.dtype.kind not in "iuf" or not np.isin(right, (0, 1)).all():
            raise InputError("Expected true or false for each row, whether it is right.")
        right = right.astype(bool)
    if not 1 <= bins <= len(near):
        raise InputError(f"Expected 1 to {len(near)} bins, got {bins}.")
    parts = np.array_split(np.argsort(near, kind="stable"), bins)
    return AccuracyBySimilarity(
        similarity=np.array([near[part].mean() for part in parts]),
        accuracy=np.array([right[part].mean() for part in parts]),
        count=np.array([len(part) for part in parts], dtype=np.int64),
        advantage=_compute_advantage(near, right),
    )


def _compute_advantage(values: F64, right: Flags) -> float:
    """Return the area under the ROC curve, from the Mann-Whitney statistic."""
    wins, losses = int(right.sum()), int((~right).sum())
    if not wins or not losses:
        return float("nan")
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[place][right].sum() - wins * (wins + 1) / 2) / (wins * losses))


def check_threshold(threshold: float) -> None:
    """Check that a threshold is a possible cosine similarity.

    Raises:
        InputError: it is outside -1..1.
    """
    if not -1 <= threshold <= 1:
        raise InputError(f"Expected a threshold in -1..1, got {threshold}.")
