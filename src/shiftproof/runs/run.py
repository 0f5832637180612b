"""Finished runs: folder, scores and records. One class for each kind of scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, final

import msgspec

from shiftproof.display import encode_figure, write_table
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io.arrays import read_array
from shiftproof.runs.events import ModelEvent, read_events
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.info import RunInfo
from shiftproof.runs.names import choose_names
from shiftproof.runs.parquet import open_table
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
from shiftproof.runs.tasks import TASKS, CellRecords
from shiftproof.types import Cell, Settings

if TYPE_CHECKING:
    import pyarrow

    from shiftproof.runs.plots import Bars, Plots

Scores = TypeVar("Scores", bound=TidyScores)
Form = TypeVar("Form", bound=msgspec.Struct)


class AnyRun(ABC, Generic[Scores]):
    """Base class of finished runs: folder, settings, scores and records.

    Attributes:
        form: the type of its scores.
        path: the folder.
        folder: the paths in it.

    Raises:
        InputError: there is no run at the path.
    """

    form: type[Scores]

    def __init__(self, path: str | Path) -> None:
        self.folder = RunFolder.open(Path(path))
        self.path = self.folder.path
        self._galleries: dict[type[Any], Any] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """Show the run in a notebook: its kind, and its scores."""
        count = self.scores.used if isinstance(self.scores, GridScores) else None
        rows = [("kind", self.kind), ("folder", str(self.path))]
        rows += [] if count is None else [("images", f"{count:,}")]
        rows += [("note", fault) for fault in self.faults[:3]]
        return write_table(type(self).__name__, ["", ""], rows) + show_scores(self.scores)

    def _repr_png_(self) -> bytes | None:
        """Show the run's scores as a figure in a notebook; None without matplotlib."""
        return encode_figure(lambda: draw_scores(self.scores))

    @cached_property
    def scores(self) -> Scores:
        """All scores with their intervals, from ``scores.json``.

        Raises:
            BrokenFileError: the file is invalid; the message names the place in it.
        """
        return read_form(self.folder.scores_file, self.form)

    @abstractmethod
    def records(self) -> pyarrow.Table:
        """Return the records, from which the scores are computed, as an Arrow table.

        Raises:
            BrokenFileError: a table cannot be read.
        """

    @cached_property
    def info(self) -> RunInfo:
        """The content of ``run.json``.

        Raises:
            BrokenFileError: it cannot be read, or is invalid.
        """
        return convert(self.folder.info(), RunInfo, self.folder.run_file)

    @property
    def kind(self) -> str:
        """The kind: "classification", "detection", "probe", "similarity", or a custom task's."""
        return self.info.kind

    @property
    def settings(self) -> Settings:
        """The settings that determine the scores."""
        return self.info.settings

    @property
    def provenance(self) -> Settings:
        """Versions, device and command of the run."""
        return self.info.provenance

    @cached_property
    def faults(self) -> tuple[str, ...]:
        """Faults of annotations and result files, one sentence each."""
        return tuple(map(clean_text, self.info.describe_faults()))

    def _find_records(self, folder: str, name: str) -> Path:
        """Return a path below ``records``; raises if a name in ``scores.json`` leads elsewhere."""
        for part in (folder, name):
            if part == ".." or Path(part).name != part:
                raise BrokenFileError(
                    f"{self.folder.scores_file}: expected the name of a file of records, got "
                    f"{show(part)}. The file is damaged or was changed by hand; start the run again "
                    "to have it written anew."
                )
        return self.path / "records" / folder / name

    def _choose_models(self, models: Sequence[str] | None) -> list[str]:
        """Return the names of models of the run, all by default; raises if one is unknown."""
        scores: Any = self.scores  # only audits have no models
        return choose_names(models, [model.name for model in scores.models], "model of the run")

    def _choose_model(self, model: str | None) -> str:
        """Return the name of a model of the run, the first by default; raises if it is unknown."""
        return self._choose_models(None if model is None else [model])[0]

    def _read_tables(
        self,
        models: Sequence[str],
        key: str,
        files: Mapping[str, str],
        *,
        unique: str | None = "id",
    ) -> pyarrow.Table:
        """Return the tables of models as one; ``files`` are by the value of the column ``key``."""
        return _concatenate(
            _read_table(self._find_records(model, file), {"model": model, key: value}, unique)
            for model in models
            for value, file in files.items()
        )

    def gallery(self, form: type[Form]) -> Form:
        """Return the content of ``gallery.json`` as ``form``, the type for this kind of run.

        Raises:
            BrokenFileError: the file cannot be read as that type.
        """
        if form not in self._galleries:
            path = self.folder.gallery_file
            self._galleries[form] = read_form(path, form) if path.is_file() else form()
        gallery: Form = self._galleries[form]
        return gallery


@final
class Run(AnyRun[GridScores]):
    """A finished run over the corruption grid, of classifiers, detectors, segmenters, or a custom
    task.

    >>> run = load_run("run")  # doctest: +SKIP
    >>> run.scores.models[0].summary["mean"].value  # doctest: +SKIP
    0.415
    """

    form = GridScores

    @cached_property
    def plot(self) -> Plots:
        """Its figures by matplotlib: ``curve()``, ``heatmap()``, ``gallery()``."""
        from shiftproof.runs.plots import Plots

        task = TASKS.get(self.kind)
        return Plots(self.scores, self.path, None if task is None else self.gallery(task.gallery))

    def trust(self) -> dict[str, Trust]:
        """Return by model how trustworthy classifiers' confidences are, for labeled images.

        Calibration error, Brier score, loss and selective prediction in every cell; with held-out
        images also the fitted temperature, the same metrics after temperature scaling, and
        prediction sets.

        Raises:
            BrokenFileError: ``scores.json`` is invalid.
        """
        if self.kind != "classification":
            return {}
        by_model = {}
        for index, model in enumerate(self.scores.models):
            where = f"models[{index}].detail"
            detail = convert(model.detail, Detail, self.folder.scores_file, where)
            if detail.trust is not None:
                by_model[model.name] = detail.trust
        return by_model

    def model_index(self, name: str | None = None, *, model: str | None = None) -> dict[str, Any]:
        """Return a model's scores as ``model-index``, the metadata of a Hugging Face model card.

        Args:
            name: name of the model on the hub; the model's title by default.
            model: name of a model of the run; the first by default.

        Raises:
            UnknownNameError: there is no such model.
        """
        from shiftproof.runs.model_index import make_model_index

        return make_model_index(self.scores, self.info, self._choose_model(model), name)

    def to_samples(
        self, *, model: str | None = None, images: str | Path | None = None
    ) -> dict[str, Any]:
        """Return the images with a model's predictions in every cell, for JSON.

        Args:
            model: name of a model of the run; the first by default.
            images: the folder of the data, prepended to the images' names.

        Raises:
            InputError: a kind of run whose records have no such predictions.
            UnknownNameError: there is no such model.
            BrokenFileError: a table cannot be read.
        """
        from shiftproof.runs.samples import list_samples

        return list_samples(
            self, self._choose_model(model), None if images is None else Path(images)
        )

    def to_fiftyone(
        self, name: str | None = None, *, model: str | None = None, images: str | Path | None = None
    ) -> Any:
        """Return images and predictions as a ``fiftyone.Dataset``; :meth:`to_samples` needs no
        FiftyOne.

        Args:
            name: name of the dataset; FiftyOne's default if None.
            model: name of a model of the run; the first by default.
            images: the folder of the data, prepended to the images' names.

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
        """Return one row per image and cell; the first columns are model and cell.

        Args:
            models: names in the run; all by default.
            corruptions: all by default; the clean cell is "clean".
            severities: all by default; the clean cell is 0.

        Raises:
            BrokenFileError: a table cannot be read.
            UnknownNameError: there is no such model or corruption.
            InputError: there is no such cell.
        """
        names = self._choose_models(models)
        known = self.scores.list_cells()
        chosen = choose_names(
            corruptions, list(dict.fromkeys(cell.corruption for cell in known)), _CORRUPTION
        )
        cells = [
            cell
            for cell in known
            if cell.corruption in chosen and (severities is None or cell.severity in severities)
        ]
        if not cells:
            raise InputError(f"{self.path} has no such cells.")
        return _concatenate(
            _read_table(
                self._find_records(name, f"{cell}.parquet"),
                {"model": name, "corruption": cell.corruption, "severity": cell.severity},
            )
            for name in names
            for cell in cells
        )

    def cell(self, model: str, corruption: str, severity: int) -> CellRecords:
        """Return the records of one cell as arrays; the clean cell is ``("clean", 0)``.

        Raises:
            InputError: there is no such cell; or a kind of run whose records have no such form: use
                ``records``.
            UnknownNameError: there is no such model.
            BrokenFileError: the table cannot be read.
        """
        task = TASKS.get(self.kind)
        if task is None:
            raise InputError(f"{self.path} is a run of the kind {self.kind!r}; take its records().")
        cell = Cell(corruption, severity)
        if cell not in self.scores.list_cells():
            raise InputError(f"{self.path} has no cell {cell}.")
        return task.read_cell(self._find_records(self._choose_model(model), f"{cell}.parquet"))

    @cached_property
    def events(self) -> tuple[ModelEvent, ...]:
        """Events of the adapters, in the order of the models and of the grid."""
        return tuple(read_events(self.path / "events", self.scores))

    @property
    def adapts(self) -> bool:
        """Whether any model of the run adapts."""
        return bool(self.settings.get("adapters"))

    def adapter(self, model: str) -> Settings | None:
        """Return the settings of an adapter; None for a model without one."""
        adapters = self.settings.get("adapters")
        settings = adapters.get(model) if isinstance(adapters, Mapping) else None
        return dict(settings) if isinstance(settings, Mapping) else None


class BarRun(AnyRun[Scores]):
    """Base class of runs whose figures are bars."""

    @cached_property
    def plot(self) -> Bars:
        """Its figures by matplotlib: ``bars()``."""
        from shiftproof.runs.plots import Bars

        return Bars(self.scores)


@final
class ProbeRun(BarRun[ProbeScores]):
    """A finished probe of encoders, with factors instead of a grid."""

    form = ProbeScores

    def records(
        self, models: Sequence[str] | None = None, factors: Sequence[str] | None = None
    ) -> pyarrow.Table:
        """Return one row per version of an image: the true and the predicted values.

        Columns: ``model``, ``factor``, ``id``, ``version``, ``fold`` in which the image was held
        out, ``value`` in the factor's unit, and its predictions: ``beside`` and ``alone`` by ridge
        regression, ``network`` if torch was installed.

        Args:
            models: names in the run, including controls; all by default.
            factors: all by default.

        Raises:
            BrokenFileError: a table cannot be read.
            UnknownNameError: there is no such model or factor.
        """
        known = [factor.name for factor in self.scores.factors]
        chosen = choose_names(factors, known, "factor of the run")
        files = {name: f"{Cell(name, 0)}.parquet" for name in chosen}
        return self._read_tables(self._choose_models(models), "factor", files, unique=None)


@final
class AuditRun(BarRun[AuditScores]):
    """A finished audit: how close a training set comes to test sets."""

    form = AuditScores

    def records(self, sets: Sequence[str] | None = None) -> pyarrow.Table:
        """Return one row per test row.

        Columns: ``set``, ``row``, ``similarity`` to the nearest training row and its ``index``, the
        mean ``density`` of the k nearest; ``key`` and ``label`` if the metadata have them, and
        ``reference``, the similarity to the nearest reference row, where there is a reference.

        Args:
            sets: names of test sets; all by default.

        Raises:
            BrokenFileError: a table cannot be read.
            UnknownNameError: there is no such test set.
        """
        return _concatenate(
            _read_table(self._find_records("tests", f"{name}.parquet"), {"set": name}, None)
            for name in self._choose_sets(sets)
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

        [name] = self._choose_sets([name])
        columns = {
            "similarity": read_array(self._find_records("train", f"{name}.npy")),
            "index": read_array(self._find_records("train", f"{name}.index.npy")),
        }
        if self.scores.pruning is not None:
            columns["removed"] = read_array(self._find_records("removed", f"{name}.npy"))
        return pa.table({"row": range(len(columns["similarity"])), **columns})

    def _choose_sets(self, names: Sequence[str] | None) -> list[str]:
        known = [test_set.name for test_set in self.scores.sets]
        return choose_names(names, known, "test set of the audit")


@final
class EvaluationRun(BarRun[EvaluationScores]):
    """A finished evaluation: the accuracy of models on several test sets."""

    form = EvaluationScores

    def records(
        self, models: Sequence[str] | None = None, sets: Sequence[str] | None = None
    ) -> pyarrow.Table:
        """Return one row per image and model; the first columns are model and test set.

        Args:
            models: names in the run; all by default.
            sets: names of test sets; all by default.

        Raises:
            BrokenFileError: a table cannot be read.
            UnknownNameError: there is no such model or test set.
        """
        known = [test_set.name for test_set in self.scores.sets]
        files = {
            name: f"{name}.parquet" for name in choose_names(sets, known, "test set of the run")
        }
        return self._read_tables(self._choose_models(models), "set", files)


@final
class AnytimeRun(AnyRun[AnytimeScores]):
    """A run that estimates one number, and stops when its interval is narrow enough."""

    form = AnytimeScores

    def records(self, models: Sequence[str] | None = None) -> pyarrow.Table:
        """Return one row per evaluated pair of image and cell, in the order of the draws.

        Args:
            models: names in the run; all by default.

        Raises:
            BrokenFileError: a table cannot be read.
            UnknownNameError: there is no such model.
        """
        return _concatenate(
            _read_table(path, {"model": model}, None)
            for model in self._choose_models(models)
            for path in sorted(self._find_records(model, "").glob("block-*.parquet"))
        )


@final
class BreakingRun(AnyRun[BreakingScores]):
    """The breaking points of models' predictions, by image."""

    form = BreakingScores

    def records(
        self, models: Sequence[str] | None = None, corruptions: Sequence[str] | None = None
    ) -> pyarrow.Table:
        """Return one row per image and corruption.

        Columns: ``model``, ``corruption``, ``id``; ``target``, the ``clean`` prediction;
            ``breaking``, the severity at which the prediction breaks, 0 if it is wrong clean, null
            if it never breaks; the ``answer`` there; ``checked``, a higher severity that was
            evaluated as well, and whether the prediction had ``recovered`` there.

        Args:
            models: names in the run; all by default.
            corruptions: all by default.

        Raises:
            BrokenFileError: a table cannot be read.
            UnknownNameError: there is no such model or corruption.
        """
        chosen = choose_names(corruptions, self.scores.corruptions, _CORRUPTION)
        files = {name: f"{Cell(name, 0)}.parquet" for name in chosen}
        return self._read_tables(self._choose_models(models), "corruption", files)


_CORRUPTION = "corruption of the run"

LoadedRun: TypeAlias = Run | ProbeRun | AuditRun | EvaluationRun | AnytimeRun | BreakingRun

_CLASSES: Mapping[str, type[LoadedRun]] = {
    "breaking": BreakingRun,
    "anytime": AnytimeRun,
    "probe": ProbeRun,
    "similarity": AuditRun,
    "evaluation": EvaluationRun,
}
"""Class by kind of run; all other kinds are runs over the grid."""


def load_run(path: str | Path) -> LoadedRun:
    """Open the folder of a finished run of any kind.

    Returns:
        By the run's kind: for classifiers, detectors, segmenters and custom tasks a :class:`Run`,
        for encoders a :class:`ProbeRun`, for embeddings an :class:`AuditRun`, for several test sets
        an :class:`EvaluationRun`, for a single number an :class:`AnytimeRun`, for breaking points a
        :class:`BreakingRun`. Their ``scores`` are typed, and ``records()`` returns an Arrow table
        of the records.

    Raises:
        InputError: there is no run, or it is not finished.
        BrokenFileError: ``run.json`` is damaged.
    """
    run = Run(path)
    if not run.folder.scores_file.is_file():
        raise InputError(
            f"{run.path} holds a run that is not finished (no scores.json). Start it again with the "
            "same settings; it goes on where it stopped."
        )
    other = _CLASSES.get(run.kind)
    return run if other is None else other(path)


def _read_table(
    path: Path, origin: Mapping[str, str | int], unique: str | None = "id"
) -> pyarrow.Table:
    """Return a record table, with leading columns for its origin."""
    import pyarrow as pa

    with open_table(path, unique=unique) as table:
        # The dictionary-encoded errors become plain texts here.
        index = table.schema.get_field_index("error")
        if index >= 0:
            table = table.set_column(index, "error", table["error"].cast(pa.string()))
        for position, (name, value) in enumerate(origin.items()):
            kind = pa.string() if isinstance(value, str) else pa.int8()
            table = table.add_column(position, name, pa.array([value] * len(table), kind))
        return table


def _concatenate(tables: Iterable[pyarrow.Table]) -> pyarrow.Table:
    """Concatenate tables; columns that only some of them have are null in the others."""
    import pyarrow as pa

    return pa.concat_tables(list(tables), promote_options="default")
