"""Iterating over the grid: its cells, and the images of a stream in batches."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

from shiftproof.bench.cells.stream import Visit
from shiftproof.bench.cells.views import View
from shiftproof.compute import processes
from shiftproof.errors import BrokenFileError
from shiftproof.types import CLEAN, Cell, Image, Sample

CHUNK = 8
"""Images per work item of a worker process."""


@dataclass
class Batch:
    """The next images of a visit, and the reasons for unreadable ones.

    ``rows`` says for each of ``images`` which sample it is of, ``cells`` which cell. ``start`` is
    the place of the first of them in the stream; the broken ones come behind them, each with row,
    cell and reason.
    """

    start: int
    rows: list[int] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    broken: list[tuple[int, Cell, str]] = field(default_factory=list)
    ends_visit: bool = False

    def __len__(self) -> int:
        return len(self.images) + len(self.broken)


def list_cells(corruptions: Sequence[str], severities: Sequence[int], clean: bool) -> list[Cell]:
    """Return the cells in processing order: the clean one first."""
    grid = [Cell(name, severity) for name in corruptions for severity in severities]
    return [CLEAN, *grid] if clean else grid


def make_batches(
    view: View,
    visits: Sequence[Visit],
    samples: Sequence[Sample],
    *,
    batch_size: int,
    workers: int,
) -> Generator[Batch, None, None]:
    """Yield the images of all ``visits``, each as batches of ``batch_size`` readable images.

    The last batch of a visit is smaller, and there is one where nothing could be read. Workers run
    ahead into the next visits while the caller is busy. Which images share a batch does not depend
    on ``workers``.
    """
    lookahead = max(2, -(-batch_size // CHUNK))
    loaded = processes.map_ordered(
        _load, _split_visits(visits, samples), context=view, workers=workers, lookahead=lookahead
    )
    for visit in visits:
        batch = Batch(visit.start)
        # A second iterator over the same items, as a list of them would fill the memory. It comes
        # first, so that no result is consumed after the end of the visit.
        for chunk, images in zip(_split_visits([visit], samples), loaded, strict=False):
            for row, cell, image in zip(chunk.rows, chunk.cells, images, strict=True):
                if isinstance(image, str):
                    batch.broken.append((row, cell, image))
                    continue
                if len(batch.images) == batch_size:
                    yield batch
                    batch = Batch(batch.start + len(batch))
                batch.rows.append(row)
                batch.cells.append(cell)
                batch.images.append(image)
        batch.ends_visit = True
        yield batch


@dataclass(frozen=True)
class _Chunk:
    rows: list[int]
    samples: list[Sample]
    cells: list[Cell]


def _split_visits(visits: Sequence[Visit], samples: Sequence[Sample]) -> Iterator[_Chunk]:
    """Split visits into work items, none of which spans two visits."""
    for visit in visits:
        for start in range(0, len(visit), CHUNK):
            rows = visit.rows[start : start + CHUNK].tolist()
            cell_indices = visit.cell_indices[start : start + CHUNK].tolist()
            yield _Chunk(
                rows, [samples[row] for row in rows], [visit.cells[i] for i in cell_indices]
            )


def _load(view: View, chunk: _Chunk) -> list[Image | str]:
    """Return each image, or the error; runs in a worker."""
    loaded: list[Image | str] = []
    for sample, cell in zip(chunk.samples, chunk.cells, strict=True):
        try:
            loaded.append(view.load(sample, cell))
        except BrokenFileError as error:
            loaded.append(str(error))
    return loaded
