"""The interface of a kind of run in the report: page, pictures, and table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from shiftproof.report.gallery import Pictures
from shiftproof.report.sections import Document
from shiftproof.report.table_writing import Table
from shiftproof.runs.run import AnyRun
from shiftproof.runs.scores.tidy import TidyScores

RunType = TypeVar("RunType", bound=AnyRun[Any])
Scores = TypeVar("Scores", bound=TidyScores)


class PageKind(ABC, Generic[RunType, Scores]):
    """The display of runs of one kind; concrete subclasses are final, with a row in
    ``kinds.KINDS``.

    Attributes:
        form: type of the runs' ``scores.json``.
        takes_images: whether pictures are in folders given by the user, instead of the run's.
    """

    form: type[Scores]
    takes_images: bool = False

    @abstractmethod
    def build(self, runs: Sequence[RunType], pictures: Pictures) -> Document:
        """Return the page's part for one run, or several side by side.

        Raises:
            BrokenFileError: a file of a run is damaged.
        """

    @abstractmethod
    def load_pictures(
        self, runs: Sequence[RunType], budget: int, images: Sequence[Path]
    ) -> Pictures:
        """Load the pictures of the page, at a size that fits ``budget``.

        Args:
            runs: as for :meth:`build`.
            budget: maximum number of characters of the page for pictures.
            images: folders given by the user, if the kind takes them.
        """

    @abstractmethod
    def summarize(self, scores: Scores) -> Table:
        """Return the table of a run's scores."""
