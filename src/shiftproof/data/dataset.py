"""The base class of datasets: images with ids, with or without labels."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

from shiftproof.classes import Classes, to_classes
from shiftproof.counts import pluralize
from shiftproof.errors import InputError, LabelError
from shiftproof.io import files
from shiftproof.types import Image, Sample, Settings

Self = TypeVar("Self", bound="ImageData")


class ImageData(ABC):
    """Images with ids, with or without labels.

    Small to pickle: each worker process gets the dataset once and reads the images itself. A
    concrete dataset is final; it calls ``super().__init__`` and implements ``read`` and
    ``content_fingerprints``.

    Args:
        name: name in tables and records.
        samples: in a fixed order, with unique ids; either all or none have labels.
        classes: the classes that labels index, or their names; ignored without labels.

    Attributes:
        omissions: a sentence for everything at the path that is not used, if it was opened by path.

    Raises:
        InputError: no samples, or an id that occurs twice.
        LabelError: some have labels and some have none.
    """

    def __init__(
        self, name: str, samples: Sequence[Sample], classes: Classes | Iterable[str] | None
    ) -> None:
        self.name = name
        self.omissions: tuple[str, ...] = ()
        self.samples = tuple(samples)
        if not self.samples:
            raise InputError(f"{name} has no images.")
        counts = Counter(sample.id for sample in self.samples)
        duplicate = next((key for key, count in counts.items() if count > 1), None)
        if duplicate is not None:
            raise InputError(
                f"{name}: {counts[duplicate]} images have the id {duplicate!r}; expected unique ids."
            )
        unlabeled = [sample.id for sample in self.samples if sample.label is None]
        if unlabeled and len(unlabeled) < len(self.samples):
            raise LabelError(
                f"{name}: {len(unlabeled)} of {pluralize(len(self.samples), 'image')} have no label (first: "
                f"{unlabeled[0]}); expected all or none."
            )
        self.classes = None if unlabeled else to_classes(classes)
        self.subset: Settings | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        kind = "labeled" if self.is_labeled else "unlabeled"
        return f"{type(self).__name__}({self.name!r}, {pluralize(len(self), f'{kind} image')})"

    @property
    def is_labeled(self) -> bool:
        """Whether the images have labels."""
        return self.samples[0].label is not None

    @abstractmethod
    def read(self, sample: Sample) -> Image:
        """Return the image as ``(H, W, 3)`` uint8 RGB.

        Raises:
            BrokenFileError: it cannot be read; the message contains the sample's id.
        """

    @abstractmethod
    def content_fingerprints(self) -> list[str]:
        """Return a fingerprint of each image's content, in the order of the samples."""

    def fingerprint(self) -> str:
        """Return 32 hex digits that change when an image, an id or a label changes."""
        parts: list[bytes] = []
        for sample, fingerprint in zip(self.samples, self.content_fingerprints(), strict=True):
            parts += [sample.id.encode(), str(sample.label).encode(), fingerprint.encode()]
        return files.fingerprint(parts)

    def narrow(self: Self, samples: Sequence[Sample], rule: str) -> Self:
        """Return the dataset restricted to some of its images.

        Args:
            samples: one or more of its own.
            rule: how they were selected, for the records.

        Raises:
            InputError: no samples are given.
        """
        if not samples:
            raise InputError(f"{self.name}: expected at least one image, got none.")
        narrowed = copy.copy(self)
        narrowed.samples = tuple(samples)
        narrowed.subset = {"images of all": len(self), "rule": rule}
        return narrowed

    def settings(self) -> Settings:
        """Return the settings for the records: what the data is, not its path."""
        return {
            "name": self.name,
            "kind": type(self).__name__,
            "images": len(self),
            **({} if self.subset is None else {"subset": self.subset}),
            "labeled": self.is_labeled,
            "fingerprint": self.fingerprint(),
        }
