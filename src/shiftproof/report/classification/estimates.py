"""Sections on label-free error estimates: their accuracy, and estimates for a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from shiftproof.counts import pluralize
from shiftproof.metrics.intervals import Interval
from shiftproof.report import wording
from shiftproof.report.classification import wording as said
from shiftproof.report.grid.entries import Entry, PageContent
from shiftproof.report.sections import Section
from shiftproof.report.svg import charts
from shiftproof.runs.scores.classification import Detail, Estimator
from shiftproof.runs.scores.reading import clean_text
from shiftproof.types import CLEAN, Cell

if TYPE_CHECKING:
    from shiftproof.bench.estimates.error_estimates import (
        CellEstimate,
        ModelEstimate,
        StreamEstimate,
    )

TITLE = "How accurate is it on your images?"
"""Title of the section on a stream, to which other sections refer."""

_NOTES = {
    "atc": "Predictions below a confidence threshold count as wrong. On the clean images, as many "
    "predictions lie below the threshold as are wrong. Garg et al. 2022.",
    "doc": "The accuracy is assumed to fall by as much as the mean confidence. Guillory et al. 2021.",
    "disagreement": "Images whose prediction differs from the first model's count as wrong. Jiang et al. "
    "2022 compare two independently trained networks; an adapted model shares the mistakes of its source.",
}


# ---------------------------------------------------------------- a run with labels


def build_estimators_section(shown: PageContent) -> Section | None:
    """Build the section that compares estimated with true errors; None without estimates."""
    estimated = [entry for entry in shown.entries if entry.detail(Detail).estimators]
    if not estimated:
        return None
    titles = {
        estimator.name: estimator.title
        for entry in estimated
        for estimator in entry.detail(Detail).estimators
    }
    return Section(
        "estimators",
        "How well can it be estimated without labels?",
        "Without labels",
        "estimators.html.j2",
        {
            "legend": [
                {
                    "label": entry.label,
                    "key": charts.draw_dot(entry.series),
                    "title": "",
                    "settings": "",
                }
                for entry in estimated
            ],
            "panels": _draw_panels(estimated, titles),
            "sentences": [_make_sentence(entry) for entry in estimated],
            "rows": [
                _make_estimator_row(entry, estimator)
                for entry in estimated
                for estimator in entry.detail(Detail).estimators
            ],
            "titles": [_capital(title) for title in titles.values()],
            "cells": [
                {
                    "model": entry.label,
                    "cell": wording.title_cell(str(cell)),
                    "error": wording.percent(error),
                    "estimates": [wording.percent(estimates.get(name)) for name in titles],
                }
                for entry in estimated
                for cell, error, estimates in _cells(entry)
            ],
        },
    )


def _draw_panels(estimated: Sequence[Entry], titles: Mapping[str, str]) -> list[dict[str, object]]:
    """Return a chart of estimated against true errors for each estimator, on common axes."""
    spots = {name: _make_spots(estimated, name, title) for name, title in titles.items()}
    furthest = max((max(spot.x, spot.y) for found in spots.values() for spot in found), default=1.0)
    top = charts.choose_top(furthest)

    def draw(name: str, title: str) -> dict[str, object]:
        said = f"{_capital(title)}: estimated against true error. {_make_spoken(estimated, name)}"
        chart = charts.draw_scatter(
            spots[name], title=said, across="true error, %", upward="estimated error, %", top=top
        )
        return {"title": _capital(title), "note": _NOTES.get(name, ""), "chart": chart}

    return [draw(name, title) for name, title in titles.items()]


def _make_estimator_row(entry: Entry, estimator: Estimator) -> dict[str, str]:
    return {
        "model": entry.label,
        "estimator": _capital(estimator.title),
        "mean": wording.percent(estimator.mean_absolute_error),
        "spread": wording.percent(estimator.root_mean_square),
        "bias": wording.points(estimator.bias),
        "worst": wording.title_cell(str(estimator.worst.cell)),
        "estimate": wording.percent(estimator.worst.estimate),
        "error": wording.percent(estimator.worst.error),
    }


def _cells(entry: Entry) -> list[tuple[Cell, float, dict[str, float]]]:
    """Return the corrupted cells with estimates: the true error, and the estimates by estimator."""
    estimates = entry.detail(Detail).estimates
    return [
        (cell, figure.value, estimates[str(cell)])
        for cell, figure in entry.scored.of_cells("error").items()
        if estimates.get(str(cell))
    ]


def _make_spots(estimated: Sequence[Entry], name: str, title: str) -> list[charts.ScatterPoint]:
    return [
        charts.ScatterPoint(
            entry.series,
            error,
            estimates[name],
            f"{entry.label}, {wording.title_cell(str(cell))}: {title} "
            f"{wording.share(estimates[name])}, true error {wording.share(error)}",
        )
        for entry in estimated
        for cell, error, estimates in _cells(entry)
        if name in estimates
    ]


def _make_spoken(estimated: Sequence[Entry], name: str) -> str:
    return "; ".join(
        f"{entry.label}: {said.describe_errors(estimator)}"
        for entry in estimated
        for estimator in entry.detail(Detail).estimators
        if estimator.name == name
    )


def _make_sentence(entry: Entry) -> str:
    best = min(entry.detail(Detail).estimators, key=lambda estimator: estimator.root_mean_square)
    return (
        f"For {entry.label} the {best.title} comes nearest: it is {said.describe_errors(best)}; "
        f"{said.describe_bias(best.bias)}."
    )


# ---------------------------------------------------------------- a run without labels


def build_stream_section(stream: StreamEstimate, shown: PageContent) -> Section:
    """Build the section on the estimates for a stream and their calibration."""
    looks = {entry.scored.name: entry for entry in shown.entries}
    estimated = [(looks[model.name], model) for model in stream.models if model.name in looks]
    return Section(
        "estimate",
        TITLE,
        "Estimate",
        "stream_estimate.html.j2",
        {
            "models": [_describe_model(entry, model, stream) for entry, model in estimated],
            "doubts": [doubt for entry, model in estimated for doubt in _list_doubts(entry, model)],
            "corruptions": wording.join_list(
                [wording.corruption_title(clean_text(name)) for name in stream.corruptions]
            ),
            "severities": wording.describe_severities(stream.severities),
            "few": wording.FEW_IMAGES,
            "rows": [
                {
                    "model": entry.label,
                    "cell": _cell_title(cell.cell),
                    "images": f"{cell.images:,}",
                    "value": wording.percent(right.value),
                    "span": wording.span(right),
                    "best": name == model.best,
                    "estimator": _capital(_make_title(name)),
                }
                for entry, model in estimated
                for cell in model.cells
                for name, right in (
                    (name, _right(cell, name))
                    for name in sorted(cell.estimates, key=lambda name: name != model.best)
                )
            ],
        },
    )


def stream_lead(stream: StreamEstimate, shown: PageContent) -> list[str]:
    """Return the sentences under the title: the estimates for the images without corruption."""
    labels = {entry.scored.name: entry.label for entry in shown.entries}
    return [
        said.describe_accuracy(labels[model.name], _right(clean, model.best))
        for model in stream.models
        if model.name in labels and (clean := _clean(model)) is not None
    ]


def _describe_model(
    entry: Entry, model: ModelEstimate, stream: StreamEstimate
) -> dict[str, object]:
    best = model.quality[model.best]
    clean = _clean(model)
    right = None if clean is None else _right(clean, model.best)
    run = clean_text(stream.calibration.resolve().name or str(stream.calibration))
    worst = best.worst
    return {
        "dot": charts.draw_dot(entry.series),
        "label": entry.label,
        **_headline(entry, right),
        "title": _capital(_make_title(model.best)),
        "note": _NOTES.get(model.best, ""),
        "rests": (
            f"Fitted on {wording.pluralize(stream.images, 'labeled image')} of the run “{run}”. In its "
            f"{wording.pluralize(best.cells, 'corrupted cell')}, where the error is known, this estimator "
            f"was off by {wording.percent(best.root_mean_square)} points (root mean square), and at "
            f"worst by {wording.percent(abs(worst.estimate - worst.error))} "
            f"({_cell_title(worst.cell)}: {wording.share(worst.error)} of the predictions were wrong, "
            f"and the estimate was {wording.share(worst.estimate)}). The half-width of the interval is "
            "1.96 times this root mean square, combined in quadrature with the sampling error of the "
            f"images. In {best.within:,} of these {pluralize(best.cells, 'cell')} the error was within "
            "1.96 times the root mean square."
        ),
    }


def _headline(entry: Entry, right: Interval | None) -> dict[str, object]:
    """Return the large figure of a card with its interval, drawn and spelled."""
    if right is None:
        return {"value": None, "span": "", "strip": ""}
    wide = said.is_too_wide(right)
    return {
        "value": said.format_rough_span(right) if wide else said.format_half_width(right),
        "span": "too wide to be of use" if wide else wording.span(right),
        "strip": charts.draw_interval(entry.series, right, top=1.0),
    }


def _list_doubts(entry: Entry, model: ModelEstimate) -> list[str]:
    """Return reasons to doubt the estimate for these images."""
    clean = _clean(model)
    if clean is None:
        return []
    found = []
    best = clean.estimates[model.best]
    if best.value > model.max_error:
        found.append(
            f"{entry.label}: the estimate exceeds all errors measured with labels (at most "
            f"{wording.share(model.max_error)} wrong). Its accuracy there is unknown."
        )
    apart = [
        name
        for name, other in clean.estimates.items()
        if name != model.best and (other.lower > best.upper or other.upper < best.lower)
    ]
    for name in apart:
        found.append(
            f"{entry.label}: the {_make_title(name)} says {said.format_half_width(_right(clean, name))}, "
            f"which contradicts {said.format_half_width(_right(clean, model.best))}. At least one of "
            "the two is wrong here. Do not rely on either."
        )
    if clean.images < wording.FEW_IMAGES:
        found.append(f"{entry.label}: only {wording.pluralize(clean.images, 'image')}.")
    return found


def _clean(model: ModelEstimate) -> CellEstimate | None:
    return next((cell for cell in model.cells if cell.cell == CLEAN), None)


def _right(cell: CellEstimate, name: str) -> Interval:
    wrong = cell.estimates[name]
    return said.invert_share(wrong)


def _cell_title(cell: Cell) -> str:
    # The estimates come from another run's files, past the reading that cleans this run's names.
    return wording.title_cell(clean_text(str(cell)))


def _make_title(name: str) -> str:
    from shiftproof.bench.estimates.error_estimates import ESTIMATORS

    return ESTIMATORS[name]


def _capital(title: str) -> str:
    return title[:1].upper() + title[1:]
