"""The assumptions made when models were loaded, as a run records them."""

from __future__ import annotations

from collections.abc import Mapping


def collect_assumed(models: Mapping[str, object]) -> dict[str, list[str]]:
    """Return the assumptions made when each model was loaded, for the models that have some."""
    assumed = {name: list(getattr(model, "assumed", ())) for name, model in models.items()}
    return {name: phrases for name, phrases in assumed.items() if phrases}
