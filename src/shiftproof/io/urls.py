"""Removing secrets from URLs before they are stored, printed or put into an error."""

from __future__ import annotations

import re

HIDDEN = "***"

_MODEL_SOURCES = "demo|file|local|onnx|open_clip|python|timm|torchvision|transformers|ultralytics"
_URL = re.compile(
    rf"\b(?:[A-Za-z][A-Za-z0-9+.\-]+://|(?!(?:{_MODEL_SOURCES}):)[A-Za-z][A-Za-z0-9+.\-]+:/)(?=[^/\s])",
    re.IGNORECASE,
)
"""The beginning of a URL, also with one slash, as ``pathlib`` writes it; the source before the path of a
model is not a scheme."""

_END = re.compile(r"[\s\"'<>`]|::(?=[A-Za-z][A-Za-z0-9+.\-]*:/)|\)(?=[\s.,;]|$)")
_WITHOUT_USER = re.compile(
    r"(?:\[[^\]@]*\]|[^@:/?#]*)(?:(?=[/?#]|$)|:[0-9]*(?=[/?#]|$)(?!/[^/?#]*@))"
)
"""A host with an optional port. After a number and a slash, an @ shows that it was a password."""

_HARMLESS = frozenset(
    {
        "alt",
        "dl",
        "download",
        "format",
        "generation",
        "raw",
        "ref",
        "revision",
        "version",
        "versionid",
    }
)
"""Keys of queries whose values are shown; all other values are hidden."""


def join_url(folder: str, name: str) -> str:
    """Return the URL of a file in a folder; the query stays at the end.

    >>> join_url("s3://bucket/photos?versionId=3", "a.png")
    's3://bucket/photos/a.png?versionId=3'
    """
    address, mark, query = folder.partition("?")
    return f"{address.rstrip('/')}/{name}{mark}{query}"


def redact_urls(text: str) -> str:
    """Return a text whose URLs have no user, no password, and no values in their queries.

    Only values of harmless keys, such as ``versionId``, stay in a query, since every store has other
    names for signatures and tokens.

    >>> redact_urls("s3://AKIA:wJal/rXU@bucket/rows.npy is not there")
    's3://***@bucket/rows.npy is not there'
    >>> redact_urls("https://host/rows.npy?versionId=3&sig=a%2Fb")
    'https://host/rows.npy?versionId=3&sig=***'
    """
    parts = []
    position = 0
    while found := _URL.search(text, position):
        parts.append(text[position : found.end()])
        end = _END.search(text, found.end())
        position = len(text) if end is None else end.start()
        parts.append(_redact(text[found.end() : position]))
    return "".join([*parts, text[position:]])


def _redact(rest: str) -> str:
    """Redact the part of a URL after ``scheme://``."""
    if not _WITHOUT_USER.match(rest):
        # The last @ ends the user: a password that was not encoded may have any character.
        _, at_sign, host = rest.rpartition("@")
        rest = f"{HIDDEN}@{host}" if at_sign else rest
    address = re.split(r"[?#]", rest, maxsplit=1)[0]
    query = re.split(r"([&;?#])", rest[len(address) :])
    return address + "".join(map(_redact_parameter, query))


def _redact_parameter(text: str) -> str:
    """Redact ``key=value`` of a query; separators stay."""
    key, equals, _ = text.partition("=")
    if text in ("", "&", ";", "?", "#") or (equals and key.lower() in _HARMLESS):
        return text
    return f"{key}={HIDDEN}" if equals else HIDDEN
