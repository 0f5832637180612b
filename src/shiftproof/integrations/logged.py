"""The data of a run for experiment trackers: settings, metrics, curves and files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shiftproof.runs.run import AnyRun, Run
from shiftproof.runs.scores.grid import GridScores, ModelScores
from shiftproof.runs.scores.reading import clean_text
from shiftproof.runs.scores.tidy import TidyScores

MAX_LENGTH = 500
"""Maximum length of a logged setting; trackers refuse longer ones."""


@dataclass(frozen=True)
class Logged:
    """The logged data of a run.

    Attributes:
        name: name of the run's folder.
        kind: kind of the run.
        settings: settings and versions, flattened: from ``data.name`` to text.
        figures: the headlines with the bounds of their intervals, and the mean of each corruption;
            shares are fractions, as in ``scores.json``.
        curves: from corruption to severity to the first measure; empty without a grid.
        files: the page and the scores, if they exist.
    """

    name: str
    kind: str
    settings: Mapping[str, str]
    figures: Mapping[str, float]
    curves: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


def collect(run: AnyRun[Any]) -> Logged:
    """Return the data of a finished run to log.

    With several models each name has the model's as a prefix: ``BN/mean``.
    """
    files = (run.path / "report.html", run.folder.scores_file)
    return Logged(
        name=clean_text(run.path.resolve().name),
        kind=run.kind,
        settings=dict(_flatten({**run.settings, "software": _list_software(run)})),
        figures=list_figures(run.scores),
        curves=dict(_list_curves(run.scores)) if isinstance(run, Run) else {},
        files=tuple(file for file in files if file.is_file()),
    )


def list_figures(scores: TidyScores) -> dict[str, float]:
    """Return scores by name; for a grid without the cells, which are curves."""
    if isinstance(scores, GridScores):
        several = len(scores.models) > 1
        return {
            name: value
            for model in scores.models
            for name, value in _list_model(model, scores.measure.name, several=several)
        }
    return {
        _name_row(row): float(row["value"])
        for row in scores.rows()
        if isinstance(row["value"], int | float)
    }


def _list_model(model: ModelScores, measure: str, *, several: bool) -> Iterator[tuple[str, float]]:
    prefix = f"{clean_text(model.name)}/" if several else ""
    for name, figure in model.summary.items():
        if figure is None:
            continue
        yield f"{prefix}{name}", figure.value
        if figure.low is not None and figure.high is not None:
            yield f"{prefix}{name}.low", figure.low
            yield f"{prefix}{name}.high", figure.high
    for name, mean in model.of_corruptions(measure).items():
        yield f"{prefix}corruption/{name}", mean.value


def _list_curves(scores: GridScores) -> Iterator[tuple[str, dict[int, float]]]:
    measure, several = scores.measure.name, len(scores.models) > 1
    for model in scores.models:
        prefix = f"{clean_text(model.name)}/" if several else ""
        clean = model.of_clean(measure)
        start = {} if clean is None else {0: clean.value}
        for name in scores.corruptions:
            found = {
                cell.severity: figure.value
                for cell, figure in model.of_cells(measure).items()
                if cell.corruption == name
            }
            yield f"{prefix}{measure}/{name}", {**start, **dict(sorted(found.items()))}


def _name_row(row: Mapping[str, object]) -> str:
    words = [row[key] for key in row if key not in ("value", "low", "high", "against")]
    against = [f"minus {row['against']}"] if row.get("against") else []
    return "/".join(clean_text(str(word)) for word in (*words, *against) if word is not None)


def _list_software(run: AnyRun[Any]) -> dict[str, object]:
    provenance = run.provenance
    libraries = provenance.get("libraries")
    return {
        "shiftproof": provenance.get("shiftproof"),
        "device": provenance.get("device"),
        **(libraries if isinstance(libraries, Mapping) else {}),
    }


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        name = f"{prefix}{clean_text(str(key))}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{name}.")
        elif value is not None:
            yield name, clean_text(str(value))[:MAX_LENGTH]
