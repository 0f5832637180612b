"""Command-line options of embeddings, and of searches over them."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from shiftproof.cli.options import json_option
from shiftproof.cli.part_options import PartOptions
from shiftproof.cli.printing import print_line
from shiftproof.counts import pluralize
from shiftproof.errors import InputError
from shiftproof.io.locations import is_url

if TYPE_CHECKING:
    from shiftproof.similarity import Embeddings, Sharding

Precision: TypeAlias = Literal["auto", "int8", "fp32", "fp16", "bf16"]

TRAIN_HELP = (
    "Embeddings of the training set: an .npy or .npz file, or a folder of shards of clip-retrieval, "
    "DataComp or `shiftproof embed`; also a URL such as s3://..."
)
TEST_HELP = "NAME=PATH, embeddings of a test set; once for each."

Train = Annotated[str, typer.Argument(help=TRAIN_HELP)]
Test = Annotated[list[str], typer.Option("--test", "-t", metavar="NAME=PATH", help=TEST_HELP)]
Reference = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="PATH",
        help="Embeddings of the training set to compare with, such as ImageNet's.",
    ),
]
KeepFolder = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the keep-lists.")
]
Json = Annotated[bool, json_option("Print the results as JSON.")]

_ROWS_PANEL = "How embeddings are read"
_SEARCH_PANEL = "How and where to search; the results are the same"

Memory = Annotated[
    str,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Memory limit, such as 4GB.",
        rich_help_panel=_SEARCH_PANEL,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", "-w", metavar="INT", min=0, rich_help_panel=_SEARCH_PANEL,
        help="Processes, or tasks on Ray, at a time; one per core by default.",
    ),
]  # fmt: skip
PrecisionName = Annotated[
    Precision,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="Precision of the first products: auto, int8, fp32, fp16 or bf16.",
        rich_help_panel=_SEARCH_PANEL,
    ),
]


@dataclass(frozen=True)
class RowOptions:
    """Options of reading embeddings."""

    array: Annotated[
        str | None,
        typer.Option(
            "--array",
            metavar="NAME",
            help="Which array of an .npz, such as l14_img.",
            rich_help_panel=_ROWS_PANEL,
        ),
    ] = None
    normalize: Annotated[
        bool,
        typer.Option(
            "--normalize",
            "--normalise",
            help="Scale rows to length 1.",
            rich_help_panel=_ROWS_PANEL,
        ),
    ] = False
    unusable: Annotated[
        Literal["refuse", "skip"],
        typer.Option(
            "--unusable", metavar="NAME", rich_help_panel=_ROWS_PANEL,
            help="Training rows that are zero, not finite or not of length 1: refuse or skip.",
        ),
    ] = "refuse"  # fmt: skip

    def open(self, path: str) -> Embeddings:
        """Open training rows."""
        return self._open(path, self.unusable)

    def open_reference(self, path: str | None) -> Embeddings | None:
        """Open the reference set, if given."""
        return None if path is None else self.open(path)

    def open_tests(self, arguments: Sequence[str]) -> dict[str, Embeddings]:
        """Open the test sets, all rows of which must be usable."""
        return {
            name: self._open(path, "refuse")
            for name, path in parse_named(arguments, "--test").items()
        }

    def _open(self, path: str, unusable: Literal["refuse", "skip"]) -> Embeddings:
        from shiftproof.similarity import open_embeddings

        return open_embeddings(path, array=self.array, normalize=self.normalize, unusable=unusable)


@dataclass(frozen=True)
class ShardingOptions(PartOptions):
    """Options of a search in parts."""

    workers: Workers = None
    memory: Memory = "4GB"
    precision: PrecisionName = "auto"
    device: Annotated[
        str,
        typer.Option(
            "--device", metavar="NAME", rich_help_panel=_SEARCH_PANEL,
            help="Device of the products: cpu, cuda, cuda:1, or auto for CUDA if it is available.",
        ),
    ] = "auto"  # fmt: skip
    part_rows: Annotated[
        str | None,
        typer.Option(
            "--part-rows", metavar="COUNT", rich_help_panel=_SEARCH_PANEL,
            help="Training rows of a part, such as 500k.",
        ),
    ] = None  # fmt: skip

    def sharding(self, out: Path) -> Sharding:
        """Return how a search is split into parts, and the folder that stores them."""
        from shiftproof.shards import Local
        from shiftproof.similarity import Sharding
        from shiftproof.similarity.plan import parse_count

        rows = None if self.part_rows is None else parse_count(self.part_rows)
        backend = self.choose(self.workers) or Local(self.workers)
        return Sharding(out, backend, self.precision, self.memory, rows, self._find_device())

    def _find_device(self) -> str:
        """Return the device of the products; ``auto`` is CUDA if this machine has it."""
        if self.device != "auto":
            return self.device
        # Ray's workers may be on machines unlike this one, and torch takes seconds to import.
        if self.engine == "ray" or shutil.which("nvidia-smi") is None:
            return "cpu"
        if importlib.util.find_spec("torch") is None:
            return "cpu"
        from shiftproof.models.structure import find_device

        device = str(find_device("auto"))
        return device if device.startswith("cuda") else "cpu"


def parse_named(arguments: Sequence[str], option: str) -> dict[str, str]:
    """Parse arguments such as ``"sketch=vectors/sketch"``; a path alone is named by its last part."""
    named: dict[str, str] = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not equals or "/" in name or "\\" in name:
            # An = in a folder's name, or in the query of a URL.
            bare = argument.partition("?")[0] if is_url(argument) else argument
            name, path = Path(bare).stem, argument
        if not name or not path:
            raise InputError(f"{option}: expected NAME=PATH, got {argument!r}.")
        if name in named:
            raise InputError(f"{option}: {name} is given twice; use different names.")
        named[name] = path
    return named


def describe_tests(arguments: Sequence[str]) -> str:
    """Return the names of the test sets, for a sentence."""
    return ", ".join(parse_named(arguments, "--test"))


def print_notice(sentence: str) -> None:
    """Print a notice before a search to standard error."""
    print_line(sentence, error=True)


def show_kept(result: dict[str, Any], out: Path) -> None:
    """Print how many rows are kept, and the files of the list."""
    verb = "stays" if result["kept"] == 1 else "stay"
    print_line(
        f"{result['kept']:,} of {pluralize(result['rows'], 'row')} {verb} ({result['share']:.2%})"
    )
    for name in result["files"]:
        print_line(f"written  {out / name}")
    if result["no_uids"] is not None:
        print_line(f"no {out / 'uids.npy'}: {result['no_uids']}", error=True)
