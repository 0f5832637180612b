"""Paths that a machine of a cluster has to see, as the one that started the work does."""

from __future__ import annotations

import socket
from pathlib import Path

from shiftproof.errors import RunError


def unseen(what: str, reason: str) -> RunError:
    """Return the error of data that this machine does not see.

    Args:
        what: that is not seen.
        reason: in a few words or a sentence, without a full stop.
    """
    return RunError(
        f"{socket.gethostname()}, a machine of the cluster, does not see {what}: {reason}. Put it where "
        "all machines find it under one path, such as a network disk."
    )


def check_seen(path: Path) -> None:
    """Refuse to work where a path is not there, which the machine that started the work has.

    Raises:
        RunError: it is not there.
    """
    if not path.exists():
        raise unseen(str(path), "there is no such file or folder")
