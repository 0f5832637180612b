"""Display of values in a notebook: a small table as HTML, a figure as PNG."""

from __future__ import annotations

import functools
import html
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from shiftproof.counts import pluralize
from shiftproof.errors import MissingExtraError
from shiftproof.lazy import import_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_ROWS = 40
"""Maximum number of rows of a displayed table; the frame has all."""


def write_table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], note: str = ""
) -> str:
    """Return a table as HTML, all text escaped; it takes its colors from the notebook."""
    head = "".join(f"<th style='text-align:left'>{html.escape(text)}</th>" for text in headings)
    body = "".join(
        "<tr>"
        + "".join(f"<td style='text-align:left'>{html.escape(text)}</td>" for text in row)
        + "</tr>"
        for row in rows[:MAX_ROWS]
    )
    omitted = f"{pluralize(len(rows) - MAX_ROWS, 'more row')}. " if len(rows) > MAX_ROWS else ""
    footer = f"<p><small>{html.escape(omitted + note)}</small></p>" if omitted or note else ""
    return (
        f"<div><strong>{html.escape(title)}</strong><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{footer}</div>"
    )


def make_figure(width: float, height: float) -> Figure:
    """Return an empty matplotlib figure of a size in inches, independent of pyplot's global state.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return _make_figure_class()(figsize=(width, height), layout="constrained")


@functools.cache
def _make_figure_class() -> type[Figure]:
    """Return a subclass of matplotlib's figure that notebooks can display without pyplot."""
    import_extra("matplotlib.figure", "plot")
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        def _repr_png_(self) -> bytes:
            return _encode(self)

    return NotebookFigure


def encode_figure(draw: Callable[[], Figure]) -> bytes | None:
    """Return the figure of a function as PNG; None if matplotlib is not installed.

    A notebook then shows only the HTML, which has the same content.
    """
    try:
        return _encode(draw())
    except MissingExtraError:
        return None


def _encode(figure: Figure) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=72, metadata={"Software": None})
    return target.getvalue()
