"""The sections that only pages of detectors have: P by size of object, and by class."""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.counts import pluralize
from shiftproof.report import wording
from shiftproof.report.grid.drops import MAX_LISTED, DropRow, build_drops_section
from shiftproof.report.grid.entries import PageContent
from shiftproof.report.grid.words import describe_grid
from shiftproof.report.sections import Section
from shiftproof.runs.scores.detection import SIZES, ClassDrop, Detail
from shiftproof.runs.scores.grid import GridScores


def build_sizes_section(shown: PageContent) -> Section | None:
    """Build P by the size of objects; None where it is not measured."""
    scores = shown.first.scores
    details = [entry.detail(Detail) for entry in shown.entries]
    names = [name for name in SIZES if any(name in detail.sizes for detail in details)]
    if not names:
        return None
    rows = [
        DropRow(wording.capitalize(SIZES[name]), [detail.sizes.get(name) for detail in details])
        for name in names
    ]
    return build_drops_section(
        "sizes",
        "Small objects and large ones",
        "Sizes",
        shown.entries,
        rows,
        words=[
            f"{scores.measure.name} by the size of the objects, on clean images and as the mean "
            f"{describe_grid(scores)}. Small objects have an area of up to 32{_BY}32 pixels of the "
            f"image, large objects more than 96{_BY}96. These figures have no intervals."
        ],
        first="Objects",
    )


def build_classes_section(shown: PageContent) -> Section | None:
    """Build P of each class, the largest loss first; None where it is not measured."""
    entries, scores = shown.entries, shown.first.scores
    details = [entry.detail(Detail) for entry in entries]
    place = next((at for at, detail in enumerate(details) if detail.classes), None)
    if place is None:
        return None
    by_name = [{one.name: one for one in detail.classes} for detail in details]
    order = sorted(
        details[place].classes,
        key=lambda one: (one.lost is None, -(one.lost or 0.0), one.index or 0),
    )[:MAX_LISTED]
    rows = [
        DropRow(
            one.name,
            [drops.get(one.name) for drops in by_name],
            ["" if one.objects is None else f"{one.objects:,}"],
        )
        for one in order
    ]
    counted = any(one.objects is not None for one in order)
    model = entries[place].label if len(entries) > 1 else None
    return build_drops_section(
        "classes",
        "Class by class",
        "Classes",
        entries,
        rows,
        words=[_make_class_words(scores, order, model)],
        first="Class",
        counted=("Objects",) if counted else (),
    )


def _make_class_words(scores: GridScores, order: Sequence[ClassDrop], model: str | None) -> str:
    """Describe the order of the classes, and which have few objects; None is the only model."""
    few = sum(one.objects is not None and one.objects < _FEW_OBJECTS for one in order)
    doubt = (
        f", and {few} of the {pluralize(len(order), 'class')} {'has' if few == 1 else 'have'} fewer than "
        f"{_FEW_OBJECTS} objects: there a single object changes the figure by several points."
    )
    return (
        f"{scores.measure.name} of each class that has objects here, on clean images and as the mean "
        f"{describe_grid(scores)}, the largest loss{f' of {model}' if model else ''} first. "
        f"These figures have no intervals{doubt if few else '.'}"
    )


_FEW_OBJECTS = 20

_BY = "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}"
