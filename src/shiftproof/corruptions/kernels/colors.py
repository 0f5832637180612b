"""Hue, saturation and value."""

from __future__ import annotations

import numpy as np

from shiftproof.compute.compiled import compile_inner


@compile_inner
def compute_hue(r: float, g: float, b: float, value: float, spread: float) -> float:
    """Return the hue in 0..1 of RGB with the largest channel ``value`` and not all equal."""
    # Where channels tie, the later one decides, as in skimage.color.rgb2hsv.
    if b == value:
        hue = 4.0 + (r - g) / spread
    elif g == value:
        hue = 2.0 + (b - r) / spread
    else:
        hue = (g - b) / spread
    return (hue / 6.0) % 1.0


@compile_inner
def convert_hsv(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    """Convert HSV to RGB, all in 0..1."""
    whole = np.floor(hue * 6.0)
    f = hue * 6.0 - whole
    p = value * (1.0 - saturation)
    q = value * (1.0 - f * saturation)
    t = value * (1.0 - (1.0 - f) * saturation)
    sextant = int(whole) % 6
    if sextant == 0:
        return value, t, p
    if sextant == 1:
        return q, value, p
    if sextant == 2:
        return p, value, t
    if sextant == 3:
        return p, q, value
    if sextant == 4:
        return t, p, value
    return value, p, q
