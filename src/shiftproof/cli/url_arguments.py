"""URLs in place of paths on the command line: inputs are fetched, and outputs are uploaded."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from shiftproof.cli.printing import announce
from shiftproof.errors import InputError, UnfinishedError
from shiftproof.io.placeholders import CACHE

_NAMED_URL = re.compile(
    r"(?P<name>(?:[^=:/?#]+=)?)(?P<url>[A-Za-z][A-Za-z0-9+.\-]+://.+)", re.DOTALL
)

_DATA = frozenset({"calibrate", "data", "predictions", "source", "tars"})

_FETCHED = _DATA | {
    "among", "audit", "baseline", "calibration", "candidate", "class_map", "classes", "clean",
    "corrupted", "depth", "frost_dir", "images", "keep", "masks", "metadata", "root", "run", "runs",
    "show", "styles", "texts", "train_images", "weights",
}  # fmt: skip
"""Parameters of all verbs for inputs that are fetched. Embeddings (``train``, ``test``, ...) are read
remotely."""

_REMOTE_TARS = frozenset({"bench", "breaking", "data", "embed", "evaluate", "probe"})
"""Verbs that read tars at URLs without fetching them."""

_FOLDERS = frozenset({"out", "target"})

_FILES = frozenset(
    {("compare", "junit"), ("compare", "markdown"), ("corruptions", "out"), ("export", "target"),
     ("report", "out")}
)  # fmt: skip
"""Verbs and their parameters for output files."""

_UPDATED = frozenset({("conditions", "run"), ("report", "runs")})
"""Verbs and their parameters for runs that they add files to."""

_WRITES_ELSEWHERE = frozenset({"corrupt", "stylize"})
"""Verbs whose tasks write files on the cluster; the tasks of other verbs return them."""

_NO_URLS = frozenset({"init"})
"""Verbs that store the path of data for later commands."""


@dataclass(frozen=True)
class UrlWord:
    """A word of a command that contains a URL.

    Attributes:
        parameter: the verb's parameter.
        name: the text before the URL, such as ``"sketch="``.
        url: the URL.
        option: the option before the value, such as ``"--data="``, if both are one word.
    """

    parameter: str
    name: str
    url: str
    option: str = ""

    @property
    def is_file(self) -> bool:
        """Whether the URL stands for local files, instead of being read remotely."""
        return self.parameter in _FETCHED | _FOLDERS | {name for _, name in _FILES}


@dataclass
class UrlArguments:
    """The URLs of a command.

    Attributes:
        verb: the verb.
        changes: whether the verb writes outputs; False for a dry run or plan.
        worker: index and count of the commands that share the outputs; None for the only one.
        outputs: URLs of output folders.
        files: URLs of output files.
    """

    verb: str
    changes: bool = True
    worker: tuple[int, int] | None = None
    outputs: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def replace(self, word: UrlWord) -> str:
        """Return a word with a local path in place of its URL; inputs are fetched.

        Raises:
            InputError: as :func:`shiftproof.storage.fetch`.
        """
        from shiftproof import storage

        use = (self.verb, word.parameter)
        if use in _FILES:
            self.files.append(word.url)
            return word.name + str(storage.find_output_file(word.url))
        if use in _UPDATED or word.parameter in _FOLDERS:
            if not self.changes:
                return word.name + str(storage.fetch_output(word.url, worker=self.worker))
            self.outputs.append(word.url)
            return word.name + str(storage.find_output(word.url, self.worker))
        if self._is_read_remotely(word):
            return word.name + word.url
        return word.name + str(storage.fetch(word.url))

    def _is_read_remotely(self, word: UrlWord) -> bool:
        from shiftproof import storage

        is_data = word.parameter in ("data", "source")
        return is_data and self.verb in _REMOTE_TARS and storage.is_tar_url(word.url)

    def work(self, run: Callable[..., Any], options: dict[str, Any]) -> Any:
        """Call a verb's function, and upload its outputs while it runs and after it has succeeded."""
        with contextlib.ExitStack() as stack:
            self._open(stack)
            try:
                return run(**options)
            except typer.Exit as error:
                if error.exit_code not in (0, 3) or isinstance(error.__cause__, UnfinishedError):
                    raise
                successful_exit = error
        raise successful_exit

    def _open(self, stack: contextlib.ExitStack) -> None:
        from shiftproof import storage

        for url in dict.fromkeys(self.outputs):
            stack.enter_context(storage.write_to(url, worker=self.worker))
        for url in dict.fromkeys(self.files):
            stack.enter_context(storage.write_file_to(url))


_TILDE = re.compile(
    r"(?:--[\w-]+=)?(?:[^-=:~/][^=:~/]*=)?(?:(?:file|onnx|transformers|ultralytics):)?(?=~(?:/|$))"
)


def expand_home(word: str) -> str:
    """Return a word of a command with ``~`` expanded to the home folder.

    Shells do not expand it in ``--data=~/photos`` or ``onnx:~/net.onnx``, and none reads
    ``shiftproof.toml``.

    >>> expand_home("~x"), expand_home("photos~/a")
    ('~x', 'photos~/a')
    """
    found = _TILDE.match(word)
    if found is None or Path(word).exists():
        return word
    return found[0] + str(Path(word[found.end() :]).expanduser())


def accept_urls(
    context: Any,
    words: Sequence[str],
    defaults: dict[str, Any],
    make: Callable[[list[str], dict[str, Any]], Any],
) -> None:
    """Let a verb's function accept URLs in place of paths, if its command has any.

    Inputs are fetched when the verb is called, after its words were validated; then the words are
    parsed again with local paths.

    Args:
        context: the verb's context, parsed from the words.
        words: the words after the verb.
        defaults: values of ``shiftproof.toml`` by parameter.
        make: parses words and defaults to a context.
    """
    found = dict(_find_urls(context.command, words))
    url_defaults = {
        name
        for name, value in defaults.items()
        if name in _FETCHED | _FOLDERS and any(map(_NAMED_URL.fullmatch, _list_texts(value)))
    }
    replaced = {index: word for index, word in found.items() if word.is_file}
    if not url_defaults and not replaced:
        return
    run = context.command.callback
    urls = [word.url for word in replaced.values()]
    urls += [text for name in url_defaults for text in _list_texts(defaults[name])]

    def work(**_: Any) -> Any:
        _check_uses(context, [*found.values()])
        announce(f"Opening {', '.join(urls)}")
        url_arguments = UrlArguments(
            str(context.info_name),
            changes=not {"--dry-run", "--plan"} & set(words),
            worker=_find_worker(context.params),
        )
        new_words = list(words)
        for index, word in replaced.items():
            new_words[index] = word.option + url_arguments.replace(word)
        new_defaults = {
            name: _replace_default(url_arguments, name, value) if name in url_defaults else value
            for name, value in defaults.items()
        }
        return url_arguments.work(run, make(new_words, new_defaults).params)

    context.command.callback = work


def _find_worker(options: dict[str, Any]) -> tuple[int, int] | None:
    """Return the index and count of this worker; None for invalid values, which the verb refuses."""
    worker, of = options.get("worker"), options.get("of")
    if worker is None or of is None or not 0 <= worker < of:
        return None
    return int(worker), int(of)


def _check_uses(context: Any, words: Sequence[UrlWord]) -> None:
    """Refuse uses that do not support URLs.

    Raises:
        InputError: with the alternative.
    """
    verb = str(context.info_name)
    if verb in _NO_URLS:
        raise InputError(
            f"{verb} needs local data; fetch a part of the data at the URL, and change the path in "
            "shiftproof.toml afterwards."
        )
    if any(word.parameter in _FOLDERS for word in words):
        _check_machines(verb, context.params)
    if verb == "report" and sum(word.parameter == "runs" for word in words) > 1:
        raise InputError(
            "report takes one run behind a URL, and writes its page there; fetch the others."
        )


def _check_machines(verb: str, options: dict[str, Any]) -> None:
    """Refuse outputs that other machines would write to their own disks."""
    on_others = options.get("engine") == "ray" and options.get("address") is not None
    if on_others and verb in _WRITES_ELSEWHERE and CACHE not in os.environ:
        raise InputError(
            f"{verb} writes its copies on the machines of the cluster, but the folder that is uploaded is "
            f"on this machine: set {CACHE} to a folder on a disk that all machines share, or start the "
            "command on each of them with --worker."
        )


def _replace_default(url_arguments: UrlArguments, name: str, value: Any) -> Any:
    replaced = [
        url_arguments.replace(UrlWord(name, match["name"], match["url"]))
        if (match := _NAMED_URL.fullmatch(text))
        else text
        for text in _list_texts(value)
    ]
    return replaced if isinstance(value, list) else replaced[0]


def _list_texts(value: Any) -> list[str]:
    return [
        item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)
    ]


def _find_urls(command: Any, words: Sequence[str]) -> Iterator[tuple[int, UrlWord]]:
    """Yield the index of each word with a URL, and the word."""
    options = {
        spelling: option
        for option in command.params
        if option.param_type_name == "option"
        for spelling in (*option.opts, *option.secondary_opts)
    }
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    index = 0
    while index < len(words):
        word = words[index]
        spelling, equals, value = word.partition("=")
        option = options.get(spelling) if word.startswith("-") else None
        if option is not None and not equals and not getattr(option, "is_flag", False):
            index += 1
            if index < len(words) and (match := _NAMED_URL.fullmatch(words[index])):
                yield index, UrlWord(option.name, match["name"], match["url"])
        elif option is not None and equals and (match := _NAMED_URL.fullmatch(value)):
            yield index, UrlWord(option.name, match["name"], match["url"], f"{spelling}=")
        elif option is None and not word.startswith("-") and arguments:
            argument = arguments[0] if arguments[0].nargs == -1 else arguments.pop(0)
            if match := _NAMED_URL.fullmatch(word):
                yield index, UrlWord(argument.name, match["name"], match["url"])
        index += 1
