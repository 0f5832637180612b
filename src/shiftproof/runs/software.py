"""Differences of runs in software and device, which may change scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shiftproof.runs.run import AnyRun
from shiftproof.runs.scores.reading import clean_text


def describe_software(runs: Sequence[AnyRun[Any]]) -> list[str]:
    """Describe how runs differ in versions and device; one sentence, or none.

    Versions rarely change a score much, but may explain a small difference.
    """
    by_run = [_read_versions(run.provenance) for run in runs]
    names = dict.fromkeys(name for versions in by_run for name in versions)
    differences = [
        f"{name} ({', '.join(versions.get(name, 'none') for versions in by_run)})"
        for name in names
        if len({versions.get(name) for versions in by_run}) > 1
    ]
    if not differences:
        return []
    return [
        "The runs were made by other software or on another device, which may account for a small "
        f"difference: {'; '.join(differences)}."
    ]


def _read_versions(provenance: Mapping[str, object]) -> dict[str, str]:
    """Return the versions that may change a score, by name; machine, cores and time do not."""
    libraries = provenance.get("libraries")
    versions = {
        "shiftproof": provenance.get("shiftproof"),
        "Python": provenance.get("python"),
        **(libraries if isinstance(libraries, Mapping) else {}),
        "device": provenance.get("device"),
    }
    return {
        clean_text(str(name)): clean_text(str(value))
        for name, value in versions.items()
        if value is not None
    }
