"""Tables, findings and recommendations of the comparison of adaptation methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shiftproof.metrics import Interval, bootstrap_mean
from shiftproof.types import CLEAN, Cell
from shiftproof_reproduce.adaptation_plan import SOURCE, Method, Plan, Stream
from shiftproof_reproduce.adaptation_sources import DATA_TITLES, NET_TITLES, DataName, NetName
from shiftproof_reproduce.measured import Measured, Shares
from shiftproof_reproduce.result import Finding, Table, Value
from shiftproof_reproduce.verdicts import MAX_GUARDED_RISE, at_most, below, judge

MAX_CLEAN_RISE = 0.01
"""Maximum increase of the clean error over the source of a recommended method: a point."""


class Place(NamedTuple):
    """A network on a dataset."""

    data: DataName
    net: NetName


@dataclass(frozen=True, eq=False)
class ComparisonRuns:
    """All runs of a comparison, by dataset and network, stream, and method."""

    plan: Plan
    found: Mapping[tuple[Place, str, str], Measured]

    def has(self, data: DataName, net: NetName, stream: str, method: str) -> bool:
        """Return whether a method was measured."""
        return (Place(data, net), stream, method) in self.found

    def wrong(
        self,
        data: DataName,
        net: NetName,
        stream: str,
        method: str,
        cells: Sequence[Cell] | None = None,
    ) -> Shares:
        """Return for each image the share of the corruptions (or ``cells``) with a wrong
        prediction.
        """
        return self.found[Place(data, net), stream, method].wrong(method, cells)

    def error(self, data: DataName, net: NetName, stream: str, method: str) -> Value:
        """Return the mean error over the corruptions; None if it was not measured."""
        if not self.has(data, net, stream, method):
            return None
        return bootstrap_mean(self.wrong(data, net, stream, method))

    def change(
        self,
        data: DataName,
        net: NetName,
        stream: str,
        method: str,
        against: str = SOURCE,
        cells: Sequence[Cell] | None = None,
    ) -> Value:
        """Return the error minus that of another method on the same images; None if not
        measured.
        """
        if not all(self.has(data, net, stream, each) for each in (method, against)):
            return None
        own, other = (self.wrong(data, net, stream, each, cells) for each in (method, against))
        return bootstrap_mean(own - other)

    def pool_change(
        self, net: NetName, stream: str, method: str, cells: Sequence[Cell] | None = None
    ) -> Value:
        """Return the change against the source over the images of all datasets."""
        parts = []
        for data in self.plan.list_data(net):
            if not self.has(data, net, stream, method):
                return None
            own, other = (self.wrong(data, net, stream, each, cells) for each in (method, SOURCE))
            parts.append(own - other)
        return bootstrap_mean(np.concatenate(parts))


def make_tables(compared: ComparisonRuns) -> list[Table]:
    """Return the recommendations, then the errors and changes of each network on each dataset."""
    plan = compared.plan
    tables = [advise(compared)]
    for net in plan.nets:
        tables += [compare(compared, data, net) for data in plan.list_data(net)]
    return [*tables, compare_worst(compared), compare_worst(compared, [CLEAN])]


def advise(compared: ComparisonRuns) -> Table:
    """Return, for each network and protocol, the method with the lowest error and what it changes.

    Methods that end more than a point above the source on clean images are excluded; if none lowers
    the error, the source is recommended.
    """
    plan = compared.plan
    rows, values = [], []
    for net in plan.nets:
        for stream in plan.streams:
            best = find_best(compared, net, stream)
            title = "the source" if best is None else best.title
            rows.append(f"{NET_TITLES[net]}; {stream.title}: {title}")
            values.append(
                [
                    *(_compute_change(compared, data, net, stream, best) for data in plan.data),
                    None
                    if best is None
                    else compared.pool_change(net, stream.name, best.name, [CLEAN]),
                ]
            )
    return Table(
        "advice",
        "Which, and when",
        "network; images: take",
        [*(f"change, {DATA_TITLES[data]}" for data in plan.data), "change, clean images"],
        rows,
        values,
        unit="change",
        note="In points against the source, less is better. The lowest mean error over the datasets, "
        "of the methods that end at most a point above the source on clean images of that protocol.",
    )


def _compute_change(
    compared: ComparisonRuns, data: DataName, net: NetName, stream: Stream, best: Method | None
) -> Value:
    return None if best is None else compared.change(data, net, stream.name, best.name)


def find_best(compared: ComparisonRuns, net: NetName, stream: Stream) -> Method | None:
    """Return the recommended method for a network and a protocol; None for the source."""
    harmless = []
    for method in compared.plan.list_methods(net):
        change = compared.pool_change(net, stream.name, method.name)
        clean = compared.pool_change(net, stream.name, method.name, [CLEAN])
        if (
            change is not None
            and clean is not None
            and clean.value <= MAX_CLEAN_RISE
            and change.value < 0
        ):
            harmless.append((change.value, method))
    return min(harmless, key=lambda pair: pair[0])[1] if harmless else None


def compare(compared: ComparisonRuns, data: DataName, net: NetName) -> Table:
    """Return the changes against the source by method and protocol, with the source's errors in the
    note.
    """
    plan = compared.plan
    methods = plan.list_methods(net)
    source: list[Value] = [compared.error(data, net, s.name, SOURCE) for s in plan.streams]
    described = ", ".join(
        f"{s.title} {'–' if value is None else f'{100 * value.value:.1f} %'}"
        for s, value in zip(plan.streams, source, strict=True)
    )
    return Table(
        f"{data}-{net}",
        f"{NET_TITLES[net]}, {DATA_TITLES[data]}",
        "change in points",
        [stream.title for stream in plan.streams],
        [method.title for method in methods],
        [[compared.change(data, net, s.name, m.name) for s in plan.streams] for m in methods],
        unit="change",
        note=f"Error over the corruptions, minus that of the source on the same images ({described}).",
    )


def compare_worst(compared: ComparisonRuns, cells: Sequence[Cell] | None = None) -> Table:
    """Return the worst change of each method over all protocols and datasets.

    ``cells`` is ``[CLEAN]``, or None for the corrupted ones.
    """
    plan = compared.plan
    what = "corrupted" if cells is None else "clean"
    return Table(
        f"worst-{what}",
        f"Where each does worst, {what} images",
        "change in points",
        [NET_TITLES[net] for net in plan.nets],
        [method.title for method in plan.methods],
        [[find_worst(compared, net, each, cells) for net in plan.nets] for each in plan.methods],
        unit="change",
        note="The largest change against the source over all protocols and datasets.",
    )


def find_worst(
    compared: ComparisonRuns, net: NetName, method: Method, cells: Sequence[Cell] | None = None
) -> Value:
    """Return the largest change over protocols and datasets; None if nothing was measured."""
    changes = [
        compared.change(data, net, stream.name, method.name, cells=cells)
        for data in compared.plan.data
        for stream in compared.plan.streams
    ]
    available = [change for change in changes if change is not None]
    return max(available, key=lambda change: change.value) if available else None


# ---------------------------------------------------------------- findings


@dataclass(frozen=True)
class Claim:
    """A published claim that one method has a lower error than another."""

    name: str
    text: str
    source: str
    method: str
    against: str
    stream: str
    nets: tuple[NetName, ...]
    data: tuple[DataName, ...] = ("fashion", "glyphs")


PLAIN: tuple[NetName, ...] = ("resnet", "groupnorm", "vit")
"""The networks other than CLIP."""

CLAIMS: tuple[Claim, ...] = (
    Claim("rpl-many", "RPL ends below ENT with many classes", "Rusak et al. 2022",
          "rpl", "ent", "online", ("resnet", "groupnorm", "vit"), ("glyphs",)),
    Claim("ent-few", "ENT ends below RPL with ten classes", "Rusak et al. 2022: 8.5 against 9.7",
          "ent", "rpl", "online", ("resnet",), ("fashion",)),
    Claim("eata", "ETA ends below ENT", "Niu et al. 2022", "eata", "ent", "online", ("resnet",)),
    Claim("sar-single", "SAR ends below ENT on single images", "Niu et al. 2023",
          "sar", "ent", "single", ("groupnorm", "vit")),
    Claim("sar-mixed", "SAR ends below ENT where corruptions are mixed", "Niu et al. 2023",
          "sar", "ent", "mixed", ("groupnorm", "vit")),
    Claim("deyo", "DeYO ends below SAR", "Lee et al. 2024",
          "deyo", "sar", "online", ("groupnorm", "vit")),
    Claim("cotta", "CoTTA ends below ENT on a continual stream", "Wang et al. 2022",
          "cotta", "ent", "continual", ("resnet",)),
    Claim("roid", "ROID ends below CoTTA on a continual stream", "Marsden et al. 2024",
          "roid", "cotta", "continual", PLAIN),
    Claim("rotta", "RoTTA ends below CoTTA where classes come in bursts", "Yuan et al. 2023",
          "rotta", "cotta", "dirichlet", ("resnet",)),
    Claim("note", "NOTE ends below ENT where classes come in bursts", "Gong et al. 2022",
          "note", "ent", "dirichlet", ("resnet",)),
    Claim("lame", "LAME ends below the source where classes come in bursts", "Boudiaf et al. 2022",
          "lame", SOURCE, "dirichlet", (*PLAIN, "clip")),
    Claim("rdumb", "RDumb ends below the learner that it resets, on a continual stream",
          "Press et al. 2023", "rdumb-ent", "ent", "continual", PLAIN),
    Claim("memo", "MEMO ends below the source", "Zhang et al. 2022",
          "memo", SOURCE, "single", PLAIN),
    Claim("tda", "TDA ends below the source", "Karmanov et al. 2024",
          "tda", SOURCE, "online", ("clip",)),
    Claim("tpt", "TPT ends below the source", "Shu et al. 2022", "tpt", SOURCE, "single", ("clip",)),
    Claim("zero", "ZERO ends below TPT", "Farina et al. 2024", "zero", "tpt", "single", ("clip",)),
    Claim("clipartt", "CLIPArTT ends below ENT", "Hakim et al. 2024",
          "clipartt", "ent", "online", ("clip",)),
)  # fmt: skip
"""The papers' claims that can be tested here."""


def make_findings(compared: ComparisonRuns) -> list[Finding]:
    """Judge the papers' claims, and those of the guard, by the results."""
    found = []
    for claim in CLAIMS:
        for net in claim.nets:
            for data in claim.data:
                change = compared.change(data, net, claim.stream, claim.method, claim.against)
                if change is not None:
                    found.append(_judge_claim(claim, data, net, change))
    return [*found, *_judge_guard(compared)]


def _judge_claim(claim: Claim, data: DataName, net: NetName, change: Interval) -> Finding:
    return judge(
        f"{claim.name}-{data}-{net}",
        f"{claim.text}: {NET_TITLES[net]}, {DATA_TITLES[data]}",
        claim.source,
        change,
        "{} points",
        holds=below,
    )


def _judge_guard(compared: ComparisonRuns) -> list[Finding]:
    """Judge how far above the source the guarded method and the router end at worst, on each
    network.
    """
    guards = [each for each in compared.plan.methods if each.spec.startswith(("guard+", "router"))]
    return [
        judge(
            f"{method.name}-{net}",
            f"{method.title}, ends at most a point above the source anywhere: {NET_TITLES[net]}",
            "shiftproof",
            find_worst(compared, net, method),
            "at worst {} points",
            holds=at_most,
            limit=MAX_GUARDED_RISE,
        )
        for method in guards
        for net in compared.plan.nets
    ]
