"""Checks that using a model changes neither the model nor global states of the process."""

from __future__ import annotations

import contextlib
import json
import pickle
import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from shiftproof.models.structure import fingerprint_weights, is_torch_module


@contextlib.contextmanager
def check_untouched(model: Any, doing: str) -> Iterator[None]:
    """Check that the block changes neither the model nor global states.

    Args:
        model: a model with ``settings``, and a ``module`` if it is a torch model.
        doing: what the block does, for messages, such as "predicting".

    Raises:
        AssertionError: settings, weights, a mode, a global random state or torch's number of
            threads changed.
    """
    settings, weights = json.dumps(model.settings), _fingerprint_weights(model)
    with check_globals():
        yield
    assert json.dumps(model.settings) == settings, f"settings: changed by {doing}"
    assert _fingerprint_weights(model) == weights, f"weights: changed by {doing}"


@contextlib.contextmanager
def check_globals() -> Iterator[None]:
    """Check that the block changes no global state of the process.

    Raises:
        AssertionError: a global random state, torch's number of threads or another setting changed.
    """
    states = _read_global_states()
    yield
    for name, state in _read_global_states().items():
        # A library that is first imported in the block adds its state.
        assert states.get(name, state) == state, f"globals: {name} is changed"


def check_json(settings: object) -> None:
    """Check that a model's settings are JSON-compatible.

    Raises:
        AssertionError: they are not.
    """
    try:
        json.dumps(settings, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"settings: not JSON-compatible ({error})") from error


def _fingerprint_weights(model: object) -> Any:
    module: Any = getattr(model, "module", None)
    if not is_torch_module(module):
        return None
    return fingerprint_weights(module), [part.training for part in module.modules()]


def _read_global_states() -> dict[str, object]:
    """Return the random states, numbers of threads and modes of the process, by name."""
    # These global states are what is checked.
    states: dict[str, object] = {
        "numpy's global random state": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "Python's global random state": pickle.dumps(random.getstate()),
    }
    torch, cv2 = sys.modules.get("torch"), sys.modules.get("cv2")
    if torch is not None:
        states["torch's global random state"] = torch.random.get_rng_state().numpy().tobytes()
        states["torch's number of threads"] = torch.get_num_threads()
        states["torch's gradient mode"] = torch.is_grad_enabled()
        states["torch's default dtype"] = torch.get_default_dtype()
    if cv2 is not None:
        states["cv2's number of threads"] = cv2.getNumThreads()
    return states
