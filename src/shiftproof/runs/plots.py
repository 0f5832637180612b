"""The figures of a run for a notebook or a paper, drawn by matplotlib from its scores."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, final

from shiftproof.display import make_figure
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.io.border import show_name
from shiftproof.io.images import read_image
from shiftproof.metrics.intervals import Interval
from shiftproof.runs.names import choose_names
from shiftproof.runs.scores import classification, detection, segmentation
from shiftproof.runs.scores.grid import GridScores, Measure, ModelScores
from shiftproof.runs.scores.tidy import TidyScores, draw_bars
from shiftproof.runs.tasks import Gallery
from shiftproof.types import Cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Sheet: TypeAlias = classification.Sheet | detection.Sheet | segmentation.Sheet

_COLORS = ("#4c78a8", "#e45756", "#54a24b", "#b279a2", "#f58518", "#72b7b2", "#9d755d", "#bab0ac")


@final
class Plots:
    """The figures of a run over the grid, as ``matplotlib.figure.Figure``: show, change or save them.

    All need the extra ``plot``. Shares are drawn in percent.
    """

    def __init__(self, scores: GridScores, path: Path, gallery: Gallery | None) -> None:
        """Create the plots of a run from its scores, folder and gallery, if its kind has one."""
        self._scores = scores
        self._path = path
        self._gallery = gallery

    def curve(self, measure: str | None = None, *, models: Sequence[str] | None = None) -> Figure:
        """Draw a measure against severity: the mean over the corruptions, one line per model.

        With a single model, thin lines are the corruptions.

        Args:
            measure: name; the run's first by default.
            models: names; all by default.

        Raises:
            UnknownNameError: no such measure or model.
            MissingExtraError: matplotlib is not installed.
        """
        shown, chosen = self._find_measure(measure), self._find_models(models)
        figure = make_figure(6, 4)
        axes: Any = figure.subplots()
        for model, color in zip(chosen, itertools.cycle(_COLORS), strict=False):
            if len(chosen) == 1:
                for name in self._scores.corruptions:
                    axes.plot(*_list_points(model, shown, [name]), color="#999999", linewidth=0.8)
            axes.plot(
                *_list_points(model, shown, self._scores.corruptions),
                color=color, marker="o", linewidth=2, label=model.name,
            )  # fmt: skip
        axes.set_xlabel("severity (0: clean)")
        axes.set_ylabel(_make_label(shown))
        axes.set_xticks([0, *self._scores.severities])
        axes.legend()
        return figure

    def heatmap(self, measure: str | None = None, *, model: str | None = None) -> Figure:
        """Draw a measure of one model in every cell: corruptions down, severities across.

        Args:
            measure: name; the run's first by default.
            model: name; the first by default.

        Raises:
            UnknownNameError: no such measure or model.
            MissingExtraError: matplotlib is not installed.
        """
        return draw_heatmap(self._scores, self._find_model(model), self._find_measure(measure))

    def gallery(self, *, photographs: int = 3, cells: int = 6, model: str | None = None) -> Figure:
        """Draw photographs in some cells, with a model's predictions.

        Args:
            photographs: maximum number of rows.
            cells: maximum number of columns, spread evenly over the cells with pictures.
            model: name; the first by default.

        Raises:
            InputError: the run has no pictures.
            UnknownNameError: no such model.
            BrokenFileError: a picture cannot be read.
            MissingExtraError: matplotlib is not installed.
        """
        if photographs < 1 or cells < 1:
            raise InputError(
                f"Expected at least one photograph and cell, got {photographs}, {cells}."
            )
        chosen = self._find_model(model)
        stored: Sequence[Sheet] = () if self._gallery is None else self._gallery.sheets
        sheets = stored[:photographs]
        if not sheets:
            raise InputError(
                f"{self._path} holds no pictures; its scores were made elsewhere, or its task keeps none."
            )
        columns = _pick_evenly(list(sheets[0].files), cells)
        figure = make_figure(1.7 * len(columns), 1.9 * len(sheets))
        grid: Any = figure.subplots(len(sheets), len(columns), squeeze=False)
        for row, sheet in zip(grid, sheets, strict=True):
            for axes, cell in zip(row, columns, strict=True):
                axes.set_axis_off()
                axes.set_title(cell.replace("_", " "), fontsize=8)
                if cell in sheet.files:
                    axes.imshow(read_image(self._find_picture(sheet.files[cell])))
                    _draw_prediction(axes, sheet, chosen.name, cell)
        return figure

    def _find_picture(self, name: str) -> Path:
        """Return a picture's path; raises if its name in ``gallery.json`` leads outside the run."""
        path = (self._path / name).resolve()
        if not path.is_relative_to(self._path.resolve()):
            raise BrokenFileError(
                f"{self._path}: gallery.json names {show_name(name)}, which lies outside the run."
            )
        return path

    def _find_measure(self, name: str | None) -> Measure:
        measures = {measure.name: measure for measure in self._scores.measures}
        if name is not None and name not in measures:
            raise UnknownNameError.of("measure", name, measures)
        return measures[name] if name is not None else self._scores.measure

    def _find_model(self, name: str | None) -> ModelScores:
        return self._find_models(None if name is None else [name])[0]

    def _find_models(self, names: Sequence[str] | None) -> list[ModelScores]:
        models = {model.name: model for model in self._scores.models}
        return [models[name] for name in choose_names(names, models, "model of the run")]


@final
class Bars:
    """The figures of a run of another kind, as ``matplotlib.figure.Figure``."""

    def __init__(self, scores: TidyScores) -> None:
        """Create the plots of a run from its scores."""
        self._scores = scores

    def bars(self, measure: str | None = None) -> Figure:
        """Draw the figures as bars with their intervals.

        Args:
            measure: the measure (or the readout) to draw; all by default.

        Raises:
            UnknownNameError: no such measure.
            MissingExtraError: matplotlib is not installed.
        """
        rows = list(self._scores.rows())
        key = "reading" if rows and "reading" in rows[0] else "measure"
        known = dict.fromkeys(str(row[key]) for row in rows)
        if measure is not None and measure not in known:
            raise UnknownNameError.of("measure", measure, known)
        return draw_bars([row for row in rows if measure in (None, row[key])])


def draw_heatmap(scores: GridScores, model: ModelScores, measure: Measure) -> Figure:
    """Draw a measure of one model in every cell: corruptions down, severities across.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    names, severities = scores.corruptions, scores.severities
    cells = model.of_cells(measure.name)
    table = [
        [_read_value(cells.get(Cell(name, severity)), measure) for severity in severities]
        for name in names
    ]
    figure = make_figure(2.5 + 0.7 * len(severities), 1 + 0.32 * len(names))
    axes: Any = figure.subplots()
    image = axes.imshow(table, aspect="auto", cmap="Reds" if measure.lower_is_better else "Blues")
    for row, values in enumerate(table):
        for column, value in enumerate(values):
            color = "white" if image.norm(value) > 0.6 else "black"
            axes.text(
                column, row, f"{value:.1f}", ha="center", va="center", fontsize=8, color=color
            )
    axes.set_xticks(range(len(severities)), [str(severity) for severity in severities])
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set_xlabel("severity")
    axes.set_title(model.name)
    figure.colorbar(image, label=_make_label(measure))
    return figure


def _list_points(
    model: ModelScores, measure: Measure, corruptions: Sequence[str]
) -> tuple[list[int], list[float]]:
    """Return severities, and the mean over corruptions at each."""
    clean = model.of_clean(measure.name)
    values = {0: [_read_value(clean, measure)]} if clean is not None else {}
    for cell, figure in model.of_cells(measure.name).items():
        if cell.corruption in corruptions:
            values.setdefault(cell.severity, []).append(_read_value(figure, measure))
    severities = sorted(values)
    return severities, [sum(values[key]) / len(values[key]) for key in severities]


def _read_value(figure: Interval | None, measure: Measure) -> float:
    if figure is None:
        return float("nan")
    return 100 * figure.value if measure.unit == "share" else figure.value


def _make_label(measure: Measure) -> str:
    unit = {"share": " in %", "nats": " in nats", "number": ""}[measure.unit]
    return f"{measure.title}{unit}"


def _pick_evenly(names: Sequence[str], count: int) -> list[str]:
    """Return ``count`` evenly spread names, including the first and the last."""
    if len(names) <= count:
        return list(names)
    if count == 1:
        return [names[0]]
    return [names[round(index * (len(names) - 1) / (count - 1))] for index in range(count)]


def _draw_prediction(axes: Any, sheet: object, model: str, cell: str) -> None:
    """Add the model's prediction to a picture."""
    if isinstance(sheet, classification.Sheet):
        prediction = sheet.predictions.get(model, {}).get(cell)
        if prediction is not None and prediction.name is not None:
            color = {True: "green", False: "red", None: "black"}[prediction.correct]
            axes.text(
                0.5, -0.05, prediction.name, transform=axes.transAxes, ha="center", va="top",
                fontsize=7, color=color,
            )  # fmt: skip
    if isinstance(sheet, detection.Sheet):
        _draw_boxes(axes, sheet, model, cell)


def _draw_boxes(axes: Any, sheet: detection.Sheet, model: str, cell: str) -> None:
    """Draw the detected boxes: green if matched with an object, else red."""
    from matplotlib.patches import Rectangle

    left, right = axes.get_xlim()
    scale = (right - left) / sheet.size[0]  # pictures are smaller than the image
    for predicted in sheet.found.get(model, {}).get(cell, ()):
        x, y, width, height = (scale * value for value in predicted.box)
        color = "red" if predicted.thing is None else "green"
        axes.add_patch(Rectangle((x, y), width, height, fill=False, color=color, linewidth=1))
