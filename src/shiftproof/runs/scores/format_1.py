"""Upgrade of ``scores.json`` from format 1, which had a different layout for each task.

Everything here describes that old format, and so never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Json = dict[str, Any]

_ERROR, _SHARE = "error", "share"

_MEASURES: tuple[tuple[str, str, bool, str, float | None], ...] = (
    ("error", "error", True, _SHARE, 1.0),
    ("top5_error", "top-5 error", True, _SHARE, 1.0),
    ("calibration_error", "calibration error", True, _SHARE, 1.0),
    ("loss", "loss", True, "nats", None),
)

_HEADLINE = ("name", "title", "note", "lower_is_better")
_OF_ERRORS = (
    ("clean", "Clean error", "images as they are", True),
    ("mean", "Error under corruption", "mean over the grid", True),
    ("mce", "mCE", "against AlexNet", True),
    ("relative_mce", "Relative mCE", "rise over the clean error, against AlexNet's", True),
    ("rpc", "rPC", "accuracy that is kept", False),
    ("calibration_error", "Calibration error", "confidence against truth", True),
)
_OF_PERFORMANCE = (
    ("clean", "Clean P", "P on the images as they are", False),
    ("mean", "mPC", "mean P over the grid", False),
    ("rpc", "rPC", "mPC as a share of the clean P", False),
)

_RENAMED = {"clean_error": "clean", "mean_error": "mean"}
_TWICE = ("mpc", "relative")
"""Duplicates of the mean and rPC in detectors' scores."""


def upgrade_grid(old: Mapping[str, Any]) -> Json:
    """Convert scores of format 1 to format 2; fields that format 1 lacks are omitted.

    Raises:
        Exception: any kind, for a damaged file; the caller names the file.
    """
    measure = old["measure"]
    is_error = measure == _ERROR
    headlines = _OF_ERRORS if is_error else _OF_PERFORMANCE
    return {
        "format": 2,
        "kind": "classification" if is_error else "detection",
        "measures": _upgrade_measures(old),
        "headlines": [
            dict(zip(_HEADLINE, row, strict=True))
            | {"unit": _SHARE, "card": row[0] != "relative_mce"}
            for row in headlines
        ],
        "interval": old["interval"],
        "images": old["images"],
        "grid": _upgrade_claim(old["grid"], is_error),
        "models": [_upgrade_model(model, measure) for model in old["models"]],
        "differences": [_upgrade_model(one, measure) for one in old.get("differences", ())],
    }


def _upgrade_measures(old: Mapping[str, Any]) -> list[Json]:
    if old["measure"] == _ERROR:
        rows = _MEASURES
    else:
        rows = ((old["measure"], old["measure_title"], False, _SHARE, 1.0),)
    keys = ("name", "title", "lower_is_better", "unit", "high")
    return [dict(zip(keys, row, strict=True)) for row in rows]


def _upgrade_claim(grid: Mapping[str, Any], is_error: bool) -> Json:
    reason = grid.get("mce_reason") if is_error else grid.get("mpc_reason")
    kept = {
        key: grid[key]
        for key in ("corruptions", "severities", "complete", "missing")
        if key in grid
    }
    return {**kept, "claim": "mCE" if is_error else "mPC", "reason": reason}


def _upgrade_model(old: Mapping[str, Any], measure: str) -> Json:
    renamed = {"p": measure}
    model: Json = {
        "name": old["name"],
        "title": old.get("title", ""),
        "against": old.get("against"),
        "summary": {
            _RENAMED.get(key, key): value
            for key, value in old["summary"].items()
            if key not in _TWICE
        },
        "cells": [_upgrade_cell(cell, renamed) for cell in old["cells"]],
        "corruptions": [_upgrade_corruption(one, renamed) for one in old["corruptions"]],
    }
    if old.get("clean") is not None:
        model["clean"] = _upgrade_cell(old["clean"], renamed)
    return model


def _upgrade_cell(old: Mapping[str, Any], renamed: Mapping[str, str]) -> Json:
    return _collect_figures(old, renamed, ("corruption", "severity", "images", "numbers"))


def _upgrade_corruption(old: Mapping[str, Any], renamed: Mapping[str, str]) -> Json:
    return _collect_figures(old, renamed, ("corruption", "group"))


def _collect_figures(
    old: Mapping[str, Any], renamed: Mapping[str, str], kept: tuple[str, ...]
) -> Json:
    """Move intervals under one key, by measure, and keep the keys in ``kept``."""
    figures = {
        renamed.get(key, key): value
        for key, value in old.items()
        if isinstance(value, Mapping) and set(value) == {"value", "low", "high"}
    }
    return {key: old[key] for key in kept if key in old} | {"figures": figures}


UPGRADES: dict[int, Callable[[Mapping[str, Any]], Json]] = {1: upgrade_grid}
"""From an older format to the next one."""
