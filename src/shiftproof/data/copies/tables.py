"""Copies of tables (datasets saved by ``datasets``, Parquet) with changed images, all else kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.data.copies.writing import ExportResult, ImageFormat, Job, Version, name_in_table
from shiftproof.data.images import parquet, saved
from shiftproof.data.images.rows import RowTable
from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.io.border import convert_errors
from shiftproof.io.images import read_image
from shiftproof.types import Image

ROWS = 16
"""Number of rows per batch; the changed images of a batch are in memory in all versions."""

_READERS: Mapping[str, Callable[[Path, int], tuple[Any, Iterator[Any]]]] = {
    "saved": saved.read_arrow_batches,
    "parquet": parquet.read_parquet_batches,
}


def export_table(job: Job, name: str) -> ExportResult:
    """Write the missing versions of one table of ``job.root``; runs in a worker.

    Rows keep their order and number, so that their ids stay. A row whose image cannot be read is
    left without one, and reported.
    """
    missing = job.list_missing(name)
    result = ExportResult(kept=len(job.versions) - len(missing))
    if not missing:
        return result
    table_edit = _TableEdit(job, job.tables[name], result)
    try:
        with contextlib.ExitStack() as stack:
            schema, batches = _READERS[job.layout](job.root / name, ROWS)
            writers = {
                version: stack.enter_context(_open_writer(job, job.locate(version, name), schema))
                for version in missing
            }
            for batch in batches:
                table_edit.write(batch, writers)
    except BrokenFileError as error:
        # The unfinished versions were removed with their temporary files.
        return ExportResult(kept=result.kept, broken={name: str(error)})
    return result


def read_first_rows(
    layout: str, table: RowTable, image_format: ImageFormat, count: int
) -> Iterator[tuple[str, str, Image]]:
    """Yield id, new name and pixels of the readable images among the first rows of a table."""
    _, batches = _READERS[layout](table.path, count)
    for batch in batches:
        for row, cell in enumerate(batch.column(table.column).to_pylist()):
            data, path = _split_cell(cell)
            with contextlib.suppress(BrokenFileError):
                if data is not None:
                    yield (
                        table.make_id(row),
                        name_in_table(path, data, image_format),
                        read_image(data),
                    )
        return


def count_other_bytes(layout: str, table: RowTable) -> int:
    """Return the size in bytes of a table without its images."""
    count = saved.count_other_bytes if layout == "saved" else parquet.count_other_bytes
    return count(table.path, table.column)


@dataclass
class _TableEdit:
    """The change of a table's images; ``row`` is the number of the next row."""

    job: Job
    table: RowTable
    result: ExportResult
    row: int = 0

    def write(self, batch: Any, writers: Mapping[Version, Any]) -> None:
        """Change the images of a batch of rows, and write it in all versions."""
        cells: dict[Version, list[Any]] = {version: [] for version in writers}
        for cell in batch.column(self.table.column).to_pylist():
            key = self.table.make_id(self.row)
            for version, changed in self._edit_cell(key, cell, list(writers)).items():
                cells[version].append(changed)
            self.row += 1
        for version, writer in writers.items():
            start = time.process_time()
            with convert_errors(self.table.path, "its rows cannot be written"):
                writer.write_batch(_replace(batch, self.table.column, cells[version]))
            self.result.write_seconds += time.process_time() - start

    def _edit_cell(self, key: str, cell: Any, versions: list[Version]) -> dict[Version, Any]:
        """Return a row's cell in each version."""
        data, path = _split_cell(cell)
        start = time.process_time()
        try:
            if data is None:
                raise BrokenFileError("the image is not in the dataset")
            image = read_image(data)
        except BrokenFileError as error:
            reason = str(error).removeprefix("image: ")
            self.result.broken[key] = f"{key}: {reason}"
            return dict.fromkeys(versions)
        self.result.decode_seconds += time.process_time() - start
        name = name_in_table(path, data, self.job.image_format)
        return {
            version: _make_cell(
                cell, self.job.make_version(image, version, key, name, self.result), name
            )
            for version in versions
        }


def _split_cell(cell: Any) -> tuple[bytes | None, str | None]:
    """Return the content and the name of the image file in a cell; either may be None."""
    if isinstance(cell, dict):
        return cell.get("bytes"), cell.get("path")
    return cell, None


def _make_cell(old: Any, encoded: bytes, name: str) -> Any:
    if not isinstance(old, dict):
        return encoded
    new_path = {"path": name} if old.get("path") is not None else {}
    return {**old, "bytes": encoded, **new_path}


def _replace(batch: Any, column: str, cells: list[Any]) -> Any:
    """Return a batch of rows with other values of the same type in one column."""
    import pyarrow as pa

    columns = {name: batch.column(name) for name in batch.schema.names}
    columns[column] = pa.array(cells, batch.schema.field(column).type)
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=batch.schema)


@contextlib.contextmanager
def _open_writer(job: Job, path: Path, schema: Any) -> Iterator[Any]:
    """Open a table for writing, which is done atomically."""
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
