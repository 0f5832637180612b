"""``run.json``: what was asked for, which decides the numbers, and how they came about."""

from __future__ import annotations

from typing import Any

import msgspec

from shiftproof.runs.result_faults import FaultCounts, describe_faults


class Head(msgspec.Struct, frozen=True):
    """The content of ``run.json``.

    Attributes:
        kind: what was measured.
        settings: what decides the numbers.
        classes: title and count.
        assumed: what was taken for granted when the models were loaded, by model.
        provenance: how the numbers came about.
        data_faults: what was wrong with the annotations.
        result_faults: what was wrong with result files, by model and cell.
    """

    kind: str
    settings: dict[str, Any]
    classes: dict[str, Any] = {}
    assumed: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    data_faults: FaultCounts | None = None
    result_faults: dict[str, dict[str, FaultCounts]] = {}

    def describe_faults(self) -> list[str]:
        """Return what was wrong with annotations and result files, a sentence each."""
        models = self.settings.get("models")
        named = models if isinstance(models, dict) else {}
        return describe_faults(named, self.data_faults, self.result_faults)
