"""Small real inputs for a command of every verb, as ``tests/support/verb_commands.py`` names them."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np

from shiftproof import bench
from shiftproof.data import open_data

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.append(str(TESTS))
blobs, maps, tiny, rows = (
    importlib.import_module(f"support.{name}")
    for name in ("blobs", "label_map_trees", "tiny", "vector_folders")
)

_OWN = """
import numpy as np

from shiftproof import Classifier, Encoder, Preprocess, Segmenter
from support import blobs, label_map_trees, tiny

classify, detect = tiny.make_model(), blobs.make_detector()
segment = Segmenter(label_map_trees.nearest_color, label_map_trees.NAMES)


def double(batch):
    colors = tiny.mean_colour(batch)
    return np.concatenate([colors, -colors], axis=1)


flip = Classifier(double, classify.preprocess, list("abcdef"), name="six")
plain = Preprocess((16, 16), None, mean=(0, 0, 0), std=(1, 1, 1))
encode = Encoder(tiny.mean_colour, plain, normalize=False, name="means")
"""
"""The models, which compute means of colors: what is measured is what comes before them."""


def write_inputs(root: Path) -> None:
    """Write photographs, datasets, results, vectors, finished runs, a graph, and ``own.py``."""
    (root / "own.py").write_text(_OWN, encoding="utf-8")
    tiny.write_photos(root / "photos", per_class=2)
    maps.write_folders(root / "maps", 2)
    maps.write_names(root / "maps.txt")
    _write_results(root)
    _write_vectors(root)
    _write_runs(root)
    _write_graph(root / "model.onnx")


def _write_results(root: Path) -> None:
    truth = blobs.write_blocks(root / "blocks", images=2) / "annotations" / "blocks.json"
    found = [{**one, "score": 0.5} for one in json.loads(truth.read_text())["annotations"]]
    (root / "found" / "fog").mkdir(parents=True)
    (root / "found" / "clean.json").write_text(json.dumps(found), encoding="utf-8")
    (root / "found" / "fog" / "3.json").write_text(json.dumps(found[1:]), encoding="utf-8")


def _write_vectors(root: Path) -> None:
    rows.vectors(root / "train", rows.unit_vectors(60, 3))
    np.save(root / "sketch.npy", rows.unit_vectors(20, 1))
    np.save(root / "keep.npy", np.arange(60) % 3 == 0)


def _write_runs(root: Path) -> None:
    model = tiny.make_model()
    photos = open_data(root / "photos", classes=model.classes)
    for name in ("before", "after"):
        bench.run(
            model, photos, out=root / name, corruptions=["contrast"], severities=[1], workers=0
        )


def _write_graph(path: Path) -> None:
    import onnx

    onnx.save(importlib.import_module("support.onnx_graphs").build(), str(path))
