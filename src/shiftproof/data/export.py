"""Write a corrupted copy of a data set to disk, its annotations with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shiftproof import engine, files
from shiftproof._version import __version__
from shiftproof.corruptions import CorruptionFunction, corrupt
from shiftproof.corruptions.identity import identity_of
from shiftproof.data.cells import FINGERPRINT_BYTES
from shiftproof.data.disk import read_below
from shiftproof.data.tars import corrupt_tar, count_members, first_pictures
from shiftproof.data.trees import TEXT_SUFFIXES, Tree, open_tree, output_names, rewritten
from shiftproof.data.writing import (
    ENCODER,
    Exported,
    ImageFormat,
    Job,
    cell_folder,
    encode,
    written_name,
)
from shiftproof.errors import BrokenFileError, InputError, RunMismatchError, UnknownNameError
from shiftproof.progress import progress
from shiftproof.types import Cell, Image

COPIED_BYTES = 1_000_000
"""Up to this size texts are copied into each cell; see :func:`export_corrupted`."""


def export_corrupted(
    source: Path,
    target: Path,
    *,
    corruptions: Sequence[str] | Mapping[str, str | CorruptionFunction],
    severities: Sequence[int],
    seed: int = 0,
    image_format: ImageFormat = "png",
    workers: int | None = None,
    show_progress: bool | None = None,
) -> Exported:
    """Write ``target/<corruption>/<severity>/<path below source>`` for every image.

    Each source is decoded once; the corruption is applied at full size; its random key is the path
    below ``source`` (for a single image: its name), so that ``corrupt`` gives the same pixels.
    Every file appears whole or not at all, and one that is there is not done again: an interrupted
    copy is gone on with by the same call. ``manifest.json`` says what the folder holds.

    A folder in the layout of COCO, Pascal VOC, Cityscapes or YOLO (by the marks that
    :func:`~shiftproof.data.open_detection_data` names) is carried over whole: every cell is a data
    set of its own. Only photographs are corrupted; masks and all other files stay as they are, but
    for the images' new names in the annotations. Texts up to a megabyte are copied into each cell;
    of larger files and of other kinds the first cell has a copy, to which the other cells have hard
    links, where the disk can: to change one is to change all of these, never the source. In tars
    (webdataset) the images are corrupted and all other members kept, in their order; the key is the
    tar's path and the member's name.

    Args:
        source: an image, a tar, or a folder.
        target: a folder that is empty, or holds the same copy unfinished.
        corruptions: names, or folder name to name or function.
        severities: 1 to 5.
        seed: decides the noise.
        image_format: "png" is lossless; "jpeg" is saved at quality 95, which is another benchmark;
            "source" keeps names and formats, so that annotations stay as they are to the byte: JPEG
            at quality 95, the others lossless.
        workers: processes; all cores by default.
        show_progress: None shows it on a terminal only.

    Raises:
        InputError: no images, a target that holds other things, annotations whose paths leave the
            folder, or images whose new names could not be told apart.
        RunMismatchError: the target holds a copy made with other settings.
        RunError: the disk is full.
    """
    plan = _plan(source, corruptions, severities, image_format)
    tree, outputs = plan.tree, plan.outputs
    manifest = {
        "shiftproof": __version__,
        "source": tree.root.name,
        "images": len(tree.pictures),
        "corruptions": {name: identity_of(item) for name, item in plan.corruptions.items()},
        "severities": list(severities),
        "seed": seed,
        "encoder": ENCODER[image_format],
    }
    if tree.layout != "plain":
        manifest |= {"layout": tree.layout, "fingerprints": _fingerprints(tree)}
    if tree.layout == "webdataset":
        manifest["tars"] = manifest.pop("images")
    _claim(target, manifest)
    job = Job(tree.root, target, plan.corruptions, plan.cells, seed, image_format)
    workers = (os.cpu_count() or 1) if workers is None else workers
    for cell in plan.cells:
        every = (*outputs.values(), *tree.carried)
        for folder in {PurePosixPath(name).parent for name in every}:
            files.make_folder(cell_folder(target, cell) / folder)
    done = Exported()
    with progress("Annotations", len(tree.carried), show=show_progress) as advance:
        carry = _Carry(tree, outputs, job)
        for name, one in zip(
            tree.carried,
            engine.map_ordered(_carry_one, tree.carried, context=carry, workers=workers),
            strict=True,
        ):
            done.add(one)
            advance(note=name)
    with progress("Corrupting", len(outputs) * len(plan.cells), show=show_progress) as advance:
        if tree.layout == "webdataset":
            results = engine.map_ordered(corrupt_tar, outputs, context=job, workers=workers)
        else:
            results = engine.map_ordered(_export_one, outputs.items(), context=job, workers=workers)
        for name, one in zip(outputs, results, strict=True):
            done.add(one)
            advance(len(plan.cells), note=name)
    files.write_json(target / "manifest.json", {**manifest, "broken": done.broken})
    return done


@dataclass(frozen=True)
class _Plan:
    tree: Tree
    outputs: dict[str, str]
    corruptions: dict[str, str | CorruptionFunction]
    cells: tuple[Cell, ...]


def _plan(
    source: Path,
    corruptions: Sequence[str] | Mapping[str, str | CorruptionFunction],
    severities: Sequence[int],
    image_format: ImageFormat,
) -> _Plan:
    if image_format not in ENCODER:
        raise UnknownNameError.of("image format", image_format, ENCODER)
    tree = open_tree(source)
    outputs = output_names(tree, image_format)
    named: dict[str, str | CorruptionFunction] = {name: name for name in corruptions}
    if isinstance(corruptions, Mapping):
        named.update(corruptions)
    cells = tuple(Cell(name, severity) for name in named for severity in severities)
    if not cells:
        raise InputError("Expected at least one corruption and one severity, got none.")
    return _Plan(tree, outputs, named, cells)


def _export_one(job: Job, names: tuple[str, str]) -> Exported:
    """Do all cells of one image, in a worker."""
    name, output = names
    paths = {cell: job.path(cell, output) for cell in job.cells}
    missing = [cell for cell, path in paths.items() if not path.exists()]
    done = Exported(kept=len(paths) - len(missing))
    if not missing:
        return done
    start = time.process_time()
    try:
        image = read_below(job.root, name)
    except BrokenFileError as error:
        return Exported(broken={name: str(error)})
    done.decode_seconds = time.process_time() - start
    for cell in missing:
        start = time.process_time()
        corrupted = corrupt(
            image,
            job.corruptions[cell.corruption],
            severity=cell.severity,
            seed=job.seed,
            key=name,
        )
        middle = time.process_time()
        files.write_bytes(paths[cell], encode(corrupted, output), durable=False)
        done.corrupt_seconds += middle - start
        done.write_seconds += time.process_time() - middle
        done.written += 1
    return done


# ---------------------------------------------------------------- what is carried over


@dataclass(frozen=True)
class _Carry:
    tree: Tree
    outputs: dict[str, str]
    job: Job


def _carry_one(carry: _Carry, name: str) -> Exported:
    """Bring one file that is no picture into every cell, in a worker."""
    paths = [carry.job.path(cell, name) for cell in carry.job.cells]
    missing = [path for path in paths if not path.exists()]
    done = Exported(carried=len(missing))
    if not missing:
        return done
    changed = rewritten(carry.tree, name, carry.outputs)
    original = carry.tree.root / name
    size = original.stat().st_size if changed is None else len(changed)
    is_copied = PurePosixPath(name).suffix.lower() in TEXT_SUFFIXES and size <= COPIED_BYTES
    # The copy that the others link to is the first cell's, or what an interrupted run has made.
    held = next((path for path in paths if path not in missing), None)
    for path in missing:
        if held is not None and not is_copied and _link(held, path):
            continue
        if changed is not None:
            files.write_bytes(path, changed, durable=False)
        else:
            _copy(original, path)
        held = path if held is None else held
    return done


def _link(held: Path, path: Path) -> bool:
    try:
        os.link(held, path)
    except OSError:  # another disk, or one without hard links
        return False
    return True


def _copy(original: Path, path: Path) -> None:
    try:
        with original.open("rb") as read, files.atomic(path, durable=False) as written:
            shutil.copyfileobj(read, written)
    except PermissionError as error:
        raise BrokenFileError(f"{original}: cannot be read ({error.strerror}).") from error


def _fingerprints(tree: Tree) -> dict[str, str]:
    """Return what tells this source from another one, of the pictures and of the other files."""
    found = {}
    for what, names in (("images", tree.pictures), ("other files", tree.carried)):
        sizes = [(tree.root / name).stat().st_size for name in names]
        paths = [tree.root / name for name in names]
        if sum(sizes) <= FINGERPRINT_BYTES:
            contents = files.file_fingerprints(paths)
        else:
            contents = [f"size {size}" for size in sizes]
        parts = [part.encode() for pair in zip(names, contents, strict=True) for part in pair]
        found[what] = files.fingerprint(parts)
    found["of"] = "names and contents; of more than 2 GB names and sizes"
    return found


def _claim(target: Path, manifest: dict[str, object]) -> None:
    path = target / "manifest.json"
    if path.is_file():
        there = files.read_json(path)
        there.pop("broken", None)
        if there != manifest:
            other = [key for key in {**manifest, **there} if there.get(key) != manifest.get(key)]
            raise RunMismatchError(
                f"{target} holds a copy made with other settings ({', '.join(other)}). "
                "Choose another target folder, or delete this one."
            )
        return
    if target.is_dir() and any(target.iterdir()):
        raise InputError(
            f"{target} is not empty and holds no corrupted copy. Choose another target folder."
        )
    files.make_folder(target)
    files.write_json(path, manifest)


# ---------------------------------------------------------------- before it starts


SAMPLED_IMAGES = 12
SAMPLED_SECONDS = 10.0
"""No further image is tried for an estimate after so many seconds of CPU."""


@dataclass(frozen=True)
class Estimate:
    """What a copy will take, told from a few of its images; nothing has been written.

    Attributes:
        layout: plain, coco, voc, cityscapes, yolo or webdataset.
        images: to be corrupted, in each cell.
        cells: corruptions times severities.
        carried: other files of each cell.
        bytes: on the disk, of everything.
        cpu_seconds: decoding, corrupting and encoding, summed over the workers.
        workers: the processes that share them.
        sampled: the images that were tried.
        free_bytes: what is free where the copy would lie.
    """

    layout: str
    images: int
    cells: int
    carried: int
    bytes: int
    cpu_seconds: float
    workers: int
    sampled: tuple[str, ...]
    free_bytes: int

    @property
    def seconds(self) -> float:
        """From start to end, if every worker has a core of its own."""
        return self.cpu_seconds / max(self.workers, 1)


def estimate_export(
    source: Path,
    target: Path,
    *,
    corruptions: Sequence[str] | Mapping[str, str | CorruptionFunction],
    severities: Sequence[int],
    seed: int = 0,
    image_format: ImageFormat = "png",
    workers: int | None = None,
) -> Estimate:
    """Return what :func:`export_corrupted` with the same arguments will take; write nothing.

    Up to twelve images, evenly spread (of tars the first of the first one), go through all cells and
    stand for the others: where sizes differ much it is rough.

    Raises:
        InputError: as export_corrupted, and where none of the tried images can be read.
        BrokenFileError: a damaged tar, which the copy itself would leave out and name.
    """
    plan = _plan(source, corruptions, severities, image_format)
    tree = plan.tree
    other_bytes = _carried_bytes(tree, len(plan.cells))
    tried: Iterator[tuple[str, str, Image]]
    if tree.layout == "webdataset":
        counts = [count_members(tree.root / name) for name in tree.pictures]
        images = sum(count for count, _, _ in counts)
        other_bytes += len(plan.cells) * sum(size for _, _, size in counts)
        tar = tree.pictures[0]
        tried = (
            (f"{tar}/{name}", written_name(name, image_format), image)
            for name, image in first_pictures(tree.root / tar, SAMPLED_IMAGES)
        )
    else:
        images = len(tree.pictures)
        tried = _some_pictures(plan)
    names: list[str] = []
    size = 0
    start = time.process_time()
    for key, output, image in tried:
        if not names:
            for name, item in plan.corruptions.items():  # what is compiled or loaded once
                corrupt(image, item, severity=severities[0], seed=seed, key=f"{name} {key}")
            start = time.process_time()
        names.append(key)
        for cell in plan.cells:
            corrupted = corrupt(
                image, plan.corruptions[cell.corruption], severity=cell.severity, seed=seed, key=key
            )
            size += len(encode(corrupted, output))
        if time.process_time() - start > SAMPLED_SECONDS:
            break
    spent = time.process_time() - start
    if not names:
        raise InputError(f"{source}: none of the images tried for the estimate can be read.")
    there = next(
        folder for folder in (target.resolve(), *target.resolve().parents) if folder.exists()
    )
    return Estimate(
        layout=tree.layout,
        images=images,
        cells=len(plan.cells),
        carried=len(tree.carried),
        bytes=other_bytes + size * images // len(names),
        cpu_seconds=spent * images / len(names),
        workers=(os.cpu_count() or 1) if workers is None else workers,
        sampled=tuple(names),
        free_bytes=shutil.disk_usage(there).free,
    )


def _some_pictures(plan: _Plan) -> Iterator[tuple[str, str, Image]]:
    """Yield name, new name and pixels of some pictures from start to end, those that can be read."""
    names = plan.tree.pictures
    count = min(len(names), SAMPLED_IMAGES)
    for place in range(count):
        name = names[place * len(names) // count]
        with contextlib.suppress(BrokenFileError):
            yield name, plan.outputs[name], read_below(plan.tree.root, name)


def _carried_bytes(tree: Tree, cells: int) -> int:
    total = 0
    for name in tree.carried:
        size = (tree.root / name).stat().st_size
        is_copied = PurePosixPath(name).suffix.lower() in TEXT_SUFFIXES and size <= COPIED_BYTES
        total += size * (cells if is_copied else 1)
    return total
