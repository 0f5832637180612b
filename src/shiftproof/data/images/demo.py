"""The 20 labeled ImageNet photographs of the package foolbox."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import final

from shiftproof.classes import Classes, imagenet
from shiftproof.counts import pluralize
from shiftproof.data.images.image_files import ImageFiles
from shiftproof.errors import LabelError, MissingExtraError
from shiftproof.types import Sample

_NAME = re.compile(r"imagenet_\d\d_(\d{1,3})\.jpg")


@final
class DemoPhotographs(ImageFiles):
    """Twenty ImageNet photographs, labeled by the class's index in their names.

    They are found without importing foolbox, which would import much more and fails with some
    versions of scipy.

    Args:
        classes: the model's classes, in any order, by ImageNet's names or ids; by default the
            1,000 classes of ImageNet in their usual order.

    Raises:
        MissingExtraError: foolbox is not installed, or has no photographs.
        LabelError: ``classes`` are not those of ImageNet.
    """

    def __init__(self, classes: Classes | None = None) -> None:
        try:
            package_files = metadata.files("foolbox") or []
        except metadata.PackageNotFoundError as error:
            raise MissingExtraError.of("foolbox", "demo") from error
        paths = {path.name: path for path in package_files if _NAME.fullmatch(path.name)}
        if not paths:
            raise MissingExtraError.of("foolbox with its photographs", "demo")
        root = Path(str(next(iter(paths.values())).locate())).parent
        classes = imagenet() if classes is None else classes
        samples = [Sample(name, _find_label(name, classes)) for name in sorted(paths)]
        super().__init__("20 ImageNet photographs", root, samples, classes)


def _find_label(file_name: str, classes: Classes) -> int:
    reference = imagenet()
    match = _NAME.fullmatch(file_name)
    assert match is not None
    index = int(match[1])
    if classes.title == reference.title:
        return index
    assert reference.wordnet_ids is not None
    for name in (reference.wordnet_ids[index], reference.names[index]):
        if (label := classes.find(name)) is not None:
            return label
    raise LabelError(
        "The demo photographs are labeled with ImageNet's classes, and the model's "
        f"({classes.title}, {pluralize(len(classes), 'class')}) lack {reference.names[index]!r}. "
        "Use a model of "
        "ImageNet, or measure on your own images."
    )
