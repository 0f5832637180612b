"""The page of runs of detectors: what it says and shows, before any markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from shiftproof.report import (
    colours,
    detection_pictures,
    detection_tables,
    detection_wording,
    figures,
    grid_figures,
    happenings,
    provenance,
    table_writing,
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
from shiftproof.report.reading import Interval, clean_text
from shiftproof.report.sections import Document, Entry, Section, entries, run_names
from shiftproof.types import Settings

DetectorEntry: TypeAlias = Entry[DetectorRun, Scored]

MOST_CLASSES = 25
"""So many classes are listed openly, the others to be unfolded."""

MOST_LISTED = 1500
"""A longer list would make a page that no browser likes; the run's files have the rest."""

BROKEN = (
    "An image that cannot be read in one cell is left out of all of them, and of every model alike, so "
    "that all cells are over the same images."
)


@dataclass(frozen=True)
class Change:
    """A paired difference on the page: a model, what it is held against, and the figures."""

    run: DetectorRun
    entry: DetectorEntry
    against: DetectorEntry
    scored: Scored

    @property
    def label(self) -> str:
        """The name of the difference."""
        return f"{self.entry.label} {wording.MINUS} {self.against.scored.name}"


def document(runs: Sequence[DetectorRun], pictures: Pictures) -> Document:
    """Build the page of one run, or of several side by side.

    ``pictures`` are those of the first run that has any.
    """
    first = runs[0].scores
    shown = entries(runs, lambda run: run.scores.models, _adapter)
    changes = _changes(runs, shown)
    sections = [
        _overview(runs, shown, changes),
        _by_corruption(runs, shown, changes),
        _heat(runs, shown, changes),
        _curves(runs, shown, changes),
        _sizes(shown, first),
        _classes(shown, first),
        detection_pictures.gallery_section(runs, shown, pictures),
        detection_pictures.worst_section(runs, shown, pictures),
        happenings.happenings_section(shown),
        provenance.broken_section(runs, BROKEN),
        _numbers(runs),
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
        kicker="Robustness report" if len(runs) == 1 else f"Comparison of {len(runs)} runs",
        byline=[
            provenance.byline(run, name, _counts(run.scores))
            for run, name in zip(runs, run_names(runs), strict=True)
        ],
        lead=_lead(runs, shown, changes),
        sections=[section for section in sections if section is not None],
        alarms=_differing(runs),
        warnings=_warnings(runs, shown),
    )


def _title(runs: Sequence[DetectorRun], shown: Sequence[DetectorEntry]) -> str:
    first = runs[0].scores
    over = (
        wording.plural(len(first.corruptions), "corruption")
        if all(run.scores.corruptions == first.corruptions for run in runs)
        else "corruption"
    )
    titles = list(dict.fromkeys(_short_title(entry) for entry in shown))
    if len(titles) <= 3:
        return f"{wording.listing(titles)} under {over}"
    return f"{len(shown)} detectors under {over}"


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


def _changes(runs: Sequence[DetectorRun], shown: Sequence[DetectorEntry]) -> list[Change]:
    by_name = {(id(entry.run), entry.scored.name): entry for entry in shown}
    return [
        Change(
            run,
            by_name[id(run), difference.name],
            by_name[id(run), str(difference.against)],
            difference,
        )
        for run in runs
        for difference in run.scores.differences
    ]


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
        if scores.used is not None and scores.used < wording.FEW_IMAGES:
            found.append(
                f"{where}Only {wording.plural(scores.used, 'image')}: the intervals are wide, "
                "and what looks like a large difference may be chance. Read the intervals, not "
                "the figures."
            )
        if scores.broken:
            found.append(
                f"{where}{wording.plural(len(scores.broken), 'image')} "
                + (f"of {scores.total:,} " if scores.total is not None else "")
                + "could not be read everywhere. What was not read counts nowhere, and is listed below."
            )
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
    runs: Sequence[DetectorRun], shown: Sequence[DetectorEntry], changes: Sequence[Change]
) -> list[str]:
    """Return the sentences under the title."""
    compared = {id(change.entry) for change in changes}
    found = []
    for entry in [entry for entry in shown if id(entry) not in compared][:4]:
        alone = len(runs) == 1 and len(shown) == 1
        subject = _short_title(entry) if alone else entry.label
        sentences = [detection_wording.headline(entry.run.scores, entry.scored, subject)]
        sentences += [
            detection_wording.finding(change.run.scores, change.scored, change.entry.label)
            for change in changes
            if change.against is entry
        ]
        found.append(" ".join(sentences))
    return found


def _overview(
    runs: Sequence[DetectorRun], shown: Sequence[DetectorEntry], changes: Sequence[Change]
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
    reaches = [
        abs(end)
        for change in changes
        if (interval := change.scored.summary.mean) is not None
        for end in (interval.low, interval.high)
    ]
    reach = figures.nice_reach(max(reaches, default=0.0))
    adapted = any(entry.adapter for entry in shown)
    return Section(
        "overview",
        "At a glance",
        "Overview",
        "overview.html.j2",
        {
            "cards": cards,
            "changes": [_change_card(change, reach) for change in changes],
            "reasons": _reasons(runs),
            "claim": "mPC",
            "lower": False,
            "alike": not _differing(runs),
            "protocols": [
                {"words": words, "runs": wording.listing(names) if len(runs) > 1 else ""}
                for words, names in (provenance.protocols(runs) if adapted else [])
            ],
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
    return {
        "title": title,
        "note": note,
        "lower": False,
        "rows": [
            {
                "look": entry.look,
                "dot": figures.dot(entry.look),
                "value": wording.percent(interval.value),
                "span": wording.span(interval),
                "strip": figures.strip(entry.look, interval, top=top),
            }
            for entry, interval in found
        ],
    }


def _summary(scored: Scored, name: str) -> Interval | None:
    found: Interval | None = getattr(scored.summary, name)
    return found


def _reasons(runs: Sequence[DetectorRun]) -> list[str]:
    """Say why there is no mPC, once for each reason."""
    found: dict[str, list[str]] = {}
    for run, name in zip(runs, run_names(runs), strict=True):
        if run.scores.mpc_reason is not None:
            found.setdefault(run.scores.mpc_reason, []).append(name)
    if len(runs) == 1:
        return list(found)
    return [f"for {wording.listing(names)}, {reason}" for reason, names in found.items()]


def _change_card(change: Change, reach: float) -> dict[str, object]:
    scores = change.run.scores
    interval = change.scored.summary.mean
    words = detection_wording.verdict(
        scores, change.scored, change.entry.label, change.against.label
    )
    state = "flat"
    if interval is not None and not interval.spans_zero:
        state = "better" if interval.value > 0 else "worse"
    worse = sorted(change.scored.corruptions.items(), key=lambda item: item[1].value)
    return {
        "label": change.entry.label,
        "against": change.against.label,
        "title": f"What {change.entry.label} changes",
        "value": wording.points(wording.value_of(interval)),
        "span": wording.points_span(interval),
        "state": state,
        "settings": wording.adapter_words(change.entry.adapter),
        "axis": None
        if interval is None
        else figures.difference_axis(interval, reach=reach, title=words, lower_is_better=False),
        "verdict": words,
        "clean": detection_wording.clean_verdict(scores, change.scored),
        "tally": detection_wording.tally(change.scored),
        "hurt": [
            {
                "name": wording.corruption_title(name),
                "value": wording.points(found.value),
                "span": wording.points_span(found),
                "sure": not found.spans_zero,
            }
            for name, found in worse
            if found.value < 0
        ],
    }


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


def _columns(shown: Sequence[DetectorEntry]) -> list[Column]:
    return [_column(entry.run, entry.label, entry.scored) for entry in shown]


def _changed(changes: Sequence[Change]) -> list[Column]:
    return [_column(change.run, change.label, change.scored) for change in changes]


def _by_corruption(
    runs: Sequence[DetectorRun], shown: Sequence[DetectorEntry], changes: Sequence[Change]
) -> Section:
    columns = _columns(shown)
    measure = runs[0].scores.measure
    return Section(
        "corruptions",
        "Corruption by corruption",
        "Corruptions",
        "corruptions.html.j2",
        {
            **grid_figures.bars(
                [entry.look for entry in shown],
                columns,
                _changed(changes),
                clean=any(column.clean for column in columns),
            ),
            "legend": grid_figures.legend(shown, spell=detection_wording.short_title),
            "entries": shown,
            "changes": changes,
            "measure": measure,
            "title": measure,
            "better": "Longer",
            "severities": grid_figures.severities_phrase(runs),
            "level": detection_wording.level(runs[0].scores),
        },
    )


def _heat(
    runs: Sequence[DetectorRun], shown: Sequence[DetectorEntry], changes: Sequence[Change]
) -> Section:
    measure = runs[0].scores.measure
    columns, differences = _columns(shown), _changed(changes)
    reach = grid_figures.reach_of(differences)
    by_loss = all(column.clean is not None and column.clean.value > 0 for column in columns)

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
    if changes:
        level = detection_wording.level(runs[0].scores)
        scales.append(grid_figures.difference_scale(reach, lower_is_better=False))
        words.append(
            "In a difference, blue and a plus sign mean better, orange and a minus sign worse"
            + (f", and bold means that the {level} interval leaves out 0." if level else ".")
        )
    return Section(
        "heat",
        "Corruption × severity",
        "Heat map",
        "heat.html.j2",
        {
            "maps": [
                *(
                    grid_figures.heat_map(
                        column,
                        _painter(column.clean if by_loss else None, measure),
                        difference=False,
                        clean=column.clean is not None,
                    )
                    for column in columns
                ),
                *(
                    grid_figures.heat_map(
                        column, paint_change, difference=True, clean=column.clean is not None
                    )
                    for column in differences
                ),
            ],
            "words": words,
            "scales": scales,
        },
    )


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
    runs: Sequence[DetectorRun], shown: Sequence[DetectorEntry], changes: Sequence[Change]
) -> Section:
    columns = _columns(shown)
    measure = runs[0].scores.measure
    clean = any(column.clean for column in columns)
    numbers = detection_tables.number_names([run.scores for run in runs])
    return Section(
        "curves",
        "How fast it breaks",
        "Curves",
        "curves.html.j2",
        {
            "groups": grid_figures.curve_groups(
                runs, [entry.look for entry in shown], columns, clean=clean
            ),
            "legend": grid_figures.legend(shown, spell=detection_wording.short_title),
            "level": detection_wording.level(runs[0].scores),
            "measure": measure,
            "title": measure,
            "better": "Higher",
            "clean": clean,
            "columns": [
                {"title": title, "number": place > 1, "ends": title == "Interval"}
                for place, title in enumerate(
                    ["Model", "Corruption", "Severity", measure, "Interval", *numbers]
                )
            ],
            "rows": [
                row
                for label, run, scored in (
                    *((entry.label, entry.run, entry.scored) for entry in shown),
                    *((change.label, change.run, change.scored) for change in changes),
                )
                for row in _cell_rows(label, run.scores, scored, numbers)
            ],
        },
    )


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
        for corruption, severity, found in detection_tables.every_cell(scores, scored)
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


# ---------------------------------------------------------------- the rest


def _numbers(runs: Sequence[DetectorRun]) -> Section:
    return Section(
        "numbers",
        "The table, to copy",
        "CSV and LaTeX",
        "numbers.html.j2",
        {
            "runs": [
                {
                    "name": name if len(runs) > 1 else None,
                    "csv": table_writing.as_csv(table),
                    "latex": table_writing.as_latex(table),
                    "cells": detection_tables.cells_csv(run.scores),
                    "unit": "fractions",
                }
                for run, name in zip(runs, run_names(runs), strict=True)
                for table in [detection_tables.summary(run.scores)]
            ]
        },
    )
