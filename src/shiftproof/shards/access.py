"""Checks that a cluster machine can access the paths of a job."""

from __future__ import annotations

import socket
from pathlib import Path

from shiftproof.errors import RunError


def make_access_error(what: str, reason: str) -> RunError:
    """Return the error for data that this machine cannot access; ``reason`` ends without a period."""
    return RunError(
        f"{socket.gethostname()}, a machine of the cluster, cannot access {what}: {reason}. Put it "
        "at the same path on all machines, such as on a network disk."
    )


def check_accessible(path: Path) -> None:
    """Check that a path of the starting machine exists here, too.

    Raises:
        RunError: it does not exist.
    """
    if not path.exists():
        raise make_access_error(str(path), "there is no such file or folder")
