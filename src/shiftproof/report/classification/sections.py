"""Sections specific to classifiers: the gallery, and the classes and images with most errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from shiftproof.report import wording
from shiftproof.report.classification.wording import has_labels
from shiftproof.report.gallery import Pictures
from shiftproof.report.grid.entries import Change, Entry, PageContent
from shiftproof.report.grid.sections import describe_gallery, list_dots, order_cells
from shiftproof.report.sections import Section
from shiftproof.report.svg import charts, colors
from shiftproof.runs.run import Run
from shiftproof.runs.scores.classification import (
    ClassErrors,
    Detail,
    Gallery,
    GalleryPicture,
    Prediction,
    Sheet,
)
from shiftproof.types import CLEAN

MOST = 10
"""Number of classes in a list of the worst."""

MAX_CLASSES = 1000
"""Limit of a list, for the sake of browsers; the run's files have the rest."""

# ---------------------------------------------------------------- gallery


def build_gallery_section(shown: PageContent, pictures: Pictures) -> Section | None:
    """Build the gallery of photographs with predictions in every cell; None without photographs."""
    found = shown.find_pictured(Gallery, "sheets")
    if found is None:
        return None
    run, kept = found
    own = shown.of_run(run)
    return Section(
        "gallery",
        "The same photographs in every cell",
        "Gallery",
        "gallery.html.j2",
        {
            "sheets": [
                _make_sheet(run, own, sheet, pictures) for sheet in kept.sheets[: pictures.sheets]
            ],
            "labeled": has_labels(run.scores),
            "entries": list_dots(own),
            **describe_gallery(shown, run, len(kept.sheets), pictures),
        },
    )


def _make_sheet(
    run: Run, shown: Sequence[Entry], sheet: Sheet, pictures: Pictures
) -> dict[str, object]:
    thumbs = []
    for cell in [cell for cell in order_cells(run.scores) if str(cell) in sheet.files]:
        name = str(cell)
        thumbs.append(
            {
                "corruption": wording.corruption_title(cell.corruption),
                "severity": cell.severity,
                "uri": pictures.uri(sheet.files[name]),
                "alt": f"{sheet.label or sheet.id}: {wording.title_cell(name)}",
                "said": _list_said(shown, sheet, name),
            }
        )
    clean = sheet.files.get(str(CLEAN))
    return {
        "id": sheet.id,
        "label": sheet.label,
        "uri": None if clean is None else pictures.uri(clean),
        "said": _list_said(shown, sheet, str(CLEAN)),
        "thumbs": thumbs,
        "tally": [_tally(entry, sheet) for entry in shown],
    }


def _tally(entry: Entry, sheet: Sheet) -> dict[str, object]:
    """Count the corrupted cells in which a model is correct on a photograph."""
    verdicts = [
        _right(sheet, entry.scored.name, cell)
        for cell, prediction in sheet.predictions.get(entry.scored.name, {}).items()
        if cell != str(CLEAN) and prediction.name is not None
    ]
    return {
        "dot": charts.draw_dot(entry.series),
        "label": entry.label,
        "right": sum(verdict is True for verdict in verdicts),
        "cells": len(verdicts),
    }


def _right(sheet: Sheet, model: str, cell: str) -> bool | None:
    """Return whether a prediction is correct, or without a label equal to the clean one."""
    said = sheet.predictions.get(model, {})
    prediction, clean = said.get(cell), said.get(str(CLEAN))
    if prediction is None or prediction.name is None:
        return None
    if prediction.correct is not None:
        return prediction.correct
    return None if clean is None else prediction.name == clean.name


def _list_said(shown: Sequence[Entry], sheet: Sheet, cell: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for entry in shown:
        prediction = sheet.predictions.get(entry.scored.name, {}).get(cell)
        if prediction is None or prediction.name is None:
            continue
        found.append(
            {
                "dot": charts.draw_dot(entry.series),
                "model": entry.label,
                "name": prediction.name,
                "confidence": _confidence(prediction),
                **_mark(
                    _right(sheet, entry.scored.name, cell), labeled=prediction.correct is not None
                ),
            }
        )
    return found


def _mark(right: bool | None, *, labeled: bool) -> dict[str, str]:
    """Return a sign, its text and its style: never color alone."""
    if right is None:
        return {"sign": "?", "words": "not judged", "style": "unknown"}
    if labeled:
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


# ---------------------------------------------------------------- classes and images with most
# errors


def build_worst_section(shown: PageContent, pictures: Pictures) -> Section | None:
    """Build the classes and images with most errors; None without data."""
    runs, changes = shown.runs, shown.changes
    lists = [found for run in runs if (found := _list_classes(shown.of_run(run))) is not None]
    moved = [_compare_classes(change) for change in changes]
    moved = [pair for pair in moved if pair["helped"] or pair["hurt"]]
    pictured, kept = shown.find_pictured(Gallery, "worst") or (None, Gallery())
    worst = [
        {
            "id": case.id,
            "label": case.label,
            "errors": case.errors,
            "cells": case.cells,
            "clean": _make_picture(case.clean, pictures),
            "corrupted": _make_picture(case.corrupted, pictures),
        }
        for case in kept.worst
    ]
    if not (lists or moved or worst):
        return None
    of_pictures = (entry.label for entry in shown.entries if entry.run is pictured)
    return Section(
        "worst",
        "Who suffers most",
        "Worst cases",
        "worst.html.j2",
        {
            "lists": lists,
            "moved": moved,
            "worst": worst,
            "worst_model": next(of_pictures, ""),
            "losers": [] if pictured is None else _losing_sheets(pictured, changes),
            "labeled": has_labels(runs[0].scores),
            "measure": shown.measure,
            "most": MOST,
            "most_classes": MAX_CLASSES,
        },
    )


def _list_classes(shown: Sequence[Entry]) -> dict[str, object] | None:
    """Return the classes of a run by their errors; None where its first model has none."""
    classes = shown[0].detail(Detail).classes
    if not classes:
        return None
    few = sorted(classes, key=lambda score: (-score.error, -score.images))[:MOST]
    every = sorted(classes, key=lambda score: -score.error)[:MAX_CLASSES]
    return {
        "model": shown[0].label,
        "entries": shown,
        "rows": [_make_class_row(shown, score) for score in few],
        "total": len(classes),
        "all": [_make_class_row(shown, score) for score in every],
        "images": max(score.images for score in classes),
    }


def _make_class_row(shown: Sequence[Entry], score: ClassErrors) -> dict[str, object]:
    return {
        "name": score.name,
        "images": f"{score.images:,}",
        "clean": wording.percent(score.clean_error),
        "errors": [
            {
                "text": wording.percent(found.error),
                "style": f"s{colors.find_sequential_level(found.error)}",
            }
            if (found := _class_of(entry, score)) is not None
            else {"text": wording.NONE, "style": "none"}
            for entry in shown
        ],
    }


def _class_of(entry: Entry, like: ClassErrors) -> ClassErrors | None:
    """Return the errors of a class in another model, whose run may list it at another index."""
    return _find_class(_index_classes(entry), like)


def _index_classes(entry: Entry) -> dict[tuple[str, int | None], ClassErrors]:
    """Return errors by the name of the class; of those with one name, by their index, too."""
    classes = entry.detail(Detail).classes
    counts = Counter(score.name for score in classes)
    return {
        (score.name, None if counts[score.name] == 1 else score.index): score for score in classes
    }


def _find_class(
    by_name: Mapping[tuple[str, int | None], ClassErrors], like: ClassErrors
) -> ClassErrors | None:
    return by_name.get((like.name, None)) or by_name.get((like.name, like.index))


def _compare_classes(change: Change) -> dict[str, Any]:
    """Return the classes with the largest gains and losses by a change."""
    by_name = _index_classes(change.against)
    moves = [
        (score.error - earlier.error, score, earlier)
        for score in change.entry.detail(Detail).classes
        if (earlier := _find_class(by_name, score)) is not None
    ]

    def list_moves(found: list[tuple[float, ClassErrors, ClassErrors]]) -> list[dict[str, str]]:
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
        "helped": list_moves(helped),
        "hurt": list_moves(hurt),
        "helped_count": len(helped),
        "hurt_count": len(hurt),
        "same_count": len(moves) - len(helped) - len(hurt),
    }


def _make_picture(shown: GalleryPicture | None, pictures: Pictures) -> dict[str, object] | None:
    if shown is None:
        return None
    return {
        "uri": pictures.uri(shown.file),
        "cell": wording.title_cell(shown.cell),
        "mark": None
        if shown.prediction.correct is None
        else _mark(shown.prediction.correct, labeled=True),
        "name": shown.prediction.name or "",
        "confidence": _confidence(shown.prediction),
    }


def _losing_sheets(run: Run, changes: Sequence[Change]) -> list[dict[str, object]]:
    """Return the photographs of the gallery that a change makes worse."""
    found: list[dict[str, object]] = []
    for change in changes:
        if change.run is not run:
            continue
        for sheet in run.gallery(Gallery).sheets:
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
