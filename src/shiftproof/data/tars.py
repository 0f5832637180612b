"""Webdataset tars: the image members changed, all others as they are, in the same order."""

from __future__ import annotations

import contextlib
import copy
import io
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from shiftproof.data.boxes import check_inside
from shiftproof.data.writing import Exported, ImageFormat, Job, Version, encode, written_name
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io import files
from shiftproof.io.images import is_image, read_image
from shiftproof.types import Image


def is_tar(name: str) -> bool:
    """Whether a file is called like a tar that is not compressed."""
    return name.lower().endswith(".tar")


def is_picture(name: str) -> bool:
    """Whether a member is an image to change.

    As webdataset reads names, all after the first dot says what a member is: ``7.jpg`` is an image,
    ``7.seg.png`` something about it, such as a mask, and stays as it is.
    """
    base = Path(name).name
    return is_image(Path(name)) and base.count(".") == 1


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
            source = stack.enter_context(_open(job.root / name, name))
            outputs = {}
            for version in missing:
                path = job.path(version, name)
                files.make_folder(path.parent)
                file = stack.enter_context(files.atomic(path, durable=False))
                outputs[version] = stack.enter_context(
                    tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)
                )
            for member in _members(source, name):
                _copy_member(job, name, source, member, outputs, done)
    except (BrokenFileError, tarfile.TarError) as error:
        # Whatever was written of it is gone with its temporary files.
        said = str(error) if isinstance(error, BrokenFileError) else f"{name}: damaged ({error})."
        return Exported(kept=done.kept, broken={name: said})
    return done


def _copy_member(
    job: Job,
    name: str,
    source: tarfile.TarFile,
    member: tarfile.TarInfo,
    outputs: dict[Version, tarfile.TarFile],
    done: Exported,
) -> None:
    """Add one member to all outputs, changed where it is an image."""
    check_inside(name, member.name)
    content = source.extractfile(member) if member.isreg() else None
    if content is None:
        for output in outputs.values():
            output.addfile(member)
        return
    data = content.read()
    if not is_picture(member.name):
        for output in outputs.values():
            output.addfile(member, io.BytesIO(data))
        return
    key = f"{name}/{member.name}"
    start = time.process_time()
    try:
        image = read_image(data)
    except BrokenFileError as error:
        done.broken[key] = f"{key}: {str(error).removeprefix('image: ')}"
        return
    done.decode_seconds += time.process_time() - start
    entry = copy.copy(member)
    entry.name = written_name(member.name, job.image_format)
    # Of a long name or a large file these hold the old values, and they have priority.
    entry.pax_headers = {
        key: value for key, value in member.pax_headers.items() if key not in ("path", "size")
    }
    for version, output in outputs.items():
        start = time.process_time()
        changed, unusable = job.edit(image, version, key)
        done.broken.update(unusable)
        middle = time.process_time()
        encoded = encode(changed, entry.name)
        entry.size = len(encoded)
        output.addfile(entry, io.BytesIO(encoded))
        done.corrupt_seconds += middle - start
        done.write_seconds += time.process_time() - middle
        done.written += 1


def first_pictures(path: Path, count: int) -> Iterator[tuple[str, Image]]:
    """Yield name and pixels of the first images of a tar, those that can be read."""
    with _open(path, path.name) as source:
        for member in _members(source, path.name):
            if member.isreg() and is_picture(member.name):
                content = source.extractfile(member)
                assert content is not None
                with contextlib.suppress(BrokenFileError):
                    yield member.name, read_image(content.read())
                count -= 1
            if count <= 0:
                return


def count_members(path: Path) -> tuple[int, int, int]:
    """Return how many images a tar holds, how many bytes of them, and how many of all else."""
    pictures = picture_bytes = other_bytes = 0
    with _open(path, path.name) as source:
        for member in _members(source, path.name):
            if member.isreg() and is_picture(member.name):
                pictures += 1
                picture_bytes += member.size
            else:
                # A header, and content in blocks of 512 bytes.
                other_bytes += 512 + -(-member.size // 512) * 512
    return pictures, picture_bytes, other_bytes


def check_names(path: Path, image_format: ImageFormat) -> None:
    """Check that no two images of a tar would get one name, and that the format can hold them.

    Raises:
        InputError: they would, or it cannot.
    """
    seen: dict[str, str] = {}
    with _open(path, path.name) as source:
        for member in _members(source, path.name):
            written = member.name
            if member.isreg() and is_picture(member.name):
                written = written_name(member.name, image_format)
            if member.isreg() and seen.setdefault(written, member.name) != member.name:
                raise InputError(
                    f"{path.name}: {seen[written]} and {member.name} would both be {written}; "
                    "choose the format source."
                )


@contextlib.contextmanager
def _open(path: Path, name: str) -> Iterator[tarfile.TarFile]:
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(tarfile.open(path, mode="r:"))
        except (tarfile.TarError, OSError) as error:
            raise BrokenFileError(f"{name}: cannot be read as a tar ({error}).") from error
        yield file


def _members(source: tarfile.TarFile, name: str) -> Iterator[tarfile.TarInfo]:
    try:
        yield from source
        check_end(source)
    except (tarfile.TarError, EOFError) as error:
        raise BrokenFileError(f"{name}: the tar is damaged ({error}).") from error


def check_end(source: tarfile.TarFile) -> None:
    """Raise a ReadError unless a tar that was read through ends with a block of zeros.

    ``tarfile`` takes what is no header for the end, so that a tar that was cut short seems whole.
    """
    assert source.fileobj is not None
    source.fileobj.seek(source.offset)
    if source.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it has no end where one is due")
