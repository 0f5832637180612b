"""The content of ``run.json``: settings, provenance and faults of a run."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from shiftproof.runs.result_faults import FaultCounts, describe_faults, describe_names
from shiftproof.types import Settings


class RunInfo(msgspec.Struct, frozen=True):
    """The content of ``run.json``.

    Attributes:
        kind: kind of the run, such as "classification".
        settings: the settings that determine the scores.
        classes: title and number of the classes.
        assumed: assumptions made when the models were loaded, by model.
        provenance: versions, device and command of the run.
        data_faults: faults of the annotations.
        result_faults: faults of result files, by model and cell.
        cells_lacking: for imported results, by model, the cells that only other models have.
        names_alike: unknown corruptions, each with the known one of a similar name.
        extended: the finished extensions, each with its provenance.
    """

    kind: str
    settings: dict[str, Any]
    classes: dict[str, Any] = {}
    assumed: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    data_faults: FaultCounts | None = None
    result_faults: dict[str, dict[str, FaultCounts]] = {}
    cells_lacking: dict[str, list[str]] = {}
    names_alike: dict[str, str] = {}
    extended: list[dict[str, Any]] = []

    def describe_faults(self) -> list[str]:
        """Describe the faults of annotations, result files and names, one sentence each."""
        models = self.settings.get("models")
        by_name = models if isinstance(models, dict) else {}
        return [
            *describe_names(self.cells_lacking, self.names_alike),
            *describe_faults(by_name, self.data_faults, self.result_faults),
        ]


def normalize_settings(value: Any) -> Settings:
    """Convert settings to the types that JSON preserves, so that they can be compared."""

    def convert(item: Any) -> Any:
        if isinstance(item, dict):
            return {str(key): convert(entry) for key, entry in item.items()}
        if isinstance(item, (list, tuple)):
            return [convert(entry) for entry in item]
        if isinstance(item, float) and not math.isfinite(item):
            return str(item)
        return item

    settings: Settings = json.loads(json.dumps(convert(value), default=str))
    return settings
