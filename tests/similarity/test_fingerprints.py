"""Data that changed is refused, however little; data that is only elsewhere, or touched, is not."""

import os
import shutil

import numpy as np
import pytest

from shiftproof.errors import RunMismatchError
from shiftproof.similarity import open_embeddings
from shiftproof.similarity.keeping import write_deduplicated
from support.embedding_trees import datacomp, unit_rows

ROWS = unit_rows(2000, width=64)


def changed_in_place(path, row=1234):
    """Change one row in place, without a trace in size, times or inode."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-(len(ROWS) - row) * 64 * 2, os.SEEK_END)
        file.write(ROWS[3].tobytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def train(tmp_path):
    (tmp_path / "train").mkdir()
    np.save(tmp_path / "train" / "rows.npy", ROWS)
    return tmp_path / "train"


def test_a_row_that_was_changed_in_place_is_refused(train, tmp_path):
    assert write_deduplicated(train, tmp_path / "out")["kept"] == 2000
    changed_in_place(train / "rows.npy")
    with pytest.raises(RunMismatchError, match="other content"):
        write_deduplicated(train, tmp_path / "out")
    assert write_deduplicated(train, tmp_path / "new")["kept"] == 1999


def test_a_copy_elsewhere_and_a_touched_file_go_on(train, tmp_path):
    write_deduplicated(train, tmp_path / "out")
    shutil.copytree(train, tmp_path / "other", copy_function=shutil.copyfile)
    os.utime(train / "rows.npy", (1, 1))
    for place in (tmp_path / "other", train):
        assert write_deduplicated(place, tmp_path / "out")["kept"] == 2000


def test_large_files_are_known_by_their_times_and_samples(train, tmp_path, monkeypatch):
    monkeypatch.setattr("shiftproof.similarity.sources.WHOLE_BYTES", 1000)
    path = train / "rows.npy"
    known = open_embeddings(train).fingerprint()
    shutil.copytree(train, tmp_path / "other")  # as cp -p does
    assert open_embeddings(tmp_path / "other").fingerprint() == known
    before = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert open_embeddings(train).fingerprint() != known


def test_an_array_of_an_npz_is_known_by_its_checksum(tmp_path):
    rows = unit_rows(500)
    folder = datacomp(tmp_path / "pool", [rows])
    known = {
        name: open_embeddings(folder, array=name).fingerprint() for name in ("b32_img", "l14_img")
    }
    assert len(set(known.values())) == 2
    rows[250] = rows[3]
    other = datacomp(tmp_path / "changed", [rows])
    assert open_embeddings(other, array="b32_img").fingerprint() != known["b32_img"]


@pytest.mark.parametrize("state", [{}, {"ETag": "a"}, {"mtime": 5.0}])
def test_what_lies_behind_a_url(state, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    import io

    from shiftproof.io.locations import Location

    system = fsspec.filesystem("memory")

    def put(rows):
        data = io.BytesIO()
        np.save(data, rows)
        system.pipe("/bucket/rows.npy", data.getvalue())

    def known():
        return open_embeddings("memory://bucket/rows.npy").fingerprint()

    info = type(system).info

    def tell(*args, **kwargs):
        # The memory's own date of a file would be its version.
        entry = info(*args, **kwargs)
        return {key: value for key, value in entry.items() if key != "created"} | state

    monkeypatch.setattr(type(system), "info", tell)
    put(ROWS)
    first = known()
    assert known() == first
    changed = ROWS.copy()
    changed[1] = ROWS[0]
    put(changed)
    assert known() != first
    put(ROWS)
    assert known() == first
    assert Location.of("memory://bucket/rows.npy").state() == (
        None if not state else " ".join(map(str, next(iter(state.items()))))
    )
