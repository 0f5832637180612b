"""Removing secrets from URLs before they are stored, printed or put into an error."""

from __future__ import annotations

import re

HIDDEN = "***"

_OTHERS = "demo|file|local|onnx|open_clip|python|timm|torchvision|transformers|ultralytics"
_URL = re.compile(
    rf"\b(?:[A-Za-z][A-Za-z0-9+.\-]+://|(?!(?:{_OTHERS}):)[A-Za-z][A-Za-z0-9+.\-]+:/)(?=[^/\s])",
    re.IGNORECASE,
)
"""How a URL begins, also as ``pathlib`` writes it, with one slash; what stands before the path of a
model is no scheme."""

_END = re.compile(r"[\s\"'<>`]|::(?=[A-Za-z][A-Za-z0-9+.\-]*:/)|\)(?=[\s.,;]|$)")
_WITHOUT_USER = re.compile(
    r"(?:\[[^\]@]*\]|[^@:/?#]*)(?:(?=[/?#]|$)|:[0-9]*(?=[/?#]|$)(?!/[^/?#]*@))"
)
"""A host, and perhaps a port; behind a number and a slash an @ makes a password more likely."""

_PLAIN = frozenset(
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
"""Harmless names in a query; the values of all others are hidden."""


def join_url(folder: str, name: str) -> str:
    """Return the URL of a file in a folder; a query stays at the end.

    >>> join_url("s3://bucket/photos?versionId=3", "a.png")
    's3://bucket/photos/a.png?versionId=3'
    """
    address, mark, query = folder.partition("?")
    return f"{address.rstrip('/')}/{name}{mark}{query}"


def redact_urls(text: str) -> str:
    """Return a text whose URLs have no user, no password, and no values in their queries.

    A value of a query stays only where its name is known to be harmless, such as ``versionId``: what
    signatures and tokens are called differs from one store to the next.

    >>> redact_urls("s3://AKIA:wJal/rXU@bucket/rows.npy is not there")
    's3://***@bucket/rows.npy is not there'
    >>> redact_urls("https://host/rows.npy?versionId=3&sig=a%2Fb")
    'https://host/rows.npy?versionId=3&sig=***'
    """
    parts = []
    place = 0
    while found := _URL.search(text, place):
        parts.append(text[place : found.end()])
        ends = _END.search(text, found.end())
        place = len(text) if ends is None else ends.start()
        parts.append(_redact(text[found.end() : place]))
    return "".join([*parts, text[place:]])


def _redact(rest: str) -> str:
    """Redact what stands behind ``scheme://``."""
    if not _WITHOUT_USER.match(rest):
        # The last @ ends the user: a password that nobody encoded may hold any sign.
        _, at, host = rest.rpartition("@")
        rest = f"{HIDDEN}@{host}" if at else rest
    address, mark, query = _split(rest)
    return address + mark + "".join(map(_redact_word, re.split(r"([&;?#])", query)))


def _split(rest: str) -> tuple[str, str, str]:
    found = re.search(r"[?#]", rest)
    if found is None:
        return rest, "", ""
    return rest[: found.start()], found[0], rest[found.end() :]


def _redact_word(word: str) -> str:
    name, equals, _ = word.partition("=")
    if word in ("", "&", ";", "?", "#") or (equals and name.lower() in _PLAIN):
        return word
    return f"{name}={HIDDEN}" if equals else HIDDEN
