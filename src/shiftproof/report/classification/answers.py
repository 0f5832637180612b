"""Sections from the records of single images: reliability of confidences, and confusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shiftproof.bench.tasks.interface import Grid
from shiftproof.metrics.calibration import BINS, find_bins
from shiftproof.report import wording
from shiftproof.report.grid import figures
from shiftproof.report.grid.entries import Entry, PageContent
from shiftproof.report.listing import Chart, Item, Listing, build_section
from shiftproof.report.sections import Section
from shiftproof.report.svg import charts
from shiftproof.report.svg.charts import ScatterPoint, Trace
from shiftproof.runs.records.classification import read_class_predictions
from shiftproof.runs.scores.classification import CLASS_NAMES, ClassNames
from shiftproof.runs.scores.reading import clean_text, read_form
from shiftproof.types import CLEAN, F64, I64, Cell

MIN_IN_BIN = 10
"""Answers of a bin that is drawn: the share of fewer is mostly chance."""

MAX_PAIRS = 10
MAX_MODELS = 6
"""Models whose confusions are listed; the run's records have the others'."""


@dataclass(frozen=True)
class Tally:
    """The answers of a model over some cells, counted.

    ``answers``, ``right`` and ``sure`` are ``(BINS,)``: how many answers have a confidence in the bin,
    how many of them are right, and the sum of their confidences. ``pairs`` are ``(P, 2)`` int64 of
    class and answer, each once, ``counts`` ``(P,)`` how often.
    """

    answers: F64
    right: F64
    sure: F64
    pairs: I64
    counts: I64

    @classmethod
    def over(cls, entry: Entry, cells: Sequence[Cell]) -> Tally:
        """Count the records of a model in these cells, one after the other."""
        answers, right, sure = (np.zeros(BINS) for _ in range(3))
        found: dict[tuple[int, int], int] = {}
        for cell in cells:
            path = entry.run.folder.records_file(entry.scored.name, cell)
            target, prediction, confidence = read_class_predictions(path)
            place = find_bins(confidence, BINS)
            answers += np.bincount(place, minlength=BINS)
            right += np.bincount(place, weights=target == prediction, minlength=BINS)
            sure += np.bincount(place, weights=confidence, minlength=BINS)
            pairs, counts = np.unique(
                np.stack([target, prediction], axis=1), axis=0, return_counts=True
            )
            for (one, other), count in zip(pairs.tolist(), counts.tolist(), strict=True):
                found[one, other] = found.get((one, other), 0) + count
        listed = np.array(list(found), dtype=np.int64).reshape(-1, 2)
        return cls(answers, right, sure, listed, np.array(list(found.values()), dtype=np.int64))

    def confuse(self) -> dict[tuple[int, int], tuple[int, float]]:
        """Return how often a class is taken for another, and in which share of its answers."""
        totals: dict[int, int] = {}
        for (one, _), count in zip(self.pairs.tolist(), self.counts.tolist(), strict=True):
            totals[one] = totals.get(one, 0) + count
        return {
            (one, other): (count, count / totals[one])
            for (one, other), count in zip(self.pairs.tolist(), self.counts.tolist(), strict=True)
            if one != other
        }


@dataclass(frozen=True)
class _Counted:
    """A model with the counts of its answers on clean and on corrupted images."""

    entry: Entry
    clean: Tally
    corrupted: Tally


def build_answers_sections(shown: PageContent) -> list[Section]:
    """Build the reliability diagram and the confusions; none for runs without records."""
    counted = [
        _Counted(entry, Tally.over(entry, [CLEAN]), Tally.over(entry, list_cells(entry)))
        for entry in shown.entries
        if _has_records(entry)
    ]
    if not counted or not any(one.clean.answers.sum() for one in counted):
        return []
    return [_make_reliability(shown, counted), _make_confusions(counted)]


def list_cells(entry: Entry) -> list[Cell]:
    """Return the corrupted cells of the mean, without hold-out corruptions, that have records."""
    cells = Grid([one.cell for one in entry.scored.cells]).averaged
    return [
        cell for cell in cells if entry.run.folder.records_file(entry.scored.name, cell).is_file()
    ]


def _has_records(entry: Entry) -> bool:
    has_labels = entry.run.scores.measure.name == "error"
    return has_labels and entry.run.folder.records_file(entry.scored.name, CLEAN).is_file()


# ---------------------------------------------------------------- reliability


def _make_reliability(shown: PageContent, counted: Sequence[_Counted]) -> Section:
    clean = [(one.entry, one.clean) for one in counted]
    corrupted = [(one.entry, one.corrupted) for one in counted]
    return build_section(
        "reliability",
        "Reliability of the confidences",
        "Reliability",
        words=[
            "Predictions are binned by their confidence. The horizontal axis is the mean confidence of "
            "a bin, the vertical axis the share of its predictions that are right. On the dashed line a "
            "confidence of 80 % is right in 80 of 100 cases. Below it the model is overconfident.",
            *(_describe_calibration(one) for one in counted),
        ],
        legend=figures.make_legend([entry for entry in shown.entries if _has_records(entry)]),
        charts=[
            _draw(title, tallies)
            for title, tallies in (("Clean images", clean), ("Corrupted images", corrupted))
            if any((tally.answers >= MIN_IN_BIN).any() for _, tally in tallies)
        ],
        notes=[
            f"{BINS} bins of equal width (Guo et al. 2017); bins of fewer than {MIN_IN_BIN} predictions "
            "are not drawn."
        ],
    )


def _draw(title: str, tallies: Sequence[tuple[Entry, Tally]]) -> Chart:
    spots, traces = [], []
    for entry, tally in tallies:
        kept = tally.answers >= MIN_IN_BIN
        counts = tally.answers[kept]
        sure, right = tally.sure[kept] / counts, tally.right[kept] / counts
        points = list(zip(sure.tolist(), right.tolist(), strict=True))
        traces.append(Trace(points, entry.series))
        spots += [
            ScatterPoint(
                entry.series, x, y,
                f"{entry.label}: {wording.share(x)} sure, {wording.share(y)} right, "
                f"{wording.pluralize(int(count), 'answer')}",
            )
            for (x, y), count in zip(points, counts.tolist(), strict=True)
        ]  # fmt: skip
    told = "; ".join(spot.tooltip for spot in spots)
    drawn = charts.draw_scatter(
        spots,
        title=f"{title}: right against confidence. {told}",
        across="confidence, %",
        upward="right, %",
        top=1.0,
        traces=traces,
    )
    return Chart(drawn, title)


def _describe_calibration(one: _Counted) -> str:
    """Say by how many points a model is too sure, clean and corrupted, and what follows."""
    clean, corrupted = (_make_excess(tally) for tally in (one.clean, one.corrupted))
    if clean is None or corrupted is None:
        return ""
    return (
        f"{one.entry.label} is {_spell_excess(clean)} on clean images, and "
        f"{_spell_excess(corrupted)} on corrupted ones."
    )


def _make_excess(tally: Tally) -> float | None:
    total = tally.answers.sum()
    return float((tally.sure.sum() - tally.right.sum()) / total) if total else None


def _spell_excess(excess: float) -> str:
    leaning = "overconfident" if excess >= 0 else "underconfident"
    return f"{leaning} by {wording.percent(abs(excess))} points"


# ---------------------------------------------------------------- confusions


def _make_confusions(counted: Sequence[_Counted]) -> Section:
    shown = counted[:MAX_MODELS]
    left = len(counted) - len(shown)
    return build_section(
        "confusions",
        "Confusions between classes",
        "Confusions",
        words=[
            "The pairs of classes that are confused most often in corrupted images, with the share of "
            "the class’s images, over the cells of the mean. If a pair is rare on clean images and "
            "frequent here, "
            "the corruptions cause the confusion."
        ],
        tables=[_list_pairs(one, len(shown) > 1) for one in shown],
        notes=[f"Those of {wording.pluralize(left, 'more model')} are in the runs’ records."]
        if left
        else [],
    )


def _list_pairs(one: _Counted, named: bool) -> Listing:
    path = one.entry.run.path / CLASS_NAMES
    names = read_form(path, ClassNames).names if path.is_file() else ()
    before, after = one.clean.confuse(), one.corrupted.confuse()
    most = sorted(after, key=lambda pair: (-after[pair][0], pair))[:MAX_PAIRS]
    rows = [
        [
            Item(_name(names, pair[0])),
            Item(_name(names, pair[1])),
            Item(wording.count(after[pair][0])),
            Item(wording.percent(after[pair][1])),
            Item(wording.percent(before.get(pair, (0, 0.0))[1])),
        ]
        for pair in most
    ]
    heads = [
        ("Class", False), ("taken for", False), ("Times", True),
        ("Of its images, corrupted, %", True), ("Clean, %", True),
    ]  # fmt: skip
    return Listing(one.entry.label if named else "", heads, rows)


def _name(names: Sequence[str], index: int) -> str:
    return clean_text(names[index]) if index < len(names) else f"class {index}"
