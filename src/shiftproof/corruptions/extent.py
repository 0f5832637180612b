"""The corruptions and severities of a run or copy, and what is added to them: their union, and
words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shiftproof.compute.progress import console
from shiftproof.corruptions.identity import identify_corruption
from shiftproof.corruptions.table import CORRUPTIONS
from shiftproof.io.border import show_text

_MOST = 6
"""Names that a sentence lists."""


def unite_names(there: Iterable[str], here: Iterable[str]) -> list[str]:
    """Return the names of both, in the order that one command for all of them would have.

    >>> unite_names(["fog"], ["snow", "fog"]), unite_names(["fog"], ["snow"])
    (['snow', 'fog'], ['fog', 'snow'])
    """
    known, asked = list(there), list(here)
    if set(known) <= set(asked):
        return asked
    return [*known, *(name for name in asked if name not in known)]


def find_unknown(identities: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Return which corruptions are not what their names alone give, with their identities."""
    return {
        name: str(identities[name])
        for name in names
        if name not in CORRUPTIONS or identify_corruption(name) != identities[name]
    }


def count_there(cells: int) -> str:
    """Say how many cells there are.

    >>> count_there(1), count_there(2000)
    ('1 cell is there', '2,000 cells are there')
    """
    return f"{cells:,} {'cell is' if cells == 1 else 'cells are'} there"


def count_added(cells: int) -> str:
    """Say how many cells are added.

    >>> count_added(1), count_added(2)
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
    """Return what is added to a grid in words.

    ``corruptions`` and ``severities`` are all of them, the severities rising.

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
    """Return names as a sentence lists them.

    >>> join_names(["fog"]), join_names(["fog", "snow", "frost"])
    ('fog', 'fog, snow and frost')
    """
    if len(names) > _MOST:
        return f"{', '.join(names[: _MOST - 1])} and {len(names) - _MOST + 1} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def join_severities(severities: Sequence[int]) -> str:
    """Return rising severities as a sentence lists them.

    >>> join_severities([1, 2, 3]), join_severities([1, 3, 5]), join_severities([4])
    ('1 to 3', '1, 3 and 5', '4')
    """
    low, high = severities[0], severities[-1]
    if len(severities) > 2 and list(severities) == list(range(low, high + 1)):
        return f"{low} to {high}"
    return join_names([str(severity) for severity in severities])


def print_extent(line: str | None) -> None:
    """Print a line on what is there and what is added to standard error; nothing for None."""
    if line is not None:
        console.print(show_text(line), markup=False, highlight=False, soft_wrap=True)
