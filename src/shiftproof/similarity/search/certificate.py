"""Why a result is exact, and what it took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from shiftproof.runs.scores.audit import Certificate
from shiftproof.types import I64

__all__ = ["Certificate", "Tally", "merge_certificates"]


def merge_certificates(parts: Iterable[Certificate]) -> Certificate:
    """Return the certificate of all parts of the work, of which there is one at least."""
    return reduce(Certificate.merge, parts)


GROUPS, CANDIDATES, RECHECKED, BROKEN = range(4)
"""What the compiled loops count, see :attr:`Tally.counts`."""


@dataclass
class Tally:
    """What is counted while rows are compared.

    Attributes:
        counts: ``(4,)`` int64: groups, candidates and products in float64 as of a certificate, and
            how many of the last lay farther off than the bound allows.
        products: pairs of rows.
        bound: the largest error so far of a product that decides what cannot matter.
        dimensions: along how many directions rows were multiplied first; 0 for all.
        set_aside: training rows that were compared in float32 because 8 bits do not suit them.
    """

    counts: I64 = field(default_factory=lambda: np.zeros(4, dtype=np.int64))
    products: int = 0
    bound: float = 0.0
    dimensions: int = 0
    set_aside: int = 0

    def add(self, other: Tally) -> None:
        """Count what another counted, too."""
        self.counts += other.counts
        self.products += other.products
        self.bound = max(self.bound, other.bound)
        self.dimensions = max(self.dimensions, other.dimensions)
        self.set_aside += other.set_aside

    def certify(self, precision: str, width: int, skipped: int, device: str) -> Certificate:
        """Return the certificate of what was counted, for rows of one width."""
        groups, candidates, rechecked, _ = self.counts.tolist()
        return Certificate(
            precision=precision,
            bound=self.bound,
            dimensions=self.dimensions or width,
            products=self.products,
            groups=groups,
            candidates=candidates,
            rechecked=rechecked,
            set_aside=self.set_aside,
            skipped=skipped,
            device=device,
        )
