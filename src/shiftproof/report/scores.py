"""A run folder, read and checked: what the page shows is in these records and nowhere else.

The files are untrusted: they may be cut short, edited by hand, or written by another version.
Whatever does not fit ends in one sentence that names the file and the place in it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shiftproof import files
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.types import CLEAN, Cell, Settings

FORMAT = 1
"""The format of ``run.json`` and ``scores.json`` that this version reads."""

FAMILIES = ("noise", "blur", "weather", "digital", "other")
"""The corruption groups, in the order in which the benchmark paper shows them."""

MEASURES = ("error", "disagreement")


# ---------------------------------------------------------------- records


@dataclass(frozen=True)
class Interval:
    """A figure with its bootstrap interval, all three in the figure's own unit."""

    value: float
    low: float
    high: float

    @property
    def spans_zero(self) -> bool:
        """Whether the interval holds 0: as a difference, it cannot be told from chance."""
        return self.low <= 0 <= self.high

    @property
    def is_zero(self) -> bool:
        """Whether nothing changed at all, in any resample."""
        return self.value == self.low == self.high == 0


@dataclass(frozen=True)
class Figures:
    """What is measured in one cell: fractions, the loss in nats, None where it does not apply."""

    error: Interval | None
    top5_error: Interval | None = None
    calibration_error: Interval | None = None
    loss: Interval | None = None
    images: int | None = None
    estimated: Mapping[str, float] = field(default_factory=dict)
    """By estimator, the error as it would have been guessed without labels."""


@dataclass(frozen=True)
class Estimator:
    """How far a guess without labels is off over a model's corrupted cells. Fractions.

    ``bias`` is the mean of guess minus error. ``worst`` is the cell where it is furthest off, with
    the guess and the error there.
    """

    name: str
    title: str
    cells: int
    mean_absolute_error: float
    root_mean_square: float
    bias: float
    worst: Cell
    worst_estimate: float
    worst_error: float


@dataclass(frozen=True)
class Summary:
    """The headline figures of a model, or of a difference between two. Fractions."""

    clean_error: Interval | None
    mean_error: Interval | None
    mce: Interval | None
    relative_mce: Interval | None
    rpc: Interval | None
    calibration_error: Interval | None


@dataclass(frozen=True)
class CorruptionScore:
    """One corruption, over its severities. Fractions; ``ce`` 1.0 is AlexNet's level."""

    corruption: str
    group: str
    error: Interval | None
    ce: Interval | None
    relative_ce: Interval | None


@dataclass(frozen=True)
class ClassScore:
    """One class: how often its images are wrong, clean and under corruption. Fractions."""

    name: str
    index: int | None
    images: int
    clean_error: float | None
    error: float


@dataclass(frozen=True)
class Scored:
    """All figures of one model, or of a difference (then ``against`` names what is subtracted)."""

    name: str
    summary: Summary
    clean: Figures
    cells: Mapping[Cell, Figures]
    corruptions: tuple[CorruptionScore, ...]
    title: str = ""
    against: str | None = None
    adapter: Settings | None = None
    classes: tuple[ClassScore, ...] = ()
    estimators: tuple[Estimator, ...] = ()

    def corruption(self, name: str) -> CorruptionScore | None:
        """Return the score of the corruption ``name``, or None where it was not run."""
        return next((score for score in self.corruptions if score.corruption == name), None)


@dataclass(frozen=True)
class BrokenImage:
    """An image that could not be read, in how many of the cells, and in which one first."""

    id: str
    cells: int | None
    first_cell: str
    reason: str


@dataclass(frozen=True)
class Scores:
    """The content of ``scores.json``."""

    measure: str
    level: float
    interval: Settings
    total: int
    used: int
    broken: tuple[BrokenImage, ...]
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    complete: bool
    mce_reason: str | None
    models: tuple[Scored, ...]
    differences: tuple[Scored, ...]

    @property
    def labelled(self) -> bool:
        """Whether the figures are errors against labels (and not changes of mind)."""
        return self.measure == "error"

    def groups(self) -> dict[str, list[str]]:
        """Return the corruptions that were run, by group, in the benchmark's order."""
        group_of: dict[str, str] = {}
        for model in self.models:
            for score in model.corruptions:
                group_of.setdefault(score.corruption, score.group)
        found: dict[str, list[str]] = {}
        for name in self.corruptions:
            found.setdefault(group_of.get(name, "other"), []).append(name)
        known = [group for group in FAMILIES if group in found]
        return {group: found[group] for group in [*known, *(g for g in found if g not in known)]}


@dataclass(frozen=True)
class Prediction:
    """What a model said about one image.

    ``name`` is None where the image could not be read, ``correct`` also where it has no label.
    """

    name: str | None
    confidence: float | None
    correct: bool | None


@dataclass(frozen=True)
class Sheet:
    """One photograph under every cell; ``files`` are below the run folder, keyed by cell name."""

    id: str
    label: str | None
    files: Mapping[str, str]
    predictions: Mapping[str, Mapping[str, Prediction]]


@dataclass(frozen=True)
class Shown:
    """One picture of a worst case: which cell, which file, what the model said."""

    cell: str
    file: str
    prediction: Prediction


@dataclass(frozen=True)
class Worst:
    """A photograph that the first model gets wrong in ``errors`` of ``cells`` cells."""

    id: str
    label: str | None
    errors: int
    cells: int
    clean: Shown | None
    corrupted: Shown | None


@dataclass(frozen=True)
class Gallery:
    """The content of ``gallery.json``; empty where the run kept no pictures."""

    sheets: tuple[Sheet, ...] = ()
    worst: tuple[Worst, ...] = ()


@dataclass(frozen=True)
class Happening:
    """Something that an adapter told of itself: what, in which batch since its reset, and why.

    ``episode`` names what lies between two resets, ``number`` counts the passes over it from 0.
    ``cell`` is None where the batches mix cells.
    """

    model: str
    episode: str
    cell: str | None
    number: int
    batch: int
    kind: str
    reason: str


@dataclass(frozen=True)
class Run:
    """A run folder, read."""

    path: Path
    kind: str
    settings: Settings
    classes: Settings
    provenance: Settings
    scores: Scores
    gallery: Gallery = field(default_factory=Gallery)
    happenings: tuple[Happening, ...] = ()


# ---------------------------------------------------------------- reading


def read_run(path: Path) -> Run:
    """Read a run folder.

    Raises:
        InputError: there is no such folder, or it holds no finished run.
        BrokenFileError: one of its files cannot be read as what it should be.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path}: expected the folder of a run, found none.")
    for name in ("run.json", "scores.json"):
        if not (path / name).is_file():
            raise InputError(
                f"{path}: expected the folder of a finished run, but it has no {name}. "
                "Start the benchmark again with the same settings; it goes on where it stopped."
            )
    run = _Node(files.read_json(path / "run.json"), path / "run.json")
    _check_format(run)
    scores = _scores(_Node(files.read_json(path / "scores.json"), path / "scores.json"))
    return Run(
        path=path,
        kind=run.get("kind").text(),
        settings=run.get("settings").settings(),
        classes=run.get("classes").optional_settings(),
        provenance=run.get("provenance").optional_settings(),
        scores=scores,
        gallery=_read_gallery(path / "gallery.json"),
        happenings=tuple(_read_happenings(path / "events", scores)),
    )


def parse_scores(content: Mapping[str, Any]) -> Scores:
    """Read the content of a ``scores.json``.

    Raises:
        BrokenFileError: it is not what this version writes; the message names the place.
    """
    return _scores(_Node(content, Path("scores.json")))


def _check_format(node: _Node) -> None:
    found = node.get("format").value
    if found != FORMAT:
        raise BrokenFileError(
            f"{node.file}: expected format {FORMAT}, got {_short(found)}. It was written by "
            "another version of shiftproof, or is not a run at all; use the version that wrote it."
        )


def _scores(root: _Node) -> Scores:
    _check_format(root)
    measure = root.get("measure").text()
    if measure not in MEASURES:
        raise root.get("measure").wrong("'error' or 'disagreement'")
    images, grid, interval = root.get("images"), root.get("grid"), root.get("interval")
    models = tuple(_scored(node, low=0.0) for node in root.get("models").items())
    if not models:
        raise root.get("models").wrong("at least one model")
    differences = tuple(_scored(node, low=-1.0) for node in root.get("differences").items())
    names = [model.name for model in models]
    if len(set(names)) != len(names):
        raise root.get("models").wrong("models with names of their own")
    for position, difference in enumerate(differences):
        if difference.name not in names or difference.against not in names:
            raise (
                root.get("differences")
                .item(position)
                .wrong("a difference between two of the models")
            )
    return Scores(
        measure=measure,
        level=interval.get("level").number(0.0, 1.0),
        interval=interval.settings(),
        total=images.get("total").count(),
        used=images.get("used").count(),
        broken=tuple(
            BrokenImage(
                id=node.get("id").text(),
                cells=node.get("cells").optional_count(),
                first_cell=node.get("first_cell").optional_text() or "",
                reason=node.get("reason").optional_text() or "no reason given",
            )
            for node in images.get("broken").items()
        ),
        corruptions=tuple(node.text() for node in grid.get("corruptions").items()),
        severities=tuple(sorted(node.count() for node in grid.get("severities").items())),
        complete=grid.get("complete").flag(),
        mce_reason=grid.get("mce_reason").optional_text(),
        models=models,
        differences=differences,
    )


def _scored(node: _Node, *, low: float) -> Scored:
    """``low`` is the smallest error there can be: 0 for a model, -1 for a difference."""
    summary = node.get("summary")
    against = node.get("against").optional_text()
    cells: dict[Cell, Figures] = {}
    for item in node.get("cells").items():
        cell = Cell(item.get("corruption").text(), item.get("severity").count())
        if cell in cells:
            raise item.wrong("one entry per corruption and severity")
        cells[cell] = _figures(item, low)
    return Scored(
        name=node.get("name").text(),
        title=node.get("title").optional_text() or "",
        against=against,
        adapter=node.get("adapter").optional_settings() or None,
        summary=Summary(
            clean_error=summary.get("clean_error").interval(low, 1.0),
            mean_error=summary.get("mean_error").interval(low, 1.0),
            # Ratios have no upper limit: a model may do worse than AlexNet.
            mce=summary.get("mce").interval(),
            relative_mce=summary.get("relative_mce").interval(),
            rpc=summary.get("rpc").interval(),
            calibration_error=summary.get("calibration_error").interval(low, 1.0),
        ),
        clean=_figures(node.get("clean"), low),
        cells=cells,
        corruptions=tuple(
            CorruptionScore(
                corruption=item.get("corruption").text(),
                group=item.get("group").optional_text() or "other",
                error=item.get("error").interval(low, 1.0),
                ce=item.get("ce").interval(),
                relative_ce=item.get("relative_ce").interval(),
            )
            for item in node.get("corruptions").items()
        ),
        classes=tuple(
            ClassScore(
                name=item.get("class").text(),
                index=item.get("index").optional_count(),
                images=item.get("images").count(),
                clean_error=item.get("clean_error").optional_number(0.0, 1.0),
                error=item.get("error").number(0.0, 1.0),
            )
            for item in node.get("classes").optional_items()
        ),
        estimators=tuple(_estimator(item) for item in node.get("estimators").optional_items()),
    )


def _estimator(node: _Node) -> Estimator:
    worst = node.get("worst")
    return Estimator(
        name=node.get("name").text(),
        title=node.get("title").text(),
        cells=node.get("cells").count(),
        mean_absolute_error=node.get("mean_absolute_error").number(0.0, 1.0),
        root_mean_square=node.get("root_mean_square").number(0.0, 1.0),
        bias=node.get("bias").number(-1.0, 1.0),
        worst=Cell(worst.get("corruption").text(), worst.get("severity").count()),
        worst_estimate=worst.get("estimate").number(0.0, 1.0),
        worst_error=worst.get("error").number(0.0, 1.0),
    )


def _figures(node: _Node, low: float) -> Figures:
    if node.value is None:
        return Figures(error=None)
    return Figures(
        error=node.get("error").interval(low, 1.0),
        top5_error=node.get("top5_error").interval(low, 1.0),
        calibration_error=node.get("calibration_error").interval(low, 1.0),
        loss=node.get("loss").interval(),
        images=node.get("images").optional_count(),
        estimated={
            name: value.number(0.0, 1.0)
            for name, value in node.get("estimated_error").optional_entries()
        },
    )


def _read_gallery(path: Path) -> Gallery:
    if not path.is_file():
        return Gallery()
    root = _Node(files.read_json(path), path)
    return Gallery(
        sheets=tuple(
            Sheet(
                id=node.get("id").text(),
                label=node.get("label").optional_text(),
                files={cell: file.text() for cell, file in node.get("files").entries()},
                predictions={
                    model: {cell: _prediction(said) for cell, said in by_cell.entries()}
                    for model, by_cell in node.get("predictions").entries()
                },
            )
            for node in root.get("sheets").optional_items()
        ),
        worst=tuple(
            Worst(
                id=node.get("id").text(),
                label=node.get("label").optional_text(),
                errors=node.get("errors").count(),
                cells=node.get("cells").count(),
                clean=_shown(node.get("clean")),
                corrupted=_shown(node.get("corrupted")),
            )
            for node in root.get("worst").optional_items()
        ),
    )


def _read_happenings(folder: Path, scores: Scores) -> Iterator[Happening]:
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
            root = _Node(files.read_json(path), path)
            _check_format(root)
            for node in root.get("events").items():
                yield Happening(
                    model=model.name,
                    episode=episode,
                    cell=node.get("cell").optional_text(),
                    number=node.get("pass").count(),
                    batch=node.get("batch").count(),
                    kind=node.get("kind").text(),
                    reason=node.get("reason").text(),
                )


def _prediction(node: _Node) -> Prediction:
    return Prediction(
        name=node.get("class").optional_text(),
        confidence=node.get("confidence").optional_number(0.0, 1.0),
        correct=node.get("correct").optional_flag(),
    )


def _shown(node: _Node) -> Shown | None:
    if node.value is None:
        return None
    return Shown(
        cell=node.get("cell").optional_text() or str(CLEAN),
        file=node.get("file").text(),
        prediction=_prediction(node),
    )


@dataclass(frozen=True)
class _Node:
    """A value inside a JSON file that knows where it stands, so that a complaint can say so."""

    value: Any
    file: Path
    where: str = ""

    def wrong(self, expected: str) -> BrokenFileError:
        place = f"at {self.where.lstrip('.')}" if self.where else "as its content"
        return BrokenFileError(
            f"{self.file}: expected {expected} {place}, got {_short(self.value)}. The file is "
            "damaged or was changed by hand; start the run again to have it written anew."
        )

    def get(self, key: str) -> _Node:
        """A missing key reads as null; what must be there says so when asked for its value."""
        if not isinstance(self.value, Mapping):
            raise self.wrong("an object")
        return _Node(self.value.get(key), self.file, f"{self.where}.{key}")

    def item(self, position: int) -> _Node:
        return _Node(self.value[position], self.file, f"{self.where}[{position}]")

    def items(self) -> Iterator[_Node]:
        if not isinstance(self.value, list | tuple):
            raise self.wrong("a list")
        return (self.item(position) for position in range(len(self.value)))

    def optional_items(self) -> Iterator[_Node]:
        return iter(()) if self.value is None else self.items()

    def entries(self) -> Iterator[tuple[str, _Node]]:
        if not isinstance(self.value, Mapping):
            raise self.wrong("an object")
        return (
            (clean_text(str(key)), _Node(value, self.file, f"{self.where}.{key}"))
            for key, value in self.value.items()
        )

    def optional_entries(self) -> Iterator[tuple[str, _Node]]:
        return iter(()) if self.value is None else self.entries()

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong("a text")
        return clean_text(self.value)

    def optional_text(self) -> str | None:
        return None if self.value is None else self.text()

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def optional_flag(self) -> bool | None:
        return None if self.value is None else self.flag()

    def count(self) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value < 0:
            raise self.wrong("a whole number from 0 up")
        return self.value

    def optional_count(self) -> int | None:
        return None if self.value is None else self.count()

    def number(self, low: float | None = None, high: float | None = None) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.wrong("a number")
        try:
            number = float(self.value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.wrong("a finite number")
        # A mean of fractions may leave the range by rounding; a percentage given for a fraction
        # leaves it by far.
        slack = 1e-9
        if low is not None and high is not None and not low - slack <= number <= high + slack:
            raise self.wrong(f"a number from {low:g} to {high:g}")
        return number

    def optional_number(self, low: float | None = None, high: float | None = None) -> float | None:
        return None if self.value is None else self.number(low, high)

    def interval(self, low: float | None = None, high: float | None = None) -> Interval | None:
        if self.value is None:
            return None
        found = Interval(*(self.get(key).number(low, high) for key in ("value", "low", "high")))
        if found.low > found.high:
            raise self.wrong("an interval with its low end below its high end")
        return found

    def settings(self) -> Settings:
        if not isinstance(self.value, Mapping):
            raise self.wrong("an object")
        return {clean_text(str(key)): value for key, value in self.value.items()}

    def optional_settings(self) -> Settings:
        return {} if self.value is None else self.settings()


def clean_text(text: str) -> str:
    """Return ``text`` without what no page, table or terminal should be handed.

    Control characters (an escape sequence in a file name moves the cursor of a terminal) and
    lone surrogates (file names that are not UTF-8; they cannot be written) become U+FFFD; line
    breaks and tabs become spaces. Everything else stays, in whatever script it is.
    """
    return "".join(
        " "
        if character in "\n\r\t"
        else "\ufffd"
        if unicodedata.category(character) in ("Cc", "Cs")
        else character
        for character in text
    )


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    text = clean_text(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
