"""The pictures of the page of segmenters: images that lose most, with truth and answers painted."""

from __future__ import annotations

from collections.abc import Mapping

from shiftproof.report import wording
from shiftproof.report.gallery import Pictures
from shiftproof.report.grid.entries import PageContent
from shiftproof.report.sections import Section, name_runs
from shiftproof.report.svg import shapes
from shiftproof.report.svg.markup import Html, element
from shiftproof.runs.scores.segmentation import Example, Gallery, Sheet

PICTURE_SIZES = ((320, 82), (288, 80), (256, 78), (224, 76), (192, 72), (160, 70))
"""Long side and JPEG quality of the pictures, best first."""


def build_gallery_section(shown: PageContent, pictures: Pictures) -> Section | None:
    """Build the images that lose most; None where the runs have none."""
    found = shown.find_pictured(Gallery, "sheets")
    if found is None or not pictures.sheets:
        return None
    run, kept = found
    sheets = kept.sheets[: pictures.sheets]
    colors = {one.name: one.color for one in kept.colors}
    labels = {entry.scored.name: entry.label for entry in shown.of_run(run)}
    return Section(
        "gallery",
        "Images with the largest loss",
        "Pictures",
        "segmentation_gallery.html.j2",
        {
            "cases": [_make_case(sheet, pictures, labels, colors) for sheet in sheets],
            "model": next(iter(labels.values())),
            "legend": [{"swatch": swatch(one.color), "name": one.name} for one in kept.colors],
            "left_out": pictures.left_out,
            "unreadable": len(pictures.unreadable),
            "run_name": None
            if len(shown.runs) == 1
            else name_runs(shown.runs)[list(shown.runs).index(run)],
        },
    )


def _make_case(
    sheet: Sheet,
    pictures: Pictures,
    labels: Mapping[str, str],
    colors: Mapping[str, tuple[int, int, int]],
) -> dict[str, object]:
    cell = wording.title_cell(sheet.cell)

    def shot(key: str, title: str, note: str = "", style: str = "") -> dict[str, object]:
        file = sheet.files.get(key)
        uri = None if file is None else pictures.uri(file)
        alt = f"{sheet.id}: {title} {note}".rstrip()
        return {"uri": uri, "alt": alt, "title": title, "note": note, "style": style}

    shots = [shot("clean", "Clean")]
    # Of label maps that were made elsewhere, the corrupted photograph is not known.
    shots += [shot("corrupted", cell)] if "corrupted" in sheet.files else []
    shots += [shot("truth", "Truth")]
    for place, (model, answers) in enumerate(sheet.answers.items()):
        title = labels.get(model, model) if len(sheet.answers) > 1 else "Answer"
        for which, told in zip(("clean", "corrupted"), answers, strict=False):
            seen = which if "corrupted" in sheet.files else wording.title_cell(told.cell).lower()
            note = f"{seen}, mIoU {wording.share(told.iou)}"
            # The answers of the second model stand below those of the first.
            style = "below" if place and which == "clean" else ""
            shots.append(shot(f"{model} {which}", title, note, style))
    return {
        "id": sheet.id,
        "lost": wording.share(sheet.lost).replace(wording.PERCENT, " points"),
        "shots": shots,
        "classes": [
            {"swatch": swatch(colors[name]), "name": name}
            for name in sheet.classes
            if name in colors
        ],
    }


def build_examples_section(shown: PageContent, pictures: Pictures) -> Section | None:
    """Build two images in a cell of every corruption, with all answers; None where the runs have none."""
    found = shown.find_pictured(Gallery, "examples")
    if found is None:
        return None
    run, kept = found
    examples = [one for one in kept.examples if pictures.uri(one.truth) is not None]
    if not examples:
        return None
    labels = {entry.scored.name: entry.label for entry in shown.of_run(run)}
    adapted = [labels.get(name, name) for name in kept.examples[0].answers if run.adapter(name)]
    return Section(
        "examples",
        "The same images under every corruption",
        "Examples",
        "segmentation_examples.html.j2",
        {
            "examples": [_lay_out_example(one, pictures, labels) for one in examples],
            "adapted": wording.join_list(adapted),
            "legend": [{"swatch": swatch(one.color), "name": one.name} for one in kept.colors],
        },
    )


def _lay_out_example(
    example: Example, pictures: Pictures, labels: Mapping[str, str]
) -> dict[str, object]:
    cells = list(dict.fromkeys(cell for found in example.answers.values() for cell in found))
    rows = []
    for cell in cells:
        title = wording.title_cell(cell)
        photo = example.photos.get(cell)
        shots = (
            []
            if photo is None
            else [_make_shot(pictures, photo, "image", f"{example.id}: {title}")]
        )
        for model, found in example.answers.items():
            told, label = found[cell], labels.get(model, model)
            note = "" if told.iou is None else f"mIoU {wording.share(told.iou)}"
            alt = f"{example.id}: {title}, {label} {note}".rstrip()
            shots.append(_make_shot(pictures, told.file, label, alt, note))
        rows.append({"title": title, "shots": shots})
    truth = _make_shot(pictures, example.truth, "truth", f"{example.id}: truth")
    rows[0]["shots"] = [truth, *rows[0]["shots"]]
    return {"id": example.id, "rows": rows}


def _make_shot(
    pictures: Pictures, file: str, title: str, alt: str, note: str = ""
) -> dict[str, object]:
    return {"uri": pictures.uri(file), "alt": alt, "title": title, "note": note}


def swatch(color: tuple[int, int, int]) -> Html:
    """Return a small square of a class's color; its name has to stand beside it."""
    fill = f"rgb({color[0]},{color[1]},{color[2]})"
    square = element("rect", {"x": 0, "y": 0, "width": 10, "height": 10, "rx": 2, "fill": fill})
    return shapes.sample("dot", 10, 10, square)
