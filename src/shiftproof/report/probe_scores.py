"""A run of a probe, read and checked: what its page shows is in these records and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from shiftproof.report.reading import Interval, Node, check_format
from shiftproof.report.run_folder import (
    BrokenImage,
    Run,
    read_broken,
    read_folder,
    read_models,
)
from shiftproof.types import Settings

MEASURE = "kept"

GROUPS = ("geometry", "colour", "texture", "weather")

VERDICTS = ("kept", "hidden", "collapsed", "unread", "undecided")
"""What may be said of a factor: ``summary.py`` of the probe decides which."""


@dataclass(frozen=True)
class Factor:
    """One number that images were changed by, from ``low`` to ``high``."""

    name: str
    title: str
    group: str
    low: float
    high: float
    unit: str
    binary: bool


@dataclass(frozen=True)
class Kept:
    """How much of a factor is read: shares, or of a difference points.

    ``beside`` is read beside the unchanged image, ``alone`` without it, both by ridge regression;
    ``network`` beside it by a small network. ``verdict`` is None for controls and differences.
    """

    beside: Interval | None
    alone: Interval | None
    network: Interval | None
    verdict: str | None = None


@dataclass(frozen=True)
class Scored:
    """An encoder, a control (``control`` is "pixels" or "random"), or a difference of two models.

    ``of`` names the encoder whose architecture a random network has.
    """

    name: str
    title: str
    against: str | None
    control: str | None
    of: str | None
    factors: Mapping[str, Kept]


@dataclass(frozen=True)
class Scores:
    """The content of ``scores.json``."""

    level: float
    interval: Settings
    total: int
    used: int
    broken: tuple[BrokenImage, ...]
    versions: int
    collapsed_below: float
    factors: tuple[Factor, ...]
    models: tuple[Scored, ...]
    differences: tuple[Scored, ...]
    measure: str = MEASURE
    severities: tuple[int, ...] = ()
    complete: bool = True

    @property
    def corruptions(self) -> tuple[str, ...]:
        """The factors, under the name that runs of all kinds have."""
        return tuple(factor.name for factor in self.factors)

    @property
    def encoders(self) -> tuple[Scored, ...]:
        """The models that are no controls."""
        return tuple(model for model in self.models if model.control is None)

    def groups(self) -> dict[str, list[str]]:
        """Return the factors that were probed, by group."""
        found = {
            group: [factor.name for factor in self.factors if factor.group == group]
            for group in GROUPS
        }
        return {group: names for group, names in found.items() if names}


@dataclass(frozen=True)
class Strip:
    """One photograph with a factor from its low end to its high one.

    ``pictures`` are the value and the file below the run folder of each.
    """

    factor: str
    id: str
    pictures: tuple[tuple[float, str], ...]

    @property
    def files(self) -> dict[str, str]:
        """The pictures, as a page loads them."""
        return {str(place): file for place, (_, file) in enumerate(self.pictures)}


@dataclass(frozen=True)
class Gallery:
    """The content of ``gallery.json``; empty where the run kept no pictures."""

    sheets: tuple[Strip, ...] = ()
    worst: tuple[()] = field(default=())


ProbeRun: TypeAlias = Run[Scores, Gallery]


def read_run(path: Path, head: Node) -> ProbeRun:
    """Read the folder of a probe, whose ``run.json`` is ``head``.

    Raises:
        BrokenFileError: one of its files cannot be read as what it should be.
    """
    return read_folder(path, head, _scores, _gallery)


def parse_scores(content: Mapping[str, Any]) -> Scores:
    """Read the content of a ``scores.json``.

    Raises:
        BrokenFileError: it is not what this version writes; the message names the place.
    """
    return _scores(Node(content, Path("scores.json")))


def _scores(root: Node) -> Scores:
    check_format(root)
    if root.get("measure").text() != MEASURE:
        raise root.get("measure").wrong(f"{MEASURE!r}")
    images, interval = root.get("images"), root.get("interval")
    models, differences = read_models(root, _scored)
    factors = tuple(_factor(node) for node in root.get("factors").items())
    names = {factor.name for factor in factors}
    for node, model in zip(root.get("models").items(), models, strict=True):
        if set(model.factors) != names:
            raise node.wrong("a figure for each of the factors")
    if all(model.control is not None for model in models):
        raise root.get("models").wrong("at least one encoder")
    return Scores(
        level=interval.get("level").number(0.0, 1.0),
        interval=interval.settings(),
        total=images.get("total").count(),
        used=images.get("used").count(),
        broken=read_broken(images),
        versions=images.get("versions").count(),
        collapsed_below=root.get("collapsed_below").number(0.0, 1.0),
        factors=factors,
        models=models,
        differences=differences,
    )


def _factor(node: Node) -> Factor:
    group = node.get("group").text()
    if group not in GROUPS:
        raise node.get("group").wrong(f"one of {', '.join(GROUPS)}")
    return Factor(
        name=node.get("name").text(),
        title=node.get("title").text(),
        group=group,
        low=node.get("low").number(),
        high=node.get("high").number(),
        unit=node.get("unit").text(),
        binary=node.get("binary").flag(),
    )


def _scored(node: Node, low: float) -> Scored:
    return Scored(
        name=node.get("name").text(),
        title=node.get("title").optional_text() or "",
        against=node.get("against").optional_text(),
        control=node.get("control").optional_text(),
        of=node.get("of").optional_text(),
        factors={
            item.get("factor").text(): _kept(item, low) for item in node.get("factors").items()
        },
    )


def _kept(node: Node, low: float) -> Kept:
    verdict = node.get("verdict").optional_text()
    if verdict is not None and verdict not in VERDICTS:
        raise node.get("verdict").wrong(f"one of {', '.join(VERDICTS)}")
    return Kept(
        beside=node.get("beside").interval(low, 1.0),
        alone=node.get("alone").interval(low, 1.0),
        network=node.get("network").interval(low, 1.0),
        verdict=verdict,
    )


def _gallery(root: Node) -> Gallery:
    return Gallery(
        tuple(
            Strip(
                factor=node.get("factor").text(),
                id=node.get("id").text(),
                pictures=tuple(
                    (item.get("value").number(), item.get("file").text())
                    for item in node.get("pictures").items()
                ),
            )
            for node in root.get("strips").optional_items()
        )
    )
