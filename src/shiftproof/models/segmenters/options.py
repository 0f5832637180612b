"""The options of a loader of segmenters, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from shiftproof.classes import Classes
from shiftproof.models.segmenters.segmenter import SegmenterConvention
from shiftproof.models.segmenters.windows import Framing, Size

Resize: TypeAlias = int | Size | Literal["none"]
"""Length of the shorter side, or (height, width), in pixels; or ``"none"``: no resizing."""


class LoadedSegmenter(NamedTuple):
    """The parts of a ``Segmenter``; ``classes`` is None if the source names none.

    ``assumed`` lists the assumptions made, as sentences.
    """

    module: Callable[..., Any]
    classes: Classes | None
    convention: SegmenterConvention | None
    framing: Framing = Framing()
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class SegmenterOptions:
    """The options of ``load_segmenter`` besides the name; None if not given."""

    device: str = "cpu"
    classes: Classes | None = None
    pretrained: bool | None = None
    weights: str | None = None
    output: str | None = None
    output_layout: str | None = None
    layout: str | None = None
    pixels: str | None = None
    resize: Resize | None = None
    window: Size | None = None
    stride: Size | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def framing(self, resize: int | Size | None) -> Framing:
        """Return the framing that the options ask for, by default resized to ``resize``."""
        chosen = resize if self.resize is None else self.resize
        stride = self.stride
        if self.window is not None and stride is None:
            # A stride of two thirds of the window, such as 341 of 512, overlaps by a third.
            stride = (max(1, self.window[0] * 2 // 3), max(1, self.window[1] * 2 // 3))
        return Framing(None if chosen == "none" else chosen, self.window, stride)
