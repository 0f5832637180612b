"""A small finished run of each kind, made by the public functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shiftproof import Encoder, Preprocess, bench
from shiftproof.data import ImageArrays, open_data
from shiftproof.probe import mlp, probe
from shiftproof.shards import Local
from shiftproof.similarity import Sharding, audit
from support import blobs, tiny
from support.brightness_task import Brightness

GRID = {"corruptions": ["gaussian_noise", "contrast"], "severities": [1, 5], "workers": 0}


def run_classifier(root: Path, out: Path) -> None:
    model = tiny.make_model()
    photos = open_data(tiny.write_photos(root / "photos"), classes=model.classes)
    bench.run(model, photos, out=out, **GRID)


def run_detector(root: Path, out: Path) -> None:
    blocks = blobs.write_blocks(root / "blocks", images=4)
    bench.run(blobs.make_detector(), blocks, task=bench.Detection(), out=out, **GRID)


def run_own_task(out: Path) -> None:
    levels = np.random.default_rng(5).integers(40, 200, 6)
    images = [np.full((12, 12, 3), level, np.uint8) for level in levels]
    data = ImageArrays(images, labels=levels.tolist())

    def mean(batch):
        return [float(image.mean()) for image in batch]

    bench.run({"mean": mean}, data, task=Brightness(), out=out, **GRID)


def run_probe(out: Path) -> None:
    plain = Preprocess((16, 16), None, mean=(0, 0, 0), std=(1, 1, 1))
    encoder = Encoder(lambda inputs: inputs.mean(axis=(2, 3)), plain, normalize=False, name="mean")
    shades = np.random.default_rng(0).integers(60, 140, (12, 1, 1, 3), dtype=np.uint8)
    images = np.tile(shades, (1, 16, 16, 1))
    steps, mlp.STEPS = mlp.STEPS, 3
    try:
        probe(encoder, ImageArrays(images), out=out, factors=["brightness", "flip"], workers=0)
    finally:
        mlp.STEPS = steps


def draw_rows(count: int, seed: int) -> np.ndarray:
    """Return float16 rows of length 1 with 8 columns."""
    rows = np.random.default_rng(seed).normal(size=(count, 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


TRAIN, REFERENCE = draw_rows(60, 1), draw_rows(15, 2)
SETS = {"sketch": draw_rows(20, 3), "art": draw_rows(30, 4)}


def run_audit(out: Path, *, reference: bool = True) -> None:
    place = Sharding(out, backend=Local(0))
    audit(TRAIN, SETS, out, reference=REFERENCE if reference else None, k=3, sharding=place)
