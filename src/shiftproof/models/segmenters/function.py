"""A function of one's own, named by its module: ``python:my_models:segment``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, final

from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.border import reason_of
from shiftproof.models.segmenters.label_spaces import names_of
from shiftproof.models.segmenters.options import LoadedSegmenter, SegmenterOptions
from shiftproof.models.structure import is_torch_module
from shiftproof.types import Image


@final
class ImportedFunction:
    """A function with what tells it from others: without weights of its own, its module's file.

    Args:
        function: what is called.
        module: where it was found.

    Attributes:
        fingerprint: the function's own, or that of the file, so that a run is not resumed after
            the file was changed.
        device: the function's own, or "cpu".
        settings: the function's own, or None.
    """

    def __init__(self, function: Callable[..., Any], module: ModuleType) -> None:
        self._function = function
        self.__qualname__ = getattr(function, "__qualname__", type(function).__qualname__)
        self.__module__ = module.__name__
        file = getattr(module, "__file__", None)
        known = getattr(function, "fingerprint", None)
        written = "unknown" if file is None else files.file_fingerprint(Path(file))
        self.fingerprint = str(written if known is None else known)
        self.device = str(getattr(function, "device", "cpu"))
        self.settings = getattr(function, "settings", None)

    def __call__(self, images: list[Image]) -> Any:
        """Call the function."""
        return self._function(images)


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
    shown = function if is_torch_module(function) else ImportedFunction(function, module)
    return LoadedSegmenter(
        shown, None if own is None else names_of(own), None, framing, (framing.words(),)
    )
