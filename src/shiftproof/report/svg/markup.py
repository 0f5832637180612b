"""Building HTML and SVG without a template library; all text is escaped.

Templates recognize these texts by ``__html__``.
"""

from __future__ import annotations

import html
from collections.abc import Mapping

Attribute = str | int | float | None


class Html(str):
    """Text that is markup, which must not be escaped."""

    __slots__ = ()

    def __html__(self) -> str:
        """Tell template engines that this is safe."""
        return str(self)


def element(name: str, attributes: Mapping[str, Attribute] | None = None, *children: str) -> Html:
    """Return an element; children that are not ``Html`` are escaped, attributes of None are omitted.

    >>> element("text", {"x": 1.50, "class": None}, "a < b")
    '<text x="1.5">a &lt; b</text>'
    """
    attribute_text = "".join(
        f' {key}="{html.escape(_format_attribute(value))}"'
        for key, value in (attributes or {}).items()
        if value is not None
    )
    content = "".join(
        child if isinstance(child, Html) else html.escape(child, quote=False) for child in children
    )
    return Html(f"<{name}{attribute_text}>{content}</{name}>")


def join(pieces: list[Html]) -> Html:
    """Return the pieces one after the other."""
    return Html("".join(pieces))


def _format_attribute(value: str | int | float) -> str:
    if isinstance(value, float):
        # Two decimals of a pixel or a percent are finer than any screen.
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
