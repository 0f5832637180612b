"""The options of a loader of classifiers, and its result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from shiftproof.classes import Classes
from shiftproof.models.dtypes import Dtype
from shiftproof.models.preprocess import Interpolation, Preprocessing


class Loaded(NamedTuple):
    """The parts of a ``Classifier``.

    ``classes`` is None where the source names none; ``name`` is None where the text that was asked
    for says it best. ``preprocess_from`` and ``classes_from`` say who states them, and ``assumed``
    what else was decided for the caller, in words. ``outputs`` and ``dtype`` are as ``Classifier``
    takes them. ``keeps_preprocess`` is True where no option may change the preprocessing.
    """

    module: Callable[..., Any]
    preprocess: Preprocessing
    classes: Classes | None
    name: str | None = None
    preprocess_from: str = "the source"
    classes_from: str = "the source"
    assumed: tuple[str, ...] = ()
    outputs: tuple[tuple[int, ...], ...] | None = None
    dtype: Dtype = "fp32"
    keeps_preprocess: bool = False


@dataclass(frozen=True)
class LoadOptions:
    """The options of ``load_classifier`` besides the name; None if not given.

    ``load_classifier`` applies ``resize``, ``interpolation``, ``mean`` and ``std`` by itself; a
    loader sees them, and may need ``size``. ``templates`` are sentences for the classes of a
    zero-shot model, whose vectors may exist already in ``run_folder``. ``features`` is
    True where the outputs are to be vectors and no head is needed.
    """

    device: str = "cpu"
    pretrained: bool | None = None
    arch: str | None = None
    weights: str | None = None
    output: str | None = None
    layout: str | None = None
    pixels: str | None = None
    classes: Classes | None = None
    templates: Iterable[str] | str | Path | None = None
    run_folder: Path | None = None
    features: bool = False
    size: tuple[int, int] | None = None
    resize: int | tuple[int, int] | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
