"""The palettes, distinguishable with color blindness, with legible text on them.

Heat cells go from paper to a dark color (in dark mode from the page's background to a bright one), with
lightness falling evenly, so that the order is visible without hue. Differences go from blue (better)
over neutral to orange (worse), a pair that is distinct with all common color deficiencies. Models have
the colors of Okabe and Ito (2008), and each has its own marker and dash.
"""

from __future__ import annotations

from dataclasses import dataclass

Rgb = tuple[int, int, int]

STEPS = 20
"""A heat scale has ``STEPS + 1`` levels: 5 percentage points each."""

# Anchors of the scales; the levels between are interpolated in Oklab, whose lightness is even.
_SEQUENTIAL_LIGHT = ("#fdf8ee", "#f6d9a0", "#e59a57", "#bf5536", "#7d2433", "#3a0f2b")
_SEQUENTIAL_DARK = ("#23262d", "#46273f", "#84304a", "#c24f3f", "#e9964f", "#fbe3a4")
_DIVERGING_LIGHT = ("#0b4f8a", "#5c9fd0", "#c7def0", "#f6f5f1", "#f7d3ae", "#e08f45", "#96470a")
_DIVERGING_DARK = ("#8cc8f5", "#3f86bd", "#25466a", "#23262d", "#5b3a1c", "#b3661f", "#f7b269")

MODEL_LIGHT = ("#d55e00", "#0072b2", "#009e73", "#b0568a", "#8a6d00", "#2f7fb5")
MODEL_DARK = ("#f0813a", "#56b4e9", "#2fc397", "#df95bd", "#f0c840", "#9ad0f5")
"""Okabe-Ito: vermilion, blue, green, purple, yellow, sky; darkened or lightened for the ground."""

MODEL_DASHES = (None, "6 3", "2 3", "8 3 2 3", "1 2", "10 4")


@dataclass(frozen=True)
class Level:
    """One step of a heat scale: the ground and the text on it."""

    ground: str
    text: str


def make_sequential(*, dark: bool) -> list[Level]:
    """Return the levels for 0 to 100 %."""
    return _make_levels(_SEQUENTIAL_DARK if dark else _SEQUENTIAL_LIGHT, STEPS + 1)


def make_diverging(*, dark: bool) -> list[Level]:
    """Return the levels from much better to much worse; the middle one is no change."""
    return _make_levels(_DIVERGING_DARK if dark else _DIVERGING_LIGHT, STEPS + 1)


def find_sequential_level(fraction: float) -> int:
    """Return the level of ``fraction`` on a scale from 0 to 1."""
    return max(0, min(STEPS, round(fraction * STEPS)))


def find_diverging_level(difference: float, reach: float) -> int:
    """Return the level of a difference on a scale from ``-reach`` to ``reach``."""
    half = STEPS // 2
    level = round(difference / reach * half)
    # Every difference other than 0 gets a tint.
    if level == 0 and difference:
        level = 1 if difference > 0 else -1
    return half + max(-half, min(half, level))


def compute_contrast(first: str, second: str) -> float:
    """Return the contrast ratio of WCAG 2 between two colors, 1 to 21."""
    bright, dim = sorted((_compute_luminance(first), _compute_luminance(second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _make_levels(anchors: tuple[str, ...], count: int) -> list[Level]:
    levels = []
    for position in range(count):
        anchor_position = position / (count - 1) * (len(anchors) - 1)
        index = min(int(anchor_position), len(anchors) - 2)
        ground = _mix(anchors[index], anchors[index + 1], anchor_position - index)
        text = max(("#15171b", "#ffffff"), key=lambda ink: compute_contrast(ink, ground))
        if compute_contrast(text, ground) < 4.6:
            text = max(("#000000", "#ffffff"), key=lambda ink: compute_contrast(ink, ground))
        levels.append(Level(ground, text))
    return levels


def _mix(first: str, second: str, share: float) -> str:
    a, b = _to_oklab(first), _to_oklab(second)
    return _from_oklab(
        (
            a[0] + (b[0] - a[0]) * share,
            a[1] + (b[1] - a[1]) * share,
            a[2] + (b[2] - a[2]) * share,
        )
    )


def _parse_rgb(color: str) -> Rgb:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _linearize(channel: int) -> float:
    value = channel / 255
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def _compute_luminance(color: str) -> float:
    red, green, blue = (_linearize(channel) for channel in _parse_rgb(color))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _to_oklab(color: str) -> tuple[float, float, float]:
    """Return the color in Oklab (Ottosson 2020)."""
    red, green, blue = (_linearize(channel) for channel in _parse_rgb(color))
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    medium = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def _from_oklab(lab: tuple[float, float, float]) -> str:
    lightness, a, b = lab
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return "#" + "".join(
        f"{_compand(channel):02x}"
        for channel in (
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        )
    )


def _compand(linear: float) -> int:
    linear = max(0.0, min(1.0, linear))
    value = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    return round(255 * value)
