"""Parquet files of strangers: what their footers claim is read without pyarrow."""

import io
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shiftproof.errors import BrokenFileError
from shiftproof.io.parquet import check_footer, read_parquet
from shiftproof.io.thrift import read_struct

TABLE = pa.table({"image": ["a", "b"], "found": pa.array([[b"x"], []], pa.list_(pa.binary()))})


def written(**options):
    file = io.BytesIO()
    pq.write_table(TABLE, file, **options)
    return file.getvalue()


def exchange_in_footer(data, old, new):
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8]
    assert old in footer
    changed = footer.replace(old, new, 1)
    return data[: -8 - length] + changed + len(changed).to_bytes(4, "little") + b"PAR1"


def test_what_the_footer_says_is_what_pyarrow_says():
    data = written(row_group_size=1)
    length = int.from_bytes(data[-8:-4], "little")
    footer = read_struct(data[-8 - length : -8])
    said = pq.ParquetFile(io.BytesIO(data)).metadata
    assert footer[3] == said.num_rows
    assert len(footer[4]) == said.num_row_groups == 2
    for group in range(2):
        for column in range(2):
            chunk, own = said.row_group(group).column(column), footer[4][group][1][column][3]
            assert own[5] == chunk.num_values
            assert own[6] == chunk.total_uncompressed_size
            assert ".".join(map(bytes.decode, own[3])) == chunk.path_in_schema
    assert footer[6].decode() == said.created_by


def test_size_statistics_of_another_length_are_an_error_of_the_file(tmp_path):
    # Four definition levels are counted, [0, 1, 0, 1]; now five. Asked for such a column, pyarrow
    # ends the process.
    damaged = exchange_in_footer(written(), b"\x46\0\2\0\2", b"\x56\0\2\0\2\0")
    path = tmp_path / "a.parquet"
    path.write_bytes(damaged)
    with pytest.raises(BrokenFileError, match=r"a\.parquet: .*histogram size mismatch"):
        read_parquet(path, unique="image")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"PAR1" * 2, "too few"),
        (b"PAR1" * 4, "it has no footer"),
        (b"PAR1\0\0\0\0\0\0\0\0PAR1", "ends early"),
        (b"PAR1" + b"\x19\xff\xff\xff\xff\x0f" + b"\6\0\0\0PAR1", "ends early"),
        (b"PAR1" + b"\x1c" * 99 + b"\x63\0\0\0PAR1", "deeper than 32"),
        (b"PAR1" + b"\x16" + b"\xff" * 12 + b"\x0d\0\0\0PAR1", "more than 64 bits"),
    ],
)
def test_a_footer_that_is_none(data, says):
    with pytest.raises(ValueError, match=says):
        check_footer(io.BytesIO(data), len(data))


def test_more_values_than_the_file_has_room_for():
    # num_rows, field 3 of the footer: 2 becomes a thousand million.
    claimed = exchange_in_footer(written(), b"\x16\4\x19", b"\x16\x80\xa8\xd6\xb9\7\x19")
    with pytest.raises(ValueError, match="values are claimed"):
        check_footer(io.BytesIO(claimed), len(claimed))


_COUNT_THREADS = """
import os, sys
from pathlib import Path
import pyarrow.parquet
from shiftproof.io.parquet import read_parquet
from shiftproof.similarity.sources import open_embeddings

def count():
    return len(os.listdir("/proc/self/task"))

file = Path(sys.argv[1])
before = count()
read_parquet(file, unique="image")
read_parquet(file, unique=None)
list(open_embeddings(file.parents[1]).metadata(0))
print(count() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Threads are counted by Linux.")
def test_tables_are_read_in_one_thread(tmp_path):
    """A thread of Arrow that held Python's bytes at the exit would abort the process."""
    for name in ("img_emb", "metadata"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "img_emb" / "img_emb_0.npy", np.ones((2, 4), np.float16))
    file = tmp_path / "metadata" / "metadata_0.parquet"
    file.write_bytes(written(row_group_size=1))
    program = [sys.executable, "-c", _COUNT_THREADS, file]
    assert subprocess.run(program, capture_output=True, check=True).stdout == b"0\n"
