"""Extending the corruptions and severities of a run or copy: their union, and its description."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from shiftproof.compute.progress import console
from shiftproof.corruptions.identity import identify_corruption
from shiftproof.corruptions.table import CORRUPTIONS
from shiftproof.io.border import show_text

_MAX_NAMES = 6
"""Maximum number of names in a sentence."""


def unite_names(existing: Collection[str], requested: Iterable[str]) -> list[str]:
    """Return the existing and requested names, in the order of one command for all of them.

    >>> unite_names(["fog"], ["snow", "fog"]), unite_names(["fog"], ["snow"])
    (['snow', 'fog'], ['fog', 'snow'])
    """
    names = list(requested)
    return names if set(existing) <= set(names) else list(dict.fromkeys([*existing, *names]))


def find_custom(identities: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Return the identities of corruptions that differ from the table's corruption of their name."""
    return {
        name: str(identities[name])
        for name in names
        if name not in CORRUPTIONS or identify_corruption(name) != identities[name]
    }


def format_existing(cells: int) -> str:
    """Return a phrase with the number of existing cells.

    >>> format_existing(1), format_existing(2000)
    ('1 cell is there', '2,000 cells are there')
    """
    return f"{cells:,} {'cell is' if cells == 1 else 'cells are'} there"


def format_added(cells: int) -> str:
    """Return a phrase with the number of added cells.

    >>> format_added(1), format_added(2)
    ('1 is added', '2 are added')
    """
    return f"{cells:,} {'is' if cells == 1 else 'are'} added"


def describe_cells(
    corruptions: Sequence[str],
    severities: Sequence[int],
    *,
    new_corruptions: Sequence[str],
    new_severities: Sequence[int],
) -> list[str]:
    """Describe what is added to a grid.

    ``corruptions`` and ``severities`` are all of the extended grid, the severities ascending.

    >>> describe_cells(["fog", "snow"], [1, 2, 3], new_corruptions=["snow"], new_severities=[])
    ['snow at 1 to 3']
    """
    parts = []
    if new_corruptions:
        parts.append(f"{join_names(new_corruptions)} at {join_severities(severities)}")
    if new_severities:
        others = [name for name in corruptions if name not in new_corruptions]
        parts.append(f"{join_names(others)} at {join_severities(new_severities)}")
    return parts


def join_names(names: Sequence[str]) -> str:
    """Join names for a sentence.

    >>> join_names(["fog"]), join_names(["fog", "snow", "frost"])
    ('fog', 'fog, snow and frost')
    """
    if len(names) > _MAX_NAMES:
        return f"{', '.join(names[: _MAX_NAMES - 1])} and {len(names) - _MAX_NAMES + 1} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def join_severities(severities: Sequence[int]) -> str:
    """Join ascending severities for a sentence.

    >>> join_severities([1, 2, 3]), join_severities([1, 3, 5]), join_severities([4])
    ('1 to 3', '1, 3 and 5', '4')
    """
    low, high = severities[0], severities[-1]
    if len(severities) > 2 and list(severities) == list(range(low, high + 1)):
        return f"{low} to {high}"
    return join_names([str(severity) for severity in severities])


def print_extent(line: str | None) -> None:
    """Print a line on existing and added cells to standard error; nothing for None."""
    if line is not None:
        console.print(show_text(line), markup=False, highlight=False, soft_wrap=True)
