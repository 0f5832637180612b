"""The streams of a run: the order of the images and the resets.

They are a pure function of cells, labels, protocol and seed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftproof.bench.cells.protocol import Protocol
from shiftproof.errors import InputError
from shiftproof.rng import generator
from shiftproof.types import CLEAN, I64, Cell, Sample

Indices = NDArray[np.int32]
"""``(N,)`` int32."""


@dataclass(frozen=True, eq=False)
class Visit:
    """A segment of a stream with its own batches: images of one cell, or of mixed cells.

    For each image ``rows`` has the index of its sample and ``cell_indices`` that of its cell in ``cells``.
    ``start`` is the position of its first image in the pass, ``pass_index`` the index of the pass in the
    episode.
    Predictions are stored if ``recorded``; otherwise the model only adapts.
    """

    cells: tuple[Cell, ...]
    rows: Indices
    cell_indices: Indices
    start: int
    pass_index: int
    recorded: bool
    ends_pass: bool

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Episode:
    """The stream between two resets: one pass (online), or several (offline).

    ``name`` is unique in the run and a valid file name; ``passes`` is the number of passes.
    """

    name: str
    visits: tuple[Visit, ...]
    passes: int

    @property
    def is_offline(self) -> bool:
        """Whether the images are predicted in a separate pass after those that adapt."""
        return self.passes > 1

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells of the episode."""
        return tuple(dict.fromkeys(cell for visit in self.visits for cell in visit.cells))

    def cells_finished_by(self, visit: int) -> tuple[Cell, ...]:
        """Return the cells whose last recorded image is in the visit with this number."""
        if not self.visits[visit].recorded:
            return ()
        later = {cell for after in self.visits[visit + 1 :] for cell in after.cells}
        return tuple(cell for cell in self.visits[visit].cells if cell not in later)


def list_episodes(
    cells: Sequence[Cell], samples: Sequence[Sample], protocol: Protocol, *, seed: int
) -> list[Episode]:
    """Return the streams of a run, in processing order.

    Each sample is recorded once in each cell. Cells share one order of the samples, which depends on
    ``seed``, so that they differ only in their corruption.

    Args:
        cells: the cells of the grid, grouped by corruption, with rising severities.
        samples: the images of every cell.
        protocol: the protocol.
        seed: any integer.

    Raises:
        InputError: the protocol orders images by labels, and there are none.
    """
    if protocol.needs_labels and any(sample.label is None for sample in samples):
        raise InputError(
            f"The protocol {protocol} puts the images into an order by their labels, and these "
            "have none; expected labels, or order=shuffled."
        )
    labels = np.array([sample.target for sample in samples], dtype=np.int64)
    orders = _Orders(labels, protocol, seed)
    return [
        _make_episode(name, segments, orders, protocol)
        for name, segments in _split_at_resets(cells, protocol)
    ]


# ---------------------------------------------------------------- orders


def order_in_bursts(
    labels: NDArray[np.integer], concentration: float, rng: np.random.Generator
) -> Indices:
    """Return an order in which classes come in bursts: temporally correlated, as in videos.

    The stream has as many slots as there are classes. For each class the shares of its images in
    the slots are drawn from a symmetric Dirichlet distribution; within a slot the classes come in
    random order. (NOTE, Gong et al. 2022, arXiv 2208.05117, section 4; RoTTA, Yuan
    et al. 2023, arXiv 2303.13899.)

    Differs from NOTE, where all slots have about the same length.

    Args:
        labels: ``(N,)`` any values.
        concentration: above 0; smaller values put a class into fewer slots.
        rng: the random generator.

    Returns:
        A permutation of 0 to N - 1; images of a class keep their order.
    """
    present, codes = np.unique(labels, return_inverse=True)
    slot = np.empty(len(labels), dtype=np.int64)
    for code in range(len(present)):
        members = np.flatnonzero(codes == code)
        shares = rng.dirichlet(np.full(len(present), concentration))
        cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        slot[members] = np.searchsorted(cuts, np.arange(len(members)), side="right")
    class_order = np.stack([rng.permutation(len(present)) for _ in present])  # (slots, classes)
    return np.lexsort((class_order[slot, codes], slot)).astype(np.int32)


class _Orders:
    """The orders of the samples that the streams of one run share."""

    def __init__(self, labels: I64, protocol: Protocol, seed: int) -> None:
        self._labels = labels
        self._protocol = protocol
        self._seed = seed
        # Cells share them: without this a long run would hold each order many times.
        self.order_cell = functools.cache(self._order_cell)
        self.order_mixture = functools.cache(self._order_mixture)

    def _order_cell(self, key: str, part: int, parts: int) -> Indices:
        """Return the samples of one cell, or of a random part of it: ``part`` of ``parts``."""
        rows = self._shuffle(key, len(self._labels))
        size = -(-len(rows) // parts)
        return self._arrange(rows[part * size : (part + 1) * size], f"{key} {part} of {parts}")

    def _order_mixture(self, key: str, cells: int) -> tuple[Indices, Indices]:
        """Return all samples of several cells together: indices of samples and of cells."""
        items = self._arrange(self._shuffle(key, cells * len(self._labels)), f"{key} mixed")
        cell_indices, rows = np.divmod(items, np.int32(len(self._labels)))
        return rows, cell_indices

    def _shuffle(self, key: str, count: int) -> Indices:
        return generator(self._seed, key).permutation(count).astype(np.int32)

    def _arrange(self, items: Indices, key: str) -> Indices:
        """Return shuffled items in the order of the protocol."""
        if self._protocol.order == "shuffled":
            return items
        labels = self._labels[items % len(self._labels)]
        if self._protocol.order == "sorted":
            return items[np.argsort(labels, kind="stable")]
        assert self._protocol.concentration is not None
        rng = generator(self._seed, "correlated order", key)
        return items[order_in_bursts(labels, self._protocol.concentration, rng)]


# ---------------------------------------------------------------- episodes


@dataclass(frozen=True)
class _Segment:
    """The content of a visit before ordering: all images of the cells, or a part of them."""

    cells: tuple[Cell, ...]
    part: int = 0
    parts: int = 1


def _split_at_resets(cells: Sequence[Cell], protocol: Protocol) -> list[tuple[str, list[_Segment]]]:
    """Split the grid at the resets: return the name and the segments of each episode."""
    clean = [(str(CLEAN), [_Segment((CLEAN,))])] if CLEAN in cells else []
    grid = [cell for cell in cells if not cell.is_clean]
    if protocol.reset == "cell":
        return [*clean, *((str(cell), [_Segment((cell,))]) for cell in grid)]
    if protocol.mix == "all":
        return [*clean, ("all", [_Segment(tuple(grid))])]
    segments = {
        name: _order_severities([cell for cell in grid if cell.corruption == name], protocol)
        for name in dict.fromkeys(cell.corruption for cell in grid)
    }
    if protocol.reset == "corruption":
        return [*clean, *segments.items()]
    return [*clean, ("all", [one for group in segments.values() for one in group])]


def _order_severities(cells: list[Cell], protocol: Protocol) -> list[_Segment]:
    """Return the segments of one corruption, in the order of its severities."""
    if protocol.mix == "severities":
        return [_Segment(tuple(cells))]
    if protocol.severity == "rising":
        return [_Segment((cell,)) for cell in cells]
    *milder, strongest = cells
    return [
        *(_Segment((cell,), 0, 2) for cell in milder),
        _Segment((strongest,)),
        *(_Segment((cell,), 1, 2) for cell in reversed(milder)),
    ]


def _make_episode(
    name: str, segments: Sequence[_Segment], orders: _Orders, protocol: Protocol
) -> Episode:
    passes = 1 + (protocol.epochs or 0)
    visits = []
    for pass_index in range(passes):
        last = pass_index == passes - 1
        # The last pass, which is recorded, has the same order as online.
        key = "stream order" if last else f"stream order, pass {pass_index}"
        start = 0
        shown = [(segment, *_order_images(segment, orders, key)) for segment in segments]
        # A part of a single image may be empty.
        shown = [
            (segment, rows, cell_indices) for segment, rows, cell_indices in shown if len(rows)
        ]
        for place, (segment, rows, cell_indices) in enumerate(shown):
            visits.append(
                Visit(
                    segment.cells,
                    rows,
                    cell_indices,
                    start=start,
                    pass_index=pass_index,
                    recorded=last,
                    ends_pass=place == len(shown) - 1,
                )
            )
            start += len(rows)
    return Episode(name, tuple(visits), passes)


def _order_images(segment: _Segment, orders: _Orders, key: str) -> tuple[Indices, Indices]:
    if len(segment.cells) > 1:
        return orders.order_mixture(key, len(segment.cells))
    rows = orders.order_cell(key, segment.part, segment.parts)
    return rows, np.zeros(len(rows), dtype=np.int32)
