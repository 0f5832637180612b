"""Webdataset tars: the image members changed, all others as they are, in the same order."""

from __future__ import annotations

import contextlib
import io
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from shiftproof.data.copies.writing import Exported, ImageFormat, Job, Version, encode, name_output
from shiftproof.data.detection.boxes import check_inside
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io import files
from shiftproof.io.images import read_image
from shiftproof.io.tars import Entry, TarReader, copy_header, open_tar
from shiftproof.types import Image


def export_tar(job: Job, name: str) -> Exported:
    """Write every version of one tar of ``job.root`` that is not there; runs in a worker.

    The random key of an image is the tar's path and the member's name. An image that cannot be read
    is left out and named.
    """
    missing = [version for version in job.versions if not job.path(version, name).exists()]
    done = Exported(kept=len(job.versions) - len(missing))
    if not missing:
        return done
    try:
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(open_tar(job.root / name, name))
            outputs = {}
            for version in missing:
                path = job.path(version, name)
                files.make_folder(path.parent)
                file = stack.enter_context(files.atomic(path, durable=False))
                outputs[version] = stack.enter_context(
                    tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)
                )
            samples = set()
            others: dict[str, Entry] = {}
            for entry in source.entries():
                _copy_member(job, name, source, entry, outputs, done)
                if entry.is_image:
                    samples.add(entry.key)
                elif entry.fault is None and entry.image_fault is not None:
                    others[entry.title] = entry
    except BrokenFileError as error:
        # Whatever was written of it is gone with its temporary files.
        return Exported(kept=done.kept, broken={name: str(error)})
    for title, entry in others.items():
        # Beside the image of its sample it is a mask or a map, and stays as it is for good reason.
        if entry.key not in samples:
            done.broken[f"{name}/{title}"] = f"{name}/{title}: unchanged; {entry.image_fault}."
    return done


def _copy_member(
    job: Job,
    name: str,
    source: TarReader,
    entry: Entry,
    outputs: dict[Version, tarfile.TarFile],
    done: Exported,
) -> None:
    """Add one member to all outputs, changed where it is an image."""
    member = entry.info
    check_inside(name, member.name)
    if entry.fault is not None:
        done.broken[f"{name}/{entry.title}"] = f"{name}/{entry.title}: left out; {entry.fault}."
        return
    data = source.read(member) if member.isreg() else b""
    if not entry.is_image:
        for output in outputs.values():
            output.addfile(copy_header(member), io.BytesIO(data))
        return
    key = f"{name}/{member.name}"
    start = time.process_time()
    try:
        image = read_image(data)
    except BrokenFileError as error:
        done.broken[key] = f"{key}: {str(error).removeprefix('image: ')}"
        return
    done.decode_seconds += time.process_time() - start
    written = copy_header(member, name=name_output(member.name, job.image_format))
    for version, output in outputs.items():
        start = time.process_time()
        changed, unusable = job.edit(image, version, key)
        done.broken.update(unusable)
        middle = time.process_time()
        encoded = encode(changed, written.name)
        written.size = len(encoded)
        output.addfile(written, io.BytesIO(encoded))
        done.corrupt_seconds += middle - start
        done.write_seconds += time.process_time() - middle
        done.written += 1


def read_first_pictures(path: Path, count: int) -> Iterator[tuple[str, Image]]:
    """Yield name and pixels of the first images of a tar, those that can be read."""
    with open_tar(path, path.name) as source:
        for entry in source.entries():
            if entry.is_image:
                data = source.read(entry.info)
                with contextlib.suppress(BrokenFileError):
                    yield entry.info.name, read_image(data)
                count -= 1
            if count <= 0:
                return


def count_members(path: Path) -> tuple[int, int, int]:
    """Return how many images a tar holds, how many bytes of them, and how many of all else."""
    pictures = picture_bytes = other_bytes = 0
    with open_tar(path, path.name) as source:
        for entry in source.entries():
            if entry.is_image:
                pictures += 1
                picture_bytes += entry.info.size
            elif entry.fault is None:
                # A header, and content in blocks of 512 bytes.
                other_bytes += 512 + -(-entry.info.size // 512) * 512
    return pictures, picture_bytes, other_bytes


def check_names(path: Path, image_format: ImageFormat) -> None:
    """Check that no two images of a tar would get one name, and that the format can hold them.

    Raises:
        InputError: they would, or it cannot.
    """
    seen: dict[str, str] = {}
    with open_tar(path, path.name) as source:
        for entry in source.entries():
            name = entry.info.name
            if entry.fault is not None or not entry.info.isreg():
                continue
            written = name_output(name, image_format) if entry.is_image else name
            if seen.setdefault(written, name) != name:
                raise InputError(
                    f"{path.name}: {seen[written]} and {name} would both be {written}; "
                    "choose the format source."
                )
