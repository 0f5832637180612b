"""Estimates of AP and mIoU without labels, the measured values, and the accuracy of the estimates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shiftproof.report import wording
from shiftproof.report.grid.entries import Entry, PageContent
from shiftproof.report.listing import Item, Listing, build_section
from shiftproof.report.sections import Section
from shiftproof.runs.scores.reading import clean_text
from shiftproof.runs.scores.unlabeled import UnlabeledEstimate, read_estimates

ESTIMATORS = {"confidence": "from confidences", "mirror": "from the mirror image"}
"""Name in the file to title."""


def build_estimates_section(shown: PageContent) -> Section | None:
    """Build the section on unlabeled images; None if no run has estimates.

    Raises:
        BrokenFileError: a run's file of estimates is not what this version writes.
    """
    by_run = {id(run): read_estimates(run.folder.path) for run in shown.runs}
    estimated = [
        (entry, by_run[id(entry.run)][entry.scored.name])
        for entry in shown.entries
        if entry.scored.name in by_run[id(entry.run)]
    ]
    if not estimated:
        return None
    estimators = list(
        dict.fromkeys(estimator for _, estimate in estimated for estimator in estimate.estimates)
    )
    return build_section(
        "unlabeled",
        "How well does it perform on unlabeled images?",
        "Without labels",
        words=[_describe_estimate(entry, estimate) for entry, estimate in estimated],
        tables=[_list_estimates(estimated, estimators)],
        folded=[_list_cells(estimated, estimators)] if any(b.cells for _, b in estimated) else [],
        notes=[
            "The estimators are fitted on clean labeled images, and none is right under every shift. "
            "Their errors are measured in the corrupted cells of the labeled images, by two-fold "
            "cross-validation over the images."
        ],
    )


def _describe_estimate(entry: Entry, estimate: UnlabeledEstimate) -> str:
    measured = (
        f"{entry.label}: {clean_text(estimate.measure)} {wording.share(estimate.clean)} measured"
    )
    described = ", ".join(
        f"{wording.share(value)} {_make_title(estimator)}{_describe_error(estimate, estimator)}"
        for estimator, value in estimate.estimates.items()
    )
    return (
        f"{measured} on {wording.pluralize(estimate.labeled, 'clean labeled image')}; estimated on "
        f"{wording.pluralize(estimate.images, 'image')} without labels: {described}."
    )


def _describe_error(estimate: UnlabeledEstimate, estimator: str) -> str:
    error = estimate.quality.get(estimator)
    if error is None:
        return " (its error was not measured)"
    cells = wording.pluralize(error.cells, "cell")
    return (
        f" (mean absolute error {wording.percent(error.mean_absolute_error)} points over {cells})"
    )


def _list_estimates(
    estimated: Iterable[tuple[Entry, UnlabeledEstimate]], estimators: Iterable[str]
) -> Listing:
    heads = [
        ("Model", False), ("Estimator", False), ("Measured, clean", True),
        ("Estimated, without labels", True), ("Mean absolute error", True), ("Bias", True),
        ("Worst cell", False), ("Estimated there", True), ("Measured there", True),
    ]  # fmt: skip
    rows = [
        [
            Item(entry.label),
            Item(_make_title(estimator)),
            Item(wording.percent(estimate.clean)),
            Item(wording.percent(estimate.estimates[estimator])),
            *_write_quality(estimate, estimator),
        ]
        for entry, estimate in estimated
        for estimator in estimators
        if estimator in estimate.estimates
    ]
    return Listing("", heads, rows, note="In %, differences in points; a bias above 0 is too high.")


def _write_quality(estimate: UnlabeledEstimate, estimator: str) -> Iterator[Item]:
    error = estimate.quality.get(estimator)
    if error is None:
        yield from (Item("") for _ in range(5))
        return
    yield Item(wording.percent(error.mean_absolute_error))
    yield Item(wording.points(error.bias))
    yield Item(wording.title_cell(clean_text(error.worst.cell)))
    yield Item(wording.percent(error.worst.estimate))
    yield Item(wording.percent(error.worst.truth))


def _list_cells(
    estimated: Iterable[tuple[Entry, UnlabeledEstimate]], estimators: list[str]
) -> Listing:
    heads = [("Model", False), ("Cell", False), ("Measured", True)]
    rows = [
        [
            Item(entry.label),
            Item(wording.title_cell(clean_text(one.cell))),
            Item(wording.percent(one.truth)),
            *(Item(wording.percent(one.estimates.get(estimator))) for estimator in estimators),
        ]
        for entry, estimate in estimated
        for one in estimate.cells
    ]
    return Listing(
        "",
        [*heads, *((f"Estimated {_make_title(estimator)}", True) for estimator in estimators)],
        rows,
    )


def _make_title(estimator: str) -> str:
    return ESTIMATORS.get(estimator, clean_text(estimator))
