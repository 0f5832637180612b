"""What was taken for granted when models were loaded, as a run records it."""

from __future__ import annotations

from collections.abc import Mapping


def collect_assumed(models: Mapping[str, object]) -> dict[str, list[str]]:
    """Return what was taken for granted when each model was loaded, of those that say it."""
    told = {name: list(getattr(model, "assumed", ())) for name, model in models.items()}
    return {name: phrases for name, phrases in told.items() if phrases}
