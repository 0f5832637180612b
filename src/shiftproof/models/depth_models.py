"""Models of depth in ONNX, whose inverse depths are brought to those of the corruptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.errors import ImageError, ModelError
from shiftproof.io.border import convert_errors
from shiftproof.io.files import file_fingerprint
from shiftproof.models.classifiers.onnx import open_session
from shiftproof.models.onnx_input import GraphInput, choose_scaling, read_input
from shiftproof.types import F32, Image

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

DEFAULT_SIDE = 384
"""Where the graph leaves the size of its input open."""

UNIT = 512 / 65535
"""The published code takes inverse depths, spread over 16 bits, for 512 over the depth."""

FARTHEST = 0.5
"""And nothing for farther than this."""


class OnnxDepth:
    """A model of relative inverse depth, as MiDaS and Depth Anything are, in a file.

    The input is ``(1, 3, H, W)`` float32, scaled by ImageNet's mean and deviation, or of another
    layout and type (:mod:`shiftproof.models.onnx_input`); the output, whose values are higher where
    things are nearer, is spread to 0..1 and turned into ``0.0078 / value``, at most 0.5, as by Kar
    et al. 2022 for photographs.

    Args:
        path: the ONNX file.
        layout: "nchw" or "nhwc", if the graph's axes leave it open.
        pixels: "normalized", "0..1" or "0..255", which the graph takes; None for the first, and for
            pixels 0..255 in uint8.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        BrokenFileError: no such file, or no graph that can be run.
        ModelError: its input is no image of three channels.
        InputError: the layout or the pixels have to be stated.
        UnknownNameError: no such ``layout`` or ``pixels``.
    """

    def __init__(
        self, path: str | Path, *, layout: str | None = None, pixels: str | None = None
    ) -> None:
        self.path = Path(path)
        self._stated = {"layout": layout, "pixels": pixels}
        self._opened: tuple[Any, GraphInput] | None = None
        self._start()

    @property
    def identity(self) -> str:
        """What records call it: the file's content, and what was stated of its input."""
        stated = "".join(f", {name} {value}" for name, value in self._stated.items() if value)
        return f"depth by {self.path.name} ({file_fingerprint(self.path)}){stated}"

    def find(self, image: Image, key: str) -> F32:
        """Return the depth of an image, ``(H, W)``, 0 at the camera."""
        import cv2

        session, given = self._start()
        color = image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)
        height, width = given.height or DEFAULT_SIDE, given.width or DEFAULT_SIDE
        resized = cv2.resize(color, (width, height), interpolation=cv2.INTER_AREA)
        mean, std = choose_scaling(self.path, given, {}) or (MEAN, STD)
        scaled = (resized / np.float32(255) - np.array(mean, np.float32)) / np.array(
            std, np.float32
        )
        planes = scaled.transpose(2, 0, 1)[np.newaxis]
        with convert_errors(self.path, "failed on an image"):
            [output, *_] = session.run(None, {given.name: given.convert(planes)})
        return _to_depth(np.squeeze(output), image.shape[:2], self.path)

    def _start(self) -> tuple[Any, GraphInput]:
        if self._opened is None:
            session, _ = open_session(self.path, "cpu")
            given = read_input(
                self.path, session, layout=self._stated["layout"], pixels=self._stated["pixels"]
            )
            if given.channels == 1:
                raise ModelError(f"{self.path}: expected an input of 3 channels, got 1.")
            self._opened = session, given
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        """Leave the session behind: workers start their own."""
        return {**vars(self), "_opened": None}


def _to_depth(output: Any, size: tuple[int, ...], path: Path) -> F32:
    """Return relative inverse depths ``(h, w)`` as depths of an image's size."""
    import cv2

    if output.ndim != 2 or not np.isfinite(output).all():
        raise ImageError(f"{path}: expected finite depths (H, W), got shape {output.shape}.")
    low, high = float(output.min()), float(output.max())
    spread = (output - low) / max(high - low, 1e-12)
    enlarged = cv2.resize(
        spread.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_LINEAR
    )
    return np.asarray(np.minimum(UNIT / np.maximum(enlarged, 1e-6), FARTHEST), dtype=np.float32)
