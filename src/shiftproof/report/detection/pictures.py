"""Images on the page of detectors: the boxes to draw, and the counts."""

from __future__ import annotations

from collections.abc import Sequence

from shiftproof.report import wording
from shiftproof.report.gallery import Pictures
from shiftproof.report.grid.entries import Entry, PageContent
from shiftproof.report.grid.sections import describe_gallery, list_dots, order_cells
from shiftproof.report.sections import Section
from shiftproof.report.svg import boxes
from shiftproof.runs.run import Run
from shiftproof.runs.scores.detection import (
    Gallery,
    GalleryPicture,
    GroundTruthBox,
    PredictedBox,
    Sheet,
)
from shiftproof.types import CLEAN, Cell

PICTURE_SIZES = ((384, 80), (320, 78), (288, 76), (256, 74), (224, 72), (192, 70), (160, 68))
"""Long side and JPEG quality of the pictures, best first: boxes want more room than a class name."""

MAX_DRAWN = 6
"""So many models can be chosen in the pictures."""

FEWEST_BOXES, ALL_BOXES = 5, 4000
"""Of each kind so many boxes at least are drawn in a picture, and about so many in all of a page's."""

_KINDS = (
    (boxes.KEPT, "a box on an object"),
    (boxes.LOST, "an object that is found only on the clean image"),
    (boxes.EXTRA, "a box on no object of its class"),
    (boxes.MISSED, "an object that is not found on either image"),
)


def build_gallery_section(shown: PageContent, pictures: Pictures) -> Section | None:
    """Build the photographs in every cell, with boxes; None where the runs have none."""
    found = shown.find_pictured(Gallery, "sheets")
    if found is None:
        return None
    run, kept = found
    own = shown.of_run(run)[:MAX_DRAWN]
    sheets = [sheet for sheet in kept.sheets[: pictures.sheets] if sheet.files]
    count = sum(len(sheet.files) for sheet in sheets) * len(own)
    limit = max(FEWEST_BOXES, min(boxes.MAX_BOXES, ALL_BOXES // max(count, 1)))
    return Section(
        "gallery",
        "What it finds, and what it loses",
        "Pictures",
        "detection_gallery.html.j2",
        {
            "sheets": [_make_sheet(run, own, sheet, pictures, limit) for sheet in sheets],
            "entries": list_dots(own),
            "more": max(0, len(run.scores.models) - MAX_DRAWN),
            "kinds": _make_legend(),
            "rule": _make_rule(kept, own, limit),
            **describe_gallery(shown, run, len(kept.sheets), pictures),
        },
    )


def _make_legend() -> list[dict[str, object]]:
    return [
        {"sample": boxes.draw_sample(kind), "sign": boxes.SIGNS.get(kind, ""), "words": words}
        for kind, words in _KINDS
    ]


def _make_rule(kept: Gallery, shown: Sequence[Entry], limit: int) -> str:
    """Say which boxes are drawn, and when a box is on an object."""
    thresholds = [
        f"{100 * kept.thresholds[entry.scored.name]:.0f}"
        + (f" ({entry.label})" if len(shown) > 1 else "")
        for entry in shown
        if entry.scored.name in kept.thresholds
    ]
    overlap = kept.overlap
    return (
        (
            f"Only boxes with a score of at least {wording.join_list(thresholds)} are drawn. This "
            "threshold balances right and wrong boxes best on the clean images. AP counts boxes below "
            "it too. "
            if thresholds
            else ""
        )
        + "A box is on an object if it has the same class"
        + ("" if overlap is None else f", they overlap by {100 * overlap:.0f} % or more,")
        + " and no box with a higher score is on this object. Objects that do not count (difficult "
        "ones and crowds) are not drawn; a box on one is a thin line. "
        + f"At most {limit} boxes of each kind are drawn, those with the highest scores. The counts "
        "include all boxes."
    )


def _make_sheet(
    run: Run,
    shown: Sequence[Entry],
    sheet: Sheet,
    pictures: Pictures,
    limit: int,
) -> dict[str, object]:
    return {
        "id": sheet.id,
        "clean": _make_picture(sheet, CLEAN, shown, pictures, limit),
        "thumbs": [
            _make_picture(sheet, cell, shown, pictures, limit)
            for cell in order_cells(run.scores)
            if str(cell) in sheet.files
        ],
        "things": _list_things(sheet.things),
    }


def _make_picture(
    sheet: Sheet,
    cell: Cell,
    shown: Sequence[Entry],
    pictures: Pictures,
    limit: int,
) -> dict[str, object]:
    name = str(cell)
    file = sheet.files.get(name)
    drawn = []
    for number, entry in enumerate(shown):
        found = sheet.found.get(entry.scored.name, {})
        if name not in found:
            continue
        clean = None if cell.is_clean else found.get(str(CLEAN))
        style = f"w{number}" if len(shown) > 1 else ""
        drawn.append(
            _draw(
                sheet.size,
                sheet.things,
                found[name],
                clean,
                style=style,
                is_clean=cell.is_clean,
                limit=limit,
            )
        )
    return {
        "uri": None if file is None else pictures.uri(file),
        "alt": f"{sheet.id}: {wording.title_cell(name)}",
        "corruption": wording.corruption_title(cell.corruption),
        "severity": cell.severity,
        "drawn": drawn,
    }


def _draw(
    size: tuple[int, int],
    objects: Sequence[GroundTruthBox],
    predictions: Sequence[PredictedBox],
    clean_predictions: Sequence[PredictedBox] | None,
    *,
    style: str = "",
    is_clean: bool,
    limit: int = boxes.MAX_BOXES,
) -> dict[str, object]:
    marks = boxes.list_marks(objects, predictions, clean_predictions)
    return {
        "svg": boxes.draw_boxes(size, marks, style=style, limit=limit),
        "style": style,
        "is_clean": is_clean,
        "kept": boxes.count_marks(marks, boxes.KEPT),
        "lost": boxes.count_marks(marks, boxes.LOST),
        "extra": boxes.count_marks(marks, boxes.EXTRA),
        "missed": boxes.count_marks(marks, boxes.MISSED),
    }


def _list_things(things: Sequence[GroundTruthBox]) -> str:
    """Return ``2 persons``-like counts of the objects that count: ``person × 2, dog``."""
    names = [thing.name for thing in things if thing.counts]
    counts = {name: names.count(name) for name in names}
    return ", ".join(name if count == 1 else f"{name} × {count}" for name, count in counts.items())


def build_worst_section(shown: PageContent, pictures: Pictures) -> Section | None:
    """Build the images with the largest losses, clean and corrupted; None without any."""
    found = shown.find_pictured(Gallery, "worst")
    if found is None or not pictures.uris:
        return None
    run, kept = found
    model = shown.of_run(run)[0].label
    return Section(
        "worst",
        "Photographs with the largest loss",
        "Worst cases",
        "detection_worst.html.j2",
        {
            "model": model,
            "kinds": _make_legend(),
            "cases": [
                {
                    "id": case.id,
                    "lost": wording.share(case.lost),
                    "clean_found": wording.pluralize(case.clean_found, "object"),
                    "pictures": [
                        _show(case.size, case.things, case.clean, None, pictures, case.id),
                        _show(
                            case.size,
                            case.things,
                            case.corrupted,
                            case.clean.found,
                            pictures,
                            case.id,
                        ),
                    ],
                }
                for case in kept.worst
            ],
        },
    )


def _show(
    size: tuple[int, int],
    things: Sequence[GroundTruthBox],
    shown: GalleryPicture,
    clean: Sequence[PredictedBox] | None,
    pictures: Pictures,
    name: str,
) -> dict[str, object]:
    title = wording.title_cell(shown.cell)
    return {
        "uri": pictures.uri(shown.file),
        "alt": f"{name}: {title}",
        "title": title,
        "drawn": [_draw(size, things, shown.found, clean, is_clean=clean is None)],
    }
