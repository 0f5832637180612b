"""``shiftproof.toml``: defaults for the options of all verbs, read once before options are parsed.

Keys are options as they are typed, without the dashes. Those of a table named like a verb are for that
verb; those above the first table are for every verb that has the option.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from shiftproof.cli.printing import warn
from shiftproof.errors import InputError
from shiftproof.io.border import show_name
from shiftproof.io.toml import find_line, read_toml

FILE = Path("shiftproof.toml")
"""Only in the current folder."""

LoadVerb = Callable[[str], Any]
"""Returns the command of a verb by name."""


def read_defaults(command: Any, verbs: Sequence[str], load: LoadVerb) -> dict[str, Any]:
    """Return a verb's defaults in the file, by parameter name; empty without a file.

    Args:
        command: the verb.
        verbs: the names of all verbs.
        load: loads another verb, only for a key that this one does not have.

    Raises:
        BrokenFileError: the file is not TOML.
        InputError: an unknown key, with its line and the nearest option in the message, or an
            invalid value.
    """
    if not FILE.is_file():
        return {}
    content = read_toml(FILE)
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    _check_tables(tables, verbs)
    options = list_options(command)
    given: dict[str, tuple[Sequence[str], Any]] = {}
    for key, value in content.items():
        if key in tables:
            continue
        if format_key(key) in options:
            given[format_key(key)] = ((key,), value)
        else:
            _check_shared(key, verbs, load)
    verb = str(command.name)
    for key, value in tables.get(verb, {}).items():
        if format_key(key) not in options:
            raise InputError(_explain((verb, key), options, f"an option of `{verb}`"))
        given[format_key(key)] = ((verb, key), value)
    return {
        options[name].name: _convert(keys, value, options[name])
        for name, (keys, value) in given.items()
    }


def list_options(command: Any) -> dict[str, Any]:
    """Return a verb's options that a file may set, by their long names without the dashes."""
    return {name: option for option in command.params for name in _list_names(option)}


def describe_defaults(context: Any, defaults: Mapping[str, Any]) -> None:
    """Print the options that a verb takes from the file, in one line."""
    used = [
        f"--{next(_list_names(option))} {show_value(defaults[option.name])}".rstrip()
        for option in context.command.params
        if option.name in defaults and is_from_file(context, option)
    ]
    if used:
        warn(f"{FILE} gives {', '.join(used)} (--no-config ignores it)", style="dim")


def attribute_to_file(
    error: Exception, defaults: Mapping[str, Any], arguments: Sequence[str], verb: str
) -> Exception:
    """Return an error about a value as one about the file, if the file gave the value.

    Args:
        error: the error.
        defaults: what the file gives, by parameter name.
        arguments: the words of the command.
        verb: the verb, whose table comes before what stands above all tables.
    """
    option = getattr(error, "param", None)
    typed = {word.partition("=")[0] for word in arguments}
    if option is None or option.name not in defaults or typed & set(option.opts):
        return error
    name = next(_list_names(option), option.name)
    message = add_value(str(getattr(error, "message", error)), show_value(defaults[option.name]))
    return InputError(f"{_locate(*_find_keys(set(_list_names(option)), verb))}, {name}: {message}")


def _find_keys(names: Collection[str], verb: str) -> list[str]:
    """Return the table and key, or the key alone, that give an option its value."""
    content = read_toml(FILE)
    tables = {(verb,): content.get(verb), (): content}
    return next(
        (
            [*table, key]
            for table, entries in tables.items()
            if isinstance(entries, dict)
            for key in entries
            if format_key(key) in names
        ),
        [],
    )


def _locate(*keys: str) -> str:
    """Return the name of the file, with the line of a value in it if that is known."""
    line = find_line(FILE, keys) if keys else None
    return str(FILE) if line is None else f"{FILE}, line {line}"


def find_value(error: Exception, words: Sequence[str]) -> str | None:
    """Return the value on the command line of the option that an error is about, or None."""
    names = getattr(getattr(error, "param", None), "opts", ())
    for word, following in itertools.pairwise([*words, ""]):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else following
    return None


def add_value(message: str, value: str | None) -> str:
    """Return a message about a number with what came: some versions of Typer leave it out."""
    if not value or value in message or not message.startswith("Input should be"):
        return message
    return f"{message.rstrip('.')}; got {value!r:.60}"


def is_from_file(context: Any, option: Any) -> bool:
    """Whether the value of an option comes from the file."""
    source = context.get_parameter_source(option.name)
    return getattr(source, "name", "") == "DEFAULT_MAP"


def format_key(key: str) -> str:
    """Return a key as the command line spells it: ``batch_size`` is ``batch-size``."""
    return key.replace("_", "-").lower()


def show_value(value: Any) -> str:
    """Format a value as on the command line; empty for a switch."""
    if isinstance(value, bool):
        return ""
    values = value if isinstance(value, list) else [value]
    return " ".join(show_name(str(item)) for item in values)


def _list_names(option: Any) -> Iterator[str]:
    if option.param_type_name == "option" and not option.hidden and option.name != "help":
        yield from (spelling[2:] for spelling in option.opts if spelling.startswith("--"))


def _check_tables(tables: Mapping[str, Any], verbs: Sequence[str]) -> None:
    for name in tables:
        if name not in verbs:
            raise InputError(_explain((name,), verbs, "a verb", f"[{show_name(name)}]"))


def _check_shared(key: str, verbs: Sequence[str], load: LoadVerb) -> None:
    """Raise an InputError unless some verb has the option of a key above the first table."""
    known = {name for verb in verbs for name in list_options(load(verb))}
    if format_key(key) not in known:
        raise InputError(_explain((key,), sorted(known), "an option of any verb"))


def _explain(keys: Sequence[str], known: Any, what: str, shown: str = "") -> str:
    """Return the message about the last of ``keys``, a table or an option that is not known."""
    close = difflib.get_close_matches(format_key(keys[-1]), list(known), n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{_locate(*keys)}: {shown or repr(show_name(keys[-1]))} is not {what}.{hint}"


def _convert(keys: Sequence[str], value: Any, option: Any) -> Any:
    """Convert a value to that of the command line: text, number, or a list of these."""
    is_switch = bool(getattr(option, "is_flag", False))
    key = keys[-1]
    if is_switch != isinstance(value, bool):
        raise InputError(
            f"{_locate(*keys)}: {show_name(key)} expects "
            f"{'true or false' if is_switch else 'a value'}, got {value!r}."
        )
    if is_switch:
        return value
    values = value if isinstance(value, list) else [value]
    for item in values:
        if isinstance(item, bool) or not isinstance(item, (str, int, float)):
            raise InputError(
                f"{_locate(*keys)}: {show_name(key)} expects text, a number or a list of them, got "
                f"{item!r}."
            )
    texts = [str(item) for item in values]
    return texts if option.multiple else ",".join(texts)
