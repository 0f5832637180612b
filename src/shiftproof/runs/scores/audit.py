"""``scores.json`` of an audit: how close a training set comes to test sets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from shiftproof.counts import pluralize
from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.reading import AT, describe_range, is_outside
from shiftproof.runs.scores.shared import Count, Resampling, Share
from shiftproof.runs.scores.tidy import Row, TidyScores, list_columns

MEASURE: Final = "cosine similarity"

BEYOND = 0.0202
"""Rows may have norms up to 1.01 (``similarity.sources``), so products may exceed 1 by this
much."""

Cosine = Annotated[float, Meta(ge=-1 - BEYOND, le=1 + BEYOND)]

_RANGES = {
    "similarity": (-1.0, 1.0),
    "density": (-1.0, 1.0),
    "near_duplicates": (0.0, 1.0),
    "reference_similarity": (-1.0, 1.0),
    "reference_near_duplicates": (0.0, 1.0),
    "gap": (-2.0, 2.0),
    "share_closer": (0.0, 1.0),
}


@dataclass(frozen=True)
class Certificate:
    """The evidence that a search is exact, and the work that it took.

    Attributes:
        precision: "int8", "fp32", "fp16" or "bf16": precision of the products that exclude pairs.
        bound: upper bound of the error of such a product, in units of similarity.
        dimensions: number of dimensions of the first partial products.
        products: number of pairs of rows.
        groups: groups of 16 test rows that the bound could not exclude (int8).
        candidates: pairs whose product was recomputed: those of these groups (int8), or those that
            the bound could not exclude (fp16 and bf16).
        rechecked: pairs whose product was computed in float64.
        set_aside: training rows that were compared in float32 because they do not suit 8 bits.
        skipped: unusable training rows.
        device: "cpu" or "cuda", the device of these products.
    """

    precision: str
    bound: float
    dimensions: Count
    products: Count
    groups: Count
    candidates: Count
    rechecked: Count
    set_aside: Count
    skipped: Count
    device: str = "cpu"

    def merge(self, other: Certificate) -> Certificate:
        """Return the combined certificate of two parts of a search."""
        return Certificate(
            precision=self.precision if self.precision == other.precision else "mixed",
            bound=max(self.bound, other.bound),
            dimensions=max(self.dimensions, other.dimensions),
            products=self.products + other.products,
            groups=self.groups + other.groups,
            candidates=self.candidates + other.candidates,
            rechecked=self.rechecked + other.rechecked,
            set_aside=self.set_aside + other.set_aside,
            skipped=self.skipped + other.skipped,
            device=self.device if self.device == other.device else "mixed",
        )


class Certificates(msgspec.Struct, frozen=True):
    """The certificates of the searches for one test set.

    Attributes:
        train: the nearest training rows of each test row.
        nearest: the nearest test row of each training row.
        reference: the nearest reference row of each test row.
        pruned: the training rows that are closer than the reference.
    """

    train: Certificate | None = None
    nearest: Certificate | None = None
    reference: Certificate | None = None
    pruned: Certificate | None = None


class RowCounts(msgspec.Struct, frozen=True):
    """Counts of a set: rows, unusable rows, dimensions, and shards."""

    rows: Count
    skipped: Count
    width: Count
    shards: Count


class Histograms(msgspec.Struct, frozen=True):
    """Test rows in each bin, by their similarity to the nearest training and reference row."""

    train: tuple[Count, ...]
    reference: tuple[Count, ...] | None = None


class Curves(msgspec.Struct, frozen=True):
    """Cumulative shares of the test rows up to the upper edge of each bin."""

    train: tuple[Share, ...]
    reference: tuple[Share, ...] | None = None


class ClassFigures(msgspec.Struct, frozen=True):
    """One class of a test set: means over its rows, without intervals."""

    label: str
    rows: Count
    similarity: Cosine
    near_duplicates: Share
    reference_similarity: Cosine | None = None
    gap: float | None = None
    share_closer: Share | None = None


class Neighbor(msgspec.Struct, frozen=True):
    """A training row near a test row: its index in the set and in its shard, key and image."""

    row: Count
    shard: str
    place: Count
    key: str | None
    path: str | None
    similarity: Cosine


class Leak(msgspec.Struct, frozen=True):
    """A test row with its nearest training rows, the nearest first."""

    row: Count
    key: str | None
    path: str | None
    label: str | None
    similarity: Cosine
    train: tuple[Neighbor, ...]


class PrunedRows(msgspec.Struct, frozen=True):
    """The training rows that gap-matched pruning for one test set removes."""

    rows: Count
    share: Share


class TestSet(msgspec.Struct, frozen=True):
    """All scores of one test set; those that need a reference are None without one.

    Attributes:
        name: name of the test set.
        rows: number of rows.
        similarity: mean cosine similarity to the nearest training row.
        density: mean similarity to the k nearest training rows.
        near_duplicates: share of the rows with a training row at ``AuditScores.duplicates`` or more.
        reference_similarity: as ``similarity``, to the reference.
        reference_near_duplicates: as ``near_duplicates``, of the reference.
        gap: mean of ``similarity`` less ``reference_similarity``, paired by row.
        share_closer: share of the rows to which the training set is closer than the reference.
        histogram: the rows by their similarity to the nearest row.
        cumulative: the cumulative histogram.
        train_histogram: the training rows by their similarity to the nearest row of this set.
        classes: means of each class; none without labels.
        leakage: the rows with the nearest training rows, the most similar first.
        pruned: the rows that gap-matched pruning for this set removes.
        certificates: evidence that the searches were exact.
    """

    __test__ = False  # pytest would collect a class of this name

    name: str
    rows: Count
    similarity: Interval
    density: Interval
    near_duplicates: Interval
    reference_similarity: Interval | None
    reference_near_duplicates: Interval | None
    gap: Interval | None
    share_closer: Interval | None
    histogram: Histograms
    cumulative: Curves
    train_histogram: tuple[Count, ...]
    classes: tuple[ClassFigures, ...]
    leakage: tuple[Leak, ...]
    pruned: PrunedRows | None
    certificates: Certificates

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            interval: Interval | None = getattr(self, name)
            for end in ("value", "low", "high") if interval is not None else ():
                value = getattr(interval, end)
                if value is not None and is_outside(value, low, high, slack=2 * BEYOND):
                    raise ValueError(f"{describe_range(low, high)}{AT}{name}.{end}")

    def list_bins(self) -> Iterator[tuple[str, tuple[float, ...]]]:
        """Yield each field with a number per bin, with its name."""
        yield "train_histogram", self.train_histogram
        for name, sides in (("histogram", self.histogram), ("cumulative", self.cumulative)):
            yield f"{name}.train", sides.train
            if sides.reference is not None:
                yield f"{name}.reference", sides.reference


class PruningCosts(msgspec.Struct, frozen=True):
    """Rows removed by gap-matched pruning for all test sets, and the overlap between test sets.

    Attributes:
        names: the test sets.
        combined: training rows that pruning for all of them removes.
        share: the same as a share of all training rows.
        shared: element (i, j) is the share of the rows removed for test set j that pruning for test
            set i removes; None if there are none.
    """

    names: tuple[str, ...]
    combined: Count
    share: Share
    shared: tuple[tuple[Share | None, ...], ...]

    def __post_init__(self) -> None:
        count = len(self.names)
        if len(self.shared) != count or any(len(row) != count for row in self.shared):
            raise ValueError(
                f"a row and a column for each of {pluralize(count, 'test set')}{AT}shared"
            )


class AuditScores(TidyScores, frozen=True):
    """The content of ``scores.json``.

    Attributes:
        format: format number of the file.
        kind: kind of the run.
        measure: the measure, cosine similarity.
        interval: how the intervals were made.
        k: number of nearest training rows for the density.
        duplicates: similarity threshold of near-duplicates.
        train: the training set.
        reference: the reference set, if any.
        edges: ``bins + 1`` bin edges of all histograms, ascending.
        sets: the test sets.
        pruning: the rows that pruning for several of them removes.
    """

    format: int
    kind: Literal["similarity"]
    measure: Literal["cosine similarity"]
    interval: Resampling
    k: Count
    duplicates: Annotated[float, Meta(ge=-1, le=1)]
    train: RowCounts
    reference: RowCounts | None
    edges: tuple[float, ...]
    sets: tuple[TestSet, ...]
    pruning: PruningCosts | None

    def rows(self) -> Iterator[Row]:
        """Yield a row per test set and measure."""
        for test_set in self.sets:
            for name in _RANGES:
                yield {
                    "set": test_set.name,
                    "measure": name,
                    **list_columns(getattr(test_set, name)),
                }

    def __post_init__(self) -> None:
        if len(self.edges) < 2 or any(low >= high for low, high in itertools.pairwise(self.edges)):
            raise ValueError(f"two or more rising numbers{AT}edges")
        bins = len(self.edges) - 1
        for index, test_set in enumerate(self.sets):
            for field, values in test_set.list_bins():
                if len(values) != bins:
                    raise ValueError(f"{bins} numbers, one per bin{AT}sets[{index}].{field}")
