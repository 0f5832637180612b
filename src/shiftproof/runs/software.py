"""In what software and machine runs differ: the numbers of two versions need not be the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shiftproof.runs.run import AnyRun
from shiftproof.runs.scores.reading import clean_text


def describe_software(runs: Sequence[AnyRun[Any]]) -> list[str]:
    """Say in which versions, and in what device, runs differ; one sentence, or none.

    Other versions seldom change a figure much, yet a small difference may be theirs alone.
    """
    stated = [_versions(run.provenance) for run in runs]
    names = dict.fromkeys(name for one in stated for name in one)
    unlike = [
        f"{name} ({', '.join(one.get(name, 'none') for one in stated)})"
        for name in names
        if len({one.get(name) for one in stated}) > 1
    ]
    if not unlike:
        return []
    return [
        "The runs were made by other software or on another device, which may account for a small "
        f"difference: {'; '.join(unlike)}."
    ]


def _versions(provenance: Mapping[str, object]) -> dict[str, str]:
    """Return what may move a figure, by name; the machine itself, its cores and the time do not."""
    libraries = provenance.get("libraries")
    found = {
        "shiftproof": provenance.get("shiftproof"),
        "Python": provenance.get("python"),
        **(libraries if isinstance(libraries, Mapping) else {}),
        "device": provenance.get("device"),
    }
    return {
        clean_text(str(name)): clean_text(str(value))
        for name, value in found.items()
        if value is not None
    }
