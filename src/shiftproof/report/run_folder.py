"""What is alike in the folders of all kinds of runs: who ran what on what, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from shiftproof.bench.result_faults import describe_faults
from shiftproof.errors import InputError
from shiftproof.io.border import convert_errors
from shiftproof.io.text import read_json
from shiftproof.report.reading import Node, check_format, clean_text
from shiftproof.types import CLEAN, Cell, Settings

FAMILIES = ("noise", "blur", "weather", "digital", "other")
"""The corruption groups, in the order in which the benchmark paper shows them."""


@dataclass(frozen=True)
class BrokenImage:
    """An image that could not be read, in how many of the cells, and in which one first."""

    id: str
    cells: int | None
    first_cell: str
    reason: str


class Named(Protocol):
    """A model of a run."""

    @property
    def name(self) -> str:
        """Its name in the run."""

    @property
    def title(self) -> str:
        """Its name in full; may be empty."""

    @property
    def against(self) -> str | None:
        """Of a difference, the name of what is subtracted; None of a model."""


class Measured(Protocol):
    """What the scores of every kind of run say of the run as a whole."""

    @property
    def measure(self) -> str:
        """What the figures are."""

    @property
    def level(self) -> float:
        """Of the intervals."""

    @property
    def interval(self) -> Settings:
        """How the intervals were made."""

    @property
    def total(self) -> int | None:
        """Images in the data set; None where that is not known."""

    @property
    def used(self) -> int | None:
        """Images that the figures are over; None where that is not known."""

    @property
    def broken(self) -> Sequence[BrokenImage]:
        """Images that could not be read."""

    @property
    def corruptions(self) -> Sequence[str]:
        """Those that were run, in the order of the grid."""

    @property
    def severities(self) -> Sequence[int]:
        """Those that were run, rising."""

    @property
    def complete(self) -> bool:
        """Whether the grid is the benchmark's."""

    @property
    def models(self) -> Sequence[Named]:
        """The models of the run."""

    def groups(self) -> dict[str, list[str]]:
        """Return the corruptions that were run, by group, in the benchmark's order."""


def grouped(corruptions: Sequence[str], group_of: dict[str, str]) -> dict[str, list[str]]:
    """Return corruptions by group, in the benchmark's order."""
    found: dict[str, list[str]] = {}
    for name in corruptions:
        found.setdefault(group_of.get(name, "other"), []).append(name)
    known = [group for group in FAMILIES if group in found]
    return {group: found[group] for group in [*known, *(g for g in found if g not in known)]}


@dataclass(frozen=True)
class Happening:
    """Something that an adapter told of itself: what, in which batch since its reset, and why.

    ``episode`` names what lies between two resets, ``number`` counts the passes over it from 0.
    ``cell`` is None where the batches mix cells. ``count`` is how many such it stands for, of which
    this is the last.
    """

    model: str
    episode: str
    cell: str | None
    number: int
    batch: int
    kind: str
    reason: str
    count: int = 1


Scores_co = TypeVar("Scores_co", bound=Measured, covariant=True)
Gallery_co = TypeVar("Gallery_co", covariant=True)
Scored = TypeVar("Scored", bound=Named)
Figures = TypeVar("Figures")


@dataclass(frozen=True)
class Run(Generic[Scores_co, Gallery_co]):
    """A run folder, read."""

    path: Path
    kind: str
    settings: Settings
    classes: Settings
    provenance: Settings
    scores: Scores_co
    gallery: Gallery_co
    happenings: tuple[Happening, ...] = ()
    assumed: Settings = field(default_factory=dict)
    faults: tuple[str, ...] = ()


def read_head(path: Path) -> Node:
    """Read the ``run.json`` of a finished run.

    Raises:
        InputError: there is no such folder, or it holds no finished run.
        BrokenFileError: the file cannot be read as what it should be.
    """
    if not path.is_dir():
        raise InputError(f"{path}: expected the folder of a run, found none.")
    for name in ("run.json", "scores.json"):
        if not (path / name).is_file():
            raise InputError(
                f"{path}: expected the folder of a finished run, but it has no {name}. "
                "Start the benchmark again with the same settings; it goes on where it stopped."
            )
    head = Node(read_json(path / "run.json"), path / "run.json")
    check_format(head)
    return head


def read_folder(
    path: Path,
    head: Node,
    scores: Callable[[Node], Scores_co],
    gallery: Callable[[Node], Gallery_co],
) -> Run[Scores_co, Gallery_co]:
    """Read the folder of a run, whose ``run.json`` is ``head``.

    ``scores`` reads the content of ``scores.json``, ``gallery`` that of ``gallery.json``, which is
    an empty object where the run kept no pictures.

    Raises:
        BrokenFileError: one of its files cannot be read as what it should be.
    """
    measured = scores(Node(read_json(path / "scores.json"), path / "scores.json"))
    kept = path / "gallery.json"
    return Run(
        path=path,
        kind=head.get("kind").text(),
        settings=head.get("settings").settings(),
        classes=head.get("classes").optional_settings(),
        provenance=head.get("provenance").optional_settings(),
        scores=measured,
        gallery=gallery(Node(read_json(kept) if kept.is_file() else {}, kept)),
        happenings=tuple(read_happenings(path / "events", measured)),
        assumed=head.get("assumed").optional_settings(),
        faults=_read_faults(head),
    )


def _read_faults(head: Node) -> tuple[str, ...]:
    """What was wrong with annotations and result files, a sentence each."""
    if head.get("kind").text() != "detection":
        return ()
    with convert_errors(head.file, "expected the faults of data and results as they were written"):
        return tuple(clean_text(line) for line in describe_faults(head.value))


def read_models(
    root: Node, scored: Callable[[Node, float], Scored]
) -> tuple[tuple[Scored, ...], tuple[Scored, ...]]:
    """Read the models of a ``scores.json``, and the differences between them.

    ``scored`` reads one of them; its number is the smallest figure that there can be: 0 of a model,
    -1 of a difference.

    Raises:
        BrokenFileError: no model, two of one name, or a difference between others.
    """
    models = tuple(scored(node, 0.0) for node in root.get("models").items())
    if not models:
        raise root.get("models").wrong("at least one model")
    names = [model.name for model in models]
    if len(set(names)) != len(names):
        raise root.get("models").wrong("models with names of their own")
    differences = tuple(scored(node, -1.0) for node in root.get("differences").items())
    for node, difference in zip(root.get("differences").items(), differences, strict=True):
        if difference.name not in names or difference.against not in names:
            raise node.wrong("a difference between two of the models")
    return models, differences


def read_cells(model: Node, figures: Callable[[Node], Figures]) -> dict[Cell, Figures]:
    """Read the cells of a model, or of a difference; ``figures`` reads what stands in one.

    Raises:
        BrokenFileError: a cell that is there twice, or is none.
    """
    cells: dict[Cell, Figures] = {}
    for item in model.get("cells").items():
        cell = Cell(item.get("corruption").text(), item.get("severity").count())
        if cell in cells:
            raise item.wrong("one entry per corruption and severity")
        cells[cell] = figures(item)
    return cells


def every_cell(
    corruptions: Sequence[str], clean: Figures, cells: Mapping[Cell, Figures]
) -> list[tuple[str, int, Figures]]:
    """Return a model's figures, the clean cell first, in the order of the grid."""
    order = {name: position for position, name in enumerate(corruptions)}
    listed = sorted(
        cells.items(),
        key=lambda item: (order.get(item[0].corruption, len(order)), item[0]),
    )
    return [
        ("clean", 0, clean),
        *((cell.corruption, cell.severity, figures) for cell, figures in listed),
    ]


def read_broken(images: Node) -> tuple[BrokenImage, ...]:
    """Read the images that could not be read, from ``images`` of a ``scores.json``."""
    return tuple(
        BrokenImage(
            id=node.get("id").text(),
            cells=node.get("cells").optional_count(),
            first_cell=node.get("first_cell").optional_text() or "",
            reason=node.get("reason").optional_text() or "no reason given",
        )
        for node in images.get("broken").items()
    )


def read_happenings(folder: Path, scores: Measured) -> Iterator[Happening]:
    """Read what the adapters told, in the order of the models and of the grid."""
    # Looked up among the files that there are: names in scores.json lead to no other place.
    files_by_name = {(path.parent.name, path.stem): path for path in folder.glob("*/*.json")}
    episodes = [str(CLEAN)]
    for name in scores.corruptions:
        episodes += [name, *(str(Cell(name, severity)) for severity in scores.severities)]
    for model in scores.models:
        for episode in dict.fromkeys([*episodes, "all"]):
            path = files_by_name.get((model.name, episode))
            if path is None:
                continue
            root = Node(read_json(path), path)
            check_format(root)
            for node in root.get("events").items():
                yield Happening(
                    model=model.name,
                    episode=episode,
                    cell=node.get("cell").optional_text(),
                    number=node.get("pass").count(),
                    batch=node.get("batch").count(),
                    kind=node.get("kind").text(),
                    reason=node.get("reason").text(),
                    count=node.get("count").optional_count() or 1,
                )
