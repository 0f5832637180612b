"""Leases on outputs behind URLs: one command at a time writes, on any machine.

A claim is a small numbered file in the output. The newest is valid; its command renews it while it
works. Stores that create a file only if it does not exist give each number to one command only.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import secrets
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.errors import InputError, RunError
from shiftproof.io import files
from shiftproof.storage.store import OURS, Store

RENEWED_EVERY = 60
"""Seconds between renewals."""

LAPSES_AFTER = 600
"""Seconds without renewal after which a claim expires."""

_CLAIM = re.compile(rf"{re.escape(OURS)}/claim-(\d{{6,}})\.json")

_TOKEN_FILE = "claim.txt"
"""The token of this machine's last claim, stored beside the local copy."""


@dataclass
class Claim:
    """The claim of this process on an output.

    Attributes:
        store: the output.
        number: number of the claim.
        about: content of its file.
    """

    store: Store
    number: int
    about: dict[str, Any]

    @classmethod
    def make(cls, store: Store, base: Path) -> Claim:
        """Claim an output for this process.

        Args:
            store: the output.
            base: the folder of its local copy, which this process has locked.

        Raises:
            InputError: another machine writes there, or the store is read-only.
        """
        store.check_writable()
        there = _numbers(store)
        if there:
            _check_free(store, max(there), base)
        about = {
            "token": secrets.token_hex(16),
            "process": os.getpid(),
            "host": socket.gethostname(),
            "since": _now(),
            "renewed": time.time(),
        }
        claim = cls(store, max(there, default=0) + 1, about)
        files.write_bytes(base / _TOKEN_FILE, str(about["token"]).encode(), durable=False)
        if not store.create(claim.name, claim._encode()):
            raise InputError(_refusal(store, {}))
        return claim

    @property
    def name(self) -> str:
        """Name of the claim's file."""
        return _name(self.number)

    def renew(self) -> None:
        """Renew the claim if it is due.

        Raises:
            RunError: another machine has claimed the output meanwhile.
        """
        self.check()
        if time.time() - self.about["renewed"] >= RENEWED_EVERY:
            self.about["renewed"] = time.time()
            self.store.write(self.name, self._encode())

    def check(self) -> None:
        """Check that this claim is the newest.

        Raises:
            RunError: it is not, since this process did not renew it in time.
        """
        if max(_numbers(self.store), default=0) != self.number:
            raise RunError(
                f"{self.store} was taken over by another command, since this one was not heard of for "
                f"{LAPSES_AFTER // 60} minutes. Nothing more is written there."
            )

    def release(self) -> None:
        """Remove the claim."""
        with contextlib.suppress(RunError, InputError):
            numbers = _numbers(self.store)
            if max(numbers, default=0) == self.number:
                self.store.remove(_name(number) for number in sorted(numbers))

    def _encode(self) -> bytes:
        return json.dumps(self.about).encode() + b"\n"


def _name(number: int) -> str:
    return f"{OURS}/claim-{number:06d}.json"


def _numbers(store: Store) -> list[int]:
    return [int(found[1]) for name in store.list(OURS) if (found := _CLAIM.fullmatch(name))]


def _check_free(store: Store, number: int, base: Path) -> None:
    about = _read(store, number)
    mine = base / _TOKEN_FILE
    # This process has locked the local copy, so an earlier claimant on this machine has ended.
    if mine.is_file() and mine.read_text("utf-8") == about.get("token"):
        return
    renewed = about.get("renewed")
    age = time.time() - renewed if isinstance(renewed, (int, float)) else float("inf")
    if age < LAPSES_AFTER:
        raise InputError(_refusal(store, about))


def _read(store: Store, number: int) -> dict[str, Any]:
    try:
        about = json.loads(store.read(_name(number)))
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def _refusal(store: Store, about: dict[str, Any]) -> str:
    words = [
        f"{before} {str(about[key])[:80]}"
        for before, key in (("process", "process"), ("on", "host"), ("since", "since"))
        if key in about
    ]
    who = f" ({' '.join(words)})" if words else ""
    return (
        f"Another command writes to {store}{who}; one at a time may. Wait until it has ended (one that "
        f"was lost lets go after {LAPSES_AFTER // 60} minutes), or choose another output folder."
    )


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
