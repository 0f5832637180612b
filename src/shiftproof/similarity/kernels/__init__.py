"""Compiled inner loops of the similarity search: low-precision products, and exact re-checks."""

from shiftproof.similarity.kernels.joining import flatten, join_edges, join_pairs
from shiftproof.similarity.kernels.of_candidates import (
    above_of_candidates,
    nearest_of_candidates,
    pairs_of_candidates,
    top_of_candidates,
)
from shiftproof.similarity.kernels.of_maxima import (
    above_of_maxima,
    nearest_of_maxima,
    pairs_of_maxima,
    top_of_maxima,
)
from shiftproof.similarity.kernels.of_scores import (
    above_of_scores,
    nearest_of_scores,
    pairs_of_scores,
    top_of_scores,
)
from shiftproof.similarity.kernels.products import (
    FLOAT_COLUMNS,
    FLOAT_ROWS,
    exact_product,
    multiply_floats,
    pack_panels,
    products_with,
)
from shiftproof.similarity.kernels.quantising import (
    fits_windows,
    largest_values,
    pack_rows,
    quantise,
    square_lengths,
    window_lengths,
)
from shiftproof.similarity.kernels.tiles import (
    FAR,
    MAXIMA,
    MEMBERS,
    STEP,
    TILES,
    WINDOW,
    Tile,
    fastest_kind,
)

__all__ = [
    "FAR",
    "FLOAT_COLUMNS",
    "FLOAT_ROWS",
    "MAXIMA",
    "MEMBERS",
    "STEP",
    "TILES",
    "WINDOW",
    "Tile",
    "above_of_candidates",
    "above_of_maxima",
    "above_of_scores",
    "exact_product",
    "fastest_kind",
    "fits_windows",
    "flatten",
    "join_edges",
    "join_pairs",
    "largest_values",
    "multiply_floats",
    "nearest_of_candidates",
    "nearest_of_maxima",
    "nearest_of_scores",
    "pack_panels",
    "pack_rows",
    "pairs_of_candidates",
    "pairs_of_maxima",
    "pairs_of_scores",
    "products_with",
    "quantise",
    "square_lengths",
    "top_of_candidates",
    "top_of_maxima",
    "top_of_scores",
    "window_lengths",
]
