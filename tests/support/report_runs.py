"""Synthetic run folders in the benchmark's format, from made-up predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

GROUPS = {
    "noise": ["gaussian_noise", "shot_noise", "impulse_noise"],
    "blur": ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur"],
    "weather": ["snow", "frost", "fog", "brightness"],
    "digital": ["contrast", "elastic_transform", "pixelate", "jpeg_compression"],
}
COMMON = [name for names in GROUPS.values() for name in names]
GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}


def measure_of(name: str, title: str, unit: str = "share", high: float | None = 1.0) -> Any:
    return {
        "name": name, "title": title, "lower_is_better": True, "unit": unit, "low": 0.0, "high": high,
    }  # fmt: skip


def headline(
    name: str, title: str, note: str, *, lower: bool = True, card: bool = True
) -> dict[str, Any]:
    return {
        "name": name, "title": title, "note": note, "lower_is_better": lower, "unit": "share",
        "card": card,
    }  # fmt: skip


ERROR = measure_of("error", "error")
TOP5 = measure_of("top5_error", "top-5 error")
CALIBRATION = measure_of("calibration_error", "calibration error")
LOSS = measure_of("loss", "loss", "nats", None)
DISAGREEMENT = measure_of("disagreement", "disagreement with the clean prediction")
DISAGREES = headline("mean", "Disagreement under corruption", "mean over the grid")
HEADLINES = [
    headline("clean", "Clean error", "images as they are"),
    headline("mean", "Error under corruption", "mean over the grid"),
    headline("mce", "mCE", "against AlexNet"),
    headline("relative_mce", "Relative mCE", "rise over the clean error", card=False),
    headline("rpc", "rPC", "accuracy that is kept", lower=False),
    headline("calibration_error", "Calibration error", "confidence against truth"),
]
LABELS = ["tabby", "golden retriever", "school bus", "espresso", "daisy", "castle"]


def interval(value: float, width: float, low: float = 0.0, high: float = 1.0) -> dict[str, float]:
    return {
        "value": value,
        "low": max(low, value - width),
        "high": min(high, value + width),
    }


def scores(
    *,
    models: Sequence[str] = ("source", "BN"),
    corruptions: Sequence[str] = tuple(COMMON),
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    labeled: bool = True,
    images: int = 20,
    broken: Sequence[dict[str, Any]] = (),
    labels: Sequence[str] = tuple(LABELS),
    seed: int = 0,
    title: str = "EfficientNet-Lite0",
    gain: float = 0.1,
) -> dict[str, Any]:
    """Return plausible figures: worse with severity, BN better on noise and worse on brightness."""
    rng = np.random.default_rng(seed)
    width = 1.0 / np.sqrt(images)
    hardness = {name: 0.2 + 0.5 * rng.random() for name in corruptions}
    measure = "error" if labeled else "disagreement"
    complete = len(corruptions) == 15 and len(severities) == 5 and labeled
    built: list[dict[str, Any]] = []
    for number, model in enumerate(models):
        clean = 0.15 + 0.03 * number
        cells: list[dict[str, Any]] = []
        per_corruption: list[dict[str, Any]] = []
        for name in corruptions:
            helped = gain * number * (1.5 if GROUP_OF.get(name) == "noise" else 1.0)
            if name == "brightness":
                helped = -0.06 * number
            errors = []
            for severity in severities:
                error = clean + hardness[name] * severity / 5 * 1.2 - helped * severity / 5
                error = round(float(np.clip(error + 0.03 * rng.normal(), 0, 1)) * images) / images
                errors.append(error)
                cells.append(
                    {
                        "corruption": name,
                        "severity": severity,
                        "images": images,
                        "numbers": {},
                        "figures": {
                            "error": interval(error, width),
                            "top5_error": interval(error / 2, width),
                            "calibration_error": interval(error / 3, width),
                            "loss": interval(4 * error, width, 0, 99),
                        }
                        if labeled
                        else {"disagreement": interval(error, width)},
                    }
                )
            mean = float(np.mean(errors))
            per_corruption.append(
                {
                    "corruption": name,
                    "group": GROUP_OF.get(name, "other"),
                    "figures": {
                        measure: interval(mean, 0.7 * width),
                        "ce": interval(mean / 0.8, width, 0, 9) if complete else None,
                        "relative_ce": interval(mean / 0.7, width, 0, 9) if complete else None,
                    },
                }
            )
        mean = float(np.mean([c["figures"][measure]["value"] for c in per_corruption]))
        built.append(
            {
                "name": model,
                "title": title,
                "summary": {
                    "clean": interval(clean, width) if labeled else None,
                    "mean": interval(mean, 0.5 * width),
                    "mce": interval(mean / 0.79, 0.5 * width, 0, 9) if complete else None,
                    "relative_mce": interval(mean / 0.7, 0.6 * width, 0, 9) if complete else None,
                    "rpc": interval((1 - mean) / (1 - clean), 0.5 * width) if labeled else None,
                    "calibration_error": interval(0.21, width) if labeled else None,
                },
                "clean": {
                    "figures": {
                        "error": interval(clean, width),
                        "top5_error": interval(clean / 3, width),
                        "calibration_error": interval(0.07, width),
                        "loss": interval(0.61, width, 0, 99),
                    }
                    if labeled
                    else {"disagreement": interval(0.0, 0.0)},
                    "numbers": {},
                    "images": images,
                },
                "cells": cells,
                "corruptions": per_corruption,
                "groups": [],
                "detail": {
                    "classes": [
                        {
                            "name": label,
                            "index": 281 + index,
                            "images": max(1, images // len(labels)),
                            "clean_error": 0.0 if labeled else None,
                            "error": round(float(np.clip(mean + 0.2 * rng.normal(), 0, 1)), 4),
                        }
                        for index, label in enumerate(labels)
                    ]
                    if labeled
                    else []
                },
            }
        )
    return {
        "format": 2,
        "kind": "classification",
        "measures": [ERROR, TOP5, CALIBRATION, LOSS] if labeled else [DISAGREEMENT],
        "headlines": HEADLINES if labeled else [DISAGREES],
        "interval": {
            "level": 0.95,
            "method": "percentile bootstrap over images",
            "replicates": 1000,
            "seed": 0,
        },
        "images": {"total": images + len(broken), "used": images, "broken": list(broken)},
        "grid": {
            "corruptions": list(corruptions),
            "severities": list(severities),
            "complete": complete,
            "claim": "mCE",
            "reason": None
            if complete
            else "it needs all 15 benchmark corruptions at severities 1 to 5"
            if labeled
            else "the images have no labels",
        },
        "models": built,
        "differences": [_difference(built[0], model, width) for model in built[1:]],
    }


def _difference(base: dict[str, Any], model: dict[str, Any], width: float) -> dict[str, Any]:
    def minus(after: Any, before: Any, scale: float = 0.3) -> Any:
        if after is None or before is None:
            return None
        return interval(after["value"] - before["value"], scale * width, -99, 99)

    def figures(after: Any, before: Any) -> Any:
        return {key: minus(after[key], before[key]) for key in after}

    return {
        "name": model["name"],
        "against": base["name"],
        "summary": {
            key: minus(model["summary"][key], base["summary"][key]) for key in model["summary"]
        },
        "clean": {"figures": figures(model["clean"]["figures"], base["clean"]["figures"])},
        "cells": [
            {
                "corruption": after["corruption"],
                "severity": after["severity"],
                "figures": figures(after["figures"], before["figures"]),
            }
            for after, before in zip(model["cells"], base["cells"], strict=True)
        ],
        "corruptions": [
            {
                "corruption": after["corruption"],
                "group": after["group"],
                "figures": figures(after["figures"], before["figures"]),
            }
            for after, before in zip(model["corruptions"], base["corruptions"], strict=True)
        ],
    }


def picture(seed: int, severity: int, size: int = 96) -> Image.Image:
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
    colours = rng.integers(40, 220, (2, 3))
    field = (0.5 + 0.5 * np.sin(6 * x + seed) * np.cos(5 * y))[:, :, None]
    clean = colours[0] * field + colours[1] * (1 - field)
    noisy = clean + 14 * severity * rng.normal(size=clean.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def write_run(
    folder: Path,
    content: dict[str, Any] | None = None,
    *,
    sheets: int = 2,
    size: int = 96,
    ids: Sequence[str] | None = None,
    labels: Sequence[str] = tuple(LABELS),
    settings: dict[str, Any] | None = None,
    provenance: dict[str, Any] | None = None,
    kind: str = "classification",
) -> Path:
    content = scores() if content is None else content
    folder.mkdir(parents=True, exist_ok=True)
    labeled = content["measures"][0]["name"] == "error"
    grid = content["grid"]
    run = {
        "format": 1,
        "kind": kind,
        "settings": {
            "models": {"source": {"spec": "demo", "title": content["models"][0]["title"]}},
            "data": {"name": "photographs", "fingerprint": "0f" * 16, "images": 20},
            "adapters": {
                model["name"]: {"name": "BatchNorm", "prior": 16, "batch_size": 64}
                for model in content["models"][1:]
            },
            "corruptions": grid["corruptions"],
            "severities": grid["severities"],
            "batch_size": 64,
            "seed": 0,
            "protocol": "published",
            "encode": "none",
            **(settings or {}),
        },
        "classes": {"title": "imagenet-1k", "count": 1000},
        "provenance": {
            "shiftproof": "0.1.0",
            "python": "3.11.2",
            "numpy": "2.4.6",
            "torch": "2.9.0",
            "platform": "Linux x86_64",
            "device": "cpu",
            "started": "2026-01-02T03:04:05Z",
            **(provenance or {}),
        },
    }
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    (folder / "scores.json").write_text(json.dumps(content), encoding="utf-8")
    if sheets:
        _write_gallery(folder, content, sheets, size, ids, labels, labeled)
    return folder


def _write_gallery(
    folder: Path,
    content: dict[str, Any],
    sheets: int,
    size: int,
    ids: Sequence[str] | None,
    labels: Sequence[str],
    labeled: bool,
) -> None:
    rng = np.random.default_rng(3)
    names = [model["name"] for model in content["models"]]
    cells = [("clean", 0)] + [
        (f"{name}-{severity}", severity)
        for name in content["grid"]["corruptions"]
        for severity in content["grid"]["severities"]
    ]
    built: list[dict[str, Any]] = []
    for number in range(sheets):
        where = folder / "gallery" / str(number)
        where.mkdir(parents=True, exist_ok=True)
        label = labels[number % len(labels)]
        predictions: dict[str, Any] = {name: {} for name in names}
        by_severity: dict[int, bytes] = {}
        names_on_disk = {
            cell: cell if cell.replace("_", "").replace("-", "").isalnum() else str(place)
            for place, (cell, _) in enumerate(cells)
        }
        for cell, severity in cells:
            path = where / f"{names_on_disk[cell]}.jpg"
            if severity not in by_severity:
                picture(number, severity, size).save(path, quality=85)
                by_severity[severity] = path.read_bytes()
            path.write_bytes(by_severity[severity])
            for model in names:
                right = bool(rng.random() > 0.13 * severity)
                other = labels[(number + 1) % len(labels)]
                predictions[model][cell] = {
                    "name": label if right else other,
                    "confidence": round(float(0.3 + 0.6 * rng.random()), 3),
                    "correct": right if labeled else None,
                }
        built.append(
            {
                "id": ids[number] if ids else f"{label}/photo_{number}.jpg",
                "label": label if labeled else None,
                "files": {
                    cell: f"gallery/{number}/{name}.jpg" for cell, name in names_on_disk.items()
                },
                "predictions": predictions,
            }
        )
    worst = [
        {
            "id": sheet["id"],
            "label": sheet["label"],
            "errors": 61 - number,
            "cells": 75,
            "clean": {
                "cell": "clean",
                "file": sheet["files"]["clean"],
                "prediction": sheet["predictions"][names[0]]["clean"],
            },
            "corrupted": {
                "cell": cells[-1][0],
                "file": sheet["files"][cells[-1][0]],
                "prediction": sheet["predictions"][names[0]][cells[-1][0]],
            },
        }
        for number, sheet in enumerate(built)
    ]
    (folder / "gallery.json").write_text(
        json.dumps({"sheets": built, "worst": worst}), encoding="utf-8"
    )


GUESSES = {
    "atc": "average thresholded confidence",
    "doc": "difference of confidences",
    "disagreement": "disagreement with the first model",
}


def with_guesses(content: dict[str, Any], *, seed: int = 0) -> dict[str, Any]:
    """Add errors estimated without labels, off by a few points, to every corrupted cell."""
    rng = np.random.default_rng(seed)
    for number, model in enumerate(content["models"]):
        names = list(GUESSES)[: 2 + (number > 0)]
        truth = np.array([cell["figures"]["error"]["value"] for cell in model["cells"]])
        guesses = {}
        for place, name in enumerate(names):
            drawn = (0.9 - 0.1 * place) * truth + 0.03 * rng.normal(size=len(truth))
            guesses[name] = np.clip(drawn, 0, 1).round(4)
        for row, cell in enumerate(model["cells"]):
            estimates = model["detail"].setdefault("estimates", {})
            estimates[f"{cell['corruption']}-{cell['severity']}"] = {
                name: float(guesses[name][row]) for name in names
            }
        model["detail"]["estimators"] = []
        for name in names:
            off = guesses[name] - truth
            worst = int(np.abs(off).argmax())
            model["detail"]["estimators"].append(
                {
                    "name": name,
                    "title": GUESSES[name],
                    "cells": len(truth),
                    "mean_absolute_error": float(np.abs(off).mean()),
                    "root_mean_square": float(np.sqrt((off**2).mean())),
                    "bias": float(off.mean()),
                    "within": int((np.abs(off) <= 1.96 * np.sqrt((off**2).mean())).sum()),
                    "worst": {
                        "corruption": model["cells"][worst]["corruption"],
                        "severity": model["cells"][worst]["severity"],
                        "estimate": float(guesses[name][worst]),
                        "error": float(truth[worst]),
                    },
                }
            )
    return content
