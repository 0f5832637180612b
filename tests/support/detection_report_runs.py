"""Simulated detector runs in the benchmark's format, from hand-set figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from support.report_runs import COMMON, GROUP_OF, GROUPS, headline, interval

CLASSES = ("person", "dog", "car", "sheep")
WIDTH, HEIGHT = 120, 80
"""Of the photographs; their pictures are half as large."""


def p_of(model: int, corruption: int, severity: int) -> float:
    """Return P: it falls by 4 points per severity; each further model is 3 better, on clean 2 worse."""
    if severity == 0:
        return 0.5 - 0.02 * model
    return round(0.42 - 0.04 * severity - 0.01 * (corruption % 4) + 0.03 * model, 6)


def detector_scores(
    *,
    models: Sequence[str] = ("plain", "stylised"),
    corruptions: Sequence[str] = tuple(COMMON),
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    measure: str = "AP",
    resampled: bool = True,
    images: int | None = 120,
    missing: Sequence[str] = (),
    broken: Sequence[dict[str, Any]] = (),
    classes: Sequence[str] = CLASSES,
    title: str = "torchvision:retinanet",
) -> dict[str, Any]:
    whole = set(corruptions) == set(COMMON) and tuple(severities) == (1, 2, 3, 4, 5) and not missing

    def figure(value: float, *, low: float = 0.0) -> dict[str, float | None]:
        if not resampled:
            return {"value": value, "low": None, "high": None}
        return interval(value, 0.05, low, 1.0)

    built = []
    for number, name in enumerate(models):
        table = {
            (corruption, severity): p_of(number, place, severity)
            for place, corruption in enumerate(corruptions)
            for severity in severities
            if f"{corruption}-{severity}" not in missing
        }
        built.append(
            _figures(number, table, corruptions, whole, measure, figure)
            | {
                "name": name,
                "title": title if number == 0 else name,
                "detail": {
                    "sizes": {
                        key: {"clean": clean - 0.02 * number, "mean": mean + 0.03 * number}
                        for key, clean, mean in (
                            ("APs", 0.25, 0.05),
                            ("APm", 0.5, 0.3),
                            ("APl", 0.7, 0.6),
                        )
                    }
                    if measure == "AP"
                    else {},
                    "classes": [
                        {
                            "name": kind,
                            "index": place,
                            "objects": 10 * (place + 1) if images is not None else None,
                            "clean": 0.8 - 0.1 * (place % 4),
                            "mean": 0.8 - 0.1 * (place % 4) - (0.1, 0.3, 0.2, 0.0)[place % 4],
                        }
                        for place, kind in enumerate(classes)
                    ],
                },
            }
        )
    return {
        "format": 2,
        "kind": "detection",
        "measures": [
            {
                "name": measure,
                "title": "AP of boxes (COCO, mean over IoU 0.50 to 0.95)"
                if measure == "AP"
                else "AP50 (Pascal VOC, 11-point)",
                "lower_is_better": False,
                "unit": "share",
                "low": 0.0,
                "high": 1.0,
            }
        ],
        "headlines": [
            headline(
                "clean", f"Clean {measure}", f"{measure} on the images as they are", lower=False
            ),
            headline(
                "mean",
                "mPC" if whole else f"{measure} under corruption",
                f"mean {measure} over the 15 × 5 corruptions"
                if whole
                else "mean over what was run, no mPC",
                lower=False,
            ),
            headline(
                "rpc",
                "rPC" if whole else "Share that is kept",
                f"mPC as a share of the clean {measure}"
                if whole
                else f"of the clean {measure}, over what was run",
                lower=False,
            ),
        ],
        "interval": {
            "level": 0.95,
            "method": "paired percentile bootstrap over images, moved by its bias"
            if resampled
            else "none",
            "replicates": 1000 if resampled else 0,
            "seed": 0,
        },
        "images": {
            "total": None if images is None else images + len(broken),
            "used": images,
            "objects": None if images is None else 100,
            "broken": list(broken),
        },
        "grid": {
            "corruptions": list(corruptions),
            "severities": list(severities),
            "complete": whole,
            "missing": list(missing),
            "claim": "mPC",
            "reason": None if whole else "only a part of the grid is there",
        },
        "models": built,
        "differences": [_difference(built[0], model, resampled) for model in built[1:]],
    }


def _figures(
    number: int,
    table: dict[tuple[str, int], float],
    corruptions: Sequence[str],
    whole: bool,
    measure: str,
    figure: Any,
) -> dict[str, Any]:
    clean = p_of(number, 0, 0)

    def mean(names: Sequence[str]) -> float:
        return float(np.mean([value for (name, _), value in table.items() if name in names]))

    def numbers(value: float) -> dict[str, float | None]:
        if measure == "AP50":
            return {"AP50": value}
        return {"AP": value, "AP50": value + 0.2, "AP75": value - 0.05, "AR100": None}

    over_all = mean(corruptions)
    return {
        "summary": {
            "clean": figure(clean),
            "mean": figure(over_all),
            "rpc": figure(over_all / clean),
        },
        "clean": {"figures": {measure: figure(clean)}, "numbers": numbers(clean)},
        "cells": [
            {
                "corruption": name,
                "severity": severity,
                "figures": {measure: figure(value)},
                "numbers": numbers(value),
            }
            for (name, severity), value in table.items()
        ],
        "corruptions": [
            {
                "corruption": name,
                "group": GROUP_OF.get(name, "other"),
                "figures": {measure: figure(mean([name]))},
            }
            for name in corruptions
        ],
        "groups": [
            {"group": group, "figures": {measure: figure(mean(names))}}
            for group, names in GROUPS.items()
            if set(names) <= set(corruptions)
        ],
    }


def _difference(base: dict[str, Any], model: dict[str, Any], resampled: bool) -> dict[str, Any]:
    def minus(after: Any, before: Any) -> Any:
        if after is None or before is None:
            return None
        value = after["value"] - before["value"]
        ends = (value - 0.01, value + 0.01) if resampled else (None, None)
        return {"value": value, "low": ends[0], "high": ends[1]}

    def figures(after: Any, before: Any) -> Any:
        return {key: minus(after[key], before[key]) for key in after}

    def listed(key: str, *names: str) -> list[dict[str, Any]]:
        return [
            {
                **{name: after[name] for name in names},
                "figures": figures(after["figures"], before["figures"]),
            }
            for after, before in zip(model[key], base[key], strict=True)
        ]

    return {
        "name": model["name"],
        "against": base["name"],
        "summary": {
            key: minus(model["summary"][key], base["summary"][key]) for key in model["summary"]
        },
        "clean": {"figures": figures(model["clean"]["figures"], base["clean"]["figures"])},
        "cells": [{**cell, "numbers": {}} for cell in listed("cells", "corruption", "severity")],
        "corruptions": listed("corruptions", "corruption", "group"),
        "groups": listed("groups", "group"),
    }


# ---------------------------------------------------------------- folders


def write_detector_run(
    folder: Path,
    content: dict[str, Any] | None = None,
    *,
    sheets: int = 1,
    worst: int = 1,
    names: Sequence[str] = CLASSES,
    missing: dict[str, list[str]] | None = None,
    settings: dict[str, Any] | None = None,
) -> Path:
    content = detector_scores() if content is None else content
    folder.mkdir(parents=True, exist_ok=True)
    models = [model["name"] for model in content["models"]]
    run = {
        "format": 1,
        "kind": "detection",
        "settings": {
            "models": {name: {"name": name, "fingerprint": "ab"} for name in models},
            "classes": {
                name: {"data_class": [0], "missing": (missing or {}).get(name, []), "unused": []}
                for name in models
            },
            "measure": "coco" if content["measures"][0]["name"] == "AP" else "voc",
            "data": {"name": "street", "fingerprint": "0f" * 16, "images": 120},
            "images": {"source": "on the fly", "seed": 0, "encode": "none"},
            "seed": 0,
            "protocol": {"description": "online"},
            **(settings or {}),
        },
        "classes": {"title": "street", "count": 4},
        "provenance": {"shiftproof": "0.1.0", "started": "2026-01-02T03:04:05Z"},
    }
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    (folder / "scores.json").write_text(json.dumps(content), encoding="utf-8")
    gallery = {
        "overlap": 0.5,
        "thresholds": dict.fromkeys(models, 0.4),
        "sheets": [_sheet(folder, content, number, models, names) for number in range(sheets)],
        "worst": [_worst(folder, content, number, names) for number in range(worst)],
    }
    (folder / "gallery.json").write_text(json.dumps(gallery), encoding="utf-8")
    return folder


def things(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return four objects: two found or lost, one never found, and one that does not count."""
    return [
        {"name": names[0], "box": [10, 10, 30, 40], "counts": True},
        {"name": names[1], "box": [60, 20, 20, 30], "counts": True},
        {"name": names[2], "box": [90, 50, 20, 20], "counts": True},
        {"name": names[3], "box": [2, 60, 10, 10], "counts": False},
    ]


def found_at(severity: int, model: int, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the detections: both objects when clean, one from severity 3, none at 5; always one false box.

    The second model finds both at all severities; it alone has a box on the object that does not count.
    """

    def box(name: str, score: float, place: list[float], thing: int | None) -> dict[str, Any]:
        return {"name": name, "score": score, "box": place, "thing": thing}

    found = [box(names[2], 0.55, [40.0, 5.0, 15.0, 15.0], None)]
    if model or severity < 5:
        found.append(box(names[0], 0.9, [11.0, 11.0, 30.0, 40.0], 0))
    if model or severity < 3:
        found.append(box(names[1], 0.7, [61.0, 21.0, 20.0, 30.0], 1))
    if model:
        found.append(box(names[3], 0.5, [2.0, 60.0, 10.0, 10.0], 3))
    return found


def _cells(content: dict[str, Any]) -> list[tuple[str, int]]:
    return [("clean", 0)] + [
        (f"{cell['corruption']}-{cell['severity']}", cell["severity"])
        for cell in content["models"][0]["cells"]
    ]


def _picture(folder: Path, severity: int) -> str:
    """Return one file for all cells of a severity, which keeps the tests fast."""
    path = folder / "gallery" / f"{severity}.jpg"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        ramp = np.linspace(0, 255 - 30 * severity, WIDTH // 2).astype(np.uint8)
        grey = np.broadcast_to(ramp[None, :, None], (HEIGHT // 2, WIDTH // 2, 3))
        Image.fromarray(np.ascontiguousarray(grey)).save(path, quality=80)
    return f"gallery/{severity}.jpg"


def _sheet(
    folder: Path, content: dict[str, Any], number: int, models: Sequence[str], names: Sequence[str]
) -> dict[str, Any]:
    cells = _cells(content)
    return {
        "id": f"photo_{number}.jpg",
        "size": [WIDTH, HEIGHT],
        "things": things(names),
        "files": {cell: _picture(folder, severity) for cell, severity in cells},
        "found": {
            name: {cell: found_at(severity, place, names) for cell, severity in cells}
            for place, name in enumerate(models)
        },
    }


def _worst(
    folder: Path, content: dict[str, Any], number: int, names: Sequence[str]
) -> dict[str, Any]:
    cell, severity = _cells(content)[-1]
    return {
        "id": f"worst_{number}.jpg",
        "size": [WIDTH, HEIGHT],
        "things": things(names),
        "lost": 0.75,
        "clean_found": 2,
        "clean": {
            "cell": "clean",
            "file": _picture(folder, 0),
            "found": found_at(0, 0, names),
        },
        "corrupted": {
            "cell": cell,
            "file": _picture(folder, severity),
            "found": found_at(severity, 0, names),
        },
    }
