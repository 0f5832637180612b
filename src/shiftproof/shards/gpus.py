"""Assigning the GPUs of a machine to several commands."""

from __future__ import annotations

import os
import subprocess
from collections.abc import MutableMapping, Sequence

from shiftproof.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def choose_gpus(visible: Sequence[str], worker: int, gpus_per_worker: int) -> list[str]:
    """Return the GPUs of one worker, assigned round-robin.

    Raises:
        InputError: fewer GPUs than one command needs.

    >>> choose_gpus(["0", "1", "2", "3"], 1, 2)
    ['2', '3']
    >>> choose_gpus(["0", "1", "2", "3"], 5, 1)
    ['1']
    """
    groups = len(visible) // gpus_per_worker
    if groups == 0:
        raise InputError(
            f"Each command requests {gpus_per_worker} GPUs, and this machine has {len(visible)}; "
            "request fewer."
        )
    start = worker % groups * gpus_per_worker
    return list(visible[start : start + gpus_per_worker])


def restrict_to_gpus(
    worker: int, gpus_per_worker: int, environment: MutableMapping[str, str] = os.environ
) -> None:
    """Restrict this process to the GPUs of its worker; call it before CUDA is initialized.

    If a scheduler has set ``CUDA_VISIBLE_DEVICES``, only those GPUs are assigned.

    Raises:
        InputError: there are too few.
    """
    named = environment.get(VISIBLE)
    visible = list_gpus() if named is None else [one for one in named.split(",") if one.strip()]
    environment[VISIBLE] = ",".join(choose_gpus(visible, worker, gpus_per_worker))


def list_gpus() -> list[str]:
    """Return the indices of this machine's GPUs according to the driver; empty without a driver."""
    try:
        told = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return told.stdout.split()
