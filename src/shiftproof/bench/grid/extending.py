"""Extending a run: the union of the cells in its folder and those requested now.

The predictions in a cell depend only on the cell, the images and the model. So cells and models can be
added later, with the same results as a single run over all of them.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shiftproof.bench.arguments import CorruptionLike
from shiftproof.bench.cells.protocol import Protocol
from shiftproof.bench.grid.request import LoadedGrid
from shiftproof.bench.tasks.classification.calibrating import HELD_OUT_RECORDS, keep_calibrations
from shiftproof.bench.tasks.interface import SOURCE, Prepared
from shiftproof.corruptions.extent import (
    describe_cells,
    find_custom,
    format_added,
    format_existing,
    join_names,
    unite_names,
)
from shiftproof.errors import RunMismatchError
from shiftproof.io import files, manifest
from shiftproof.io.text import read_json
from shiftproof.runs.budget import KEY as BUDGET
from shiftproof.runs.extension import Extension, read_extension, read_requested_settings
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.scores.grid import GridScores
from shiftproof.runs.scores.reading import write_form
from shiftproof.types import Cell, Settings

_MODEL_FOLDERS = ("records", "events", HELD_OUT_RECORDS)
"""Folders with a subfolder for each model."""

NAMED_SETTINGS = ("corruptions", "models", "adapters", "classes")
"""Settings that map names to values, to which names can be added; ``classes`` are those of each model."""

_ADD_MODELS = (
    "To add a model, name the run's own beside it, each by a name of its own (--model A --model B)."
)

NOT_EXTENDABLE = {
    "anytime": "An anytime run cannot be extended: its draws depend on all cells and models together.",
    "breaking": "Breaking points are searched between severities, and are no cells of a grid: a run over "
    "them cannot be extended.",
}
"""Why runs of these kinds cannot be extended."""


@dataclass(frozen=True, eq=False)
class GridPart:
    """Some of the corruptions, severities and models of a run.

    Attributes:
        corruptions: names of the corruptions.
        severities: in rising order.
        models: names of the models and adapters.
    """

    corruptions: Sequence[str] = ()
    severities: Sequence[int] = ()
    models: Sequence[str] = ()

    def __bool__(self) -> bool:
        """Whether it has any of them."""
        return any((self.corruptions, self.severities, self.models))


@dataclass(frozen=True, eq=False)
class MergedRun:
    """The union of the run in a folder and the requested one.

    Attributes:
        grid: all cells, with the requested models by their names in the run, and the titles of all models.
        settings: settings of the merged run.
        previous: settings of the run in the folder; None without one.
        added: requested parts that the folder does not have.
        unrequested: parts of the folder that are not requested now.
        unresolved: corruptions of the folder that cannot be made from their names alone.
        renamed: names of models in the folder to those in the merged run.
        pending: an unfinished extension of the folder of which nothing is requested now; the merged run
            is then the run before it.
    """

    grid: LoadedGrid
    settings: Settings
    previous: Settings | None = None
    added: GridPart = GridPart()
    unrequested: GridPart = GridPart()
    unresolved: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    pending: str | None = None

    @property
    def is_extended(self) -> bool:
        """Whether the run in the folder changes."""
        return self.previous is not None and self.previous != self.settings

    @property
    def is_subset(self) -> bool:
        """Whether the folder has parts that are not requested now."""
        return bool(self.unrequested)

    @property
    def titles(self) -> Mapping[str, str]:
        """Titles of all models by name."""
        return self.grid.prepared.titles

    def list_missing(self, folder: RunFolder) -> list[tuple[str, Cell]]:
        """Return the models and cells without records."""
        previous = {new: old for old, new in self.renamed.items()}
        return [
            (name, cell)
            for name in self.titles
            for cell in self.grid.cells
            if not folder.has(name, cell) and not folder.has(previous.get(name, name), cell)
        ]

    def is_done(self, folder: RunFolder) -> bool:
        """Whether the folder has all that is requested, and more, so that nothing is left to do."""
        if self.pending is not None:
            return True
        if not self.is_subset or self.is_extended or folder.extension is not None:
            return False
        return folder.scores_file.is_file() and not self.list_missing(folder)

    def make_extension(self, about: Settings) -> Extension | None:
        """Return the extension for ``run.json``; None where the run does not change."""
        if not self.is_extended:
            return None
        return Extension(
            settings=self.settings,
            added=describe_added(self),
            scores=None,
            renamed=dict(self.renamed),
            assumed=about.get("assumed", {}),
            provenance=about.get("provenance", {}),
        )


def merge_run(path: Path, grid: LoadedGrid, *, joins: bool = False) -> MergedRun:
    """Return the union of the requested grid and the run in a folder.

    Args:
        path: the folder, with or without a run.
        grid: the requested grid.
        joins: whether this is one of several workers, which joins an extension that another one has
            started, even if less is requested.

    Raises:
        RunMismatchError: the run has other settings that determine its cells, or cannot be extended.
    """
    request, kind = MergedRun(grid, grid.settings()), grid.request.task.kind
    info = _read_run(path)
    if info is None:
        return request
    if info.get("kind") != kind:
        manifest.check_same(
            path, {"kind": info.get("kind")}, {"kind": kind}, what="a run",
            why=NOT_EXTENDABLE.get(str(info.get("kind")), ""),
        )  # fmt: skip
    if not _has_grid(read_requested_settings(info)):
        return request  # refused where the folder is begun
    folder = RunFolder(path)
    extension = read_extension(info)
    if extension is not None and not joins and folder.scores_file.is_file():
        merged = _merge(path, request, folder.info(), folder.info()["settings"])
        if not merged.added:
            is_finished = merged.settings == extension.settings
            return dataclasses.replace(merged, pending=None if is_finished else extension.added)
    return _merge(path, request, info, read_requested_settings(info))


def _merge(path: Path, request: MergedRun, info: Mapping[str, Any], previous: Any) -> MergedRun:
    previous = stored = manifest.update_keys(previous)
    settings, grid = request.settings, request.grid
    renamed, requested = _match_names(stored, settings)
    stored, settings = _rename(stored, renamed), _rename(settings, requested)
    _check_alike(path, stored, settings)
    merged = _merge_settings(stored, settings)
    added, unrequested = _subtract(merged, stored), _subtract(merged, settings)
    prepared = _rename_models(grid.prepared, requested)
    _check_first(path, stored, settings, merged)
    if added:
        _check_extendable(path, info, added, grid.request.protocol)
    named = {name: grid.corruptions.get(name) for name in merged["corruptions"]}
    found, unresolved = _resolve_corruptions(
        named, merged["corruptions"], on_disk=prepared.corrupted is not None
    )
    models = _read_named(merged, "models")
    titles = {
        name: prepared.titles.get(name) or _choose_title(name, models)
        for name in dict.fromkeys([*models, *_read_named(merged, "adapters"), *prepared.titles])
    }
    return MergedRun(
        LoadedGrid(
            grid.request,
            dataclasses.replace(prepared, titles=titles),
            found,
            merged["severities"],
        ),
        merged,
        previous=previous,
        added=added,
        unrequested=unrequested,
        unresolved=unresolved,
        renamed=renamed,
    )


def _read_run(path: Path) -> dict[str, Any] | None:
    file = RunFolder(path).run_file
    info = read_json(file) if file.is_file() else None
    return info if isinstance(info, dict) else None


def _has_grid(settings: Settings | None) -> bool:
    """Whether settings are of a run over a grid; those of scored result files are not."""
    if settings is None or not isinstance(settings.get("corruptions"), dict):
        return False
    severities = settings.get("severities")
    return isinstance(severities, list) and all(isinstance(one, int) for one in severities)


# ---------------------------------------------------------------- merging settings


def _read_named(settings: Settings, key: str) -> dict[str, Any]:
    value = settings.get(key)
    return value if isinstance(value, dict) else {}


def _match_names(stored: Settings, requested: Settings) -> tuple[dict[str, str], dict[str, str]]:
    """Return new names for the folder's models, and for the requested ones.

    A single model is called "source", but has its own name in a run of several.
    """
    known, wanted = _read_named(stored, "models"), _read_named(requested, "models")
    if set(wanted) == {SOURCE} and SOURCE not in known:
        return {}, _match_source(wanted, known)
    if set(known) == {SOURCE} and SOURCE not in wanted:
        found = _match_source(known, wanted)
        return ({}, {new: old for old, new in found.items()}) if len(wanted) == 1 else (found, {})
    return {}, {}


def _match_source(single: Mapping[str, Any], several: Mapping[str, Any]) -> dict[str, str]:
    """Return the name in ``several`` of the model that is called "source" in ``single``."""
    # Names become names of folders, and may come from an edited file of settings.
    names = [
        name
        for name, settings in several.items()
        if settings == single[SOURCE] and files.can_name_files(name)
    ]
    return {SOURCE: names[0]} if names else {}


def _rename(settings: Settings, names: Mapping[str, str]) -> Settings:
    changed = {
        key: {names.get(name, name): value for name, value in _read_named(settings, key).items()}
        for key in ("models", "classes")
        if isinstance(settings.get(key), dict)
    }
    return {**settings, **changed} if names else settings


def _rename_models(prepared: Prepared, names: Mapping[str, str]) -> Prepared:
    if not names:
        return prepared
    models = {names.get(name, name): model for name, model in prepared.models.items()}
    titles = {name: title for name, title in prepared.titles.items() if name not in names}
    return dataclasses.replace(prepared, models=models, titles=titles)


def _check_alike(path: Path, stored: Settings, requested: Settings) -> None:
    """Refuse settings that differ in more than added names and severities."""

    def keep_common(one: Settings, other: Settings) -> Settings:
        common = {key: value for key, value in one.items() if key != "severities"}
        for key in NAMED_SETTINGS:
            if isinstance(one.get(key), dict) and isinstance(other.get(key), dict):
                common[key] = {name: one[key][name] for name in one[key] if name in other[key]}
        return common

    reduced = keep_common(stored, requested), keep_common(requested, stored)
    known, wanted = (_read_named(one, "models").get(SOURCE) for one in reduced)
    why = _ADD_MODELS if known != wanted else ""
    manifest.check_same(path, *reduced, what="a run", why=why)


def _merge_settings(stored: Settings, requested: Settings) -> Settings:
    merged = dict(stored)
    for key in NAMED_SETTINGS:
        if isinstance(stored.get(key), dict):
            names = unite_names(stored[key], _read_named(requested, key))
            merged[key] = {name: {**stored[key], **requested[key]}[name] for name in names}
    merged["severities"] = sorted({*stored["severities"], *requested["severities"]})
    return merged


def _subtract(merged: Settings, part: Settings) -> GridPart:
    """Return the parts of the merged run that ``part`` does not have."""

    def list_others(key: str) -> list[Any]:
        return [name for name in merged.get(key, ()) if name not in part.get(key, ())]

    models = [*list_others("models"), *list_others("adapters")]
    return GridPart(list_others("corruptions"), list_others("severities"), models)


def _choose_title(name: str, models: Mapping[str, Any]) -> str:
    """Return the title of a model that is not loaded, or renamed, as ``choose_titles`` does."""
    settings = models.get(name)
    full = settings.get("name") if isinstance(settings, dict) else None
    return str(full) if name == SOURCE and full else name


def _resolve_corruptions(
    named: Mapping[str, CorruptionLike | None], identities: Mapping[str, Any], *, on_disk: bool
) -> tuple[dict[str, CorruptionLike], dict[str, str]]:
    """Return all corruptions, unrequested ones by name; and those that a name does not determine."""
    absent = [name for name, one in named.items() if one is None and not on_disk]
    unresolved = find_custom(identities, absent)
    return {name: name if one is None else one for name, one in named.items()}, unresolved


# ---------------------------------------------------------------- refusals


def _check_extendable(
    path: Path, info: Mapping[str, Any], added: GridPart, protocol: Protocol
) -> None:
    """Refuse extensions that would change recorded cells."""
    if BUDGET in info:
        raise _explain_refusal(
            path, "a budget chose its images by the time that its cells took", added
        )
    if protocol.reset == "never" and (added.corruptions or added.severities):
        raise _explain_refusal(
            path,
            f"under the protocol {protocol} all cells are one stream, in which a model's answers depend "
            "on the cells before",
            added,
        )
    if protocol.reset == "corruption" and added.severities:
        raise _explain_refusal(
            path,
            f"under the protocol {protocol} the severities of a corruption are one stream, in which a "
            "model's answers depend on the others",
            added,
        )


def _check_first(path: Path, stored: Settings, requested: Settings, merged: Settings) -> None:
    """Refuse another first model: adapters wrap it, and their settings do not name it."""
    first = next(iter(_read_named(merged, "models")), None)
    for settings in (stored, requested):
        adapters = _read_named(settings, "adapters")
        own = next(iter(_read_named(settings, "models")), None)
        if adapters and own != first:
            raise RunMismatchError(
                f"{path}: adapters run beside the first model of a run, which is {own} for "
                f"{', '.join(adapters)} and {first} in the extended run. Name {own} first."
            )


def _explain_refusal(path: Path, why: str, added: GridPart) -> RunMismatchError:
    what = [
        *added.corruptions,
        *(f"severity {severity}" for severity in added.severities),
        *added.models,
    ]
    return RunMismatchError(
        f"{path} cannot be extended by {', '.join(what)}: {why}. Choose another output folder for all "
        "of them together."
    )


def check_all_given(merged: MergedRun, folder: RunFolder, *, gallery_needs_models: bool) -> None:
    """Refuse a request without a model or corruption that the merged run needs.

    Raises:
        RunMismatchError: one of them is not given, and cannot be made from its name.
    """
    absent = [name for name in merged.titles if name not in merged.grid.prepared.models]
    for name, cell in merged.list_missing(folder):
        if name not in absent:
            continue
        raise RunMismatchError(
            f"{folder.path} has the model {name}, too, and {cell} is not recorded of it. Name it "
            "beside the others, so that all models of the run have the same cells."
        )
    if absent and gallery_needs_models:
        raise RunMismatchError(
            f"{folder.path} has the model {absent[0]}, too, whose answers the page shows in pictures. "
            "Name all models of the run."
        )
    for name, identity in merged.unresolved.items():
        raise RunMismatchError(
            f"{folder.path} has the corruption {name}, too ({identity:.100}), which its name alone "
            "does not give. Name it beside the others, with the same options or function."
        )


# ---------------------------------------------------------------- descriptions


def describe_added(merged: MergedRun) -> str:
    """Describe the added parts: "fog at 1 to 3; batchnorm in all cells"."""
    added = merged.added
    parts = describe_cells(
        list(merged.grid.corruptions),
        merged.grid.severities,
        new_corruptions=added.corruptions,
        new_severities=added.severities,
    )
    if added.models:
        parts.append(f"{join_names(added.models)} in all cells")
    return "; ".join(parts) or "names of models"


def describe_extent(merged: MergedRun, folder: RunFolder) -> str | None:
    """Return one line on what a run has and what is added or kept; None if it is what is requested."""
    if merged.previous is None or not (merged.is_extended or merged.is_subset or merged.pending):
        return None
    total = len(merged.titles) * len(merged.grid.cells)
    missing = len(merged.list_missing(folder))
    stored = format_existing(total - missing)
    if merged.pending is not None:
        return (
            f"{stored}; others were begun and are left out: {merged.pending}. Ask for them to go on"
        )
    if not merged.is_extended:
        left = f", {missing:,} are left" if missing else ""
        return f"{stored}{left}; all are kept, also what was not asked for: {_describe_unrequested(merged)}"
    new = total - _count_before(merged)
    left = f", {missing - new:,} were left" if missing > new else ""
    return f"{stored}{left}, {format_added(new)}: {describe_added(merged)}"


def _count_before(merged: MergedRun) -> int:
    assert merged.previous is not None
    previous = merged.previous
    cells = (
        len(previous["corruptions"]) * len(previous["severities"]) + merged.grid.prepared.has_clean
    )
    return (len(_read_named(previous, "models")) + len(_read_named(previous, "adapters"))) * cells


def _describe_unrequested(merged: MergedRun) -> str:
    unrequested = merged.unrequested
    severities = [f"severity {severity}" for severity in unrequested.severities]
    return join_names([*unrequested.corruptions, *severities, *unrequested.models])


# ---------------------------------------------------------------- the folder


def link_renamed_records(folder: RunFolder) -> None:
    """Link the records of renamed models under their new names.

    The old names remain, and are read, until the extended run is measured.
    """
    for old, new in folder.renamed.items():
        for place in _MODEL_FOLDERS:
            source = folder.path / place / old
            for path in sorted(source.glob("*")) if source.is_dir() else ():
                target = files.make_folder(folder.path / place / new) / path.name
                if not target.exists():
                    _link(path, target)


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # a disk without links
        files.write_bytes(target, path.read_bytes())


def write_scores(folder: RunFolder, scores: GridScores, models: Sequence[str]) -> None:
    """Write ``scores.json``, which completes an extension."""
    extension = folder.extension
    if extension is not None:
        _drop_derived(folder)
    write_form(folder.scores_file, scores)
    if extension is not None:
        for old in extension.renamed:
            for place in _MODEL_FOLDERS:
                shutil.rmtree(folder.path / place / old, ignore_errors=True)
        keep_calibrations(folder, models)
        folder.finish_extension()


def _drop_derived(folder: RunFolder) -> None:
    """Remove what was made from the previous records: pictures, page, scores by condition."""
    # First the files that refer to others.
    for path in (folder.gallery_file, folder.path / "report.html", *folder.conditions_files):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder.path / "gallery", ignore_errors=True)
