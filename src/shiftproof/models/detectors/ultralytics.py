"""Detectors of Ultralytics: YOLO checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from shiftproof.classes import Classes, name_classes
from shiftproof.errors import BrokenFileError, ModelError
from shiftproof.io import files
from shiftproof.lazy import import_extra
from shiftproof.models.detectors.boxes import run_lengths
from shiftproof.models.detectors.options import DetectorOptions, LoadedDetector
from shiftproof.models.image_text.prompts import make_class_names
from shiftproof.models.structure import find_device, require_torch
from shiftproof.types import Detections, Image, Settings

SCORE, OVERLAP, LIMIT = 0.001, 0.7, 300
"""The thresholds with which Ultralytics evaluates its models (its ``val``)."""


@final
class UltralyticsDetector:
    """A function from images to Detections over an Ultralytics model.

    Args:
        model: what ``ultralytics.YOLO(PATH)`` gives; it may fuse layers of its own at the first use.
        device: ``"cpu"``, ``"cuda:0"``, ``"mps"``.
        fingerprint: names the weights.
        score: the lowest score that is kept.
        overlap: above which one of two boxes of a class is dropped.
        limit: the most boxes of an image that are kept.
        size: ``(height, width)`` of the network's input; None takes the model's own.

    Attributes:
        settings: the thresholds.
    """

    def __init__(
        self,
        model: Any,
        *,
        device: str,
        fingerprint: str = "unknown",
        score: float = SCORE,
        overlap: float = OVERLAP,
        limit: int = LIMIT,
        size: tuple[int, int] | None = None,
    ) -> None:
        self._model = model
        self.device = device
        self.fingerprint = fingerprint
        self.score = score
        self.overlap = overlap
        self.limit = limit
        self.size = size

    @property
    def settings(self) -> Settings:
        """What reproduces the reading."""
        return {
            "library": "ultralytics",
            "score": self.score,
            "overlap": self.overlap,
            "limit": self.limit,
            "size": None if self.size is None else list(self.size),
        }

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """Return what the model finds in each image.

        Images of one size go together: the library pads those of several sizes to a square, and one
        alone to a rectangle, so that its answers would depend on the neighbors.
        """
        places: dict[tuple[int, ...], list[int]] = {}
        for place, image in enumerate(images):
            places.setdefault(image.shape, []).append(place)
        found: dict[int, Detections] = {}
        for alike in places.values():
            some = self._detect([images[place] for place in alike])
            found |= zip(alike, some, strict=True)
        return [found[place] for place in range(len(images))]

    def _detect(self, images: Sequence[Image]) -> list[Detections]:
        options = {} if self.size is None else {"imgsz": list(self.size)}
        results = self._model.predict(
            # Its arrays are BGR, as OpenCV reads them.
            [np.ascontiguousarray(image[..., ::-1]) for image in images],
            conf=self.score,
            iou=self.overlap,
            max_det=self.limit,
            device=self.device,
            retina_masks=True,
            verbose=False,
            **options,
        )
        return [_read(result) for result in results]


def load_ultralytics(target: str, options: DetectorOptions) -> LoadedDetector:
    """Load a YOLO checkpoint of Ultralytics; one that takes words is told the classes.

    Its ``.pt`` files are pickled Python objects, which run code when they are loaded: name only
    files that you trust. An export to ONNX is read without running any:
    ``onnx:FILE?decode=yolov8``.

    Raises:
        BrokenFileError: there is no such file (nothing is downloaded), or it cannot be loaded.
        ModelError: the model is for another task.
        MissingExtraError: ultralytics is not installed.
    """
    require_torch()
    ultralytics = import_extra("ultralytics", "ultralytics")
    path = Path(target)
    # Ultralytics would look for the name among its releases and download what it finds.
    if not path.is_file():
        raise BrokenFileError(f"{path}: there is no such file.")
    device = str(find_device(options.device))
    try:
        model = ultralytics.YOLO(str(path))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise BrokenFileError(f"{path}: not a model of Ultralytics ({reason}).") from error
    names = _ask_for(model, options, path)
    if model.task not in ("detect", "segment"):
        raise ModelError(f"{path}: expected a model that detects, got one for {model.task!r}.")
    function = UltralyticsDetector(
        model,
        device=device,
        fingerprint=files.file_fingerprint(path),
        score=SCORE if options.score is None else options.score,
        overlap=OVERLAP if options.overlap is None else options.overlap,
        limit=LIMIT if options.limit is None else options.limit,
        size=options.size,
    )
    return LoadedDetector(function, names or _classes(model.names), None)


def _ask_for(model: Any, options: DetectorOptions, path: Path) -> Classes | None:
    """Tell a model that takes words (YOLO-World) what to look for; None for one that does not.

    Raises:
        LabelError: a class without a name, or two with the same.
        ModelError: its text tower cannot be had.
    """
    classes = options.classes or options.vocabulary
    if classes is None or not callable(getattr(model, "set_classes", None)):
        return None
    names = make_class_names(classes)
    try:
        model.set_classes(list(names))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(
            f"{path}: cannot be asked for {len(names)} names ({reason}). Ultralytics needs the text "
            "tower of CLIP for it, which it downloads at the first use."
        ) from error
    return Classes(classes.names)


def _classes(names: dict[int, str]) -> Classes:
    return name_classes(names.get(index, str(index)) for index in range(max(names) + 1))


def _read(result: Any) -> Detections:
    boxes = result.boxes
    masks = None
    if result.masks is not None:
        masks = [run_lengths(mask) for mask in result.masks.data.cpu().numpy() > 0.5]
    return Detections(
        boxes.xyxy.float().cpu().numpy(),
        # Half precision may round a score above 1.
        boxes.conf.float().cpu().numpy().clip(0, 1),
        boxes.cls.cpu().numpy().astype(np.int64),
        masks,
    )
