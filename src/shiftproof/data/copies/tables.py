"""Tables of images, as ``datasets`` saves them or in Parquet: the images changed, all else kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shiftproof.data.copies.writing import Exported, ImageFormat, Job, Version, encode
from shiftproof.data.copies.writing import name_in_table as name_folder
from shiftproof.data.images import parquet, saved
from shiftproof.data.images.rows import RowTable
from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.io.border import convert_errors
from shiftproof.io.images import read_image
from shiftproof.types import Image

ROWS = 16
"""Rows are changed and written so many at a time: those of all versions are held in memory."""

_READERS: Mapping[str, Callable[[Path, int], tuple[Any, Iterator[Any]]]] = {
    "saved": saved.read_arrow_batches,
    "parquet": parquet.read_parquet_batches,
}


def export_table(job: Job, name: str) -> Exported:
    """Write every version of one table of ``job.root`` that is not there; runs in a worker.

    Rows keep their order and number, so that their ids stay. A row whose image cannot be read is
    left without one, and named.
    """
    missing = [version for version in job.versions if not job.path(version, name).exists()]
    done = Exported(kept=len(job.versions) - len(missing))
    if not missing:
        return done
    change = _Change(job, job.tables[name], done)
    try:
        with contextlib.ExitStack() as stack:
            schema, batches = _READERS[job.layout](job.root / name, ROWS)
            writers = {
                version: stack.enter_context(_open_writer(job, job.path(version, name), schema))
                for version in missing
            }
            for batch in batches:
                change.write(batch, writers)
    except BrokenFileError as error:
        # Whatever was written of it is gone with its temporary files.
        return Exported(kept=len(job.versions) - len(missing), broken={name: str(error)})
    return done


def read_first_rows(
    layout: str, table: RowTable, image_format: ImageFormat, count: int
) -> Iterator[tuple[str, str, Image]]:
    """Yield id, new name and pixels of the first images of a table, those that can be read."""
    _, batches = _READERS[layout](table.path, count)
    for batch in batches:
        for row, cell in enumerate(batch.column(table.column).to_pylist()):
            data, path = _read_content(cell)
            with contextlib.suppress(BrokenFileError):
                if data is not None:
                    yield table.row_id(row), name_folder(path, data, image_format), read_image(data)
        return


def count_others(layout: str, table: RowTable) -> int:
    """Return how many bytes of a table are not images."""
    count = saved.count_other_bytes if layout == "saved" else parquet.count_other_bytes
    return count(table.path, table.column)


@dataclass
class _Change:
    """A table on its way through the change; ``row`` is the next one."""

    job: Job
    table: RowTable
    done: Exported
    row: int = field(default=0)

    def write(self, batch: Any, writers: Mapping[Version, Any]) -> None:
        """Change the images of some rows, and give the rows to the writers of all versions."""
        cells: dict[Version, list[Any]] = {version: [] for version in writers}
        for cell in batch.column(self.table.column).to_pylist():
            key = self.table.row_id(self.row)
            for version, changed in self._change(key, cell, list(writers)).items():
                cells[version].append(changed)
            self.row += 1
        for version, writer in writers.items():
            start = time.process_time()
            with convert_errors(self.table.path, "its rows cannot be written again"):
                writer.write_batch(_replace(batch, self.table.column, cells[version]))
            self.done.write_seconds += time.process_time() - start

    def _change(self, key: str, cell: Any, versions: list[Version]) -> dict[Version, Any]:
        """Return what stands in a row's cell in each version."""
        data, path = _read_content(cell)
        start = time.process_time()
        try:
            if data is None:
                raise BrokenFileError("the image is not in the dataset")
            image = read_image(data)
        except BrokenFileError as error:
            reason = str(error).removeprefix("image: ")
            self.done.broken[key] = f"{key}: {reason}"
            return dict.fromkeys(versions)
        self.done.decode_seconds += time.process_time() - start
        name = name_folder(path, data, self.job.image_format)
        return {
            version: _make_cell(cell, self._encode(image, version, key, name), name)
            for version in versions
        }

    def _encode(self, image: Image, version: Version, key: str, name: str) -> bytes:
        start = time.process_time()
        changed, unusable = self.job.edit(image, version, key)
        self.done.broken.update(unusable)
        middle = time.process_time()
        encoded = encode(changed, name)
        self.done.corrupt_seconds += middle - start
        self.done.write_seconds += time.process_time() - middle
        self.done.written += 1
        return encoded


def _read_content(cell: Any) -> tuple[bytes | None, str | None]:
    """Return the image file in a cell, and its name, of which either may be missing."""
    if isinstance(cell, dict):
        return cell.get("bytes"), cell.get("path")
    return cell, None


def _make_cell(old: Any, encoded: bytes, name: str) -> Any:
    if not isinstance(old, dict):
        return encoded
    named = {"path": name} if old.get("path") is not None else {}
    return {**old, "bytes": encoded, **named}


def _replace(batch: Any, column: str, cells: list[Any]) -> Any:
    """Return the rows with other values in one column, of the same type."""
    import pyarrow as pa

    columns = {name: batch.column(name) for name in batch.schema.names}
    columns[column] = pa.array(cells, batch.schema.field(column).type)
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=batch.schema)


@contextlib.contextmanager
def _open_writer(job: Job, path: Path, schema: Any) -> Iterator[Any]:
    """Open a table that appears whole or not at all, with the columns of another."""
    import pyarrow.ipc
    import pyarrow.parquet as pq

    files.make_folder(path.parent)
    with files.atomic(path, durable=False) as file:
        if job.layout == "saved":
            with pyarrow.ipc.new_stream(file, schema) as writer:
                yield writer
        else:
            with pq.ParquetWriter(file, schema) as writer:
                yield writer
