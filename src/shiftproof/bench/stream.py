"""The streams of a run: the order of images and the resets, from cells and protocol.

They are a pure function of cells, labels, protocol and seed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shiftproof.bench.protocol import Protocol
from shiftproof.errors import InputError
from shiftproof.rng import generator
from shiftproof.types import CLEAN, I64, Cell, Sample

Indices = NDArray[np.int32]
"""``(N,)`` int32."""


@dataclass(frozen=True, eq=False)
class Visit:
    """A segment of a stream with its own batches: images of one cell, or of mixed cells.

    ``rows`` are the samples' indices and ``which`` the indices in ``cells`` of its images. ``start`` is
    the position of its first image in the pass, ``number`` the index of the pass in the episode.
    Predictions are stored if ``recorded``; otherwise the model only adapts.
    """

    cells: tuple[Cell, ...]
    rows: Indices
    which: Indices
    start: int
    number: int
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


def episodes(
    cells: Sequence[Cell], samples: Sequence[Sample], protocol: Protocol, *, seed: int
) -> list[Episode]:
    """Return the streams of a run, in the order in which they are done.

    Each sample is recorded once in each cell. All streams of a kind share one order of the
    samples, so that cells differ by their corruption alone; it depends on ``seed``.

    Args:
        cells: the cells of the grid; those of a corruption stand together, severities rising.
        samples: the images, which stand in every cell.
        protocol: how they are shown.
        seed: any integer.

    Raises:
        InputError: the protocol orders images by labels, and there are none.
    """
    if protocol.needs_labels and any(sample.label is None for sample in samples):
        raise InputError(
            f"The protocol {protocol} puts the images into an order by their labels, and these "
            "have none; expected labels, or order=shuffled."
        )
    labels = np.array([-1 if s.label is None else s.label for s in samples], dtype=np.int64)
    orders = _Orders(labels, protocol, seed)
    return [
        _episode(name, stretches, orders, protocol)
        for name, stretches in _between_resets(cells, protocol)
    ]


# ---------------------------------------------------------------- orders


def order_in_bursts(
    labels: NDArray[np.integer], concentration: float, rng: np.random.Generator
) -> Indices:
    """Return an order in which classes come in bursts, as things do before a camera.

    The stream has as many slots as there are classes. For each class the shares of its images in
    the slots are drawn from a symmetric Dirichlet distribution; within a slot the classes follow
    each other in random order. (NOTE, Gong et al. 2022, arXiv 2208.05117, section 4; RoTTA, Yuan
    et al. 2023, arXiv 2303.13899.)

    Differs from NOTE, which evens out the lengths of the slots.

    Args:
        labels: ``(N,)``, of any values.
        concentration: above 0; the smaller, the fewer slots hold a class.
        rng: where the draws come from.

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
    turn = np.stack([rng.permutation(len(present)) for _ in present])  # (slots, classes)
    return np.lexsort((turn[slot, codes], slot)).astype(np.int32)


class _Orders:
    """The orders of the samples that the streams of one run share."""

    def __init__(self, labels: I64, protocol: Protocol, seed: int) -> None:
        self._labels = labels
        self._protocol = protocol
        self._seed = seed
        # Cells share them: without this a long run would hold each order many times.
        self.of_cell = functools.cache(self._of_cell)
        self.of_mixture = functools.cache(self._of_mixture)

    def _of_cell(self, key: str, part: int, parts: int) -> Indices:
        """The samples of one cell: one of so many parts of them, assigned at random."""
        rows = self._shuffle(key, len(self._labels))
        size = -(-len(rows) // parts)
        return self._arrange(rows[part * size : (part + 1) * size], f"{key} {part} of {parts}")

    def _of_mixture(self, key: str, cells: int) -> tuple[Indices, Indices]:
        """All samples of so many cells together: which sample, and which of the cells."""
        items = self._arrange(self._shuffle(key, cells * len(self._labels)), f"{key} mixed")
        which, rows = np.divmod(items, np.int32(len(self._labels)))
        return rows, which

    def _shuffle(self, key: str, count: int) -> Indices:
        return generator(self._seed, key).permutation(count).astype(np.int32)

    def _arrange(self, items: Indices, key: str) -> Indices:
        """Shuffled items in the order of the protocol."""
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
class _Stretch:
    """The content of a visit before ordering: all images of the cells, or a part of them."""

    cells: tuple[Cell, ...]
    part: int = 0
    parts: int = 1


def _between_resets(cells: Sequence[Cell], protocol: Protocol) -> list[tuple[str, list[_Stretch]]]:
    """Cut the grid at the resets: name and stretches of each episode."""
    clean = [(str(CLEAN), [_Stretch((CLEAN,))])] if CLEAN in cells else []
    grid = [cell for cell in cells if not cell.is_clean]
    if protocol.reset == "cell":
        return [*clean, *((str(cell), [_Stretch((cell,))]) for cell in grid)]
    if protocol.mix == "all":
        return [*clean, ("all", [_Stretch(tuple(grid))])]
    stretches = {
        name: _severities([cell for cell in grid if cell.corruption == name], protocol)
        for name in dict.fromkeys(cell.corruption for cell in grid)
    }
    if protocol.reset == "corruption":
        return [*clean, *stretches.items()]
    return [*clean, ("all", [one for several in stretches.values() for one in several])]


def _severities(cells: list[Cell], protocol: Protocol) -> list[_Stretch]:
    """Return the stretches of one corruption, in the order of its severities."""
    if protocol.mix == "severities":
        return [_Stretch(tuple(cells))]
    if protocol.severity == "rising":
        return [_Stretch((cell,)) for cell in cells]
    *milder, strongest = cells
    return [
        *(_Stretch((cell,), 0, 2) for cell in milder),
        _Stretch((strongest,)),
        *(_Stretch((cell,), 1, 2) for cell in reversed(milder)),
    ]


def _episode(
    name: str, stretches: Sequence[_Stretch], orders: _Orders, protocol: Protocol
) -> Episode:
    passes = 1 + (protocol.epochs or 0)
    visits = []
    for number in range(passes):
        last = number == passes - 1
        # The pass that counts has the order that online has.
        key = "stream order" if last else f"stream order, pass {number}"
        start = 0
        shown = [(stretch, *_images(stretch, orders, key)) for stretch in stretches]
        # A part of a single image may be empty.
        shown = [(stretch, rows, which) for stretch, rows, which in shown if len(rows)]
        for place, (stretch, rows, which) in enumerate(shown):
            visits.append(
                Visit(
                    stretch.cells,
                    rows,
                    which,
                    start=start,
                    number=number,
                    recorded=last,
                    ends_pass=place == len(shown) - 1,
                )
            )
            start += len(rows)
    return Episode(name, tuple(visits), passes)


def _images(stretch: _Stretch, orders: _Orders, key: str) -> tuple[Indices, Indices]:
    if len(stretch.cells) > 1:
        return orders.of_mixture(key, len(stretch.cells))
    rows = orders.of_cell(key, stretch.part, stretch.parts)
    return rows, np.zeros(len(rows), dtype=np.int32)
