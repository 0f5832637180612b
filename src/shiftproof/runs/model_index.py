"""``model-index``: a model's scores in the metadata of a Hugging Face model card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.grid import GridScores
from shiftproof.runs.scores.reading import clean_text
from shiftproof.runs.tasks import TASKS

if TYPE_CHECKING:
    from shiftproof.runs.info import RunInfo


def make_model_index(
    scores: GridScores, info: RunInfo, model: str, name: str | None
) -> dict[str, Any]:
    """Return the content of ``model-index``: results on clean images, and under corruption.

    Values are as in ``scores.json``: shares are fractions.

    Args:
        scores: scores of the run.
        info: content of the run's ``run.json``.
        model: the model's name in the run.
        name: name of the model on the hub; its title by default.
    """
    scored = next(one for one in scores.models if one.name == model)
    data = info.settings.get("data")
    data_name = data.get("name") if isinstance(data, Mapping) else data
    title = clean_text(str(data_name or "images"))
    headlines = [
        _make_metric(one.name, one.title, figure)
        for one in scores.headlines
        if (figure := scored.summary.get(one.name)) is not None
    ]
    clean = [metric for metric in headlines if metric["type"] == "clean"]
    corrupted = [metric for metric in headlines if metric["type"] != "clean"]
    corrupted += [
        _make_metric(scores.measure.name, f"{scores.measure.title}, {corruption}", figure)
        for corruption, figure in scored.of_corruptions(scores.measure.name).items()
    ]
    grid = {
        "corruptions": list(scores.corruptions),
        "severities": list(scores.severities),
        "images": scores.used,
    }
    results = [
        _make_result(scores.kind, title, "clean", {"images": scores.used}, clean),
        _make_result(scores.kind, f"{title}, corrupted", "corrupted", grid, corrupted),
    ]
    return {
        "name": name or clean_text(scored.title or scored.name),
        "results": [result for result in results if result["metrics"]],
    }


def _make_metric(kind: str, title: str, figure: Interval) -> dict[str, Any]:
    ends = {} if figure.bare else {"args": {"low": figure.low, "high": figure.high}}
    return {"type": kind, "name": title, "value": figure.value, **ends}


def _make_result(
    kind: str, title: str, config: str, args: Mapping[str, Any], metrics: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "task": {"type": TASKS[kind].hub_name if kind in TASKS else kind},
        "dataset": {
            "type": re.sub(r"[^a-z0-9._-]+", "-", title.lower()).strip("-") or "images",
            "name": title,
            "config": config,
            "args": dict(args),
        },
        "metrics": metrics,
    }


def write_yaml(value: object, depth: int = 0) -> str:
    """Return a JSON value as YAML; keys and texts are quoted as in JSON, which is valid YAML 1.2.

    >>> print(write_yaml({"model-index": [{"name": "a", "sizes": [1, 2]}]}), end="")
    model-index:
      - name: "a"
        sizes:
          - 1
          - 2
    """
    pad = "  " * depth
    if isinstance(value, Mapping) and value:
        return "".join(
            f"{pad}{_write_key(key)}:{_write_value(item, depth)}" for key, item in value.items()
        )
    if isinstance(value, list) and value:
        return "".join(f"{pad}- {write_yaml(item, depth + 1).lstrip(' ')}" for item in value)
    return f"{pad}{json.dumps(value)}\n"


def _write_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z][\w-]*", name) else json.dumps(name)


def _write_value(value: object, depth: int) -> str:
    """Return the YAML after a key: on the same line for a scalar, else on the following lines."""
    if isinstance(value, Mapping | list) and value:
        return "\n" + write_yaml(value, depth + 1)
    return " " + write_yaml(value)
