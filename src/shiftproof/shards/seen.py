"""Checks that a cluster machine can access the paths of a job."""

from __future__ import annotations

import socket
from pathlib import Path

from shiftproof.errors import RunError


def unseen(what: str, reason: str) -> RunError:
    """Return the error for data that this machine cannot access; ``reason`` ends without a period."""
    return RunError(
        f"{socket.gethostname()}, a machine of the cluster, does not see {what}: {reason}. Put it where "
        "all machines find it under one path, such as a network disk."
    )


def check_seen(path: Path) -> None:
    """Check that a path of the starting machine exists here, too.

    Raises:
        RunError: it does not exist.
    """
    if not path.exists():
        raise unseen(str(path), "there is no such file or folder")
