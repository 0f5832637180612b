"""Tars of strangers: nothing is believed that the file has no room for."""

import io
import os
import struct
import tarfile

import pytest

from shiftproof.errors import BrokenFileError
from shiftproof.io.tars import copy_header, open_tar, sort_key, split_key


def write(path, *members, **more):
    with tarfile.open(path, "w", **more) as target:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            target.addfile(entry, io.BytesIO(data))
    return path


def patch(path, place, data):
    """Change bytes of the header that begins at 0, and make its checksum right."""
    content = bytearray(path.read_bytes())
    content[place : place + len(data)] = data
    content[148:156] = b" " * 8
    content[148:156] = f"{sum(content[:512]):06o}\0 ".encode()
    path.write_bytes(content)


def read_through(path):
    with open_tar(path) as source:
        return [source.read(entry.info) for entry in source.entries()]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("a huge size", b"77777777777\0"),
        ("a huge size in base 256", b"\x80" + (1 << 60).to_bytes(11, "big")),
        ("minus one block", b"\xff" * 9 + struct.pack(">h", -512)[-2:] + b"\0"),
        ("a size that leads back", b"\xff" * 10 + struct.pack(">h", -512)),
        ("a size that leads far back", b"\xff" * 10 + struct.pack(">h", -1024)),
    ],
)
def test_a_size_that_cannot_be_is_refused(tmp_path, name, size):
    path = write(tmp_path / "a.tar", ("a.jpg", b"12345"))
    patch(path, 124, size)
    with pytest.raises(BrokenFileError, match=r"a\.tar"):
        read_through(path)


@pytest.mark.parametrize(
    "headers",
    [
        {"size": "x"},
        {"size": "-5"},
        {"size": "99999999999999"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 15},
        {"GNU.sparse.size": "9" * 18, "GNU.sparse.map": "0," + "9" * 18},
    ],
)
def test_headers_of_pax_that_cannot_be_are_refused(tmp_path, headers):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as target:
        entry = tarfile.TarInfo("a.jpg")
        entry.size = 5
        entry.pax_headers = headers
        target.addfile(entry, io.BytesIO(b"12345"))
    with pytest.raises(BrokenFileError, match=r"a\.tar"):
        read_through(path)


def test_a_pipe_called_like_a_tar_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(BrokenFileError, match="not a regular file"):
        read_through(tmp_path / "a.tar")


@pytest.mark.parametrize("field", ["mtime", "uid", "gid", "size", "\udce9", "comment"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1e300", "1e300", "-7", "\udce9", "5"])
def test_what_was_read_can_be_written_again(tmp_path, field, value):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as target:
        entry = tarfile.TarInfo("a.jpg")
        entry.size = 5
        header = f" {field}={value}\n".encode("utf-8", "surrogateescape")
        length = next(n for n in range(1, 99) if len(str(n)) + len(header) == n)
        block = str(length).encode() + header
        extended = tarfile.TarInfo("x")
        extended.type, extended.size = tarfile.XHDTYPE, len(block)
        target.addfile(extended, io.BytesIO(block))
        target.addfile(entry, io.BytesIO(b"12345"))
    try:
        with open_tar(path) as source:
            entries = [(found, source.read(found.info)) for found in source.entries()]
    except BrokenFileError:
        return
    with tarfile.open(tmp_path / "b.tar", "w", format=tarfile.PAX_FORMAT) as target:
        for found, data in entries:
            target.addfile(copy_header(found.info), io.BytesIO(data))
    with tarfile.open(tmp_path / "b.tar") as copied:
        assert [copied.extractfile(member).read() for member in copied] == [b"12345"]


def test_every_member_is_told_what_it_is(tmp_path):
    path = write(
        tmp_path / "a.tar",
        ("d/7.jpg", b""),
        ("d/7.seg.png", b""),
        ("d/7.JSON", b""),
        ("d/7.jpg", b""),
        ("._7.jpg", b""),
    )
    with open_tar(path) as source:
        entries = list(source.entries())
    assert [entry.key for entry in entries] == ["d/7", "d/7", "d/7", "d/7", ""]
    assert [entry.is_image for entry in entries] == [True, False, False, False, False]
    reasons = [entry.image_fault is None for entry in entries]
    assert reasons == [True, False, True, False, True]
    assert entries[3].fault == "it occurs twice"


def test_keys_and_order():
    # webdataset's base_plus_ext("a/b.c.png") is ("a/b", "c.png").
    assert split_key("a/b.c.PNG") == ("a/b", "c.png")
    assert sorted(["3²4.tar", "10.tar", "2.tar"], key=sort_key) == ["2.tar", "3²4.tar", "10.tar"]
