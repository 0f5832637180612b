"""Checks of a benchmark's arguments, their names, and their form in the record of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from shiftproof.compute.tuning import count_usable_cores
from shiftproof.corruptions import CORRUPTIONS
from shiftproof.corruptions.depth import FUNCTIONS as DEPTH
from shiftproof.corruptions.identity import identify_corruption
from shiftproof.data import DetectionData, ImageData, SegmentationData
from shiftproof.data.disk import shorten
from shiftproof.data.readable import check_any_readable
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.io import files
from shiftproof.models.detectors.detector import Detector
from shiftproof.models.segmenters.segmenter import Segmenter
from shiftproof.types import Cell, Image, Settings

CorruptionLike: TypeAlias = str | Callable[..., Image]


def choose_workers(device: str) -> int:
    """Return the default number of processes that read and corrupt images.

    On a single core this is 0, except with a GPU, since a process would compete with this one.
    """
    cores = count_usable_cores()
    if cores == 1 and device in ("cpu", "none"):
        return 0
    return max(1, cores // 2) if device == "cpu" else max(1, cores - 1)


def check_readable(data: ImageData) -> None:
    """Refuse data without any readable image, such as a table from another machine.

    Stops at the first readable image.

    Raises:
        InputError: no image is readable; the message has the error of the first.
    """
    check_any_readable(data.name, data.samples, data.read)


def name_corruptions(
    corruptions: Sequence[CorruptionLike] | Mapping[str, CorruptionLike],
    others: Iterable[str] = (),
) -> dict[str, CorruptionLike]:
    """Return the corruptions by name.

    Args:
        corruptions: names, functions, or a mapping of names to either.
        others: further valid names: those of the folders of a -C tree.

    Raises:
        InputError: no corruption, a repeated one, or a name that is not possible as a file name.
        UnknownNameError: no such corruption; the message has the nearest name.
    """
    known = dict.fromkeys([*CORRUPTIONS, *others])
    if isinstance(corruptions, str):
        raise InputError(f"Expected a list of corruptions; write [{corruptions!r}].")
    pairs = (
        list(corruptions.items())
        if isinstance(corruptions, Mapping)
        else [(c if isinstance(c, str) else getattr(c, "__name__", "corruption"), c)
              for c in corruptions]
    )  # fmt: skip
    if not pairs:
        raise InputError("Expected at least one corruption, got none.")
    named: dict[str, CorruptionLike] = {}
    for given, corruption in pairs:
        # A text of numpy is another type, which files of settings cannot hold.
        name = str(given)
        if name in named:
            raise InputError(f"The corruption {name!r} is given twice.")
        if name == "clean" or not files.can_name_files(name):
            raise InputError(
                f"A corruption cannot be called {name!r}: it names files, so letters, digits, "
                "'_', '.', '+' and '-' only, no '.' in front, and not 'clean'."
            )
        if isinstance(corruption, str) and corruption in DEPTH and corruption not in known:
            raise InputError(
                f"{corruption} needs depth maps: hand in with_depth({corruption!r}, source), or give "
                "--depth on the command line."
            )
        if isinstance(corruption, str) and corruption not in known:
            raise UnknownNameError.of("corruption", corruption, known)
        named[name] = str(corruption) if isinstance(corruption, str) else corruption
    return named


def check_severities(severities: Sequence[int]) -> list[int]:
    """Return severities in rising order, or raise an InputError."""
    if not isinstance(severities, Iterable):
        raise InputError(f"Expected a list of severities; write [{severities!r}].")
    chosen = list(severities)
    for severity in chosen:
        if isinstance(severity, bool) or severity not in (1, 2, 3, 4, 5):
            raise InputError(
                f"Expected severities from 1 to 5, got {severity!r}; the clean images are always "
                "run, as severity 0."
            )
    if not chosen or len(set(chosen)) != len(chosen):
        raise InputError(f"Expected severities from 1 to 5, each once, got {chosen}.")
    return sorted(int(severity) for severity in chosen)


def check_at_least_one(what: str, value: int) -> None:
    """Raise an InputError unless ``value`` is an integer of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"Expected {what} of 1 or more, got {value!r}.")


def check_classifiers(models: object, data: object, what: str) -> None:
    """Refuse detectors and segmenters, and data with boxes or label maps, where errors are counted.

    Raises:
        InputError: such a model or dataset; ``what`` is the unsupported feature for the message.
    """
    given = [*models.values()] if isinstance(models, Mapping) else [models]
    others = (DetectionData, SegmentationData, Detector, Segmenter)
    if any(isinstance(one, others) for one in (*given, data)):
        raise InputError(
            f"{what} needs answers that are right or wrong image by image, and mPC and mIoU are no means "
            "over images; give classifiers, or run the grid on a part of the images (images=N)."
        )


def check_encode(encode: str) -> None:
    """Raise an UnknownNameError unless ``encode`` is a known encoding of corrupted images."""
    if encode not in ("none", "jpeg"):
        raise UnknownNameError.of("encode", encode, ["none", "jpeg"])


def check_cells(name: str, existing: Sequence[Cell], requested: Iterable[Cell]) -> None:
    """Raise an InputError unless all requested cells except the clean one exist.

    Args:
        name: the name of the corrupted copies.
        existing: their cells.
        requested: the requested cells.
    """
    known = set(existing)
    missing = [str(cell) for cell in requested if not cell.is_clean and cell not in known]
    if missing:
        raise InputError(
            f"{name} has no cell {shorten(missing)}. Choose what it has: {_show_options(existing)}"
        )


def _show_options(cells: Iterable[Cell]) -> str:
    """Return the options that name cells: ``--corruptions fog,snow --severities 1,3``."""
    names = ",".join(dict.fromkeys(cell.corruption for cell in cells if not cell.is_clean))
    levels = sorted({cell.severity for cell in cells if not cell.is_clean})
    return f"--corruptions {names} --severities {','.join(map(str, levels))}"


class Described(Protocol):
    """An object with settings for the record of a run: a dataset, or a view of its images."""

    def settings(self) -> Settings:
        """Return the settings that reproduce it, for JSON."""


def make_grid_settings(
    data: Described,
    images: Described,
    corruptions: Mapping[str, CorruptionLike],
    severities: Sequence[int],
    *,
    batch_size: int,
    seed: int,
    protocol: Settings,
) -> dict[str, Any]:
    """Return the settings common to runs of all tasks."""
    pixels = images.settings()
    # Images read from disk do not depend on the installed versions.
    made_here = pixels.get("source") != "from disk"
    return {
        "data": data.settings(),
        "images": pixels,
        "corruptions": {
            name: identify_corruption(item) if made_here else name
            for name, item in corruptions.items()
        },
        "severities": severities,
        "batch_size": batch_size,
        "seed": seed,
        "protocol": protocol,
    }
