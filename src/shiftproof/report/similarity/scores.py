"""An audit of embeddings, read and checked: what its page shows is in these records and nowhere else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from shiftproof.io.text import read_json
from shiftproof.metrics.intervals import Interval
from shiftproof.report.reading import Node, check_format
from shiftproof.types import Settings

CERTIFICATES = {
    "train": "the nearest training rows of each test row",
    "nearest": "the nearest test row of each training row",
    "reference": "the nearest reference row of each test row",
    "pruned": "the training rows that come closer than the reference",
}
"""What was searched for, by the name of its certificate."""

Read = TypeVar("Read")


@dataclass(frozen=True)
class Source:
    """A set of rows: how many, how many of them could not be used, their width, and their shards."""

    rows: int
    skipped: int
    width: int
    shards: int


@dataclass(frozen=True)
class Pair:
    """What a side has, for the training set and for the reference; None without a reference."""

    train: tuple[float, ...]
    reference: tuple[float, ...] | None


@dataclass(frozen=True)
class ClassFigures:
    """One class of a test set: means over its rows, without intervals."""

    label: str
    rows: int
    similarity: float
    near_duplicates: float
    reference_similarity: float | None
    gap: float | None
    share_closer: float | None


@dataclass(frozen=True)
class Named:
    """A row of a leakage: what names it, where its image was, and its similarity.

    ``text`` is its key, or its place among the rows where it has none. ``outside``: an image is named
    that this page must not open.
    """

    text: str
    path: str | None
    similarity: float
    outside: bool = False


@dataclass(frozen=True)
class Leak:
    """A test row beside its nearest training rows, the nearest first."""

    test: Named
    label: str | None
    train: tuple[Named, ...]


@dataclass(frozen=True)
class Certificate:
    """Why a search was exact, as :class:`shiftproof.similarity.Certificate` has it."""

    precision: str
    bound: float
    dimensions: int
    products: int
    candidates: int
    rechecked: int
    set_aside: int
    skipped: int
    device: str


@dataclass(frozen=True)
class Tested:
    """All figures of one test set. Shares are fractions; what needs a reference is None without one.

    ``histogram`` and ``cumulative`` are over the test rows, by their similarity to the nearest row;
    ``train_histogram`` is over the training rows, by theirs to the nearest of this test set.
    """

    name: str
    rows: int
    similarity: Interval
    density: Interval
    near_duplicates: Interval
    reference_similarity: Interval | None
    reference_near_duplicates: Interval | None
    gap: Interval | None
    share_closer: Interval | None
    histogram: Pair
    cumulative: Pair
    train_histogram: tuple[float, ...]
    classes: tuple[ClassFigures, ...]
    leakage: tuple[Leak, ...]
    pruned_rows: int | None
    pruned_share: float | None
    certificates: dict[str, Certificate]


@dataclass(frozen=True)
class Pruning:
    """What gap-matched pruning for all test sets removes, and for one of what another's does.

    ``shared`` has a row per test set that is pruned for and a column per test set whose removed rows
    are counted; None where none are removed.
    """

    names: tuple[str, ...]
    combined: int
    share: float
    shared: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Scores:
    """The content of ``scores.json``."""

    measure: str
    level: float
    interval: Settings
    k: int
    duplicates: float
    train: Source
    reference: Source | None
    edges: tuple[float, ...]
    sets: tuple[Tested, ...]
    pruning: Pruning | None


@dataclass(frozen=True)
class SimilarityRun:
    """The folder of an audit, read."""

    path: Path
    kind: str
    settings: Settings
    provenance: Settings
    scores: Scores


# ---------------------------------------------------------------- reading


_NOT_PROVENANCE = {"format", "kind", "settings"}


def read_run(path: Path) -> SimilarityRun:
    """Read the folder of an audit.

    Raises:
        BrokenFileError: one of its files cannot be read as what it should be.
    """
    file = path / "scores.json"
    head = Node(read_json(path / "run.json"), path / "run.json")
    return SimilarityRun(
        path=path,
        kind=head.get("kind").text(),
        settings=head.get("settings").settings(),
        provenance={
            name: value for name, value in head.settings().items() if name not in _NOT_PROVENANCE
        },
        scores=_scores(Node(read_json(file), file)),
    )


def parse_scores(content: Mapping[str, Any]) -> Scores:
    """Read the content of a ``scores.json``.

    Raises:
        BrokenFileError: it is not what this version writes; the message names the place.
    """
    return _scores(Node(content, Path("scores.json")))


def _scores(root: Node) -> Scores:
    check_format(root)
    interval, pruning = root.get("interval"), root.get("pruning")
    edges = tuple(node.number() for node in root.get("edges").items())
    if len(edges) < 2 or any(low >= high for low, high in itertools.pairwise(edges)):
        raise root.get("edges").wrong("two or more rising numbers")
    return Scores(
        measure=root.get("measure").text(),
        level=interval.get("level").number(0.0, 1.0),
        interval=interval.settings(),
        k=root.get("k").count(),
        duplicates=root.get("duplicates").number(-1.0, 1.0),
        train=_source(root.get("train")),
        reference=_optional(root.get("reference"), _source),
        edges=edges,
        sets=tuple(_tested(node, len(edges) - 1) for node in root.get("sets").items()),
        pruning=_optional(pruning, _pruning),
    )


def _optional(node: Node, read: Callable[[Node], Read]) -> Read | None:
    return None if node.value is None else read(node)


def _source(node: Node) -> Source:
    return Source(*(node.get(name).count() for name in ("rows", "skipped", "width", "shards")))


def _tested(node: Node, bins: int) -> Tested:
    pruned, certificates = node.get("pruned"), node.get("certificates")
    return Tested(
        name=node.get("name").text(),
        rows=node.get("rows").count(),
        similarity=_known(node.get("similarity"), -1.0),
        density=_known(node.get("density"), -1.0),
        near_duplicates=_known(node.get("near_duplicates"), 0.0),
        reference_similarity=_interval(node.get("reference_similarity"), -1.0),
        reference_near_duplicates=_interval(node.get("reference_near_duplicates"), 0.0),
        gap=_interval(node.get("gap"), -2.0, 2.0),
        share_closer=_interval(node.get("share_closer"), 0.0),
        histogram=_pair(node.get("histogram"), bins, high=None),
        cumulative=_pair(node.get("cumulative"), bins, high=1.0),
        train_histogram=_numbers(node.get("train_histogram"), bins, high=None),
        classes=tuple(_class(item) for item in node.get("classes").optional_items()),
        leakage=tuple(_leak(item) for item in node.get("leakage").optional_items()),
        pruned_rows=None if pruned.value is None else pruned.get("rows").count(),
        pruned_share=None if pruned.value is None else pruned.get("share").number(0.0, 1.0),
        certificates={
            name: _certificate(certificates.get(name))
            for name in CERTIFICATES
            if certificates.get(name).value is not None
        },
    )


_ROUNDING = 1e-3
"""Rows of half precision may be a little longer than 1."""


def _interval(node: Node, low: float, high: float = 1.0) -> Interval | None:
    return node.interval(low - _ROUNDING, high + _ROUNDING)


def _known(node: Node, low: float) -> Interval:
    found = _interval(node, low)
    if found is None:
        raise node.wrong("a figure with its interval")
    return found


def _pair(node: Node, bins: int, *, high: float | None) -> Pair:
    reference = node.get("reference")
    return Pair(
        _numbers(node.get("train"), bins, high=high),
        None if reference.value is None else _numbers(reference, bins, high=high),
    )


def _numbers(node: Node, count: int, *, high: float | None) -> tuple[float, ...]:
    found = tuple(item.number(0.0, high) for item in node.items())
    if len(found) != count:
        raise node.wrong(f"{count} numbers, one per bin")
    if any(value < 0 for value in found):
        raise node.wrong("numbers from 0 up")
    return found


def _class(node: Node) -> ClassFigures:
    return ClassFigures(
        label=node.get("label").text(),
        rows=node.get("rows").count(),
        similarity=node.get("similarity").number(),
        near_duplicates=node.get("near_duplicates").number(0.0, 1.0),
        reference_similarity=node.get("reference_similarity").optional_number(),
        gap=node.get("gap").optional_number(),
        share_closer=node.get("share_closer").optional_number(0.0, 1.0),
    )


def _leak(node: Node) -> Leak:
    return Leak(
        test=_named(node, f"row {node.get('row').count():,}"),
        label=node.get("label").optional_text(),
        train=tuple(
            _named(item, f"{item.get('shard').text()}, row {item.get('place').count():,}")
            for item in node.get("train").items()
        ),
    )


def _named(node: Node, place: str) -> Named:
    return Named(
        node.get("key").optional_text() or place,
        node.get("path").optional_text(),
        node.get("similarity").number(),
    )


def _pruning(node: Node) -> Pruning:
    names = tuple(item.text() for item in node.get("names").items())
    shared = tuple(
        tuple(share.optional_number(0.0, 1.0) for share in row.items())
        for row in node.get("shared").items()
    )
    if len(shared) != len(names) or any(len(row) != len(names) for row in shared):
        raise node.get("shared").wrong(f"a row and a column for each of {len(names)} test sets")
    return Pruning(names, node.get("combined").count(), node.get("share").number(0.0, 1.0), shared)


def _certificate(node: Node) -> Certificate:
    return Certificate(
        precision=node.get("precision").text(),
        bound=node.get("bound").number(),
        dimensions=node.get("dimensions").count(),
        products=node.get("products").count(),
        candidates=node.get("candidates").count(),
        rechecked=node.get("rechecked").count(),
        set_aside=node.get("set_aside").count(),
        skipped=node.get("skipped").count(),
        device=node.get("device").optional_text() or "cpu",
    )
