"""Parts common to all pages: title block, comparability of runs, unreadable images, settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from shiftproof.errors import BrokenFileError, RunMismatchError
from shiftproof.io.border import show_text
from shiftproof.report import table_writing, wording
from shiftproof.report.svg.charts import SeriesStyle
from shiftproof.report.table_writing import Table
from shiftproof.runs.run import AnyRun
from shiftproof.runs.scores.audit import AuditScores
from shiftproof.runs.scores.grid import GridScores, Images
from shiftproof.runs.scores.probe import ProbeImages, ProbeScores
from shiftproof.runs.scores.reading import clean_text
from shiftproof.runs.scores.tidy import TidyScores

Scores = TypeVar("Scores", bound=TidyScores)
RunType = TypeVar("RunType", bound=AnyRun[Any])

PROVENANCE = "Provenance of the command that began the run; the number of workers changes no figure"

MAX_BROKEN = 300
"""Maximum length of the list, to keep the page small; the run's files have the rest."""


@dataclass(frozen=True)
class Section:
    """A section of the page: anchor, headings, template, and the template's context."""

    anchor: str
    title: str
    short: str
    """The title in the page's navigation."""
    template: str
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """A page before it is written: the title block and the sections."""

    title: str
    kicker: str
    short: str
    """Title in the navigation of a page with several parts: "Classifiers"."""
    byline: Sequence[Sequence[str]]
    lead: Sequence[str]
    sections: Sequence[Section]
    alarms: Sequence[str] = ()
    """Warnings without which the page would mislead; shown above all figures."""
    warnings: Sequence[str] = ()


def name_runs(runs: Sequence[AnyRun[Any]]) -> list[str]:
    """Return a unique name for each run: its folder's, with a number if necessary."""
    folders = [clean_text(run.path.resolve().name or str(run.path)) for run in runs]
    return [
        folder
        if folders.count(folder) == 1
        else f"{folder} ({1 + folders[:position].count(folder)})"
        for position, folder in enumerate(folders)
    ]


# ---------------------------------------------------------------- what the runs are


def label_models(runs: Sequence[AnyRun[Any]]) -> Iterator[tuple[Any, Any, SeriesStyle]]:
    """Yield each model of each run with a unique style.

    The label is the model's name, or its title if it is the only one of its run, after the run's name
    if several runs are shown.
    """
    number = 0
    for run, name in zip(runs, name_runs(runs), strict=True):
        for model in run.scores.models:
            own = find_single_title(run.scores.models, model) or model.name
            label = own if len(runs) == 1 else f"{name}: {own}"
            yield run, model, SeriesStyle(label, number)
            number += 1


def find_single_title(models: Sequence[Any], model: Any) -> str:
    """Return the title of a run's only model; empty if the run has several."""
    return show_text(str(model.title)) if len(models) == 1 and models[0] is model else ""


def kicker(runs: Sequence[AnyRun[Any]]) -> str:
    """Return the line above the title: the kind of the page."""
    return "Robustness report" if len(runs) == 1 else f"Comparison of {len(runs)} runs"


def describe_corruptions(runs: Sequence[AnyRun[Any]]) -> str:
    """Return ``under 15 corruptions``, without the number if it differs between the runs."""
    first = runs[0].scores.corruptions
    if any(run.scores.corruptions != first for run in runs):
        return "under corruption"
    return f"under {wording.pluralize(len(first), 'corruption')}"


def make_byline(run: AnyRun[Any], name: str, counts: Sequence[str]) -> list[str]:
    """Return a line with model, data and date; ``counts`` are numbers of images, objects, ..."""
    data = run.settings.get("data")
    stated = data.get("name") if isinstance(data, Mapping) else data
    told = [stated] if isinstance(stated, str) else []
    return [f"run {name}", *counts, *told, *describe_start(run)]


def describe_start(run: AnyRun[Any]) -> list[str]:
    """Return the start date of the run; empty if unknown."""
    started = run.provenance.get("started")
    return [started[:10]] if isinstance(started, str) else []


def describe_generated_frost(run: AnyRun[Any]) -> str | None:
    """Return a note if a run used generated frost in place of the published photographs."""
    corruptions = run.settings.get("corruptions")
    told = [str(one) for one in corruptions.values()] if isinstance(corruptions, Mapping) else []
    if look_up(run.settings, "images", "source") != "on the fly" or not any(
        "frost" in one and one.endswith("drawn textures") for one in told
    ):
        return None
    return (
        "The frost textures were generated, because the published photographs of ice were not installed. "
        "The figures of frost, and all means that include it, cannot be compared with published ones. "
        "`pip install 'shiftproof[frost]'` or --frost-dir provides the photographs."
    )


# ---------------------------------------------------------------- comparing runs


def describe_setting_differences(
    runs: Sequence[RunType], own: Mapping[str, Callable[[RunType], object]]
) -> list[str]:
    """Describe differences between runs that make their figures incomparable.

    ``own`` are further aspects that are specific to runs of this kind.
    """
    names = name_runs(runs)
    reordered = _have_reordered_classes(runs)
    aspects: dict[str, Callable[[RunType], object]] = {
        "data": lambda run: _read_data(run, without_labels=reordered),
        "images used": lambda run: run.scores.used,
        "corruptions": lambda run: wording.join_list(list(run.scores.corruptions)),
        "severities": lambda run: wording.join_list([str(s) for s in run.scores.severities]),
        **own,
        "corrupted images": lambda run: (
            look_up(run.settings, "images") or run.settings.get("encode")
        ),
        "seed": lambda run: run.settings.get("seed"),
        "classes": lambda run: run.info.classes.get("title"),
        "interval level": lambda run: run.scores.interval.level,
    }
    found = []
    for aspect, get in aspects.items():
        values = [get(run) for run in runs]
        if any(value != values[0] for value in values):
            spelled = _spell_differing(values)
            each = "; ".join(f"{name}: {one}" for name, one in zip(names, spelled, strict=True))
            found.append(f"{aspect} ({each})")
    if not found:
        return []
    return [
        "These runs are not comparable, so their figures should not be compared. "
        f"They differ in {wording.join_list(found)}."
    ]


def _have_reordered_classes(runs: Sequence[AnyRun[Any]]) -> bool:
    """Whether classifiers of the runs list the same classes in another order."""
    from shiftproof.bench.reanalysis.class_order import find_class_order

    try:
        return any(find_class_order(runs[0], run) is not None for run in runs[1:])
    except (RunMismatchError, BrokenFileError):
        return False


def _read_data(run: AnyRun[Any], *, without_labels: bool) -> object:
    """Return what identifies a run's data.

    The fingerprint has the labels as numbers, which differ if the classes have another order.
    """
    data = look_up(run.settings, "data")
    if without_labels and isinstance(data, Mapping):
        return {name: value for name, value in data.items() if name != "fingerprint"}
    return look_up(run.settings, "data", "fingerprint") or data


def _read_protocol(run: AnyRun[Any]) -> str | None:
    """The description of the protocol in the run's record."""
    stated = run.settings.get("protocol")
    words = stated.get("description") if isinstance(stated, Mapping) else stated
    return clean_text(words) if isinstance(words, str) else None


def list_protocols(runs: Sequence[AnyRun[Any]]) -> list[dict[str, str]]:
    """Descriptions of the protocols, with the names of their runs if there are several."""
    found: dict[str, list[str]] = {}
    for run, name in zip(runs, name_runs(runs), strict=True):
        if (words := _read_protocol(run)) is not None:
            found.setdefault(words, []).append(name)
    return [
        {"words": words, "runs": wording.join_list(names) if len(runs) > 1 else ""}
        for words, names in found.items()
    ]


def list_limitations(images: Images | ProbeImages, where: str) -> list[str]:
    """Describe limitations of a run's figures; ``where`` names the run, and may be empty."""
    found = []
    if images.used == 1:
        found.append(
            f"{where}Only 1 image: there are no intervals, and the figures say nothing about others."
        )
    elif images.used is not None and images.used < wording.FEW_IMAGES:
        found.append(
            f"{where}Only {wording.pluralize(images.used, 'image')}: the intervals are wide, "
            "and what looks like a large difference may be chance. Read the intervals, not "
            "the figures."
        )
    if images.broken:
        found.append(
            f"{where}{wording.pluralize(len(images.broken), 'image')} "
            + (f"of {images.total:,} " if images.total is not None else "")
            + "could not be read in some cells. They are excluded, and listed below."
        )
    return found


_MAX_DIFFERING = 3
"""Maximum number of differing settings named for each run."""


def _spell_differing(values: Sequence[object]) -> list[str]:
    """Return each run's setting in words; for nested settings, the first parts that differ."""
    if not all(isinstance(value, Mapping) and "description" not in value for value in values):
        return [_spell_setting(value) for value in values]
    parts = [dict(flatten(value)) for value in values if isinstance(value, Mapping)]
    keys = dict.fromkeys(key for one in parts for key in one)
    differing = [key for key in keys if len({one.get(key) for one in parts}) > 1]
    more = len(differing) - _MAX_DIFFERING
    end = f", and {more} more" if more > 0 else ""
    return [
        ", ".join(f"{key} {one.get(key, 'not stated')}" for key in differing[:_MAX_DIFFERING]) + end
        for one in parts
    ]


def _spell_setting(value: object) -> str:
    if value is None:
        return "not stated"
    if isinstance(value, Mapping) and isinstance(value.get("description"), str):
        return clean_text(value["description"])
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {spelled}" for key, spelled in flatten(value))
    return clean_text(str(value))


def look_up(settings: Mapping[str, Any], *keys: str) -> object:
    """Return the value at nested keys, or None if one is missing."""
    value: Any = settings
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    found: object = value
    return found


# ---------------------------------------------------------------- sections


def list_broken_files(runs: Sequence[AnyRun[Any]], rule: str) -> Section | None:
    """Build the list of unreadable images; ``rule`` describes their treatment."""
    rows = [
        {
            "run": name,
            "id": image.id,
            "reason": image.reason,
            "cells": wording.NONE if image.cells is None else f"{image.cells:,}",
            "first": wording.title_cell(image.first_cell) if image.first_cell else "",
        }
        for run, name in zip(runs, name_runs(runs), strict=True)
        for image in run.scores.images.broken
    ]
    if not rows:
        return None
    return Section(
        "broken",
        "Files that could not be used",
        "Broken files",
        "broken.html.j2",
        {
            "rows": rows[:MAX_BROKEN],
            "more": max(0, len(rows) - MAX_BROKEN),
            "several": len(runs) > 1,
            "rule": rule,
            "used": sum(run.scores.used or 0 for run in runs),
            "total": sum(run.scores.images.total or 0 for run in runs),
        },
    )


def build_settings_section(runs: Sequence[AnyRun[Any]]) -> Section:
    """Build the list of all settings and provenance in the runs' files."""
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
                        *_make_setting_blocks(run.settings),
                        ("Assumed on loading", flatten(run.info.assumed)),
                        ("Classes", flatten(run.info.classes)),
                        ("Images used", _make_images(run.scores)),
                        ("Intervals", flatten(msgspec.to_builtins(run.scores.interval))),
                        (PROVENANCE, flatten(run.provenance)),
                        *_make_extension_blocks(run.info.extended),
                    ],
                }
                for run, name in zip(runs, name_runs(runs), strict=True)
            ]
        },
    )


def _make_extension_blocks(
    extended: Sequence[Mapping[str, Any]],
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return a block for each time that a run was extended."""
    return [("Extended", flatten(dict(entry))) for entry in extended]


def _make_setting_blocks(settings: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return a block for each nested setting, after one with the flat settings."""
    nested = {key: value for key, value in settings.items() if isinstance(value, Mapping) and value}
    plain = {key: value for key, value in settings.items() if key not in nested}
    return [
        ("Settings", flatten(plain)),
        *((wording.corruption_title(clean_text(key)), flatten(nested[key])) for key in nested),
    ]


def _make_images(scores: GridScores | ProbeScores | AuditScores) -> list[tuple[str, str]]:
    if isinstance(scores, AuditScores):
        return []  # rows of embeddings have no images
    found = [
        ("in the dataset", _count(scores.images.total)),
        ("used", _count(scores.images.used)),
        ("broken", f"{len(scores.images.broken):,}"),
    ]
    if isinstance(scores, GridScores):
        found.append(("grid complete", "yes" if scores.grid.complete else "no"))
    return found


def _count(images: int | None) -> str:
    return "not known" if images is None else f"{images:,}"


def flatten(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten nested settings to lines such as ``data.name`` and value; a plain list is one line."""
    lines: list[tuple[str, str]] = []
    if settings and all(key == value for key, value in settings.items()):
        # A mapping of names to themselves is shown as a list.
        return [
            (prefix.rstrip(".") or "names", ", ".join(clean_text(str(key)) for key in settings))
        ]
    for key, value in settings.items():
        name = f"{prefix}{clean_text(str(key))}"
        if isinstance(value, Mapping) and value:
            lines.extend(flatten(value, f"{name}."))
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            lines.extend(
                flatten({str(place): item for place, item in enumerate(value)}, f"{name}.")
            )
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


def build_reading_section(template: str, context: Mapping[str, Any]) -> Section:
    """Build the explanations at the end of the page."""
    return Section(
        "reading",
        "How to read this",
        "How to read",
        template,
        {"few": wording.FEW_IMAGES, **context},
    )


def build_numbers_section(
    runs: Sequence[AnyRun[Scores]],
    summarize: Callable[[Scores], Table],
    write_cells: Callable[[Scores], str],
    *,
    unit: str,
) -> Section:
    """Build the downloads of each run: the summary as CSV and LaTeX, and all cells as CSV.

    ``unit`` is the unit of the figures of all cells: fractions, ...
    """
    listed = []
    for run, name in zip(runs, name_runs(runs), strict=True):
        table = summarize(run.scores)
        listed.append(
            {
                "name": name if len(runs) > 1 else None,
                "csv": table_writing.to_csv(table),
                "latex": table_writing.to_latex(table),
                "stored": _list_units(one.stored for one in table.number_formats),
                "printed": _list_units(one.printed for one in table.number_formats),
                "cells": write_cells(run.scores),
                "unit": unit,
            }
        )
    return Section(
        "numbers",
        "The table as CSV and LaTeX",
        "CSV and LaTeX",
        "numbers.html.j2",
        {"runs": listed},
    )


def _list_units(units: Iterable[str]) -> str:
    return wording.join_list(list(dict.fromkeys(units)))
