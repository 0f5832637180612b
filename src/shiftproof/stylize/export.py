"""Write a stylized copy of a data set to disk, alone or beside the original, annotations with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from shiftproof.corruptions.identity import identity_of
from shiftproof.data import Estimate, Exported
from shiftproof.data.copies.export import CopyPlan, estimate_copy, export_copy, plan_copy
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
) -> Exported:
    """Write ``target/<path below source>`` for every image, in the style that belongs to its path.

    The sources are those of :func:`~shiftproof.data.export_corrupted`, and so is what holds for the
    copy: whole files only, resumed by the same call, annotations carried over with the images'
    new names, ``manifest.json`` beside them.

    With ``combined``, or several styles for each image, every form of an image has a name of its own:
    ``9.png`` becomes ``9-stylized-1.png`` (in Cityscapes the mark stands behind the frame). Pascal
    VOC's XML and masks, YOLO's labels and the files in ``gtFine`` come once for each form, lists of
    images name them all, and COCO's files get further images and annotations: the ids of the form K
    are the old ones plus K times a power of ten above all of them. The originals stay untouched, under
    their own names and in their own format. Of a tar each form is a tar of its own.

    Args:
        source: an image, a tar, or a folder.
        target: a folder that is empty, or holds the same copy unfinished.
        styles: a folder of paintings; None for drawn ones.
        engine: as for :func:`stylize`.
        alpha: how much of the style, 0 to 1.
        combined: the originals are in the copy as well, as in the paper's combined training data.
        per_image: so many styles for each image.
        seed: decides which styles.
        image_format: "png" is lossless; "jpeg" is saved at quality 95; "source" keeps the formats.
        split: the images of this split alone; those of the others are left out.
        images: the folder of the images, where several could be meant.
        root: YOLO: the folder of the data, in place of what the YAML file says.
        workers: processes; all cores by default.
        backend: who writes which images or tars, where several share the work; see
            :func:`~shiftproof.data.copies.export.export_copy`.
        show_progress: None shows it on a terminal only.

    Returns:
        What was done; a style that cannot be read is in ``broken`` as "style NAME".

    Raises:
        InputError: no images, no styles, a target that holds other things, or numbers out of range.
        RunMismatchError: the target holds a copy made with other settings.
        UnfinishedError: this worker's share is done, and others' are not.
        RunError: the disk is full.
    """
    plan, edit = _plan(
        source,
        styles,
        engine,
        alpha,
        combined,
        per_image,
        seed,
        image_format,
        split=split,
        images=images,
        root=root,
    )
    return export_copy(
        plan,
        target,
        edit,
        settings=edit.settings(combined=combined),
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
    """Return what :func:`export_stylized` with the same arguments will take; write nothing.

    Raises:
        InputError: as export_stylized, and where none of the tried images can be read.
        BrokenFileError: a damaged tar, which the copy itself would leave out and name.
    """
    plan, edit = _plan(
        source,
        styles,
        engine,
        alpha,
        combined,
        per_image,
        seed,
        image_format,
        split=split,
        images=images,
        root=root,
    )
    return estimate_copy(plan, target, edit, workers=workers)


@dataclass(frozen=True)
class _Stylizing:
    """The change: the style that belongs to an image's key and the turn of its version."""

    styles: Styles
    engine: Engine
    alpha: float
    seed: int
    turns: dict[Version, int]

    def settings(self, *, combined: bool) -> Settings:
        """Return what decides the pixels and the names of the copy, for its manifest."""
        return {
            "stylized": "free" if self.engine is free else identity_of(cast(Any, self.engine)),
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


def _plan(
    source: Path,
    styles: str | Path | Styles | None,
    engine: Engine,
    alpha: float,
    combined: bool,
    per_image: int,
    seed: int,
    image_format: ImageFormat,
    *,
    split: str | None,
    images: str | Path | None,
    root: str | Path | None,
) -> tuple[CopyPlan, _Stylizing]:
    share = check_alpha(alpha)
    if isinstance(per_image, bool) or not isinstance(per_image, int) or per_image < 1:
        raise InputError(f"Expected one style for each image or more, got {per_image!r}.")
    opened = open_styles(styles)
    # So that a folder without a single readable style is told before anything is written.
    choose_style(opened, key="", seed=seed)
    if combined or per_image > 1:
        versions = [Version(mark=f"-stylized-{number + 1}") for number in range(per_image)]
    else:
        versions = [Version()]
    plan = plan_copy(
        source,
        versions,
        image_format=image_format,
        with_originals=combined,
        split=split,
        images=images,
        root=root,
    )
    turns = {version: turn for turn, version in enumerate(versions)}
    return plan, _Stylizing(opened, engine, share, seed, turns)
