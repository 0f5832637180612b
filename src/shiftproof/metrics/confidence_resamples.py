"""Bootstrap of calibration and selective prediction for many tables of answers together.

All tables share the resamples, and each table is sorted once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shiftproof.metrics.calibration import BINS
from shiftproof.metrics.confidence_order import (
    ConfidenceOrder,
    sum_along_order,
    transpose_weights,
)
from shiftproof.metrics.intervals import (
    BLOCK_BYTES,
    GROUP_BYTES,
    REPLICATES,
    blank_resamples,
    count_block_rows,
    make_summable,
    resample_weights,
)
from shiftproof.metrics.selective import COVERAGE, SelectiveMetrics, average_sums
from shiftproof.metrics.stacked_tables import StackedTables
from shiftproof.types import F32, F64


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """Answers to N images.

    Attributes:
        columns: ``(N, V)`` values to sum over the images; the first is 1 for images that count,
            else 0.
        order: the order of the images that count; None if a confidence is unknown.
    """

    columns: F64
    order: ConfidenceOrder | None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.columns.nbytes + (0 if self.order is None else self.order.nbytes)


class ResampledSums(NamedTuple):
    """Sums over the original images, then over each of R resamples.

    ``sums`` ``(1 + R, V)`` of the columns, ``calibration`` ``(1 + R, BINS)`` of confidence minus
    correctness, and the measures of selective prediction, ``(1 + R,)`` each. NaN without an order.
    """

    sums: F64
    calibration: F64
    selective: SelectiveMetrics


def sum_tables(
    makers: Sequence[Callable[[], PredictionTable]],
    count: int,
    replicates: int = REPLICATES,
    *,
    seed: int = 0,
    done: Callable[[], None] | None = None,
) -> list[ResampledSums]:
    """Sum every table of answers over the original images and over each resample.

    Sums are exact and on the same resamples as those of :func:`intervals.sum_resamples`; of a
    single image all resamples are NaN.

    Args:
        makers: functions that return the answers; each is called once, and the results are held in
            memory in groups.
        count: number of images.
        replicates: number of resamples.
        seed: random seed of the resamples.
        done: called :func:`count_blocks` times for each table, to show progress.

    Raises:
        InputError: no images, no resamples, or columns of another shape.
    """
    sums: list[ResampledSums] = []
    # The first blocks are drawn before a table is made, to check the counts.
    blocks = resample_weights(count, replicates, seed=seed)
    for group in _group_tables(makers):
        sums += _sum_group(group, count, blocks, done)
        # Each group draws the same resamples again, which is cheaper than storing them.
        blocks = resample_weights(count, replicates, seed=seed)
    return sums


def count_blocks(count: int, replicates: int = REPLICATES) -> int:
    """Return the number of calls of ``done`` for each table."""
    rows = count_block_rows(count)
    joined = rows * max(1, BLOCK_BYTES // (rows * count))
    return -(-replicates // joined)


def _group_tables(
    makers: Sequence[Callable[[], PredictionTable]],
) -> Iterator[list[PredictionTable]]:
    group: list[PredictionTable] = []
    for make in makers:
        table = make()
        if group and sum(held.nbytes for held in group) + table.nbytes > GROUP_BYTES:
            yield group
            group = []
        group.append(table)
    if group:
        yield group


def _sum_group(
    group: Sequence[PredictionTable],
    count: int,
    blocks: Iterator[F32],
    done: Callable[[], None] | None,
) -> list[ResampledSums]:
    stacked = StackedTables.stack([make_summable(table.columns, count) for table in group])
    ones = np.ones((count, 1), np.uint8)
    original = stacked.sum_once()
    parts = [
        [_sum_table(table, original[:, indices], ones)]
        for table, indices in zip(group, stacked.indices, strict=True)
    ]
    for sums, weights in _join_blocks(stacked, blocks):
        for table, indices, part in zip(group, stacked.indices, parts, strict=True):
            part.append(_sum_table(table, sums[:, indices], weights))
            if done is not None:
                done()
    return [_blank_resamples(_join_parts(part), count) for part in parts]


def _join_blocks(
    tables: StackedTables, blocks: Iterator[F32]
) -> Iterator[tuple[F64, NDArray[Any]]]:
    """Yield the sums ``(r, V)`` of tables and the weights ``(N, r)`` of many resamples at a time.

    Passes over the order are faster with many resamples; as bytes, the weights of several blocks
    take no more memory than one block of floats.
    """
    buffer = np.empty((0, len(tables.floats)))
    sums: list[F64] = []
    columns: list[NDArray[Any]] = []
    for weights in blocks:
        if len(buffer) < len(weights):
            buffer = np.empty(weights.shape)
        sums.append(tables.sum(weights, buffer[: len(weights)]))
        columns.append(transpose_weights(weights))
        if sum(held.nbytes for held in columns) + columns[-1].nbytes > BLOCK_BYTES:
            yield np.concatenate(sums), np.concatenate(columns, axis=1)
            sums, columns = [], []
    if columns:
        yield np.concatenate(sums), np.concatenate(columns, axis=1)


def _sum_table(table: PredictionTable, sums: F64, weights: NDArray[Any]) -> ResampledSums:
    if table.order is None:
        unknown = np.full(len(sums), np.nan)
        return ResampledSums(
            sums, np.full((len(sums), BINS), np.nan), SelectiveMetrics(unknown, unknown, unknown)
        )
    along = sum_along_order(table.order, weights, sums[:, 0], coverage=COVERAGE)
    return ResampledSums(sums, along.calibration, average_sums(along))


def _blank_resamples(sums: ResampledSums, count: int) -> ResampledSums:
    """Blank the resamples of a single image."""
    return ResampledSums(
        blank_resamples(sums.sums, count),
        blank_resamples(sums.calibration, count),
        SelectiveMetrics(*(blank_resamples(one, count) for one in sums.selective)),
    )


def _join_parts(parts: Sequence[ResampledSums]) -> ResampledSums:
    sums, calibration, selective = zip(*parts, strict=True)
    return ResampledSums(
        np.concatenate(sums),
        np.concatenate(calibration),
        SelectiveMetrics(*map(np.concatenate, zip(*selective, strict=True))),
    )
