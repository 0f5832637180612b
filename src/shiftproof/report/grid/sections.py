"""The sections over the corruption grid: bars, curves, heat maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.gallery import Pictures
from shiftproof.report.grid import figures, tables, words
from shiftproof.report.grid.entries import Change, Entry, PageContent
from shiftproof.report.grid.figures import Column
from shiftproof.report.sections import Section, name_runs
from shiftproof.report.svg import charts, colors
from shiftproof.report.wording import NumberFormat, find_number_format
from shiftproof.runs.run import Run
from shiftproof.runs.scores.grid import GridScores, Measure, ModelScores
from shiftproof.types import Cell


@dataclass(frozen=True)
class Grid:
    """The figures of a page over the grid, and their format.

    ``columns`` are those of the models, ``differences`` those of the changes. ``clean`` is whether
    there are figures of clean images, ``level`` the level of the intervals (empty without intervals),
    ``spelling`` the format of figures, and ``spell`` formats the title of a model.
    """

    shown: PageContent
    columns: Sequence[Column]
    differences: Sequence[Column]
    measure: str
    level: str
    clean: bool
    lower_is_better: bool
    number_format: NumberFormat
    spell: Callable[[str], str] = str

    @classmethod
    def of(cls, shown: PageContent, spell: Callable[[str], str]) -> Grid:
        """Return the figures of the runs over the grid, in their common measure."""
        columns = [_make_column(one.run, one.label, one.scored) for one in shown.entries]
        scores = shown.first.scores
        return cls(
            shown,
            columns,
            [_make_column(one.run, one.label, one.scored) for one in shown.changes],
            measure=shown.measure,
            level=words.describe_level(scores),
            clean=any(column.clean for column in columns),
            lower_is_better=scores.measure.lower_is_better,
            number_format=words.number_format(scores),
            spell=spell,
        )


def _make_column(run: Run, label: str, scored: ModelScores) -> Column:
    name = run.scores.measure.name
    return Column(
        run,
        label,
        clean=scored.of_clean(name) if "clean" in scored.summary else None,
        cells=scored.of_cells(name),
        corruptions=scored.of_corruptions(name),
        mean=scored.summary.get("mean"),
        groups=scored.of_groups(name),
    )


def describe_gallery(
    shown: PageContent, run: Run, total: int, pictures: Pictures
) -> dict[str, object]:
    """Return the text common to galleries: severities, and omitted images.

    ``total`` is the number of images in the run's gallery.
    """
    severities, runs = run.scores.severities, list(shown.runs)
    return {
        "severities": severities,
        "chosen": severities[len(severities) // 2] if severities else 0,
        "left_out": pictures.left_out,
        "total": total,
        "unreadable": len(pictures.unreadable),
        "run_name": None if len(runs) == 1 else name_runs(runs)[runs.index(run)],
    }


def list_dots(entries: Sequence[Entry]) -> list[dict[str, object]]:
    """Return the marker and the label of each model."""
    return [{"label": entry.label, "dot": charts.draw_dot(entry.series)} for entry in entries]


def order_cells(scores: GridScores) -> list[Cell]:
    """Return the corrupted cells of a run, group by group."""
    return [
        Cell(name, severity)
        for names in scores.groups().values()
        for name in names
        for severity in scores.severities
    ]


def build_bars_section(grid: Grid) -> Section:
    """Build the bars of each corruption's mean over severities, of the groups, and of the mean."""
    return Section(
        "corruptions",
        "Corruption by corruption",
        "Corruptions",
        "corruptions.html.j2",
        {
            **figures.make_bars(
                [entry.series for entry in grid.shown.entries],
                grid.columns,
                grid.differences,
                clean=grid.clean,
                number_format=grid.number_format,
            ),
            "legend": figures.make_legend(grid.shown.entries, spell=grid.spell),
            "entries": grid.shown.entries,
            "changes": grid.shown.changes,
            "measure": grid.measure,
            "unit": grid.number_format.phrase.strip(),
            "first": "Corruption",
            "caption": f"{wording.capitalize(grid.measure)} of every model under every corruption, with "
            "intervals",
            "better": "Shorter" if grid.lower_is_better else "Longer",
            "severities": figures.describe_severities(grid.shown.runs),
            "level": grid.level,
        },
    )


def build_heat_section(grid: Grid) -> Section:
    """Build the heat maps: colored by error, or by the loss of performance from clean."""
    measure, lower, number_format = (
        grid.shown.first.scores.measure,
        grid.lower_is_better,
        grid.number_format,
    )
    reach = figures.find_reach(grid.differences, number_format)
    ends = figures.scale_of(grid.columns, number_format)
    by_loss = not lower and all(
        one.clean is not None and one.clean.value > 0 for one in grid.columns
    )

    def paint_change(figure: Interval, title: str) -> dict[str, str]:
        return figures.paint_difference(
            figure, title, reach, lower_is_better=lower, number_format=number_format
        )

    def draw(column: Column, paint: figures.Paint, *, difference: bool) -> dict[str, object]:
        has_clean = column.clean is not None
        return figures.make_heat_map(
            column, paint, difference=difference, clean=has_clean, number_format=number_format
        )

    scales = [_make_figure_scale(grid, ends, by_loss=by_loss)]
    if grid.shown.changes:
        scales.append(
            figures.make_difference_scale(reach, lower_is_better=lower, number_format=number_format)
        )
    maps = [
        draw(
            one,
            _painter(measure, one.clean if by_loss else None, number_format, ends),
            difference=False,
        )
        for one in grid.columns
    ]
    maps += [draw(one, paint_change, difference=True) for one in grid.differences]
    context = {"maps": maps, "words": _describe_heat(grid, by_loss=by_loss), "scales": scales}
    return Section("heat", "Corruption × severity", "Heat map", "heat.html.j2", context)


def _make_figure_scale(
    grid: Grid, ends: tuple[float, float], *, by_loss: bool
) -> tuple[list[tuple[str, str]], str]:
    """Return the steps of the scale of figures, from better to worse."""
    low, top = ends

    def label(step: int) -> str:
        if by_loss:
            return f"{10 * step}"
        up = step if grid.lower_is_better else 10 - step
        return grid.number_format.tick(low + (top - low) * up / 10)

    steps = [
        (f"s{colors.find_sequential_level(step / 10)}", label(step)) for step in range(0, 11, 2)
    ]
    lost = f"% of the clean {grid.measure} lost"
    return (
        steps,
        f"{lost if by_loss else grid.number_format.before + grid.measure}, better to worse",
    )


def _describe_heat(grid: Grid, *, by_loss: bool) -> list[str]:
    said = [
        f"{wording.capitalize(grid.measure)}{grid.number_format.phrase} for each corruption and severity. "
        "The last column is the mean over the severities. The figure next to the name of a group is the "
        "mean over the group."
    ]
    if not grid.lower_is_better:
        said.append(
            f"The color shows the share of the model's own clean {grid.measure} that is lost."
            if by_loss
            else "Darker is lower."
        )
    if grid.shown.changes:
        signs = ("a minus sign", "a plus sign")
        better, worse = signs if grid.lower_is_better else signs[::-1]
        beyond = f", and bold means that the {grid.level} interval excludes 0" if grid.level else ""
        said.append(
            f"In differences, blue and {better} mean better, orange and {worse} worse{beyond}."
        )
    return said


def _painter(
    measure: Measure, clean: Interval | None, number_format: NumberFormat, ends: tuple[float, float]
) -> figures.Paint:
    """Color a cell by its figure on a scale with ``ends``, or by its loss from the clean figure."""
    low, top = ends

    def paint(figure: Interval, title: str) -> dict[str, str]:
        lost = (figure.value - low) / (top - low)
        said = f"{title}: {number_format.with_span(figure)}"
        if not measure.lower_is_better:
            lost = 1 - (lost if clean is None else figure.value / clean.value)
            said = f"{title}: {measure.name} {number_format.with_span(figure)}"
        if clean is not None and title != "Clean":
            said += (
                f", {wording.share(abs(lost))} of the clean one {'lost' if lost >= 0 else 'more'}"
            )
        return {
            "text": number_format.figure(figure.value),
            "style": f"s{colors.find_sequential_level(lost)}",
            "title": said,
        }

    return paint


def build_curves_section(grid: Grid) -> Section:
    """Build the curves over the severities, and a collapsed table of all cells."""
    titles, rows = _list_cells(grid)
    return Section(
        "curves",
        "How fast it breaks",
        "Curves",
        "curves.html.j2",
        {
            "groups": figures.make_curve_groups(
                grid.shown.runs,
                [entry.series for entry in grid.shown.entries],
                grid.columns,
                clean=grid.clean,
                number_format=grid.number_format,
            ),
            "legend": figures.make_legend(grid.shown.entries, spell=grid.spell),
            "level": grid.level,
            "measure": grid.measure,
            "title": wording.capitalize(grid.measure),
            "better": "Lower" if grid.lower_is_better else "Higher",
            "clean": grid.clean,
            "columns": [
                {"title": title, "number": place > 1, "ends": title == "Interval"}
                for place, title in enumerate(titles)
            ],
            "rows": rows,
        },
    )


def _list_cells(grid: Grid) -> tuple[list[str], list[list[str]]]:
    """Return the headings and rows for all cells of all models and differences."""
    shown = grid.shown
    scores = shown.first.scores
    counted = any(cell.images is not None for one in shown.entries for cell in one.scored.cells)
    further = scores.measures[1:]
    extra = tables.number_names([run.scores for run in shown.runs])
    titles = [
        "Model", "Corruption", "Severity", *(["Images"] if counted else []),
        wording.capitalize(grid.measure), "Interval",
        *(wording.capitalize(measure.title) for measure in further), *extra,
    ]  # fmt: skip
    rows = []
    marked: list[Entry | Change] = [*shown.entries, *shown.changes]
    for one in marked:
        signed = one.scored.against is not None
        number_format = words.number_format(one.run.scores)
        spell = number_format.change if signed else number_format.figure
        for corruption, severity, found in one.run.scores.list_cell_figures(one.scored):
            figure = found.figures.get(grid.measure)
            if figure is None and corruption == "clean":
                continue
            rows.append(
                [
                    one.label,
                    wording.corruption_title(corruption),
                    str(severity or wording.NONE),
                    *([wording.count(found.images)] if counted else []),
                    spell(wording.get_value(figure)),
                    (number_format.change_span if signed else number_format.span)(figure),
                    *(
                        _spell_further(each, found.figures.get(each.name), signed=signed)
                        for each in further
                    ),
                    # Numbers that are no measures have the unit of the first measure.
                    *(spell(found.numbers.get(name)) for name in extra),
                ]
            )
    return titles, rows


def _spell_further(measure: Measure, figure: Interval | None, *, signed: bool) -> str:
    """Format a figure of a further measure; differences of losses have no plus sign."""
    number_format = find_number_format(measure.unit)
    plain = not signed or measure.unit == "nats"
    return (number_format.figure if plain else number_format.change)(wording.get_value(figure))
