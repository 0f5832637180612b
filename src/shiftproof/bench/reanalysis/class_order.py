"""Classes of two runs matched by name, where their models list them in another order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from shiftproof.counts import pluralize
from shiftproof.errors import RunMismatchError
from shiftproof.io.border import show_name
from shiftproof.runs.run import AnyRun, Run
from shiftproof.runs.scores.classification import CLASS_NAMES, ClassNames
from shiftproof.runs.scores.reading import read_form

if TYPE_CHECKING:
    import pyarrow

_INDICES = ("target", "prediction")
_LISTS = ("top5",)
"""Columns of a classifier's records with indices of classes, and with lists of them."""

_MAX_NAMED = 3


def find_class_order(first: AnyRun[Any], other: AnyRun[Any]) -> tuple[int, ...] | None:
    """Return for each class of ``other`` its index in ``first``; None if no class moves.

    None, too, for runs that do not state the classes of their models: those of detectors and
    segmenters have the classes of the data.

    Raises:
        RunMismatchError: other classes, or classes of one name in another order.
        BrokenFileError: the file of the classes is damaged.
    """
    files = [run.path / CLASS_NAMES for run in (first, other)]
    if not all(file.is_file() for file in files):
        return None
    names, theirs = (read_form(file, ClassNames).names for file in files)
    if names == theirs:
        return None
    _check_names(first, other, names, theirs)
    index = {name: place for place, name in enumerate(names)}
    return tuple(index[name] for name in theirs)


def describe_class_orders(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """Return a sentence for each run whose classes are those of the first in another order.

    Raises:
        RunMismatchError, BrokenFileError: as for :func:`find_class_order`.
    """
    return [
        f"{name} lists the {pluralize(len(order), 'class')} of {names[0]} in another order; they are "
        "matched by name. Images are matched by name, too: whether their content is the same is not "
        "known."
        for run, name in zip(runs[1:], names[1:], strict=True)
        if (order := find_class_order(runs[0], run)) is not None
    ]


def reorder_classes(table: pyarrow.Table, order: Sequence[int] | None) -> pyarrow.Table:
    """Return records with the indices of classes of another run, by :func:`find_class_order`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if order is None:
        return table
    by_index = pa.array(order, pa.int32())
    for name in _INDICES:
        place = table.schema.get_field_index(name)
        moved = pc.take(by_index, table[name].combine_chunks())
        table = table.set_column(place, table.schema.field(place), moved)
    for name in _LISTS:
        place = table.schema.get_field_index(name)
        field = table.schema.field(place)
        rows = [
            None if row is None else [order[label] for label in row]
            for row in table[name].to_pylist()
        ]
        table = table.set_column(place, field, pa.array(rows, field.type))
    return table


def _check_names(
    first: AnyRun[Any], other: AnyRun[Any], names: Sequence[str], theirs: Sequence[str]
) -> None:
    mine, others = set(names), set(theirs)
    if mine != others:
        told = [
            f"{run.path} alone has {_list_some(own)}"
            for run, own in ((first, mine - others), (other, others - mine))
            if own
        ]
        raise RunMismatchError(
            f"{other.path} and {first.path} have other classes ({len(theirs)} and {len(names)}), so "
            f"their models cannot be paired image by image: {'; '.join(told)}. Measure both with the "
            "same classes."
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    twice = twice or [name for name, count in Counter(theirs).items() if count > 1]
    if twice:
        raise RunMismatchError(
            f"{other.path} and {first.path} have their classes in another order, and several are called "
            f"{_list_some(twice)}, so that they cannot be matched by name. Measure both with the "
            "classes in one order."
        )


def _list_some(names: Collection[str]) -> str:
    listed = sorted(names)[:_MAX_NAMED]
    more = f" and {len(names) - len(listed)} more" if len(names) > len(listed) else ""
    return ", ".join(repr(show_name(name)) for name in listed) + more
