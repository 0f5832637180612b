"""The verbs, each with a description and its module, which is imported when the verb is called."""

from __future__ import annotations

import copy
import functools
import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from shiftproof.cli.config import attribute_to_file, describe_defaults, read_defaults
from shiftproof.cli.url_arguments import accept_urls, expand_home

PANELS: dict[str, dict[str, str]] = {
    "Every day": {
        "bench": "Classifiers under corruption, and what adaptation brings back.",
        "detect": "Object detectors under corruption: mPC and rPC.",
        "segment": "Semantic segmentation under corruption: mIoU, mPC, rPC.",
        "report": "Make the page of a run again, or compare runs.",
        "compare": "Two runs, paired by image; a gate for a pipeline.",
    },
    "Start, and look things up": {
        "demo": "A whole run on 20 photographs with a model, both included.",
        "init": "Write shiftproof.toml for your model and data.",
        "data": "Say how a folder or file is recognized.",
        "models": "How models and adapters are named.",
        "corruptions": "List the corruptions and their sets, or show them.",
        "doctor": "What is installed here, and what is missing.",
    },
    "Measure something else": {
        "breaking": "The severity at which each answer of a classifier breaks.",
        "perturb": "How often predictions flip while images change (ImageNet-P).",
        "score": "Results of other frameworks under corruption; no model.",
        "evaluate": "The accuracy of classifiers on several test sets.",
        "probe": "What an encoder keeps of an image, and what it has lost.",
        "conditions": "A finished run by weather, time of day or other metadata.",
        "reproduce": "Repeat a paper's experiment.",
    },
    "Write images, models or logs": {
        "corrupt": "Write corrupted copies of images or of a dataset.",
        "stylize": "Write copies of training data in the style of paintings.",
        "export": "An ONNX file that adapts to its images by itself.",
        "log": "Finished runs in MLflow, Weights & Biases, TensorBoard.",
    },
    "Compare training data with test data": {
        "embed": "Write images or texts as vectors.",
        "audit": "How close a training set comes to test sets.",
        "plan": "Estimate what an audit of so many rows takes.",
        "prune": "Leave out training rows that come close to test sets.",
        "dedup": "Leave out training rows that are nearly copies.",
        "coreset": "Choose the training rows that lie closest to test sets.",
        "subset": "Apply a keep-list to embeddings and tars.",
    },
}
"""The verbs by what one wants to do; order and sentences are those of ``--help``."""

VERBS: dict[str, str] = {name: told for verbs in PANELS.values() for name, told in verbs.items()}
"""Each verb is a file of this folder that has ``register``."""

_COMPLETION = {
    "install_completion": "Set up completion for this shell.",
    "show_completion": "Print that set-up.",
}
"""Sentences of one line in place of typer's, so that the everyday verbs are seen at once."""


class Verb(TyperCommand):
    """A verb's name and description; the rest comes from the command in its file."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Parse the verb's arguments by the command in its file, which then runs.

        Options that were not typed have their values from ``shiftproof.toml``.
        """
        command = load_verb(str(self.name))
        words = list(args)
        if {"-h", "--help"} & set(words) or extra.get("resilient_parsing", False):
            return command.make_context(info_name, args, parent, **extra)
        is_switched_off = parent is not None and parent.params.get("no_config", False)
        defaults = {} if is_switched_off else read_defaults(command, list(VERBS), load_verb)
        make = functools.partial(_make, command, info_name, parent, extra)
        context = make(words, defaults)
        describe_defaults(context, defaults)
        accept_urls(context, words, defaults, make)
        return context


def _make(
    command: Any,
    name: str | None,
    parent: Any,
    extra: dict[str, Any],
    words: list[str],
    defaults: dict[str, Any],
) -> Any:
    """Return the context of a verb; errors about values of ``shiftproof.toml`` name that file."""
    expanded = {key: _expand_default(value) for key, value in defaults.items()}
    try:
        # A copy, since make_context consumes the list.
        return command.make_context(
            name, [*map(expand_home, words)], parent, default_map=expanded or None, **extra
        )
    except Exception as error:
        attributed = attribute_to_file(error, defaults, words, str(command.name))
        if attributed is error:
            raise
        raise attributed from error


def _expand_default(value: Any) -> Any:
    if isinstance(value, list):
        return [expand_home(item) if isinstance(item, str) else item for item in value]
    return expand_home(value) if isinstance(value, str) else value


class Verbs(TyperGroup):
    """The command line as a group of verbs, none of which is imported before it is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {
            name: Verb(name, help=told, rich_markup_mode="rich", rich_help_panel=panel)
            for panel, verbs in PANELS.items()
            for name, told in verbs.items()
        }

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options of all verbs."""
        found = super().get_params(ctx)
        for option in found:
            if option.name in _COMPLETION:
                vars(option)["help"] = _COMPLETION[option.name]
        return found


def load_verb(name: str) -> Any:
    """Import a verb's file and return its command, which the caller may change."""
    return copy.copy(_make_command(name))


@functools.cache
def _make_command(name: str) -> Any:
    # typer inspects every option, which takes as long as a short command needs for its work.
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    importlib.import_module(f"shiftproof.cli.{name}").register(app)
    return get_command(app)
