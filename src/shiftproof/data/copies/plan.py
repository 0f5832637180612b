"""The plan of a copy: what is copied, and all names in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from shiftproof.data.copies.renaming import Form
from shiftproof.data.copies.trees import Tree, name_outputs, open_tree
from shiftproof.data.copies.writing import ENCODER, ImageFormat, Version, mark_name
from shiftproof.data.layouts import LAYOUTS
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.io.images import is_image


@dataclass(frozen=True)
class CopyPlan:
    """The plan of a copy, made before anything is written.

    Attributes:
        tree: the source dataset.
        outputs: the new name of each image, without marks.
        versions: the versions of every image; the same marks in every folder.
        with_originals: whether the copy also has the unchanged images.
        image_format: file format of the changed images.
    """

    tree: Tree
    outputs: dict[str, str]
    versions: tuple[Version, ...]
    with_originals: bool
    image_format: ImageFormat

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """The folders of the versions, each once."""
        return tuple(dict.fromkeys(version.folder for version in self.versions))

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """The forms of the images in each folder."""
        marks = dict.fromkeys(version.mark for version in self.versions)
        forms = [Form("", {name: name for name in self.outputs})] if self.with_originals else []
        for mark in marks:
            layout, outputs = self.tree.layout, self.outputs.items()
            forms.append(
                Form(mark, {name: mark_name(layout, new_name, mark) for name, new_name in outputs})
            )
        return tuple(forms)


def plan_copy(
    source: Path,
    versions: Sequence[Version],
    *,
    image_format: ImageFormat,
    with_originals: bool = False,
    split: str | None = None,
    images: str | Path | None = None,
    root: str | Path | None = None,
) -> CopyPlan:
    """Inspect a source and choose all names.

    ``split``, ``images`` and ``root`` are those of :func:`~shiftproof.data.find_dataset`.

    A folder in the layout of COCO, Pascal VOC, Cityscapes or YOLO (by the marks that
    :func:`~shiftproof.data.find_dataset` names) is copied as a whole. Only photographs are changed;
    masks and all other files are unchanged, except for the images' new names in the annotations
    (see :mod:`shiftproof.data.copies.renaming`).

    Raises:
        InputError: no images, or two files of the copy with the same name.
    """
    if image_format not in ENCODER:
        raise UnknownNameError.of("image format", image_format, ENCODER)
    tree = open_tree(source, split=split, images=images, root=root)
    outputs = name_outputs(tree, image_format)
    plan = CopyPlan(tree, outputs, tuple(versions), with_originals, image_format)
    if tree.tables and any(form.mark for form in plan.forms):
        raise InputError(
            f"{source} is {LAYOUTS[tree.layout].title}, whose copies hold every image once: leave out the "
            "originals, and write several versions into folders of their own."
        )
    if len(plan.forms) > 1:
        _check_unique_names(plan)
    return plan


def _check_unique_names(plan: CopyPlan) -> None:
    """Check that no two files of the copy have the same name."""
    seen = set(plan.tree.carried)
    for form in plan.forms:
        for name in form.outputs.values():
            if name in seen:
                raise InputError(
                    f"{plan.tree.root}: two files of the copy would be called {name}; is the source "
                    "such a copy already? Rename one."
                )
            seen.add(name)


_PACKED_SUFFIXES = frozenset({".arrow", ".parquet", ".tar"})


def _check_target(plan: CopyPlan, target: Path) -> None:
    """Refuse a target that is named like a file: a copy is a folder, even of a single image."""
    if target.is_dir() or not (is_image(target) or target.suffix.lower() in _PACKED_SUFFIXES):
        return
    first = PurePosixPath(plan.folders[0], next(iter(plan.forms[0].outputs.values())))
    raise InputError(
        f"Expected a folder for the copy, got the name of a file, {target}. Give for example "
        f"{target.with_suffix('')}, in which {first} will be written."
    )


def exclude_target(plan: CopyPlan, target: Path) -> CopyPlan:
    """Leave out files in the target: a copy within its own source may have some already.

    Raises:
        InputError: nothing is left, or the target is named like a file.
    """
    _check_target(plan, target)
    root, target_path = plan.tree.root.resolve(), target.resolve()
    if target_path == root or not target_path.is_relative_to(root):
        return plan
    prefix = f"{target_path.relative_to(root).as_posix()}/"

    def exclude(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(name for name in names if not name.startswith(prefix))

    tree = dataclasses.replace(
        plan.tree, images=exclude(plan.tree.images), carried=exclude(plan.tree.carried)
    )
    if not tree.images:
        raise InputError(f"{plan.tree.root} holds no images outside of the target folder.")
    return dataclasses.replace(
        plan, tree=tree, outputs={name: plan.outputs[name] for name in exclude(plan.outputs)}
    )
