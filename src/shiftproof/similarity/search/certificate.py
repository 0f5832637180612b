"""Counts of a search, and the certificate of its exactness."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from shiftproof.runs.scores.audit import Certificate
from shiftproof.types import I64

__all__ = ["Certificate", "Tally", "merge_certificates"]


def merge_certificates(parts: Iterable[Certificate]) -> Certificate:
    """Return the combined certificate of at least one part."""
    return reduce(Certificate.merge, parts)


GROUPS, CANDIDATES, RECHECKED, BROKEN = range(4)
"""Indices into :attr:`Tally.counts`."""


@dataclass
class Tally:
    """Counts of a search.

    Attributes:
        counts: ``(4,)`` int64: groups, candidates and float64 products as in a certificate, and the
            number of products that violate the bound.
        products: number of pairs of rows.
        bound: the largest error bound so far of the products that exclude pairs.
        dimensions: number of dimensions of the first partial products; 0 for all.
        set_aside: training rows that were compared in float32 because they do not suit 8 bits.
    """

    counts: I64 = field(default_factory=lambda: np.zeros(4, dtype=np.int64))
    products: int = 0
    bound: float = 0.0
    dimensions: int = 0
    set_aside: int = 0

    def add(self, other: Tally) -> None:
        """Add the counts of another tally."""
        self.counts += other.counts
        self.products += other.products
        self.bound = max(self.bound, other.bound)
        self.dimensions = max(self.dimensions, other.dimensions)
        self.set_aside += other.set_aside

    def certify(self, precision: str, width: int, skipped: int, device: str) -> Certificate:
        """Return the certificate of these counts."""
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
