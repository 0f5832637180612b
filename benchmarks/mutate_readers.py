"""Small real files, changed at random, through every reader of the tree: what comes of it.

    python benchmarks/mutate_readers.py --count 150 --seed 1
    python benchmarks/mutate_readers.py --only npz,tar --count 1000
    python benchmarks/mutate_readers.py --count 271 --out benchmarks/results/mutated_files.json

Bits are flipped, files cut, bytes put in, blocks swapped, numbers and the types of JSON's values
changed. Each reader works in a process of its own. Its outcome is one of

    error      one sentence that names the file (a ShiftproofError)
    accepted   what was read may differ, but could be read
    traceback  anything else was raised
    memory     more than 400 MB were taken
    hang       it took more than 5 seconds of the processor, or a minute
    crash      the process died
    escape     a file outside of the trial's folder was written to, or a program was started

and the command ends with 1 where there is any but the first two.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from output import write

SECONDS = 5
"""Of the processor: beside other work a reader may wait for long."""

LONGEST = 60
"""Seconds of any kind: who waits for what never comes takes none of the processor."""

MEGABYTES = 400
_ADDRESS_SPACE = 6 << 30
"""Beyond what the libraries have mapped, so that a claim of terabytes fails and does not swap."""

GOOD = ("error", "accepted")
OUTCOMES = (*GOOD, "traceback", "memory", "hang", "crash", "escape")


@dataclass(frozen=True)
class Reader:
    """A reader under trial.

    Attributes:
        make: writes small real files into an empty folder, and returns those that are changed.
        read: reads what lies in the folder, as a user's call does.
        slow: whether a call takes more than some hundredths of a second.
    """

    make: Callable[[Path], Sequence[Path]]
    read: Callable[[Path], object]
    slow: bool = False


# ---------------------------------------------------------------- changes

_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 7, 1.5, -0.0, 1e308, 10**30, float("nan"), float("inf"), "", "x", "x" * 300,
    "\ud800", "../../x", "/x", "a\0b", "\x1b[2J", [], {}, [[]], [None], {"x": 1}, ["x"], [1, 2],
)  # fmt: skip
_NUMBERS = (
    b"-1",
    b"0",
    b"1",
    b"99999999999999999999",
    b"4294967295",
    b"1e999",
    b"nan",
    b"",
    b"1_0",
)
_BLOCKS = (
    b"\xff" * 4,
    b"\xff" * 8,
    b"\0" * 4,
    b"\0" * 8,
    b"\x7f" + b"\xff" * 7,
    b"\x80",
    b"\n",
    b"\xed\xa0\x80",
)


def change(data: bytes, source: random.Random) -> bytes:
    """Return the content of a file, changed once or several times."""
    ways = [_flip, _cut, _insert, _swap, _overwrite, _repeat, _edit_number, _edit_number]
    if data.lstrip()[:1] in (b"{", b"["):
        ways += [_edit_json] * 8
    for _ in range(source.choice((1, 1, 1, 2, 4))):
        data = source.choice(ways)(data, source)
    return data


def _flip(data: bytes, source: random.Random) -> bytes:
    content = bytearray(data)
    for _ in range(source.randint(1, 8)):
        if content:
            # Headers decide most; they stand at one of the ends.
            reach = source.choice((len(content), min(len(content), 300)))
            place = source.randrange(reach)
            place = place if source.random() < 0.7 else len(content) - 1 - place
            content[place] ^= 1 << source.randrange(8)
    return bytes(content)


def _cut(data: bytes, source: random.Random) -> bytes:
    return data[: source.randint(0, len(data))]


def _insert(data: bytes, source: random.Random) -> bytes:
    place = source.randint(0, len(data))
    return data[:place] + source.randbytes(source.choice((1, 2, 8, 100))) + data[place:]


def _swap(data: bytes, source: random.Random) -> bytes:
    size = source.choice((1, 4, 16, 512))
    one, other = (source.randint(0, max(len(data) - size, 0)) for _ in range(2))
    low, high = sorted((one, other))
    if low + size > high:
        return data
    return (
        data[:low] + data[high : high + size] + data[low + size : high]
        + data[low : low + size] + data[high + size :]
    )  # fmt: skip


def _overwrite(data: bytes, source: random.Random) -> bytes:
    block = source.choice(_BLOCKS)
    place = source.randint(0, max(len(data) - len(block), 0))
    return data[:place] + block + data[place + len(block) :]


def _repeat(data: bytes, source: random.Random) -> bytes:
    place = source.randint(0, len(data))
    end = min(place + source.choice((8, 64, 512)), len(data))
    return data[:end] + data[place:end] * source.choice((1, 3)) + data[end:]


def _edit_number(data: bytes, source: random.Random) -> bytes:
    found = list(re.finditer(rb"[0-9]+", data[:20_000]))
    if not found:
        return data
    one = source.choice(found)
    return data[: one.start()] + source.choice(_NUMBERS) + data[one.end() :]


def _edit_json(data: bytes, source: random.Random) -> bytes:
    try:
        value = json.loads(data)
    except ValueError:
        return data
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        keys = list(part) if isinstance(part, dict) else range(len(part))
        for key in keys:
            places.append((part, key))
            if isinstance(part[key], (dict, list)):
                walk(part[key])

    if isinstance(value, (dict, list)):
        walk(value)
    if not places or source.random() < 0.02:
        return json.dumps(source.choice(_VALUES)).encode()
    holder, key = source.choice(places)
    if isinstance(holder, dict) and source.random() < 0.25:
        del holder[key]
    else:
        holder[key] = source.choice(_VALUES)
    return json.dumps(value).encode()


# ---------------------------------------------------------------- files

_PIXELS = np.arange(16 * 12 * 3, dtype=np.uint8).reshape(12, 16, 3)


def _image(suffix: str = "PNG") -> bytes:
    from PIL import Image

    target = io.BytesIO()
    Image.fromarray(_PIXELS).save(target, suffix)
    return target.getvalue()


def _images(folder: Path) -> list[Path]:
    made = []
    for suffix, kind in (
        ("png", "PNG"), ("jpg", "JPEG"), ("gif", "GIF"), ("webp", "WEBP"), ("tif", "TIFF"),
        ("bmp", "BMP"), ("ppm", "PPM"),
    ):  # fmt: skip
        made.append(folder / f"a.{suffix}")
        made[-1].write_bytes(_image(kind))
    return made


def _each(*names: str) -> Callable[[Path], None]:
    """Return what reads every file by each function ``MODULE:NAME`` of ours, imported when it is asked.

    The first error is that of the trial.
    """

    def read(folder: Path) -> None:
        for name in names:
            for path in sorted(folder.iterdir()):
                _import(name)(path)

    return read


def _import(name: str) -> Callable[[Path], object]:
    module, _, function = name.partition(":")
    found: Callable[[Path], object] = getattr(import_module(f"shiftproof.{module}"), function)
    return found


def _write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _npy(folder: Path) -> list[Path]:
    np.save(folder / "a.npy", np.arange(24, dtype=np.float32).reshape(6, 4))
    return [folder / "a.npy"]


def _npz(folder: Path) -> list[Path]:
    np.savez(folder / "a.npz", a=np.arange(24.0).reshape(6, 4), n=np.int64(3))
    np.savez_compressed(folder / "b.npz", a=np.zeros((60, 4)), t=np.array(["x", "yz"]))
    return [folder / "a.npz", folder / "b.npz"]


def _unit_rows(count: int = 6) -> Any:
    rows = np.random.default_rng(0).normal(size=(count, 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def _shards(folder: Path) -> list[Path]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = _unit_rows()
    rows_file = _write(folder / "img_emb" / "img_emb_0.npy", b"")
    np.save(rows_file, rows)
    table_file = _write(folder / "metadata" / "metadata_0.parquet", b"")
    keys = [f"{row:032x}" for row in range(len(rows))]
    pq.write_table(pa.table({"key": [f"a{n}" for n in range(6)], "uid": keys}), table_file)
    return [rows_file, table_file]


def _read_shards(folder: Path) -> None:
    from shiftproof.similarity import open_embeddings

    rows = open_embeddings(folder)
    rows.read()
    rows.keys(0)
    rows.keys(0, "key")


def _datacomp(folder: Path) -> list[Path]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    np.savez(folder / "0.npz", l14_img=_unit_rows())
    pq.write_table(pa.table({"uid": [f"{n:032x}" for n in range(6)]}), folder / "0.parquet")
    return [folder / "0.npz", folder / "0.parquet"]


def _read_datacomp(folder: Path) -> None:
    from shiftproof.similarity import open_embeddings

    rows = open_embeddings(folder)
    rows.read()
    rows.keys(0)


def _keep(folder: Path) -> list[Path]:
    uids = np.array([(0, 1), (0, 2)], dtype=[("f0", "<u8"), ("f1", "<u8")])
    np.save(folder / "uids.npy", uids)
    np.save(folder / "keep.npy", np.ones(6, np.bool_))
    return [folder / "uids.npy", folder / "keep.npy"]


def _read_keep(folder: Path) -> None:
    from shiftproof.similarity.keeplists import read_datacomp
    from shiftproof.similarity.subset import read_keep

    read_datacomp(folder / "uids.npy")
    read_keep(folder / "keep.npy", 6)


def _parts(folder: Path) -> list[Path]:
    from shiftproof.shards.folder import PartFolder

    parts = PartFolder.create(folder / "parts", "job", 1, {"a": 1, "b": [1, 2]})
    parts.write(0, {"a": np.arange(6.0), "n": np.asarray(3)})
    return [parts.part_file(0), folder / "parts" / "manifest.json"]


def _read_parts(folder: Path) -> None:
    from shiftproof.shards.folder import PartFolder

    PartFolder.create(folder / "parts", "job", 1, {"a": 1, "b": [1, 2]}).read(0)


def _tar(folder: Path) -> list[Path]:
    members = {
        "a0.png": _image(),
        "a0.json": b'{"uid": "0a", "caption": "a cat"}',
        "a1.png": _image("JPEG"),
        "a1.txt": b"a dog",
        "d" * 120 + ".png": _image(),
    }
    return [_write_tar(folder / "a.tar", members, mtime=1.5)]


def _write_tar(path: Path, members: dict[str, bytes], mtime: float = 0) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as target:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(data), mtime
            target.addfile(entry, io.BytesIO(data))
    return path


def _embed_tar(folder: Path) -> None:
    from shiftproof.embed import TarPictures
    from shiftproof.errors import BrokenFileError

    pictures = TarPictures(folder / "a.tar")
    part = pictures.part(0)
    for picture in part.pictures:
        try:
            pictures.read(picture)
        except BrokenFileError:
            continue
    if part.broken:
        raise BrokenFileError(next(iter(part.broken.values())))


def _corrupt(source: Path, target: Path) -> None:
    from shiftproof.data import export_corrupted
    from shiftproof.errors import BrokenFileError

    done = export_corrupted(
        source, target, corruptions=["contrast"], severities=[1], workers=0, show_progress=False
    )
    if done.broken:
        raise BrokenFileError(next(iter(done.broken.values())))


def _corrupt_tar(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as out:
        _corrupt(folder / "a.tar", Path(out) / "out")


def _subset_tar(folder: Path) -> None:
    from shiftproof.similarity import open_embeddings
    from shiftproof.similarity.subset import write_subset

    with tempfile.TemporaryDirectory() as given:
        _shards(Path(given) / "rows")
        keep = np.array([True, True, False, False, False, False])
        rows = open_embeddings(Path(given) / "rows")
        write_subset(rows, keep, Path(given) / "out", tars=folder)


def _saved(folder: Path) -> list[Path]:
    import pyarrow as pa
    import pyarrow.ipc

    home = folder / "saved" / "train"
    home.mkdir(parents=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [{"bytes": _image(), "path": f"{n}.png"} for n in range(3)]
    table = pa.table(
        {"image": pa.array(cells, kind), "caption": ["a", "b", "c"], "label": [0, 1, 0]}
    )
    with pyarrow.ipc.new_stream(str(home / "a.arrow"), table.schema) as target:
        target.write_table(table)
    features = {
        "image": {"_type": "Image"},
        "caption": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    return [
        home / "a.arrow",
        _write(home / "state.json", json.dumps({"_data_files": [{"filename": "a.arrow"}]})),
        _write(home / "dataset_info.json", json.dumps({"features": features})),
        _write(folder / "saved" / "dataset_dict.json", json.dumps({"splits": ["train"]})),
    ]


def _read_saved(folder: Path) -> None:
    from shiftproof.data import SavedDataset
    from shiftproof.data.images import saved

    saved._open_table_version.cache_clear()
    data = SavedDataset(folder / "saved")
    data.fingerprint()
    for sample in data.samples:
        data.read(sample)


def _labeled_tar(folder: Path) -> list[Path]:
    value = {"label": 1, "objects": {"bbox": [[1, 2, 3, 4]], "category": ["cat"]}, "width": 16}
    told = json.dumps(value).encode()
    members = {"0.png": _image(), "0.json": told, "1.png": _image("JPEG"), "1.json": told}
    return [_write_tar(folder / "a.tar", members)]


def _packed_parquet(folder: Path) -> list[Path]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    names = {"_type": "ClassLabel", "names": ["cat", "dog"]}
    features = {"image": {"_type": "Image"}, "label": names}
    table = pa.table(
        {
            "image": pa.array([{"bytes": _image(), "path": f"{n}.png"} for n in range(3)], kind),
            "label": [0, 1, 0],
            "objects": [{"bbox": [[1.0, 2.0, 3.0, 4.0]], "category": [1]}] * 3,
        }
    )
    told = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(table.replace_schema_metadata(told), folder / "a.parquet", row_group_size=2)
    return [folder / "a.parquet"]


def _read_packed(folder: Path) -> None:
    from shiftproof.classes import name_classes
    from shiftproof.data import open_data, open_detection_data
    from shiftproof.data.images import parquet
    from shiftproof.errors import ShiftproofError

    parquet._open_version.cache_clear()
    parquet._read_group_images.cache_clear()
    errors = []
    for open_it in (
        lambda path: open_data(path, classes=name_classes(["cat", "dog"])),
        open_detection_data,
    ):
        try:
            data = open_it(folder)
            data.fingerprint()
            for sample in data.samples:
                data.read(sample)
        except ShiftproofError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _folder_of_images(folder: Path) -> Path:
    for name in ("cat/0.png", "cat/1.png", "dog/2.png"):
        _write(folder / "photos" / name, _image())
    return folder / "photos"


def _encoder() -> Any:
    from shiftproof import Encoder, Preprocess

    plain = Preprocess((8, 8), 8, mean=(0, 0, 0), std=(1, 1, 1))
    return Encoder(_means, plain)


def _means(inputs: Any) -> Any:
    return inputs.mean(axis=(2, 3))


def _embedded(folder: Path) -> list[Path]:
    from shiftproof.embed import embed

    out = folder / "out"
    embed(_encoder(), _folder_of_images(folder), out, workers=0)
    return [out / "manifest.json", out / "shards" / "shard_0.json"]


def _read_embedded(folder: Path) -> None:
    from shiftproof.embed import embed

    embed(_encoder(), folder / "photos", folder / "out", workers=0)


def _classifier() -> Any:
    from shiftproof import Classifier, Preprocess
    from shiftproof.classes import name_classes

    plain = Preprocess((8, 8), 8, mean=(0, 0, 0), std=(1, 1, 1))
    return Classifier(_means, plain, name_classes(["cat", "dog", "cow"]), device="cpu")


def _bench(folder: Path) -> Any:
    from shiftproof import bench
    from shiftproof.data import ImageFolder

    model = _classifier()
    data = ImageFolder(folder / "photos", model.classes)
    return bench.run(
        model, data, corruptions=["contrast"], severities=[1], out=folder / "run", workers=0
    )


def _run(folder: Path) -> list[Path]:
    _folder_of_images(folder)
    _bench(folder)
    made = [path for path in sorted((folder / "run").rglob("*")) if path.is_file()]
    return [path for path in made if path.suffix in (".json", ".parquet")]


def _page(folder: Path) -> None:
    from shiftproof.report import write_report
    from shiftproof.runs import Run

    run = Run(folder / "run")
    for path in sorted((folder / "run" / "records").rglob("*.parquet")):
        from shiftproof.runs.records.classification import read_cell

        read_cell(path)
    del run
    write_report(folder / "run")


def _copy(folder: Path) -> list[Path]:
    _corrupt(_folder_of_images(folder), folder / "out")
    return [folder / "out" / "manifest.json"]


def _audit(folder: Path) -> list[Path]:
    from shiftproof.similarity import audit, open_embeddings

    _shards(folder / "train")
    _shards(folder / "test")
    audit(
        open_embeddings(folder / "train"),
        {"s": open_embeddings(folder / "test")},
        folder / "run",
        k=2,
    )
    return [folder / "run" / "run.json", folder / "run" / "scores.json"]


def _audit_page(folder: Path) -> None:
    from shiftproof.report import write_report

    write_report(folder / "run")


def _readings(folder: Path) -> list[Path]:
    from shiftproof.probe.records import READINGS, Readings, write_readings

    values = np.arange(6.0).reshape(3, 2)
    read = dict.fromkeys(READINGS, values)
    write_readings(folder / "a.parquet", Readings(("a", "b", "c"), np.arange(3), values, read))
    return [folder / "a.parquet"]


def _detections(folder: Path) -> list[Path]:
    from shiftproof.runs.records.detection import (
        DetectionRecords,
        ImageDetections,
        write_detections,
    )

    one = ImageDetections(np.zeros(2, np.int32), np.ones(2), np.ones((2, 4)), (b"a", b"b"))
    records = DetectionRecords(["a", "b"], np.arange(2, dtype=np.int32), [one, one], [None, "x"])
    write_detections(folder / "a.parquet", records)
    return [folder / "a.parquet"]


def _coco_value() -> dict[str, Any]:
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 16, "height": 12} for n in (1, 2)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 6], "area": 30,
             "iscrowd": 0, "segmentation": [[1, 1, 6, 1, 6, 7]]},
            {"id": 2, "image_id": 2, "category_id": 5, "bbox": [0, 0, 8, 8], "area": 64,
             "iscrowd": 1, "segmentation": {"size": [12, 16], "counts": [0, 192]}},
        ],
    }  # fmt: skip


def _coco(folder: Path) -> list[Path]:
    for number in (1, 2):
        _write(folder / f"{number}.png", _image())
    return [_write(folder / "instances.json", json.dumps(_coco_value()))]


def _open(path: Path) -> None:
    from shiftproof.data import open_detection_data

    data = open_detection_data(path)
    data.settings()


def _scored(folder: Path) -> tuple[Path, Path]:
    truth = _write(folder / "truth.json", json.dumps(_coco_value()))
    rows = [
        {"image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 6], "score": 0.5},
        {"image_id": 2, "category_id": 5, "bbox": [0, 0, 8, 8], "score": 0.25},
    ]
    for name in ("clean.json", "fog-1.json"):
        _write(folder / "found" / name, json.dumps(rows))
    return truth, folder / "found" / "fog-1.json"


def _score(folder: Path) -> None:
    from shiftproof.bench import score

    with tempfile.TemporaryDirectory() as out:
        score(
            folder / "found", folder / "truth.json", out=Path(out) / "run", workers=0,
            show_progress=False,
        )  # fmt: skip


def _tables(folder: Path) -> list[Path]:
    import pickle

    value = {"fog": {severity: {"bbox": {"AP": 0.5}} for severity in range(6)}}
    texts = {"fog": {str(severity): 0.5 for severity in range(6)}}
    made = [folder / "a.pkl", folder / "b.pkl"]
    for protocol, path in zip((2, 4), made, strict=True):
        with_numbers: dict[str, Any] = {"fog": {1: [{"ap": np.float64(0.5)}], 0: [{"ap": 0.5}]}}
        path.write_bytes(pickle.dumps(value if protocol == 2 else with_numbers, protocol))
    made.append(_write(folder / "c.json", json.dumps(texts)))
    made.append(_write(folder / "d.csv", "corruption,severity,AP\nclean,0,0.5\nfog,1,0.25\n"))
    return made


_XML = """<annotation><filename>000005.png</filename>
<size><width>16</width><height>12</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult>
<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>13</xmax><ymax>10</ymax></bndbox></object>
</annotation>
"""


def _voc(folder: Path) -> list[Path]:
    home = folder / "VOC2007"
    _write(home / "JPEGImages" / "000005.png", _image())
    declared = '<?xml version="1.0" encoding="utf-8"?>\n' + _XML
    return [
        _write(home / "Annotations" / "000005.xml", declared),
        _write(home / "ImageSets" / "Main" / "val.txt", "000005\n"),
    ]


def _yolo(folder: Path) -> list[Path]:
    _write(folder / "images" / "val" / "a.png", _image())
    return [
        _write(
            folder / "data.yaml",
            "path: .\nval: images/val\nnc: 2\nnames: {0: cat, 1: 2001-01-01}\n",
        ),
        _write(folder / "labels" / "val" / "a.txt", "1 0.5 0.5 0.25 0.5\n0 0 0 0.5 0 0.5 0.5\n"),
    ]


def _cityscapes(folder: Path) -> list[Path]:
    stem = "ulm_000000_000019"
    _write(folder / "leftImg8bit" / "val" / "ulm" / f"{stem}_leftImg8bit.png", _image())
    shape = {"label": "car", "polygon": [[1, 1], [9, 1], [9, 9], [1, 9]]}
    value = {"imgHeight": 12, "imgWidth": 16, "objects": [shape, {**shape, "label": "road"}]}
    name = f"{stem}_gtFine_polygons.json"
    return [_write(folder / "gtFine" / "val" / "ulm" / name, json.dumps(value))]


def _table(folder: Path) -> list[Path]:
    _write(folder / "a.png", _image())
    return [_write(folder / "images.csv", "path,label\na.png,cat\nb.png,dog\n")]


def _read_csv(folder: Path) -> None:
    from shiftproof.classes import name_classes
    from shiftproof.data import ImageTable
    from shiftproof.errors import BrokenFileError

    data = ImageTable(folder / "images.csv", name_classes(["cat", "dog"]))
    data.fingerprint()
    for sample in data.samples:
        try:
            data.read(sample)
        except BrokenFileError:
            continue


def _class_maps(folder: Path) -> list[Path]:
    return [
        _write(folder / "a.csv", "folder,class\na,cat\nb,dog\n"),
        _write(folder / "b.json", json.dumps({"a": "cat", "b": "dog"})),
    ]


def _names(folder: Path) -> list[Path]:
    return [_write(folder / "a.names", "cat\ndog\n")]


def _checkpoints(folder: Path) -> list[Path]:
    import torch
    from safetensors.torch import save_file

    state = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2)}
    torch.save(state, folder / "a.pt")
    torch.save({"state_dict": state}, folder / "b.pth", _use_new_zipfile_serialization=False)
    save_file(state, folder / "c.safetensors")
    return [folder / "a.pt", folder / "b.pth", folder / "c.safetensors"]


def _onnx(folder: Path) -> list[Path]:
    from onnx import TensorProto, helper

    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["m"]),
            helper.make_node("Flatten", ["m"], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", kind, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", kind, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"names": "{0: 'cat', 1: 'dog', 2: 'cow'}", "stride": "8"})
    return [_write(folder / "net.onnx", model.SerializeToString())]


def _read_onnx(folder: Path) -> None:
    from shiftproof.models import load_classifier

    load_classifier(f"onnx:{folder / 'net.onnx'}", device="cpu")


def _adapter(folder: Path) -> list[Path]:
    import torch

    from shiftproof.adapt.base.state import save_state

    save_state({"a/b/mean": torch.zeros(3)}, {"name": "x", "n": 1}, folder / "a.safetensors")
    return [folder / "a.safetensors"]


def _corrupted_arrays(folder: Path) -> list[Path]:
    images = np.zeros((10, 4, 4, 3), np.uint8)
    for name in ("fog", "contrast"):
        np.save(folder / f"{name}.npy", images)
    np.save(folder / "labels.npy", np.zeros(10, np.int64))
    return [folder / "fog.npy", folder / "labels.npy"]


def _read_corrupted_arrays(folder: Path) -> None:
    from shiftproof.classes import name_classes
    from shiftproof.data import open_data
    from shiftproof.types import Cell

    data: Any = open_data(folder, classes=name_classes(["cat", "dog"]))
    data.fingerprint()
    data.read_cell(data.samples[0], Cell("fog", 1))


def _read_styles(folder: Path) -> None:
    from shiftproof.stylize.styles import Paintings

    styles = Paintings(folder)
    styles.identity()
    for number in range(len(styles)):
        styles.read(number)


def _frost(folder: Path) -> list[Path]:
    for number, kind in ((1, "png"), (2, "png"), (3, "png"), (4, "jpg"), (5, "jpg")):
        _write(folder / f"frost{number}.{kind}", _image("PNG" if kind == "png" else "JPEG"))
    return [folder / "frost1.png", folder / "frost5.jpg"]


def _yaml(folder: Path) -> list[Path]:
    text = "a: &a [1, 2.5, 2001-01-01]\nb: {<<: {c: 1}, d: *a}\ne: !!int 7\nf: 0x1F\n"
    return [_write(folder / "a.yaml", text)]


READERS: dict[str, Reader] = {
    "image": Reader(_images, _each("io.images:read_size", "io.images:read_image")),
    "npy": Reader(_npy, _each("io.arrays:read_array")),
    "npz": Reader(_npz, _each("io.arrays:read_arrays")),
    "yaml": Reader(_yaml, _each("io.yaml:read_yaml")),
    "clip-retrieval": Reader(_shards, _read_shards),
    "datacomp": Reader(_datacomp, _read_datacomp),
    "keep-lists": Reader(_keep, _read_keep),
    "job-parts": Reader(_parts, _read_parts),
    "tar-embed": Reader(_tar, _embed_tar),
    "tar-corrupt": Reader(_tar, _corrupt_tar, slow=True),
    "tar-subset": Reader(_tar, _subset_tar),
    "saved-datasets": Reader(_saved, _read_saved),
    "tar-labels": Reader(_labeled_tar, _read_packed),
    "packed-parquet": Reader(_packed_parquet, _read_packed),
    "embeddings-resumed": Reader(_embedded, _read_embedded, slow=True),
    "run-resumed": Reader(_run, _bench, slow=True),
    "run-page": Reader(_run, _page, slow=True),
    "copy-resumed": Reader(
        _copy, lambda folder: _corrupt(folder / "photos", folder / "out"), slow=True
    ),
    "audit-page": Reader(_audit, _audit_page, slow=True),
    "probe-readings": Reader(_readings, _each("probe.records:read_readings")),
    "detection-records": Reader(_detections, _each("runs.records.detection:read_detections")),
    "coco": Reader(_coco, lambda folder: _open(folder / "instances.json")),
    "score-truth": Reader(lambda folder: [_scored(folder)[0]], _score, slow=True),
    "score-results": Reader(lambda folder: [_scored(folder)[1]], _score, slow=True),
    "result-tables": Reader(_tables, _each("bench.scoring.result_tables:read_table")),
    "voc": Reader(_voc, lambda folder: _open(folder / "VOC2007")),
    "yolo": Reader(_yolo, lambda folder: _open(folder / "data.yaml")),
    "cityscapes": Reader(_cityscapes, _open),
    "csv": Reader(_table, _read_csv),
    "class-maps": Reader(_class_maps, _each("data:read_class_map")),
    "names": Reader(_names, _each("models.classifiers.class_names:read_names")),
    "checkpoints": Reader(_checkpoints, _each("models.checkpoints.checkpoint:read_state")),
    "onnx": Reader(_onnx, _read_onnx, slow=True),
    "adapters": Reader(_adapter, _each("adapt.base.state:read_state")),
    "corrupted-arrays": Reader(_corrupted_arrays, _read_corrupted_arrays),
    "styles": Reader(_images, _read_styles),
    "frost": Reader(
        _frost, lambda folder: _import("corruptions.textures:read_photographs")(folder)
    ),
}


# ---------------------------------------------------------------- the trial


class TookTooLongError(BaseException):
    """Raised by the clock; no reader catches it."""


def try_one(reader: Reader, pristine: Path, files: Sequence[Path], key: str) -> tuple[str, str]:
    """Change one file of a copy of ``pristine``, read it, and return the outcome with a detail.

    ``key`` decides all of the change.
    """
    from shiftproof.errors import ShiftproofError

    source = random.Random(key)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "files"
        shutil.copytree(pristine, folder)
        path = folder / source.choice(files)
        path.write_bytes(change(path.read_bytes(), source))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader.read(folder)
        except ShiftproofError as error:
            found, detail = "error", str(error)
        except TookTooLongError:
            return "hang", path.name
        except MemoryError:
            return "memory", f"{path.name}: {traceback.format_exc(limit=-2)}"
        except Exception:
            return "traceback", f"{path.name}: {traceback.format_exc(limit=-3)}"
        else:
            found, detail = "accepted", ""
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if (after - before) / 1024 > MEGABYTES:
            return "memory", f"{path.name}: {(after - before) // 1024} MB"
        return found, detail


def make_pristine(reader: Reader, folder: Path) -> list[Path]:
    """Write a reader's files and return those that are changed, relative to the folder."""
    folder.mkdir(parents=True)
    return [path.relative_to(folder) for path in reader.make(folder)]


_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork")
_CHANGES = (
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
)
_OURS = (".nbi", ".nbc", ".pyc", "/dev/null")
"""Ends of what is written wherever Python works: compiled loops and modules."""


def watch_escapes(root: Path) -> list[str]:
    """Note from now on what is started, and what is changed outside of a folder; return the notes."""
    noted: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _STARTS:
            noted.append(f"{event} {arguments[0]!r}")
            return
        if event == "open":
            path, _, flags = arguments
            changes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        else:
            path, changes = arguments[0] if arguments else None, event in _CHANGES
            if event in ("os.remove", "os.rmdir") and arguments[1] != -1:
                return  # the trial's own folder is taken away, from within open folders
        if not changes or not isinstance(path, str | bytes | os.PathLike):
            return
        whole = os.path.realpath(os.fsdecode(path))
        ours = "__pycache__" in whole or re.sub(r"\.tmp\..*$", "", whole).endswith(_OURS)
        if not ours and not whole.startswith(f"{root}/"):
            noted.append(f"{event} {whole}")

    sys.addaudithook(hook)
    return noted


def work(name: str, start: int, count: int, seed: int) -> None:
    """Try one reader in this process; each trial is a line before it and a line behind it."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TookTooLongError

    signal.signal(signal.SIGALRM, ring)
    signal.signal(signal.SIGPROF, ring)
    reader = READERS[name]
    with tempfile.TemporaryDirectory() as place:
        pristine = Path(place) / "pristine"
        files = make_pristine(reader, pristine)
        with tempfile.TemporaryDirectory() as again:
            # What is imported or compiled once is no reader's memory or time.
            shutil.copytree(pristine, Path(again) / "files")
            reader.read(Path(again) / "files")
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + _ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        tempfile.tempdir = place
        noted = watch_escapes(Path(place).resolve())
        for number in range(start, count):
            print(json.dumps(["begin", number]), flush=True)
            signal.alarm(LONGEST)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                found = try_one(reader, pristine, files, f"{seed} {name} {number}")
            except TookTooLongError:
                found = ("hang", "")
            signal.alarm(0)
            signal.setitimer(signal.ITIMER_PROF, 0)
            if noted:
                found = ("escape", "; ".join(noted))
                noted.clear()
            print(json.dumps(["end", number, *found]), flush=True)


def try_reader(name: str, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Try a reader in processes of its own, and go on behind what kills one."""
    outcomes: Counter[str] = Counter()
    details = []
    start = 0
    while start < count:
        command = [sys.executable, __file__, "--work", name, str(start), str(count), str(seed)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=120 + count * LONGEST, check=False
            )
            lines, died = done.stdout.splitlines(), "crash" if done.returncode else None
            said = done.stderr[-400:]
        except subprocess.TimeoutExpired as error:
            lines = (error.stdout or b"").decode().splitlines()
            died, said = "hang", ""
        events = [json.loads(line) for line in lines if line.startswith('["')]
        for event in events:
            if event[0] == "end":
                outcomes[event[2]] += 1
                if event[2] not in GOOD:
                    details.append(f"{name} {event[1]}: {event[2]}: {event[3]}")
        last = events[-1] if events else ["end", start - 1]
        start = last[1] + 1
        if died is not None:
            outcomes[died] += 1
            details.append(f"{name} {last[1]}: {died} {said}")
            if not events:  # it cannot even begin
                break
    return outcomes, details


def main() -> int:
    """Print the table; 1 where anything but errors and acceptance came of a change."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=130, help="changes of each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="readers, with commas between them; or beginnings of names")
    parser.add_argument("--out", type=Path, help="write the table as JSON, too")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        name, *numbers = asked.work
        work(name, *map(int, numbers))
        return 0
    wanted = asked.only.split(",") if asked.only else [""]
    names = [name for name in READERS if any(name.startswith(word) for word in wanted)]
    if not names:
        parser.error(f"--only: expected some of {', '.join(READERS)}")
    print(f"{'reader':<20}" + "".join(f"{title:>11}" for title in OUTCOMES))
    total: Counter[str] = Counter()
    table = {}
    told = []
    for name in names:
        outcomes, details = try_reader(name, asked.count, asked.seed)
        total.update(outcomes)
        table[name] = {one: outcomes[one] for one in OUTCOMES}
        told += details
        print(f"{name:<20}" + "".join(f"{outcomes[one]:>11}" for one in OUTCOMES), flush=True)
    print(f"{'all':<20}" + "".join(f"{total[one]:>11}" for one in OUTCOMES))
    for line in told:
        print("\n" + line)
    if asked.out is not None:
        write(
            {
                "seed": asked.seed,
                "inputs": sum(total.values()),
                "bounds": {"seconds": SECONDS, "longest": LONGEST, "megabytes": MEGABYTES},
                "outcomes": {one: total[one] for one in OUTCOMES},
                "readers": table,
            },
            asked.out,
        )
    return 0 if set(total) <= set(GOOD) else 1


if __name__ == "__main__":
    sys.exit(main())
