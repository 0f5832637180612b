"""Write embeddings in the layouts of other tools."""

import io
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def unit_rows(count, width=16, seed=0, dtype=np.float16):
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype)


def clip_retrieval(folder, shards, *, keys=True):
    """Write the files of clip-retrieval's `clip inference`."""
    (folder / "img_emb").mkdir(parents=True)
    (folder / "text_emb").mkdir()
    (folder / "metadata").mkdir()
    for number, rows in shards.items():
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", rows)
        np.save(folder / "text_emb" / f"text_emb_{number}.npy", rows[:, :4])
        if keys:
            names = [f"{number}-{row}" for row in range(len(rows))]
            table = pa.table({"image_path": names, "caption": ["a"] * len(rows)})
            pq.write_table(table, folder / "metadata" / f"metadata_{number}.parquet")
    return folder


def uid(shard, row):
    return f"{shard * 2**40 + row:032x}"


def datacomp(folder, shards):
    """Write the files of DataComp: uncompressed .npz with the rows of two encoders, and uids."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(shards):
        stem = folder / f"{number:08x}"
        np.savez(f"{stem}.npz", b32_img=rows, l14_img=np.repeat(rows, 2, axis=1))
        uids = [uid(number, row) for row in range(len(rows))]
        pq.write_table(pa.table({"uid": uids, "text": ["a"] * len(rows)}), f"{stem}.parquet")
    return folder


def pickled_npy():
    """Return the bytes of an .npy that holds Python objects."""
    target = io.BytesIO()
    np.save(target, np.array([[{}]], dtype=object), allow_pickle=True)
    return target.getvalue()


def npz_of(name, data):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(f"{name}.npy", data)
    return target.getvalue()
