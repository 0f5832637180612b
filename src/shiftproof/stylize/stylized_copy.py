"""Write a stylized copy of a dataset with its annotations, with or without the original images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from shiftproof.corruptions.identity import identify_corruption
from shiftproof.data import Estimate, ExportResult
from shiftproof.data.copies.changed_copy import export_copy
from shiftproof.data.copies.estimate import estimate_copy
from shiftproof.data.copies.plan import plan_copy
from shiftproof.data.copies.writing import ImageFormat, Version
from shiftproof.errors import InputError
from shiftproof.shards import Backend
from shiftproof.stylize.apply import choose_style, stylize_keyed
from shiftproof.stylize.contract import Engine, check_alpha
from shiftproof.stylize.free import free
from shiftproof.stylize.styles import Styles, open_styles
from shiftproof.types import Image, Settings


def export_stylized(
    source: Path,
    target: Path,
    *,
    styles: str | Path | Styles | None = None,
    engine: Engine = free,
    alpha: float = 1.0,
    combined: bool = False,
    per_image: int = 1,
    seed: int = 0,
    image_format: ImageFormat = "png",
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
    workers: int | None = None,
    backend: Backend | None = None,
    show_progress: bool | None = None,
) -> ExportResult:
    """Write ``target/<path below source>`` for every image, in the style chosen by its path.

    The sources are those of :func:`~shiftproof.data.export_corrupted`, and so are the properties of
    the copy: files are written atomically, the same call resumes it, annotations get the images'
    new names, and ``manifest.json`` describes it.

    With ``combined``, or several styles for each image, every form of an image has its own name:
    ``9.png`` becomes ``9-stylized-1.png`` (in Cityscapes the mark follows the frame number). Pascal
    VOC's XML and masks, YOLO's labels and the files in ``gtFine`` are copied for each form, image
    lists contain all forms, and COCO's files get further images and annotations: the ids of form K
    are the old ones plus K times a power of ten above all of them. The originals keep their names,
    format and content. Each form of a tar is a separate tar.

    Args:
        source: an image, a tar, or a folder.
        target: an empty folder, or one with an unfinished run of the same copy.
        styles: a folder of paintings; None for drawn ones.
        engine: as for :func:`stylize`.
        alpha: strength of the style, 0 to 1.
        combined: whether the copy also has the originals, as in the paper's combined training data.
        per_image: number of styles for each image.
        seed: random seed of the choice of styles.
        image_format: "png" is lossless; "jpeg" is saved at quality 95; "source" keeps the formats.
        split: only the images of this split.
        images: the folder of the images, if several are possible.
        root: for YOLO, the folder of the data, overriding the YAML file.
        workers: processes; all cores by default.
        backend: distribution of the work; see :func:`~shiftproof.data.copies.changed_copy.export_copy`.
        show_progress: None shows it on a terminal only.

    Returns:
        The report of the copy; an unreadable style is in ``broken`` as "style NAME".

    Raises:
        InputError: no images, no styles, a target with other content, or numbers out of range.
        RunMismatchError: the target holds a copy made with other settings.
        UnfinishedError: this worker's share is done, but not all the others'.
        RunError: the disk is full.
    """
    edit = _open_edit(styles, engine, alpha, seed, _name_versions(per_image, combined=combined))
    plan = plan_copy(
        source,
        list(edit.turns),
        image_format=image_format,
        with_originals=combined,
        split=split,
        images=images,
        root=root,
    )
    return export_copy(
        plan,
        target,
        edit,
        settings=edit.settings(combined=combined),
        why="A stylized copy cannot be extended: all its images are in one dataset.",
        title="Stylizing",
        workers=workers,
        backend=backend,
        show_progress=show_progress,
    )


def estimate_stylized(
    source: Path,
    target: Path,
    *,
    styles: str | Path | Styles | None = None,
    engine: Engine = free,
    alpha: float = 1.0,
    combined: bool = False,
    per_image: int = 1,
    seed: int = 0,
    image_format: ImageFormat = "png",
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
    workers: int | None = None,
) -> Estimate:
    """Estimate the cost of :func:`export_stylized` with the same arguments; writes nothing.

    Raises:
        InputError: as export_stylized, and if none of the measured images can be read.
        BrokenFileError: a damaged tar, which the copy itself would skip and report.
    """
    edit = _open_edit(styles, engine, alpha, seed, _name_versions(per_image, combined=combined))
    plan = plan_copy(
        source,
        list(edit.turns),
        image_format=image_format,
        with_originals=combined,
        split=split,
        images=images,
        root=root,
    )
    return estimate_copy(plan, target, edit, workers=workers)


@dataclass(frozen=True)
class _Stylizing:
    """The edit: applies the style chosen by an image's key and its version."""

    styles: Styles
    engine: Engine
    alpha: float
    seed: int
    turns: dict[Version, int]

    def settings(self, *, combined: bool) -> Settings:
        """Return the settings that determine the pixels and names of the copy, for its manifest."""
        return {
            "stylized": "free"
            if self.engine is free
            else identify_corruption(cast(Any, self.engine)),
            "styles": self.styles.identity(),
            "alpha": self.alpha,
            "combined": combined,
            "per_image": len(self.turns),
            "seed": self.seed,
        }

    def __call__(self, image: Image, version: Version, key: str) -> tuple[Image, dict[str, str]]:
        result, chosen = stylize_keyed(
            image,
            self.styles,
            key=key,
            seed=self.seed,
            turn=self.turns[version],
            alpha=self.alpha,
            engine=self.engine,
        )
        return result, {f"style {title}": reason for title, reason in chosen.broken.items()}


def _name_versions(per_image: int, *, combined: bool) -> list[Version]:
    if isinstance(per_image, bool) or not isinstance(per_image, int) or per_image < 1:
        raise InputError(f"Expected one style for each image or more, got {per_image!r}.")
    if combined or per_image > 1:
        return [Version(mark=f"-stylized-{number + 1}") for number in range(per_image)]
    return [Version()]


def _open_edit(
    styles: str | Path | Styles | None,
    engine: Engine,
    alpha: float,
    seed: int,
    versions: list[Version],
) -> _Stylizing:
    """Return the edit, after checking that at least one style can be read."""
    share, opened = check_alpha(alpha), open_styles(styles)
    choose_style(opened, key="", seed=seed)
    turns = {version: turn for turn, version in enumerate(versions)}
    return _Stylizing(opened, engine, share, seed, turns)
