"""Detectors of Ultralytics: YOLO checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from shiftproof.classes import Classes, name_classes
from shiftproof.counts import pluralize
from shiftproof.errors import BrokenFileError, ModelError
from shiftproof.io import files
from shiftproof.io.border import describe_error
from shiftproof.lazy import import_extra
from shiftproof.models.detectors.boxes import encode_mask
from shiftproof.models.detectors.by_size import map_groups
from shiftproof.models.detectors.options import DetectorOptions, LoadedDetector
from shiftproof.models.image_text.prompts import make_class_names
from shiftproof.models.structure import find_device, require_torch
from shiftproof.types import Detections, Image, Settings

SCORE, OVERLAP, LIMIT = 0.001, 0.7, 300
"""The thresholds with which Ultralytics evaluates its models (its ``val``)."""


@final
class UltralyticsDetector:
    """A function from images to Detections by an Ultralytics model.

    Args:
        model: an ``ultralytics.YOLO(PATH)``; it may fuse its layers at the first use.
        device: ``"cpu"``, ``"cuda:0"``, ``"mps"``.
        fingerprint: fingerprint of the weights.
        score: score threshold of a box.
        overlap: threshold of non-maximum suppression.
        limit: maximum number of boxes per image.
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
        """The settings of the decoding, for JSON."""
        return {
            "library": "ultralytics",
            "score": self.score,
            "overlap": self.overlap,
            "limit": self.limit,
            "size": None if self.size is None else list(self.size),
        }

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """Return the detections in each image.

        Images are grouped by size: the library pads images of several sizes to a square, and a
        single one to a rectangle, so its detections would depend on the neighbors.
        """
        return map_groups(
            [image.shape for image in images],
            lambda places: self._detect([images[place] for place in places]),
        )

    def _detect(self, images: Sequence[Image]) -> list[Detections]:
        options = {} if self.size is None else {"imgsz": list(self.size)}
        results = self._model.predict(
            # Its arrays are BGR, as in OpenCV.
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
    """Load a YOLO checkpoint of Ultralytics; an open-vocabulary one with the given classes.

    Its ``.pt`` files are pickled Python objects, which can run code when they are loaded: use
    trusted files only. Reading an export to ONNX runs no code: ``onnx:FILE?decode=yolov8``.

    Raises:
        BrokenFileError: there is no such file (nothing is downloaded), or it cannot be loaded.
        ModelError: the model is for another task.
        MissingExtraError: ultralytics is not installed.
    """
    require_torch()
    ultralytics = import_extra("ultralytics", "ultralytics")
    path = Path(target)
    # Ultralytics would download a file of that name from its releases.
    if not path.is_file():
        raise BrokenFileError(f"{path}: there is no such file.")
    device = str(find_device(options.device))
    try:
        model = ultralytics.YOLO(str(path))
    except Exception as error:
        reason = describe_error(error)
        raise BrokenFileError(f"{path}: not a model of Ultralytics ({reason}).") from error
    names = _set_classes(model, options, path)
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
    return LoadedDetector(function, names or _read_classes(model.names), None)


def _set_classes(model: Any, options: DetectorOptions, path: Path) -> Classes | None:
    """Set the classes of an open-vocabulary model (YOLO-World); None for others.

    Raises:
        LabelError: a class without a name, or two with the same.
        ModelError: its text tower cannot be loaded.
    """
    classes = options.classes or options.vocabulary
    if classes is None or not callable(getattr(model, "set_classes", None)):
        return None
    names = make_class_names(classes)
    try:
        model.set_classes(list(names))
    except Exception as error:
        reason = describe_error(error)
        raise ModelError(
            f"{path}: cannot take {pluralize(len(names), 'class name')} ({reason}). Ultralytics "
            "needs the text "
            "tower of CLIP for them, which it downloads at the first use."
        ) from error
    return Classes(classes.names)


def _read_classes(names: dict[int, str]) -> Classes:
    return name_classes(names.get(index, str(index)) for index in range(max(names) + 1))


def _read(result: Any) -> Detections:
    boxes = result.boxes
    masks = None
    if result.masks is not None:
        masks = [encode_mask(mask) for mask in result.masks.data.cpu().numpy() > 0.5]
    return Detections(
        boxes.xyxy.float().cpu().numpy(),
        # Half precision may round a score above 1.
        boxes.conf.float().cpu().numpy().clip(0, 1),
        boxes.cls.cpu().numpy().astype(np.int64),
        masks,
    )
