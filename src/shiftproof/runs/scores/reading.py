"""Reading a run's JSON as typed structs; errors name the invalid place in the file."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from shiftproof.errors import BrokenFileError
from shiftproof.io import files
from shiftproof.io.border import convert_errors
from shiftproof.io.text import read_json

FORMAT = 2
"""The format number that this version writes. A struct may have ``upgrades``: from an older number
to the function that converts to the next format."""

AT = " @ "
"""Separates the expectation from the place in a struct's error message."""

SLACK = 1e-9
"""Tolerance of limits: a mean of shares may exceed them by rounding; percentages exceed them by
far."""

Form = TypeVar("Form")


def read_form(path: Path, form: type[Form]) -> Form:
    """Return the content of a run's file as ``form``, a msgspec struct.

    Raises:
        BrokenFileError: it cannot be read, has another format, or is invalid; the message names the
            place.
    """
    return convert(read_json(path), form, path)


def convert(content: Any, form: type[Form], path: Path, where: str = "") -> Form:
    """Return parsed JSON as ``form``.

    Raises:
        BrokenFileError: as :func:`read_form`.
    """
    value = _clean_value(content)
    if not isinstance(value, Mapping):
        raise _make_error(path, "an object", where, value)
    if "format" in getattr(form, "__struct_fields__", ()):
        value = _upgrade(value, form, path)
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        expected, place = _split_message(str(error))
        place = _find_key(value, form, place)
        full_place = ".".join(part for part in (where, place) if part)
        raise _make_error(path, expected, full_place, _look_up(value, place)) from error


def _upgrade(value: Mapping[str, Any], form: type[Any], path: Path) -> Mapping[str, Any]:
    """Upgrade the content of an older format, if that format is known."""
    upgrades = getattr(form, "upgrades", {})
    while (version := value.get("format")) != FORMAT:
        upgrade = upgrades.get(version) if type(version) is int else None
        if upgrade is None:
            is_newer = isinstance(version, int) and version > FORMAT
            raise BrokenFileError(
                f"{path}: expected format {FORMAT}, got {show(version)}. It was written by another "
                "version of shiftproof, or is not a run at all; "
                f"{'install a newer version' if is_newer else 'use the version that wrote it'}."
            )
        with convert_errors(path, f"not a file of format {version}"):
            value = upgrade(value)
    return value


def write_form(path: Path, form: msgspec.Struct) -> None:
    """Write a struct as JSON, atomically and deterministically."""
    files.write_json(path, msgspec.to_builtins(form))


def clean_text(text: str) -> str:
    """Return ``text`` without characters that are unsafe on a page, in a table or on a terminal.

    Control characters (an escape sequence in a file name moves the cursor of a terminal) and lone
    surrogates (file names that are not UTF-8; they cannot be written) become U+FFFD; line breaks
    and tabs become spaces. Everything else is kept, in any script.
    """
    if text.isprintable():  # has no control character and no surrogate, as nearly every text
        return text
    return "".join(
        " "
        if character in "\n\r\t"
        else "\ufffd"
        if unicodedata.category(character) in ("Cc", "Cs")
        else character
        for character in text
    )


def show(value: Any) -> str:
    """Return a value as text for a message."""
    if value is None:
        return "nothing"
    text = clean_text(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _clean_value(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(key): _clean_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean_value(item) for item in value]
    if isinstance(value, float):
        # JSON has no non-finite numbers; NumPy's scalars become plain numbers.
        return float(value) if math.isfinite(value) else str(value)
    return value


def _make_error(path: Path, expected: str, place: str, got: Any) -> BrokenFileError:
    where = f"at {place}" if place else "as its content"
    return BrokenFileError(
        f"{path}: expected {expected} {where}, got {show(got)}. The file is damaged or was changed "
        "by hand; start the run again to have it written anew."
    )


def describe_range(low: float | None, high: float | None) -> str:
    """Return ``a number from 0 to 1``; limits that are None are omitted."""
    limits = (("from", low), ("to", high))
    return " ".join(["a number", *(f"{word} {end:g}" for word, end in limits if end is not None)])


def is_outside(value: float, low: float | None, high: float | None, slack: float = SLACK) -> bool:
    """Return whether a value exceeds its limits by more than rounding."""
    return (low is not None and value < low - slack) or (high is not None and value > high + slack)


# ---------------------------------------------------------------- msgspec's errors

_WORDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "a text",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "nothing",
}


def _split_message(message: str) -> tuple[str, str]:
    """Split msgspec's message into the expectation, in words, and the place without ``$.``."""
    text, _, place = message.partition(" - at `")
    # A struct's own error may have the place inside it.
    text, _, inside = text.partition(AT)
    place = ".".join(part for part in (place.rstrip("`").removeprefix("$"), inside) if part)
    place = place.lstrip(".")
    if match := re.fullmatch(r"Expected `([^`]+)`(?:, got `[^`]+`)?", text):
        kinds = [_WORDS.get(kind.strip(), kind.strip()) for kind in match[1].split("|")]
        return " or ".join(kinds), place
    if text == "Number out of range":
        return "a finite number", place
    if match := re.fullmatch(r"Expected `array` of length (\d+).*", text):
        return f"a list of {match[1]}", place
    if match := re.fullmatch(r"Object missing required field `([^`]+)`", text):
        return "a value", f"{place}.{match[1]}".lstrip(".")
    if match := re.fullmatch(r"Expected `(float|int)` ([<>]=?) (\S+)", text):
        return f"{_WORDS[match[1]]} {match[2]} {float(match[3]):g}", place
    return text[:1].lower() + text[1:], place


def _find_key(value: Any, form: type[Any], place: str) -> str:
    """Replace each ``[...]``, msgspec's placeholder for a mapping's key, by the invalid key.

    That is the key without which the error changes or disappears.
    """
    while "[...]" in place:
        before, _, after = place.partition("[...]")
        mapping = _look_up(value, before)
        if not isinstance(mapping, dict):
            return place
        for key in list(mapping):
            item = mapping.pop(key)
            try:
                msgspec.convert(value, form)
                is_invalid = True
            except msgspec.ValidationError as error:
                is_invalid = _split_message(str(error))[1] != place
            mapping[key] = item
            if is_invalid:
                break
        else:
            return place
        place = f"{before}.{key}{after}".lstrip(".")
    return place


def _look_up(value: Any, place: str) -> Any:
    """Return the value at a place such as ``models[0].cells``, or None."""
    for name, number in re.findall(r"([^.\[\]]+)|\[(\d+)\]", place):
        try:
            value = value[int(number)] if number else value.get(name)
        except (AttributeError, IndexError, KeyError, TypeError):
            return None
    return value
