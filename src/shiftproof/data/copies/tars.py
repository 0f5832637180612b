"""Copies of webdataset tars with changed images; other members and the order are kept."""

from __future__ import annotations

import contextlib
import io
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from shiftproof.data.copies.writing import ExportResult, ImageFormat, Job, Version, name_output
from shiftproof.data.detection.boxes import check_inside
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io import files
from shiftproof.io.images import read_image
from shiftproof.io.tars import Entry, TarReader, copy_header, open_tar
from shiftproof.types import Image


def export_tar(job: Job, name: str) -> ExportResult:
    """Write the missing versions of one tar of ``job.root``; runs in a worker.

    The random key of an image is the tar's path and the member's name. An image that cannot be read
    is left out and reported.
    """
    missing = job.list_missing(name)
    result = ExportResult(kept=len(job.versions) - len(missing))
    if not missing:
        return result
    try:
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(open_tar(job.root / name, name))
            outputs = {}
            for version in missing:
                path = job.locate(version, name)
                files.make_folder(path.parent)
                file = stack.enter_context(files.atomic(path, durable=False))
                outputs[version] = stack.enter_context(
                    tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)
                )
            image_keys = set()
            unreadable: dict[str, Entry] = {}
            for entry in source.entries():
                _copy_member(job, name, source, entry, outputs, result)
                if entry.is_image:
                    image_keys.add(entry.key)
                elif entry.fault is None and entry.image_fault is not None:
                    unreadable[entry.title] = entry
    except BrokenFileError as error:
        # The unfinished versions were removed with their temporary files.
        return ExportResult(kept=result.kept, broken={name: str(error)})
    for title, entry in unreadable.items():
        # In a sample that has an image it is a mask or a label map, which is not to be changed.
        if entry.key not in image_keys:
            result.broken[f"{name}/{title}"] = f"{name}/{title}: unchanged; {entry.image_fault}."
    return result


def _copy_member(
    job: Job,
    name: str,
    source: TarReader,
    entry: Entry,
    outputs: dict[Version, tarfile.TarFile],
    result: ExportResult,
) -> None:
    """Add one member to all outputs, changed if it is an image."""
    member = entry.info
    check_inside(name, member.name)
    if entry.fault is not None:
        result.broken[f"{name}/{entry.title}"] = f"{name}/{entry.title}: left out; {entry.fault}."
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
        result.broken[key] = f"{key}: {str(error).removeprefix('image: ')}"
        return
    result.decode_seconds += time.process_time() - start
    header = copy_header(member, name=name_output(member.name, job.image_format))
    for version, output in outputs.items():
        encoded = job.make_version(image, version, key, header.name, result)
        start = time.process_time()
        header.size = len(encoded)
        output.addfile(header, io.BytesIO(encoded))
        result.write_seconds += time.process_time() - start


def read_first_images(path: Path, count: int) -> Iterator[tuple[str, Image]]:
    """Yield name and pixels of the readable images among the first ones of a tar."""
    with open_tar(path, path.name) as source:
        for entry in source.entries():
            if entry.is_image:
                data = source.read(entry.info)
                with contextlib.suppress(BrokenFileError):
                    yield entry.info.name, read_image(data)
                count -= 1
            if count <= 0:
                return


def count_members(path: Path) -> tuple[int, int]:
    """Return the number of images in a tar, and the size in bytes of all its other members."""
    images = other_bytes = 0
    with open_tar(path, path.name) as source:
        for entry in source.entries():
            if entry.is_image:
                images += 1
            elif entry.fault is None:
                # A header, and the content in blocks of 512 bytes.
                other_bytes += 512 + -(-entry.info.size // 512) * 512
    return images, other_bytes


def check_names(path: Path, image_format: ImageFormat) -> None:
    """Check that the new names of a tar's members are unique, and the format can store its images.

    Raises:
        InputError: two members would get the same name, or the format cannot store an image.
    """
    sources: dict[str, str] = {}
    with open_tar(path, path.name) as source:
        for entry in source.entries():
            name = entry.info.name
            if entry.fault is not None or not entry.info.isreg():
                continue
            output = name_output(name, image_format) if entry.is_image else name
            if sources.setdefault(output, name) != name:
                raise InputError(
                    f"{path.name}: {sources[output]} and {name} would both be {output}; "
                    "choose the format source."
                )
