"""The page of classification runs: what it says and shows, before any markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from shiftproof.report import (
    classification_tables,
    colours,
    estimation,
    figures,
    grid_figures,
    happenings,
    provenance,
    table_writing,
    wording,
)
from shiftproof.report.gallery import Pictures
from shiftproof.report.grid_figures import Column
from shiftproof.report.reading import Interval
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
from shiftproof.report.sections import AnyRun, Document, Entry, Section, entries, run_names
from shiftproof.types import CLEAN, Cell, Settings

if TYPE_CHECKING:
    from shiftproof.bench.estimates import StreamEstimate

ClassifierEntry: TypeAlias = Entry[ClassifierRun, Scored]

MOST = 10
"""How many classes a list of the worst holds."""

BROKEN = (
    "A file that cannot be read is left out of the cells in which it could not, and of every model "
    "alike: each cell says over how many images its figures are."
)

MOST_CLASSES = 1000
"""A longer list would make a page that no browser likes; the run's files have the rest."""


@dataclass(frozen=True)
class Change:
    """A paired difference on the page: a model, what it is held against, and the figures."""

    run: ClassifierRun
    entry: ClassifierEntry
    against: ClassifierEntry
    scored: Scored

    @property
    def label(self) -> str:
        """The name of the difference."""
        return f"{self.entry.label} {wording.MINUS} {self.against.scored.name}"


def document(
    runs: Sequence[ClassifierRun], pictures: Pictures, stream: StreamEstimate | None = None
) -> Document:
    """Build the page of one run, or of several side by side.

    ``pictures`` are those of the first run that has any; ``stream`` is what is believed of the
    errors of a run without labels.
    """
    first = runs[0].scores
    shown = entries(runs, lambda run: run.scores.models, _adapter)
    changes = _changes(runs, shown)
    plain = _unadapted(shown, changes)
    titles = list(dict.fromkeys(entry.scored.title or entry.label for entry in plain))
    over = (
        wording.plural(len(first.corruptions), "corruption")
        if all(run.scores.corruptions == first.corruptions for run in runs)
        else "corruption"
    )
    title = (
        f"{titles[0]} under {over}"
        if len(titles) == 1
        else f"{wording.listing(titles[:3])} under {over}"
        if len(titles) <= 3
        else f"{len(titles)} models under {over}"
    )
    sections = [
        None if stream is None else estimation.belief_section(stream, shown),
        _overview(runs, shown, changes),
        _by_corruption(runs, shown, changes),
        _heat(runs, shown, changes),
        _curves(runs, shown, changes),
        estimation.known_section(shown),
        _gallery(runs, shown, pictures),
        _sufferers(shown, changes, pictures, runs),
        happenings.happenings_section(shown),
        provenance.broken_section(runs, BROKEN),
        _numbers(runs),
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
        title=title,
        kicker="Robustness report" if len(runs) == 1 else f"Comparison of {len(runs)} runs",
        byline=[
            provenance.byline(run, name, [wording.plural(run.scores.used, "image")])
            for run, name in zip(runs, run_names(runs), strict=True)
        ],
        lead=[
            *([] if stream is None else estimation.belief_lead(stream, shown)),
            *_lead(runs, shown, changes),
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
    shown: Sequence[ClassifierEntry], changes: Sequence[Change]
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
        if scores.used < wording.FEW_IMAGES:
            found.append(
                f"{where}Only {wording.plural(scores.used, 'image')}: the intervals are wide, "
                "and what looks like a large difference may be chance. Read the intervals, not "
                "the figures."
            )
        if scores.broken:
            found.append(
                f"{where}{wording.plural(len(scores.broken), 'image')} of {scores.total:,} could "
                "not be read everywhere. What was not read counts nowhere, and is listed below."
            )
    return found


def _changes(runs: Sequence[ClassifierRun], shown: Sequence[ClassifierEntry]) -> list[Change]:
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


# ---------------------------------------------------------------- overview


def _lead(
    runs: Sequence[ClassifierRun], shown: Sequence[ClassifierEntry], changes: Sequence[Change]
) -> list[str]:
    """Return the sentences under the title."""
    found = []
    for entry in _unadapted(shown, changes)[:4]:
        sentences = [wording.headline(entry.run.scores, entry.scored, _subject(runs, entry))]
        sentences += [
            wording.finding(change.run.scores, change.scored, change.entry.label)
            for change in changes
            if change.against is entry
        ]
        found.append(" ".join(sentences))
    return found


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
    runs: Sequence[ClassifierRun], shown: Sequence[ClassifierEntry], changes: Sequence[Change]
) -> Section:
    labelled = runs[0].scores.labelled
    cards = []
    for name, title, note, lower in _CARDS:
        found = [(entry, _summary(entry.scored.summary, name)) for entry in shown]
        highest = max((i.high for _, i in found if i is not None), default=0.0)
        top = figures.nice_top(highest) if highest <= 1 else highest
        rows = [
            {
                "look": entry.look,
                "dot": figures.dot(entry.look),
                "value": wording.percent(interval.value),
                "span": wording.span(interval),
                "strip": figures.strip(entry.look, interval, top=top),
            }
            for entry, interval in found
            if interval is not None
        ]
        if not rows:
            continue
        if not labelled and name == "mean_error":
            title = "Disagreement under corruption"
        cards.append({"title": title, "note": note, "lower": lower, "rows": rows})
    reaches = [
        abs(end)
        for change in changes
        if (interval := change.scored.summary.mean_error) is not None
        for end in (interval.low, interval.high)
    ]
    reach = figures.nice_reach(max(reaches, default=0.0))
    return Section(
        "overview",
        "At a glance",
        "Overview",
        "overview.html.j2",
        {
            "cards": cards,
            "changes": [_change_card(change, reach) for change in changes],
            "reasons": _mce_reasons(runs) if labelled else [],
            "claim": "mCE",
            "lower": True,
            "alike": not _differing(runs),
            "protocols": [
                {"words": words, "runs": wording.listing(names) if len(runs) > 1 else ""}
                for words, names in provenance.protocols(runs)
            ],
            "level": wording.level(runs[0].scores),
            "several": len(runs) > 1,
            "measure": wording.measure_name(runs[0].scores),
        },
    )


def _mce_reasons(runs: Sequence[ClassifierRun]) -> list[str]:
    """Say why there is no mCE, once for each reason."""
    found: dict[str, list[str]] = {}
    for run, name in zip(runs, run_names(runs), strict=True):
        if run.scores.mce_reason is not None:
            found.setdefault(run.scores.mce_reason, []).append(name)
    if len(runs) == 1:
        return list(found)
    return [f"for {wording.listing(names)}, {reason}" for reason, names in found.items()]


def _summary(summary: Summary, name: str) -> Interval | None:
    found: Interval | None = getattr(summary, name)
    return found


def _change_card(change: Change, reach: float) -> dict[str, object]:
    scores = change.run.scores
    interval = change.scored.summary.mean_error
    words = wording.verdict(scores, change.scored, change.entry.label, change.against.label)
    state = "flat"
    if interval is not None and not interval.spans_zero:
        state = "better" if interval.value < 0 else "worse"
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
        else figures.difference_axis(interval, reach=reach, title=words, lower_is_better=True),
        "verdict": words,
        "clean": wording.clean_verdict(scores, change.scored),
        "tally": wording.tally(change.scored),
        "hurt": [
            {
                "name": wording.corruption_title(score.corruption),
                "value": wording.points(score.error.value),
                "span": wording.points_span(score.error),
                "sure": not score.error.spans_zero,
            }
            for score in sorted(
                change.scored.corruptions,
                key=lambda score: -score.error.value if score.error else 0.0,
            )
            if score.error is not None and score.error.value > 0
        ],
    }


# ---------------------------------------------------------------- by corruption


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


def _columns(shown: Sequence[ClassifierEntry]) -> list[Column]:
    return [_column(entry.run, entry.label, entry.scored) for entry in shown]


def _changed(changes: Sequence[Change]) -> list[Column]:
    return [_column(change.run, change.label, change.scored) for change in changes]


def _by_corruption(
    runs: Sequence[ClassifierRun], shown: Sequence[ClassifierEntry], changes: Sequence[Change]
) -> Section:
    measure = wording.measure_name(runs[0].scores)
    looks = [entry.look for entry in shown]
    return Section(
        "corruptions",
        "Corruption by corruption",
        "Corruptions",
        "corruptions.html.j2",
        {
            **grid_figures.bars(
                looks, _columns(shown), _changed(changes), clean=runs[0].scores.labelled
            ),
            "legend": grid_figures.legend(shown),
            "entries": shown,
            "changes": changes,
            "measure": measure,
            "title": wording.capital(measure),
            "better": "Shorter",
            "severities": grid_figures.severities_phrase(runs),
            "level": wording.level(runs[0].scores),
        },
    )


# ---------------------------------------------------------------- heat maps


def _heat(
    runs: Sequence[ClassifierRun], shown: Sequence[ClassifierEntry], changes: Sequence[Change]
) -> Section:
    measure = wording.measure_name(runs[0].scores)
    differences = _changed(changes)
    reach = grid_figures.reach_of(differences)

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
            f"bold means that the {wording.level(runs[0].scores)} interval leaves out 0."
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
                        column, _paint, difference=False, clean=entry.run.scores.labelled
                    )
                    for entry, column in zip(shown, _columns(shown), strict=True)
                ),
                *(
                    grid_figures.heat_map(
                        column, paint_change, difference=True, clean=change.run.scores.labelled
                    )
                    for change, column in zip(changes, differences, strict=True)
                ),
            ],
            "words": words,
            "scales": scales,
        },
    )


def _paint(interval: Interval, title: str) -> dict[str, str]:
    return {
        "text": wording.percent(interval.value),
        "style": f"s{colours.sequential_level(interval.value)}",
        "title": f"{title}: {wording.share_span(interval)}",
    }


# ---------------------------------------------------------------- severity curves


def _curves(
    runs: Sequence[ClassifierRun], shown: Sequence[ClassifierEntry], changes: Sequence[Change]
) -> Section:
    labelled = runs[0].scores.labelled
    measure = wording.measure_name(runs[0].scores)
    return Section(
        "curves",
        "How fast it breaks",
        "Curves",
        "curves.html.j2",
        {
            "groups": grid_figures.curve_groups(
                runs, [entry.look for entry in shown], _columns(shown), clean=labelled
            ),
            "legend": grid_figures.legend(shown),
            "level": wording.level(runs[0].scores),
            "measure": measure,
            "title": wording.capital(measure),
            "better": "Lower",
            "clean": labelled,
            "columns": [
                {"title": title, "number": place > 1, "ends": title == "Interval"}
                for place, title in enumerate(_cell_titles(runs[0].scores))
            ],
            "rows": _cell_rows(shown, changes, labelled=labelled),
        },
    )


def _cell_titles(scores: Scores) -> list[str]:
    measured = wording.capital(wording.measure_name(scores))
    first = ["Model", "Corruption", "Severity", "Images", measured, "Interval"]
    return [*first, "Top-5", "Calibration", "Loss"] if scores.labelled else first


def _cell_rows(
    shown: Sequence[ClassifierEntry], changes: Sequence[Change], *, labelled: bool
) -> list[list[str]]:
    """Return every cell with every figure: the numbers behind curves and heat maps."""
    columns: list[tuple[str, ClassifierRun, Scored]] = [
        *((entry.label, entry.run, entry.scored) for entry in shown),
        *((change.label, change.run, change.scored) for change in changes),
    ]
    rows: list[list[str]] = []
    for label, run, scored in columns:
        signed = scored.against is not None
        spell = wording.points if signed else wording.percent
        ends = wording.points_span if signed else wording.span
        for corruption, severity, found in classification_tables.every_cell(run.scores, scored):
            row = [
                label,
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
    changes: Sequence[Change],
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


def _moved(change: Change) -> dict[str, Any]:
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


def _losing_sheets(run: ClassifierRun, changes: Sequence[Change]) -> list[dict[str, object]]:
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


# ---------------------------------------------------------------- the rest


def _numbers(runs: Sequence[ClassifierRun]) -> Section:
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
                    "cells": classification_tables.cells_csv(run.scores),
                    "unit": "fractions and nats",
                }
                for run, name in zip(runs, run_names(runs), strict=True)
                for table in [classification_tables.summary(run.scores)]
            ]
        },
    )
