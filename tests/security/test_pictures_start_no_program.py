"""A picture never starts a program: Pillow hands PostScript to Ghostscript whatever it is called."""

import ast
import contextlib
import io
import json
import os
import re
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest
from PIL import EpsImagePlugin, Image

import shiftproof
from shiftproof import Encoder, Preprocess
from shiftproof.bench.cells.views import round_trip_jpeg
from shiftproof.corruptions.textures import read_photographs
from shiftproof.data import ImageFolder, ImageTable, export_corrupted, open_detection_data
from shiftproof.embed import embed
from shiftproof.errors import InputError, ShiftproofError
from shiftproof.io.images import FORMATS, read_image, read_size
from shiftproof.report.gallery import _read_picture
from shiftproof.report.sheet import write_sheet
from shiftproof.stylize.styles import Paintings

POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 8 8
%%EndComments
0 0 8 8 rectfill
showpage
%%EOF
"""


def plain_png():
    target = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(target, "PNG")
    return target.getvalue()


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A Ghostscript that leaves a file behind when it is started."""
    programs = tmp_path / "programs"
    programs.mkdir()
    found = tmp_path / "was started"
    stub = programs / "gs"
    stub.write_text(f"#!/bin/sh\necho >> '{found}'\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return found


@pytest.fixture
def photos(tmp_path):
    """A folder with one good image and PostScript under the names of images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "good.png").write_bytes(plain_png())
    for name in ("a.jpg", "b.png", "c.tif", "d.gif", "e.jp2"):
        (folder / name).write_bytes(POSTSCRIPT)
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="the stub is a shell script")
def test_the_stub_is_started_where_pillow_is_left_to_choose(marker, photos):
    with contextlib.suppress(Exception), Image.open(photos / "a.jpg") as image:
        image.load()
    assert marker.exists()


def encoder():
    plain = Preprocess((8, 8), 8, mean=(0, 0, 0), std=(1, 1, 1))
    return Encoder(lambda inputs: inputs.mean(axis=(2, 3)), plain)


def through_a_file(photos, out):
    for path in photos.iterdir():
        read_size(path)
        for source in (path, path.read_bytes()):
            if path.name != "good.png":
                with pytest.raises(ShiftproofError):
                    read_image(source)


def through_a_folder(photos, out):
    assert len(embed(encoder(), ImageFolder(photos), out, workers=0).broken) == 5


def through_a_table(photos, out):
    table = photos.parent / "images.csv"
    table.write_text("".join(f"photos/{path.name}\n" for path in sorted(photos.iterdir())))
    assert len(embed(encoder(), ImageTable(table), out, workers=0).broken) == 5


def tar_of(photos):
    path = photos.parent / "a.tar"
    with tarfile.open(path, "w") as target:
        for picture in sorted(photos.iterdir()):
            target.add(picture, picture.name)
    return path


def through_a_tar(photos, out):
    assert len(embed(encoder(), tar_of(photos), out, workers=0).broken) == 5


def through_a_saved_data_set(photos, out):
    folder = photos.parent / "saved"
    folder.mkdir()
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [{"bytes": path.read_bytes(), "path": path.name} for path in photos.iterdir()]
    table = pa.table({"image": pa.array(cells, kind)})
    with pyarrow.ipc.new_stream(str(folder / "a.arrow"), table.schema) as target:
        target.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "a.arrow"}]}))
    features = {"image": {"_type": "Image"}}
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    assert len(embed(encoder(), folder, out, workers=0).broken) == 5


def corrupt(source, out):
    return export_corrupted(
        source, out, corruptions=["contrast"], severities=[1], workers=0, show_progress=False
    )


def through_a_copy(photos, out):
    assert len(corrupt(photos, out).broken) == 5


def through_a_copy_of_a_tar(photos, out):
    assert len(corrupt(tar_of(photos), out).broken) == 5


def through_coco(photos, out):
    images = [
        {"id": at, "file_name": path.name, "width": 8, "height": 8}
        for at, path in enumerate(sorted(photos.iterdir()))
    ]
    value = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (photos / "coco.json").write_text(json.dumps(value))
    data = open_detection_data(photos / "coco.json")
    for sample in data.samples:
        with pytest.raises(InputError) if sample.id != "good.png" else contextlib.nullcontext():
            data.read(sample)


def through_styles(photos, out):
    styles = Paintings(photos)
    for number in range(len(styles)):
        with (
            pytest.raises(InputError)
            if styles.title(number) != "good.png"
            else contextlib.nullcontext()
        ):
            styles.read(number)


def through_frost(photos, out):
    for name in ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg"):
        (photos / name).write_bytes(POSTSCRIPT)
    with pytest.raises(InputError):
        read_photographs(photos)


def through_the_page(photos, out):
    for path in photos.iterdir():
        assert (_read_picture(photos, path.name) is None) == (path.name != "good.png")


def through_the_sheet(photos, out):
    with pytest.raises(InputError):
        write_sheet(photos / "a.jpg", photos.parent / "sheet.png")


DOORS = [value for name, value in list(globals().items()) if name.startswith("through_a")] + [
    through_coco, through_styles, through_frost, through_the_page, through_the_sheet
]  # fmt: skip


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_postscript_called_like_an_image_is_a_broken_file(door, marker, photos, tmp_path):
    door(photos, tmp_path / "out")
    assert not marker.exists()


def test_no_format_that_is_decoded_starts_a_program_or_reads_another_file():
    # Of Pillow's plugins EPS starts Ghostscript; FPX, MIC and WMF read through other libraries.
    assert not {"EPS", "FPX", "MIC", "WMF", "PDF", "PSD", "ICNS", "IPTC", "CUR"} & set(FORMATS)


def test_what_was_encoded_here_comes_back():
    image = np.full((16, 16, 3), 90, np.uint8)
    assert np.abs(round_trip_jpeg(image).astype(int) - 90).max() <= 1


OPENERS = {"open", "imread", "imreadmulti", "imdecode", "read_file", "decode_image", "decode_jpeg"}
DECODERS = ("PIL.Image", "torchvision.io", "transformers.image", "imageio", "skimage.io")
NAMED = re.compile(rf"\.\s*({'|'.join(OPENERS)})\b|{'|'.join(map(re.escape, DECODERS))}")
OWN_BYTES = {"corruptions/digital.py"}
"""Decodes what it has encoded a line before."""


def test_nothing_else_in_the_tree_decodes_an_image():
    root = Path(shiftproof.__file__).parent
    found = []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8")
        # To parse what names none of them would take most of the time.
        if name in {"io/images.py", *OWN_BYTES} or not NAMED.search(text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and node.attr in OPENERS:
                owner = ast.unparse(node.value)
                if owner in {"Image", "PIL.Image", "PillowImage", "cv2", "torchvision.io"}:
                    found.append(f"{name}:{node.lineno}")
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(DECODERS):
                found.append(f"{name}:{node.lineno}")
    assert not found, f"read images by shiftproof.io.images instead: {found}"
