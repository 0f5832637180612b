"""Write a corrupted copy of a folder of images to disk."""

from __future__ import annotations

import io
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from PIL import Image as PillowImage

from shiftproof import engine, files
from shiftproof._version import __version__
from shiftproof.corruptions import CorruptionFunction, corrupt
from shiftproof.corruptions.identity import identity_of
from shiftproof.data.disk import find_images, read_below
from shiftproof.errors import BrokenFileError, InputError, RunMismatchError, UnknownNameError
from shiftproof.progress import progress
from shiftproof.types import Cell, Image

ImageFormat = Literal["png", "jpeg"]

JPEG_QUALITY = 95
_SUFFIX = {"png": ".png", "jpeg": ".jpg"}


@dataclass
class Exported:
    """What ``export_corrupted`` did, and where the time went.

    ``written`` files now, ``kept`` files that were there, ``broken`` sources by id with the reason.
    The seconds are CPU time summed over the workers; ``write`` is encoding and writing.
    """

    written: int = 0
    kept: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    decode_seconds: float = 0.0
    corrupt_seconds: float = 0.0
    write_seconds: float = 0.0


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
    copy is gone on with by the same call. PNG is lossless; "jpeg" is saved at quality 95, which is
    another benchmark. ``manifest.json`` says what the folder holds. ``corruptions`` are names, or
    folder name to name or function.

    Raises:
        InputError: no images, or a target that holds other things.
        RunMismatchError: the target holds a copy made with other settings.
        RunError: the disk is full.
    """
    if image_format not in _SUFFIX:
        raise UnknownNameError.of("image format", image_format, _SUFFIX)
    root, names = _images_of(source)
    outputs = _output_names(names, _SUFFIX[image_format])
    named: dict[str, str | CorruptionFunction] = {name: name for name in corruptions}
    if isinstance(corruptions, Mapping):
        named.update(corruptions)
    cells = [Cell(name, severity) for name in named for severity in severities]
    if not cells:
        raise InputError("Expected at least one corruption and one severity, got none.")
    manifest = {
        "shiftproof": __version__,
        "source": root.name,
        "images": len(names),
        "corruptions": {name: identity_of(item) for name, item in named.items()},
        "severities": list(severities),
        "seed": seed,
        "encoder": image_format if image_format == "png" else f"jpeg quality {JPEG_QUALITY}",
    }
    _claim(target, manifest)
    for cell in cells:
        for folder in {PurePosixPath(name).parent for name in outputs.values()}:
            files.make_folder(target / cell.corruption / str(cell.severity) / folder)
    job = _Job(root, target, named, tuple(cells), seed, image_format)
    done = Exported()
    workers = (os.cpu_count() or 1) if workers is None else workers
    with progress("Corrupting", len(names) * len(cells), show=show_progress) as advance:
        results = engine.map_ordered(_export_one, outputs.items(), context=job, workers=workers)
        for name, one in zip(outputs, results, strict=True):
            done.written += one.written
            done.kept += one.kept
            done.broken |= one.broken
            done.decode_seconds += one.decode_seconds
            done.corrupt_seconds += one.corrupt_seconds
            done.write_seconds += one.write_seconds
            advance(len(cells), note=name)
    files.write_json(target / "manifest.json", {**manifest, "broken": done.broken})
    return done


@dataclass(frozen=True)
class _Job:
    root: Path
    target: Path
    corruptions: dict[str, str | CorruptionFunction]
    cells: tuple[Cell, ...]
    seed: int
    image_format: ImageFormat


def _export_one(job: _Job, names: tuple[str, str]) -> Exported:
    """Do all cells of one image, in a worker."""
    name, output = names
    paths = {c: job.target / c.corruption / str(c.severity) / output for c in job.cells}
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
        files.write_bytes(paths[cell], _encode(corrupted, job.image_format), durable=False)
        done.corrupt_seconds += middle - start
        done.write_seconds += time.process_time() - middle
        done.written += 1
    return done


def _encode(image: Image, image_format: ImageFormat) -> bytes:
    buffer = io.BytesIO()
    picture = PillowImage.fromarray(image)
    if image_format == "png":
        picture.save(buffer, "PNG", compress_level=1)
    else:
        picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _images_of(source: Path) -> tuple[Path, Sequence[str]]:
    if source.is_file():
        return source.parent, (source.name,)
    if not source.is_dir():
        raise InputError(f"{source} does not exist; expected an image or a folder of images.")
    return source, find_images(source).names


def _output_names(names: Sequence[str], suffix: str) -> dict[str, str]:
    """Give each image its new suffix; where two would share a name, the old suffix stays, too."""
    plain = {name: str(PurePosixPath(name).with_suffix(suffix)) for name in names}
    shared = Counter(plain.values())
    return {
        name: output if shared[output] == 1 else name + suffix for name, output in plain.items()
    }


def _claim(target: Path, manifest: dict[str, object]) -> None:
    path = target / "manifest.json"
    if path.is_file():
        there = files.read_json(path)
        there.pop("broken", None)
        if there != manifest:
            other = [key for key in manifest if there.get(key) != manifest[key]]
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
