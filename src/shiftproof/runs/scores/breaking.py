"""``scores.json`` and ``gallery.json`` of breaking points."""

from __future__ import annotations

from typing import Literal

import msgspec

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.grid import Images
from shiftproof.runs.scores.shared import Count, Resampling


class CorruptionBreaking(msgspec.Struct, frozen=True):
    """Where the answers of a model break under one corruption.

    Attributes:
        corruption: its name.
        severity: the mean breaking severity: 0 where the clean image is answered wrongly, 5 where
            nothing breaks the answer.
        survived: the share that is right at severity 5 and all before it.
        curve: the share that is still right: clean, then at each of ``levels``; empty of a difference.
        error: the mean error over severities 1 to 5 that this means.
    """

    corruption: str
    severity: Interval
    survived: Interval
    error: Interval
    curve: tuple[Interval, ...] = ()


class ModelBreaking(msgspec.Struct, frozen=True):
    """A model, or a difference of two: then ``against`` names what is subtracted.

    Attributes:
        name: of the model.
        severity: the mean breaking severity over the corruptions.
        clean: the error on the clean images.
        error: the mean error over corruptions and severities that the breaking points mean.
        mce: the mCE that they mean at the five whole severities; None where it is not claimed.
        corruptions: each of them.
        title: in full.
        against: None of a model.
        checked: answers that were asked once more beyond their breaking point.
        recovered: of these, how many were right again.
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


class BreakingScores(msgspec.Struct, frozen=True):
    """The content of ``scores.json``.

    Attributes:
        format: of the file.
        kind: "breaking".
        interval: how the intervals were drawn.
        images: counts, and what could not be read.
        levels: the severities that were asked.
        models: their figures.
        differences: of every other model minus the first.
        labeled: whether answers are held against labels, and not against those on the clean images.
        passes: forward passes of an image, for each image, corruption and model.
        reason: why mCE is not claimed; None where it is.
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
        names = {model.name for model in self.models}
        if any({one.name, one.against} - names for one in self.differences):
            raise ValueError("differences between two of the models")

    @property
    def measure(self) -> str:
        """What is measured, under the name that runs of all kinds have."""
        return "breaking severity"

    @property
    def used(self) -> int | None:
        """Images that the figures are over."""
        return self.images.used

    @property
    def corruptions(self) -> tuple[str, ...]:
        """In their order."""
        return tuple(one.corruption for one in self.models[0].corruptions)

    @property
    def severities(self) -> tuple[int, ...]:
        """None: they are continuous."""
        return ()


class BrokenPicture(msgspec.Struct, frozen=True):
    """An image at its breaking point under one corruption.

    ``severity`` is None where nothing breaks the answer: the picture is at severity 5 then. ``answer``
    is what the first model says there.
    """

    corruption: str
    file: str
    severity: float | None
    answer: str | None


class BreakingSheet(msgspec.Struct, frozen=True):
    """An image with its breaking points, those that come first before the others."""

    id: str
    label: str | None
    clean: str
    pictures: tuple[BrokenPicture, ...]


class BreakingGallery(msgspec.Struct, frozen=True):
    """The content of ``gallery.json``."""

    sheets: tuple[BreakingSheet, ...] = ()
