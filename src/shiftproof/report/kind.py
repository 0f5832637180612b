"""What the report asks of each kind of run: its page, its pictures, its table."""

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

Shown = TypeVar("Shown", bound=AnyRun[Any])
Scores = TypeVar("Scores", bound=TidyScores)


class PageKind(ABC, Generic[Shown, Scores]):
    """How runs of one kind are shown; a concrete one is final, and has a row in ``kinds.KINDS``.

    Attributes:
        form: of the runs' ``scores.json``.
        takes_images: whether pictures lie in folders that the reader names, and not in the run's.
    """

    form: type[Scores]
    takes_images: bool = False

    @abstractmethod
    def build(self, runs: Sequence[Shown], pictures: Pictures) -> Document:
        """Return the part of a page on one run, or on several side by side, before it is written.

        Raises:
            BrokenFileError: a file of a run is damaged.
        """

    @abstractmethod
    def load_pictures(self, runs: Sequence[Shown], budget: int, images: Sequence[Path]) -> Pictures:
        """Read the pictures of the page, as large as ``budget`` allows.

        Args:
            runs: as :meth:`build` has them.
            budget: characters of the page that they may take.
            images: folders that the reader names, of a kind that takes them.
        """

    @abstractmethod
    def summarize(self, scores: Scores) -> Table:
        """Return the table of a run's scores."""
