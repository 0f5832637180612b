"""Log-sum-exps of negative distances between two sets of vectors, in memory linear in their size.

For every row a and column b the logit is ``-½ |a - b|²``; the functions return its log-sum-exp over
the columns. The plain form holds the whole matrix. The tiled form holds one tile at a time, keeps
only the sums, and recomputes tiles in the backward pass (as Dao et al. 2022, arXiv 2205.14135, do
for attention); where rows and columns are the same set, the matrix is symmetric and only the tiles
on and above its diagonal are computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

TILE = 512
"""Rows of a tile on a CPU: 1 MB of float32, which stays in the cache of one core."""

TILE_CUDA = 4096
"""Rows of a tile on a GPU, where launching kernels dominates."""

LOG2_E, LN_2 = math.log2(math.e), math.log(2)
"""Powers of two take half the time of powers of e: tiles are in base 2."""

MAX_FLOAT32_SQUARE = 150.0
"""Squared length above which float64 is needed: in float32, products of that size have an error of
1e-5, and so have the softmax weights. A temperature of 0.01 on the sphere gives 100.
"""

SPREAD = 100.0
"""Range of a tile's logits, in bits, below which one maximum serves all: 2^-100 is a normal
float32.
"""


def row_log_sums(
    rows: torch.Tensor,
    columns: torch.Tensor,
    row_ids: torch.Tensor | None = None,
    column_ids: torch.Tensor | None = None,
    *,
    tile: int,
) -> torch.Tensor:
    """Return for each row ``log Σ exp(-½ |row - column|²)`` over the columns whose id differs.

    Rows ``(N, D)`` and columns ``(M, D)`` are float32 or float64; with ids of None all columns are
    used. A single tile is the plain form. Returns ``(N,)``, ``-inf`` where all columns are
    excluded.
    """
    wide_rows, wide_columns = _widen(rows, columns)
    if max(len(rows), len(columns)) <= tile:
        sums = _compute_logits(wide_rows, wide_columns, row_ids, column_ids).logsumexp(1)
    else:
        sums = _LogSums.apply(wide_rows, wide_columns, row_ids, column_ids, tile, False)[0]
    return sums.to(rows.dtype)


def both_log_sums(
    rows: torch.Tensor,
    columns: torch.Tensor,
    row_ids: torch.Tensor | None = None,
    column_ids: torch.Tensor | None = None,
    *,
    tile: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-sums of the rows over the columns, and of the columns over the rows.

    As two calls of ``row_log_sums``, but computes the matrix once.
    """
    wide_rows, wide_columns = _widen(rows, columns)
    if max(len(rows), len(columns)) <= tile:
        logits = _compute_logits(wide_rows, wide_columns, row_ids, column_ids)
        of_rows, of_columns = logits.logsumexp(1), logits.logsumexp(0)
    else:
        of_rows, of_columns, *_ = _LogSums.apply(
            wide_rows, wide_columns, row_ids, column_ids, tile, True
        )
    return of_rows.to(rows.dtype), of_columns.to(rows.dtype)


def own_log_sums(rows: torch.Tensor, ids: torch.Tensor, *, tile: int) -> torch.Tensor:
    """Return the log-sums of the rows over all rows whose id differs, from half of the matrix."""
    [wide] = _widen(rows)
    if len(rows) <= tile:
        sums = _compute_logits(wide, wide, ids, ids).logsumexp(1)
    else:
        sums = _OwnLogSums.apply(wide, ids, tile)[0]
    return sums.to(rows.dtype)


def _widen(*vectors: torch.Tensor) -> list[torch.Tensor]:
    """Return long float32 vectors as float64, since their distances cancel."""
    if vectors[0].dtype != torch.float32 or vectors[0].device.type == "mps":
        return list(vectors)
    longest = max(float(each.detach().square().sum(1).amax()) for each in vectors)
    return [each.double() for each in vectors] if longest > MAX_FLOAT32_SQUARE else list(vectors)


def _compute_logits(
    rows: torch.Tensor,
    columns: torch.Tensor,
    row_ids: torch.Tensor | None,
    column_ids: torch.Tensor | None,
) -> torch.Tensor:
    logits = torch.addmm(-columns.square().sum(1) / 2, rows, columns.T)
    logits = logits - rows.square().sum(1, keepdim=True) / 2
    if row_ids is None or column_ids is None:
        return logits
    return logits.masked_fill(row_ids[:, None] == column_ids, -torch.inf)


# ---------------------------------------------------------------- tiles


@dataclass(frozen=True)
class _Part:
    """A block of rows or columns: its slice, and its smallest and largest id."""

    place: slice
    first: int
    last: int


def _split(count: int, ids: torch.Tensor | None, tile: int) -> list[_Part]:
    places = [slice(start, min(start + tile, count)) for start in range(0, count, tile)]
    if ids is None:
        return [_Part(place, 1, 0) for place in places]
    ends = torch.stack([torch.stack(torch.aminmax(ids[place])) for place in places]).tolist()
    return [_Part(place, *pair) for place, pair in zip(places, ends, strict=True)]


class _Tiles:
    """The logits tile by tile, in one reused buffer."""

    def __init__(
        self,
        rows: torch.Tensor,
        columns: torch.Tensor,
        row_ids: torch.Tensor | None,
        column_ids: torch.Tensor | None,
        tile: int,
    ) -> None:
        self.rows, self.columns = rows, columns
        self._row_ids, self._column_ids = row_ids, column_ids
        same = columns is rows
        self._row_bias = rows.square().sum(1).mul_(-LOG2_E / 2)
        self._column_bias = self._row_bias if same else columns.square().sum(1).mul_(-LOG2_E / 2)
        self.row_parts = _split(len(rows), row_ids, tile)
        self.column_parts = self.row_parts if same else _split(len(columns), column_ids, tile)
        self._logits = rows.new_empty(min(tile, len(rows)) * min(tile, len(columns)))
        self._buffer = torch.empty_like(self._logits)

    def pairs(self) -> Iterator[tuple[_Part, _Part]]:
        for row in self.row_parts:
            for column in self.column_parts:
                yield row, column

    def upper_pairs(self) -> Iterator[tuple[_Part, _Part]]:
        for number, row in enumerate(self.row_parts):
            for column in self.column_parts[number:]:
                yield row, column

    def logits(self, row: _Part, column: _Part) -> torch.Tensor:
        """Return ``-½ |a - b|² log2 e`` of a tile, ``-inf`` where the ids are the same."""
        rows, columns = self.rows[row.place], self.columns[column.place]
        tile = self._logits[: len(rows) * len(columns)].view(len(rows), len(columns))
        torch.addmm(self._column_bias[column.place], rows, columns.T, alpha=LOG2_E, out=tile)
        tile += self._row_bias[row.place, None]
        # Most tiles share no id; comparing the ranges of ids is cheaper than comparing the ids.
        near = row.first <= column.last and column.first <= row.last
        if near and self._row_ids is not None and self._column_ids is not None:
            same = self._row_ids[row.place, None] == self._column_ids[column.place]
            tile.masked_fill_(same, -torch.inf)
        return tile

    def row_sums(self, tile: torch.Tensor) -> torch.Tensor:
        """Return the base-2 log-sums over a tile's columns."""
        return self._sums(tile, 1)

    def both_sums(self, tile: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the base-2 log-sums over a tile's columns and rows; overwrites the tile."""
        peak = _find_common_peak(tile)
        if peak is None:
            return self._sums(tile, 1), self._sums(tile, 0)
        powers = tile.sub_(peak).exp2_()
        return powers.sum(1).log2_().add_(peak), powers.sum(0).log2_().add_(peak)

    def row_shares(
        self, tile: torch.Tensor, sums: torch.Tensor, gradient: torch.Tensor
    ) -> torch.Tensor:
        """Return the tile's softmax weights over its rows, times their gradient, in place."""
        return tile.sub_(sums[:, None]).exp2_().mul_(gradient[:, None])

    def both_shares(
        self,
        tile: torch.Tensor,
        row_sums: torch.Tensor,
        row_gradient: torch.Tensor,
        column_sums: torch.Tensor,
        column_gradient: torch.Tensor,
    ) -> torch.Tensor:
        """Return the sum of both for rows and columns, in place."""
        buffer = self._buffer[: tile.numel()].view_as(tile)
        peak = _find_common_peak(tile)
        if peak is None:
            torch.sub(tile, column_sums, out=buffer).exp2_().mul_(column_gradient)
            return self.row_shares(tile, row_sums, row_gradient).add_(buffer)
        of_rows = (peak - row_sums).exp2_().mul_(row_gradient)
        of_columns = (peak - column_sums).exp2_().mul_(column_gradient)
        torch.add(of_rows[:, None], of_columns, out=buffer)
        return tile.sub_(peak).exp2_().mul_(buffer)

    def _sums(self, tile: torch.Tensor, axis: int) -> torch.Tensor:
        peak = tile.amax(axis, keepdim=True)
        peak.masked_fill_(peak == -torch.inf, 0)
        buffer = self._buffer[: tile.numel()].view_as(tile)
        torch.sub(tile, peak, out=buffer).exp2_()
        return buffer.sum(axis).log2_().add_(peak.squeeze(axis))


def _find_common_peak(tile: torch.Tensor) -> float | None:
    """Return the largest logit if no other underflows next to it; it serves rows and columns."""
    low, high = torch.stack(torch.aminmax(tile)).tolist()
    return high if high - low < SPREAD else None


def _replace_infinite(log_sums: torch.Tensor) -> torch.Tensor:
    """Replace -inf by 0: where all columns are excluded, the weights are exp(-inf - 0) = 0, not
    NaN.
    """
    return log_sums.masked_fill(log_sums == -torch.inf, 0)


class _LogSums(torch.autograd.Function):
    """Log-sums of rows over columns; the second result, for columns, is empty unless ``both``.

    The third and fourth are the same in base 2, for the backward pass: ``torch.func`` needs
    everything that is saved in ``setup_context`` to be an input or output.
    """

    @staticmethod
    def forward(
        rows: torch.Tensor,
        columns: torch.Tensor,
        row_ids: torch.Tensor | None,
        column_ids: torch.Tensor | None,
        tile: int,
        both: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        tiles = _Tiles(rows, columns, row_ids, column_ids, tile)
        of_rows = rows.new_full((len(rows),), -torch.inf)
        of_columns = rows.new_full((len(columns) if both else 0,), -torch.inf)
        for row, column in tiles.pairs():
            logits = tiles.logits(row, column)
            if both:
                for_rows, for_columns = tiles.both_sums(logits)
                _add(of_columns, column, for_columns)
            else:
                for_rows = tiles.row_sums(logits)
            _add(of_rows, row, for_rows)
        return of_rows * LN_2, of_columns * LN_2, of_rows, of_columns

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        rows, columns, row_ids, column_ids, ctx.tile, ctx.both = inputs
        _, natural, of_rows, of_columns = output
        ctx.save_for_backward(rows, columns, row_ids, column_ids, of_rows, of_columns)
        ctx.mark_non_differentiable(of_rows, of_columns, *(() if ctx.both else (natural,)))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, of_rows: torch.Tensor, of_columns: torch.Tensor, *_: torch.Tensor
    ) -> tuple[Any, ...]:
        rows, columns, row_ids, column_ids, row_sums, column_sums = ctx.saved_tensors
        row_sums, column_sums = _replace_infinite(row_sums), _replace_infinite(column_sums)
        with torch.autocast(rows.device.type, enabled=False):
            tiles = _Tiles(rows, columns, row_ids, column_ids, ctx.tile)
            to_rows, to_columns = torch.zeros_like(rows), torch.zeros_like(columns)
            row_weights, column_weights = torch.zeros_like(row_sums), rows.new_zeros(len(columns))
            for row, column in tiles.pairs():
                r, c = row.place, column.place
                logits = tiles.logits(row, column)
                if ctx.both:
                    shares = tiles.both_shares(
                        logits, row_sums[r], of_rows[r], column_sums[c], of_columns[c]
                    )
                else:
                    shares = tiles.row_shares(logits, row_sums[r], of_rows[r])
                to_rows[r].addmm_(shares, columns[c])
                to_columns[c].addmm_(shares.T, rows[r])
                row_weights[r] += shares.sum(1)
                column_weights[c] += shares.sum(0)
            to_rows.addcmul_(rows, row_weights[:, None], value=-1)
            to_columns.addcmul_(columns, column_weights[:, None], value=-1)
        return to_rows, to_columns, None, None, None, None


class _OwnLogSums(torch.autograd.Function):
    """Log-sums of rows over the same rows: a tile above the diagonal also serves its transpose.

    The second result is the first in base 2, for the backward pass.
    """

    @staticmethod
    def forward(
        rows: torch.Tensor, ids: torch.Tensor, tile: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        tiles = _Tiles(rows, rows, ids, ids, tile)
        sums = rows.new_full((len(rows),), -torch.inf)
        for row, column in tiles.upper_pairs():
            logits = tiles.logits(row, column)
            if column is row:
                _add(sums, row, tiles.row_sums(logits))
            else:
                for_rows, for_columns = tiles.both_sums(logits)
                _add(sums, row, for_rows)
                _add(sums, column, for_columns)
        return sums * LN_2, sums

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        rows, ids, ctx.tile = inputs
        ctx.save_for_backward(rows, ids, output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, _: torch.Tensor) -> tuple[Any, ...]:
        rows, ids, sums = ctx.saved_tensors
        sums = _replace_infinite(sums)
        with torch.autocast(rows.device.type, enabled=False):
            tiles = _Tiles(rows, rows, ids, ids, ctx.tile)
            to_rows, weights = torch.zeros_like(rows), torch.zeros_like(sums)
            for row, column in tiles.upper_pairs():
                r, c = row.place, column.place
                logits = tiles.logits(row, column)
                if column is row:
                    shares = tiles.row_shares(logits, sums[r], gradient[r])
                else:
                    shares = tiles.both_shares(logits, sums[r], gradient[r], sums[c], gradient[c])
                to_rows[r].addmm_(shares, rows[c])
                to_rows[c].addmm_(shares.T, rows[r])
                weights[r] += shares.sum(1)
                weights[c] += shares.sum(0)
            to_rows.addcmul_(rows, weights[:, None], value=-1)
        return to_rows, None, None


def _add(log_sums: torch.Tensor, part: _Part, more: torch.Tensor) -> None:
    there = log_sums[part.place]
    log_sums[part.place] = torch.logaddexp2(there, more)
