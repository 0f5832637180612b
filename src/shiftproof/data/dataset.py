"""What a data set is: named images, with or without labels."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from shiftproof.classes import Classes
from shiftproof.errors import InputError, LabelError
from shiftproof.io import files
from shiftproof.types import Image, Sample, Settings

Self = TypeVar("Self", bound="ImageData")


class ImageData(ABC):
    """Images with ids, and labels where there are any.

    Small to pickle: worker processes are sent the data set once and read the images themselves.
    A concrete data set is final; it calls ``super().__init__`` and gives ``read`` and
    ``content_fingerprints``.

    Args:
        name: what tables and records call it.
        samples: in a fixed order; ids are unique; all have labels or none has.
        classes: what the labels index; kept only where there are labels.

    Attributes:
        aside: a sentence for each thing that lies there and is not used, where it was opened by name.

    Raises:
        InputError: no samples, or an id that stands for two.
        LabelError: some have labels and some have none.
    """

    def __init__(self, name: str, samples: Sequence[Sample], classes: Classes | None) -> None:
        self.name = name
        self.aside: tuple[str, ...] = ()
        self.samples = tuple(samples)
        if not self.samples:
            raise InputError(f"{name} has no images.")
        counts = Counter(sample.id for sample in self.samples)
        doubled = next((key for key, count in counts.items() if count > 1), None)
        if doubled is not None:
            raise InputError(
                f"{name}: the id {doubled!r} stands for {counts[doubled]} images; expected each id "
                "once."
            )
        without = [sample.id for sample in self.samples if sample.label is None]
        if without and len(without) < len(self.samples):
            raise LabelError(
                f"{name}: {len(without)} of {len(self.samples)} images have no label (first: "
                f"{without[0]}); expected all or none."
            )
        self.classes = None if without else classes
        self.subset: Settings | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        kind = "labeled" if self.is_labeled else "unlabeled"
        return f"{type(self).__name__}({self.name!r}, {len(self)} {kind} images)"

    @property
    def is_labeled(self) -> bool:
        """Whether the images have labels."""
        return self.samples[0].label is not None

    @abstractmethod
    def read(self, sample: Sample) -> Image:
        """Return the image as ``(H, W, 3)`` uint8 RGB.

        Raises:
            BrokenFileError: it cannot be read.
        """

    @abstractmethod
    def content_fingerprints(self) -> list[str]:
        """Return what tells each image's content from any other, in the order of the samples."""

    def fingerprint(self) -> str:
        """Return 32 hex digits that change when an image, an id or a label changes."""
        parts: list[bytes] = []
        for sample, content in zip(self.samples, self.content_fingerprints(), strict=True):
            parts += [sample.id.encode(), str(sample.label).encode(), content.encode()]
        return files.fingerprint(parts)

    def narrow(self: Self, samples: Sequence[Sample], rule: str) -> Self:
        """Return the same data set with some of its images alone.

        Args:
            samples: one or more of its own.
            rule: by which they were chosen, for the record.

        Raises:
            InputError: none.
        """
        if not samples:
            raise InputError(f"{self.name}: expected at least one image, got none.")
        narrowed = copy.copy(self)
        narrowed.samples = tuple(samples)
        narrowed.subset = {"images of all": len(self), "rule": rule}
        return narrowed

    def settings(self) -> Settings:
        """Return what the record says of the data: what it is, not where it lies."""
        return {
            "name": self.name,
            "kind": type(self).__name__,
            "images": len(self),
            **({} if self.subset is None else {"subset": self.subset}),
            "labeled": self.is_labeled,
            "fingerprint": self.fingerprint(),
        }
