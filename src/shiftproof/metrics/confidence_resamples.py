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
from shiftproof.metrics.confidence_order import ConfidenceOrder, OrderSums, by_image, walk
from shiftproof.metrics.intervals import (
    BLOCK_BYTES,
    GROUP_BYTES,
    REPLICATES,
    count_block_rows,
    make_summable,
    resample_weights,
)
from shiftproof.metrics.selective import COVERAGE, Selection, select
from shiftproof.metrics.side_by_side import SideBySide
from shiftproof.types import F32, F64


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """Answers to N images.

    Attributes:
        columns: ``(N, V)`` values to sum over the images; the first is 1 for images that count, else
            0.
        order: the order of the images that count; None if a confidence is unknown.
    """

    columns: F64
    order: ConfidenceOrder | None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.columns.nbytes + (0 if self.order is None else self.order.nbytes)


class Resampled(NamedTuple):
    """Sums over the original images, then over each of R resamples.

    ``sums`` ``(1 + R, V)`` of the columns, ``calibration`` ``(1 + R, BINS)`` of confidence minus
    correctness, and the measures of selective prediction, ``(1 + R,)`` each. NaN without an order.
    """

    sums: F64
    calibration: F64
    selection: Selection


def resample_tables(
    makers: Sequence[Callable[[], PredictionTable]],
    count: int,
    replicates: int = REPLICATES,
    *,
    seed: int = 0,
    done: Callable[[], None] | None = None,
) -> list[Resampled]:
    """Sum every table of answers over the original images and over each resample.

    Sums are exact and on the same resamples as those of :func:`intervals.sum_resamples`.

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
    blocks = resample_weights(count, replicates, seed=seed)
    found: list[Resampled] = []
    for group in _group_tables(makers):
        found += _resample(group, count, blocks, done)
        # Each group draws the same resamples again, which is cheaper than storing them.
        blocks = resample_weights(count, replicates, seed=seed)
    return found


def count_blocks(count: int, replicates: int = REPLICATES) -> int:
    """Return the number of calls of ``done`` for each table."""
    rows = count_block_rows(count)
    together = rows * max(1, BLOCK_BYTES // (rows * count))
    return -(-replicates // together)


def _group_tables(
    makers: Sequence[Callable[[], PredictionTable]],
) -> Iterator[list[PredictionTable]]:
    group: list[PredictionTable] = []
    for make in makers:
        table = make()
        if group and sum(one.nbytes for one in group) + table.nbytes > GROUP_BYTES:
            yield group
            group = []
        group.append(table)
    if group:
        yield group


def _resample(
    group: Sequence[PredictionTable],
    count: int,
    blocks: Iterator[F32],
    done: Callable[[], None] | None,
) -> list[Resampled]:
    tables = SideBySide.of([make_summable(one.columns, count) for one in group])
    once = np.ones((count, 1), np.uint8)
    first = tables.sum_once()
    parts = [
        [_resample_one(one, first[:, places], once)]
        for one, places in zip(group, tables.places, strict=True)
    ]
    for sums, drawn in _join_blocks(tables, blocks):
        for one, places, part in zip(group, tables.places, parts, strict=True):
            part.append(_resample_one(one, sums[:, places], drawn))
            if done is not None:
                done()
    return [_join(part) for part in parts]


def _join_blocks(tables: SideBySide, blocks: Iterator[F32]) -> Iterator[tuple[F64, NDArray[Any]]]:
    """Yield the sums ``(r, V)`` of tables and the weights ``(N, r)`` of many resamples at a time.

    Passes over the order are faster with many resamples; as bytes, the weights of several blocks
    take no more memory than one block of floats.
    """
    buffer = np.empty((0, len(tables.others)))
    sums: list[F64] = []
    drawn: list[NDArray[Any]] = []
    for weights in blocks:
        if len(buffer) < len(weights):
            buffer = np.empty(weights.shape)
        sums.append(tables.sum(weights, buffer[: len(weights)]))
        drawn.append(by_image(weights))
        if sum(one.nbytes for one in drawn) + drawn[-1].nbytes > BLOCK_BYTES:
            yield np.concatenate(sums), np.concatenate(drawn, axis=1)
            sums, drawn = [], []
    if drawn:
        yield np.concatenate(sums), np.concatenate(drawn, axis=1)


def _resample_one(table: PredictionTable, sums: F64, weights: NDArray[Any]) -> Resampled:
    if table.order is None:
        unknown = np.full(len(sums), np.nan)
        return Resampled(
            sums, np.full((len(sums), BINS), np.nan), Selection(unknown, unknown, unknown)
        )
    found: OrderSums = walk(table.order, weights, sums[:, 0], coverage=COVERAGE)
    return Resampled(sums, found.calibration, select(found))


def _join(parts: Sequence[Resampled]) -> Resampled:
    return Resampled(
        np.concatenate([one.sums for one in parts]),
        np.concatenate([one.calibration for one in parts]),
        Selection(*map(np.concatenate, zip(*(one.selection for one in parts), strict=True))),
    )
