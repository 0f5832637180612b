"""Why a result is exact, and what it took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from shiftproof.types import I64


@dataclass(frozen=True)
class Certificate:
    """Why the result is exact, and what it took.

    Attributes:
        precision: "int8", "fp32", "fp16" or "bf16", of the products that decide what cannot matter.
        bound: the largest error that such a product may have had, in units of similarity.
        dimensions: along how many directions rows were multiplied first.
        products: pairs of rows.
        groups: groups of 16 test rows that a bound could not rule out (int8).
        candidates: pairs whose product was looked at again: of these groups (int8), or because the
            bound could not rule it out (fp16 and bf16).
        rechecked: pairs whose product was computed in float64.
        set_aside: training rows that were compared in float32 because 8 bits do not suit them.
        skipped: training rows that could not be used.
        device: "cpu" or "cuda", where these products were made.
    """

    precision: str
    bound: float
    dimensions: int
    products: int
    groups: int
    candidates: int
    rechecked: int
    set_aside: int
    skipped: int
    device: str = "cpu"

    def merged(self, other: Certificate) -> Certificate:
        """Return the certificate of both parts of the work."""
        return Certificate(
            precision=self.precision if self.precision == other.precision else "mixed",
            bound=max(self.bound, other.bound),
            dimensions=max(self.dimensions, other.dimensions),
            products=self.products + other.products,
            groups=self.groups + other.groups,
            candidates=self.candidates + other.candidates,
            rechecked=self.rechecked + other.rechecked,
            set_aside=self.set_aside + other.set_aside,
            skipped=self.skipped + other.skipped,
            device=self.device if self.device == other.device else "mixed",
        )


def merge_certificates(parts: Iterable[Certificate]) -> Certificate:
    """Return the certificate of all parts of the work, of which there is one at least."""
    return reduce(Certificate.merged, parts)


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
