"""The whole grid of a run: the union of what its folder has and what is asked for now.

A cell's answers depend on its own key, images and model alone, so that cells, and models with all
their cells, can be added to a run, and the result is that of one run over all of them.
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
from shiftproof.bench.calibrating import HELD_OUT_RECORDS, keep_calibrations
from shiftproof.bench.protocol import Protocol
from shiftproof.bench.request import Layout
from shiftproof.bench.task import SOURCE, Prepared
from shiftproof.corruptions.extent import (
    count_added,
    count_there,
    describe_cells,
    find_unknown,
    join_names,
    unite_names,
)
from shiftproof.errors import RunMismatchError
from shiftproof.io import files, manifest
from shiftproof.io.text import read_json
from shiftproof.runs.budget import KEY as BUDGET
from shiftproof.runs.extension import Extension, find_settings, read_extension
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.scores.grid import GridScores
from shiftproof.runs.scores.reading import write_form
from shiftproof.types import Cell, Settings

_PLACES = ("records", "events", HELD_OUT_RECORDS)
"""Folders in which each model has one of its name."""

NAMED = ("corruptions", "models", "adapters", "classes")
"""Settings by name, to which names can be added; ``classes`` are those of each model."""

_ADD_MODELS = (
    "To add a model, name the run's own beside it, each by a name of its own (--model A --model B)."
)

WITHOUT_CELLS = {
    "anytime": "An anytime run cannot be extended: its draws depend on all cells and models together.",
    "breaking": "Breaking points are searched between severities, and are no cells of a grid: a run over "
    "them cannot be extended.",
}
"""Why runs of these kinds cannot be extended."""


@dataclass(frozen=True, eq=False)
class Added:
    """What is asked for that the run had not.

    Attributes:
        corruptions: their names.
        severities: rising.
        models: models and adapters.
    """

    corruptions: Sequence[str] = ()
    severities: Sequence[int] = ()
    models: Sequence[str] = ()

    @property
    def is_something(self) -> bool:
        """Whether there is any."""
        return any((self.corruptions, self.severities, self.models))


@dataclass(frozen=True, eq=False)
class Whole:
    """The grid of a run with all that was ever asked for.

    Attributes:
        layout: all its cells, with the models that are at hand, by their names in the run, and the
            titles of all.
        settings: of the whole run.
        before: settings of the run that is there; None without one.
        added: what it did not have.
        kept: models and corruptions of the run that were not asked for now.
        unknown: those of its corruptions that their names alone do not give.
        renamed: names of models in the folder to those in the whole run.
        waiting: what the run was begun to be extended by, where nothing of it is asked for: then the
            run is the one before.
    """

    layout: Layout
    settings: Settings
    before: Settings | None = None
    added: Added = Added()
    kept: Added = Added()
    unknown: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    waiting: str | None = None

    @property
    def is_extended(self) -> bool:
        """Whether the run that is there becomes another one."""
        return self.before is not None and self.before != self.settings

    @property
    def is_narrower(self) -> bool:
        """Whether less is asked for than the run has."""
        return self.kept.is_something

    @property
    def titles(self) -> Mapping[str, str]:
        """Titles of all models by name."""
        return self.layout.prepared.titles

    def list_missing(self, folder: RunFolder) -> list[tuple[str, Cell]]:
        """Return the models and cells without records."""
        before = {new: old for old, new in self.renamed.items()}
        return [
            (name, cell)
            for name in self.titles
            for cell in self.layout.cells
            if not folder.has(name, cell) and not folder.has(before.get(name, name), cell)
        ]

    def is_done(self, folder: RunFolder) -> bool:
        """Whether less is asked for than a finished run has, so that nothing is left to be done."""
        if self.waiting is not None:
            return True
        if not self.is_narrower or self.is_extended or folder.extension is not None:
            return False
        return folder.scores_file.is_file() and not self.list_missing(folder)

    def write(self, about: Settings) -> Extension | None:
        """Return the extension for ``run.json``, if it is one."""
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


def unite(path: Path, layout: Layout, *, joins: bool = False) -> Whole:
    """Return the union of what is asked for and what the run in a folder has.

    Args:
        path: the folder, with or without a run.
        layout: what is asked for.
        joins: whether this is one of several workers: it takes part in an extension that others have
            begun, also where it is asked for less.

    Raises:
        RunMismatchError: the run differs in what decides its cells, or cannot be extended.
    """
    asked, kind = Whole(layout, layout.settings()), layout.request.task.kind
    told = _read_run(path)
    if told is None:
        return asked
    if told.get("kind") != kind:
        manifest.check_same(
            path, {"kind": told.get("kind")}, {"kind": kind}, what="a run",
            why=WITHOUT_CELLS.get(str(told.get("kind")), ""),
        )  # fmt: skip
    if not _has_grid(find_settings(told)):
        return asked  # refused where the folder is begun
    folder = RunFolder(path)
    extension = read_extension(told)
    if extension is not None and not joins and folder.scores_file.is_file():
        whole = _unite(path, asked, folder.info(), folder.info()["settings"])
        if not whole.added.is_something:
            done = whole.settings == extension.settings
            return dataclasses.replace(whole, waiting=None if done else extension.added)
    return _unite(path, asked, told, find_settings(told))


def _unite(path: Path, asked: Whole, told: Mapping[str, Any], before: Any) -> Whole:
    there, settings, layout = manifest.spell(before), asked.settings, asked.layout
    before = there
    renamed, here = _match_names(there, settings)
    there, settings = _rename(there, renamed), _rename(settings, here)
    _check_alike(path, there, settings)
    whole = _unite_settings(there, settings)
    added, kept = _subtract(whole, there), _subtract(whole, settings)
    prepared = _rename_models(layout.prepared, here)
    _check_first(path, there, settings, whole)
    if added.is_something:
        _check_extendable(path, told, added, layout.request.protocol)
    named = {name: layout.corruptions.get(name) for name in whole["corruptions"]}
    found, unknown = _recover(named, whole["corruptions"], on_disk=prepared.corrupted is not None)
    models = _read_named(whole, "models")
    titles = {
        name: prepared.titles.get(name) or _title(name, models)
        for name in dict.fromkeys([*models, *_read_named(whole, "adapters"), *prepared.titles])
    }
    return Whole(
        Layout(
            layout.request,
            dataclasses.replace(prepared, titles=titles),
            found,
            whole["severities"],
        ),
        whole,
        before=before,
        added=added,
        kept=kept,
        unknown=unknown,
        renamed=renamed,
    )


def _read_run(path: Path) -> dict[str, Any] | None:
    file = RunFolder(path).run_file
    told = read_json(file) if file.is_file() else None
    return told if isinstance(told, dict) else None


def _has_grid(settings: Settings | None) -> bool:
    """Whether settings are of a run over a grid, and not of results made elsewhere."""
    if settings is None or not isinstance(settings.get("corruptions"), dict):
        return False
    severities = settings.get("severities")
    return isinstance(severities, list) and all(isinstance(one, int) for one in severities)


# ---------------------------------------------------------------- the union of settings


def _read_named(settings: Settings, key: str) -> dict[str, Any]:
    value = settings.get(key)
    return value if isinstance(value, dict) else {}


def _match_names(there: Settings, here: Settings) -> tuple[dict[str, str], dict[str, str]]:
    """Return new names of the folder's models, and of those that are asked for.

    A single model is called "source", and by a name of its own beside others.
    """
    known, asked = _read_named(there, "models"), _read_named(here, "models")
    if set(asked) == {SOURCE} and SOURCE not in known:
        return {}, _find_name(asked, known)
    if set(known) == {SOURCE} and SOURCE not in asked:
        found = _find_name(known, asked)
        return ({}, {new: old for old, new in found.items()}) if len(asked) == 1 else (found, {})
    return {}, {}


def _find_name(source: Mapping[str, Any], among: Mapping[str, Any]) -> dict[str, str]:
    # A name becomes that of a folder, and may be out of a file of settings.
    names = [
        name
        for name, settings in among.items()
        if settings == source[SOURCE] and files.can_name_files(name)
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


def _check_alike(path: Path, there: Settings, here: Settings) -> None:
    """Refuse what differs in anything but the names that can be added."""

    def reduce(one: Settings, other: Settings) -> Settings:
        kept = {key: value for key, value in one.items() if key != "severities"}
        for key in NAMED:
            if isinstance(one.get(key), dict) and isinstance(other.get(key), dict):
                kept[key] = {name: one[key][name] for name in one[key] if name in other[key]}
        return kept

    reduced = reduce(there, here), reduce(here, there)
    known, asked = (_read_named(one, "models").get(SOURCE) for one in reduced)
    why = _ADD_MODELS if known != asked else ""
    manifest.check_same(path, *reduced, what="a run", why=why)


def _unite_settings(there: Settings, here: Settings) -> Settings:
    whole = dict(there)
    for key in NAMED:
        if isinstance(there.get(key), dict):
            names = unite_names(there[key], _read_named(here, key))
            whole[key] = {name: {**there[key], **here[key]}[name] for name in names}
    whole["severities"] = sorted({*there["severities"], *here["severities"]})
    return whole


def _subtract(whole: Settings, part: Settings) -> Added:
    """Return what a part of the whole has not."""

    def among(key: str) -> list[Any]:
        return [name for name in whole.get(key, ()) if name not in part.get(key, ())]

    models = [*among("models"), *among("adapters")]
    return Added(among("corruptions"), among("severities"), models)


def _title(name: str, models: Mapping[str, Any]) -> str:
    """Return the title of a model that is not at hand or renamed, as ``choose_titles`` has it."""
    settings = models.get(name)
    full = settings.get("name") if isinstance(settings, dict) else None
    return str(full) if name == SOURCE and full else name


def _recover(
    named: Mapping[str, CorruptionLike | None], identities: Mapping[str, Any], *, on_disk: bool
) -> tuple[dict[str, CorruptionLike], dict[str, str]]:
    """Return the corruptions, those not asked for by their names; and which are another thing."""
    absent = [name for name, one in named.items() if one is None and not on_disk]
    unknown = find_unknown(identities, absent)
    return {name: name if one is None else one for name, one in named.items()}, unknown


# ---------------------------------------------------------------- refusals


def _check_extendable(
    path: Path, told: Mapping[str, Any], added: Added, protocol: Protocol
) -> None:
    """Refuse what would change the cells that are there."""
    if BUDGET in told:
        raise _refuse(path, "a budget chose its images by the time that its cells took", added)
    if protocol.reset == "never" and (added.corruptions or added.severities):
        raise _refuse(
            path,
            f"under the protocol {protocol} all cells are one stream, in which a model's answers depend "
            "on the cells before",
            added,
        )
    if protocol.reset == "corruption" and added.severities:
        raise _refuse(
            path,
            f"under the protocol {protocol} the severities of a corruption are one stream, in which a "
            "model's answers depend on the others",
            added,
        )


def _check_first(path: Path, there: Settings, here: Settings, whole: Settings) -> None:
    """Adapters wrap the first model, and the settings of an adapter do not say which that is."""
    first = next(iter(_read_named(whole, "models")), None)
    for settings in (there, here):
        adapters = _read_named(settings, "adapters")
        own = next(iter(_read_named(settings, "models")), None)
        if adapters and own != first:
            raise RunMismatchError(
                f"{path}: adapters run beside the first model of a run, which is {own} for "
                f"{', '.join(adapters)} and {first} in the extended run. Name {own} first."
            )


def _refuse(path: Path, why: str, added: Added) -> RunMismatchError:
    what = [
        *added.corruptions,
        *(f"severity {severity}" for severity in added.severities),
        *added.models,
    ]
    return RunMismatchError(
        f"{path} cannot be extended by {', '.join(what)}: {why}. Choose another output folder for all "
        "of them together."
    )


def check_at_hand(whole: Whole, folder: RunFolder, *, asks_again: bool) -> None:
    """Refuse to go on without a model or corruption of the run that is needed.

    Raises:
        RunMismatchError: one of them was not named, or its name alone does not say what it was.
    """
    absent = [name for name in whole.titles if name not in whole.layout.prepared.models]
    for name, cell in whole.list_missing(folder):
        if name not in absent:
            continue
        raise RunMismatchError(
            f"{folder.path} has the model {name}, too, and {cell} is not recorded of it. Name it "
            "beside the others, so that all models of the run have the same cells."
        )
    if absent and asks_again:
        raise RunMismatchError(
            f"{folder.path} has the model {absent[0]}, too, whose answers the page shows in pictures. "
            "Name all models of the run."
        )
    for name, identity in whole.unknown.items():
        raise RunMismatchError(
            f"{folder.path} has the corruption {name}, too ({identity:.100}), which its name alone "
            "does not give. Name it beside the others, with the same options or function."
        )


# ---------------------------------------------------------------- in words


def describe_added(whole: Whole) -> str:
    """Say what is added: "fog at 1 to 3; batchnorm in all cells"."""
    added = whole.added
    parts = describe_cells(
        list(whole.layout.corruptions),
        whole.layout.severities,
        new_corruptions=added.corruptions,
        new_severities=added.severities,
    )
    if added.models:
        parts.append(f"{join_names(added.models)} in all cells")
    return "; ".join(parts) or "names of models"


def describe_extent(whole: Whole, folder: RunFolder) -> str | None:
    """Say in one line what a run has and what is added or kept; None where it is what was asked."""
    if whole.before is None or not (whole.is_extended or whole.is_narrower or whole.waiting):
        return None
    total = len(whole.titles) * len(whole.layout.cells)
    missing = len(whole.list_missing(folder))
    there = count_there(total - missing)
    if whole.waiting is not None:
        return (
            f"{there}; others were begun and are left out: {whole.waiting}. Ask for them to go on"
        )
    if not whole.is_extended:
        left = f", {missing:,} are left" if missing else ""
        return f"{there}{left}; all are kept, also what was not asked for: {_describe_kept(whole)}"
    new = total - _count_before(whole)
    left = f", {missing - new:,} were left" if missing > new else ""
    return f"{there}{left}, {count_added(new)}: {describe_added(whole)}"


def _count_before(whole: Whole) -> int:
    assert whole.before is not None
    before = whole.before
    cells = len(before["corruptions"]) * len(before["severities"]) + whole.layout.prepared.has_clean
    return (len(_read_named(before, "models")) + len(_read_named(before, "adapters"))) * cells


def _describe_kept(whole: Whole) -> str:
    kept = whole.kept
    severities = [f"severity {severity}" for severity in kept.severities]
    return join_names([*kept.corruptions, *severities, *kept.models])


# ---------------------------------------------------------------- the folder


def adopt_names(folder: RunFolder) -> None:
    """Give the records of models that an extension renames their new name beside the old one.

    The old one stays until the extended run is measured, and is read until then.
    """
    for old, new in folder.renamed.items():
        for place in _PLACES:
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
    """Write ``scores.json``, with which a run that is extended becomes the larger one."""
    extension = folder.extension
    if extension is not None:
        _drop_derived(folder)
    write_form(folder.scores_file, scores)
    if extension is not None:
        for old in extension.renamed:
            for place in _PLACES:
                shutil.rmtree(folder.path / place / old, ignore_errors=True)
        keep_calibrations(folder, models)
        folder.finish_extension()


def _drop_derived(folder: RunFolder) -> None:
    """Remove what was drawn from the records before: pictures, page, figures by condition."""
    # First the files that name others.
    for path in (folder.gallery_file, folder.path / "report.html", *folder.conditions_files):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder.path / "gallery", ignore_errors=True)
