"""How embeddings, and where they are searched, are spelt on the command line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shiftproof.cli.printing import say
from shiftproof.errors import InputError, UnfinishedError, UnknownNameError

if TYPE_CHECKING:
    from shiftproof.shards import Backend
    from shiftproof.similarity import Embeddings, Place
    from shiftproof.similarity.search.options import Precision

TRAIN_HELP = (
    "Embeddings of the training set: an .npy or .npz file, or a folder of shards as clip-retrieval, "
    "DataComp or `shiftproof embed` lay it out; a URL such as s3://... works, too."
)
TEST_HELP = "NAME=PATH, embeddings of a test set; once for each."

Train = Annotated[str, typer.Argument(help=TRAIN_HELP)]
Test = Annotated[list[str], typer.Option("--test", "-t", help=TEST_HELP)]
Reference = Annotated[
    str | None,
    typer.Option(
        "--reference", help="Embeddings of the training set to compare with, such as ImageNet's."
    ),
]
KeepFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder for the keep-lists.")]
Array = Annotated[
    str | None, typer.Option("--array", help="Which array of an .npz, such as l14_img.")
]
Normalise = Annotated[bool, typer.Option("--normalise", help="Scale rows to length 1.")]
Unusable = Annotated[
    str,
    typer.Option(
        "--unusable",
        help="Training rows that are zero, not finite or not of length 1: refuse, or skip.",
    ),
]
Engine = Annotated[
    str,
    typer.Option("--engine", "-e", help="local (processes of this machine) or ray."),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Of a Ray cluster, such as auto or ray://host:10001; without it Ray starts here.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        "-w",
        min=0,
        help="Processes, or tasks on Ray, at a time; one per core by default.",
    ),
]
Worker = Annotated[
    int | None,
    typer.Option(
        "--worker",
        help="Which of --of commands this is, from 0 up, for batch schedulers such as Slurm.",
    ),
]
Of = Annotated[int | None, typer.Option("--of", help="How many commands share the work.")]
Memory = Annotated[str, typer.Option("--memory", help="How much may be held, such as 4GB.")]
PrecisionName = Annotated[
    str,
    typer.Option(
        "--precision",
        help="auto, int8, fp32, fp16 or bf16: how long it takes, not what comes out.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", help="cpu, cuda or cuda:1: where products are made, not what comes out."
    ),
]
PartRows = Annotated[
    str | None,
    typer.Option("--part-rows", help="Training rows that are done at a time, such as 500k."),
]
Json = Annotated[bool, typer.Option("--json", help="Print what came out as JSON.")]


def parse_precision(text: str) -> Precision:
    """Read a precision."""
    known: dict[str, Precision] = {
        "auto": "auto", "int8": "int8", "fp32": "fp32", "fp16": "fp16", "bf16": "bf16",
    }  # fmt: skip
    if text not in known:
        raise UnknownNameError.of("precision", text, known)
    return known[text]


def parse_named(words: Sequence[str], option: str) -> dict[str, str]:
    """Read words such as ``"sketch=vectors/sketch"``; a path alone is named by its last part."""
    named: dict[str, str] = {}
    for word in words:
        name, sign, path = word.partition("=")
        if not sign:
            name, path = Path(word).stem, word
        if not name or not path:
            raise InputError(f"{option}: expected NAME=PATH, got {word!r}.")
        if name in named:
            raise InputError(f"{option}: {name} is there twice; give each a name of its own.")
        named[name] = path
    return named


def open_source(path: str, array: str | None, normalise: bool, unusable: str) -> Embeddings:
    """Open embeddings as the options say."""
    from shiftproof.similarity import open_embeddings

    if unusable not in ("refuse", "skip"):
        raise UnknownNameError.of("choice for unusable rows", unusable, ["refuse", "skip"])
    return open_embeddings(
        path,
        array=array,
        normalise=normalise,
        unusable="skip" if unusable == "skip" else "refuse",
    )


def open_tests(given: Sequence[str], array: str | None, normalise: bool) -> dict[str, Embeddings]:
    """Open the test sets, all rows of which must be usable."""
    return {
        name: open_source(path, array, normalise, "refuse")
        for name, path in parse_named(given, "--test").items()
    }


@contextlib.contextmanager
def share_of(worker: int | None) -> Iterator[None]:
    """Let a command of several end well when its share is done and others' are not."""
    try:
        yield
    except UnfinishedError as error:
        if worker is None:
            raise
        say(f"This worker's share is done. {error}")
        raise typer.Exit from None


def choose_backend(
    engine: str,
    address: str | None,
    workers: int | None,
    worker: int | None,
    of: int | None,
) -> Backend:
    """Return where the work is done."""
    from shiftproof.shards import Local, Ray, Scheduled

    if engine not in ("local", "ray"):
        raise UnknownNameError.of("engine", engine, ["local", "ray"])
    if (worker is None) != (of is None):
        raise InputError("--worker and --of belong together: worker 0 to N-1 of N.")
    if engine == "ray":
        if worker is not None:
            raise InputError("--worker is for batch schedulers; leave it out with --engine ray.")
        return Ray(address, workers)
    if address is not None:
        raise InputError("--address has an effect with --engine ray only.")
    if worker is not None and of is not None:
        return Scheduled(worker, of, workers)
    return Local(workers)


def place_of(
    out: Path,
    backend: Backend,
    memory: str,
    precision: str,
    device: str,
    part_rows: str | None,
) -> Place:
    """Return where a search in parts is made, and how."""
    from shiftproof.similarity import Place
    from shiftproof.similarity.plan import parse_count

    rows = None if part_rows is None else parse_count(part_rows)
    return Place(out, backend, parse_precision(precision), memory, rows, device)


def say_beside(sentence: str) -> None:
    """Show what is to be known before a search, beside what it prints."""
    say(sentence, error=True)


def show_kept(told: dict[str, Any], out: Path) -> None:
    """Say how many rows stay, and where it is written."""
    say(f"{told['kept']:,} of {told['rows']:,} rows stay ({told['share']:.2%})")
    for name in told["files"]:
        say(f"written  {out / name}")
    if told["no_uids"] is not None:
        say(f"no {out / 'uids.npy'}: {told['no_uids']}", error=True)
