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
from shiftproof.counts import pluralize
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
        bool, typer.Option("--force", help="Overwrite an existing shiftproof.toml.")
    ] = False,
) -> None:
    """Inspect a model and data, and write shiftproof.toml, which every verb reads in this folder.

    On a terminal it asks for missing options.
    """
    if FILE.exists() and not force:
        raise InputError(f"{FILE} exists already; --force overwrites it.")
    _check_terminal(model, data)
    if data and model:
        announce(f"Looking at {model} and {data}")
    spec = name_model(model) if model else _ask_model()
    inspected_data = (
        inspect_data(data) if data else ask_until_valid(lambda: inspect_data(_ask(DATA)), complain)
    )
    chosen = task or _ask_task(inspected_data)
    inspected_model = _look_at_model(spec, chosen, is_guessed=task is None)
    for note in (
        *inspected_model.notes,
        *inspected_data.notes,
        *match_folders(inspected_model, inspected_data, chosen),
    ):
        print_line(note)
    classes = _write_classes(inspected_model, inspected_data, force=force)
    named = inspected_model if classes is None else drop_numbered_note(inspected_model)
    settings = write_settings(named, inspected_data, chosen, classes)
    write_bytes(FILE, settings.encode("utf-8"))
    print_line(f"Wrote {FILE}. Next: shiftproof {VERBS[chosen]} --dry-run, which estimates a run;")
    print_line(f"then shiftproof {VERBS[chosen]}.")


def _write_classes(model: Inspected, data: Inspected, *, force: bool) -> str | None:
    """Write the names of the classes if the model only has numbers; return the name of the file."""
    names = name_classes(model, data)
    if not names:
        return None
    if CLASSES.exists() and not force:
        print_line(f"{CLASSES} exists already; its names are used for the model's classes.")
        return str(CLASSES)
    write_bytes(CLASSES, names.encode("utf-8"))
    print_line(
        f"Wrote {CLASSES}: the model's {pluralize(model.numbered, 'class')} get the names of the folders in "
        "alphabetical order, as in torchvision's ImageFolder. Edit it if yours differ."
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
        complain(f"Unknown task {answer!r}; expected one of {', '.join(VERBS)}.")
    return next(task for task in VERBS if task == answer)
