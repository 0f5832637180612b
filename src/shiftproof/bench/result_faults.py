"""What was wrong with annotations and result files, as ``run.json`` keeps it and a person reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shiftproof.io import files
from shiftproof.metrics.faults import Fault, count_faults
from shiftproof.types import Cell, Settings

from .folder import RunFolder

SHOWN = 3
"""So many faults are written out; of the others the counts are kept."""


def summarize(faults: Sequence[Fault]) -> Settings:
    """Return how many faults of each kind there are, how many records were left out, and the first."""
    first = sorted(faults, key=lambda fault: fault.kept)[:SHOWN]
    return {
        "faults": count_faults(faults),
        "left out": sum(not fault.kept for fault in faults),
        "first": [str(fault) for fault in first],
    }


def keep_faults(folder: RunFolder, model: str, cell: Cell, faults: Sequence[Fault]) -> None:
    """Write into ``run.json`` what is wrong with the result file of a cell.

    It is written before the cell's table, so that a run that was interrupted has it, too.
    """
    info = folder.info()
    results = info.setdefault("result_faults", {}).setdefault(model, {})
    results[str(cell)] = summarize(faults)
    files.write_json(folder.run_file, info)


def describe_faults(info: Mapping[str, Any]) -> list[str]:
    """Return the lines that tell a person what is wrong, from the content of ``run.json``."""
    lines = _listed(info.get("data_faults"), "the annotations")
    models = info["settings"].get("models")
    for name, model in models.items() if isinstance(models, Mapping) else ():
        passed = model.get("files that are no cell") if isinstance(model, Mapping) else None
        if isinstance(passed, list) and passed:
            more = f" and {len(passed) - SHOWN} more" if len(passed) > SHOWN else ""
            listed = ", ".join(map(str, passed[:SHOWN]))
            lines.append(f"{name}: passed over, as their names say no cell: {listed}{more}.")
    for name, cells in info.get("result_faults", {}).items():
        lines += _listed(_together(cells.values()), f"the result files of {name}")
    return lines


def _together(parts: Any) -> Settings:
    faults: dict[str, int] = {}
    left_out = 0
    first: list[str] = []
    for part in parts:
        for reason, count in part["faults"].items():
            faults[reason] = faults.get(reason, 0) + count
        left_out += part["left out"]
        first += part["first"]
    return {"faults": faults, "left out": left_out, "first": first[:SHOWN]}


def _listed(part: Settings | None, where: str) -> list[str]:
    count = sum(part["faults"].values()) if part else 0
    if part is None or not count:
        return []
    return [
        *part["first"],
        f"{count} {'fault' if count == 1 else 'faults'} in {where}, {part['left out']} left out; "
        "run.json has the counts.",
    ]
