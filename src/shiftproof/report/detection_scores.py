"""A run of detectors, read and checked: what its page shows is in these records and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from shiftproof.report.reading import Interval, Node, check_format
from shiftproof.report.run_folder import (
    BrokenImage,
    Run,
    grouped,
    read_broken,
    read_cells,
    read_folder,
    read_models,
)
from shiftproof.types import Cell, Settings

MEASURES = ("AP", "AP50")

SIZES = {"APs": "small", "APm": "medium", "APl": "large"}
"""The numbers by size of object, and COCO's words for the sizes."""


# ---------------------------------------------------------------- scores


@dataclass(frozen=True)
class Figures:
    """What is measured in one cell: P, and every number that the measure has. Fractions."""

    p: Interval | None
    numbers: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """The headline figures of a detector, or of a difference between two. Fractions.

    ``mean`` is over what was run, ``mpc`` the same where that is the benchmark's whole grid;
    ``relative`` and ``rpc`` are their shares of ``clean``.
    """

    clean: Interval | None
    mean: Interval | None
    relative: Interval | None
    mpc: Interval | None
    rpc: Interval | None


@dataclass(frozen=True)
class Fall:
    """A number without an interval: on clean images, and as the mean over the grid. Fractions."""

    clean: float | None
    mean: float | None

    @property
    def lost(self) -> float | None:
        """What corruption takes; negative where there is more than before."""
        return None if self.clean is None or self.mean is None else self.clean - self.mean


@dataclass(frozen=True)
class ClassScore:
    """One class: how many objects of it there are (None: not known), and how P falls."""

    name: str
    index: int | None
    objects: int | None
    p: Fall


@dataclass(frozen=True)
class Scored:
    """All figures of one detector, or of a difference (``against`` names what is subtracted).

    ``corruptions`` are means over the severities, ``groups`` means over whole groups; ``sizes`` are
    keyed as ``SIZES``.
    """

    name: str
    summary: Summary
    clean: Figures
    cells: Mapping[Cell, Figures]
    corruptions: Mapping[str, Interval]
    groups: Mapping[str, Interval]
    title: str = ""
    against: str | None = None
    sizes: Mapping[str, Fall] = field(default_factory=dict)
    classes: tuple[ClassScore, ...] = ()


@dataclass(frozen=True)
class Scores:
    """The content of ``scores.json``; counts are None where only a table of results was there."""

    measure: str
    measure_title: str
    level: float
    interval: Settings
    total: int | None
    used: int | None
    objects: int | None
    broken: tuple[BrokenImage, ...]
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    group_of: Mapping[str, str]
    complete: bool
    missing: tuple[str, ...]
    mpc_reason: str | None
    models: tuple[Scored, ...]
    differences: tuple[Scored, ...]

    @property
    def resampled(self) -> bool:
        """Whether any figure has an interval."""
        return any(
            interval is not None and not interval.bare
            for model in self.models
            for interval in (model.summary.mean, model.summary.clean)
        )

    def groups(self) -> dict[str, list[str]]:
        """Return the corruptions that were run, by group, in the benchmark's order."""
        return grouped(self.corruptions, dict(self.group_of))


# ---------------------------------------------------------------- gallery

Box = tuple[float, float, float, float]
"""x, y, width and height in pixels of the image."""


@dataclass(frozen=True)
class Thing:
    """An object in a photograph; ``counts`` is False for crowds and difficult ones."""

    name: str
    box: Box
    counts: bool


@dataclass(frozen=True)
class Found:
    """A box that was found, and the place of its object among the photograph's; None is on none."""

    name: str
    score: float
    box: Box
    thing: int | None


@dataclass(frozen=True)
class Sheet:
    """One photograph in every cell, with what each model found there.

    ``size`` is width and height of the image, in whose pixels the boxes are; ``files`` are its
    pictures below the run folder, keyed by cell name.
    """

    id: str
    size: tuple[int, int]
    things: tuple[Thing, ...]
    files: Mapping[str, str]
    found: Mapping[str, Mapping[str, tuple[Found, ...]]]


@dataclass(frozen=True)
class Shown:
    """One picture of a photograph that loses most: its cell, its file, what was found."""

    cell: str
    file: str
    found: tuple[Found, ...]


@dataclass(frozen=True)
class Worst:
    """A photograph that loses the share ``lost`` of what the first model finds in it clean."""

    id: str
    size: tuple[int, int]
    things: tuple[Thing, ...]
    lost: float
    clean_found: int
    clean: Shown
    corrupted: Shown


@dataclass(frozen=True)
class Gallery:
    """The content of ``gallery.json``; empty where the run kept no pictures.

    A box is on an object from the intersection over union ``overlap`` on; ``thresholds`` are the
    scores from which on each model's boxes are in the gallery.
    """

    overlap: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    sheets: tuple[Sheet, ...] = ()
    worst: tuple[Worst, ...] = ()


DetectorRun: TypeAlias = Run[Scores, Gallery]


# ---------------------------------------------------------------- reading


def read_run(path: Path, head: Node) -> DetectorRun:
    """Read the folder of a run of detectors, whose ``run.json`` is ``head``.

    Raises:
        BrokenFileError: one of its files cannot be read as what it should be.
    """
    return read_folder(path, head, read_scores, _gallery)


def read_scores(root: Node) -> Scores:
    """Read the content of a ``scores.json``.

    Raises:
        BrokenFileError: it is not what this version writes; the message names the place.
    """
    check_format(root)
    measure = root.get("measure").text()
    if measure not in MEASURES:
        raise root.get("measure").wrong("'AP' or 'AP50'")
    images, grid, interval = root.get("images"), root.get("grid"), root.get("interval")
    models, differences = read_models(root, _scored)
    return Scores(
        measure=measure,
        measure_title=root.get("measure_title").optional_text() or measure,
        level=interval.get("level").number(0.0, 1.0),
        interval=interval.settings(),
        total=images.get("total").optional_count(),
        used=images.get("used").optional_count(),
        objects=images.get("objects").optional_count(),
        broken=read_broken(images),
        corruptions=tuple(node.text() for node in grid.get("corruptions").items()),
        severities=tuple(sorted(node.count() for node in grid.get("severities").items())),
        group_of={
            item.get("corruption").text(): item.get("group").optional_text() or "other"
            for model in root.get("models").items()
            for item in model.get("corruptions").items()
        },
        complete=grid.get("complete").flag(),
        missing=tuple(node.text() for node in grid.get("missing").optional_items()),
        mpc_reason=grid.get("mpc_reason").optional_text(),
        models=models,
        differences=differences,
    )


def _scored(node: Node, low: float) -> Scored:
    """``low`` is the smallest P there can be: 0 for a model, -1 for a difference."""
    summary = node.get("summary")
    return Scored(
        name=node.get("name").text(),
        title=node.get("title").optional_text() or "",
        against=node.get("against").optional_text(),
        summary=Summary(
            clean=_p(summary.get("clean"), low),
            mean=_p(summary.get("mean"), low),
            mpc=_p(summary.get("mpc"), low),
            # A share of the clean P has no upper limit: a little may become more.
            relative=summary.get("relative").figure(),
            rpc=summary.get("rpc").figure(),
        ),
        clean=_figures(node.get("clean"), low),
        cells=read_cells(node, lambda item: _figures(item, low)),
        corruptions=_by_name(node, "corruption", "corruptions", low),
        groups=_by_name(node, "group", "groups", low),
        sizes={
            name: Fall(
                size.get("clean").optional_number(0.0, 1.0),
                size.get("mean").optional_number(0.0, 1.0),
            )
            for name, size in node.get("sizes").optional_entries()
            if name in SIZES
        },
        classes=tuple(
            ClassScore(
                name=item.get("class").text(),
                index=item.get("index").optional_count(),
                objects=item.get("objects").optional_count(),
                p=Fall(
                    item.get("clean").optional_number(0.0, 1.0),
                    item.get("mean").optional_number(0.0, 1.0),
                ),
            )
            for item in node.get("classes").optional_items()
        ),
    )


def _by_name(node: Node, key: str, listed: str, low: float) -> dict[str, Interval]:
    pairs = [
        (item.get(key).text(), _p(item.get("p"), low)) for item in node.get(listed).optional_items()
    ]
    return {name: interval for name, interval in pairs if interval is not None}


def _figures(node: Node, low: float) -> Figures:
    if node.value is None:
        return Figures(p=None)
    return Figures(
        p=_p(node.get("p"), low),
        numbers={
            name: value.optional_number(0.0, 1.0)
            for name, value in node.get("numbers").optional_entries()
        },
    )


def _p(node: Node, low: float) -> Interval | None:
    if node.value is None:
        return None
    node.get("value").number(low, 1.0)
    # The ends are moved by the bias of the resamples, and may lie a little beyond the figure's range.
    return node.figure(low - 1, 2.0)


def _gallery(root: Node) -> Gallery:
    return Gallery(
        overlap=root.get("overlap").optional_number(0.0, 1.0),
        thresholds={
            name: value.number(0.0, 1.0)
            for name, value in root.get("thresholds").optional_entries()
        },
        sheets=tuple(
            _sheet(node)
            for node in root.get("sheets").optional_items()
            # Nothing could be read of this photograph: there is no picture to show.
            if any(True for _ in node.get("files").entries())
        ),
        worst=tuple(_worst(node) for node in root.get("worst").optional_items()),
    )


def _sheet(node: Node) -> Sheet:
    things = _things(node)
    return Sheet(
        id=node.get("id").text(),
        size=_size(node.get("size")),
        things=things,
        files={cell: file.text() for cell, file in node.get("files").entries()},
        found={
            model: {cell: _found(listed, things) for cell, listed in by_cell.entries()}
            for model, by_cell in node.get("found").entries()
        },
    )


def _worst(node: Node) -> Worst:
    things = _things(node)
    return Worst(
        id=node.get("id").text(),
        size=_size(node.get("size")),
        things=things,
        lost=node.get("lost").number(0.0, 1.0),
        clean_found=node.get("clean_found").count(),
        clean=_shown(node.get("clean"), things),
        corrupted=_shown(node.get("corrupted"), things),
    )


def _shown(node: Node, things: tuple[Thing, ...]) -> Shown:
    return Shown(
        cell=node.get("cell").text(),
        file=node.get("file").text(),
        found=_found(node.get("found"), things),
    )


def _things(node: Node) -> tuple[Thing, ...]:
    return tuple(
        Thing(item.get("class").text(), _box(item.get("box")), item.get("counts").flag())
        for item in node.get("objects").items()
    )


def _found(node: Node, things: tuple[Thing, ...]) -> tuple[Found, ...]:
    found = []
    for item in node.items():
        thing = item.get("object").optional_count()
        if thing is not None and thing >= len(things):
            raise item.get("object").wrong(f"one of the {len(things)} objects of the photograph")
        found.append(
            Found(
                name=item.get("class").text(),
                score=item.get("score").number(0.0, 1.0),
                box=_box(item.get("box")),
                thing=thing,
            )
        )
    return tuple(found)


def _size(node: Node) -> tuple[int, int]:
    sides = [item.count() for item in node.items()]
    if len(sides) != 2 or not all(0 < side <= 100_000 for side in sides):
        raise node.wrong("width and height of the image in pixels")
    return sides[0], sides[1]


def _box(node: Node) -> Box:
    numbers = [item.number(-1e6, 1e6) for item in node.items()]
    if len(numbers) != 4 or numbers[2] < 0 or numbers[3] < 0:
        raise node.wrong("x, y, width and height in pixels")
    return numbers[0], numbers[1], numbers[2], numbers[3]
