"""The page of runs of detectors: what it says and shows, before any markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from shiftproof.report import (
    colours,
    detection_pictures,
    detection_tables,
    detection_wording,
    figures,
    grid_figures,
    grid_sections,
    happenings,
    numbers,
    overview,
    provenance,
    wording,
)
from shiftproof.report.detection_scores import (
    SIZES,
    ClassScore,
    DetectorRun,
    Fall,
    Scored,
    Scores,
)
from shiftproof.report.gallery import Pictures
from shiftproof.report.grid_figures import Column
from shiftproof.report.grid_sections import Grid
from shiftproof.report.reading import Interval, clean_text
from shiftproof.report.run_folder import every_cell
from shiftproof.report.sections import (
    Change,
    Document,
    Entry,
    Section,
    changes,
    entries,
    run_names,
)
from shiftproof.types import Settings

DetectorEntry: TypeAlias = Entry[DetectorRun, Scored]
DetectorChange: TypeAlias = Change[DetectorRun, Scored]

MOST_CLASSES = 25
"""So many classes are listed openly, the others to be unfolded."""

MOST_LISTED = 1500
"""A longer list would make a page that no browser likes; the run's files have the rest."""

BROKEN = (
    "An image that cannot be read in one cell is left out of all of them, and of every model alike, so "
    "that all cells are over the same images."
)


def document(runs: Sequence[DetectorRun], pictures: Pictures) -> Document:
    """Build the page of one run, or of several side by side.

    ``pictures`` are those of the first run that has any.
    """
    first = runs[0].scores
    shown = entries(runs, lambda run: run.scores.models, _adapter)
    changed = changes(runs, shown, lambda run: run.scores.differences)
    grid = _grid(runs, shown, changed)
    sections = [
        _overview(runs, shown, changed),
        grid_sections.bars_section(grid),
        _heat(grid),
        _curves(grid, shown, changed),
        _sizes(shown, first),
        _classes(shown, first),
        detection_pictures.gallery_section(runs, shown, pictures),
        detection_pictures.worst_section(runs, shown, pictures),
        happenings.happenings_section(shown),
        provenance.broken_section(runs, BROKEN),
        numbers.numbers_section(
            runs,
            lambda run: detection_tables.summary(run.scores),
            lambda run: detection_tables.cells_csv(run.scores),
            unit="fractions",
        ),
        provenance.settings_section(runs),
        Section(
            "reading",
            "How to read this",
            "How to read",
            "detection_reading.html.j2",
            {
                "measure": first.measure,
                "measure_title": first.measure_title,
                "level": detection_wording.level(first),
                "interval": first.interval,
                "sizes": any(entry.scored.sizes for entry in shown),
                "pictures": bool(pictures.uris),
                "few": wording.FEW_IMAGES,
            },
        ),
    ]
    return Document(
        title=_title(runs, shown),
        kicker=provenance.kicker(runs),
        byline=[
            provenance.byline(run, name, _counts(run.scores))
            for run, name in zip(runs, run_names(runs), strict=True)
        ],
        lead=_lead(runs, shown, changed),
        sections=[section for section in sections if section is not None],
        alarms=_differing(runs),
        warnings=_warnings(runs, shown),
    )


def _title(runs: Sequence[DetectorRun], shown: Sequence[DetectorEntry]) -> str:
    titles = list(dict.fromkeys(_short_title(entry) for entry in shown))
    named = wording.listing(titles) if len(titles) <= 3 else f"{len(shown)} detectors"
    return f"{named} {provenance.under_corruption(runs)}"


def _short_title(entry: DetectorEntry) -> str:
    return detection_wording.short_title(entry.scored.title or entry.label)


def _counts(scores: Scores) -> list[str]:
    return [
        *([] if scores.used is None else [wording.plural(scores.used, "image")]),
        *([] if scores.objects is None else [wording.plural(scores.objects, "object")]),
    ]


def _adapter(run: DetectorRun, model: Scored) -> Settings | None:
    """The settings of an adapted detector; those of a plain one are no adapter's."""
    found = provenance.look_up(run.settings, "models", model.name)
    if not isinstance(found, Mapping) or not isinstance(found.get("detector"), Mapping):
        return None
    return {key: value for key, value in found.items() if key != "fingerprint"}


# ---------------------------------------------------------------- what must be said first


def _differing(runs: Sequence[DetectorRun]) -> list[str]:
    # The protocol moves no figure of a detector that does not adapt.
    adapted = any(_adapter(run, model) for run in runs for model in run.scores.models)
    return provenance.differing(
        runs,
        {
            "measure": lambda run: run.settings.get("measure"),
            **(
                {
                    "protocol": lambda run: run.settings.get("protocol"),
                    "batch size": lambda run: run.settings.get("batch_size"),
                }
                if adapted
                else {}
            ),
        },
    )


def _warnings(runs: Sequence[DetectorRun], shown: Sequence[DetectorEntry]) -> list[str]:
    found = _classes_missing(shown)
    for run, name in zip(runs, run_names(runs), strict=True):
        scores = run.scores
        where = "" if len(runs) == 1 else f"{name}: "
        if scores.missing:
            cells = [wording.cell_title(cell) for cell in scores.missing]
            listed = cells[:8] + ([f"{len(cells) - 8} more"] if len(cells) > 8 else [])
            found.append(
                f"{where}{wording.plural(len(cells), 'cell')} of the grid "
                f"{'is' if len(cells) == 1 else 'are'} missing: {wording.listing(listed)}. They count "
                "as nothing, not as 0, so no mPC is claimed."
            )
        if not scores.resampled:
            found.append(
                f"{where}These figures have no intervals: they come from a table of results, and there "
                "are no images to resample. A small difference may be chance."
            )
        found += [f"{where}{line}" for line in run.faults]
        found += provenance.doubts(scores, where)
    return found


def _classes_missing(shown: Sequence[DetectorEntry]) -> list[str]:
    """Say which classes detectors have not, once for all that lack the same."""
    by_gap: dict[tuple[str, ...], list[DetectorEntry]] = {}
    for entry in shown:
        missing = provenance.look_up(entry.run.settings, "classes", entry.scored.name, "missing")
        if isinstance(missing, list) and missing:
            by_gap.setdefault(tuple(clean_text(str(name)) for name in missing), []).append(entry)
    return [
        detection_wording.classes_missing(
            wording.listing([entry.label for entry in lacking]),
            gap,
            lacking[0].scored,
            lacking[0].run.scores,
        )
        for gap, lacking in by_gap.items()
    ]


# ---------------------------------------------------------------- overview


def _lead(
    runs: Sequence[DetectorRun], shown: Sequence[DetectorEntry], changes: Sequence[DetectorChange]
) -> list[str]:
    alone = len(runs) == 1 and len(shown) == 1
    compared = {id(change.entry) for change in changes}
    return overview.lead(
        [entry for entry in shown if id(entry) not in compared],
        changes,
        lambda entry: detection_wording.headline(
            entry.run.scores, entry.scored, _short_title(entry) if alone else entry.label
        ),
        lambda change: detection_wording.finding(
            change.run.scores, change.scored, change.entry.label
        ),
    )


def _overview(
    runs: Sequence[DetectorRun], shown: Sequence[DetectorEntry], changes: Sequence[DetectorChange]
) -> Section:
    first = runs[0].scores
    whole = all(run.scores.complete for run in runs)
    cards = [
        card
        for card in (
            _card(shown, "clean", f"Clean {first.measure}", "P on the images as they are"),
            _card(shown, "mpc", "mPC", f"mean {first.measure} over the 15 × 5 corruptions")
            if whole
            else _card(
                shown, "mean", f"{first.measure} under corruption", "mean over what was run, no mPC"
            ),
            _card(shown, "rpc", "rPC", "mPC as a share of the clean P")
            if whole
            else _card(
                shown, "relative", "Share that is kept", "of the clean P, over what was run"
            ),
        )
        if card is not None
    ]
    reach = overview.reach_of(change.scored.summary.mean for change in changes)
    adapted = any(entry.adapter for entry in shown)
    return Section(
        "overview",
        "At a glance",
        "Overview",
        "overview.html.j2",
        {
            "cards": cards,
            "changes": [_change_card(change, reach) for change in changes],
            "reasons": overview.reasons(runs, lambda run: run.scores.mpc_reason),
            "claim": "mPC",
            "lower": False,
            "alike": not _differing(runs),
            "protocols": provenance.protocols(runs) if adapted else [],
            "level": detection_wording.level(first),
            "several": len(runs) > 1,
            "measure": first.measure,
        },
    )


def _card(
    shown: Sequence[DetectorEntry], name: str, title: str, note: str
) -> dict[str, object] | None:
    found = [(entry, interval) for entry in shown if (interval := _summary(entry.scored, name))]
    if not found:
        return None
    top = figures.nice_top(max(interval.high for _, interval in found))
    return overview.card(found, title, note, lower=False, top=top)


def _summary(scored: Scored, name: str) -> Interval | None:
    found: Interval | None = getattr(scored.summary, name)
    return found


def _change_card(change: DetectorChange, reach: float) -> dict[str, object]:
    scores = change.run.scores
    worse = [pair for pair in change.scored.corruptions.items() if pair[1].value < 0]
    return overview.change_card(
        change,
        change.scored.summary.mean,
        sorted(worse, key=lambda pair: pair[1].value),
        reach=reach,
        lower_is_better=False,
        verdict=detection_wording.verdict(
            scores, change.scored, change.entry.label, change.against.label
        ),
        clean=detection_wording.clean_verdict(scores, change.scored),
        tally=detection_wording.tally(change.scored),
    )


# ---------------------------------------------------------------- over the grid


def _column(run: DetectorRun, label: str, scored: Scored) -> Column:
    return Column(
        run,
        label,
        clean=scored.clean.p or scored.summary.clean,
        cells={cell: found.p for cell, found in scored.cells.items() if found.p is not None},
        corruptions=scored.corruptions,
        mean=scored.summary.mean,
        groups=scored.groups,
    )


def _columns(marked: Sequence[DetectorEntry | DetectorChange]) -> list[Column]:
    return [_column(one.run, one.label, one.scored) for one in marked]


def _grid(
    runs: Sequence[DetectorRun],
    shown: Sequence[DetectorEntry],
    changes: Sequence[DetectorChange],
) -> Grid:
    columns = _columns(shown)
    return Grid(
        runs,
        shown,
        changes,
        columns,
        _columns(changes),
        measure=runs[0].scores.measure,
        level=detection_wording.level(runs[0].scores),
        clean=any(column.clean for column in columns),
        lower_is_better=False,
        spell=detection_wording.short_title,
    )


def _heat(grid: Grid) -> Section:
    measure = grid.measure
    reach = grid_figures.reach_of(grid.differences)
    by_loss = all(column.clean is not None and column.clean.value > 0 for column in grid.columns)

    def paint_change(interval: Interval, title: str) -> dict[str, str]:
        return grid_figures.painted_difference(interval, title, reach, lower_is_better=False)

    steps = [
        (f"s{colours.sequential_level(step / 10)}", f"{10 * step if by_loss else 100 - 10 * step}")
        for step in range(0, 11, 2)
    ]
    scales = [
        (
            steps,
            f"% of the clean {measure} lost, better to worse"
            if by_loss
            else f"% {measure}, better to worse",
        )
    ]
    words = [
        f"{measure} in percent for each corruption and severity; the last column is the mean over the "
        "severities, and beside the name of a group stands the mean over the group.",
        f"The colour says which share of the model's own clean {measure} is lost."
        if by_loss
        else "The darker, the less.",
    ]
    if grid.changes:
        scales.append(grid_figures.difference_scale(reach, lower_is_better=False))
        words.append(
            "In a difference, blue and a plus sign mean better, orange and a minus sign worse"
            + (
                f", and bold means that the {grid.level} interval leaves out 0."
                if grid.level
                else "."
            )
        )
    maps = [
        *(
            grid_figures.heat_map(
                column,
                _painter(column.clean if by_loss else None, measure),
                difference=False,
                clean=column.clean is not None,
            )
            for column in grid.columns
        ),
        *(
            grid_figures.heat_map(
                column, paint_change, difference=True, clean=column.clean is not None
            )
            for column in grid.differences
        ),
    ]
    return grid_sections.heat_section(maps, words, scales)


def _painter(clean: Interval | None, measure: str) -> grid_figures.Paint:
    """Colour a cell by the share of the clean figure that is lost, else by what is missing to 1."""

    def paint(interval: Interval, title: str) -> dict[str, str]:
        lost = 1 - interval.value / (1.0 if clean is None else clean.value)
        words = f"{title}: {measure} {wording.share_span(interval)}"
        if clean is not None and title != "Clean":
            words += (
                f", {wording.share(abs(lost))} of the clean one {'lost' if lost >= 0 else 'more'}"
            )
        return {
            "text": wording.percent(interval.value),
            "style": f"s{colours.sequential_level(lost)}",
            "title": words,
        }

    return paint


def _curves(
    grid: Grid, shown: Sequence[DetectorEntry], changes: Sequence[DetectorChange]
) -> Section:
    numbers_too = detection_tables.number_names([entry.run.scores for entry in shown])
    marked: list[DetectorEntry | DetectorChange] = [*shown, *changes]
    rows = [
        row
        for one in marked
        for row in _cell_rows(one.label, one.run.scores, one.scored, numbers_too)
    ]
    titles = ["Model", "Corruption", "Severity", grid.measure, "Interval", *numbers_too]
    return grid_sections.curves_section(grid, titles, rows)


def _cell_rows(
    label: str, scores: Scores, scored: Scored, numbers: Sequence[str]
) -> list[list[str]]:
    """Return every cell with every number that there is."""
    signed = scored.against is not None
    spell = wording.points if signed else wording.percent
    ends = wording.points_span if signed else wording.span
    return [
        [
            label,
            wording.corruption_title(corruption),
            str(severity or wording.NONE),
            spell(wording.value_of(found.p)),
            ends(found.p),
            *(spell(found.numbers.get(name)) for name in numbers),
        ]
        for corruption, severity, found in every_cell(
            scores.corruptions, scored.clean, scored.cells
        )
        if found.p is not None
    ]


# ---------------------------------------------------------------- by size and by class


def _sizes(shown: Sequence[DetectorEntry], scores: Scores) -> Section | None:
    names = [name for name in SIZES if any(name in entry.scored.sizes for entry in shown)]
    if not names:
        return None
    nothing = Fall(None, None)
    rows = [
        (
            wording.capital(SIZES[name]),
            None,
            [entry.scored.sizes.get(name, nothing) for entry in shown],
        )
        for name in names
    ]
    return Section(
        "sizes",
        "Small objects and large ones",
        "Sizes",
        "falls.html.j2",
        {
            "words": f"{scores.measure} by the size of the objects, on clean images and as the mean "
            f"{detection_wording.over(scores)}. Small is an area up to "
            f"32{_BY}32 pixels of the image, "
            f"large one beyond 96{_BY}96. These figures have no intervals.",
            "first": "Objects",
            "counted": False,
            **_falls(shown, rows),
            "folded": [],
        },
    )


def _classes(shown: Sequence[DetectorEntry], scores: Scores) -> Section | None:
    listed = next((entry for entry in shown if entry.scored.classes), None)
    if listed is None:
        return None
    nothing = Fall(None, None)
    by_name = [{one.name: one.p for one in entry.scored.classes} for entry in shown]
    order = sorted(
        listed.scored.classes,
        key=lambda one: (one.p.lost is None, -(one.p.lost or 0.0), one.index or 0),
    )[:MOST_LISTED]
    rows = [
        (
            one.name,
            "" if one.objects is None else f"{one.objects:,}",
            [falls.get(one.name, nothing) for falls in by_name],
        )
        for one in order
    ]
    counted = any(one.objects is not None for one in order)
    open_rows, folded = rows[:MOST_CLASSES], rows[MOST_CLASSES:]
    return Section(
        "classes",
        "Class by class",
        "Classes",
        "falls.html.j2",
        {
            "words": _class_words(scores, order, listed.label if len(shown) > 1 else None),
            "first": "Class",
            "counted": counted,
            **_falls(shown, open_rows),
            "folded": _falls(shown, folded)["rows"],
        },
    )


def _class_words(scores: Scores, order: Sequence[ClassScore], model: str | None) -> str:
    """Say what the classes are ordered by, and how little stands behind some; None is the only model."""
    few = sum(one.objects is not None and one.objects < _FEW_OBJECTS for one in order)
    doubt = (
        f", and {few} of the {len(order)} classes {'has' if few == 1 else 'have'} fewer than "
        f"{_FEW_OBJECTS} objects: there a single one moves the figure by points."
    )
    return (
        f"{scores.measure} of each class that has objects here, on clean images and as the mean "
        f"{detection_wording.over(scores)}, the largest loss{f' of {model}' if model else ''} first. "
        f"These figures have no intervals{doubt if few else '.'}"
    )


_FEW_OBJECTS = 20

_BY = "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}"

FallRow: TypeAlias = tuple[str, str | None, Sequence[Fall]]


def _falls(shown: Sequence[DetectorEntry], rows: Sequence[FallRow]) -> dict[str, object]:
    return {
        "entries": [{"label": entry.label, "dot": figures.dot(entry.look)} for entry in shown],
        "axis": figures.axis(1.0),
        "rows": [
            {
                "title": title,
                "count": count,
                "chart": figures.falls(
                    [
                        (entry.look, fall.clean, fall.mean)
                        for entry, fall in zip(shown, found, strict=True)
                    ],
                    title=title,
                    top=1.0,
                ),
                "falls": [
                    {
                        "clean": wording.percent(fall.clean),
                        "mean": wording.percent(fall.mean),
                        "change": wording.points(None if fall.lost is None else -fall.lost),
                    }
                    for fall in found
                ],
            }
            for title, count, found in rows
        ],
    }
