"""What no model may change by being used: itself, and what belongs to the process."""

from __future__ import annotations

import contextlib
import json
import pickle
import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from shiftproof.models.structure import is_torch_module, weights_fingerprint


@contextlib.contextmanager
def check_untouched(model: Any, doing: str) -> Iterator[None]:
    """Check that what is done inside changes neither the model nor the process.

    Args:
        model: with ``settings``, and a ``module`` where it has one.
        doing: what is done, for messages: "predicting".

    Raises:
        AssertionError: settings, weights, a mode, a global random state or torch's number of
            threads are changed.
    """
    settings, weights = json.dumps(model.settings), _weights(model)
    with watch_globals():
        yield
    assert json.dumps(model.settings) == settings, f"settings: changed by {doing}"
    assert _weights(model) == weights, f"weights: changed by {doing}"


@contextlib.contextmanager
def watch_globals() -> Iterator[None]:
    """Check that what is done inside changes nothing that belongs to the process.

    Raises:
        AssertionError: a global random state, torch's number of threads or another setting is
            changed.
    """
    states = _global_states()
    yield
    for name, state in _global_states().items():
        # A library that is first used here brings its state with it.
        assert states.get(name, state) == state, f"globals: {name} is changed"


def check_json(settings: object) -> None:
    """Check that JSON takes the settings of a model.

    Raises:
        AssertionError: it does not.
    """
    try:
        json.dumps(settings, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"settings: not what JSON takes ({error})") from error


def _weights(model: object) -> Any:
    module: Any = getattr(model, "module", None)
    if not is_torch_module(module):
        return None
    return weights_fingerprint(module), [part.training for part in module.modules()]


def _global_states() -> dict[str, object]:
    """Return the random states, numbers of threads and modes of the process, by name."""
    # The global states are what is looked at here, so they are used.
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
