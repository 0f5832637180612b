"""The settings that a self-adapting graph supports: some options of batch norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

from shiftproof.adapt.normalization.priors import Prior, check_prior
from shiftproof.adapt.table import ADAPTERS
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.specs import read_options, split_name
from shiftproof.types import Settings

Parts = Literal["both", "mean", "variance"]


@dataclass(frozen=True)
class GraphSettings:
    """Settings of an adapting graph, as the options of ``BatchNorm`` with these names."""

    prior: Prior
    parts: Parts
    layers: str

    def to_settings(self) -> Settings:
        """Return them for JSON."""
        return {
            "adapter": "batchnorm",
            "prior": self.prior,
            "parts": self.parts,
            "layers": self.layers,
        }


def read_settings(spec: str) -> GraphSettings:
    """Parse a spec such as ``batchnorm:prior=16,parts=both,layers=all``.

    Raises:
        UnknownNameError: no such adapter or option.
        InputError: an adapter or an option that a graph does not support, because it needs state
            between batches.
    """
    name, text = split_name(spec.strip())
    if name not in ADAPTERS and "+" not in spec:
        raise UnknownNameError.of("adapter", name, ADAPTERS)
    if name != "batchnorm":
        raise InputError(
            f"{spec!r} cannot be put into a graph, which keeps nothing from one batch to the next; "
            "expected batchnorm, as in batchnorm:prior=16. Of others export merge()."
        )
    options = dict(read_options(text, ADAPTERS[name].options, spec=spec, owner=name))
    if options.pop("over", "batch") != "batch" or options.keys() & {"momentum", "warm_up"}:
        raise InputError(
            f"{spec!r}: a graph keeps nothing from one batch to the next, so it can adapt over the "
            "batch alone. Leave over, momentum and warm_up out."
        )
    parts = options.get("parts", "both")
    if parts not in ("both", "mean", "variance"):
        raise UnknownNameError.of("parts", parts, ["both", "mean", "variance"])
    prior = check_prior(cast("Prior", options.get("prior", "auto")))
    if prior == "auto":
        # "auto" also uses the source's answers, which are not available within a graph.
        prior = "measured"
    if prior == math.inf:
        raise InputError(
            f"{spec!r}: prior=inf does not adapt; the graph as it is does that already."
        )
    return GraphSettings(prior, cast("Parts", parts), str(options.get("layers", "all")))
