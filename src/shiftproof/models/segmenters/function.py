"""A function of one's own, named by its module: ``python:my_models:segment``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.io.border import reason_of
from shiftproof.models.segmenters.label_spaces import names_of
from shiftproof.models.segmenters.options import LoadedSegmenter, SegmenterOptions


def load_function_segmenter(target: str, options: SegmenterOptions) -> LoadedSegmenter:
    """Import ``MODULE:FUNCTION``, also from the working directory, and take it as it is.

    The function takes a list of uint8 RGB images ``(H, W, 3)`` and gives logits or label maps; its
    attribute ``classes``, where it has one, names what they mean. Importing runs the module.

    Raises:
        InputError: no function is named.
        ModelError: the module cannot be imported, or has no such function.
    """
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise InputError(f"python:{target} names no function; expected python:MODULE:FUNCTION.")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ModelError(
            f"python:{target}: the module {module_name!r} cannot be imported "
            f"({type(error).__name__}: {reason_of(error)})."
        ) from error
    finally:
        sys.path.remove(here)
    if not hasattr(module, name):
        known = [one for one in vars(module) if not one.startswith("_")]
        raise UnknownNameError.of(f"function of {module_name}", name, known)
    function = getattr(module, name)
    if not callable(function):
        raise ModelError(f"python:{target} is a {type(function).__name__}; expected a function.")
    own = getattr(function, "classes", None)
    framing = options.framing(None)
    return LoadedSegmenter(
        function, None if own is None else names_of(own), None, framing, (framing.words(),)
    )
