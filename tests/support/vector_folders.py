"""Folders of embeddings and tars for the command line."""

import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def unit_vectors(count, seed, width=32):
    rows = np.random.default_rng(seed).normal(size=(count, width)) + 0.3
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def vectors(folder, *shards, **columns):
    """Write shards in clip-retrieval's layout; columns are functions of (shard, row)."""
    (folder / "img_emb").mkdir(parents=True)
    (folder / "metadata").mkdir()
    for number, rows in enumerate(shards):
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", rows)
        names = [f"{number}/{row}.png" for row in range(len(rows))]
        table = {"image_path": names}
        for name, value in columns.items():
            table[name] = [value(number, row) for row in range(len(rows))]
        pq.write_table(pa.table(table), folder / "metadata" / f"metadata_{number}.parquet")
    return folder


def tar_of(path, keys):
    with tarfile.open(path, "w") as tar:
        for key in keys:
            for suffix, data in (("png", key.encode()), ("txt", b"of " + key.encode())):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
