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
    """Base class of scores, as a table; each kind of run yields its rows."""

    def rows(self) -> Iterator[Row]:
        """Yield one row per figure: what it measures, its ``value``, ``low`` and ``high``."""
        raise NotImplementedError

    def to_arrow(self) -> pyarrow.Table:
        """Return all figures as an Arrow table, one row each, in the units of ``scores.json``.

        ``low`` and ``high`` are null where nothing was resampled.
        """
        import pyarrow as pa

        rows = list(self.rows())
        numbers = {**dict.fromkeys(_FIGURES, pa.float64()), "severity": pa.int64()}
        types = {name: numbers.get(name, pa.string()) for name in rows[0]}
        return pa.Table.from_pylist(rows, pa.schema(types))

    def to_frame(self) -> pandas.DataFrame:
        """Return all figures as a pandas data frame, one row each.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        pandas = import_extra("pandas", "plot")
        import pyarrow as pa

        # Severities stay integers even if some rows have none.
        types = {pa.int64(): pandas.Int64Dtype()}
        # In this thread: a thread of Arrow that holds Python objects at exit aborts the process.
        return self.to_arrow().to_pandas(types_mapper=types.get, use_threads=False)

    def _repr_html_(self) -> str:
        """Show the first figures in a notebook."""
        rows = list(self.rows())
        return write_table(
            type(self).__name__,
            list(rows[0]),
            [[_format_value(value) for value in row.values()] for row in rows],
            "All of them: .to_frame() or .to_arrow().",
        )

    def _repr_png_(self) -> bytes | None:
        """Show the first figures as bars in a notebook; None without matplotlib."""
        return encode_figure(lambda: draw_bars(list(self.rows())[:MAX_BARS]))


def _format_value(value: str | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def list_columns(interval: Interval | None) -> Mapping[str, float | None]:
    """Return the columns of an interval: its value and both ends."""
    if interval is None:
        return {"value": None, "low": None, "high": None}
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def draw_bars(rows: list[Row], title: str = "") -> Figure:
    """Draw rows as horizontal bars with their intervals.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    bars = [row for row in rows if isinstance(row["value"], float)]
    figure = make_figure(7, 1 + 0.25 * len(bars))
    axes: Any = figure.subplots()
    values = [_read_number(row, "value") for row in bars]
    errors = [
        [max(0.0, _read_number(row, "value") - _read_number(row, "low")) for row in bars],
        [max(0.0, _read_number(row, "high") - _read_number(row, "value")) for row in bars],
    ]
    axes.barh(range(len(bars)), values, color="#4c78a8", xerr=errors, ecolor="#555555")
    axes.set_yticks(range(len(bars)), list(map(_make_label, bars)))
    axes.invert_yaxis()
    axes.set_title(title)
    return figure


def _make_label(row: Row) -> str:
    values = (value for key, value in row.items() if key not in (*_FIGURES, "over"))
    return " ".join(str(value) for value in values if value not in (None, ""))


def _read_number(row: Row, key: str) -> float:
    """Return a number of a row; for an end that is missing, the value."""
    return float(row["value"] or 0) if row[key] is None else float(row[key] or 0)
