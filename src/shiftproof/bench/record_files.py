"""The files of record tables, of all kinds of models: Parquet, written atomically, and refused kindly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from shiftproof.errors import BrokenFileError
from shiftproof.io import files

if TYPE_CHECKING:
    import pyarrow


def write_table(path: Path, table: pyarrow.Table) -> None:
    """Write a table atomically: the same table gives the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    files.write_bytes(path, buffer.getvalue().to_pybytes())


@contextlib.contextmanager
def reading(path: Path) -> Iterator[pyarrow.Table]:
    """Hand out a table for as long as it is read and checked.

    Raises:
        BrokenFileError: the file is missing or damaged, or something in it was not as expected.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        yield pq.read_table(pa.BufferReader(path.read_bytes()))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        # pyarrow's own errors are ValueErrors; columns of another kind lack what is asked of them.
        raise BrokenFileError(
            f"{path}: not a readable record table ({str(error).splitlines()[0][:200]}). "
            "Delete it and start the run again: only what is missing is done anew."
        ) from error


def other_images(path: Path) -> BrokenFileError:
    """Return the complaint that a table is of other images than those before it."""
    return BrokenFileError(
        f"{path}: its images are not those of the other cells. Delete it and start the "
        "run again: only what is missing is done anew."
    )
