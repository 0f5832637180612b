"""Walk over the grid: which cells there are, and their images in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shiftproof import engine
from shiftproof.errors import BrokenFileError
from shiftproof.rng import generator
from shiftproof.types import CLEAN, Cell, Image, Sample

from .views import View

CHUNK = 8
"""Images per piece of work for a worker process."""


@dataclass
class Batch:
    """The next images of a cell: those that could be read, and why the others could not."""

    cell: Cell
    samples: list[Sample]
    images: list[Image]
    broken: list[tuple[Sample, str]]
    ends_cell: bool


def cells_of(corruptions: Sequence[str], severities: Sequence[int], clean: bool) -> list[Cell]:
    """Return the cells in the order in which they are done: the clean one first."""
    grid = [Cell(name, severity) for name in corruptions for severity in severities]
    return [CLEAN, *grid] if clean else grid


def shuffled(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Return the order in which a model sees the samples: the same in every cell.

    Image folders come sorted by class, and statistics of batches with one class in each are not
    what anybody wants to measure by accident (Schneider et al. 2020 shuffle, too).
    """
    order = generator(seed, "stream order").permutation(len(samples))
    return [samples[i] for i in order]


def batches(
    view: View,
    cells: Sequence[Cell],
    samples: Sequence[Sample],
    *,
    batch_size: int,
    workers: int,
) -> Iterator[Batch]:
    """Yield the images of all ``cells``, each as batches of ``batch_size`` readable images.

    The last batch of a cell is smaller. Workers run ahead into the next cells while the caller is
    busy. Which images share a batch does not depend on ``workers``.
    """
    pieces = [
        _Piece(cell, tuple(samples[start : start + CHUNK]), start + CHUNK >= len(samples))
        for cell in cells
        for start in range(0, len(samples), CHUNK)
    ]
    lookahead = max(2, -(-batch_size // CHUNK))
    loaded = engine.map_ordered(_load, pieces, context=view, workers=workers, lookahead=lookahead)
    batch = Batch(cells[0], [], [], [], ends_cell=False) if cells else None
    for piece, images in zip(pieces, loaded, strict=True):
        assert batch is not None
        for sample, image in zip(piece.samples, images, strict=True):
            if isinstance(image, str):
                batch.broken.append((sample, image))
                continue
            if len(batch.samples) == batch_size:
                yield batch
                batch = Batch(piece.cell, [], [], [], ends_cell=False)
            batch.samples.append(sample)
            batch.images.append(image)
        if piece.ends_cell:
            batch.ends_cell = True
            yield batch
            following = cells.index(piece.cell) + 1
            if following < len(cells):
                batch = Batch(cells[following], [], [], [], ends_cell=False)


@dataclass(frozen=True)
class _Piece:
    cell: Cell
    samples: tuple[Sample, ...]
    ends_cell: bool


def _load(view: View, piece: _Piece) -> list[Image | str]:
    """Runs in a worker: the image of each sample, or the reason why there is none."""
    loaded: list[Image | str] = []
    for sample in piece.samples:
        try:
            loaded.append(view.load(sample, piece.cell))
        except BrokenFileError as error:
            loaded.append(str(error))
    return loaded
