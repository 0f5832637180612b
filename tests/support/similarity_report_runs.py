"""The folder of an audit, in the format of ``shiftproof audit``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BINS = 200
EDGES = np.linspace(-1.0, 1.0, BINS + 1)


def interval(value: float, half: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def bump(centre: float, rows: int) -> list[int]:
    """Return counts around a similarity: a quarter, a half, a quarter."""
    counts = [0] * BINS
    place = int(np.searchsorted(EDGES, centre, side="right")) - 1
    counts[place - 1], counts[place], counts[place + 1] = rows // 4, rows // 2, rows // 4
    return counts


def shares(counts: list[int]) -> list[float]:
    return (np.cumsum(counts) / sum(counts)).tolist()


def certificate(**changed: Any) -> dict[str, Any]:
    plain = {
        "precision": "int8", "bound": 0.0123, "dimensions": 64, "products": 200_000, "groups": 900,
        "candidates": 700, "rechecked": 800, "set_aside": 0, "skipped": 0,
    }  # fmt: skip
    return {**plain, **changed}


def of_set(
    name: str, *, rows: int = 400, gap: float = 0.1, duplicates: float = 0.02, half: float = 0.01
) -> dict[str, Any]:
    """Return a test set with its reference at 0.6."""
    # In the middle of bins, so that rounding has no effect.
    train, reference = bump(0.605 + gap, rows), bump(0.605, rows)
    return {
        "name": name,
        "rows": rows,
        "similarity": interval(0.6 + gap),
        "density": interval(0.55),
        "near_duplicates": interval(duplicates, 0.0 if duplicates == 0 else duplicates / 2),
        "reference_similarity": interval(0.6),
        "reference_near_duplicates": interval(0.0, 0.0),
        "gap": interval(gap, half),
        "share_closer": interval(0.8, 0.04),
        "histogram": {"train": train, "reference": reference},
        "cumulative": {"train": shares(train), "reference": shares(reference)},
        "train_histogram": bump(0.3, 2000),
        "classes": [
            {
                "label": label, "rows": 40, "similarity": 0.6 + own, "near_duplicates": 0.05,
                "reference_similarity": 0.6, "gap": own, "share_closer": 0.75,
            }
            for label, own in (("bag", 0.05), ("boot", 0.2))
        ],
        "leakage": [],
        "pruned": {"rows": 310, "share": 0.155},
        "certificates": {
            "train": certificate(), "nearest": certificate(precision="fp32", bound=0.0),
            "reference": certificate(), "pruned": certificate(rechecked=12),
        },
    }  # fmt: skip


def leak(row: int, similarity: float, path: Path | None = None) -> dict[str, Any]:
    """Return a test row with two training rows; the first shares the file of its image."""
    where = None if path is None else str(path)
    return {
        "row": row, "key": f"test/{row}.png", "path": where, "label": "boot",
        "similarity": similarity,
        "train": [
            {
                "row": 1203, "shard": "img_emb_1.npy", "place": 203, "key": "train/203.png",
                "path": where, "similarity": similarity,
            },
            {
                "row": 7, "shard": "img_emb_0.npy", "place": 7, "key": None, "path": None,
                "similarity": similarity - 0.1,
            },
        ],
    }  # fmt: skip


def scores(*sets: dict[str, Any]) -> dict[str, Any]:
    chosen = list(sets) or [of_set("sketch"), of_set("art", gap=-0.05, duplicates=0.0)]
    names = [each["name"] for each in chosen]
    return {
        "format": 2,
        "kind": "similarity",
        "measure": "cosine similarity",
        "interval": {
            "level": 0.95, "method": "percentile bootstrap over test rows", "replicates": 1000,
            "seed": 0,
        },
        "k": 10,
        "duplicates": 0.95,
        "train": {"rows": 2000, "skipped": 0, "width": 64, "shards": 2},
        "reference": {"rows": 800, "skipped": 0, "width": 64, "shards": 1},
        "edges": EDGES.tolist(),
        "sets": chosen,
        "pruning": {
            "names": names,
            "combined": 456,
            "share": 0.228,
            "shared": [[1.0 if a == b else 0.25 for b in names] for a in names],
        },
    }  # fmt: skip


def without_reference(content: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of an audit without a reference."""
    none = ("reference_similarity", "reference_near_duplicates", "gap", "share_closer", "pruned")
    for each in content["sets"]:
        each.update(dict.fromkeys(none))
        each["histogram"]["reference"] = each["cumulative"]["reference"] = None
        each["certificates"].update(reference=None, pruned=None)
        for one in each["classes"]:
            one.update(reference_similarity=None, gap=None, share_closer=None)
    return {**content, "reference": None, "pruning": None}


def write_audit(folder: Path, content: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    head = {
        "format": 1,
        "kind": "similarity",
        "settings": {"train": {"source": "laion", "rows": 2000}, "k": 10},
        "provenance": {"shiftproof": "0.0", "started": "2026-01-02T03:04:05+00:00"},
    }
    (folder / "run.json").write_text(json.dumps(head))
    (folder / "scores.json").write_text(json.dumps(content or scores()))
    return folder


def write_picture(path: Path, grey: int = 120) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 30, 3), grey, np.uint8)).save(path)
    return path
