"""The border to the disk: images as they come, and writes that are whole or not at all."""

import errno
import json
import os
import pickle
import stat
import struct
import sys
import tempfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shiftproof.errors import BrokenFileError, InputError, RunError
from shiftproof.io import files, images
from shiftproof.io.arrays import open_array
from shiftproof.io.images import is_image, read_image
from shiftproof.io.text import read_json

RAMP = np.linspace(0, 255, 7 * 11 * 3).reshape(7, 11, 3).astype(np.uint8)
RAMP_ROWS = b"".join(b"\0" + row.tobytes() for row in RAMP)  # as PNG has them, unfiltered


@pytest.fixture
def save(tmp_path):
    def write(image, name, **options):
        path = tmp_path / name
        image.save(path, **options)
        return path

    return write


# ---------------------------------------------------------------- images that can be read


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm", "a.PNG"])
def test_lossless_files_come_back_to_the_pixel(save, name):
    path = save(Image.fromarray(RAMP), name)
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, RAMP)
    np.testing.assert_array_equal(read_image(path.read_bytes()), RAMP)


def test_what_comes_back_can_be_written_to_or_copied(save):
    image = read_image(save(Image.fromarray(RAMP), "a.png"))
    assert image.flags.c_contiguous
    assert image.copy().flags.writeable


def test_grey_becomes_three_equal_channels(save):
    image = read_image(save(Image.fromarray(RAMP[:, :, 0]), "a.png"))
    np.testing.assert_array_equal(image, np.repeat(RAMP[:, :, :1], 3, axis=2))


def test_one_bit_becomes_black_and_white(save):
    bits = Image.fromarray(RAMP[:, :, 0] > 127)
    image = read_image(save(bits, "a.png"))
    np.testing.assert_array_equal(image[:, :, 0], np.where(RAMP[:, :, 0] > 127, 255, 0))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(save, name):
    values = np.array([[0, 256, 257, 32768, 65279, 65535]], np.uint16)
    image = read_image(save(Image.fromarray(values), name))
    assert image.shape == (1, 6, 3)
    expected = np.array([0, 0.996, 1, 127.5, 254, 255])
    for channel in range(3):
        assert np.abs(image[0, :, channel] - expected).max() <= 1
    assert image[0, 5, 0] == 255


def test_sixteen_bit_colour_is_scaled(tmp_path):
    rows = b"".join(b"\0" + struct.pack(">3H", *pixel) for pixel in ([0, 32896, 65535],))
    image = read_image(write_png(tmp_path / "a.png", 1, 1, 16, 2, rows))
    np.testing.assert_array_equal(image[0, 0], [0, 128, 255])


def test_cmyk_becomes_rgb(save):
    cmyk = Image.new("CMYK", (4, 4), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red
    image = read_image(save(cmyk, "a.jpg", quality=95))
    assert image.shape == (4, 4, 3)
    red, green, blue = image.reshape(-1, 3).mean(axis=0)
    assert red > 200
    assert green < 60
    assert blue < 60


@pytest.mark.parametrize("transparency", [None, 1, bytes([255, 0])])
def test_a_palette_becomes_its_colours_and_transparency_is_dropped(save, transparency):
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    options = {} if transparency is None else {"transparency": transparency}
    image = read_image(save(palette, "a.png", **options))
    np.testing.assert_array_equal(image, [[[255, 0, 0], [0, 0, 255]]])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_alpha_channel_is_dropped(save, mode):
    source = Image.fromarray(RAMP).convert(mode)
    source.putalpha(0)
    image = read_image(save(source, "a.png"))
    np.testing.assert_array_equal(image, np.asarray(Image.fromarray(RAMP).convert(mode[:-1]).convert("RGB")))  # fmt: skip # noqa: E501


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_of_an_animation_the_first_frame_is_taken(save, name):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if name == "a.webp" else {}
    path = save(frames[0], name, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(read_image(path), np.broadcast_to([255, 0, 0], (8, 8, 3)))


# Where the stored image's first row and column lie on the seen one (EXIF 2.3, tag 0x0112).
TURNED = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2), 8: lambda a: np.rot90(a),
}  # fmt: skip


@pytest.mark.parametrize("orientation", TURNED)
def test_a_rotated_photo_is_read_as_a_person_sees_it(save, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(RAMP), "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(path), TURNED[orientation](RAMP))


def test_odd_metadata_neither_warns_nor_breaks_the_pixels(tmp_path):
    path = tmp_path / "a.jpg"
    # A tag that claims more bytes than there are; Pillow warns, and warnings are errors here.
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff" * 3
    Image.fromarray(RAMP).save(path, exif=exif)
    assert read_image(path).shape == RAMP.shape


def test_the_suffix_does_not_decide_what_it_is(save, tmp_path):
    path = save(Image.fromarray(RAMP), "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(path), RAMP)


def test_one_pixel(save):
    assert read_image(save(Image.new("RGB", (1, 1), "white"), "a.png")).shape == (1, 1, 3)


# ---------------------------------------------------------------- images that cannot


def write_png(path, width, height, depth, color, rows):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip
    return path


def noisy(size=64):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.bmp", "a.tif", "a.webp"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_broken_and_named(save, name, part):
    path = save(noisy(), name)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(BrokenFileError, match=rf"^{name[:1]}\.{name[2:]}: "):
        read_image(path)


@pytest.mark.parametrize("seed", range(30))
def test_damage_anywhere_is_an_image_or_a_broken_file_and_nothing_else(save, seed):
    path = save(noisy(24), ["a.jpg", "a.png", "a.gif", "a.tif", "a.webp"][seed % 5])
    random = np.random.default_rng(seed)
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    places = random.integers(0, len(data), 12)
    data[places] = random.integers(0, 256, 12)
    try:
        image = read_image(data.tobytes())
    except BrokenFileError:
        return
    assert image.dtype == np.uint8
    assert image.ndim == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"this is a text\n" * 50, "not an image that can be decoded"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image that can be decoded"),
        (b"\0" * 1000, "not an image that can be decoded"),
        (b"\xff\xd8\xff\xe0", "not an image that can be decoded|damaged image"),
    ],
)
def test_what_is_no_image_says_so(tmp_path, content, says):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(BrokenFileError, match=rf"^a\.jpg: ({says})"):
        read_image(path)
    with pytest.raises(BrokenFileError, match=r"^image: "):
        read_image(content)


@pytest.mark.parametrize("width", [13_400, 20_000, 60_000])
def test_a_huge_claimed_size_is_refused_before_it_is_decoded(tmp_path, width):
    path = write_png(tmp_path / "bomb.png", width, width, 8, 2, b"\0")
    with pytest.raises(BrokenFileError, match=r"^bomb\.png: .*more than the limit of 178 megapix"):
        read_image(path)


@pytest.mark.parametrize("pillows", [None, 10**9])
def test_our_limit_holds_where_pillow_has_none(tmp_path, monkeypatch, pillows):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows)
    path = write_png(tmp_path / "bomb.png", 14_000, 13_000, 8, 2, b"\0")
    with pytest.raises(
        BrokenFileError, match=r"14000 x 13000 pixels is more than the limit of 178 megapixels"
    ):
        read_image(path)
    assert Image.MAX_IMAGE_PIXELS is pillows


def test_a_lower_limit_of_pillow_is_the_one_that_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    path = write_png(tmp_path / "big.png", 2000, 1500, 8, 2, b"\0")
    with pytest.raises(BrokenFileError, match="the image is more than the limit of 2 megapixels"):
        read_image(path)


def test_just_below_the_limit_an_image_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 77)
    np.testing.assert_array_equal(
        read_image(write_png(tmp_path / "a.png", 11, 7, 8, 2, RAMP_ROWS)), RAMP
    )
    monkeypatch.setattr(images, "MAX_PIXELS", 76)
    with pytest.raises(BrokenFileError, match="11 x 7 pixels is more than the limit"):
        read_image(tmp_path / "a.png")


def test_floating_point_pixels_are_refused_and_not_guessed_at(save):
    path = save(Image.fromarray(np.ones((3, 3), np.float32)), "a.tif")
    with pytest.raises(BrokenFileError, match=r"floating-point image; save it as 8 or 16 bit"):
        read_image(path)


def test_a_missing_file_and_a_folder_are_broken(tmp_path):
    with pytest.raises(BrokenFileError, match=r"^a\.jpg: cannot be read \(no such file"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(BrokenFileError, match="cannot be read"):
        read_image(tmp_path)


def test_a_message_is_one_line(save):
    path = save(noisy(), "a.png")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BrokenFileError) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", True), ("a.JPEG", True), ("a.b.png", True), ("a.txt", False), ("jpg", False),
        (".a.jpg", False), (".jpg", False), ("a.jpg.part", False), ("._a.png", False),
    ],
)  # fmt: skip
def test_names_that_end_like_an_image(name, expected):
    assert is_image(Path(name)) is expected


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4", "<f2", "?"])
@pytest.mark.parametrize("shape", [(5,), (5, 2), (5, 0, 3), (0, 2), (5, 2, 3, 1)])
def test_rows_of_an_array_are_read_where_they_lie(tmp_path, dtype, shape):
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    array = open_array(tmp_path / "a.npy")
    assert (array.shape, array.dtype) == (shape, values.dtype)
    np.testing.assert_array_equal(array.read(0, shape[0]), values)
    for start in range(0, shape[0], 2):
        rows = array.read(start, 1)
        np.testing.assert_array_equal(rows, values[start : start + 1])
        assert rows.flags.writeable
    assert pickle.loads(pickle.dumps(array)) == array


class Harm:
    def __reduce__(self):
        return pytest.fail, ("the file was executed",)


def test_pickles_and_what_is_no_array_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([Harm()], dtype=object), allow_pickle=True)
    contents = [path.read_bytes(), pickle.dumps([1]), b"", b"text", b"\x93NUMPY\x01\x00", b"PK\3\4"]
    np.save(path, np.zeros(100))
    whole = path.read_bytes()
    contents += [whole[:50], whole[:-1], whole.replace(b"(100,)", b"(1e9,)")]
    contents += [whole.replace(b"(100,)", b"(-10,)"), whole.replace(b"descr", b"other")]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(
            BrokenFileError,
            match=r"a\.npy: (not an array in NumPy|cannot be read|it holds Python objects|cut short)",
        ):
            open_array(path)
    with pytest.raises(BrokenFileError, match=r"b\.npy: cannot be read \(no such file"):
        open_array(tmp_path / "b.npy")


@pytest.mark.parametrize("values", [np.array(3), np.asfortranarray(np.ones((3, 2)))])
def test_an_array_that_is_not_stored_row_by_row_is_refused(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(
        BrokenFileError, match=r"row by row; save it by|expected an array of one dimension or more"
    ):
        open_array(tmp_path / "a.npy")


def test_an_array_that_was_changed_after_it_was_opened_is_broken(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(100))
    array = open_array(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.zeros(99))
    with pytest.raises(BrokenFileError, match="changed after it was opened"):
        array.read(0, 1)
    (tmp_path / "a.npy").unlink()
    with pytest.raises(BrokenFileError, match="cannot be read"):
        array.read(0, 1)


# ---------------------------------------------------------------- writing


def test_a_file_appears_whole_with_the_usual_rights(tmp_path):
    path = tmp_path / "a.bin"
    with files.atomic(path) as file:
        file.write(b"half")
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    if sys.platform != "win32":
        (tmp_path / "usual").touch()
        usual = stat.S_IMODE((tmp_path / "usual").stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == usual


@pytest.mark.parametrize("crash", [RuntimeError("x"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_crash_leaves_what_was_there_and_nothing_else(tmp_path, crash, before):
    path = tmp_path / "a.bin"
    if before is not None:
        path.write_bytes(before)

    def write():
        with files.atomic(path) as file:
            file.write(b"new")
            raise crash

    with pytest.raises(type(crash)):
        write()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if before is None else [before])


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_run_error_and_leaves_what_was_there(tmp_path, monkeypatch, step, number):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def full(*_args, **_options):
        raise OSError(number, os.strerror(number))

    if step == "replace":
        monkeypatch.setattr(os, "replace", full)
        monkeypatch.setattr(Path, "replace", full)
    elif step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "chmod", full)
    with pytest.raises(RunError, match=r"The disk is full: \S+a\.bin could not be written"):
        files.write_bytes(path, b"new")
    monkeypatch.undo()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_disk_that_is_really_full(tmp_path, monkeypatch, size):
    def on_the_full_device(**_options):
        return os.open("/dev/full", os.O_WRONLY), str(tmp_path / "part")

    monkeypatch.setattr(tempfile, "mkstemp", on_the_full_device)
    with pytest.raises(RunError, match=r"The disk is full: \S+a\.bin could not be written"):
        files.write_bytes(tmp_path / "a.bin", b"x" * size)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_full_disk_is_one_too_for_a_writer_that_wraps_the_error(tmp_path, monkeypatch):
    def on_the_full_device(**_options):
        return os.open("/dev/full", os.O_WRONLY), str(tmp_path / "part")

    def write():
        with files.atomic(tmp_path / "a.bin") as file:
            try:
                file.write(b"x" * 100_000)
            except OSError as error:
                raise OSError("the encoder failed") from error

    monkeypatch.setattr(tempfile, "mkstemp", on_the_full_device)
    with pytest.raises(RunError, match=r"The disk is full: \S+a\.bin could not be written"):
        write()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.ENOENT])
def test_an_error_of_the_blocks_own_is_no_failed_write(tmp_path, number):
    (tmp_path / "a.bin").write_bytes(b"old")
    own = OSError(number, "met while reading something else")

    def write():
        with files.atomic(tmp_path / "a.bin") as file:
            file.write(b"new")
            raise own

    with pytest.raises(OSError, match="something else") as caught:
        write()
    assert caught.value is own
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_read_only_folder_is_bad_input(tmp_path, monkeypatch, number):
    def refuse(**_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(InputError, match=r"cannot be written to .*Choose another output folder"):
        files.write_json(tmp_path / "a.json", {})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_bad_input(tmp_path):
    with pytest.raises(InputError, match=r"a\.bin cannot be written \(no such file"):
        files.write_bytes(tmp_path / "nowhere" / "a.bin", b"x")


def test_a_long_name_and_a_name_of_odd_letters(tmp_path):
    for name in ("x" * 240 + ".json", "ä b'\"&.json"):
        files.write_json(tmp_path / name, 1)
        assert read_json(tmp_path / name) == 1


def test_without_waiting_for_the_disk_it_is_the_same_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("waited"))
    files.write_bytes(tmp_path / "a.bin", b"x", durable=False)
    assert (tmp_path / "a.bin").read_bytes() == b"x"


# ---------------------------------------------------------------- JSON and folders


def test_json_comes_back_and_is_the_same_bytes_each_time(tmp_path):
    value = {"b": [1, 2.5, None, True], "a": "ü", "nested": {"x": {}}}
    for name in ("1.json", "2.json"):
        files.write_json(tmp_path / name, value)
    assert read_json(tmp_path / "1.json") == value
    first = (tmp_path / "1.json").read_bytes()
    assert first == (tmp_path / "2.json").read_bytes()
    assert first.endswith(b"}\n")
    assert "ü".encode() in first
    assert list(json.loads(first)) == ["b", "a", "nested"]


def test_json_that_is_none_is_not_written_at_all(tmp_path):
    for value in (float("nan"), float("inf"), {1, 2}):
        with pytest.raises((ValueError, TypeError)):
            files.write_json(tmp_path / "a.json", value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"", "line 1, column 1"),
        (b"{", "line 1, column 2"),
        (b"\xff\xfe", "line 1, column 1"),
        (b"{'a': 1}", "line 1, column 2"),
        (b'{"a": 1,\n "b" 2}', "line 2, column 6"),
        (b'\xef\xbb\xbf{"a": 1,\n "\xc3\xbc": "\xe9"}', "line 2, column 8"),
    ],
)
def test_what_is_no_json_says_where(tmp_path, content, place):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(BrokenFileError, match=rf"a\.json, {place}: not valid JSON"):
        read_json(path)


def test_json_that_is_missing_says_so(tmp_path):
    with pytest.raises(BrokenFileError, match=r"a\.json: cannot be read \(no such file"):
        read_json(tmp_path / "a.json")


def test_folders_are_made_with_their_parents_and_may_be_there(tmp_path):
    path = tmp_path / "a" / "b"
    assert files.make_folder(path) == path
    assert files.make_folder(path).is_dir()


def test_a_folder_where_a_file_is_cannot_be_made(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(InputError, match="a is a file; expected a folder"):
        files.make_folder(tmp_path / "a")
    with pytest.raises(InputError):
        files.make_folder(tmp_path / "a" / "b")


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, RunError), (errno.EROFS, InputError)])
def test_a_folder_that_the_disk_refuses(tmp_path, monkeypatch, number, error):
    def refuse(*_args, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(error):
        files.make_folder(tmp_path / "a")


# ---------------------------------------------------------------- fingerprints


def test_a_fingerprint_tells_where_one_part_ends():
    prints = [
        files.fingerprint(parts)
        for parts in ([b"ab", b"c"], [b"a", b"bc"], [b"abc"], [b"abc", b""], [])
    ]
    assert len(set(prints)) == 5
    assert all(len(text) == 32 and int(text, 16) >= 0 for text in prints)


def test_the_fingerprint_of_a_file_is_of_its_content_alone(tmp_path):
    content = os.urandom(3_000_000)
    for name, data in (("a", content), ("b", content), ("c", content[:-1] + b"\0" + b"x")):
        (tmp_path / name).write_bytes(data)
    a, b, c, missing = files.file_fingerprints(tmp_path / name for name in "abcd")
    assert a == b
    assert len({a, c, missing}) == 3
    assert files.file_fingerprint(tmp_path / "a") == a


def test_the_fingerprints_come_in_the_order_of_the_paths(tmp_path):
    paths = []
    for number in range(40):
        path = tmp_path / str(number)
        path.write_bytes(b"x" * (40 - number) * 1000)
        paths.append(path)
    assert files.file_fingerprints(paths) == [files.file_fingerprint(path) for path in paths]


def test_of_many_files_the_digests_alone_are_held(tmp_path):
    """About 90 bytes a file, so that of a million images less than 100 MB are."""
    path = tmp_path / "a"
    path.write_bytes(b"a")
    count = 20_000
    files.file_fingerprints([path])  # what is imported once
    tracemalloc.start()
    try:
        found = files.file_fingerprints(path for _ in range(count))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == count
    assert peak < 250 * count + 8_000_000  # a few threads, each with its buffer


def write_as_numpy_on_a_full_disk(path):
    with files.atomic(path):
        raise OSError("15360 requested and 13280 written")  # as ndarray.tofile says it


def test_a_disk_that_is_full_for_numpy_is_told(tmp_path):
    with pytest.raises(RunError, match="The disk is full"):
        write_as_numpy_on_a_full_disk(tmp_path / "a")
    assert not list(tmp_path.iterdir())


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_json_is_indented_as_by_json(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "indented.json"
    files.write_json(path, value)
    expected = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    assert path.read_bytes() == expected.encode()
