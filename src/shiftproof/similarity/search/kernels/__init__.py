"""Compiled inner loops of the search: low-precision products, exact ones, and the questions they
answer.
"""

from shiftproof.similarity.search.kernels.joining import flatten, join_edges, join_pairs
from shiftproof.similarity.search.kernels.maxima import (
    FAR,
    MAXIMA,
    MEMBERS,
    STEP,
    TILES,
    WINDOW,
    TileShape,
    fastest_kind,
)
from shiftproof.similarity.search.kernels.products import (
    FLOAT_COLUMNS,
    FLOAT_ROWS,
    exact_product,
    multiply_floats,
    pack_panels,
    products_with,
)
from shiftproof.similarity.search.kernels.quantize import (
    fits_windows,
    largest_values,
    mix,
    pack_rows,
    quantize,
    square_lengths,
    window_lengths,
)
from shiftproof.similarity.search.kernels.walks import visit_pairs

__all__ = [
    "FAR",
    "FLOAT_COLUMNS",
    "FLOAT_ROWS",
    "MAXIMA",
    "MEMBERS",
    "STEP",
    "TILES",
    "WINDOW",
    "TileShape",
    "exact_product",
    "fastest_kind",
    "fits_windows",
    "flatten",
    "join_edges",
    "join_pairs",
    "largest_values",
    "mix",
    "multiply_floats",
    "pack_panels",
    "pack_rows",
    "products_with",
    "quantize",
    "square_lengths",
    "visit_pairs",
    "window_lengths",
]
