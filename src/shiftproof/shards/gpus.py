"""Which GPUs of a machine belong to which of several commands on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import MutableMapping, Sequence

from shiftproof.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def choose_gpus(visible: Sequence[str], worker: int, of_each: int) -> list[str]:
    """Return the GPUs of one worker: the machine's are dealt out in order, and again from the first.

    Args:
        visible: the names of all GPUs that the commands may use.
        worker: which command, from 0 up.
        of_each: GPUs of a command.

    Raises:
        InputError: there are too few for one command.

    >>> choose_gpus(["0", "1", "2", "3"], 1, 2)
    ['2', '3']
    >>> choose_gpus(["0", "1", "2", "3"], 5, 1)
    ['1']
    """
    groups = len(visible) // of_each
    if groups == 0:
        raise InputError(
            f"Each command asks for {of_each} GPUs, and this machine has {len(visible)}; ask for fewer."
        )
    start = worker % groups * of_each
    return list(visible[start : start + of_each])


def keep_to_gpus(
    worker: int, of_each: int, environment: MutableMapping[str, str] = os.environ
) -> None:
    """Let this process use the GPUs of its worker alone; call it before CUDA is asked for anything.

    A scheduler that has named a command's own GPUs in ``CUDA_VISIBLE_DEVICES`` is heeded: what is
    dealt out are those.

    Raises:
        InputError: there are too few.
    """
    named = environment.get(VISIBLE)
    visible = list_gpus() if named is None else [one for one in named.split(",") if one.strip()]
    environment[VISIBLE] = ",".join(choose_gpus(visible, worker, of_each))


def list_gpus() -> list[str]:
    """Return the numbers of this machine's GPUs as its driver counts them; none without a driver."""
    try:
        told = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return told.stdout.split()
