"""Scores as a table: one row per figure, for Arrow, pandas and a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from shiftproof.display import encode_figure, make_figure, write_table
from shiftproof.lazy import import_extra
from shiftproof.metrics.intervals import Interval

if TYPE_CHECKING:
    import pandas
    import pyarrow
    from matplotlib.figure import Figure

Row: TypeAlias = dict[str, str | int | float | None]

MAX_BARS = 30

_FIGURES = ("value", "low", "high")


class TidyScores(msgspec.Struct, frozen=True):
    """Scores that say what their figures are; a concrete form gives the rows."""

    def rows(self) -> Iterator[Row]:
        """Yield one row per figure: what it is of, its ``value``, ``low`` and ``high``."""
        raise NotImplementedError

    def to_arrow(self) -> pyarrow.Table:
        """Return all figures as an Arrow table, one row each, in the units of ``scores.json``.

        ``low`` and ``high`` are null where nothing was resampled.
        """
        import pyarrow as pa

        rows = list(self.rows())
        kinds = {
            name: pa.float64()
            if name in _FIGURES
            else pa.int64()
            if name == "severity"
            else pa.string()
            for name in rows[0]
        }
        return pa.Table.from_pylist(rows, pa.schema(kinds))

    def to_frame(self) -> pandas.DataFrame:
        """Return all figures as a pandas data frame, one row each.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        pandas = import_extra("pandas", "plot")
        import pyarrow as pa

        # Severities stay whole numbers where some rows have none.
        kinds = {pa.int64(): pandas.Int64Dtype()}
        # In this thread: one of Arrow's that holds Python's memory at the exit aborts the process.
        return self.to_arrow().to_pandas(types_mapper=kinds.get, use_threads=False)

    def _repr_html_(self) -> str:
        """Show the first figures in a notebook."""
        rows = list(self.rows())
        return write_table(
            type(self).__name__,
            list(rows[0]),
            [[spell(value) for value in row.values()] for row in rows],
            "All of them: .to_frame() or .to_arrow().",
        )

    def _repr_png_(self) -> bytes | None:
        """Show the first figures as bars in a notebook; None without matplotlib."""
        return encode_figure(lambda: draw_bars(list(self.rows())[:MAX_BARS]))


def spell(value: str | float | None) -> str:
    """Return a value of a row as a person reads it."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def list_ends(interval: Interval | None) -> Mapping[str, float | None]:
    """Return the columns of a figure."""
    if interval is None:
        return {"value": None, "low": None, "high": None}
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def draw_bars(rows: list[Row], title: str = "") -> Figure:
    """Draw rows as horizontal bars with their intervals.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    drawn = [row for row in rows if isinstance(row["value"], float)]
    figure = make_figure(7, 1 + 0.25 * len(drawn))
    axes: Any = figure.subplots()
    values = [float(row["value"] or 0) for row in drawn]
    names = [_name(row) for row in drawn]
    places = range(len(drawn))
    axes.barh(
        places, values, color="#4c78a8", xerr=_compute_errors(drawn, values), ecolor="#555555"
    )
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_title(title)
    return figure


def _name(row: Row) -> str:
    told = (value for key, value in row.items() if key not in (*_FIGURES, "over"))
    return " ".join(str(value) for value in told if value not in (None, ""))


def _compute_errors(rows: list[Row], values: list[float]) -> list[list[float]]:
    """Return how far the ends are below and above; none where there are none."""
    lows = [
        value if row["low"] is None else float(row["low"])
        for row, value in zip(rows, values, strict=True)
    ]
    highs = [
        value if row["high"] is None else float(row["high"])
        for row, value in zip(rows, values, strict=True)
    ]
    return [
        [max(0.0, value - low) for value, low in zip(values, lows, strict=True)],
        [max(0.0, high - value) for value, high in zip(values, highs, strict=True)],
    ]
