"""Runs that do not fill a grid: to a precision or budget, to the breaking point, of sequences."""
