"""The severity at which the prediction first becomes wrong, for each image and corruption."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from shiftproof.bench.arguments import CorruptionLike, check_classifiers
from shiftproof.bench.cells import batching
from shiftproof.bench.cells.stream import Visit
from shiftproof.bench.cells.views import Encode, OnTheFly
from shiftproof.bench.grid.extending import NOT_EXTENDABLE
from shiftproof.bench.grid.request import GridRequest, LoadedGrid
from shiftproof.bench.grid.run_folder import open_folder
from shiftproof.bench.other_runs.breaking_summary import summarize_breaking
from shiftproof.bench.tasks.classification.task import Classification
from shiftproof.classes import Classes
from shiftproof.compute.progress import progress
from shiftproof.corruptions import COMMON
from shiftproof.data import ImageData
from shiftproof.errors import BrokenFileError, InputError, RunError
from shiftproof.io import files
from shiftproof.io.arrays import read_arrays
from shiftproof.io.folder_locks import releases_locks
from shiftproof.metrics import classification
from shiftproof.metrics.breaking import (
    LEVELS,
    STEPS,
    SURVIVES,
    begin_search,
    choose_places,
    narrow_search,
)
from shiftproof.metrics.estimation import find_differences
from shiftproof.models import ClassifierLike
from shiftproof.rng import generator
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.records.breaking import (
    BreakingRecords,
    make_breaking_path,
    read_breaking,
    write_breaking,
)
from shiftproof.runs.run import BreakingRun
from shiftproof.runs.scores.breaking import BreakingGallery, BreakingSheet, BrokenPicture
from shiftproof.runs.scores.reading import write_form
from shiftproof.runs.thumbnails import encode_thumbnail
from shiftproof.types import CLEAN, I64, Cell, Image, Sample, Settings

KIND = "breaking"

CHECK_SHARE = 0.1
"""Share of answers that are checked once beyond their breaking point."""

SHEETS = 6
"""Number of images shown at their breaking points."""

LONG_SIDE, QUALITY = 160, 82

PROTOCOL = {"description": "bisection over the severity, image by image"}


@dataclass(frozen=True, eq=False)
class LevelView:
    """A view whose cells are the fractional severities of ``metrics.breaking``, by index."""

    view: OnTheFly

    def load(self, sample: Sample, cell: Cell) -> Image:
        """Return the image at a cell's severity; unchanged in the clean cell."""
        if cell.is_clean:
            return self.view.load(sample, cell)
        return self.view.load_at(sample, cell.corruption, LEVELS[cell.severity - 1])

    def settings(self) -> Settings:
        """Return the settings of the view, and the severities."""
        return {**self.view.settings(), "levels": [round(level, 6) for level in LEVELS]}


@releases_locks
def find_breaking(
    models: ClassifierLike | str | Mapping[str, ClassifierLike | str],
    data: ImageData | str | Path,
    *,
    corruptions: Sequence[CorruptionLike] | Mapping[str, CorruptionLike] = COMMON,
    images: int | str | None = None,
    out: str | Path,
    batch_size: int = 64,
    seed: int = 0,
    encode: Encode = "none",
    workers: int | None = None,
    device: str = "cpu",
    show_progress: bool | None = None,
) -> BreakingRun:
    """Find for each image and corruption the severity at which the answer first breaks.

    By bisection over 29 severities from 1 to 5, a seventh apart: five forward passes instead of 29, and
    one on the clean image. An answer is broken if it is wrong or, without labels, different from that
    on the clean image. If an answer recovers at a higher severity, the bisection finds one of the
    severities at which it breaks; the frequency of this is measured on a tenth of the answers, which
    are checked once beyond their breaking point.

    Args:
        models: as for :func:`run`: classifiers without adapters.
        data: as for :func:`run`, except corrupted copies, which have only integer severities.
        corruptions: as for :func:`run`.
        images: as for :func:`run`.
        out: the folder of the run; one that holds an unfinished run with the same settings is resumed.
        batch_size: images per forward pass.
        seed: random seed of the corruptions, common to all severities of an image.
        encode: as for :func:`run`.
        workers: number of processes that read and corrupt images; 0 uses this process.
        device: device of a model given as a spec.
        show_progress: None shows progress on a terminal only.

    Raises:
        InputError: an argument cannot be used; nothing has been written then.
        RunMismatchError: ``out`` belongs to a run with other settings.
        RunError: the disk is full, or workers die again and again; what was found is kept.
    """
    check_classifiers(models, data, "A breaking point")
    request = GridRequest(
        models=models, data=data, task=Classification(run_folder=out), corruptions=corruptions,
        images=images, batch_size=batch_size, seed=seed, encode=encode, workers=workers,
        device=device, show_progress=show_progress,
    )  # fmt: skip
    grid = request.load(Path(out))
    search = _BreakingSearch(Path(out), grid, _make_level_view(grid))
    search.run()
    return search.summarize()


def _make_level_view(grid: LoadedGrid) -> LevelView:
    if not isinstance(grid.view, OnTheFly):
        raise make_copies_error()
    return LevelView(grid.view)


def make_copies_error() -> InputError:
    """Return the error for corrupted copies given instead of clean images."""
    return InputError(
        "Breaking points need severities between the whole ones, and corrupted copies have only whole "
        "ones; give the clean images."
    )


@final
class _BreakingSearch:
    """The searches of a run, corruption by corruption."""

    def __init__(self, out: Path, grid: LoadedGrid, view: LevelView) -> None:
        self._grid, self._view, self._prepared = grid, view, grid.prepared
        self._corruptions = list(grid.corruptions)
        self._samples: Sequence[Sample] = grid.prepared.data.samples
        changed = {"images": view.settings(), "severities": [], "protocol": PROTOCOL}
        self._folder = open_folder(out, KIND, grid, changed, why=NOT_EXTENDABLE[KIND])
        for name in grid.prepared.models:
            files.make_folder(self._folder.path / "records" / name)

    def summarize(self) -> BreakingRun:
        """Write the scores and the pictures of the page, and delete the cache."""
        folder, prepared = self._folder, self._prepared
        names = self._corruptions
        scores = summarize_breaking(folder, prepared.titles, names, prepared.data.is_labeled)
        write_form(folder.scores_file, scores)
        classes = next(iter(prepared.models.values())).classes
        first = scores.models[0].name
        tables = {one: read_breaking(make_breaking_path(folder.path, first, one)) for one in names}
        _Pictures(folder, self._view, self._samples, tables, classes).save()
        folder.drop_cache()
        return BreakingRun(folder.path)

    def run(self) -> None:
        """Search the missing corruptions, and write each one's file when its searches are done."""
        names = list(self._prepared.models)
        missing = [
            (name, corruption)
            for name in names
            for corruption in self._corruptions
            if not make_breaking_path(self._folder.path, name, corruption).is_file()
        ]
        count = len(self._samples)
        total = count * (len({name for name, _ in missing}) + STEPS * len(missing))
        with progress("Breaking points", total, show=self._grid.request.show_progress) as advance:
            for name in dict.fromkeys(name for name, _ in missing):
                clean, errors = self._predict_clean(name, advance)
                for corruption in [one for model, one in missing if model == name]:
                    records = self._search(name, corruption, clean, errors, advance)
                    write_breaking(make_breaking_path(self._folder.path, name, corruption), records)

    def _predict_clean(
        self, name: str, advance: Callable[..., None]
    ) -> tuple[I64, list[str | None]]:
        """Return the answers on the clean images, from the cache if possible."""
        path = self._folder.cache / f"clean-{name}.npz"
        count = len(self._samples)
        kept = _load_arrays(path, count)
        if kept is None:
            answers, errors = self._predict(
                name, CLEAN.corruption, np.zeros(count, np.int64), advance
            )
            _save_arrays(path, answers, np.array([one or "" for one in errors]))
            return answers, errors
        advance(count)
        return kept[0], [str(one) or None for one in kept[1]]

    def _search(
        self,
        name: str,
        corruption: str,
        clean: I64,
        errors: Sequence[str | None],
        advance: Callable[..., None],
    ) -> BreakingRecords:
        """Return the breaking points of a model under a corruption."""
        labels = np.array([sample.target for sample in self._samples])
        target = np.where(labels < 0, clean, labels)
        broken = np.array([error is not None for error in errors])
        right, wrong = begin_search(len(target))
        # Images that are wrong when clean, or unreadable, need no search.
        wrong = np.where(broken | find_differences(clean, target), 0, wrong)
        answer = np.where(wrong == 0, clean, -1)
        path = self._folder.cache / f"search-{name}-{corruption}.npz"
        kept = _load_arrays(path, len(target))
        if kept is not None:
            right, wrong, answer = kept
        for step in range(STEPS):
            requested = choose_places(right, wrong)
            if not requested.any():
                break
            found, _ = self._predict(name, corruption, requested, advance, f"step {step + 1}")
            is_right = ~find_differences(found, target)
            right, wrong = narrow_search(right, wrong, requested, is_right)
            answer = np.where((requested > 0) & ~is_right, found, answer)
            _save_arrays(path, right, wrong, answer)
        checked = self._choose_checked(corruption, wrong)
        again, _ = self._predict(name, corruption, checked, lambda *_, **__: None)
        path.unlink(missing_ok=True)
        return BreakingRecords(
            ids=[sample.id for sample in self._samples],
            target=np.where(broken, -1, target).astype(np.int32),
            clean=clean.astype(np.int32),
            place=np.where(broken, 0, wrong),
            answer=answer.astype(np.int32),
            checked=checked,
            recovered=(checked > 0) & ~find_differences(again, target),
            error=list(errors),
        )

    def _choose_checked(self, corruption: str, places: I64) -> I64:
        """Return a later severity index for a tenth of the broken answers, and 0 for all others."""
        random = generator(self._grid.request.seed, "beyond breaking", corruption)
        chosen, share = random.random(len(places)) < CHECK_SHARE, random.random(len(places))
        room = SURVIVES - 1 - places
        beyond = places + 1 + np.floor(share * room).astype(np.int64)
        return np.where(chosen & (places > 0) & (room > 0), beyond, 0)

    def _predict(
        self,
        name: str,
        corruption: str,
        places: I64,
        advance: Callable[..., None],
        note: str = "",
    ) -> tuple[I64, list[str | None]]:
        """Return a model's answers at severity indices (0: clean), -1 for images not evaluated."""
        is_clean = corruption == CLEAN.corruption
        rows = np.arange(len(places)) if is_clean else np.flatnonzero(places)
        answers = np.full(len(places), -1, dtype=np.int64)
        errors: list[str | None] = [None] * len(places)
        cells = (CLEAN,) if is_clean else tuple(
            Cell(corruption, index) for index in range(1, SURVIVES)
        )  # fmt: skip
        which = np.zeros(len(rows)) if is_clean else places[rows] - 1
        visit = Visit(
            cells, rows.astype(np.int32), which.astype(np.int32), start=0, pass_index=0, recorded=True,
            ends_pass=True,
        )  # fmt: skip
        recording, model = self._prepared.recording, self._prepared.models[name]
        for batch in batching.make_batches(
            self._view, [visit], self._samples, batch_size=self._grid.batch_size,
            workers=self._grid.workers,
        ):  # fmt: skip
            if batch.images:
                logits = recording.predict(model, recording.gather(batch.images))
                answers[batch.rows] = classification.top_classes(logits, 1)[:, 0]
            for row, _, reason in batch.broken:
                if not is_clean:
                    raise RunError(f"{reason} It was readable before; start the run again.")
                errors[row] = reason
            advance(len(batch), note=f"{corruption}, {note}" if note else corruption)
        advance(len(places) - len(rows))
        return answers, errors


@dataclass(frozen=True, eq=False)
class _Pictures:
    """Saves the images with the widest range of breaking points of a model."""

    folder: RunFolder
    view: LevelView
    samples: Sequence[Sample]
    tables: Mapping[str, BreakingRecords]
    classes: Classes

    def save(self) -> None:
        """Write the pictures, and the file that names them."""
        first = next(iter(self.tables.values()))
        severities = np.stack([table.severity for table in self.tables.values()])
        usable = np.flatnonzero(first.readable & (first.place > 0))
        order = usable[np.argsort(-severities[:, usable].std(axis=0), kind="stable")]
        sheets = [
            self._make_sheet(number, row, int(first.target[row]))
            for number, row in enumerate(order[:SHEETS].tolist())
        ]
        write_form(self.folder.gallery_file, BreakingGallery(tuple(sheets)))

    def _make_sheet(self, number: int, row: int, target: int) -> BreakingSheet:
        """Return an image under all corruptions, ordered by breaking point."""
        shown = sorted(self.tables, key=lambda name: int(self.tables[name].place[row]))
        return BreakingSheet(
            id=self.samples[row].id,
            label=self.classes.names[target],
            clean=self._save(number, row, CLEAN),
            pictures=tuple(self._make_picture(number, row, name) for name in shown),
        )

    def _make_picture(self, number: int, row: int, corruption: str) -> BrokenPicture:
        table = self.tables[corruption]
        place, answer = int(table.place[row]), int(table.answer[row])
        survived = place == SURVIVES
        return BrokenPicture(
            corruption=corruption,
            file=self._save(number, row, Cell(corruption, min(place, SURVIVES - 1))),
            severity=None if survived else LEVELS[place - 1],
            answer=self.classes.names[answer] if answer >= 0 and not survived else None,
        )

    def _save(self, number: int, row: int, cell: Cell) -> str:
        """Save an image and return its path relative to the run's folder."""
        folder = files.make_folder(self.folder.path / "gallery" / str(number))
        path = folder / f"{cell.corruption}.jpg"
        if not path.is_file():
            picture = encode_thumbnail(self.view.load(self.samples[row], cell), LONG_SIDE, QUALITY)
            files.write_bytes(path, picture)
        return path.relative_to(self.folder.path).as_posix()


def _save_arrays(path: Path, *arrays: NDArray[Any]) -> None:
    """Write arrays for resuming."""
    buffer = io.BytesIO()
    np.savez(buffer, *arrays)
    files.write_bytes(path, buffer.getvalue(), durable=False)


def _load_arrays(path: Path, count: int) -> list[NDArray[Any]] | None:
    """Return the arrays for resuming; None if there are none of this length."""
    if not path.is_file():
        return None
    try:
        arrays = read_arrays(path)
    except BrokenFileError:
        return None
    kept = [arrays[name] for name in sorted(arrays)]
    return kept if all(len(one) == count for one in kept) else None
