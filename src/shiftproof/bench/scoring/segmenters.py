"""Score label maps of segmenters from any framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from shiftproof.bench.scoring.classifier_results import SUFFIXES as ANSWERS
from shiftproof.bench.scoring.name_matching import find_aliases
from shiftproof.bench.scoring.result_files import parse_cell, split_cell
from shiftproof.bench.scoring.score_request import Named, ScoreRequest
from shiftproof.bench.scoring.shared_cells import find_shared_cells
from shiftproof.bench.tasks.segmentation.gallery import GalleryPicture, save_shown
from shiftproof.bench.tasks.segmentation.recorder import Truths
from shiftproof.bench.tasks.segmentation.task import (
    MIOU,
    Segmentation,
    describe_classes,
    write_truth,
)
from shiftproof.classes import Classes
from shiftproof.compute import processes
from shiftproof.compute.progress import progress
from shiftproof.counts import pluralize
from shiftproof.data import ImageData, SegmentationData, check_masks, open_segmentation_data
from shiftproof.data.segmentation.label_map_layouts import find_layout
from shiftproof.errors import BrokenFileError, InputError, LabelError
from shiftproof.io import files
from shiftproof.io.border import show_name
from shiftproof.io.images import is_image, read_indices
from shiftproof.models.detectors.class_match import ClassMatch
from shiftproof.models.segmenters.class_match import match_pixel_classes, translate_labels
from shiftproof.models.segmenters.label_spaces import VOID, LabelSpace, read_space
from shiftproof.runs.folder import RunFolder
from shiftproof.runs.records.segmentation import (
    PixelCounts,
    SegmentationRecords,
    write_segmentation,
)
from shiftproof.runs.run import Run
from shiftproof.types import Cell, Image, LabelMap, Sample, Settings

INDEX = "index"
"""Numbers are indices of the data's classes, as from an argmax."""

LABEL_MAPS = "label-maps"
"""Numbers are those in the label maps of the data."""

ANSWER_NUMBERS = (INDEX, LABEL_MAPS)
"""Values of ``classes`` that refer to numbers of the data."""

_FEW = 64
"""Number of label maps below which worker processes do not pay."""


def holds_label_maps(path: Path) -> bool:
    """Whether a folder has images in folders named by cells, and no result files of other tasks."""
    if not path.is_dir():
        return False
    others = {".json", *ANSWERS}
    has_images = False
    for inner in _list_files(path):
        if PurePosixPath(inner).suffix.lower() in others and parse_cell(inner) is not None:
            return False
        has_images = has_images or (split_cell(inner) is not None and is_image(path / inner))
    return has_images


def score_label_maps(request: ScoreRequest) -> Run:
    """Score label maps of segmenters; see :func:`shiftproof.bench.score`."""
    dataset = _open(request)
    meaning = Meaning.of(request.classes, request.class_map, dataset)
    sources = {name: _Source.find(path, dataset) for name, path in request.given.items()}
    shared = find_shared_cells({name: one.cells for name, one in sources.items()})
    cells = shared.grid.cells
    for source in sources.values():
        source.check_complete(cells)
    show = request.show_progress
    pixels = check_masks(dataset, workers=request.workers, show_progress=show).pixels
    folder = request.create_folder(
        "segmentation",
        {
            "models": {name: one.settings(cells, meaning, show) for name, one in sources.items()},
            "adapters": {},
            "classes": {name: meaning.match.settings() for name in sources},
            "measure": MIOU.name,
            "data": dataset.settings(),
            "images": {"source": "label maps made elsewhere"},
            **shared.settings(),
        },
        {"classes": describe_classes(dataset, pixels), **shared.about()},
    )
    write_truth(folder, dataset)
    # Alone on a machine, all processes read one cell, so that few cells keep them busy, too.
    inner = request.processes if request.backend is None else 0
    reader = _LabelMaps(dataset, meaning, sources, inner)
    request.fill(folder, reader, cells, processes=0)
    request.summarize(folder, Segmentation(), shared.grid)

    def answer(name: str, sample: Sample, cell: Cell, photo: Image) -> LabelMap:
        return reader.of_cell(name, cell).read(sample)

    def photograph(sample: Sample, cell: Cell) -> Image | None:
        # The corrupted images are not available, only the clean ones.
        return dataset.read(sample) if cell.is_clean else None

    save_shown(folder, GalleryPicture(dataset, list(sources), photograph, answer), cells)
    return Run(folder.path)


def _open(request: ScoreRequest) -> SegmentationData:
    data, classes = request.data, request.classes
    assert data is not None
    if isinstance(data, ImageData):
        if not isinstance(data, SegmentationData):
            raise InputError(f"{data.name} has no label maps; expected the truth of label maps.")
        return data
    root = Path(data)
    named = classes is not None and classes not in ANSWER_NUMBERS
    if named and root.is_dir() and find_layout(root) == "masks":
        # A folder of images and label maps names no classes; those of the predictions are used.
        return open_segmentation_data(root, classes=classes)
    return open_segmentation_data(root)


# ---------------------------------------------------------------- what the numbers mean


@dataclass(frozen=True, eq=False)
class Meaning:
    """The classes of the numbers in predictions, and the corresponding classes of the data."""

    space: LabelSpace
    match: ClassMatch

    @classmethod
    def of(
        cls,
        classes: Named | None,
        class_map: Mapping[str, str] | None,
        data: SegmentationData,
    ) -> Meaning:
        """Read the user's specification; by default the numbers are indices of the data's classes.

        Raises:
            InputError: no specification, although the numbers of the data's label maps differ from
                the indices.
        """
        if classes is None and class_map and all(key.isdecimal() for key in class_map):
            space = _map_numbers([int(key) for key in class_map])
        else:
            space = _read_space(classes, data)
        mapping = class_map or None
        return cls(space, match_pixel_classes(space.classes, data.classes, mapping=mapping))

    def read(self, path: Path) -> LabelMap:
        """Return a label map in the data's classes, with -1 for no class.

        Raises:
            BrokenFileError: the file is no image with one channel.
            LabelError: a number without a class.
        """
        return translate_labels(self.match, self.space.to_classes(read_indices(path)))


def _read_space(classes: Named | None, data: SegmentationData) -> LabelSpace:
    if classes == LABEL_MAPS:
        return data.space
    if classes is not None and classes != INDEX:
        return read_space(classes, (VOID,))
    moved = [number for number, index in data.space.index_of.items() if number != index]
    if classes is None and moved:
        name = data.classes.names[data.space.index_of[moved[0]]]
        raise InputError(
            f"{data.name}: the number {moved[0]} of its label maps is the class {name!r} at place "
            f"{data.space.index_of[moved[0]]}, so it is open which of the two your label maps have. "
            f"Say classes={INDEX!r} (--classes {INDEX}: places from 0 on, as an argmax gives them) or "
            f"{LABEL_MAPS!r} (numbers as in the label maps)."
        )
    numbers = {index: index for index in range(len(data.classes))}
    return LabelSpace(data.classes, numbers, frozenset({VOID}) - set(numbers))


def _map_numbers(numbers: Sequence[int]) -> LabelSpace:
    names = Classes(tuple(map(str, numbers)), title="the class map's numbers")
    places = {number: place for place, number in enumerate(numbers)}
    return LabelSpace(names, places, frozenset({VOID}) - set(numbers))


# ---------------------------------------------------------------- which file is which image


class _Source:
    """The label maps of one model: paths relative to ``path``, by cell and image id."""

    def __init__(self, path: Path, cells: Mapping[Cell, Mapping[str, str]], ids: list[str]) -> None:
        self.path = path
        self.cells = cells
        self._ids = ids

    @classmethod
    def find(cls, path: Path, data: SegmentationData) -> _Source:
        """Assign the files to images and cells.

        Raises:
            InputError: a label map without an image, two for one image, or one that is not a PNG.
        """
        ids = [sample.id for sample in data.samples]
        names = _ImageNames(ids)
        cells: dict[Cell, dict[str, str]] = {}
        for inner in _list_files(path):
            place = split_cell(inner)
            if place is None or not is_image(path / inner):
                continue
            cell, below = place
            _check_png(path, inner)
            image = names.find(below)
            if image is None:
                raise InputError(
                    f"{path}: {show_name(inner)} is of none of the {pluralize(len(ids), 'image')}; expected "
                    f"such as {cell.corruption}/{_read_level(cell)}{_map_name(ids[0])}."
                )
            there = cells.setdefault(cell, {})
            if image in there and not (cell.is_clean and _match_exactly(path, there[image], inner)):
                raise InputError(
                    f"{path}: {show_name(there[image])} and {show_name(inner)} are both of {image} "
                    f"in the cell {cell}; expected one."
                )
            there.setdefault(image, inner)
        if not cells:
            raise InputError(
                f"{path} holds no label map in a cell; expected such as fog/3/{_map_name(ids[0])}, "
                f"and clean/{_map_name(ids[0])}."
            )
        return cls(path, cells, ids)

    def check_complete(self, cells: Sequence[Cell]) -> None:
        """Raise an error if an image has no label map in one of the cells."""
        for cell in cells:
            lacking = [name for name in self._ids if name not in self.cells[cell]]
            if lacking:
                raise InputError(
                    f"{self.path}: {len(lacking)} of "
                    f"{pluralize(len(self._ids), 'image has', 'images have')} no label map in "
                    f"the cell {cell} (first: {lacking[0]}); expected one for each."
                )

    def settings(
        self, cells: Sequence[Cell], meaning: Meaning, show_progress: bool | None
    ) -> Settings:
        """Return a fingerprint of each cell's label maps, for the record."""
        prints = {}
        with progress("Fingerprints", len(cells), show=show_progress) as advance:
            for cell in cells:
                maps = self.cells[cell]
                digests = files.file_fingerprints(self.path / maps[name] for name in self._ids)
                prints[str(cell)] = files.fingerprint(digest.encode() for digest in digests)
                advance(note=str(cell))
        return {"name": self.path.name, "answers": prints, "numbers": meaning.space.settings()}


class _ImageNames:
    """Finds the image of a label map by its path relative to the cell."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._by_path: dict[str, str] = {}
        for name in ids:
            self._by_path[str(PurePosixPath(name).with_suffix(""))] = name
        # "a.jpg.png" belongs to "a.jpg", even if there are other files named a.
        self._by_path |= {name: name for name in ids}
        self._aliases = find_aliases([{"file_name": name, "id": name} for name in ids])

    def find(self, below: str) -> str | None:
        """Return the id of the image, or None."""
        stem = str(PurePosixPath(below).with_suffix(""))
        found = self._by_path.get(stem, self._aliases.get(stem))
        return None if found is None else str(found)


def _list_files(root: Path) -> list[str]:
    """Return all files except hidden ones, in an order that does not depend on the locale."""
    paths = (path for path in root.rglob("*") if path.is_file())
    inner = (path.relative_to(root) for path in paths)
    return sorted(one.as_posix() for one in inner if not any(p.startswith(".") for p in one.parts))


def _check_png(root: Path, inner: str) -> None:
    suffix = PurePosixPath(inner).suffix.lower()
    if suffix != ".png":
        blurs = " JPEG blurs the numbers of classes." if suffix in (".jpg", ".jpeg") else ""
        raise InputError(
            f"{root}: {show_name(inner)} is no PNG; expected label maps as PNG, of one number a "
            f"pixel.{blurs}"
        )


def _match_exactly(root: Path, one: str, other: str) -> bool:
    return files.file_fingerprint(root / one) == files.file_fingerprint(root / other)


def _read_level(cell: Cell) -> str:
    return "" if cell.is_clean else f"{cell.severity}/"


def _map_name(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(".png"))


# ---------------------------------------------------------------- counting


@dataclass(frozen=True, eq=False)
class _Reader:
    """Reads the label maps of one cell, and compares them with the ground truth; pickles small."""

    data: SegmentationData
    meaning: Meaning
    root: Path
    maps: Mapping[str, str]

    def read(self, sample: Sample) -> LabelMap:
        """Return the label map predicted for an image, in the data's classes.

        Raises:
            BrokenFileError: it cannot be read, has a number without a class, or another size than
                the ground truth.
        """
        inner = show_name(self.maps[sample.id])
        path = self.root / self.maps[sample.id]
        try:
            labels = self.meaning.read(path)
        except BrokenFileError as error:
            raise BrokenFileError(
                f"{inner}: {str(error).removeprefix(f'{path.name}: ')}"
            ) from error
        except LabelError as error:
            raise BrokenFileError(f"{inner}: {error}") from error
        height, width = self.data.get_size(sample)
        if labels.shape != (height, width):
            raise BrokenFileError(
                f"{inner}: {labels.shape[1]} x {labels.shape[0]} pixels, and the truth of "
                f"{sample.id} has {width} x {height}; expected label maps of the truth's size."
            )
        return labels


@dataclass(frozen=True, eq=False)
class _LabelMaps:
    """Reads the label maps of all segmenters, in several processes."""

    data: SegmentationData
    meaning: Meaning
    sources: Mapping[str, _Source]
    workers: int

    def of_cell(self, model: str, cell: Cell) -> _Reader:
        """Return the reader of one cell."""
        source = self.sources[model]
        return _Reader(self.data, self.meaning, source.path, source.cells[cell])

    def write(self, folder: RunFolder, model: str, cell: Cell) -> None:
        """Write the pixels of each image by true and predicted class."""
        _write_cell(folder.records_file(model, cell), self.of_cell(model, cell), self.workers)


def _write_cell(path: Path, reader: _Reader, workers: int) -> None:
    samples = reader.data.samples
    counts = processes.map_ordered(
        _count, samples, context=reader, workers=0 if len(samples) < _FEW else workers
    )
    count = len(samples)
    records = SegmentationRecords(
        ids=[sample.id for sample in samples],
        position=np.arange(count, dtype=np.int32),
        counts=list(counts),
        error=[None] * count,
    )
    write_segmentation(path, records)


def _count(reader: _Reader, sample: Sample) -> PixelCounts:
    """Runs in a worker."""
    return Truths(reader.data).count(sample, reader.read(sample))
