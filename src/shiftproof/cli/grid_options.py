"""Options of the verbs that run a grid (`bench`, `detect`, `segment`), and the names of models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from shiftproof.cli.options import (
    DATA_PANEL,
    IMAGES_HELP,
    LOG_HELP,
    PROTOCOL_HELP,
    RUN_PANEL,
    SHIFT_PANEL,
    ClassMap,
    Constants,
    Corruptions,
    Device,
    Encode,
    FrostFolder,
    Seed,
    Severities,
    Workers,
    parse_severities,
)
from shiftproof.errors import InputError
from shiftproof.models.dtypes import Dtype

if TYPE_CHECKING:
    from shiftproof.bench import Protocol
    from shiftproof.corruptions import CorruptionFunction
    from shiftproof.shards import Backend

WhichImages: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--images",
        metavar="N|DIR",
        help="A number of images, drawn by name and stratified by class, the same ones in "
        "every run; robustbench: its 5,000 of ImageNet. Else: " + IMAGES_HELP,
    ),
]
Precision: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--precision",
        metavar="POINTS",
        help="As many images as bring the headline's interval to +- this many points, planned from a "
        "pilot run of 400 (kept in OUT-pilot).",
    ),
]
Budget: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        help="As many images as 10min (or 45s, 1.5h) of measuring allow, at least 8; the same command "
        "with more resumes. The intervals are valid at the end of a budget, not at any time.",
    ),
]
Adapt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--adapt",
        "-a",
        metavar="SPECS",
        help="Adaptations to run beside the first model, separated by spaces: batchnorm, actmad, ent, "
        "rpl, of detectors teacher; guard+ before one: 'batchnorm:prior=16 guard+actmad'. none for the "
        "models alone.",
    ),
]
ClassesFile: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="FILE",
        help="Classes of the outputs: imagenet, numbered, or a file with one name a line. For "
        "a zero-shot model (CLIP, SigLIP) the names in its prompts.",
        rich_help_panel=DATA_PANEL,
    ),
]
Templates: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--templates",
        metavar="TEXT",
        help="Prompts of a zero-shot model, with {} for the name: openai (80), simple (7), "
        "a file with one a line, or one sentence.",
        rich_help_panel=DATA_PANEL,
    ),
]


@dataclass(frozen=True)
class AnytimeOptions:
    """Options to estimate one number to some precision instead of all cells."""

    precision: Annotated[
        float | None,
        typer.Option(
            "--precision",
            metavar="POINTS",
            help="mCE, or the mean error, to +- this many points with as few images as possible; no "
            "other figures. With --adapt, or without labels, as many images as bring the headline "
            "there, planned from a pilot run of 400 (kept in OUT-pilot).",
        ),
    ] = None
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="TIME",
            help="mCE, or the mean error, as precisely as 10min (or 45s, 1.5h) allow; the same "
            "command with more goes on.",
        ),
    ] = None
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Only decide whether the first model or each of the others is better, and stop then.",
        ),
    ] = False

    @property
    def selecting_option(self) -> str | None:
        """The option that selects one number; the first of several."""
        if self.compare:
            return "--compare"
        if self.budget is not None:
            return "--budget"
        return None if self.precision is None else "--precision"

    @property
    def seconds(self) -> float | None:
        """The budget."""
        return None if self.budget is None else parse_budget(self.budget)


@dataclass(frozen=True)
class CalibrateOptions:
    """Options of calibration on clean images, which is then measured under corruption."""

    calibrate: Annotated[
        str | None,
        typer.Option(
            "--calibrate",
            metavar="IMAGES",
            help="Labeled clean images on which temperature and prediction sets are fitted before "
            "the run: a folder, or fraction=0.2 of the run's own, which are then not measured. Shows "
            "whether both hold under corruption.",
        ),
    ] = None
    coverage: Annotated[
        float | None,
        typer.Option(
            "--coverage",
            metavar="SHARE",
            help="Share of images whose prediction set should contain the right class, with "
            "--calibrate; 0.9 by default.",
        ),
    ] = None

    def choose_coverage(self) -> float:
        """Return the given coverage, or the default.

        Raises:
            InputError: a coverage is given without calibration.
        """
        from shiftproof.bench.tasks.classification.calibrators import COVERAGE

        if self.coverage is None:
            return COVERAGE
        if self.calibrate is None:
            raise InputError("--coverage has an effect only with --calibrate.")
        return self.coverage


@dataclass(frozen=True)
class ClassOptions:
    """The classes of a classifier's outputs and of a dataset's folders."""

    classes: ClassesFile = None
    templates: Templates = None
    class_map: ClassMap = None


@dataclass(frozen=True)
class MeasurementOptions(AnytimeOptions, CalibrateOptions):
    """Options for classifiers: measuring one number or every cell, and calibration."""

    def check(self, models: int) -> None:
        """Refuse impossible budgets and precisions, and calibration if only one number is measured.

        Args:
            models: number of models.

        Raises:
            InputError: an invalid budget or precision, or options that contradict each other.
        """
        check_precision(self.precision)
        if self.budget is not None:
            parse_budget(self.budget)
        if self.compare and models < 2:
            raise InputError("--compare takes two models or more, each with a --model; got one.")
        if self.calibrate is not None and self.selecting_option is not None:
            raise InputError(
                f"{self.selecting_option} measures one number, and --calibrate every cell; leave one of "
                "the two out, or use --images N."
            )


@dataclass(frozen=True)
class CorruptionOptions:
    """Corruptions."""

    corruptions: Corruptions = "common"
    frost_dir: FrostFolder = None
    constants: Constants = "published"

    def describe(self) -> str:
        """Return the options as typed."""
        return f"corruptions {self.corruptions}"


@dataclass(frozen=True)
class ShiftOptions(CorruptionOptions):
    """Corruptions and severities."""

    severities: Severities = "1-5"

    def __post_init__(self) -> None:
        """Refuse severities that cannot be read before anything is loaded."""
        parse_severities(self.severities)

    @property
    def levels(self) -> list[int]:
        """The severities."""
        return parse_severities(self.severities)

    def describe(self) -> str:
        """Return the options as typed."""
        word = "severity" if self.severities.isdecimal() else "severities"
        return f"{super().describe()}, {word} {self.severities}"

    def choose(
        self, others: Sequence[str] = (), depth: str | None = None, *, from_copies: bool = False
    ) -> dict[str, str | CorruptionFunction]:
        """Return the corruptions by name.

        ``others`` are the corruptions of a -C tree that are not in the table; ``from_copies`` is true if
        such a tree is read instead of corrupting images.
        """
        from shiftproof.cli.corruption_choice import check_choice, resolve_corruptions

        corruptions = resolve_corruptions(
            self.corruptions, self.frost_dir, others, self.constants, depth
        )
        if not from_copies:
            check_choice(corruptions, self.levels)
        return corruptions


@dataclass(frozen=True)
class GridOptions:
    """Options of the protocol, and of the machine."""

    protocol: Annotated[
        str,
        typer.Option(
            "--protocol", "-p", metavar="TEXT", help=PROTOCOL_HELP, rich_help_panel=SHIFT_PANEL
        ),
    ] = "online"
    encode: Encode = "none"
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            "-b",
            min=1,
            metavar="INT",
            help="Images per batch; n of adaptation. 64 of classifiers, 8 of detectors, 4 of "
            "segmenters by default.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = None
    seed: Seed = 0
    device: Device = "auto"
    workers: Workers = None
    log: Annotated[
        list[str] | None,
        typer.Option("--log", metavar="NAME[:PLACE]", help=LOG_HELP, rich_help_panel=RUN_PANEL),
    ] = None

    def __post_init__(self) -> None:
        """Refuse invalid options before a model is loaded."""
        from shiftproof.bench.cells.protocol import parse_protocol

        parse_protocol(self.protocol)
        if self.log:
            from shiftproof.integrations import check_tracker

            for place in self.log:
                check_tracker(place)

    @property
    def parsed_protocol(self) -> Protocol:
        """The protocol."""
        from shiftproof.bench import parse_protocol

        return parse_protocol(self.protocol)


@dataclass(frozen=True)
class DeviceOptions:
    """Precision of the networks, and where images are corrupted."""

    dtype: Annotated[
        Dtype | None,
        typer.Option(
            "--dtype",
            metavar="NAME",
            help="Precision of the networks: fp32, the default but for a Classifier of your own, or "
            "bf16 or fp16 by torch's autocast, which is faster on a GPU and changes the figures "
            "slightly.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = None
    corrupt_on: Annotated[
        Literal["workers", "device"],
        typer.Option(
            "--corrupt-on",
            metavar="PLACE",
            help="workers, or device: batches are corrupted on the model's device. A GPU draws other "
            "noise, of the same distribution.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = "workers"


_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def parse_budget(text: str) -> float:
    """Parse a time such as ``10min``, ``45s`` or ``1.5h``; return seconds.

    Raises:
        InputError: it is not a time above 0.

    >>> parse_budget("1.5h")
    5400.0
    """
    match = re.fullmatch(r"\s*([\d.]+)\s*([a-z]+)\s*", text.lower())
    unit = _SECONDS.get(match[2]) if match else None
    try:
        amount = float(match[1]) if match else 0.0
    except ValueError:
        amount = 0.0
    if unit is None or not 0 < amount * unit < float("inf"):
        raise InputError(
            f"Expected a budget of time above 0, such as 45s, 10min or 1.5h, got {text!r:.40}."
        )
    return amount * unit


def check_precision(points: float | None) -> None:
    """Refuse an impossible half-width in points, before a model is loaded.

    Raises:
        InputError: it is not above 0 and below 100.
    """
    if points is not None and not 0 < points < 100:
        raise InputError(
            "--precision: expected the half-width of an interval in points, above 0 and below 100, "
            f"got {points:g}."
        )


def check_budget(
    budget: str | None,
    *,
    dry_run: bool,
    backend: Backend | None,
    adapt: str,
    precision: float | None = None,
    images: str | None = None,
) -> float | None:
    """Read the budget of a run of detectors or segmenters as seconds, before a model is loaded.

    Raises:
        InputError: the budget or the precision is invalid, or contradicts another option.
    """
    check_precision(precision)
    if budget is None:
        return None
    seconds = parse_budget(budget)
    chosen = images if split_images(images)[0] is not None else None
    for option, value in (("--precision", precision), ("--images", chosen)):
        if value is not None:
            raise InputError(
                f"--budget and {option} {value} both decide the number of images; give one of them."
            )
    if dry_run:
        raise InputError("--budget decides the number of images itself; leave it out of --dry-run.")
    if backend is not None:
        raise InputError(
            "--budget chooses the number of images by the speed of one process; leave out --engine, "
            "--worker and --of, or use --images N."
        )
    if parse_adapters(adapt):
        raise InputError(
            "--budget shows images in rounds, and an adapter learns from the order that it sees; leave "
            "out --adapt, or use --images N."
        )
    return seconds


def split_images(text: str | None) -> tuple[int | str | None, str | None]:
    """Parse ``--images``: a number of images, the name of a list, or their folder.

    Raises:
        InputError: it could be either, or is a number below 1.
    """
    if text is None:
        return None, None
    from shiftproof.data.subset import SUBSETS

    if text in ("0", "-0") or (text[:1] == "-" and text[1:].isdecimal()):
        raise InputError(f"--images: expected 1 image or more, got {text}.")
    if not (text.isdecimal() or text in SUBSETS):
        return None, text
    if Path(text).exists():
        raise InputError(f"--images {text} is also a folder; write ./{text} for the folder.")
    return int(text) if text.isdecimal() else text, None


def parse_adapters(text: str) -> list[str]:
    """Parse ``"batchnorm:prior=16 rpl"`` as a list of specs; ``none`` is an empty list.

    Raises:
        InputError: they are separated by commas.
    """
    specs = [] if text.strip() in ("", "none") else text.split()
    for spec in specs:
        if "," in spec.partition(":")[0]:
            raise InputError(
                f'Expected adapters separated by spaces, such as "batchnorm rpl"; got {spec!r}.'
            )
    return specs


def name_specs(specs: Sequence[str], out: Path | None = None) -> dict[str, str]:
    """Return specs by the names of their models in the run; a single model is called "source".

    If the run in the folder ``out`` has several models, it has its own name.

    Raises:
        InputError: two of them would have the same name.
    """
    if len(specs) == 1 and (out is None or not _holds_several(out)):
        return {"source": specs[0]}
    named: dict[str, str] = {}
    for spec in specs:
        name = make_short_name(spec)
        if name in named:
            raise InputError(
                f"Two models have the name {name!r}; run them one by one and compare the runs by "
                "`shiftproof report`."
            )
        named[name] = spec
    return named


def _holds_several(out: Path) -> bool:
    """Whether the folder has a run with several models."""
    if not out.is_dir():
        return False
    from shiftproof.runs.folder import RunFolder

    folder = RunFolder(out)
    settings = folder.info().get("settings") if folder.run_file.is_file() else None
    models = settings.get("models") if isinstance(settings, dict) else None
    return isinstance(models, dict) and bool(models) and list(models) != ["source"]


def make_short_name(spec: str) -> str:
    """Return the name of a model among several: the model part of its spec, as the name of a folder.

    It is never ``source``, the name of a single model.
    """
    target = spec.partition("?")[0].rpartition(":")[2]
    if spec.startswith("open_clip:") and target.count("/") == 1 and target[0] not in "./~":
        # Many architectures have weights with the same tag.
        target = target.replace("/", "-")
    stem = target.rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^\w.+-]+", "-", re.sub(r"\.(onnx|pt|pth|safetensors)$", "", stem)) or "model"
    return "source-model" if name == "source" else name
