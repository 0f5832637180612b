"""Every exception that shiftproof raises on purpose.

    ShiftproofError
    ├── InputError (also a ValueError)    invalid input; the command line exits with 2
    │   ├── UnknownNameError              an unknown name; suggests the nearest one
    │   ├── ImageError                    an array that is not a valid image
    │   ├── BrokenFileError               a file that is damaged or of another type
    │   ├── ModelError                    a model or checkpoint that does not match
    │   ├── LabelError                    a label, class folder or class map that does not fit
    │   └── RunMismatchError              an output folder that belongs to a run with other settings
    ├── MissingExtraError (ImportError)   an optional library is not installed; has the pip command
    └── RunError (also a RuntimeError)    the work itself failed (disk, worker); the command line exits with 1
        └── UnfinishedError               one worker's share is done, that of others is not; no failure

A message has one or two sentences: what was expected, what was given, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = [
    "BrokenFileError",
    "ImageError",
    "InputError",
    "LabelError",
    "MissingExtraError",
    "ModelError",
    "RunError",
    "RunMismatchError",
    "ShiftproofError",
    "UnfinishedError",
    "UnknownNameError",
]


class ShiftproofError(Exception):
    """The root of all errors raised on purpose."""


class InputError(ShiftproofError, ValueError):
    """Invalid input from the caller."""


class UnknownNameError(InputError):
    """An unknown name.

    If the table is long and one name is similar, only the nearest names are listed.

    >>> UnknownNameError.of("corruption", "fgo", ["fog", "frost"])
    UnknownNameError("Unknown corruption 'fgo'. Did you mean 'fog'? Known: fog, frost.")
    """

    @classmethod
    def of(cls, what: str, name: object, known: Iterable[str]) -> UnknownNameError:
        """Return the error for ``name``, which is not one of ``known``; ``what`` is the kind of name."""
        names = list(known)
        suggestion = suggest_name(name, names)
        is_long = suggestion and len(names) > _MAX_LISTED
        listed = _list_nearest(what, name, names) if is_long else ", ".join(names)
        return cls(f"Unknown {what} {name!r}.{suggestion} Known: {listed}.")


def suggest_name(name: object, known: Iterable[str], *, cutoff: float = 0.5) -> str:
    """Return a sentence that suggests the nearest of several names, with a leading space.

    >>> suggest_name("phots", ["photos", "notes.txt"])
    " Did you mean 'photos'?"
    """
    by_lower_case = {candidate.lower(): candidate for candidate in reversed(list(known))}
    matches = difflib.get_close_matches(str(name).lower(), by_lower_case, n=1, cutoff=cutoff)
    return f" Did you mean {by_lower_case[matches[0]]!r}?" if matches else ""


_MAX_LISTED = 12
"""Up to this number, all names are listed."""

_NEAREST = 5
"""Number of names listed for a longer table."""

_LIST_COMMANDS = {
    "corruption": "shiftproof corruptions",
    "set of corruptions": "shiftproof corruptions",
    "adapter": "shiftproof models",
    "source of models": "shiftproof models",
}
"""The command that lists all names of a table, by ``what`` they name."""


def _list_nearest(what: str, name: object, names: Sequence[str]) -> str:
    """Return the nearest of many names, the number of others, and the command that lists all."""

    def measure_distance(candidate: str) -> float:
        return -difflib.SequenceMatcher(None, str(name).lower(), candidate.lower()).ratio()

    shown = ", ".join(sorted(names, key=measure_distance)[:_NEAREST])
    command = f": `{_LIST_COMMANDS[what]}` lists them" if what in _LIST_COMMANDS else ""
    return f"{shown} and {len(names) - _NEAREST:,} more{command}"


class ImageError(InputError):
    """An array that is not a valid image."""


class BrokenFileError(InputError):
    """A file that is damaged or of another type than expected."""


class ModelError(InputError):
    """A model or checkpoint that does not fit."""


class LabelError(InputError):
    """A label, class folder or class map that does not fit."""


class RunMismatchError(InputError):
    """An output folder that belongs to a run with other settings."""


class MissingExtraError(ShiftproofError, ImportError):
    """An optional library is not installed."""

    @classmethod
    def of(cls, library: str, extra: str) -> MissingExtraError:
        """Return the error for ``library``, which the extra ``extra`` of shiftproof installs."""
        return cls(
            f"This needs {library}, which is not installed. "
            f'Install it with: python -m pip install "shiftproof[{extra}]"'
        )


class RunError(ShiftproofError, RuntimeError):
    """The work itself failed: a full disk, a worker that died again and again."""


class UnfinishedError(RunError):
    """The share of one worker of several is done, that of others is not."""
