"""The command line: parse, call one public function, show the result."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from shiftproof._version import __version__
from shiftproof.cli import (
    audit,
    bench,
    coreset,
    corrupt,
    corruptions,
    data,
    dedup,
    demo,
    embed,
    models,
    probe,
    prune,
    report,
    reproduce,
    score,
    stylize,
    subset,
)
from shiftproof.errors import InputError, MissingExtraError, ShiftproofError
from shiftproof.process import tune_own_process
from shiftproof.progress import console

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="shiftproof",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure how a vision model breaks when the world changes, and repair it without labels.",
    epilog="Start with:  shiftproof demo",
)

for verb in (
    demo,
    bench,
    score,
    data,
    corrupt,
    stylize,
    embed,
    audit,
    prune,
    dedup,
    coreset,
    subset,
    probe,
    report,
    reproduce,
    models,
    corruptions,
):
    verb.register(app)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"shiftproof {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and leave."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0, 1 (failed), 2 (bad input), 130 (interrupted)."""
    tune_own_process()
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; errors become one clear line."""
    debug = "--debug" in arguments
    if debug:
        # Wherever it was typed: before the verb or behind it.
        arguments = ["--debug", *(word for word in arguments if word != "--debug")]
    try:
        result = app(arguments, standalone_mode=False)
    except KeyboardInterrupt:
        result = EXIT_INTERRUPTED
    except ShiftproofError as error:
        if debug:
            raise
        _complain(str(error))
        return (
            EXIT_BAD_INPUT if isinstance(error, (InputError, MissingExtraError)) else EXIT_FAILURE
        )
    except Exception as error:
        # Typer's own complaints about the words that were typed. Their class is click's or that of a
        # copy of click inside of typer, by typer's version; they show themselves either way.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            return int(error.exit_code)
        if debug:
            raise
        _complain(
            f"{type(error).__name__}: {error}. This is a fault of shiftproof; run again with "
            "--debug and report what it prints."
        )
        return EXIT_FAILURE
    if result == EXIT_INTERRUPTED:  # typer turns Ctrl-C into this
        console.print(
            "\nInterrupted. What is finished is kept; the same command goes on from there.",
            highlight=False,
        )
    return result if isinstance(result, int) else 0


def _complain(message: str) -> None:
    console.print("[bold red]error:[/] ", end="")
    console.print(message, markup=False, highlight=False, soft_wrap=True)
