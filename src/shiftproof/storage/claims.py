"""Leases on outputs behind URLs: one command at a time writes, on any machine, or several that share it.

A claim is a small numbered file in the output. The newest is valid; its command renews it while it
works. Stores that create a file only if it does not exist give each number to one command only. Each of
several commands that share an output (`--worker`) has numbers of its own.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.errors import BrokenFileError, InputError, RunError
from shiftproof.io import files
from shiftproof.io.folder_locks import describe_owner, describe_process
from shiftproof.storage.copies import Copy
from shiftproof.storage.store import OURS, Store

RENEWAL_INTERVAL = 60
"""Seconds between renewals."""

EXPIRES_AFTER = 600
"""Seconds without renewal after which a claim expires."""

ALONE = "claim"
"""The line of claims of commands that do not share an output."""

_CLAIM = re.compile(rf"{re.escape(OURS)}/(claim|worker-\d{{4,}}-of-\d{{4,}})-(\d{{6,}})\.json")

_TOKEN_FILE = "claim.txt"
"""The token of this machine's last claim, stored beside the local copy."""


@dataclass
class Claim:
    """The claim of this process on an output.

    Attributes:
        store: the output.
        line: which claims it stands among: :data:`ALONE`, or those of one worker.
        number: number of the claim.
        about: content of its file.
    """

    store: Store
    line: str
    number: int
    about: dict[str, Any]

    @classmethod
    def make(cls, store: Store, base: Path, worker: tuple[int, int] | None = None) -> Claim:
        """Claim an output for this process.

        Raises:
            InputError: another machine writes there that does not share it, or the store is
                read-only, or cannot be shared.
        """
        line = line_of(worker)
        there = check_claims(store, base, worker)
        about = {"token": secrets.token_hex(16), **describe_process(), "renewed": time.time()}
        claim = cls(store, line, max(there, default=0) + 1, about)
        files.write_bytes(base / _TOKEN_FILE, str(about["token"]).encode(), durable=False)
        if not store.create(claim.name, claim._encode()):
            raise InputError(_explain_refusal(store, {}))
        try:
            # One of another line may have begun at the same moment.
            _check_others(store, line)
        except BaseException:
            claim.release()
            raise
        return claim

    @property
    def name(self) -> str:
        """Name of the claim's file."""
        return _name(self.line, self.number)

    def renew(self) -> None:
        """Renew the claim if it is due.

        Raises:
            RunError: another machine has claimed the output meanwhile.
        """
        self.check()
        if time.time() - self.about["renewed"] >= RENEWAL_INTERVAL:
            self.about["renewed"] = time.time()
            self.store.write(self.name, self._encode())

    def check(self) -> None:
        """Check that this claim is the newest.

        Raises:
            RunError: it is not, since this process did not renew it in time.
        """
        if max(_list_numbers(self.store, self.line), default=0) != self.number:
            raise RunError(
                f"{self.store} was taken over by another command, since this one was not heard of for "
                f"{EXPIRES_AFTER // 60} minutes. Nothing more is written there."
            )

    def release(self) -> None:
        """Remove the claim."""
        with contextlib.suppress(RunError, InputError):
            numbers = _list_numbers(self.store, self.line)
            if max(numbers, default=0) == self.number:
                self.store.remove(_name(self.line, number) for number in sorted(numbers))

    def _encode(self) -> bytes:
        return json.dumps(self.about).encode() + b"\n"


def check_claims(store: Store, base: Path, worker: tuple[int, int] | None) -> list[int]:
    """Return the numbers of earlier claims of a line, none of which is held by another command.

    Raises:
        InputError: as :meth:`Claim.make`.
    """
    store.check_writable()
    if worker is not None:
        store.check_sharable()
    line = line_of(worker)
    there = _list_numbers(store, line)
    if there:
        _check_free(store, _name(line, max(there)), base)
    _check_others(store, line)
    return there


def line_of(worker: tuple[int, int] | None) -> str:
    """Return the line of claims of a worker, ``(index, count)``, or of a command alone."""
    return ALONE if worker is None else f"worker-{worker[0]:04d}-of-{worker[1]:04d}"


def use_of(line: str) -> str:
    """Return the use by which the local copy of an output is found: each line has its own."""
    return "out" if line == ALONE else f"out {line}"


def _name(line: str, number: int) -> str:
    return f"{OURS}/{line}-{number:06d}.json"


def _list_claims(store: Store) -> list[tuple[str, int]]:
    """Return the line and the number of each claim."""
    found = (_CLAIM.fullmatch(name) for name in store.list(OURS))
    return [(one[1], int(one[2])) for one in found if one is not None]


def _list_numbers(store: Store, line: str) -> list[int]:
    return [number for other, number in _list_claims(store) if other == line]


def _check_free(store: Store, name: str, base: Path) -> None:
    """Refuse a claim of the same line that another command holds."""
    about = _read(store, name)
    mine = base / _TOKEN_FILE
    # This process has locked the local copy, so an earlier claimant on this machine has ended.
    if mine.is_file() and mine.read_text("utf-8") == about.get("token"):
        return
    if _is_alive(about):
        raise InputError(_explain_refusal(store, about))


def _check_others(store: Store, line: str) -> None:
    """Refuse claims that this one cannot stand beside: workers share, a command alone does not."""
    for other, number in _find_newest(store).items():
        if other != line and ALONE in (other, line):
            about = _read(store, _name(other, number))
            if _is_held(store, other, about):
                raise InputError(_explain_refusal(store, about))


def is_claimed(store: Store) -> bool:
    """Return whether any command is at work on an output, or was a few minutes ago."""
    return any(
        _is_held(store, line, _read(store, _name(line, number)))
        for line, number in _find_newest(store).items()
    )


def _is_held(store: Store, line: str, about: dict[str, Any]) -> bool:
    return _is_alive(about) and not _has_ended_here(store, line, about)


def _find_newest(store: Store) -> dict[str, int]:
    """Return the number of the newest claim of each line."""
    newest: dict[str, int] = {}
    for line, number in _list_claims(store):
        newest[line] = max(number, newest.get(line, 0))
    return newest


def _is_alive(about: dict[str, Any]) -> bool:
    renewed = about.get("renewed")
    age = time.time() - renewed if isinstance(renewed, (int, float)) else float("inf")
    return age < EXPIRES_AFTER


def _has_ended_here(store: Store, line: str, about: dict[str, Any]) -> bool:
    """Return whether a claim is of a command of this machine that is not there any more."""
    copy = Copy.of(store, use_of(line))
    mine = copy.base / _TOKEN_FILE
    if not mine.is_file() or mine.read_text("utf-8") != about.get("token"):
        return False
    with contextlib.suppress(InputError), copy.lock(wait=False):
        return True
    return False


def _read(store: Store, name: str) -> dict[str, Any]:
    try:
        about = json.loads(store.read(name))
    except (ValueError, BrokenFileError):  # it may have been removed a moment ago
        return {}
    return about if isinstance(about, dict) else {}


def _explain_refusal(store: Store, about: dict[str, Any]) -> str:
    return (
        f"Another command writes to {store}{describe_owner(about)}; one at a time may. Wait until it "
        f"has ended (one that was lost lets go after {EXPIRES_AFTER // 60} minutes), or choose another "
        "output folder."
    )
