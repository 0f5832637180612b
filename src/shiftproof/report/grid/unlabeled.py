"""Estimates of AP and mIoU without labels, the measured values, and the accuracy of the estimates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shiftproof.report import wording
from shiftproof.report.grid.entries import Entry, Shown
from shiftproof.report.listing import Item, Listing, lay_out
from shiftproof.report.sections import Section
from shiftproof.runs.scores.reading import clean_text
from shiftproof.runs.scores.unlabeled import Belief, read_beliefs

ESTIMATORS = {"confidence": "from confidences", "mirror": "from the mirror image"}
"""Name in the file to title."""


def estimates_section(shown: Shown) -> Section | None:
    """Build the section of the images without labels; None where no run has estimates.

    Raises:
        BrokenFileError: a run's file of estimates is not what this version writes.
    """
    by_run = {id(run): read_beliefs(run.folder.path) for run in shown.runs}
    believed = [
        (entry, by_run[id(entry.run)][entry.scored.name])
        for entry in shown.entries
        if entry.scored.name in by_run[id(entry.run)]
    ]
    if not believed:
        return None
    kinds = list(dict.fromkeys(kind for _, belief in believed for kind in belief.estimates))
    return lay_out(
        "unlabeled",
        "How good is it on images without labels?",
        "Without labels",
        words=[_tell(entry, belief) for entry, belief in believed],
        tables=[_list_estimates(believed, kinds)],
        folded=[_list_cells(believed, kinds)] if any(b.cells for _, b in believed) else [],
        notes=[
            "An estimate is learned on clean labeled images, and no such number is right whatever the "
            "shift. How far it is off is measured in the corrupted cells of the labeled images: half "
            "of the images teach, the other half is judged, both ways round."
        ],
    )


def _tell(entry: Entry, belief: Belief) -> str:
    measured = f"{entry.label}: {clean_text(belief.measure)} {wording.share(belief.clean)} measured"
    guessed = ", ".join(
        f"{wording.share(value)} {_title(kind)}{_tell_error(belief, kind)}"
        for kind, value in belief.estimates.items()
    )
    return (
        f"{measured} on {wording.plural(belief.labeled, 'clean labeled image')}; estimated on "
        f"{wording.plural(belief.images, 'image')} without labels: {guessed}."
    )


def _tell_error(belief: Belief, kind: str) -> str:
    off = belief.quality.get(kind)
    if off is None:
        return " (how far such an estimate is off was not measured)"
    cells = wording.plural(off.cells, "cell")
    return f" (off by {wording.percent(off.mean_absolute_error)} points in the mean over {cells})"


def _list_estimates(believed: Iterable[tuple[Entry, Belief]], kinds: Iterable[str]) -> Listing:
    heads = [
        ("Model", False), ("Estimator", False), ("Measured, clean", True),
        ("Estimated, without labels", True), ("Off by, mean", True), ("Bias", True),
        ("Worst cell", False), ("Estimated there", True), ("Measured there", True),
    ]  # fmt: skip
    rows = [
        [
            Item(entry.label),
            Item(_title(kind)),
            Item(wording.percent(belief.clean)),
            Item(wording.percent(belief.estimates[kind])),
            *_write_quality(belief, kind),
        ]
        for entry, belief in believed
        for kind in kinds
        if kind in belief.estimates
    ]
    return Listing("", heads, rows, note="In %, differences in points; a bias above 0 is too high.")


def _write_quality(belief: Belief, kind: str) -> Iterator[Item]:
    off = belief.quality.get(kind)
    if off is None:
        yield from (Item("") for _ in range(5))
        return
    yield Item(wording.percent(off.mean_absolute_error))
    yield Item(wording.points(off.bias))
    yield Item(wording.cell_title(clean_text(off.worst.cell)))
    yield Item(wording.percent(off.worst.estimate))
    yield Item(wording.percent(off.worst.truth))


def _list_cells(believed: Iterable[tuple[Entry, Belief]], kinds: list[str]) -> Listing:
    heads = [("Model", False), ("Cell", False), ("Measured", True)]
    rows = [
        [
            Item(entry.label),
            Item(wording.cell_title(clean_text(one.cell))),
            Item(wording.percent(one.truth)),
            *(Item(wording.percent(one.estimates.get(kind))) for kind in kinds),
        ]
        for entry, belief in believed
        for one in belief.cells
    ]
    return Listing("", [*heads, *((f"Estimated {_title(kind)}", True) for kind in kinds)], rows)


def _title(kind: str) -> str:
    return ESTIMATORS.get(kind, clean_text(kind))
