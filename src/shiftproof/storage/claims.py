"""Leases on outputs behind URLs: on any machine one command at a time writes, or several that share it.

A claim is a small numbered file in the output. The newest is valid; its command renews it while it
works. Stores that create a file only if it does not exist give each number to only one command. Claims
form series: each of the commands that share an output (`--worker`) has a series of its own.
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
from shiftproof.storage.copies import LocalCopy
from shiftproof.storage.store import STATE_FOLDER, Store

RENEWAL_INTERVAL = 60
"""Seconds between renewals."""

EXPIRES_AFTER = 600
"""Seconds without renewal after which a claim expires."""

EXCLUSIVE = "claim"
"""The series of claims of commands that do not share an output."""

_CLAIM = re.compile(
    rf"{re.escape(STATE_FOLDER)}/(claim|worker-\d{{4,}}-of-\d{{4,}})-(\d{{6,}})\.json"
)

_TOKEN_FILE = "claim.txt"
"""The token of this machine's last claim, stored beside the local copy."""


@dataclass
class Claim:
    """The claim of this process on an output.

    Attributes:
        store: the output.
        series: its series: :data:`EXCLUSIVE`, or that of one worker.
        number: number of the claim.
        record: content of its file.
    """

    store: Store
    series: str
    number: int
    record: dict[str, Any]

    @classmethod
    def make(cls, store: Store, base: Path, worker: tuple[int, int] | None = None) -> Claim:
        """Claim an output for this process.

        Raises:
            InputError: another command that does not share the output writes there, or the store is
                read-only, or cannot be shared.
        """
        series = name_series(worker)
        numbers = check_claims(store, base, worker)
        record = {"token": secrets.token_hex(16), **describe_process(), "renewed": time.time()}
        claim = cls(store, series, max(numbers, default=0) + 1, record)
        files.write_bytes(base / _TOKEN_FILE, str(record["token"]).encode(), durable=False)
        if not store.create(claim.name, claim._encode()):
            raise InputError(_explain_refusal(store, {}))
        try:
            # A claim of another series may have been made at the same moment.
            _check_others(store, series)
        except BaseException:
            claim.release()
            raise
        return claim

    @property
    def name(self) -> str:
        """Name of the claim's file."""
        return _name_file(self.series, self.number)

    def renew(self) -> None:
        """Renew the claim if it is due.

        Raises:
            RunError: another machine has claimed the output meanwhile.
        """
        self.check()
        if time.time() - self.record["renewed"] >= RENEWAL_INTERVAL:
            self.record["renewed"] = time.time()
            self.store.write(self.name, self._encode())

    def check(self) -> None:
        """Check that this claim is the newest.

        Raises:
            RunError: it is not, since this process did not renew it in time.
        """
        if max(_list_numbers(self.store, self.series), default=0) != self.number:
            raise RunError(
                f"{self.store} was taken over by another command, since this one did not renew its "
                f"lock for {EXPIRES_AFTER // 60} minutes. Nothing more is written there."
            )

    def release(self) -> None:
        """Remove the claim."""
        with contextlib.suppress(RunError, InputError):
            numbers = _list_numbers(self.store, self.series)
            if max(numbers, default=0) == self.number:
                self.store.remove(_name_file(self.series, number) for number in sorted(numbers))

    def _encode(self) -> bytes:
        return json.dumps(self.record).encode() + b"\n"


def check_claims(store: Store, base: Path, worker: tuple[int, int] | None) -> list[int]:
    """Check that an output can be claimed; return the numbers of earlier claims of the series.

    Raises:
        InputError: as for :meth:`Claim.make`.
    """
    store.check_writable()
    if worker is not None:
        store.check_sharable()
    series = name_series(worker)
    numbers = _list_numbers(store, series)
    if numbers:
        _check_free(store, _name_file(series, max(numbers)), base)
    _check_others(store, series)
    return numbers


def name_series(worker: tuple[int, int] | None) -> str:
    """Return the series of claims of a worker, ``(index, count)``, or of a command that does not share."""
    return EXCLUSIVE if worker is None else f"worker-{worker[0]:04d}-of-{worker[1]:04d}"


def name_copy_use(series: str) -> str:
    """Return the use that identifies the local copy of an output: each series has its own."""
    return "out" if series == EXCLUSIVE else f"out {series}"


def _name_file(series: str, number: int) -> str:
    return f"{STATE_FOLDER}/{series}-{number:06d}.json"


def _list_claims(store: Store) -> list[tuple[str, int]]:
    """Return the series and the number of each claim."""
    matches = map(_CLAIM.fullmatch, store.list(STATE_FOLDER))
    return [(match[1], int(match[2])) for match in matches if match is not None]


def _list_numbers(store: Store, series: str) -> list[int]:
    return [number for other, number in _list_claims(store) if other == series]


def _check_free(store: Store, name: str, base: Path) -> None:
    """Refuse a claim of the same series that another command holds."""
    record = _read(store, name)
    # This process has locked the local copy, so an earlier claimant on this machine has ended.
    if _is_alive(record) and not _is_of_this_machine(base, record):
        raise InputError(_explain_refusal(store, record))


def _is_of_this_machine(base: Path, record: dict[str, Any]) -> bool:
    token_file = base / _TOKEN_FILE
    return token_file.is_file() and token_file.read_text("utf-8") == record.get("token")


def _check_others(store: Store, series: str) -> None:
    """Refuse claims of other series, unless both are of workers, who share the output."""
    for other, number in _find_newest(store).items():
        if other != series and EXCLUSIVE in (other, series):
            record = _read(store, _name_file(other, number))
            if _is_held(store, other, record):
                raise InputError(_explain_refusal(store, record))


def is_claimed(store: Store) -> bool:
    """Return whether a claim on an output is held or has not expired yet."""
    return any(
        _is_held(store, series, _read(store, _name_file(series, number)))
        for series, number in _find_newest(store).items()
    )


def _is_held(store: Store, series: str, record: dict[str, Any]) -> bool:
    return _is_alive(record) and not _has_ended_here(store, series, record)


def _find_newest(store: Store) -> dict[str, int]:
    """Return the number of the newest claim of each series."""
    newest: dict[str, int] = {}
    for series, number in _list_claims(store):
        newest[series] = max(number, newest.get(series, 0))
    return newest


def _is_alive(record: dict[str, Any]) -> bool:
    renewed = record.get("renewed")
    age = time.time() - renewed if isinstance(renewed, (int, float)) else float("inf")
    return age < EXPIRES_AFTER


def _has_ended_here(store: Store, series: str, record: dict[str, Any]) -> bool:
    """Return whether a claim is of a command of this machine that has ended."""
    copy = LocalCopy.of(store, name_copy_use(series))
    if not _is_of_this_machine(copy.base, record):
        return False
    with contextlib.suppress(InputError), copy.lock(wait=False):
        return True
    return False


def _read(store: Store, name: str) -> dict[str, Any]:
    try:
        record = json.loads(store.read(name))
    except (ValueError, RecursionError, BrokenFileError):  # it may have been removed just now
        return {}
    return record if isinstance(record, dict) else {}


def _explain_refusal(store: Store, record: dict[str, Any]) -> str:
    return (
        f"Another command writes to {store}{describe_owner(record)}; only one may at a time. Wait until "
        f"it has ended (the lock of a lost command expires after {EXPIRES_AFTER // 60} minutes), or "
        "choose another output folder."
    )
