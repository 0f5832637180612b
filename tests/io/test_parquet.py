"""Parquet files of strangers: what their footers claim is read without pyarrow."""

import io
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shiftproof.errors import BrokenFileError
from shiftproof.io.parquet import NameCache, check_footer, read_parquet
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
    with pytest.raises(ValueError, match=r"claims .* values"):
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


class TestKnownNames:
    """Names of rows that were read before are decoded once, and only where nothing else may follow."""

    def write(self, path, names, **columns):
        pq.write_table(pa.table({"image": names, **columns}), path, compression="none")
        return path

    def test_equal_names_are_one_list(self, tmp_path):
        one = self.write(tmp_path / "1.parquet", ["a", "b", "c"], found=[1, 2, 3])
        two = self.write(tmp_path / "2.parquet", ["a", "b", "c"], other=[0.5, 1.5, 2.5])
        known = NameCache()
        tables = [read_parquet(path, unique="image", cache=known) for path in (one, two)]
        first, second = (known.list_texts(table["image"].chunk(0)) for table in tables)
        assert first is second
        assert tables[1]["other"].to_pylist() == [0.5, 1.5, 2.5]
        assert tables[1]["image"].to_pylist() == ["a", "b", "c"]

    @pytest.mark.parametrize("other", [["a", "b", "d"], ["a", "c", "b"], ["a", "b"]])
    def test_other_names_are_read_anew(self, tmp_path, other):
        known = NameCache()
        read_parquet(
            self.write(tmp_path / "1.parquet", ["a", "b", "c"]), unique="image", cache=known
        )
        table = read_parquet(self.write(tmp_path / "2.parquet", other), unique="image", cache=known)
        assert table["image"].to_pylist() == other

    def test_names_that_are_there_twice_are_refused_whatever_was_read_before(self, tmp_path):
        known = NameCache()
        read_parquet(self.write(tmp_path / "1.parquet", ["a", "b"]), unique="image", cache=known)
        twice = self.write(tmp_path / "2.parquet", ["a", "a"])
        with pytest.raises(BrokenFileError, match="expected different names"):
            read_parquet(twice, unique="image", cache=known)

    def test_a_damaged_byte_of_the_names_is_met(self, tmp_path):
        one = self.write(tmp_path / "1.parquet", [f"name {number}" for number in range(9)])
        two = tmp_path / "2.parquet"
        data = bytearray(one.read_bytes())
        data[data.index(b"name 4") + 5] = ord("7")
        two.write_bytes(data)
        known = NameCache()
        read_parquet(one, unique="image", cache=known)
        with pytest.raises(BrokenFileError, match=r"2\.parquet: not a readable Parquet table"):
            read_parquet(two, unique="image", cache=known)
