"""``scores.json`` and ``gallery.json`` of breaking points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.grid import Images
from shiftproof.runs.scores.shared import Count, Resampling, check_differences
from shiftproof.runs.scores.tidy import Row, TidyScores, list_columns


class CorruptionBreaking(msgspec.Struct, frozen=True):
    """The breaking points of a model's predictions under one corruption.

    Attributes:
        corruption: its name.
        severity: the mean breaking severity: 0 if the clean image is misclassified, 5 if the
            prediction never breaks.
        survived: share of the predictions that are correct at all severities.
        curve: the share still correct: clean, then at each of ``levels``; empty for a difference.
        error: the implied mean error over severities 1 to 5.
    """

    corruption: str
    severity: Interval
    survived: Interval
    error: Interval
    curve: tuple[Interval, ...] = ()


class ModelBreaking(msgspec.Struct, frozen=True):
    """The scores of a model, or a difference of two models: then ``against`` is the subtracted
    model.

    Attributes:
        name: of the model.
        severity: the mean breaking severity over the corruptions.
        clean: the error on the clean images.
        error: the implied mean error over corruptions and severities.
        mce: the implied mCE at severities 1 to 5; None if it is not claimed.
        corruptions: scores of each corruption.
        title: full name.
        against: the subtracted model; None if this is no difference.
        checked: predictions that were checked at a severity beyond their breaking point.
        recovered: how many of these were correct again.
    """

    name: str
    severity: Interval
    clean: Interval
    error: Interval
    corruptions: tuple[CorruptionBreaking, ...]
    mce: Interval | None = None
    title: str = ""
    against: str | None = None
    checked: Count = 0
    recovered: Count = 0


class BreakingScores(TidyScores, frozen=True):
    """The content of ``scores.json``.

    Attributes:
        format: version of the file format.
        kind: "breaking".
        interval: method of the intervals.
        images: counts, and the images that could not be read.
        levels: the evaluated severities.
        models: scores of the models.
        differences: each other model minus the first.
        labeled: whether predictions are compared with labels, instead of the clean predictions.
        passes: mean number of forward passes per image, corruption and model.
        reason: why mCE is not claimed; None if it is.
    """

    format: int
    kind: Literal["breaking"]
    interval: Resampling
    images: Images
    levels: tuple[float, ...]
    models: tuple[ModelBreaking, ...]
    differences: tuple[ModelBreaking, ...]
    labeled: bool
    passes: float
    reason: str | None = None

    def __post_init__(self) -> None:
        if not self.models or any(not model.corruptions for model in self.models):
            raise ValueError("at least one model and one corruption")
        for model in self.models:
            for one in model.corruptions:
                if len(one.curve) != len(self.levels) + 1:
                    raise ValueError(f"a curve of {one.corruption!r} over all levels")
        check_differences(self.models, self.differences)

    def rows(self) -> Iterator[Row]:
        """Yield a row per model or difference, corruption (None for all together) and measure."""
        for model in (*self.models, *self.differences):
            overall = {
                "severity": model.severity, "clean": model.clean, "error": model.error,
                "mCE": model.mce,
            }  # fmt: skip
            yield from _list_rows(model, None, overall)
            for one in model.corruptions:
                figures = {"severity": one.severity, "survived": one.survived, "error": one.error}
                yield from _list_rows(model, one.corruption, figures)

    @property
    def measure(self) -> str:
        """The measure, as in all kinds of runs."""
        return "breaking severity"

    @property
    def used(self) -> int | None:
        """Number of images in the scores."""
        return self.images.used

    @property
    def corruptions(self) -> tuple[str, ...]:
        """The corruptions, in order."""
        return tuple(one.corruption for one in self.models[0].corruptions)

    @property
    def severities(self) -> tuple[int, ...]:
        """Empty: severities are continuous."""
        return ()


def _list_rows(
    model: ModelBreaking, corruption: str | None, figures: Mapping[str, Interval | None]
) -> Iterator[Row]:
    for measure, figure in figures.items():
        if figure is not None:
            yield {
                "model": model.name, "against": model.against, "corruption": corruption,
                "measure": measure, **list_columns(figure),
            }  # fmt: skip


class BrokenPicture(msgspec.Struct, frozen=True):
    """An image at its breaking point under one corruption.

    ``severity`` is None if the prediction never breaks; the picture is then at severity 5.
    ``answer`` is the first model's prediction there.
    """

    corruption: str
    file: str
    severity: float | None
    answer: str | None


class BreakingSheet(msgspec.Struct, frozen=True):
    """An image with its breaking points, the lowest first."""

    id: str
    label: str | None
    clean: str
    pictures: tuple[BrokenPicture, ...]


class BreakingGallery(msgspec.Struct, frozen=True):
    """The content of ``gallery.json``."""

    sheets: tuple[BreakingSheet, ...] = ()
