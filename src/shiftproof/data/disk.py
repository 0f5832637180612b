"""Listing images below a folder, reading and fingerprinting them."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io import files
from shiftproof.io.border import check_names, show_name, suggest_sibling
from shiftproof.io.images import IMAGE_SUFFIXES, is_image, read_image, read_size
from shiftproof.io.locations import is_url
from shiftproof.io.urls import redact_urls
from shiftproof.types import Image


@dataclass(frozen=True)
class ImageListing:
    """The images below a folder: their paths relative to it, sorted, with ``/`` on every system.

    ``links`` are links to folders that were not followed, since their images are listed already;
    ``outputs`` are folders written by shiftproof, whose images are not part of the data;
    ``other_counts`` counts the files that are not images by suffix.
    """

    names: tuple[str, ...]
    links: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    other_counts: Mapping[str, int] = field(default_factory=dict)


def find_images(root: Path) -> ImageListing:
    """Return the images below ``root``, at any depth, in an order independent of the locale.

    A file is an image by its suffix, or by its first bytes. Hidden files and folders are ignored. A
    link to a folder is followed, unless it leads into ``root``, above it, or to the target of
    another link, which would list images twice or endlessly. A broken link with an image's suffix
    counts as an image, and is reported when it is read. Runs, embeddings and changed copies written
    by shiftproof are left out.

    Raises:
        InputError: no such folder, a folder that cannot be read, no images, or a name that is not
            UTF-8 and so could not be written to any record.
    """
    if not root.exists():
        raise InputError(
            f"{root} does not exist; expected a folder of images.{suggest_sibling(root)}"
        )
    if not root.is_dir():
        raise InputError(f"{root} is a file; expected a folder of images: give {root.parent}.")
    names: list[str] = []
    links: list[str] = []
    outputs: list[str] = []
    other_counts: Counter[str] = Counter()
    resolved_root = root.resolve()
    visited = {resolved_root}
    pending = [(root, "")]
    while pending:
        folder, prefix = pending.pop()
        for entry in _list_entries(folder):
            name = prefix + entry.name
            if _is_folder(entry):
                if entry.is_symlink():
                    target = Path(entry.path).resolve()
                    if target in resolved_root.parents or not visited.isdisjoint(
                        (target, *target.parents)
                    ):
                        links.append(name)
                        continue
                    visited.add(target)
                if is_output(Path(entry.path)):
                    outputs.append(name)
                else:
                    pending.append((Path(entry.path), f"{name}/"))
            elif _is_image_entry(entry):
                names.append(name)
            else:
                other_counts[Path(name).suffix.lower() or "no suffix"] += 1
    if not names:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        others = shorten(
            (f"{count} {show_name(kind)}" for kind, count in other_counts.most_common()), 3
        )
        other_files = f"; the files that it holds are {others}" if others else ""
        raise InputError(f"{root} holds no images ({suffixes}){other_files}.")
    check_names(root, names)
    return ImageListing(
        tuple(sorted(names)), tuple(sorted(links)), tuple(sorted(outputs)), other_counts
    )


_OUTPUT_KEYS = (b'"kind": ', b'"settings": ', b'"shiftproof": ')


def is_output(folder: Path) -> bool:
    """Return whether shiftproof wrote a folder: a run, embeddings or a changed copy."""
    for name in ("run.json", "manifest.json"):
        path = folder / name
        if not path.is_file():
            continue
        with contextlib.suppress(OSError), path.open("rb") as file:
            head = file.read(4096)
            if head.startswith(b'{\n "format": ') and any(mark in head for mark in _OUTPUT_KEYS):
                return True
    return False


_NON_IMAGE_SUFFIXES = frozenset(
    {
        ".bin", ".csv", ".db", ".gz", ".html", ".json", ".jsonl", ".log", ".mat", ".md", ".mp4",
        ".names", ".npy", ".npz", ".onnx", ".parquet", ".pkl", ".pt", ".pth", ".py", ".tar", ".tgz",
        ".toml", ".tsv", ".txt", ".xml", ".yaml", ".yml", ".zip",
    }
)  # fmt: skip
"""Suffixes of files that are not opened to check whether they are images."""


def _is_image_entry(entry: os.DirEntry[str]) -> bool:
    if os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122 (as is_image, of a million)
        return entry.is_symlink() or entry.is_file()
    is_excluded = PurePosixPath(entry.name).suffix.lower() in _NON_IMAGE_SUFFIXES
    return not is_excluded and read_size(Path(entry.path)) is not None


def list_files(root: Path) -> Iterator[str]:
    """Yield every file that is not hidden, following links to folders, each file once.

    Folders written by shiftproof are left out, as in :func:`find_images`.
    """
    visited: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real_path = os.path.realpath(folder)
        if real_path in visited:
            subfolders.clear()
            continue
        visited.add(real_path)
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and not is_output(Path(folder, name))
        )
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(root).as_posix()


def holds_packed(root: Path, is_packed: Callable[[str], bool]) -> bool:
    """Return whether a folder has packed files (tars, tables) and no image files.

    ``is_packed`` recognizes a packed file by its name.
    """
    found = False
    for name in list_files(root):
        if is_image(Path(name)):
            return False
        found = found or is_packed(name)
    return found


def _list_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the visible entries of a folder, sorted so that links have the same order everywhere."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}).") from error
    return sorted(visible, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def list_folders(root: Path) -> list[Path]:
    """Return the folders in ``root`` that are not hidden, sorted by name."""
    return [Path(entry.path) for entry in _list_entries(root) if _is_folder(entry)]


def list_two_levels(root: Path) -> list[Path]:
    """Return the folders in ``root`` that are not hidden, followed by those in them."""
    folders = list_folders(root)
    return [*folders, *(inner for folder in folders for inner in list_folders(folder))]


def read_below(root: Path, name: str) -> Image:
    """Read the image ``name`` below ``root`` as ``(H, W, 3)`` uint8 RGB.

    Raises:
        BrokenFileError: it cannot be read; the message contains ``name``.
    """
    path = root / name
    if os.path.isdir(path):  # noqa: PTH112 (pathlib's raises if a name is too long)
        raise BrokenFileError(f"{name}: not a regular file.")
    try:
        return read_image(path)
    except BrokenFileError as error:
        reason = str(error).removeprefix(f"{path.name}: ")
        raise BrokenFileError(f"{name}: {reason}") from error


def read_file_size(path: Path) -> int | None:
    """Return the size of a file in bytes; None for a missing file or a broken link."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def fingerprint_below(root: Path, names: Iterable[str]) -> list[str]:
    """Return the fingerprint of the content of each file, in the order of ``names``."""
    # Making a million Paths would take longer than reading the files.
    return files.file_fingerprints(_is_regular(os.path.join(root, name)) for name in names)  # noqa: PTH118


def _is_regular(path: str) -> str:
    """Return the path; for a pipe or device a path that cannot be opened: see ``read_below``."""
    # The functions of pathlib raise if a name is too long.
    if os.path.isfile(path) or not os.path.exists(path):  # noqa: PTH110, PTH113
        return path
    return f"{path}/not a regular file"


def find_counterparts(names: Iterable[str], others: Iterable[str]) -> dict[str, str | None]:
    """Return the counterpart in ``others`` of each of ``names``, or None.

    The counterpart is the same path; else ``a.jpg`` for ``a.jpg.png``, the name of a copy in another
    format; else the only path that differs just by its suffix.
    """
    candidates = set(others)
    by_stem: dict[str, list[str]] = {}
    for candidate in candidates:
        by_stem.setdefault(drop_suffix(candidate), []).append(candidate)
    found: dict[str, str | None] = {}
    for name in names:
        stem = drop_suffix(name)
        same_stem = by_stem.get(stem, [])
        if name in candidates:
            found[name] = name
        elif stem in candidates:
            found[name] = stem
        else:
            found[name] = same_stem[0] if len(same_stem) == 1 else None
    return found


def drop_suffix(name: str) -> str:
    """Return a relative path without the suffix of its last part."""
    return str(PurePosixPath(name).with_suffix(""))


def check_written_path(where: str, written: str, path: Path) -> None:
    """Refuse a path in a file of the user that names no file of this machine.

    A URL, a path of Windows on another system, and ``~``, which a shell expands and a file does not:
    as a relative path each would only be a missing image.

    Args:
        where: the file and line, for the message.
        written: the path as it is written.
        path: the path, read as a relative one; where it exists, ``~`` or ``C:`` is a folder.

    Raises:
        InputError: it is such a path; the message says what to write.
    """
    if is_url(written):
        advice = (
            "write the path alone, without file://"
            if written.lower().startswith("file:")
            else "images are fetched one by one only below a folder in a store: put this file there, "
            "write paths relative to it, and give its URL; or download the images"
        )
        raise InputError(
            f"{where}: expected a path, got the URL {redact_urls(written)!r:.200}; {advice}."
        )
    is_foreign = os.name != "nt" and re.match(r"[A-Za-z]:[\\/]|\\\\", written)
    if is_foreign and not path.exists():
        raise InputError(
            f"{where}: expected a path of this machine, got {written!r:.200}, one of Windows; write it "
            "relative to this file, with / between the folders."
        )
    if re.match(r"~[\\/]", written) and not path.exists():
        raise InputError(
            f"{where}: {written!r:.200} begins with ~, which only a shell expands; write the whole path, "
            "or one relative to this file."
        )


def shorten(names: Iterable[str], count: int = 5) -> str:
    """Return the first few of ``names`` and the number of the others, as text."""
    listed = list(names)
    more = f" and {len(listed) - count} more" if len(listed) > count else ""
    return ", ".join(listed[:count]) + more


def join_below(folder: str, name: str) -> str:
    """Join two relative paths with ``/``; ``folder`` may be ``.``."""
    return str(PurePosixPath(folder) / name)
