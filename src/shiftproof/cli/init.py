"""``shiftproof init``: a file of settings for a model and data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from shiftproof.cli.config import FILE
from shiftproof.cli.first_settings import (
    VERBS,
    Inspected,
    Task,
    ask_until_valid,
    drop_numbered_note,
    inspect_data,
    inspect_model,
    match_folders,
    name_classes,
    name_model,
    write_settings,
)
from shiftproof.cli.options import data_option, model_option
from shiftproof.cli.printing import announce, complain, print_line
from shiftproof.counts import plural
from shiftproof.errors import BrokenFileError, InputError
from shiftproof.io.files import write_bytes

CLASSES = Path("classes.txt")
MODEL = "Model (a file, or SOURCE:NAME such as timm:resnet50)"
DATA = "Data (a folder or file; demo for 20 photographs)"
TASK = "Task (classification, detection, segmentation)"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "init",
        epilog="Examples:  shiftproof init  ·  "
        "shiftproof init --model timm:resnet50 --data photos --task classification",
    )(init)


def init(
    model: Annotated[
        str | None,
        model_option(
            "A file of weights or of ONNX, a folder of transformers, python:MODULE:FUNCTION for a "
            "network of your own, or SOURCE:NAME; `shiftproof models` lists the sources."
        ),
    ] = None,
    data: Annotated[
        str | None,
        data_option("A dataset, or a folder of images."),
    ] = None,
    task: Annotated[
        Task | None,
        typer.Option("--task", metavar="NAME", help="classification, detection or segmentation."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over a shiftproof.toml that is there.")
    ] = False,
) -> None:
    """Look at a model and data, and write shiftproof.toml, which every verb reads in this folder.

    Asks for what is not given, where there is a terminal to ask on.
    """
    if FILE.exists() and not force:
        raise InputError(f"{FILE} is there already; --force writes over it.")
    _check_terminal(model, data)
    if data and model:
        announce(f"Looking at {model} and {data}")
    spec = name_model(model) if model else _ask_model()
    seen_data = (
        inspect_data(data) if data else ask_until_valid(lambda: inspect_data(_ask(DATA)), complain)
    )
    chosen = task or _ask_task(seen_data)
    seen_model = _look_at_model(spec, chosen, is_guessed=task is None)
    for note in (
        *seen_model.notes,
        *seen_data.notes,
        *match_folders(seen_model, seen_data, chosen),
    ):
        print_line(note)
    classes = _write_classes(seen_model, seen_data, force=force)
    named = seen_model if classes is None else drop_numbered_note(seen_model)
    settings = write_settings(named, seen_data, chosen, classes)
    write_bytes(FILE, settings.encode("utf-8"))
    print_line(
        f"Wrote {FILE}. Next: shiftproof {VERBS[chosen]} --dry-run, which says what a run takes;"
    )
    print_line(f"then shiftproof {VERBS[chosen]}.")


def _write_classes(model: Inspected, data: Inspected, *, force: bool) -> str | None:
    """Write the names of the classes if the model only has numbers; return the name of the file."""
    names = name_classes(model, data)
    if not names:
        return None
    if CLASSES.exists() and not force:
        print_line(f"{CLASSES} is there already and is taken for the names of the model's classes.")
        return str(CLASSES)
    write_bytes(CLASSES, names.encode("utf-8"))
    print_line(
        f"Wrote {CLASSES}: the model's {plural(model.numbered, 'class')} take the names of the "
        f"folders in "
        "alphabetical order, as torchvision's ImageFolder numbers them. Mend it if yours differ."
    )
    return str(CLASSES)


def _check_terminal(model: str | None, data: str | None) -> None:
    missing = [name for name, value in (("--model", model), ("--data", data)) if not value]
    if missing and not sys.stdin.isatty():
        raise InputError(
            f"Expected {' and '.join(missing)}: there is no terminal to ask on. "
            "Example: shiftproof init --model timm:resnet50 --data photos"
        )


def _look_at_model(spec: str, task: Task, *, is_guessed: bool) -> Inspected:
    try:
        return inspect_model(spec, task)
    except InputError as error:
        if not is_guessed or isinstance(error, BrokenFileError):
            raise
        others = " or ".join(other for other in VERBS if other != task)
        raise InputError(
            f"{error} It was tried for {task}; for another, --task {others}."
        ) from error


def _ask(question: str, default: str | None = None) -> str:
    return str(typer.prompt(question, default=default, err=True)).strip()


def _ask_model() -> str:
    return ask_until_valid(lambda: Inspected(name_model(_ask(MODEL))), complain).value


def _ask_task(data: Inspected) -> Task:
    """Return the task that the data suggest; at a terminal it has to be confirmed."""
    likely: Task = data.task or "classification"
    if not sys.stdin.isatty():
        return likely
    while (answer := _ask(TASK, likely)) not in VERBS:
        complain(f"{answer!r} is no task; expected one of {', '.join(VERBS)}.")
    return next(task for task in VERBS if task == answer)
