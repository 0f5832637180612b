"""The page of classification runs: what it says and shows, before any markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from shiftproof.report import (
    classification_tables,
    colours,
    estimation,
    figures,
    grid_figures,
    grid_sections,
    happenings,
    numbers,
    overview,
    provenance,
    wording,
)
from shiftproof.report.gallery import Pictures
from shiftproof.report.grid_figures import Column
from shiftproof.report.grid_sections import Grid
from shiftproof.report.reading import Interval
from shiftproof.report.run_folder import every_cell
from shiftproof.report.scores import (
    ClassifierRun,
    ClassScore,
    Prediction,
    Scored,
    Scores,
    Sheet,
    Shown,
    Summary,
)
from shiftproof.report.sections import (
    AnyRun,
    Change,
    Document,
    Entry,
    Section,
    changes,
    entries,
    run_names,
)
from shiftproof.types import CLEAN, Cell, Settings

if TYPE_CHECKING:
    from shiftproof.bench.estimates import StreamEstimate

ClassifierEntry: TypeAlias = Entry[ClassifierRun, Scored]
ClassifierChange: TypeAlias = Change[ClassifierRun, Scored]

MOST = 10
"""How many classes a list of the worst holds."""

BROKEN = (
    "A file that cannot be read is left out of the cells in which it could not, and of every model "
    "alike: each cell says over how many images its figures are."
)

MOST_CLASSES = 1000
"""A longer list would make a page that no browser likes; the run's files have the rest."""


def document(
    runs: Sequence[ClassifierRun], pictures: Pictures, stream: StreamEstimate | None = None
) -> Document:
    """Build the page of one run, or of several side by side.

    ``pictures`` are those of the first run that has any; ``stream`` is what is believed of the
    errors of a run without labels.
    """
    first = runs[0].scores
    shown = entries(runs, lambda run: run.scores.models, _adapter)
    changed = changes(runs, shown, lambda run: run.scores.differences)
    grid = _grid(runs, shown, changed)
    plain = _unadapted(shown, changed)
    titles = list(dict.fromkeys(entry.scored.title or entry.label for entry in plain))
    named = wording.listing(titles) if len(titles) <= 3 else f"{len(titles)} models"
    sections = [
        None if stream is None else estimation.belief_section(stream, shown),
        _overview(runs, shown, changed),
        grid_sections.bars_section(grid),
        _heat(grid, shown, changed),
        _curves(grid, shown, changed),
        estimation.known_section(shown),
        _gallery(runs, shown, pictures),
        _sufferers(shown, changed, pictures, runs),
        happenings.happenings_section(shown),
        provenance.broken_section(runs, BROKEN),
        numbers.numbers_section(
            runs,
            lambda run: classification_tables.summary(run.scores),
            lambda run: classification_tables.cells_csv(run.scores),
            unit="fractions and nats",
        ),
        provenance.settings_section(runs),
        Section(
            "reading",
            "How to read this",
            "How to read",
            "reading.html.j2",
            {
                "labelled": first.labelled,
                "level": wording.level(first),
                "interval": first.interval,
                "few": wording.FEW_IMAGES,
            },
        ),
    ]
    return Document(
        title=f"{named} {provenance.under_corruption(runs)}",
        kicker=provenance.kicker(runs),
        byline=[
            provenance.byline(run, name, [wording.plural(run.scores.used, "image")])
            for run, name in zip(runs, run_names(runs), strict=True)
        ],
        lead=[
            *([] if stream is None else estimation.belief_lead(stream, shown)),
            *_lead(runs, shown, changed),
        ],
        sections=[section for section in sections if section is not None],
        alarms=_differing(runs),
        warnings=_warnings(runs, believed=stream is not None),
    )


def _adapter(run: ClassifierRun, model: Scored) -> Settings | None:
    if model.adapter is not None:
        return model.adapter
    adapters = run.settings.get("adapters")
    found = adapters.get(model.name) if isinstance(adapters, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else None


def _unadapted(
    shown: Sequence[ClassifierEntry], changes: Sequence[ClassifierChange]
) -> list[ClassifierEntry]:
    adapted = {id(change.entry) for change in changes}
    return [entry for entry in shown if id(entry) not in adapted] or list(shown[:1])


# ---------------------------------------------------------------- comparing runs


def _differing(runs: Sequence[ClassifierRun]) -> list[str]:
    return provenance.differing(
        runs,
        {
            "protocol": lambda run: run.settings.get("protocol"),
            "batch size of the adapters": lambda run: _batch_size(run, runs),
        },
    )


def _batch_size(run: AnyRun, runs: Sequence[ClassifierRun]) -> object:
    """The batch size where it moves a figure; a run without adapters is like any other there."""
    adapted = [one for one in runs if one.settings.get("adapters")]
    asked = run if run.settings.get("adapters") else (adapted or runs)[0]
    return provenance.look_up(asked.settings, "batch_size")


def _warnings(runs: Sequence[ClassifierRun], *, believed: bool) -> list[str]:
    found = []
    for run, name in zip(runs, run_names(runs), strict=True):
        scores = run.scores
        where = "" if len(runs) == 1 else f"{name}: "
        if not scores.labelled:
            found.append(
                f"{where}These images have no labels. "
                + (
                    f"Outside “{estimation.BELIEF}” every percentage "
                    if believed
                    else "Every percentage "
                )
                + "is the share of images "
                "whose prediction differs from the same model's prediction for the clean image. "
                "There is no clean error, no mCE and no calibration error, and a model that is "
                "wrong from the start can look steady here."
            )
        found += [f"{where}{note}." for note in classification_tables.unanswered_notes(scores)]
        found += provenance.doubts(scores, where)
    return found


# ---------------------------------------------------------------- overview


def _lead(
    runs: Sequence[ClassifierRun],
    shown: Sequence[ClassifierEntry],
    changes: Sequence[ClassifierChange],
) -> list[str]:
    return overview.lead(
        _unadapted(shown, changes),
        changes,
        lambda entry: wording.headline(entry.run.scores, entry.scored, _subject(runs, entry)),
        lambda change: wording.finding(change.run.scores, change.scored, change.entry.label),
    )


def _subject(runs: Sequence[ClassifierRun], entry: ClassifierEntry) -> str:
    if len(runs) == 1 and len(runs[0].scores.models) <= 1 + len(runs[0].scores.differences):
        return entry.scored.title or entry.label
    return entry.label


_CARDS: tuple[tuple[str, str, str, bool], ...] = (
    # field of Summary, title, what it is, whether lower is better
    ("clean_error", "Clean error", "images as they are", True),
    ("mean_error", "Error under corruption", "mean over the grid", True),
    ("mce", "mCE", "against AlexNet", True),
    ("rpc", "rPC", "accuracy that is kept", False),
    (
        "calibration_error",
        "Calibration error",
        "confidence against truth",
        True,
    ),
)


def _overview(
    runs: Sequence[ClassifierRun],
    shown: Sequence[ClassifierEntry],
    changes: Sequence[ClassifierChange],
) -> Section:
    labelled = runs[0].scores.labelled
    cards = []
    for name, title, note, lower in _CARDS:
        found = [
            (entry, interval)
            for entry in shown
            if (interval := _summary(entry.scored.summary, name)) is not None
        ]
        if not found:
            continue
        highest = max(interval.high for _, interval in found)
        top = figures.nice_top(highest) if highest <= 1 else highest
        if not labelled and name == "mean_error":
            title = "Disagreement under corruption"
        cards.append(overview.card(found, title, note, lower=lower, top=top))
    reach = overview.reach_of(change.scored.summary.mean_error for change in changes)
    return Section(
        "overview",
        "At a glance",
        "Overview",
        "overview.html.j2",
        {
            "cards": cards,
            "changes": [_change_card(change, reach) for change in changes],
            "reasons": overview.reasons(runs, lambda run: run.scores.mce_reason)
            if labelled
            else [],
            "claim": "mCE",
            "lower": True,
            "alike": not _differing(runs),
            "protocols": provenance.protocols(runs),
            "level": wording.level(runs[0].scores),
            "several": len(runs) > 1,
            "measure": wording.measure_name(runs[0].scores),
        },
    )


def _summary(summary: Summary, name: str) -> Interval | None:
    found: Interval | None = getattr(summary, name)
    return found


def _change_card(change: ClassifierChange, reach: float) -> dict[str, object]:
    scores = change.run.scores
    worse = [
        (score.corruption, score.error)
        for score in change.scored.corruptions
        if score.error is not None and score.error.value > 0
    ]
    return overview.change_card(
        change,
        change.scored.summary.mean_error,
        sorted(worse, key=lambda pair: -pair[1].value),
        reach=reach,
        lower_is_better=True,
        verdict=wording.verdict(scores, change.scored, change.entry.label, change.against.label),
        clean=wording.clean_verdict(scores, change.scored),
        tally=wording.tally(change.scored),
    )


# ---------------------------------------------------------------- over the grid


def _column(run: ClassifierRun, label: str, scored: Scored) -> Column:
    return Column(
        run,
        label,
        clean=scored.clean.error,
        cells={cell: i for cell, found in scored.cells.items() if (i := found.error) is not None},
        corruptions={
            score.corruption: score.error for score in scored.corruptions if score.error is not None
        },
        mean=scored.summary.mean_error,
    )


def _columns(marked: Sequence[ClassifierEntry | ClassifierChange]) -> list[Column]:
    return [_column(one.run, one.label, one.scored) for one in marked]


def _grid(
    runs: Sequence[ClassifierRun],
    shown: Sequence[ClassifierEntry],
    changes: Sequence[ClassifierChange],
) -> Grid:
    return Grid(
        runs,
        shown,
        changes,
        _columns(shown),
        _columns(changes),
        measure=wording.measure_name(runs[0].scores),
        level=wording.level(runs[0].scores),
        clean=runs[0].scores.labelled,
        lower_is_better=True,
    )


def _heat(
    grid: Grid, shown: Sequence[ClassifierEntry], changes: Sequence[ClassifierChange]
) -> Section:
    measure = grid.measure
    reach = grid_figures.reach_of(grid.differences)

    def paint_change(interval: Interval, title: str) -> dict[str, str]:
        return grid_figures.painted_difference(interval, title, reach, lower_is_better=True)

    steps = [
        (f"s{colours.sequential_level(step / 10)}", f"{10 * step}") for step in range(0, 11, 2)
    ]
    scales = [(steps, f"% {measure}, better to worse")]
    words = [
        f"{wording.capital(measure)} in percent for each corruption and severity; the last column "
        "is the mean over the severities."
    ]
    if changes:
        scales.append(grid_figures.difference_scale(reach, lower_is_better=True))
        words.append(
            "In a difference, blue and a minus sign mean better, orange and a plus sign worse, and "
            f"bold means that the {grid.level} interval leaves out 0."
        )
    maps = [
        *(
            grid_figures.heat_map(column, _paint, difference=False, clean=entry.run.scores.labelled)
            for entry, column in zip(shown, grid.columns, strict=True)
        ),
        *(
            grid_figures.heat_map(
                column, paint_change, difference=True, clean=change.run.scores.labelled
            )
            for change, column in zip(changes, grid.differences, strict=True)
        ),
    ]
    return grid_sections.heat_section(maps, words, scales)


def _paint(interval: Interval, title: str) -> dict[str, str]:
    return {
        "text": wording.percent(interval.value),
        "style": f"s{colours.sequential_level(interval.value)}",
        "title": f"{title}: {wording.share_span(interval)}",
    }


# ---------------------------------------------------------------- severity curves


def _curves(
    grid: Grid, shown: Sequence[ClassifierEntry], changes: Sequence[ClassifierChange]
) -> Section:
    return grid_sections.curves_section(
        grid,
        _cell_titles(shown[0].run.scores),
        _cell_rows(shown, changes, labelled=grid.clean),
    )


def _cell_titles(scores: Scores) -> list[str]:
    measured = wording.capital(wording.measure_name(scores))
    first = ["Model", "Corruption", "Severity", "Images", measured, "Interval"]
    return [*first, "Top-5", "Calibration", "Loss"] if scores.labelled else first


def _cell_rows(
    shown: Sequence[ClassifierEntry], changes: Sequence[ClassifierChange], *, labelled: bool
) -> list[list[str]]:
    """Return every cell with every figure: the numbers behind curves and heat maps."""
    marked: list[ClassifierEntry | ClassifierChange] = [*shown, *changes]
    rows: list[list[str]] = []
    for one in marked:
        scored = one.scored
        signed = scored.against is not None
        spell = wording.points if signed else wording.percent
        ends = wording.points_span if signed else wording.span
        for corruption, severity, found in every_cell(
            one.run.scores.corruptions, scored.clean, scored.cells
        ):
            row = [
                one.label,
                wording.corruption_title(corruption),
                str(severity or wording.NONE),
                wording.NONE if found.images is None else f"{found.images:,}",
                spell(wording.value_of(found.error)),
                ends(found.error),
            ]
            if labelled:
                row += [
                    spell(wording.value_of(found.top5_error)),
                    spell(wording.value_of(found.calibration_error)),
                    wording.loss(wording.value_of(found.loss)),
                ]
            rows.append(row)
    return rows


# ---------------------------------------------------------------- gallery


def _gallery(
    runs: Sequence[ClassifierRun], shown: Sequence[ClassifierEntry], pictures: Pictures
) -> Section | None:
    run = next((run for run in runs if run.gallery.sheets), None)
    if run is None:
        return None
    severities = run.scores.severities
    chosen = severities[len(severities) // 2] if severities else 0
    own = [entry for entry in shown if entry.run is run]
    return Section(
        "gallery",
        "The same photograph, again and again",
        "Gallery",
        "gallery.html.j2",
        {
            "sheets": [
                _sheet(run, own, sheet, pictures) for sheet in run.gallery.sheets[: pictures.sheets]
            ],
            "severities": severities,
            "chosen": chosen,
            "labelled": run.scores.labelled,
            "entries": [{"label": entry.label, "dot": figures.dot(entry.look)} for entry in own],
            "left_out": pictures.left_out,
            "total": len(run.gallery.sheets),
            "unreadable": len(pictures.unreadable),
            "run_name": None if len(runs) == 1 else run_names(runs)[list(runs).index(run)],
        },
    )


def _sheet(
    run: ClassifierRun, shown: Sequence[ClassifierEntry], sheet: Sheet, pictures: Pictures
) -> dict[str, object]:
    thumbs = []
    order = [
        Cell(name, severity)
        for names in run.scores.groups().values()
        for name in names
        for severity in run.scores.severities
    ]
    for cell in [cell for cell in order if str(cell) in sheet.files]:
        name = str(cell)
        thumbs.append(
            {
                "corruption": wording.corruption_title(cell.corruption),
                "severity": cell.severity,
                "uri": pictures.uri(sheet.files[name]),
                "alt": f"{sheet.label or sheet.id}: {wording.cell_title(name)}",
                "said": _said(shown, sheet, name),
            }
        )
    clean = sheet.files.get(str(CLEAN))
    return {
        "id": sheet.id,
        "label": sheet.label,
        "uri": None if clean is None else pictures.uri(clean),
        "said": _said(shown, sheet, str(CLEAN)),
        "thumbs": thumbs,
        "tally": [_tally(entry, sheet) for entry in shown],
    }


def _tally(entry: ClassifierEntry, sheet: Sheet) -> dict[str, object]:
    """Count in how many corrupted cells a model is right about a photograph."""
    verdicts = [
        _right(sheet, entry.scored.name, cell)
        for cell, prediction in sheet.predictions.get(entry.scored.name, {}).items()
        if cell != str(CLEAN) and prediction.name is not None
    ]
    return {
        "dot": figures.dot(entry.look),
        "label": entry.label,
        "right": sum(verdict is True for verdict in verdicts),
        "cells": len(verdicts),
    }


def _right(sheet: Sheet, model: str, cell: str) -> bool | None:
    """Whether a prediction is right; without a label, whether it is still the clean one."""
    said = sheet.predictions.get(model, {})
    prediction, clean = said.get(cell), said.get(str(CLEAN))
    if prediction is None or prediction.name is None:
        return None
    if prediction.correct is not None:
        return prediction.correct
    return None if clean is None else prediction.name == clean.name


def _said(shown: Sequence[ClassifierEntry], sheet: Sheet, cell: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for entry in shown:
        prediction = sheet.predictions.get(entry.scored.name, {}).get(cell)
        if prediction is None or prediction.name is None:
            continue
        found.append(
            {
                "dot": figures.dot(entry.look),
                "model": entry.label,
                "name": prediction.name,
                "confidence": _confidence(prediction),
                **_mark(
                    _right(sheet, entry.scored.name, cell), labelled=prediction.correct is not None
                ),
            }
        )
    return found


def _mark(right: bool | None, *, labelled: bool) -> dict[str, str]:
    """Return a sign, its words and its style: never colour alone."""
    if right is None:
        return {"sign": "?", "words": "not judged", "style": "unknown"}
    if labelled:
        return (
            {"sign": "✓", "words": "right", "style": "right"}
            if right
            else {"sign": "✗", "words": "wrong", "style": "wrong"}
        )
    return (
        {"sign": "=", "words": "as on the clean image", "style": "right"}
        if right
        else {"sign": "≠", "words": "changed", "style": "wrong"}
    )


def _confidence(prediction: Prediction) -> str:
    return "" if prediction.confidence is None else f"{100 * prediction.confidence:.0f} %"


# ---------------------------------------------------------------- classes and images that suffer


def _sufferers(
    shown: Sequence[ClassifierEntry],
    changes: Sequence[ClassifierChange],
    pictures: Pictures,
    runs: Sequence[ClassifierRun],
) -> Section | None:
    lists = []
    for run in runs:
        base = next((entry for entry in shown if entry.run is run), None)
        if base is None or not base.scored.classes:
            continue
        own = [entry for entry in shown if entry.run is run]
        lists.append(
            {
                "model": base.label,
                "entries": own,
                "rows": [
                    _class_row(own, score)
                    for score in sorted(
                        base.scored.classes, key=lambda score: (-score.error, -score.images)
                    )[:MOST]
                ],
                "total": len(base.scored.classes),
                "all": [
                    _class_row(own, score)
                    for score in sorted(base.scored.classes, key=lambda score: -score.error)[
                        :MOST_CLASSES
                    ]
                ],
                "images": max((score.images for score in base.scored.classes), default=0),
            }
        )
    moved = [_moved(change) for change in changes]
    moved = [pair for pair in moved if pair["helped"] or pair["hurt"]]
    pictured = next((run for run in runs if run.gallery.worst), None)
    worst = [
        {
            "id": case.id,
            "label": case.label,
            "errors": case.errors,
            "cells": case.cells,
            "clean": _picture(case.clean, pictures),
            "corrupted": _picture(case.corrupted, pictures),
        }
        for case in (pictured.gallery.worst if pictured else ())
    ]
    losers = [] if pictured is None else _losing_sheets(pictured, changes)
    if not (lists or moved or worst):
        return None
    return Section(
        "sufferers",
        "Who suffers most",
        "Worst cases",
        "sufferers.html.j2",
        {
            "lists": lists,
            "moved": moved,
            "worst": worst,
            "worst_model": next((entry.label for entry in shown if entry.run is pictured), ""),
            "losers": losers,
            "labelled": runs[0].scores.labelled,
            "measure": wording.measure_name(runs[0].scores),
            "most": MOST,
            "most_classes": MOST_CLASSES,
        },
    )


def _class_row(shown: Sequence[ClassifierEntry], score: ClassScore) -> dict[str, object]:
    return {
        "name": score.name,
        "images": f"{score.images:,}",
        "clean": wording.percent(score.clean_error),
        "errors": [
            {
                "text": wording.percent(found.error),
                "style": f"s{colours.sequential_level(found.error)}",
            }
            if (found := _class_of(entry.scored, score)) is not None
            else {"text": wording.NONE, "style": "none"}
            for entry in shown
        ],
    }


def _class_of(scored: Scored, like: ClassScore) -> ClassScore | None:
    by_key = {(score.index, score.name): score for score in scored.classes}
    return by_key.get((like.index, like.name))


def _moved(change: ClassifierChange) -> dict[str, Any]:
    """Return the classes that a change helps most and hurts most, side by side."""
    before = {(score.index, score.name): score for score in change.against.scored.classes}
    moves = [
        (
            score.error - before[score.index, score.name].error,
            score,
            before[score.index, score.name],
        )
        for score in change.entry.scored.classes
        if (score.index, score.name) in before
    ]

    def listed(found: list[tuple[float, ClassScore, ClassScore]]) -> list[dict[str, str]]:
        return [
            {
                "name": after.name,
                "images": f"{after.images:,}",
                "before": wording.percent(earlier.error),
                "after": wording.percent(after.error),
                "change": wording.points(move),
            }
            for move, after, earlier in found[:MOST]
        ]

    helped = sorted((move for move in moves if move[0] < 0), key=lambda move: move[0])
    hurt = sorted((move for move in moves if move[0] > 0), key=lambda move: -move[0])
    return {
        "label": change.entry.label,
        "against": change.against.label,
        "helped": listed(helped),
        "hurt": listed(hurt),
        "helped_count": len(helped),
        "hurt_count": len(hurt),
        "same_count": len(moves) - len(helped) - len(hurt),
    }


def _picture(shown: Shown | None, pictures: Pictures) -> dict[str, object] | None:
    if shown is None:
        return None
    return {
        "uri": pictures.uri(shown.file),
        "cell": wording.cell_title(shown.cell),
        "mark": None
        if shown.prediction.correct is None
        else _mark(shown.prediction.correct, labelled=True),
        "name": shown.prediction.name or "",
        "confidence": _confidence(shown.prediction),
    }


def _losing_sheets(
    run: ClassifierRun, changes: Sequence[ClassifierChange]
) -> list[dict[str, object]]:
    """Return the photographs of the gallery that a change makes worse."""
    found: list[dict[str, object]] = []
    for change in changes:
        if change.run is not run:
            continue
        for sheet in run.gallery.sheets:
            before, after = (_tally(entry, sheet) for entry in (change.against, change.entry))
            if before["cells"] == after["cells"] and str(after["right"]) != str(before["right"]):
                lost = int(str(before["right"])) - int(str(after["right"]))
                if lost > 0:
                    found.append(
                        {
                            "id": sheet.id,
                            "label": sheet.label,
                            "model": change.entry.label,
                            "against": change.against.label,
                            "before": before["right"],
                            "after": after["right"],
                            "cells": after["cells"],
                        }
                    )
    return found
