"""``scores.json`` of an evaluation: accuracies of models on test sets, with an audit's results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from shiftproof.metrics.intervals import Interval
from shiftproof.runs.scores.shared import BrokenImage, Count, Resampling, Share, check_differences
from shiftproof.runs.scores.tidy import Row, TidyScores, list_columns

MEASURE: Final = "accuracy"


class TestSet(msgspec.Struct, frozen=True):
    """One test set: its images, and its subset of the models' classes.

    ``classes`` is the number of classes, ``labels`` the label set of the subset, None if it has
    all.
    """

    __test__ = False  # pytest would collect a class of this name

    name: str
    total: Count
    used: Count
    classes: Count
    labels: str | None = None
    broken: tuple[BrokenImage, ...] = ()


class Accuracy(msgspec.Struct, frozen=True):
    """Top-1 and top-5 accuracy of a model on a test set."""

    accuracy: Interval
    top5: Interval


class EvaluatedModel(msgspec.Struct, frozen=True):
    """A model, or a difference of two; ``mean`` is the unweighted mean over the test sets."""

    name: str
    sets: dict[str, Accuracy]
    mean: Interval
    title: str = ""
    against: str | None = None


class Closeness(msgspec.Struct, frozen=True):
    """Results of an audit for a test set: how close the training set is to it.

    ``test`` is the test set's name in the audit. Fields that need a reference are None without one.
    ``matched`` is the number of the evaluation's images with a row in the audit.
    """

    test: str
    rows: Count
    similarity: Interval
    near_duplicates: Interval
    gap: Interval | None = None
    share_closer: Interval | None = None
    matched: Count = 0


class Bin(msgspec.Struct, frozen=True):
    """A bin of test images by similarity to their nearest training row."""

    similarity: float
    accuracy: Interval
    images: Count


class BySimilarity(msgspec.Struct, frozen=True):
    """A model's accuracy on the images of a test set, from the least similar to the most.

    ``advantage`` is the probability that a correctly classified image is closer to the training set
    than a misclassified one (AUROC); 0.5 if similarity is uninformative, None if all are correct or
    all wrong.
    """

    model: str
    test: str
    bins: tuple[Bin, ...]
    advantage: Share | None = None


class AuditFigures(msgspec.Struct, frozen=True):
    """The audit compared with the accuracies: its folder's name, sizes, and test sets."""

    name: str
    train_rows: Count
    reference_rows: Count | None
    sets: dict[str, Closeness]
    by_similarity: tuple[BySimilarity, ...] = ()
    missing: tuple[str, ...] = ()


class EvaluationScores(TidyScores, frozen=True):
    """The content of ``scores.json``."""

    format: int
    kind: Literal["evaluation"]
    measure: Literal["accuracy"]
    interval: Resampling
    sets: tuple[TestSet, ...]
    models: tuple[EvaluatedModel, ...]
    differences: tuple[EvaluatedModel, ...]
    audit: AuditFigures | None = None

    def __post_init__(self) -> None:
        if not self.sets or not self.models:
            raise ValueError("at least one test set and one model")
        names = {one.name for one in self.sets}
        for model in (*self.models, *self.differences):
            if set(model.sets) != names:
                raise ValueError(f"an accuracy on each of the test sets of {model.name!r}")
        check_differences(self.models, self.differences)
        if self.audit is not None and set(self.audit.sets) - names:
            raise ValueError("an audit of the test sets")

    def rows(self) -> Iterator[Row]:
        """Yield a row per model, test set and measure; the mean over the sets has no set."""
        for model in (*self.models, *self.differences):
            columns = {"model": model.name, "against": model.against}
            yield {**columns, "set": None, "measure": "accuracy", **list_columns(model.mean)}
            for name, one in model.sets.items():
                yield {**columns, "set": name, "measure": "accuracy", **list_columns(one.accuracy)}
                yield {**columns, "set": name, "measure": "top5", **list_columns(one.top5)}

    @property
    def images(self) -> EvaluationImages:
        """The images of all test sets, as in all kinds of runs."""
        return EvaluationImages(
            sum(one.total for one in self.sets),
            sum(one.used for one in self.sets),
            tuple(entry for one in self.sets for entry in one.broken),
        )

    @property
    def used(self) -> int:
        """Number of images in the scores."""
        return self.images.used

    @property
    def corruptions(self) -> tuple[str, ...]:
        """The test sets, as in all kinds of runs."""
        return tuple(one.name for one in self.sets)

    @property
    def severities(self) -> tuple[int, ...]:
        """Empty: test sets have none."""
        return ()


class EvaluationImages(msgspec.Struct, frozen=True):
    """All images of an evaluation together."""

    total: Count
    used: Count
    broken: tuple[BrokenImage, ...] = ()
