"""Stylized training data: texture and colors of a painting, shapes of the photograph.

Michaelis et al. 2019 (arXiv 1907.07484) train detectors on it in addition to the original data,
which makes them more robust to corruptions: a network that cannot rely on texture learns shapes.
Geometry is preserved, so boxes, masks and key points stay valid.
"""

from shiftproof.stylize.adain import AdaIN
from shiftproof.stylize.apply import ChosenStyle, choose_style, stylize, stylize_keyed
from shiftproof.stylize.contract import Engine
from shiftproof.stylize.free import free
from shiftproof.stylize.styles import DrawnStyles, Paintings, Styles, open_styles
from shiftproof.stylize.stylized_copy import estimate_stylized, export_stylized
from shiftproof.stylize.transform import Stylize

__all__ = [
    "AdaIN",
    "ChosenStyle",
    "DrawnStyles",
    "Engine",
    "Paintings",
    "Styles",
    "Stylize",
    "choose_style",
    "estimate_stylized",
    "export_stylized",
    "free",
    "open_styles",
    "stylize",
    "stylize_keyed",
]
