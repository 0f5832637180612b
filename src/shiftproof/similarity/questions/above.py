"""The training rows whose similarity to a test row exceeds its threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftproof.io import files
from shiftproof.similarity.search.certificate import (
    Certificate,
    Tally,
    merge_certificates,
)
from shiftproof.similarity.search.engine import Engine, Reduction, scan
from shiftproof.similarity.search.question import Partial
from shiftproof.similarity.search.tiles import ALL_TESTS
from shiftproof.similarity.sources import Block
from shiftproof.types import F64, Flags, Settings


@dataclass(frozen=True, eq=False)
class Above:
    """The training rows above the thresholds of a test set.

    Attributes:
        marked: ``(n,)`` bool, the rows that are more similar to some test row than its threshold.
        skipped: ``(n,)`` bool, unusable rows.
        certificate: evidence that this is exact.
    """

    marked: Flags
    skipped: Flags
    certificate: Certificate


class _AboveState(NamedTuple):
    """The marked rows of a block, and the thresholds of the test rows."""

    marked: Flags
    thresholds: F64

    def floor(self, row: int, test: int) -> float:
        value: float = self.thresholds[test]
        return value

    def stop(self, row: int) -> int:
        return 0 if self.marked[row] else ALL_TESTS

    def enter(self, row: int, test: int, value: float) -> None:
        if value > self.thresholds[test]:
            self.marked[row] = True


@dataclass(frozen=True, eq=False)
class _AboveAnswer:
    """The marked training rows; threads work on disjoint rows, and chunks of test rows only add
    marks.
    """

    marked: Flags
    thresholds: F64

    def begin(self, engine: Engine) -> Partial:
        return self

    def enter(self, engine: Engine, block: Block, here: slice) -> Tally:
        some = self.thresholds[engine.first : engine.first + len(engine.rows)]
        # Similarities lie within -1.03 and 1.03, so an infinite limit may be clipped.
        limits = np.clip(some, -4, 4)
        state = _AboveState(self.marked[here], limits)
        return scan(engine, block.values, block.usable, Reduction(state, limits))

    def fork(self) -> Partial:
        return self

    def join(self, others: Sequence[Partial]) -> None:
        pass

    def finish(self, certificate: Certificate, skipped: Flags) -> Above:
        return Above(self.marked, skipped, certificate)


@dataclass(frozen=True, eq=False)
class AboveQuestion:
    """Which training rows are more similar to some test row than its threshold?

    Attributes:
        thresholds: for each test set ``(m,)`` float64.
    """

    thresholds: Mapping[str, F64]
    name: str = "prune"
    k: int = 0
    dense: int = 0
    found: type[Above] = Above

    def settings(self) -> Settings:
        """Return fingerprints of the thresholds."""
        return {
            name: files.fingerprint([np.ascontiguousarray(limits).tobytes()])
            for name, limits in self.thresholds.items()
        }

    def start(self, name: str, train_rows: int, test_rows: int) -> _AboveAnswer:
        """Start with no marked rows."""
        return _AboveAnswer(np.zeros(train_rows, dtype=bool), self.thresholds[name])

    def merge(self, parts: Sequence[Above]) -> Above:
        """Concatenate the rows."""
        return Above(
            np.concatenate([part.marked for part in parts]),
            np.concatenate([part.skipped for part in parts]),
            merge_certificates(part.certificate for part in parts),
        )
