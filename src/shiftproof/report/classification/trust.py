"""Sections on the reliability of confidences: temperatures, prediction sets, selective prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shiftproof.metrics.conformal import METHODS
from shiftproof.metrics.intervals import Interval
from shiftproof.metrics.selective import risk_coverage
from shiftproof.report import wording
from shiftproof.report.classification.answers import list_cells
from shiftproof.report.grid import figures
from shiftproof.report.grid.entries import Entry, PageContent
from shiftproof.report.listing import (
    Chart,
    Item,
    Listing,
    build_section,
    write_change,
    write_figure,
)
from shiftproof.report.sections import Section
from shiftproof.report.svg import charts
from shiftproof.report.svg.charts import Trace
from shiftproof.report.wording import NUMBERS, SHARES, NumberFormat, find_number_format
from shiftproof.runs.records.classification import read_class_predictions
from shiftproof.runs.scores.classification import Detail
from shiftproof.runs.scores.reading import clean_text
from shiftproof.runs.scores.trust import FIGURES, CellTrust, Trust
from shiftproof.types import CLEAN, F64, Cell

SET_NAMES = {"lac": "LAC", "aps": "APS", "raps": "RAPS"}

SAYS = ("calibration_error", "brier", "loss")
SELECTS = ("aurc", "excess_aurc", "risk80")

CURVE_POINTS = 100
"""Points of a drawn curve of risk against coverage."""

_SPELLINGS: dict[str, NumberFormat] = {
    "brier": NUMBERS,
    "loss": find_number_format("nats"),
}


@dataclass(frozen=True)
class _Trusted:
    """A model with the reliability of its confidences."""

    entry: Entry
    trust: Trust


def build_trust_sections(shown: PageContent) -> list[Section | None]:
    """Build the sections on temperatures, prediction sets and selective prediction."""
    trusted = list_trusted(shown)
    calibrated = [one for one in trusted if one.trust.calibration is not None]
    return [
        _build_temperature_section(calibrated) if calibrated else None,
        _build_sets_section(shown, calibrated) if calibrated else None,
        _build_selective_section(trusted) if trusted else None,
    ]


def list_trusted(shown: PageContent) -> list[_Trusted]:
    """Return the models with measured reliability."""
    found = ((entry, entry.detail(Detail).trust) for entry in shown.entries)
    return [_Trusted(entry, trust) for entry, trust in found if trust is not None and trust.cells]


def warn_of_lost_sets(shown: PageContent) -> list[str]:
    """Return warnings of models whose prediction sets lose the promised coverage in some cells."""
    return [
        sentence
        for one in list_trusted(shown)
        for sentence in describe_lost(one.entry.label, one.trust)
    ]


def describe_lost(label: str, trust: Trust) -> list[str]:
    """Describe in which cells prediction sets lose the promised coverage, if any do."""
    lost = {method: trust.find_lost(method) for method in METHODS}
    method = max(lost, key=lambda name: len(lost[name]))
    if not lost[method] or trust.calibration is None:
        return []
    worst = min(lost[method], key=lambda one: one.sets[method].coverage.value)
    return [
        f"{label}: coverage is lost. Sets with a target coverage of "
        f"{wording.share(trust.calibration.coverage)} miss it in "
        f"{len(lost[method])} of {wording.pluralize(len(trust.corrupted), 'corrupted cell')} "
        f"({SET_NAMES[method]}); under {_make_title(worst)} the coverage is "
        f"{SHARES.with_span(worst.sets[method].coverage)}."
    ]


def describe_calibration(label: str, trust: Trust) -> list[str]:
    """Describe the calibration of a model and its limits."""
    fitted = trust.calibration
    if fitted is None:
        return []
    if fitted.temperature is None:
        said = f"{label}: its confidences are not changed: {clean_text(fitted.reason or '')}"
    else:
        leaning = "overconfident" if fitted.temperature > 1 else "underconfident"
        said = (
            f"{label}: temperature {NUMBERS.figure(fitted.temperature)}, fitted on "
            f"{wording.pluralize(fitted.images, 'held-out clean image')}; without it, the model is "
            f"{leaning} on them."
        )
    found = [said]
    if fitted.absent:
        found.append(
            f"{label}: {wording.pluralize(fitted.absent, 'class has', 'classes have')} no held-out "
            "image, so nothing is known about their sets."
        )
    if fitted.images < wording.FEW_IMAGES:
        found.append(
            f"{label}: {wording.pluralize(fitted.images, 'held-out image is', 'held-out images are')} "
            f"few. Depending on their choice, the coverage of sets with a target of "
            f"{wording.share(fitted.coverage)} may be {wording.share(fitted.floor)} on images of the "
            "same kind."
        )
    return found


# ---------------------------------------------------------------- a temperature


def _build_temperature_section(trusted: Sequence[_Trusted]) -> Section:
    return build_section(
        "temperature",
        "Is it calibrated after temperature scaling?",
        "Temperature",
        words=[
            "A temperature divides all logits of a model. It is fitted on held-out labeled clean "
            "images, so that the confidences are calibrated there (Guo et al. 2017). No prediction "
            "changes. The table shows whether the confidences are still calibrated under corruption.",
            *(said for one in trusted for said in describe_calibration(one.entry.label, one.trust)),
            *(said for one in trusted if (said := _describe_gain(one))),
        ],
        tables=[_change_table(one, _short(one.trust)) for one in trusted],
        folded=[_change_table(one, one.trust.cells) for one in trusted],
        notes=[
            "Calibration error over 15 bins in %; Brier score (the squared distance of the "
            "probabilities from the label, 0 to 2); loss in nats. Lower is better. A change is bold "
            "if its interval, paired by image, excludes 0."
        ],
    )


def _describe_gain(one: _Trusted) -> str:
    clean, mean = one.trust.clean, one.trust.mean
    if clean is None or mean is None:
        return ""
    parts = [
        f"from {wording.share(before.value)} to {wording.share(after.value)} on {where}"
        for where, cell in (("clean images", clean), ("average under corruption", mean))
        if (before := cell.figures.get("calibration_error")) is not None
        and (after := cell.scaled.get("calibration_error")) is not None
    ]
    if len(parts) < 2:
        return ""
    return f"{one.entry.label}: the calibration error goes {parts[0]}, and {parts[1]}."


def _change_table(one: _Trusted, cells: Sequence[CellTrust]) -> Listing:
    heads = [
        ("Cell", False), ("Figure", False), ("As it is", True), ("Scaled", True), ("Change", True),
    ]  # fmt: skip
    rows = [
        [
            Item(_make_title(cell)),
            Item(wording.capitalize(FIGURES[name])),
            write_figure(_spell(name), cell.figures.get(name)),
            write_figure(_spell(name), cell.scaled.get(name)),
            write_change(_spell(name), cell.change.get(name)),
        ]
        for cell in cells
        for name in SAYS
    ]
    return Listing(one.entry.label, heads, rows)


# ---------------------------------------------------------------- sets


def _build_sets_section(shown: PageContent, trusted: Sequence[_Trusted]) -> Section:
    lost = [said for one in trusted for said in describe_lost(one.entry.label, one.trust)]
    kept = "" if lost else "No cell is significantly below the target coverage."
    return build_section(
        "sets",
        "Do prediction sets reach their target coverage?",
        "Prediction sets",
        words=[
            "Instead of one class, a model can predict a set of classes that contains the right one "
            "with a given probability, the target coverage. The sets are fitted on held-out clean "
            "images (split conformal prediction), and the target holds for images of the same kind. "
            "The table shows how often the set contains the right class, and the number of its classes.",
            *(lost or [kept]),
        ],
        legend=figures.make_legend([one.entry for one in trusted]),
        charts=[_make_coverage_chart(shown, trusted, method) for method in METHODS],
        tables=[_make_sets_table(one, _short(one.trust)) for one in trusted],
        folded=[_make_sets_table(one, one.trust.cells) for one in trusted],
        notes=[
            "LAC (Sadinle et al. 2019) has the smallest sets. APS (Romano et al. 2020) has larger sets "
            "for hard images. RAPS (Angelopoulos et al. 2021) is APS with a penalty beyond five "
            "classes. Sets may be empty. Bold: the whole interval is lower than the choice of the "
            "held-out images can explain (97.5 of 100 choices)."
        ],
    )


def _make_sets_table(one: _Trusted, cells: Sequence[CellTrust]) -> Listing:
    fitted = one.trust.calibration
    floor = 0.0 if fitted is None else fitted.floor
    heads = [("Cell", False)]
    for name in METHODS:
        heads += [(f"{SET_NAMES[name]}: holds it, %", True), ("Classes", True)]
    rows = []
    for cell in cells:
        row, lost = [Item(_make_title(cell))], cell.find_lost_sets(floor)
        for name in METHODS:
            found = cell.sets.get(name)
            held = write_figure(SHARES, None if found is None else found.coverage)
            bold = "sure" if name in lost else ""
            row += [
                Item(held.text, held.span, bold),
                write_figure(NUMBERS, None if found is None else found.size),
            ]
        rows.append(row)
    return Listing(one.entry.label, heads, rows)


def _make_coverage_chart(shown: PageContent, trusted: Sequence[_Trusted], method: str) -> Chart:
    """Draw coverage against severity, the mean over the corruptions without an interval."""
    curves = []
    for one in trusted:
        by_severity: dict[int, list[float]] = {}
        for cell in one.trust.cells:
            if (found := cell.sets.get(method)) is not None:
                by_severity.setdefault(cell.severity, []).append(found.coverage.value)
        points = [
            (severity, Interval(float(np.mean(values))))
            for severity, values in sorted(by_severity.items())
        ]
        curves.append(charts.Curve(one.entry.series, points))
    name = SET_NAMES[method]
    drawn = charts.draw_severity_curves(
        curves,
        title=f"{name}: images whose set holds the right class",
        severities=shown.first.scores.severities,
        top=1.0,
    )
    return Chart(drawn, f"{name}: sets that hold the right class")


# ---------------------------------------------------------------- selective prediction


def _build_selective_section(trusted: Sequence[_Trusted]) -> Section:
    clean = [(one, _make_curve(one, [CLEAN])) for one in trusted if one.trust.clean is not None]
    corrupted = [(one, _make_curve(one, list_cells(one.entry))) for one in trusted]
    curves = [
        (title, [(one, curve) for one, curve in found if curve is not None])
        for title, found in (("Clean images", clean), ("Corrupted images", corrupted))
    ]
    return build_section(
        "selective",
        "Is it right when it is confident?",
        "Selective",
        words=[
            "A model that may abstain predicts only the images with the highest confidence. The "
            "horizontal axis is the share of images that it predicts, the vertical axis the share of "
            "these predictions that are wrong. If the confidence separates right from wrong "
            "predictions, the curve stays low until the end (Geifman & El-Yaniv 2017).",
            *(said for one in trusted if (said := _describe_selection(one))),
        ],
        legend=figures.make_legend([one.entry for one in trusted]),
        charts=[_make_risk_chart(title, found) for title, found in curves if found],
        tables=[_make_selective_table(one, _short(one.trust)) for one in trusted],
        folded=[_make_selective_table(one, one.trust.cells) for one in trusted],
        notes=[
            "AURC is the area under the curve, the mean error over all shares. E-AURC is the part of "
            "it that would disappear if all right predictions came first (Geifman et al. 2019). All in "
            "%. The differences of the compared models are paired by image."
        ],
    )


def _describe_selection(one: _Trusted) -> str:
    clean, mean = one.trust.clean, one.trust.mean
    found = [
        f"{wording.share(risk.value)} {where}"
        for where, cell in (("on clean images", clean), ("on average under corruption", mean))
        if cell is not None and (risk := cell.figures.get("risk80")) is not None
    ]
    if not found:
        return ""
    return (
        f"{one.entry.label}: of the 80 % of the images with the highest confidence, it gets wrong "
        f"{wording.join_list(found)}."
    )


def _make_selective_table(one: _Trusted, cells: Sequence[CellTrust]) -> Listing:
    compared = any(cell.against for cell in cells)
    heads = [("Cell", False)]
    for name in SELECTS:
        heads.append((wording.capitalize(FIGURES[name]), True))
        heads += [("difference", True)] if compared else []
    rows = []
    for cell in cells:
        row = [Item(_make_title(cell))]
        for name in SELECTS:
            row.append(write_figure(SHARES, cell.figures.get(name)))
            row += [write_change(SHARES, cell.against.get(name))] if compared else []
        rows.append(row)
    return Listing(one.entry.label, heads, rows)


def _make_curve(one: _Trusted, cells: Sequence[Cell]) -> list[tuple[float, float]] | None:
    """Return points of the risk-coverage curve over all answers of the cells."""
    folder, name = one.entry.run.folder, one.entry.scored.name
    paths = [path for cell in cells if (path := folder.records_file(name, cell)).is_file()]
    answers = [read_class_predictions(path) for path in paths]
    if not sum(len(target) for target, _, _ in answers):
        return None
    wrong = np.concatenate([target != prediction for target, prediction, _ in answers])
    curve = risk_coverage(np.concatenate([sure for _, _, sure in answers]), wrong)
    return _thin(curve.coverage, curve.risk)


def _thin(across: F64, upward: F64) -> list[tuple[float, float]]:
    places = np.unique(np.linspace(0, len(across) - 1, CURVE_POINTS).astype(np.int64))
    return list(zip(across[places].tolist(), upward[places].tolist(), strict=True))


def _make_risk_chart(
    title: str, found: Sequence[tuple[_Trusted, list[tuple[float, float]]]]
) -> Chart:
    told = "; ".join(
        f"{one.entry.label}: {wording.share(points[-1][1])} wrong of all" for one, points in found
    )
    drawn = charts.draw_scatter(
        [],
        title=f"{title}: share of wrong answers against share of images answered. {told}",
        across="answered, %",
        upward="wrong, %",
        top=1.0,
        traces=[Trace(points, one.entry.series) for one, points in found],
        diagonal=False,
    )
    return Chart(drawn, title)


# ---------------------------------------------------------------- cells


def _short(trust: Trust) -> list[CellTrust]:
    """Return the clean cell and the mean of the corrupted ones."""
    return [one for one in (trust.clean, trust.mean) if one is not None]


def _make_title(cell: CellTrust) -> str:
    if cell.corruption == "mean" and cell.severity == 0:
        return "Mean under corruption"
    return wording.title_cell(clean_text(str(cell.cell)))


def _spell(name: str) -> NumberFormat:
    return _SPELLINGS.get(name, SHARES)


def list_lines(found: Sequence[tuple[str, Trust]]) -> list[str]:
    """Return lines for a terminal: the calibration, and a table of clean and corrupted figures."""
    lines = []
    for label, trust in found:
        lines += [
            said.replace(wording.NO_BREAK, " ") for said in describe_calibration(label, trust)
        ]
        lines += [line.rstrip() for line in _tabulate(label, trust)]
    return lines


def _tabulate(label: str, trust: Trust) -> list[str]:
    cells = (trust.clean, trust.mean)
    lines = [_line(label, [("Clean", "scaled"), ("Corrupted", "scaled")])]
    for name, title in FIGURES.items():
        number_format = _spell(name)
        unit = number_format.short_phrase.replace(" in ", ", ")
        lines.append(
            _line(
                f"{wording.capitalize(title)}{unit}",
                [
                    (
                        _digits(number_format, None if cell is None else cell.figures.get(name)),
                        _digits(number_format, None if cell is None else cell.scaled.get(name)),
                    )
                    for cell in cells
                ],
            )
        )
    for name in METHODS if trust.calibration is not None else ():
        sets = [None if cell is None else cell.sets.get(name) for cell in cells]
        held = [None if one is None else one.coverage for one in sets]
        sizes = [None if one is None else one.size for one in sets]
        title = SET_NAMES[name]
        lines.append(_line(f"{title} holds it, %", [("", _with_ends(one)) for one in held]))
        lines.append(_line(f"{title}, classes", [("", _digits(NUMBERS, one)) for one in sizes]))
    return lines


def _line(title: str, pairs: Sequence[tuple[str, str]]) -> str:
    return f"  {title:<26}" + "".join(f"{before:>10}{after:>17}" for before, after in pairs)


def _digits(number_format: NumberFormat, figure: Interval | None) -> str:
    return "" if figure is None else number_format.figure(figure.value)


def _with_ends(figure: Interval | None) -> str:
    return "" if figure is None else f"{SHARES.figure(figure.value)} {SHARES.span(figure)}"
