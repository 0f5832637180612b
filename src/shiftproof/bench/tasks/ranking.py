"""Ranking of models by the headline, from replicates on shared resamples."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from shiftproof.metrics.comparisons import adjust_by_holm, bootstrap_p_value
from shiftproof.metrics.intervals import LEVEL
from shiftproof.runs.resamples import Replicates, make_interval, round_figure
from shiftproof.runs.scores.grid import Headline
from shiftproof.runs.scores.ranking import Pair, Place, Ranking
from shiftproof.types import F64, I64


def rank(headline: Headline, replicates: Mapping[str, Replicates]) -> Ranking | None:
    """Return the models by a headline, the best first, and the paired difference of every two.

    Args:
        headline: what ranks, and whether less of it is better.
        replicates: model to ``(1 + R,)`` figures over the same resamples of the images.

    Returns:
        None where fewer than two models have the headline.
    """
    known = {name: values for name, values in replicates.items() if np.isfinite(values[0])}
    if len(known) < 2:
        return None
    if not any(np.isfinite(values[1:]).any() for values in known.values()):
        # Of a single image there are no resamples, as of a table of results.
        known = {name: values[:1] for name, values in known.items()}
    names = _order(headline, known)
    return Ranking(
        headline=headline.name,
        places=tuple(_place(headline, names, known)),
        pairs=tuple(_pair(list(itertools.combinations(names, 2)), known)),
    )


def _order(headline: Headline, known: Mapping[str, Replicates]) -> list[str]:
    sign = 1 if headline.lower_is_better else -1
    return sorted(known, key=lambda name: sign * round_figure(known[name][0]))


def _place(
    headline: Headline, names: Sequence[str], known: Mapping[str, Replicates]
) -> list[Place]:
    sign = 1 if headline.lower_is_better else -1
    ranks = _compute_ranks(np.stack([sign * known[name] for name in names]))
    return [_place_one(name, known[name], ranks[at]) for at, name in enumerate(names)]


def _compute_ranks(values: F64) -> I64:
    """``(models, 1 + R)``: in each resample one more than how many models have a lower figure."""
    rounded = np.vectorize(round_figure, otypes=[np.float64])(values)
    return np.stack([1 + (rounded < one).sum(axis=0) for one in rounded])


def _place_one(name: str, values: Replicates, ranks: I64) -> Place:
    interval = make_interval(values)
    assert interval is not None  # its figure is finite
    if len(ranks) == 1:
        return Place(name, interval, int(ranks[0]))
    tail = (1 - LEVEL) / 2
    first, last = np.quantile(ranks[1:], [tail, 1 - tail], method="inverted_cdf")
    return Place(name, interval, int(ranks[0]), int(first), int(last))


def _pair(pairs: Sequence[tuple[str, str]], known: Mapping[str, Replicates]) -> list[Pair]:
    differences = [known[name] - known[against] for name, against in pairs]
    p_values = [bootstrap_p_value(one) if len(one) > 1 else np.nan for one in differences]
    # Of a table of results there are no resamples, and nothing to correct.
    adjusted = adjust_by_holm(p_values) if np.isfinite(p_values).all() else [np.nan] * len(pairs)
    return [
        _pair_one(pair, one, p, holm)
        for pair, one, p, holm in zip(pairs, differences, p_values, adjusted, strict=True)
    ]


def _pair_one(pair: tuple[str, str], difference: Replicates, p: float, adjusted: float) -> Pair:
    interval = make_interval(difference)
    assert interval is not None  # both figures are finite
    return Pair(*pair, interval, _number(p), _number(adjusted))


def _number(value: float) -> float | None:
    return float(f"{value:.3g}") if np.isfinite(value) else None
