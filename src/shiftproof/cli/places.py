"""URLs in place of paths: what is behind them is fetched before a verb runs, and outputs are sent."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from shiftproof.errors import InputError, UnfinishedError
from shiftproof.io.away import CACHE
from shiftproof.io.border import show_as
from shiftproof.io.urls import redact_urls

_NAMED_URL = re.compile(
    r"(?P<name>(?:[^=:/?#]+=)?)(?P<url>[A-Za-z][A-Za-z0-9+.\-]+://.+)", re.DOTALL
)

_DATA = frozenset({"calibrate", "data", "predictions", "source", "tars"})

_FETCHED = _DATA | {
    "audit", "baseline", "calibration", "candidate", "class_map", "classes", "clean", "corrupted",
    "depth", "frost_dir", "images", "keep", "masks", "metadata", "root", "run", "runs", "styles",
    "texts", "train_images", "weights",
}  # fmt: skip
"""Parameters of all verbs that name what is read, and is fetched. Embeddings (``train``, ``test``, ...)
are read where they lie."""

_TARS_WHERE_THEY_LIE = frozenset({"bench", "breaking", "data", "embed", "evaluate", "probe"})
"""Verbs that read tars behind URLs without fetching them whole."""

_FOLDERS = frozenset({"out", "target"})

_FILES = frozenset(
    {("compare", "junit"), ("compare", "markdown"), ("corruptions", "out"), ("export", "target"),
     ("report", "out")}
)  # fmt: skip
"""Verbs and their parameters that name a file that is written."""

_CHANGED = frozenset({("conditions", "run"), ("report", "runs")})
"""Verbs and their parameters that name a run into which something is written."""

_NO_URLS = frozenset({"init"})
"""Verbs that write down what data was called, for later commands."""


@dataclass(frozen=True)
class Word:
    """A word of a command that names a place behind a URL.

    Attributes:
        parameter: of the verb.
        name: what stands before the URL, such as ``"sketch="``.
        url: the URL.
    """

    parameter: str
    name: str
    url: str


@dataclass
class Places:
    """The places behind URLs that a command names.

    Attributes:
        verb: the verb.
        changes: whether the verb writes what it is asked to: not when it only plans.
        outputs: the URLs of folders that are written.
        files: the URLs of files that are written.
    """

    verb: str
    changes: bool = True
    outputs: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def replace(self, word: Word) -> str:
        """Return what stands in for a word here; what is read is fetched now.

        Raises:
            InputError: as :func:`shiftproof.storage.fetch`.
        """
        from shiftproof import storage

        use = (self.verb, word.parameter)
        if use in _FILES:
            self.files.append(word.url)
            return word.name + str(storage.find_output_file(word.url))
        if use in _CHANGED or word.parameter in _FOLDERS:
            if not self.changes:
                # Nothing is written, and nothing need be claimed: a name that no folder has will do.
                path = Path(tempfile.gettempdir(), f"shiftproof-{secrets.token_hex(8)}")
                show_as(str(path), redact_urls(word.url))
                return word.name + str(path)
            self.outputs.append(word.url)
            return word.name + str(storage.find_output(word.url))
        if self._is_read_there(word):
            return word.name + word.url
        return word.name + str(storage.fetch(word.url))

    def _is_read_there(self, word: Word) -> bool:
        from shiftproof import storage

        is_data = word.parameter in ("data", "source")
        return is_data and self.verb in _TARS_WHERE_THEY_LIE and storage.holds_tars(word.url)

    def work(self, run: Callable[..., Any], options: dict[str, Any]) -> Any:
        """Call a verb's function, and send its outputs while it runs and when it has ended well."""
        with contextlib.ExitStack() as stack:
            self._open(stack)
            try:
                return run(**options)
            except typer.Exit as ended:
                if ended.exit_code not in (0, 3) or isinstance(ended.__cause__, UnfinishedError):
                    raise
                left = ended
        raise left

    def _open(self, stack: contextlib.ExitStack) -> None:
        from shiftproof import storage

        for url in dict.fromkeys(self.outputs):
            stack.enter_context(storage.write_to(url))
        for url in dict.fromkeys(self.files):
            stack.enter_context(storage.write_file_to(url))


def take_urls(
    context: Any,
    words: Sequence[str],
    defaults: dict[str, Any],
    make: Callable[[list[str], dict[str, Any]], Any],
) -> None:
    """Make a verb's function take URLs in place of paths, where its command names some.

    When the verb is called, and so all its words are known to be good ones, what is behind them is
    fetched, and the words are read once more with paths of this machine.

    Args:
        context: of the verb, as it was made of the words.
        words: of the command line, behind the verb.
        defaults: what ``shiftproof.toml`` says, by parameter.
        make: makes a context of words and defaults.
    """
    found = dict(_find(context.command, words))
    stated = {
        name
        for name, value in defaults.items()
        if name in _FETCHED | _FOLDERS and any(map(_NAMED_URL.fullmatch, _texts(value)))
    }
    if not stated and not any(map(_concerns, found.values())):
        return
    run = context.command.callback

    def work(**_: Any) -> Any:
        _check(context, found)
        places = Places(str(context.info_name), changes=not {"--dry-run", "--plan"} & set(words))
        new_words = list(words)
        for place, (before, word) in found.items():
            if _concerns((before, word)):
                new_words[place] = before + places.replace(word)
        new_defaults = {
            name: _replace_default(places, name, value) if name in stated else value
            for name, value in defaults.items()
        }
        return places.work(run, make(new_words, new_defaults).params)

    context.command.callback = work


def _check(context: Any, found: dict[int, tuple[str, Word]]) -> None:
    """Refuse what is not done with URLs.

    Raises:
        InputError: says what to do instead.
    """
    verb = str(context.info_name)
    if verb in _NO_URLS:
        raise InputError(
            f"{verb} takes data of this machine; fetch a part of what is behind the URL, and change the "
            "path in shiftproof.toml afterwards."
        )
    _check_machines(context.params)
    if verb == "report":
        _check_report(found)


def _concerns(found: tuple[str, Word]) -> bool:
    return found[1].parameter in _FETCHED | _FOLDERS | {name for _, name in _FILES}


def _check_machines(options: dict[str, Any]) -> None:
    """Refuse copies on this machine for work on others, which do not see them."""
    on_others = options.get("engine") == "ray" and options.get("address") is not None
    if on_others and CACHE not in os.environ:
        raise InputError(
            "What is behind a URL is copied to this machine, and the cluster's others do not see it: set "
            f"{CACHE} to a folder on a disk that all share. Tars and embeddings behind URLs need no copy."
        )


def _check_report(found: dict[int, tuple[str, Word]]) -> None:
    runs = [word for _, word in found.values() if word.parameter == "runs"]
    if len(runs) > 1:
        raise InputError(
            "report takes one run behind a URL, and writes its page there; fetch the others."
        )


def _replace_default(places: Places, name: str, value: Any) -> Any:
    replaced = [
        places.replace(Word(name, match["name"], match["url"]))
        if (match := _NAMED_URL.fullmatch(text))
        else text
        for text in _texts(value)
    ]
    return replaced if isinstance(value, list) else replaced[0]


def _texts(value: Any) -> list[str]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def _find(command: Any, words: Sequence[str]) -> Iterator[tuple[int, tuple[str, Word]]]:
    """Yield the place of each word with a URL, what is before the URL's value, and the word."""
    options = {
        spelling: option
        for option in command.params
        if option.param_type_name == "option"
        for spelling in (*option.opts, *option.secondary_opts)
    }
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    place = 0
    while place < len(words):
        word = words[place]
        spelling, equals, value = word.partition("=")
        option = options.get(spelling) if word.startswith("-") else None
        if option is not None and not equals and not getattr(option, "is_flag", False):
            place += 1
            if place < len(words) and (match := _NAMED_URL.fullmatch(words[place])):
                yield place, ("", Word(option.name, match["name"], match["url"]))
        elif option is not None and equals and (match := _NAMED_URL.fullmatch(value)):
            yield place, (f"{spelling}=", Word(option.name, match["name"], match["url"]))
        elif option is None and not word.startswith("-") and arguments:
            argument = arguments[0] if arguments[0].nargs == -1 else arguments.pop(0)
            if match := _NAMED_URL.fullmatch(word):
                yield place, ("", Word(argument.name, match["name"], match["url"]))
        place += 1
