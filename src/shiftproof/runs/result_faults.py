"""Summaries of the faults of annotations and result files, for ``run.json`` and messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from shiftproof.io import files
from shiftproof.metrics.faults import Fault, count_faults
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.scores.reading import clean_text
from shiftproof.types import Cell

SHOWN = 3
"""Number of faults that are described; the others are only counted."""

_Count = Annotated[int, Meta(ge=0)]


class FaultCounts(msgspec.Struct, frozen=True, rename={"left_out": "left out"}):
    """The number of faults of each kind, the number of skipped records, and the first faults."""

    faults: dict[str, _Count]
    left_out: _Count
    first: tuple[str, ...] = ()


def summarize_faults(faults: Sequence[Fault]) -> FaultCounts:
    """Count faults, and describe the first of them."""
    first = sorted(faults, key=lambda fault: fault.kept)[:SHOWN]
    return FaultCounts(
        count_faults(faults),
        sum(not fault.kept for fault in faults),
        tuple(str(fault) for fault in first),
    )


def store_faults(folder: RunFolder, faults: Mapping[str, Mapping[Cell, FaultCounts]]) -> None:
    """Write the faults of result files, by model and cell, into ``run.json``.

    Faults of other cells are kept. Without faults nothing is written.
    """
    if not faults:
        return
    info = folder.info()
    stored = info.setdefault("result_faults", {})
    for model, cells in faults.items():
        stored.setdefault(model, {}).update(
            {str(cell): msgspec.to_builtins(counts) for cell, counts in cells.items()}
        )
    files.write_json(folder.run_file, info)


def describe_faults(
    models: Mapping[str, Any],
    data: FaultCounts | None,
    results: Mapping[str, Mapping[str, FaultCounts]],
) -> list[str]:
    """Return messages about the faults, one line each.

    Args:
        models: from name to settings of the run's models.
        data: faults of the annotations.
        results: from model to cell to the faults of its result file.
    """
    lines = [] if data is None else _list_faults(data, "the annotations")
    for name, model in models.items():
        skipped = model.get("files that are no cell") if isinstance(model, Mapping) else None
        if isinstance(skipped, list) and skipped:
            lines.append(f"{name}: passed over, as their names say no cell: {_list_some(skipped)}.")
    for name, cells in results.items():
        lines += _list_faults(_join_counts(cells.values()), f"the result files of {name}")
    return lines


def describe_names(missing: Mapping[str, Sequence[str]], similar: Mapping[str, str]) -> list[str]:
    """Return messages about skipped cells and possibly misspelled corruptions, one line each.

    Args:
        missing: from model to the cells that only other models have.
        similar: from an unknown corruption to the known one with a similar name.
    """
    lines = [
        f"{clean_text(name)!r} is not a corruption of the table; it counts as one of your own. If it "
        f"is {known!r}, rename its folder."
        for name, known in similar.items()
    ]
    for model, cells in missing.items():
        shown = _list_some(list(map(clean_text, cells)))
        lines.append(f"{model} has no answers for {shown}: left out for all models.")
    return lines


def _list_some(items: Sequence[object]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(map(str, items[:SHOWN])) + more


def _join_counts(parts: Iterable[FaultCounts]) -> FaultCounts:
    faults: Counter[str] = Counter()
    left_out = 0
    first: list[str] = []
    for part in parts:
        faults.update(part.faults)
        left_out += part.left_out
        first += part.first
    return FaultCounts(dict(faults), left_out, tuple(first[:SHOWN]))


def _list_faults(counts: FaultCounts, where: str) -> list[str]:
    total = sum(counts.faults.values())
    if not total:
        return []
    return [
        *counts.first,
        f"{total} {'fault' if total == 1 else 'faults'} in {where}, {counts.left_out} left out; "
        "run.json has the counts.",
    ]
