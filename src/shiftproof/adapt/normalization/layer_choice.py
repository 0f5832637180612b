"""Selecting layers of a network: all, the first or last ones, or by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

from shiftproof.counts import pluralize
from shiftproof.errors import InputError, UnknownNameError

LayerChoice: TypeAlias = str | Sequence[str]
"""``"all"``, ``"first-10"``, ``"last-10"``, ``"last-33%"``, or the names of layers."""


def choose_layers(names: Sequence[str], choice: LayerChoice) -> list[str]:
    """Return the chosen ones of ``names``, in their order.

    Args:
        names: names of all layers.
        choice: ``"all"``; ``"first-K"`` or ``"last-K"`` with a number of layers or a share of
            them (``"last-33%"``, rounded up); or names.

    Raises:
        InputError: the choice is invalid, or selects no layer or more than all.
        UnknownNameError: there is no layer of that name.

    >>> choose_layers(["bn1", "bn2", "bn3"], "last-50%")
    ['bn2', 'bn3']
    """
    if not isinstance(choice, str):
        for name in choice:
            if name not in names:
                raise UnknownNameError.of("layer", name, names)
        if not choice:
            raise InputError("layers: expected at least one name, got none.")
        return [name for name in names if name in set(choice)]
    if choice == "all":
        return list(names)
    match = re.fullmatch(r"(first|last)-(\d{1,6}|\d{1,3}%)", choice)
    if match is None:
        raise InputError(
            "layers: expected 'all', 'first-K', 'last-K' with a number of layers or a share in % "
            f"('last-33%'), or a list of names, got {choice!r}."
        )
    end, amount = match.groups()
    share = amount.removesuffix("%")
    count = int(amount) if share == amount else -(-len(names) * int(share) // 100)
    if not 1 <= count <= len(names):
        raise InputError(
            f"layers: {choice!r} asks for {count} of {pluralize(len(names), 'layer')}; expected 1 to "
            f"{len(names)}."
        )
    return list(names[:count] if end == "first" else names[-count:])
