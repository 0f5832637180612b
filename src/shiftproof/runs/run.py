"""A finished run: where it is, its figures and its records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, final

from shiftproof.errors import InputError, UnknownNameError
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.records import classification, detection, segmentation
from shiftproof.runs.scores.grid import GridScores
from shiftproof.runs.scores.probe import ProbeScores
from shiftproof.runs.scores.reading import read_form
from shiftproof.types import CLEAN, Cell

if TYPE_CHECKING:
    import pyarrow

CellRecords: TypeAlias = (
    classification.CellRecords | detection.DetectionRecords | segmentation.SegmentationRecords
)


class _Folder:
    """A folder of a run, and what it holds."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder.open(path)
        self.path = path

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @property
    def kind(self) -> str:
        """What was measured: "classification", "detection", "segmentation", "probe", or another task."""
        return str(self.folder.info().get("kind"))


@final
class Run(_Folder):
    """A finished run over the corruption grid.

    >>> run = load_run("run")  # doctest: +SKIP
    >>> run.scores.models[0].summary["mean"].value  # doctest: +SKIP
    0.415

    Raises:
        InputError: there is no run.
    """

    @property
    def scores(self) -> GridScores:
        """All figures with their intervals, from ``scores.json``.

        Raises:
            BrokenFileError: the file is not what a run over the grid writes; it names the place.
        """
        return read_form(self.folder.scores_file, GridScores)

    def records(
        self,
        models: Sequence[str] | None = None,
        corruptions: Sequence[str] | None = None,
        severities: Sequence[int] | None = None,
    ) -> pyarrow.Table:
        """Return one row per image and cell as an Arrow table, with its model and cell in front.

        Args:
            models: names in the run; all by default.
            corruptions: all by default; the clean cell is "clean".
            severities: all by default; the clean cell is 0.

        Raises:
            BrokenFileError: a table cannot be read.
            UnknownNameError: there is no such model.
            InputError: there is no such cell.
        """
        import pyarrow as pa

        from shiftproof.runs.parquet import reading

        scores = self.scores
        named = [one.name for one in scores.models]
        for model in models or ():
            if model not in named:
                raise UnknownNameError.of("model of the run", model, named)
        tables = []
        for model in models or named:
            for cell in _cells_of(scores):
                if corruptions is not None and cell.corruption not in corruptions:
                    continue
                if severities is not None and cell.severity not in severities:
                    continue
                path = self.folder.records_file(model, cell)
                with reading(path) as table:
                    count = len(table)
                    front = [
                        ("model", pa.array([model] * count, pa.string())),
                        ("corruption", pa.array([cell.corruption] * count, pa.string())),
                        ("severity", pa.array([cell.severity] * count, pa.int8())),
                    ]
                # Equal texts of errors are held once while a table is read; here they are plain texts.
                place = table.schema.get_field_index("error")
                if place >= 0:
                    table = table.set_column(place, "error", table["error"].cast(pa.string()))
                for place, (name, column) in enumerate(front):
                    table = table.add_column(place, name, column)
                tables.append(table)
        if not tables:
            raise InputError(f"{self.path} has no such cells.")
        return pa.concat_tables(tables)

    def cell(self, model: str, corruption: str, severity: int) -> CellRecords:
        """Return the records of one cell as arrays; the clean cell is ``("clean", 0)``.

        Raises:
            InputError: a run of a kind whose records have no such form; take ``records``.
        """
        path = self.folder.records_file(model, Cell(corruption, severity))
        if self.kind == "classification":
            return classification.read_cell(path)
        if self.kind == "detection":
            return detection.read_detections(path)
        if self.kind == "segmentation":
            return segmentation.read_segmentation(path)
        raise InputError(f"{self.path} is a run of the kind {self.kind!r}; take its records().")


@final
class ProbeRun(_Folder):
    """A finished probe of encoders, which has factors in the place of a grid.

    Raises:
        InputError: there is no run.
    """

    @property
    def scores(self) -> ProbeScores:
        """All figures with their intervals, from ``scores.json``.

        Raises:
            BrokenFileError: the file is not what a probe writes; it names the place.
        """
        return read_form(self.folder.scores_file, ProbeScores)


def load_run(path: str | Path) -> Run:
    """Open the folder of a finished run over the corruption grid.

    Raises:
        InputError: there is none, it is not finished, or it is of a probe, which :class:`ProbeRun` opens.
    """
    run = Run(Path(path))
    if run.kind == "probe":
        raise InputError(f"{path} is a probe of encoders; open it by shiftproof.runs.ProbeRun.")
    if not run.folder.scores_file.is_file():
        raise InputError(
            f"{path} holds a run that is not finished (no scores.json). Start it again with the "
            "same settings; it goes on where it stopped."
        )
    return run


def _cells_of(scores: GridScores) -> list[Cell]:
    clean = [CLEAN] if scores.models[0].clean is not None else []
    return clean + [one.cell for one in scores.models[0].cells]
