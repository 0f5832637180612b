"""A run of classifiers, read and checked: what its page shows is in these records and nowhere else."""

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
from shiftproof.types import CLEAN, Cell, Settings

MEASURES = ("error", "disagreement")


# ---------------------------------------------------------------- records


@dataclass(frozen=True)
class Figures:
    """What is measured in one cell: fractions, the loss in nats, None where it does not apply."""

    error: Interval | None
    top5_error: Interval | None = None
    calibration_error: Interval | None = None
    loss: Interval | None = None
    images: int | None = None
    estimated: Mapping[str, float] = field(default_factory=dict)
    """By estimator, the error as it would have been guessed without labels."""


@dataclass(frozen=True)
class Estimator:
    """How far a guess without labels is off over a model's corrupted cells. Fractions.

    ``bias`` is the mean of guess minus error. ``worst`` is the cell where it is furthest off, with
    the guess and the error there.
    """

    name: str
    title: str
    cells: int
    mean_absolute_error: float
    root_mean_square: float
    bias: float
    worst: Cell
    worst_estimate: float
    worst_error: float


@dataclass(frozen=True)
class Summary:
    """The headline figures of a model, or of a difference between two. Fractions."""

    clean_error: Interval | None
    mean_error: Interval | None
    mce: Interval | None
    relative_mce: Interval | None
    rpc: Interval | None
    calibration_error: Interval | None


@dataclass(frozen=True)
class CorruptionScore:
    """One corruption, over its severities. Fractions; ``ce`` 1.0 is AlexNet's level."""

    corruption: str
    group: str
    error: Interval | None
    ce: Interval | None
    relative_ce: Interval | None


@dataclass(frozen=True)
class ClassScore:
    """One class: how often its images are wrong, clean and under corruption. Fractions."""

    name: str
    index: int | None
    images: int
    clean_error: float | None
    error: float


@dataclass(frozen=True)
class Scored:
    """All figures of one model, or of a difference (then ``against`` names what is subtracted)."""

    name: str
    summary: Summary
    clean: Figures
    cells: Mapping[Cell, Figures]
    corruptions: tuple[CorruptionScore, ...]
    title: str = ""
    against: str | None = None
    adapter: Settings | None = None
    classes: tuple[ClassScore, ...] = ()
    estimators: tuple[Estimator, ...] = ()

    def corruption(self, name: str) -> CorruptionScore | None:
        """Return the score of the corruption ``name``, or None where it was not run."""
        return next((score for score in self.corruptions if score.corruption == name), None)


@dataclass(frozen=True)
class Unanswered:
    """Images of one cell for which a model gave NaN in the place of scores."""

    model: str
    cell: Cell
    images: int


@dataclass(frozen=True)
class Scores:
    """The content of ``scores.json``."""

    measure: str
    level: float
    interval: Settings
    total: int
    used: int
    broken: tuple[BrokenImage, ...]
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    complete: bool
    mce_reason: str | None
    models: tuple[Scored, ...]
    differences: tuple[Scored, ...]
    unanswered: tuple[Unanswered, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether the figures are errors against labels (and not changes of mind)."""
        return self.measure == "error"

    def groups(self) -> dict[str, list[str]]:
        """Return the corruptions that were run, by group, in the benchmark's order."""
        group_of: dict[str, str] = {}
        for model in self.models:
            for score in model.corruptions:
                group_of.setdefault(score.corruption, score.group)
        return grouped(self.corruptions, group_of)


@dataclass(frozen=True)
class Prediction:
    """What a model said about one image.

    ``name`` is None where the image could not be read, ``correct`` also where it has no label.
    """

    name: str | None
    confidence: float | None
    correct: bool | None


@dataclass(frozen=True)
class Sheet:
    """One photograph under every cell; ``files`` are below the run folder, keyed by cell name."""

    id: str
    label: str | None
    files: Mapping[str, str]
    predictions: Mapping[str, Mapping[str, Prediction]]


@dataclass(frozen=True)
class Shown:
    """One picture of a worst case: which cell, which file, what the model said."""

    cell: str
    file: str
    prediction: Prediction


@dataclass(frozen=True)
class Worst:
    """A photograph that the first model gets wrong in ``errors`` of ``cells`` cells."""

    id: str
    label: str | None
    errors: int
    cells: int
    clean: Shown | None
    corrupted: Shown | None


@dataclass(frozen=True)
class Gallery:
    """The content of ``gallery.json``; empty where the run kept no pictures."""

    sheets: tuple[Sheet, ...] = ()
    worst: tuple[Worst, ...] = ()


ClassifierRun: TypeAlias = Run[Scores, Gallery]


# ---------------------------------------------------------------- reading


def read_run(path: Path, head: Node) -> ClassifierRun:
    """Read the folder of a run of classifiers, whose ``run.json`` is ``head``.

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
        raise root.get("measure").wrong("'error' or 'disagreement'")
    images, grid, interval = root.get("images"), root.get("grid"), root.get("interval")
    models, differences = read_models(root, _scored)
    return Scores(
        measure=measure,
        level=interval.get("level").number(0.0, 1.0),
        interval=interval.settings(),
        total=images.get("total").count(),
        used=images.get("used").count(),
        broken=read_broken(images),
        corruptions=tuple(node.text() for node in grid.get("corruptions").items()),
        severities=tuple(sorted(node.count() for node in grid.get("severities").items())),
        complete=grid.get("complete").flag(),
        mce_reason=grid.get("mce_reason").optional_text(),
        models=models,
        differences=differences,
        unanswered=tuple(
            Unanswered(
                node.get("model").text(),
                Cell(node.get("corruption").text(), node.get("severity").count()),
                node.get("images").count(),
            )
            for node in images.get("unanswered").optional_items()
        ),
    )


def _scored(node: Node, low: float) -> Scored:
    """``low`` is the smallest error there can be: 0 for a model, -1 for a difference."""
    summary = node.get("summary")
    against = node.get("against").optional_text()
    return Scored(
        name=node.get("name").text(),
        title=node.get("title").optional_text() or "",
        against=against,
        adapter=node.get("adapter").optional_settings() or None,
        summary=Summary(
            clean_error=summary.get("clean_error").interval(low, 1.0),
            mean_error=summary.get("mean_error").interval(low, 1.0),
            # Ratios have no upper limit: a model may do worse than AlexNet.
            mce=summary.get("mce").interval(),
            relative_mce=summary.get("relative_mce").interval(),
            rpc=summary.get("rpc").interval(),
            calibration_error=summary.get("calibration_error").interval(low, 1.0),
        ),
        clean=_figures(node.get("clean"), low),
        cells=read_cells(node, lambda item: _figures(item, low)),
        corruptions=tuple(
            CorruptionScore(
                corruption=item.get("corruption").text(),
                group=item.get("group").optional_text() or "other",
                error=item.get("error").interval(low, 1.0),
                ce=item.get("ce").interval(),
                relative_ce=item.get("relative_ce").interval(),
            )
            for item in node.get("corruptions").items()
        ),
        classes=tuple(
            ClassScore(
                name=item.get("class").text(),
                index=item.get("index").optional_count(),
                images=item.get("images").count(),
                clean_error=item.get("clean_error").optional_number(0.0, 1.0),
                error=item.get("error").number(0.0, 1.0),
            )
            for item in node.get("classes").optional_items()
        ),
        estimators=tuple(_estimator(item) for item in node.get("estimators").optional_items()),
    )


def _estimator(node: Node) -> Estimator:
    worst = node.get("worst")
    return Estimator(
        name=node.get("name").text(),
        title=node.get("title").text(),
        cells=node.get("cells").count(),
        mean_absolute_error=node.get("mean_absolute_error").number(0.0, 1.0),
        root_mean_square=node.get("root_mean_square").number(0.0, 1.0),
        bias=node.get("bias").number(-1.0, 1.0),
        worst=Cell(worst.get("corruption").text(), worst.get("severity").count()),
        worst_estimate=worst.get("estimate").number(0.0, 1.0),
        worst_error=worst.get("error").number(0.0, 1.0),
    )


def _figures(node: Node, low: float) -> Figures:
    if node.value is None:
        return Figures(error=None)
    return Figures(
        error=node.get("error").interval(low, 1.0),
        top5_error=node.get("top5_error").interval(low, 1.0),
        calibration_error=node.get("calibration_error").interval(low, 1.0),
        loss=node.get("loss").interval(),
        images=node.get("images").optional_count(),
        estimated={
            name: value.number(0.0, 1.0)
            for name, value in node.get("estimated_error").optional_entries()
        },
    )


def _gallery(root: Node) -> Gallery:
    return Gallery(
        sheets=tuple(
            Sheet(
                id=node.get("id").text(),
                label=node.get("label").optional_text(),
                files={cell: file.text() for cell, file in node.get("files").entries()},
                predictions={
                    model: {cell: _prediction(said) for cell, said in by_cell.entries()}
                    for model, by_cell in node.get("predictions").entries()
                },
            )
            for node in root.get("sheets").optional_items()
        ),
        worst=tuple(
            Worst(
                id=node.get("id").text(),
                label=node.get("label").optional_text(),
                errors=node.get("errors").count(),
                cells=node.get("cells").count(),
                clean=_shown(node.get("clean")),
                corrupted=_shown(node.get("corrupted")),
            )
            for node in root.get("worst").optional_items()
        ),
    )


def _prediction(node: Node) -> Prediction:
    return Prediction(
        name=node.get("class").optional_text(),
        confidence=node.get("confidence").optional_number(0.0, 1.0),
        correct=node.get("correct").optional_flag(),
    )


def _shown(node: Node) -> Shown | None:
    if node.value is None:
        return None
    return Shown(
        cell=node.get("cell").optional_text() or str(CLEAN),
        file=node.get("file").text(),
        prediction=_prediction(node),
    )
