"""The page of classification runs: what it says and shows, before any markup."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shiftproof.report import colours, estimation, figures, happenings, tables, wording
from shiftproof.report.gallery import Pictures
from shiftproof.report.scores import (
    ClassScore,
    Interval,
    Prediction,
    Run,
    Scored,
    Scores,
    Sheet,
    Shown,
    Summary,
    clean_text,
)
from shiftproof.report.sections import Document, Entry, Section, entries, run_names
from shiftproof.types import CLEAN, Cell

if TYPE_CHECKING:
    from shiftproof.bench.estimates import StreamEstimate

MOST = 10
"""How many classes a list of the worst holds."""

MOST_BROKEN = 300
MOST_CLASSES = 1000
"""Longer lists would make a page that no browser likes; the run's files have the rest."""


@dataclass(frozen=True)
class Change:
    """A paired difference on the page: a model, what it is held against, and the figures."""

    run: Run
    entry: Entry
    against: Entry
    scored: Scored

    @property
    def label(self) -> str:
        """The name of the difference."""
        return f"{self.entry.label} {wording.MINUS} {self.against.scored.name}"


def document(
    runs: Sequence[Run], pictures: Pictures, stream: StreamEstimate | None = None
) -> Document:
    """Build the page of one run, or of several side by side.

    ``pictures`` are those of the first run that has any; ``stream`` is what is believed of the
    errors of a run without labels.
    """
    first = runs[0].scores
    shown = entries(runs)
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
        _broken(runs),
        _numbers(runs),
        _settings(runs),
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
        byline=[_byline(run, name) for run, name in zip(runs, run_names(runs), strict=True)],
        lead=[
            *([] if stream is None else estimation.belief_lead(stream, shown)),
            *_lead(runs, shown, changes),
        ],
        sections=[section for section in sections if section is not None],
        alarms=_differing(runs),
        warnings=_warnings(runs, believed=stream is not None),
    )


def _unadapted(shown: Sequence[Entry], changes: Sequence[Change]) -> list[Entry]:
    adapted = {id(change.entry) for change in changes}
    return [entry for entry in shown if id(entry) not in adapted] or list(shown[:1])


def _byline(run: Run, name: str) -> list[str]:
    """Say in one line what was measured on what, and when."""
    data = run.settings.get("data")
    stated = data.get("name") if isinstance(data, Mapping) else data
    started = run.provenance.get("started")
    return [
        f"run {name}",
        wording.plural(run.scores.used, "image"),
        *([clean_text(stated)] if isinstance(stated, str) else []),
        *([clean_text(started)[:10]] if isinstance(started, str) else []),
    ]


# ---------------------------------------------------------------- comparing runs


def _differing(runs: Sequence[Run]) -> list[str]:
    """Say in what the runs differ that makes their figures no fair comparison."""
    names = run_names(runs)
    aspects: dict[str, Callable[[Run], object]] = {
        "data": lambda run: (
            _look_up(run.settings, "data", "fingerprint") or _look_up(run.settings, "data")
        ),
        "images used": lambda run: run.scores.used,
        "corruptions": lambda run: wording.listing(list(run.scores.corruptions)),
        "severities": lambda run: wording.listing([str(s) for s in run.scores.severities]),
        "protocol": lambda run: run.settings.get("protocol"),
        "batch size of the adapters": lambda run: _batch_size(run, runs),
        "corrupted images": lambda run: (
            _look_up(run.settings, "images") or run.settings.get("encode")
        ),
        "seed": lambda run: run.settings.get("seed"),
        "classes": lambda run: run.classes.get("title"),
        "interval level": lambda run: run.scores.level,
    }
    found = []
    for aspect, get in aspects.items():
        values = [get(run) for run in runs]
        if any(value != values[0] for value in values):
            spelt = "; ".join(
                f"{name}: {_spelt(value)}" for name, value in zip(names, values, strict=True)
            )
            found.append(f"{aspect} ({spelt})")
    if not found:
        return []
    return [
        "These runs are not like for like, so their figures must not be held against each other. "
        f"They differ in {wording.listing(found)}."
    ]


def _batch_size(run: Run, runs: Sequence[Run]) -> object:
    """The batch size where it moves a figure; a run without adapters is like any other there."""
    adapted = [one for one in runs if one.settings.get("adapters")]
    asked = run if run.settings.get("adapters") else (adapted or runs)[0]
    return _look_up(asked.settings, "batch_size")


def _protocol(run: Run) -> str | None:
    """The protocol in words, as the run states it."""
    stated = run.settings.get("protocol")
    words = stated.get("description") if isinstance(stated, Mapping) else stated
    return clean_text(words) if isinstance(words, str) else None


def _protocols(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Each protocol in words, with the names of the runs that had it."""
    found: dict[str, list[str]] = {}
    for run, name in zip(runs, run_names(runs), strict=True):
        if (words := _protocol(run)) is not None:
            found.setdefault(words, []).append(name)
    return list(found.items())


def _spelt(value: object) -> str:
    if value is None:
        return "not stated"
    if isinstance(value, Mapping) and isinstance(value.get("description"), str):
        return clean_text(value["description"])
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {spelt}" for key, spelt in flat(value))
    return clean_text(str(value))


def _look_up(settings: Mapping[str, Any], *keys: str) -> object:
    value: Any = settings
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    found: object = value
    return found


def _warnings(runs: Sequence[Run], *, believed: bool) -> list[str]:
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


def _changes(runs: Sequence[Run], shown: Sequence[Entry]) -> list[Change]:
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


def _lead(runs: Sequence[Run], shown: Sequence[Entry], changes: Sequence[Change]) -> list[str]:
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


def _subject(runs: Sequence[Run], entry: Entry) -> str:
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


def _overview(runs: Sequence[Run], shown: Sequence[Entry], changes: Sequence[Change]) -> Section:
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
            "mce_reasons": _mce_reasons(runs) if labelled else [],
            "alike": not _differing(runs),
            "protocols": [
                {"words": words, "runs": wording.listing(names) if len(runs) > 1 else ""}
                for words, names in _protocols(runs)
            ],
            "level": wording.level(runs[0].scores),
            "several": len(runs) > 1,
            "measure": wording.measure_name(runs[0].scores),
        },
    )


def _mce_reasons(runs: Sequence[Run]) -> list[str]:
    """Say why there is no mCE, once for each reason."""
    found: dict[str, list[str]] = {}
    for run, name in zip(runs, run_names(runs), strict=True):
        if run.scores.mce_reason is not None:
            found.setdefault(run.scores.mce_reason, []).append(name)
    if len(runs) == 1:
        return list(found)
    return [f"for {wording.listing(names)}, {reason}" for reason, names in found.items()]


def _severities(runs: Sequence[Run]) -> str:
    first = runs[0].scores.severities
    if all(run.scores.severities == first for run in runs):
        return wording.severities_phrase(first)
    return "the severities of each run"


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


def _all_groups(runs: Sequence[Run]) -> dict[str, list[str]]:
    merged: dict[str, list[str]] = {}
    for run in runs:
        for group, names in run.scores.groups().items():
            listed = merged.setdefault(group, [])
            listed.extend(name for name in names if name not in listed)
    return merged


def _by_corruption(
    runs: Sequence[Run], shown: Sequence[Entry], changes: Sequence[Change]
) -> Section:
    highest = max(
        (
            score.error.high
            for entry in shown
            for score in entry.scored.corruptions
            if score.error is not None
        ),
        default=1.0,
    )
    top = figures.nice_top(highest)

    def row(
        title: str, intervals: Sequence[Interval | None], deltas: Sequence[Interval | None]
    ) -> dict[str, object]:
        return {
            "title": title,
            "bars": figures.bars(
                [(entry.look, interval) for entry, interval in zip(shown, intervals, strict=True)],
                title=title,
                top=top,
            ),
            "figures": [
                {"value": wording.percent(wording.value_of(i)), "span": wording.span(i)}
                for i in intervals
            ],
            "deltas": [
                {
                    "value": wording.points(wording.value_of(i)),
                    "span": wording.points_span(i),
                    "sure": i is not None and not i.spans_zero,
                }
                for i in deltas
            ],
        }

    def error(scored: Scored, name: str) -> Interval | None:
        score = scored.corruption(name)
        return None if score is None else score.error

    groups = [
        {
            "title": wording.group_title(group),
            "rows": [
                row(
                    wording.corruption_title(name),
                    [error(entry.scored, name) for entry in shown],
                    [error(change.scored, name) for change in changes],
                )
                for name in names
            ],
        }
        for group, names in _all_groups(runs).items()
    ]
    groups.append(
        {
            "title": "All",
            "rows": [
                row(
                    "Mean over corruptions",
                    [entry.scored.summary.mean_error for entry in shown],
                    [change.scored.summary.mean_error for change in changes],
                )
            ],
        }
    )
    if runs[0].scores.labelled:
        groups.insert(
            0,
            {
                "title": "No corruption",
                "rows": [
                    row(
                        "Clean images",
                        [entry.scored.clean.error for entry in shown],
                        [change.scored.clean.error for change in changes],
                    )
                ],
            },
        )
    return Section(
        "corruptions",
        "Corruption by corruption",
        "Corruptions",
        "corruptions.html.j2",
        {
            "groups": groups,
            "axis": figures.axis(top),
            "legend": _legend(shown),
            "entries": shown,
            "changes": changes,
            "measure": wording.measure_name(runs[0].scores),
            "severities": _severities(runs),
            "level": wording.level(runs[0].scores),
        },
    )


def _legend(shown: Sequence[Entry]) -> list[dict[str, object]]:
    return [
        {
            "label": entry.label,
            "key": figures.key(entry.look),
            "title": entry.scored.title if entry.scored.title != entry.scored.name else "",
            "settings": wording.adapter_words(entry.adapter),
        }
        for entry in shown
    ]


# ---------------------------------------------------------------- heat maps


def _heat(runs: Sequence[Run], shown: Sequence[Entry], changes: Sequence[Change]) -> Section:
    furthest = max(
        (
            abs(found.error.value)
            for change in changes
            for found in change.scored.cells.values()
            if found.error is not None
        ),
        default=0.0,
    )
    reach = max(0.1, figures.nice_reach(furthest))
    maps = [_heat_map(entry.run, entry.label, entry.scored, None) for entry in shown]
    maps += [_heat_map(change.run, change.label, change.scored, reach) for change in changes]
    return Section(
        "heat",
        "Corruption × severity",
        "Heat map",
        "heat.html.j2",
        {
            "maps": maps,
            "scale": [
                (colours.sequential_level(step / 10), f"{10 * step}") for step in range(0, 11, 2)
            ],
            "diverging": [
                (colours.diverging_level(share * reach, reach), wording.axis_number(share * reach))
                for share in (-1.0, -0.5, 0.0, 0.5, 1.0)
            ]
            if changes
            else [],
            "measure": wording.measure_name(runs[0].scores),
            "level": wording.level(runs[0].scores),
        },
    )


def _heat_map(run: Run, label: str, scored: Scored, reach: float | None) -> dict[str, object]:
    scores = run.scores

    def cell(interval: Interval | None, title: str) -> dict[str, object]:
        if interval is None:
            return {"text": wording.NONE, "style": "none", "title": f"{title}: not measured"}
        if reach is None:
            return {
                "text": wording.percent(interval.value),
                "style": f"s{colours.sequential_level(interval.value)}",
                "title": f"{title}: {wording.share(interval.value)} ({wording.span(interval)})",
            }
        return {
            "text": wording.points(interval.value),
            "style": f"d{colours.diverging_level(interval.value, reach)}"
            + ("" if interval.spans_zero else " sure"),
            "title": f"{title}: {wording.points(interval.value)} points "
            f"({wording.points_span(interval)})",
        }

    groups = []
    for group, names in scores.groups().items():
        rows = []
        for name in names:
            title = wording.corruption_title(name)
            by_severity = []
            for severity in scores.severities:
                found = scored.cells.get(Cell(name, severity))
                interval = None if found is None else found.error
                by_severity.append(cell(interval, f"{title}, severity {severity}"))
            mean = scored.corruption(name)
            rows.append(
                {
                    "title": title,
                    "cells": by_severity,
                    "mean": cell(None if mean is None else mean.error, f"{title}, mean"),
                }
            )
        groups.append({"title": wording.group_title(group), "rows": rows})
    return {
        "title": label,
        "difference": reach is not None,
        "severities": scores.severities,
        "clean": cell(scored.clean.error, "Clean") if scores.labelled else None,
        "mean": cell(scored.summary.mean_error, "Mean over corruptions"),
        "groups": groups,
    }


# ---------------------------------------------------------------- severity curves


def _curves(runs: Sequence[Run], shown: Sequence[Entry], changes: Sequence[Change]) -> Section:
    highest = max(
        (
            found.error.high
            for entry in shown
            for found in (entry.scored.clean, *entry.scored.cells.values())
            if found.error is not None
        ),
        default=1.0,
    )
    top = figures.nice_top(highest)
    severities = sorted({severity for run in runs for severity in run.scores.severities})
    groups = []
    for group, names in _all_groups(runs).items():
        panels = []
        for name in names:
            title = wording.corruption_title(name)
            curves = [
                figures.Curve(entry.look, points)
                for entry in shown
                if (points := _curve_points(entry, name))
            ]
            panels.append(
                {
                    "title": title,
                    "chart": figures.severity_curves(
                        curves, title=title, severities=severities, top=top
                    ),
                }
            )
        groups.append({"title": wording.group_title(group), "panels": panels})
    return Section(
        "curves",
        "How fast it breaks",
        "Curves",
        "curves.html.j2",
        {
            "groups": groups,
            "legend": _legend(shown),
            "level": wording.level(runs[0].scores),
            "measure": wording.measure_name(runs[0].scores),
            "labelled": runs[0].scores.labelled,
            "rows": _cell_rows(shown, changes),
        },
    )


def _curve_points(entry: Entry, corruption: str) -> list[tuple[int, Interval]]:
    points: list[tuple[int, Interval]] = []
    clean = entry.scored.clean.error
    if clean is not None and entry.run.scores.labelled:
        points.append((0, clean))
    for severity in entry.run.scores.severities:
        found = entry.scored.cells.get(Cell(corruption, severity))
        if found is not None and found.error is not None:
            points.append((severity, found.error))
    # A model that was not run on this corruption has nothing but its clean figure to show.
    return points if any(severity for severity, _ in points) else []


def _cell_rows(shown: Sequence[Entry], changes: Sequence[Change]) -> list[dict[str, object]]:
    """Return every cell with every figure: the numbers behind curves and heat maps."""
    columns: list[tuple[str, Run, Scored]] = [
        *((entry.label, entry.run, entry.scored) for entry in shown),
        *((change.label, change.run, change.scored) for change in changes),
    ]
    rows: list[dict[str, object]] = []
    for label, run, scored in columns:
        signed = scored.against is not None
        spell = wording.points if signed else wording.percent
        ends = wording.points_span if signed else wording.span
        for corruption, severity, found in tables.every_cell(run.scores, scored):
            rows.append(
                {
                    "model": label,
                    "corruption": wording.corruption_title(corruption),
                    "severity": severity or wording.NONE,
                    "images": wording.NONE if found.images is None else f"{found.images:,}",
                    "error": spell(wording.value_of(found.error)),
                    "span": ends(found.error),
                    "top5": spell(wording.value_of(found.top5_error)),
                    "calibration": spell(wording.value_of(found.calibration_error)),
                    "loss": wording.loss(wording.value_of(found.loss)),
                }
            )
    return rows


# ---------------------------------------------------------------- gallery


def _gallery(runs: Sequence[Run], shown: Sequence[Entry], pictures: Pictures) -> Section | None:
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
            "sheets": [_sheet(run, own, sheet, pictures) for sheet in pictures.sheets],
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


def _sheet(run: Run, shown: Sequence[Entry], sheet: Sheet, pictures: Pictures) -> dict[str, object]:
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


def _tally(entry: Entry, sheet: Sheet) -> dict[str, object]:
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


def _said(shown: Sequence[Entry], sheet: Sheet, cell: str) -> list[dict[str, object]]:
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
    shown: Sequence[Entry], changes: Sequence[Change], pictures: Pictures, runs: Sequence[Run]
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


def _class_row(shown: Sequence[Entry], score: ClassScore) -> dict[str, object]:
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


def _losing_sheets(run: Run, changes: Sequence[Change]) -> list[dict[str, object]]:
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


def _broken(runs: Sequence[Run]) -> Section | None:
    rows = [
        {
            "run": name,
            "id": image.id,
            "reason": image.reason,
            "cells": wording.NONE if image.cells is None else f"{image.cells:,}",
            "first": wording.cell_title(image.first_cell) if image.first_cell else "",
        }
        for run, name in zip(runs, run_names(runs), strict=True)
        for image in run.scores.broken
    ]
    if not rows:
        return None
    return Section(
        "broken",
        "Files that could not be used",
        "Broken files",
        "broken.html.j2",
        {
            "rows": rows[:MOST_BROKEN],
            "more": max(0, len(rows) - MOST_BROKEN),
            "several": len(runs) > 1,
            "used": sum(run.scores.used for run in runs),
            "total": sum(run.scores.total for run in runs),
        },
    )


def _numbers(runs: Sequence[Run]) -> Section:
    return Section(
        "numbers",
        "The table, to copy",
        "CSV and LaTeX",
        "numbers.html.j2",
        {
            "runs": [
                {
                    "name": name if len(runs) > 1 else None,
                    "csv": tables.summary_csv(run.scores),
                    "latex": tables.summary_latex(run.scores),
                    "cells": tables.cells_csv(run.scores),
                }
                for run, name in zip(runs, run_names(runs), strict=True)
            ]
        },
    )


def _settings(runs: Sequence[Run]) -> Section:
    return Section(
        "settings",
        "Settings and provenance",
        "Settings",
        "settings.html.j2",
        {
            "runs": [
                {
                    "name": name if len(runs) > 1 else None,
                    "blocks": [
                        *_setting_blocks(run.settings),
                        ("Classes", flat(run.classes)),
                        ("Images used", _images(run.scores)),
                        ("Intervals", flat(run.scores.interval)),
                        ("Provenance", flat(run.provenance)),
                    ],
                }
                for run, name in zip(runs, run_names(runs), strict=True)
            ]
        },
    )


def _setting_blocks(settings: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return nested settings as a block each, before them what stands on its own."""
    nested = {key: value for key, value in settings.items() if isinstance(value, Mapping) and value}
    plain = {key: value for key, value in settings.items() if key not in nested}
    return [
        ("Settings", flat(plain)),
        *((wording.corruption_title(clean_text(key)), flat(nested[key])) for key in nested),
    ]


def _images(scores: Scores) -> list[tuple[str, str]]:
    return [
        ("in the data set", f"{scores.total:,}"),
        ("used", f"{scores.used:,}"),
        ("broken", f"{len(scores.broken):,}"),
        ("grid complete", "yes" if scores.complete else "no"),
    ]


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as lines, ``data.name`` and its value; a plain list is one line."""
    lines: list[tuple[str, str]] = []
    if settings and all(key == value for key, value in settings.items()):
        # A table of names that stand for themselves: the list of them says as much.
        return [
            (prefix.rstrip(".") or "names", ", ".join(clean_text(str(key)) for key in settings))
        ]
    for key, value in settings.items():
        name = f"{prefix}{clean_text(str(key))}"
        if isinstance(value, Mapping) and value:
            lines.extend(flat(value, f"{name}."))
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            lines.extend(flat({str(place): item for place, item in enumerate(value)}, f"{name}."))
        elif isinstance(value, list):
            lines.append((name, ", ".join(_plain(item) for item in value) or "none"))
        else:
            lines.append((name, _plain(value)))
    return lines


def _plain(value: Any) -> str:
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return clean_text(str(value))
