"""Segmenters from a user's function: ``python:my_nets:segment``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from shiftproof.errors import InputError
from shiftproof.models.own_functions import (
    FunctionModel,
    OwnFunction,
    add_fingerprint,
    import_function,
    make_model,
)
from shiftproof.models.segmenters.label_spaces import read_class_names
from shiftproof.models.segmenters.normalized import NormalizedSegmentation
from shiftproof.models.segmenters.options import LoadedSegmenter, SegmenterOptions
from shiftproof.models.segmenters.segmenter import Segmenter
from shiftproof.models.structure import is_torch_module

_EXPECTED = (
    "a torch.nn.Module from normalized images (N, 3, H, W) to logits, a function from a list of "
    "uint8 images to logits or label maps, or a shiftproof.Segmenter"
)


def load_function_segmenter(target: str, options: SegmenterOptions) -> LoadedSegmenter:
    """Import ``MODULE:FUNCTION``, also from the working directory. Importing runs the module.

    A function that takes an argument is the segmenter: it gets a list of uint8 RGB images
    ``(H, W, 3)`` and gives logits or label maps. One without arguments is called: a
    ``torch.nn.Module`` that it returns is run by ``NormalizedSegmentation``, a function or a
    ``Segmenter`` is taken as it is. Its attribute ``classes``, where it has one, names what the
    outputs mean.

    Raises:
        InputError: no function is named, or the framing of a ``Segmenter`` is to be another.
        ModelError: the module cannot be imported, or has no such function; the function fails, or
            returns something else.
    """
    own = import_function(target, (Segmenter,))
    function = own.function
    if not isinstance(function, Segmenter) and _takes_images(function):
        shown = function if is_torch_module(function) else FunctionModel(function, own.module)
        return _load_plain(shown, own, options)
    made = make_model(own, (Segmenter,), _EXPECTED)
    if isinstance(made, Segmenter):
        return _take_apart(made, own, options)
    loaded = _load_plain(made, own, options)
    return loaded._replace(convention=NormalizedSegmentation()) if is_torch_module(made) else loaded


def _takes_images(function: Callable[..., Any]) -> bool:
    if is_torch_module(function):
        return True
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # of a compiled function nothing is known
        return True
    return True


def _load_plain(
    module: Callable[..., Any], own: OwnFunction, options: SegmenterOptions
) -> LoadedSegmenter:
    framing = options.framing(None)
    classes = None if own.classes is None else read_class_names(own.classes)
    return LoadedSegmenter(module, classes, None, framing, (framing.describe(),))


def _take_apart(
    segmenter: Segmenter, own: OwnFunction, options: SegmenterOptions
) -> LoadedSegmenter:
    given = {"resize": options.resize, "window": options.window, "stride": options.stride}
    asked = [name for name, value in given.items() if value is not None]
    if asked:
        raise InputError(
            f"{', '.join(asked)}: python:{own.target} returns a Segmenter that frames images by "
            "itself. Leave the options out, or return the network alone."
        )
    return LoadedSegmenter(
        add_fingerprint(segmenter.module, own),
        segmenter.classes,
        segmenter.convention,
        segmenter.framing,
        segmenter.assumed,
    )
