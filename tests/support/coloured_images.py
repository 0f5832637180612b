"""Images of one color, whose mean is a known vector, and the files that hold them."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from PIL import Image

from shiftproof import Encoder, Preprocess

PLAIN = Preprocess((8, 8), 8, mean=(0, 0, 0), std=(1, 1, 1))


def means(inputs):
    """Return the mean of each channel, in 0..1."""
    return inputs.mean(axis=(2, 3))


def encoder(**options):
    return Encoder(means, PLAIN, **options)


def colours(count):
    return np.random.default_rng(7).integers(1, 256, (count, 3))


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def png(colour, size=(9, 12)):
    height, width = size
    target = io.BytesIO()
    pixels = np.tile(np.asarray(colour, np.uint8), (height, width, 1))
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


def write_folder(folder, rows):
    """Write one image per color, named in the order of the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, colour in enumerate(rows):
        (folder / f"{number:03}.png").write_bytes(png(colour))
    return folder


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as target:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            target.addfile(entry, io.BytesIO(data))
    return path


def write_saved_dataset(folder, rows, *, captions=None, labels=None, files=2):
    """Write the files of ``Dataset.save_to_disk``: Arrow streams, ``state.json``, ``dataset_info.json``."""
    folder.mkdir(parents=True)
    features = {"image": {"_type": "Image"}}
    if captions:
        features["caption"] = {"dtype": "string", "_type": "Value"}
    if labels:
        features["label"] = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    names = []
    for place, chosen in enumerate(np.array_split(np.arange(len(rows)), files)):
        cells = [{"bytes": png(rows[row]), "path": f"{row}.png"} for row in chosen]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns = {"image": pa.array(cells, kind)}
        if captions:
            columns["caption"] = pa.array([captions[row] for row in chosen])
        if labels:
            columns["label"] = pa.array([labels[row] for row in chosen])
        table = pa.table(columns)
        names.append(f"data-{place:05}-of-{files:05}.arrow")
        with pyarrow.ipc.new_stream(str(folder / names[-1]), table.schema) as target:
            target.write_table(table)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


def contents(folder):
    """Return all files of the shards, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
