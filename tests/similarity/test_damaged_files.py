"""Files that are damaged, claim too much, or never end: one sentence each."""

import io
import os
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shiftproof import cli
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.similarity import open_embeddings, read_datacomp
from shiftproof.similarity.keeping import write_deduplicated
from shiftproof.similarity.subset import read_keep, write_subset
from support.embedding_trees import uid, unit_rows

ROWS = unit_rows(24)


def npy(values):
    target = io.BytesIO()
    np.save(target, values)
    return target.getvalue()


def npz(save):
    target = io.BytesIO()
    save(target, b32_img=ROWS, l14_img=ROWS)
    return target.getvalue()


def parquet(**columns):
    target = io.BytesIO()
    pq.write_table(pa.table(columns), target)
    return target.getvalue()


def tar():
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for row in range(24):
            member = tarfile.TarInfo(f"{row:05d}.jpg")
            member.size, member.pax_headers = 5, {"mtime": "1.5"}
            archive.addfile(member, io.BytesIO(b"image"))
    return target.getvalue()


KEYS = {"uid": [uid(0, row) for row in range(24)], "key": [f"{row:05d}" for row in range(24)]}


def read_rows(folder, data, name="r.npy"):
    (folder / name).write_bytes(data)
    embeddings = open_embeddings(folder / name, array="b32_img" if name[-1] == "z" else None)
    embeddings.read()
    embeddings.fingerprint()


def read_metadata(folder, data):
    (folder / "r.npy").write_bytes(npy(ROWS))
    (folder / "r.parquet").write_bytes(data)
    write_deduplicated(folder / "r.npy", folder / "out")
    write_subset(folder / "r.npy", np.ones(24, bool), folder / "subset")


def read_tar(folder, data):
    (folder / "tars").mkdir()
    (folder / "tars" / "0.tar").write_bytes(data)
    (folder / "r.npy").write_bytes(npy(ROWS))
    (folder / "r.parquet").write_bytes(parquet(**KEYS))
    keep = np.arange(24) % 3 > 0
    write_subset(folder / "r.npy", keep, folder / "subset", tars=folder / "tars")


def read_list(folder, data, read):
    (folder / "list.npy").write_bytes(data)
    read(folder / "list.npy")


READERS = {
    "rows": (npy(ROWS), read_rows),
    "npz": (npz(np.savez), lambda folder, data: read_rows(folder, data, "r.npz")),
    "squeezed": (npz(np.savez_compressed), lambda folder, data: read_rows(folder, data, "r.npz")),
    "metadata": (parquet(**KEYS), read_metadata),
    "tar": (tar(), read_tar),
    "keep": (
        npy(np.arange(24) > 3),
        lambda folder, data: read_list(folder, data, lambda file: read_keep(file, 24)),
    ),
    "uids": (
        npy(np.zeros(5, "<u8,<u8")),
        lambda folder, data: read_list(folder, data, read_datacomp),
    ),
}


def damaged(data, draws):
    """Cut a file, or change some of its bytes at the beginning, at the end, or anywhere."""
    end = len(data)
    if draws.random() < 0.2:
        return data[: draws.integers(end)]
    low, high = [(0, min(160, end)), (max(end - 300, 0), end), (0, end)][draws.integers(3)]
    changed = bytearray(data)
    for place in draws.integers(low, high, draws.integers(1, 8)):
        changed[place] = draws.integers(256) if draws.random() < 0.5 else ord("0(,'9-"[place % 6])
    return bytes(changed)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore")
def test_damage_anywhere_is_read_or_refused_in_one_sentence(tmp_path, name):
    data, read = READERS[name]
    draws = np.random.default_rng(5)
    messages = []
    for number in range(40):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            read(folder, damaged(data, draws))
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > 10
    assert not [sentence for sentence in messages if "\n" in sentence]


def claiming(shape, descr):
    target = io.BytesIO()
    head = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(target, head)
    return target.getvalue() + b"x" * 100


@pytest.mark.parametrize("read", [read_datacomp, lambda file: read_keep(file, 24), open_embeddings])
@pytest.mark.parametrize("shape", [(10**12,), (10**12, 16), (-1, 16), (2**63, 2)], ids=str)
@pytest.mark.parametrize("descr", ["<f2", [("f0", "<u8"), ("f1", "<u8")], "|b1"], ids=str)
def test_a_header_that_claims_more_than_the_file_holds(tmp_path, read, shape, descr):
    (tmp_path / "a.npy").write_bytes(claiming(shape, descr))
    with pytest.raises(BrokenFileError):
        read(tmp_path / "a.npy")


def test_text_that_is_not_utf8(tmp_path):
    text = pa.Array.from_buffers(
        pa.string(),
        24,
        [None, pa.py_buffer(np.arange(25, dtype="<i4")), pa.py_buffer(b"\xff" * 24)],
    )
    np.save(tmp_path / "r.npy", ROWS)
    (tmp_path / "r.parquet").write_bytes(parquet(key=text))
    with pytest.raises(BrokenFileError, match="metadata"):
        open_embeddings(tmp_path / "r.npy").keys(0)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.parquet"])
def test_a_pipe_is_refused_at_once(tmp_path, capsys, name):
    np.save(tmp_path / "t.npy", ROWS[:3])
    if name == "x.parquet":
        np.save(tmp_path / "x.npy", ROWS)
    os.mkfifo(tmp_path / name)
    train = str(tmp_path / name.replace("parquet", "npy"))
    words = ["audit", train, "-t", str(tmp_path / "t.npy"), "-o", str(tmp_path / "out")]
    assert cli.run(words) == 2
    assert "not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize("left", [512, 1000, -600])
def test_a_tar_that_was_cut_makes_no_subset(tmp_path, left):
    with pytest.raises(
        BrokenFileError, match=r"0\.tar: (the tar is damaged|cannot be read as a tar)"
    ):
        read_tar(tmp_path, tar()[:left] if left > 0 else tar().rstrip(b"\0")[:left])
    assert not list((tmp_path / "subset" / "tars").iterdir())


def test_headers_of_a_tar_that_are_not_utf8_are_left_out_of_a_subset(tmp_path):
    """A key of a pax header is bytes; Python reads it as text that it cannot write."""
    with tarfile.open(tmp_path / "whole.tar", "w", format=tarfile.PAX_FORMAT) as target:
        for key in KEYS["key"]:
            entry = tarfile.TarInfo(f"{key}.jpg")
            entry.pax_headers = {"note": "kept", "oddX": "1"}
            target.addfile(entry)
    (tmp_path / "tars").mkdir()
    odd = (tmp_path / "whole.tar").read_bytes().replace(b"oddX", b"odd\xff")
    (tmp_path / "tars" / "0.tar").write_bytes(odd)
    np.save(tmp_path / "r.npy", ROWS)
    (tmp_path / "r.parquet").write_bytes(parquet(**KEYS))
    keep = np.ones(24, bool)
    write_subset(tmp_path / "r.npy", keep, tmp_path / "out", tars=tmp_path / "tars")
    with tarfile.open(tmp_path / "out" / "tars" / "0.tar") as copy:
        assert [member.pax_headers for member in copy] == [{"note": "kept"}] * 24


def test_a_row_that_stays_without_a_key_is_named(tmp_path):
    keys = [*KEYS["key"][:5], None, *KEYS["key"][6:]]
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars" / "0.tar").write_bytes(tar())
    np.save(tmp_path / "r.npy", ROWS)
    (tmp_path / "r.parquet").write_bytes(parquet(key=keys))
    keep = np.ones(24, bool)
    with pytest.raises(InputError, match="got none for row 5"):
        write_subset(tmp_path / "r.npy", keep, tmp_path / "a", tars=tmp_path / "tars")
    keep[5] = False
    done = write_subset(tmp_path / "r.npy", keep, tmp_path / "b", tars=tmp_path / "tars")
    assert done.samples == 23


def test_shards_whose_names_hold_odd_digits(tmp_path):
    for name in ("3²4.npy", "10.npy", "9.npy", "٣.npy"):
        np.save(tmp_path / name, ROWS)
    names = [shard.name for shard in open_embeddings(tmp_path).shards]
    assert names.index("9.npy") < names.index("10.npy")
    assert len(names) == 4


def test_names_that_are_not_utf8_are_written_as_text(tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / os.fsdecode(b"\xe90.npy")).write_bytes(npy(ROWS))
    write_deduplicated(folder, tmp_path / "out")
    shards = pq.read_table(tmp_path / "out" / "keys.parquet")["shard"].to_pylist()
    assert set(shards) == {r"\udce90.npy"}
