"""Measuring mean and variance of a graph's values over clean images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from shiftproof.errors import InputError, ModelError
from shiftproof.io.border import describe_error, show_name
from shiftproof.lazy import import_extra


class Moments(NamedTuple):
    """Mean and biased variance per channel, ``(C,)`` float64 each, over images and positions."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


class _Sums:
    """Running moments of values in batches (Chan, Golub & LeVeque 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    def add(self, values: NDArray[Any]) -> None:
        """Add values ``(N, C, ...)``."""
        others = tuple(axis for axis in range(values.ndim) if axis != 1)
        count = values.size // values.shape[1]
        mean = values.mean(others, dtype=np.float64)
        squares = values.var(others, dtype=np.float64) * count
        step, total = mean - self.mean, self.count + count
        self.squares = self.squares + squares + step**2 * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total


def measure_values(
    model: ModelProto, names: Sequence[str], batches: Iterable[NDArray[Any]], *, source: str
) -> tuple[dict[str, Moments], int]:
    """Run a graph on images, and return the moments of some values and the number of images.

    Args:
        model: the graph; it is not changed.
        names: names of the values, ``(N, C, ...)`` each.
        batches: preprocessed batches of images, of the graph's batch size if it is fixed.
        source: the file, for errors.

    Raises:
        InputError: there are no images, or the values are not finite.
        ModelError: the graph does not run on the images.
    """
    session, entry = _open_session(model, names, source)
    sums = {name: _Sums() for name in names}
    images = 0
    for batch in batches:
        try:
            values = session.run(list(names), {entry: batch})
        except Exception as error:
            raise ModelError(
                f"{source}: does not run on the images to calibrate with "
                f"({show_name(describe_error(error))})."
            ) from error
        for name, value in zip(names, values, strict=True):
            sums[name].add(value)
        images += len(batch)
    if not images:
        raise InputError("There are no images to calibrate with; expected some clean ones.")
    found = {name: Moments(each.mean, each.squares / each.count) for name, each in sums.items()}
    if not all(np.isfinite(part).all() for pair in found.values() for part in pair):
        raise InputError(f"{source}: gives NaN or infinity on the images to calibrate with.")
    return found, images


def _open_session(model: ModelProto, names: Sequence[str], source: str) -> tuple[Any, str]:
    """Return a session whose outputs are the values, and the name of its input."""
    onnxruntime = import_extra("onnxruntime", "export")
    opened = ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:]
    for name in names:
        opened.graph.output.add(name=name)
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            opened.SerializeToString(), quiet, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ModelError(
            f"{source}: cannot be run to calibrate ({show_name(describe_error(error))})."
        ) from error
    return session, session.get_inputs()[0].name
