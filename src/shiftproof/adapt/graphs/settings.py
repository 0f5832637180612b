"""What a graph can be told to do: of the adapters batch norm alone, and of its options these."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

from shiftproof.adapt.priors import Prior, check_prior
from shiftproof.adapt.table import ADAPTERS
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.specs import read_options, split_name
from shiftproof.types import Settings

Parts = Literal["both", "mean", "variance"]


@dataclass(frozen=True)
class GraphSettings:
    """How a graph adapts; the same as the options of ``BatchNorm`` of these names."""

    prior: Prior
    parts: Parts
    layers: str

    def as_settings(self) -> Settings:
        """Return them as JSON takes them."""
        return {
            "adapter": "batchnorm",
            "prior": self.prior,
            "parts": self.parts,
            "layers": self.layers,
        }


def read_settings(spec: str) -> GraphSettings:
    """Read ``batchnorm:prior=16,parts=both,layers=all``, as the command line spells adapters.

    Raises:
        UnknownNameError: no such adapter or option.
        InputError: an adapter or an option that a graph cannot follow, as it would have to keep
            something from one batch to the next.
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
        # What else it looks at, the source's answers, a graph cannot have before its last layer.
        prior = "measured"
    if prior == math.inf:
        raise InputError(
            f"{spec!r}: prior=inf does not adapt; the graph as it is does that already."
        )
    return GraphSettings(prior, cast("Parts", parts), str(options.get("layers", "all")))
