"""A finished run: where it is, its figures and its records. One class for each form of scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, final

import msgspec

from shiftproof.display import encode_figure, write_table
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.io.arrays import read_array
from shiftproof.runs.events import ModelEvent, read_events
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.parquet import open_table
from shiftproof.runs.records import classification, detection, segmentation
from shiftproof.runs.result_faults import FaultCounts, describe_faults, describe_names
from shiftproof.runs.scores.anytime import AnytimeScores
from shiftproof.runs.scores.audit import AuditScores
from shiftproof.runs.scores.breaking import BreakingScores
from shiftproof.runs.scores.classification import Detail
from shiftproof.runs.scores.evaluation import EvaluationScores
from shiftproof.runs.scores.grid import GridScores
from shiftproof.runs.scores.probe import ProbeScores
from shiftproof.runs.scores.reading import clean_text, convert, read_form, show
from shiftproof.runs.scores.tidy import TidyScores
from shiftproof.runs.scores.trust import Trust
from shiftproof.runs.showing import draw_scores, show_scores
from shiftproof.types import CLEAN, Cell, Settings

if TYPE_CHECKING:
    import pyarrow

    from shiftproof.runs.plots import Bars, Plots

CellRecords: TypeAlias = (
    classification.CellRecords | detection.DetectionRecords | segmentation.SegmentationRecords
)

Scores = TypeVar("Scores", bound=TidyScores)
Form = TypeVar("Form", bound=msgspec.Struct)


class Head(msgspec.Struct, frozen=True):
    """The content of ``run.json``.

    Attributes:
        kind: what was measured.
        settings: what decides the numbers.
        classes: title and count.
        assumed: what was taken for granted when the models were loaded, by model.
        provenance: how the numbers came about.
        data_faults: what was wrong with the annotations.
        result_faults: what was wrong with result files, by model and cell.
        cells_lacking: of answers made elsewhere, by model, the cells that others alone have.
        names_alike: corruptions in no table, and the one of the table that each is nearly called.
    """

    kind: str
    settings: dict[str, Any]
    classes: dict[str, Any] = {}
    assumed: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    data_faults: FaultCounts | None = None
    result_faults: dict[str, dict[str, FaultCounts]] = {}
    cells_lacking: dict[str, list[str]] = {}
    names_alike: dict[str, str] = {}

    def describe_faults(self) -> list[str]:
        """Return what was wrong with annotations, result files and their names, a sentence each."""
        models = self.settings.get("models")
        named = models if isinstance(models, dict) else {}
        return [
            *describe_names(self.cells_lacking, self.names_alike),
            *describe_faults(named, self.data_faults, self.result_faults),
        ]


class AnyRun(ABC, Generic[Scores]):
    """What finished runs of all kinds have: a folder, settings, figures and records.

    Attributes:
        path: the folder.
        folder: the places in it.

    Raises:
        InputError: there is no run.
    """

    def __init__(self, path: str | Path) -> None:
        self.folder = RunFolder.open(Path(path))
        self.path = self.folder.path
        self._galleries: dict[type[Any], Any] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """Show the run in a notebook: what it is, and its scores."""
        count = self.scores.used if isinstance(self.scores, GridScores) else None
        told = [("kind", self.kind), ("folder", str(self.path))]
        told += [] if count is None else [("images", f"{count:,}")]
        told += [("note", fault) for fault in self.faults[:3]]
        head = write_table(type(self).__name__, ["", ""], told)
        return head + show_scores(self.scores)

    def _repr_png_(self) -> bytes | None:
        """Show the run's figures in a notebook that shows pictures alone; None without matplotlib."""
        return encode_figure(lambda: draw_scores(self.scores))

    @property
    @abstractmethod
    def scores(self) -> Scores:
        """All figures with their intervals, from ``scores.json``.

        Raises:
            BrokenFileError: the file is not what such a run writes; the message names the place.
        """

    @abstractmethod
    def records(self) -> pyarrow.Table:
        """Return what the figures are made from as an Arrow table.

        Raises:
            BrokenFileError: a table cannot be read.
        """

    @cached_property
    def head(self) -> Head:
        """The content of ``run.json``.

        Raises:
            BrokenFileError: it cannot be read as what it should be.
        """
        return read_form(self.folder.run_file, Head)

    @property
    def kind(self) -> str:
        """What was measured: "classification", "detection", "probe", "similarity", or a task's own."""
        return self.head.kind

    @property
    def settings(self) -> Settings:
        """What decides the numbers."""
        return self.head.settings

    @property
    def provenance(self) -> Settings:
        """How the numbers came about: versions, device, command."""
        return self.head.provenance

    @cached_property
    def faults(self) -> tuple[str, ...]:
        """What was wrong with annotations and result files, a sentence each."""
        return tuple(map(clean_text, self.head.describe_faults()))

    def _record(self, folder: str, name: str) -> Path:
        """Return a file below ``records``: names in ``scores.json`` lead to no other place."""
        for part in (folder, name):
            if part == ".." or Path(part).name != part:
                raise BrokenFileError(
                    f"{self.folder.scores_file}: expected the name of a file of records, got "
                    f"{show(part)}. The file is damaged or was changed by hand; start the run again "
                    "to have it written anew."
                )
        return self.path / "records" / folder / name

    def gallery(self, form: type[Form]) -> Form:
        """Return what pictures there are, as the form that runs of this kind have.

        Raises:
            BrokenFileError: the file cannot be read as that.
        """
        if form not in self._galleries:
            there = self.folder.gallery_file.is_file()
            self._galleries[form] = read_form(self.folder.gallery_file, form) if there else form()
        found: Form = self._galleries[form]
        return found


@final
class Run(AnyRun[GridScores]):
    """A finished run over the corruption grid, of classifiers, detectors, or a task of one's own.

    >>> run = load_run("run")  # doctest: +SKIP
    >>> run.scores.models[0].summary["mean"].value  # doctest: +SKIP
    0.415
    """

    @cached_property
    def scores(self) -> GridScores:
        """All figures with their intervals."""
        return read_form(self.folder.scores_file, GridScores)

    @cached_property
    def plot(self) -> Plots:
        """Its figures by matplotlib: ``curve()``, ``heatmap()``, ``gallery()``."""
        from shiftproof.runs.plots import GALLERIES, Plots

        form = GALLERIES.get(self.kind)
        return Plots(self.scores, self.path, None if form is None else self.gallery(form))

    def trust(self) -> dict[str, Trust]:
        """Return by model whether what classifiers say of themselves holds, of images with labels.

        Calibration error, Brier score, loss and selective prediction in every cell; with held-out
        images also the fitted temperature, the same figures behind it, and prediction sets.

        Raises:
            BrokenFileError: ``scores.json`` is not what a run writes.
        """
        if self.kind != "classification":
            return {}
        found = {}
        for place, model in enumerate(self.scores.models):
            where = f"models[{place}].detail"
            detail = convert(model.detail, Detail, self.folder.scores_file, where)
            if detail.trust is not None:
                found[model.name] = detail.trust
        return found

    def model_index(self, name: str | None = None, *, model: str | None = None) -> dict[str, Any]:
        """Return the figures of a model as ``model-index``, the metadata of a Hugging Face model card.

        Args:
            name: of the model on the hub; the model's title by default.
            model: which of the run; the first by default.

        Raises:
            UnknownNameError: there is no such model.
        """
        from shiftproof.runs.model_index import make_model_index

        [chosen] = _choose(
            None if model is None else [model], [one.name for one in self.scores.models],
            "model of the run",
        )[:1]  # fmt: skip
        return make_model_index(self.scores, self.head, chosen, name)

    def to_samples(
        self, *, model: str | None = None, images: str | Path | None = None
    ) -> dict[str, Any]:
        """Return the images with what a model said of each in every cell, as JSON takes it.

        Args:
            model: which of the run; the first by default.
            images: the folder of the data, in front of the images' names.

        Raises:
            InputError: a run of a kind whose records have no answers in this form.
            UnknownNameError: there is no such model.
            BrokenFileError: a table cannot be read.
        """
        from shiftproof.runs.samples import list_samples

        return list_samples(self, model, None if images is None else Path(images))

    def to_fiftyone(
        self, name: str | None = None, *, model: str | None = None, images: str | Path | None = None
    ) -> Any:
        """Return the images and answers as a ``fiftyone.Dataset``; :meth:`to_samples` needs no FiftyOne.

        Args:
            name: of the data set; FiftyOne's own by default.
            model: which of the run; the first by default.
            images: the folder of the data, in front of the images' names.

        Raises:
            MissingExtraError: fiftyone is not installed.
            InputError, UnknownNameError, BrokenFileError: as :meth:`to_samples`.
        """
        from shiftproof.runs.samples import make_dataset

        return make_dataset(self.to_samples(model=model, images=images), name)

    def records(
        self,
        models: Sequence[str] | None = None,
        corruptions: Sequence[str] | None = None,
        severities: Sequence[int] | None = None,
    ) -> pyarrow.Table:
        """Return one row per image and cell, with its model and cell in front.

        Args:
            models: names in the run; all by default.
            corruptions: all by default; the clean cell is "clean".
            severities: all by default; the clean cell is 0.

        Raises:
            BrokenFileError: a table cannot be read.
            UnknownNameError: there is no such model.
            InputError: there is no such cell.
        """
        chosen = _choose(models, [one.name for one in self.scores.models], "model of the run")
        cells = [
            cell
            for cell in _cells_of(self.scores)
            if corruptions is None or cell.corruption in corruptions
            if severities is None or cell.severity in severities
        ]
        if not cells:
            raise InputError(f"{self.path} has no such cells.")
        return _join(
            _read_with(
                self._record(model, f"{cell}.parquet"),
                {"model": model, "corruption": cell.corruption, "severity": cell.severity},
            )
            for model in chosen
            for cell in cells
        )

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

    @cached_property
    def events(self) -> tuple[ModelEvent, ...]:
        """What adapters told, in the order of the models and of the grid."""
        return tuple(read_events(self.path / "events", self.scores))

    @property
    def adapts(self) -> bool:
        """Whether any model of the run adapts."""
        return bool(self.settings.get("adapters"))

    def adapter(self, model: str) -> Settings | None:
        """Return the settings of an adapter; None for a model as it is."""
        adapters = self.settings.get("adapters")
        found = adapters.get(model) if isinstance(adapters, Mapping) else None
        return dict(found) if isinstance(found, Mapping) else None


@final
class ProbeRun(AnyRun[ProbeScores]):
    """A finished probe of encoders, which has factors in the place of a grid."""

    @cached_property
    def scores(self) -> ProbeScores:
        """How much of each factor each model keeps."""
        return read_form(self.folder.scores_file, ProbeScores)

    @cached_property
    def plot(self) -> Bars:
        """Its figures by matplotlib: ``bars()``."""
        from shiftproof.runs.plots import Bars

        return Bars(self.scores)

    def records(
        self, models: Sequence[str] | None = None, factors: Sequence[str] | None = None
    ) -> pyarrow.Table:
        """Return one row per version of an image: the true value, and what was read.

        Columns: ``model``, ``factor``, ``id``, ``version``, ``fold`` in which the image was held out,
        ``value`` in the factor's unit, and what was read in its place: ``beside`` and ``alone`` by
        ridge regression, ``network`` where torch was installed.

        Args:
            models: names in the run, controls among them; all by default.
            factors: all by default.

        Raises:
            BrokenFileError: a table cannot be read.
            UnknownNameError: there is no such model or factor.
        """
        scores = self.scores
        chosen = _choose(models, [one.name for one in scores.models], "model of the run")
        wanted = _choose(factors, [one.name for one in scores.factors], "factor of the run")
        return _join(
            _read_with(
                self._record(model, f"{Cell(factor, 0)}.parquet"),
                {"model": model, "factor": factor},
                unique=None,
            )
            for model in chosen
            for factor in wanted
        )


@final
class AuditRun(AnyRun[AuditScores]):
    """A finished audit: how close a training set comes to test sets."""

    @cached_property
    def scores(self) -> AuditScores:
        """The figures of every test set."""
        return read_form(self.folder.scores_file, AuditScores)

    @cached_property
    def plot(self) -> Bars:
        """Its figures by matplotlib: ``bars()``."""
        from shiftproof.runs.plots import Bars

        return Bars(self.scores)

    def records(self, sets: Sequence[str] | None = None) -> pyarrow.Table:
        """Return one row per test row.

        Columns: ``set``, ``row``, ``similarity`` to the nearest training row and its ``index``, the
        mean ``density`` of the k nearest; ``key`` and ``label`` where the metadata have them, and
        ``reference``, the similarity to the nearest reference row, where there is a reference.

        Args:
            sets: names of test sets; all by default.

        Raises:
            BrokenFileError: a table cannot be read.
            UnknownNameError: there is no such test set.
        """
        return _join(
            _read_with(self._record("tests", f"{name}.parquet"), {"set": name}, unique=None)
            for name in self._choose(sets)
        )

    def training_records(self, name: str) -> pyarrow.Table:
        """Return one row per training row, in the order of the training set.

        Columns: ``row``, ``similarity`` to the nearest row of the test set ``name`` and its ``index``,
        and with a reference ``removed``: whether gap-matched pruning for that set removes it.

        Raises:
            BrokenFileError: a file cannot be read.
            UnknownNameError: there is no such test set.
        """
        import pyarrow as pa

        [name] = self._choose([name])
        columns = {
            "similarity": read_array(self._record("train", f"{name}.npy")),
            "index": read_array(self._record("train", f"{name}.index.npy")),
        }
        if self.scores.pruning is not None:
            columns["removed"] = read_array(self._record("removed", f"{name}.npy"))
        return pa.table({"row": range(len(columns["similarity"])), **columns})

    def _choose(self, sets: Sequence[str] | None) -> list[str]:
        return _choose(sets, [one.name for one in self.scores.sets], "test set of the audit")


@final
class EvaluationRun(AnyRun[EvaluationScores]):
    """A finished evaluation: the accuracy of models on several test sets."""

    @cached_property
    def scores(self) -> EvaluationScores:
        """The accuracies on every test set."""
        return read_form(self.folder.scores_file, EvaluationScores)

    @cached_property
    def plot(self) -> Bars:
        """Its figures by matplotlib: ``bars()``."""
        from shiftproof.runs.plots import Bars

        return Bars(self.scores)

    def records(
        self, models: Sequence[str] | None = None, sets: Sequence[str] | None = None
    ) -> pyarrow.Table:
        """Return one row per image and model, with the model and the test set in front.

        Args:
            models: names in the run; all by default.
            sets: names of test sets; all by default.

        Raises:
            BrokenFileError: a table cannot be read.
            UnknownNameError: there is no such model or test set.
        """
        chosen = _choose(models, [one.name for one in self.scores.models], "model of the run")
        wanted = _choose(sets, [one.name for one in self.scores.sets], "test set of the run")
        return _join(
            _read_with(self._record(model, f"{name}.parquet"), {"model": model, "set": name})
            for model in chosen
            for name in wanted
        )


@final
class AnytimeRun(AnyRun[AnytimeScores]):
    """A run that asks one number, and ends as soon as it is known well enough."""

    @cached_property
    def scores(self) -> AnytimeScores:
        """The number with its interval, and how it narrowed."""
        return read_form(self.folder.scores_file, AnytimeScores)

    def records(self, models: Sequence[str] | None = None) -> pyarrow.Table:
        """Return one row per pair of an image and a cell that was asked, in the order of the draws.

        Args:
            models: names in the run; all by default.

        Raises:
            BrokenFileError: a table cannot be read.
            UnknownNameError: there is no such model.
        """
        chosen = _choose(models, [one.name for one in self.scores.models], "model of the run")
        return _join(
            _read_with(path, {"model": model}, unique=None)
            for model in chosen
            for path in sorted(self._record(model, "").glob("block-*.parquet"))
        )


@final
class BreakingRun(AnyRun[BreakingScores]):
    """Where the answers of models break, image by image."""

    @cached_property
    def scores(self) -> BreakingScores:
        """Mean breaking severities, and the shares that are still right along the severity."""
        return read_form(self.folder.scores_file, BreakingScores)

    def records(
        self, models: Sequence[str] | None = None, corruptions: Sequence[str] | None = None
    ) -> pyarrow.Table:
        """Return one row per image and corruption.

        Columns: ``model``, ``corruption``, ``id``; ``target``, the ``clean`` answer; ``breaking``, the
        severity at which the answer breaks, 0 where it is wrong clean, null where nothing breaks it;
        the ``answer`` there; ``checked``, a severity beyond that was asked, too, and whether the
        answer had ``recovered`` there.

        Args:
            models: names in the run; all by default.
            corruptions: all by default.

        Raises:
            BrokenFileError: a table cannot be read.
            UnknownNameError: there is no such model or corruption.
        """
        chosen = _choose(models, [one.name for one in self.scores.models], "model of the run")
        wanted = _choose(corruptions, self.scores.corruptions, "corruption of the run")
        return _join(
            _read_with(
                self._record(model, f"{Cell(name, 0)}.parquet"),
                {"model": model, "corruption": name},
            )
            for model in chosen
            for name in wanted
        )


_CLASSES: dict[
    str,
    type[ProbeRun] | type[AuditRun] | type[EvaluationRun] | type[AnytimeRun] | type[BreakingRun],
] = {
    "breaking": BreakingRun,
    "anytime": AnytimeRun,
    "probe": ProbeRun,
    "similarity": AuditRun,
    "evaluation": EvaluationRun,
}
"""By kind; all other kinds are over the grid."""


def load_run(
    path: str | Path,
) -> Run | ProbeRun | AuditRun | EvaluationRun | AnytimeRun | BreakingRun:
    """Open the folder of a finished run of any kind.

    Returns:
        By the run's kind: of classifiers, detectors and tasks of one's own a :class:`Run`, of encoders
        a :class:`ProbeRun`, of embeddings an :class:`AuditRun`, on several test sets an
        :class:`EvaluationRun`, of one number an :class:`AnytimeRun`,
        of breaking points a :class:`BreakingRun`. Their ``scores`` are typed, and
        ``records()`` gives what these are made from as an Arrow table.

    Raises:
        InputError: there is none, or it is not finished.
        BrokenFileError: ``run.json`` is damaged.
    """
    run = Run(path)
    if not run.folder.scores_file.is_file():
        raise InputError(
            f"{run.path} holds a run that is not finished (no scores.json). Start it again with the "
            "same settings; it goes on where it stopped."
        )
    found = _CLASSES.get(run.kind)
    return run if found is None else found(path)


def _cells_of(scores: GridScores) -> list[Cell]:
    clean = [CLEAN] if scores.models[0].clean is not None else []
    return clean + [one.cell for one in scores.models[0].cells]


def _choose(names: Sequence[str] | None, known: Collection[str], what: str) -> list[str]:
    for name in names or ():
        if name not in known:
            raise UnknownNameError.of(what, name, known)
    return list(names or known)


def _read_with(
    path: Path, front: Mapping[str, str | int], *, unique: str | None = "id"
) -> pyarrow.Table:
    """Return a record table with columns in front that say where its rows are from."""
    import pyarrow as pa

    with open_table(path, unique=unique) as table:
        # Equal texts of errors are held once while a table is read; here they are plain texts.
        place = table.schema.get_field_index("error")
        if place >= 0:
            table = table.set_column(place, "error", table["error"].cast(pa.string()))
        for at, (name, value) in enumerate(front.items()):
            kind = pa.string() if isinstance(value, str) else pa.int8()
            table = table.add_column(at, name, pa.array([value] * len(table), kind))
        return table


def _join(tables: Iterable[pyarrow.Table]) -> pyarrow.Table:
    """Return tables as one; what only some of them have is null in the others."""
    import pyarrow as pa

    return pa.concat_tables(list(tables), promote_options="default")
