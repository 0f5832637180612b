"""Summaries of the faults of annotations and result files, for ``run.json`` and messages."""

from __future__ import annotations

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
"""Number of faults that are written out; the others are only counted."""

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


def keep_faults(folder: RunFolder, faults: Mapping[str, Mapping[Cell, FaultCounts]]) -> None:
    """Write the faults of result files, by model and cell, into ``run.json``.

    Those of other cells stay. Without faults nothing is written.
    """
    if not faults:
        return
    info = folder.info()
    told = info.setdefault("result_faults", {})
    for model, cells in faults.items():
        told.setdefault(model, {}).update(
            {str(cell): msgspec.to_builtins(one) for cell, one in cells.items()}
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
        passed = model.get("files that are no cell") if isinstance(model, Mapping) else None
        if isinstance(passed, list) and passed:
            more = f" and {len(passed) - SHOWN} more" if len(passed) > SHOWN else ""
            shown = ", ".join(map(str, passed[:SHOWN]))
            lines.append(f"{name}: passed over, as their names say no cell: {shown}{more}.")
    for name, cells in results.items():
        lines += _list_faults(_join(cells.values()), f"the result files of {name}")
    return lines


def describe_names(lacking: Mapping[str, Sequence[str]], alike: Mapping[str, str]) -> list[str]:
    """Return messages about skipped cells and possibly misspelled corruptions, one line each.

    Args:
        lacking: from model to the cells that only other models have.
        alike: from an unknown corruption to the known one with a similar name.
    """
    lines = [
        f"{clean_text(name)!r} is no corruption of the table; it stands as one of your own. Is it "
        f"{meant!r}? Then rename its folder."
        for name, meant in alike.items()
    ]
    for model, cells in lacking.items():
        more = f" and {len(cells) - SHOWN} more" if len(cells) > SHOWN else ""
        shown = ", ".join(map(clean_text, cells[:SHOWN]))
        lines.append(f"{model} has no answers for {shown}{more}: left out for all models.")
    return lines


def _join(parts: Iterable[FaultCounts]) -> FaultCounts:
    faults: dict[str, int] = {}
    left_out = 0
    first: list[str] = []
    for part in parts:
        for reason, count in part.faults.items():
            faults[reason] = faults.get(reason, 0) + count
        left_out += part.left_out
        first += part.first
    return FaultCounts(faults, left_out, tuple(first[:SHOWN]))


def _list_faults(part: FaultCounts, where: str) -> list[str]:
    count = sum(part.faults.values())
    if not count:
        return []
    return [
        *part.first,
        f"{count} {'fault' if count == 1 else 'faults'} in {where}, {part.left_out} left out; "
        "run.json has the counts.",
    ]
