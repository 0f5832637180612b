"""The image input of an ONNX graph: its layout, type and values, and bringing a batch into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import InputError, ModelError, UnknownNameError
from shiftproof.io import files
from shiftproof.io.border import convert_errors
from shiftproof.models.onnx_graph import Quantization, read_quantization
from shiftproof.models.targets import check_file
from shiftproof.types import F32

Layout: TypeAlias = Literal["nchw", "nhwc"]
"""The order of the axes: batch, channels, height and width, or the channels last."""

Pixels: TypeAlias = Literal["normalized", "0..1", "0..255"]
"""The values that a graph takes: normalized by mean and deviation, or pixels as they are."""

INPUT_OPTIONS = ("layout", "pixels")
"""The options that state what a graph itself does not."""

AS_THEY_ARE: Mapping[Pixels, float] = {"0..1": 1.0, "0..255": 1 / 255}
"""Deviations of a preprocessing with mean 0, by the values that a graph takes unnormalized."""

_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
}

_CHANNELS = (1, 3)

_SHAPES: Mapping[Layout, str] = {"nchw": "(N, C, H, W)", "nhwc": "(N, H, W, C)"}


@dataclass(frozen=True)
class GraphInput:
    """The image input of a graph.

    Attributes:
        name: its name.
        layout: the order of its axes.
        dtype: its type, such as "float32" or "uint8".
        pixels: the values that it takes.
        batch: batch size, or None if it is dynamic.
        channels: number of channels, or None if it is dynamic.
        height: in pixels, or None if it is dynamic.
        width: in pixels, or None if it is dynamic.
        quantization: scale and zero point by which the values become whole numbers; None where they
            are pixels, or no whole numbers.
        is_stated: whether the layout was stated by the caller, since the graph leaves it open.
    """

    name: str
    layout: Layout
    dtype: str
    pixels: Pixels
    batch: int | None
    channels: int | None
    height: int | None
    width: int | None
    quantization: Quantization | None = None
    is_stated: bool = False

    def convert(self, values: F32) -> NDArray[Any]:
        """Return a batch in the layout and type of the graph.

        Args:
            values: ``(N, C, H, W)`` float32, in the values that ``pixels`` says.

        Returns:
            ``(N, C, H, W)`` or ``(N, H, W, C)``, contiguous. Whole numbers are rounded half to even
            and limited to the range of the type, as by ONNX's QuantizeLinear.
        """
        converted: NDArray[Any] = values
        if np.issubdtype(self.dtype, np.integer):
            scale, zero = self.quantization or (1.0, 0)
            limits = np.iinfo(self.dtype)
            whole = np.rint(values / np.float32(scale)) + np.float32(zero)
            converted = np.clip(whole, limits.min, limits.max)
        if self.layout == "nhwc":
            converted = converted.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(converted, dtype=self.dtype)

    def identify(self, fingerprint: str) -> str:
        """Return the fingerprint of a graph with this input, from that of its file.

        They differ only if the caller stated the layout, since all else is in the file, or in the
        settings of the preprocessing.
        """
        return add_layout(fingerprint, self.layout) if self.is_stated else fingerprint

    def describe(self) -> list[str]:
        """Return what is uncommon in the input, as sentences; empty for float32 in NCHW order."""
        told = []
        if (self.layout, self.dtype) != ("nchw", "float32"):
            told.append(f"the graph takes {self.dtype} {_SHAPES[self.layout]}")
        if self.quantization is not None:
            scale, zero = self.quantization
            told.append(f"quantized by the graph's scale {scale:.6g} and zero point {zero}")
        return told


def read_input(
    path: Path,
    session: Any,
    *,
    layout: str | None = None,
    pixels: str | None = None,
    usual: Pixels = "normalized",
) -> GraphInput:
    """Return the image input of a graph.

    The layout is read from the static axes (1 or 3 channels) or from the names of the dynamic ones
    ("num_channels"); if these leave it open, it has to be stated. A graph that takes uint8 and does
    not dequantize it takes pixels 0..255. One that dequantizes it may take either, which has to be
    stated.

    Args:
        path: the file, for messages and for the parameters of a quantized input.
        session: its session of ONNX Runtime.
        layout: "nchw" or "nhwc", in any case; None if it is not stated.
        pixels: "normalized", "0..1" or "0..255"; None if it is not stated.
        usual: the values that graphs of floats take if nothing is stated: "0..1" where there are no
            mean and deviation to normalize by.

    Raises:
        UnknownNameError: no such layout, or no such ``pixels``.
        InputError: something that has to be stated is not.
        ModelError: several inputs, or one of another shape or type; or the statement does not fit.
    """
    check_input_options(layout, pixels, usual=usual)
    with convert_errors(path, "not an ONNX graph whose inputs can be read"):
        inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(entry.name for entry in inputs)
        raise ModelError(f"{path}: expected a graph with one input, got {len(inputs)} ({names}).")
    entry = inputs[0]
    described = f"{entry.name!r} of {entry.type} {entry.shape}"
    dtype = _TYPES.get(str(entry.type))
    if dtype is None or len(entry.shape) != 4:
        raise _make_form_error(path, described)
    found = _find_layout(path, described, entry.shape)
    chosen = _choose_layout(path, described, entry.shape, found, layout)
    axes = [axis if isinstance(axis, int) and axis > 0 else None for axis in entry.shape]
    batch, *inner = axes
    channels, height, width = inner if chosen == "nchw" else (inner[2], inner[0], inner[1])
    if channels not in (None, *_CHANNELS):
        raise _make_form_error(path, described)
    values, quantization = _choose_values(
        path, str(entry.name), dtype, pixels and pixels.lower(), usual
    )
    return GraphInput(
        str(entry.name),
        chosen,
        dtype,
        values,
        batch,
        channels,
        height,
        width,
        quantization,
        is_stated=found is None,
    )


def find_size(path: Path, given: GraphInput) -> tuple[int, int] | None:
    """Return the ``(height, width)`` of an input, or None if they are dynamic.

    Raises:
        InputError: only one of them is.
    """
    if (given.height is None) != (given.width is None):
        raise InputError(
            f"{path}: expected height and width both fixed or both dynamic, got height "
            f"{given.height or 'dynamic'} and width {given.width or 'dynamic'}."
        )
    return None if given.height is None or given.width is None else (given.height, given.width)


def check_input_options(
    layout: str | None, pixels: str | None, *, usual: Pixels = "normalized"
) -> None:
    """Refuse unknown values of the options; arguments as for :func:`read_input`.

    Raises:
        UnknownNameError: says the nearest, or the known ones.
    """
    read_layout(layout)
    known = [one for one in get_args(Pixels) if usual == "normalized" or one != "normalized"]
    if pixels is not None and pixels.lower() not in known:
        raise UnknownNameError.of("pixels", pixels, known)


def read_layout(text: str | None) -> Layout | None:
    """Return a layout in lower case; None where none is given.

    Raises:
        UnknownNameError: no such layout.
    """
    if text is None:
        return None
    if text.lower() not in get_args(Layout):
        raise UnknownNameError.of("layout", text, get_args(Layout))
    return cast("Layout", text.lower())


def check_onnx(target: str, options: Mapping[str, Any]) -> None:
    """Refuse a file that cannot be opened, and unknown values of the options of its input.

    Raises:
        BrokenFileError: the file cannot be opened.
        UnknownNameError: as for :func:`check_input_options`.
    """
    check_input_options(options.get("layout"), options.get("pixels"))
    check_file(target, options)


def choose_scaling(
    path: Path | str, given: GraphInput, asked: Mapping[str, Sequence[float] | None]
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and deviation for a graph that takes pixels as they are; None if it does not.

    Args:
        path: for messages.
        given: the graph's input.
        asked: what the caller asked for as "mean" and "std", None if not.

    Raises:
        InputError: a mean or deviation is asked for, which would have no effect.
    """
    if given.pixels == "normalized":
        return None
    useless = [name for name, value in asked.items() if value is not None]
    if useless:
        raise InputError(
            f"{path}: takes pixels {given.pixels} as they are, so {' and '.join(useless)} cannot be "
            f"applied. Leave {'them' if len(useless) > 1 else 'it'} out"
            + (
                "."
                if _is_whole(given) and not given.quantization
                else ", or write pixels=normalized."
            )
        )
    channels = given.channels or 3
    return (0.0,) * channels, (AS_THEY_ARE[given.pixels],) * channels


def add_layout(fingerprint: str, stated: Layout | None) -> str:
    """Return the fingerprint of a file whose layout was stated; the usual one changes nothing."""
    if stated != "nhwc":
        return fingerprint
    return files.fingerprint([fingerprint.encode(), stated.encode()])


def to_float32(output: Any) -> NDArray[Any]:
    """Return an output of a graph as an array; floats of other precisions become float32."""
    values = np.asarray(output)
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def _is_whole(given: GraphInput) -> bool:
    return bool(np.issubdtype(given.dtype, np.integer))


def _make_form_error(path: Path, described: str) -> ModelError:
    kinds = ", ".join(_TYPES.values())
    return ModelError(
        f"{path}: expected one image input (N, 3, H, W) or (N, H, W, 3), or of 1 channel, of "
        f"{kinds}, got {described}. Export the model in that form."
    )


def _find_layout(path: Path, described: str, shape: Sequence[Any]) -> Layout | None:
    """Return the layout that the axes state, or None if they leave it open."""
    first, last = shape[1], shape[3]
    for fits in (_is_named_channels, _is_static_channels):
        if fits(first) != fits(last):
            return "nchw" if fits(first) else "nhwc"
    if _is_static_channels(first):
        return None
    # Neither is a number of channels, so a static one is a height or width.
    static = [isinstance(axis, int) and axis > 0 for axis in shape[1:]]
    if static == [True, True, False]:
        return "nhwc"
    if static[0]:
        raise _make_form_error(path, described)
    return "nchw" if static[2] else None


def _is_static_channels(axis: Any) -> bool:
    return isinstance(axis, int) and axis in _CHANNELS


def _is_named_channels(axis: Any) -> bool:
    return isinstance(axis, str) and (axis.lower() == "c" or "channel" in axis.lower())


def _choose_layout(
    path: Path, described: str, shape: Sequence[Any], found: Layout | None, stated: str | None
) -> Layout:
    asked = read_layout(stated)
    if asked is None and found is None:
        raise InputError(
            f"{path}: the axes of its input do not say where the channels are (got {described}). Say "
            "it: layout=nchw for (N, C, H, W), layout=nhwc for (N, H, W, C)."
        )
    if asked is not None and found not in (None, asked):
        raise ModelError(
            f"{path}: layout={asked} was asked for, but the axes of its input are {found} (got "
            f"{described}). Leave layout out."
        )
    chosen = asked or found
    assert chosen is not None
    return chosen


def _choose_values(
    path: Path, name: str, dtype: str, stated: str | None, usual: Pixels
) -> tuple[Pixels, Quantization | None]:
    """Return the values that the graph takes, and how they are quantized, if they are."""
    asked = cast("Pixels | None", stated)
    if not np.issubdtype(dtype, np.integer):
        return asked or usual, None
    quantization = read_quantization(path, name, dtype)
    if dtype == "uint8" and (asked == "0..255" or (asked is None and quantization is None)):
        return "0..255", None
    if quantization is None:
        raise ModelError(
            f"{path}: its input {name!r} is {dtype}, and the graph does not dequantize it, "
            f"so that its scale is not known"
            + (
                ". Export it with a float or uint8 input."
                if dtype != "uint8"
                else "; only pixels=0..255 can be given to it."
            )
        )
    if asked == "0..255":
        raise ModelError(
            f"{path}: its input {name!r} is {dtype}, which does not hold pixels 0..255; "
            f"write pixels={usual}, which the graph's scale quantizes."
        )
    if asked is None and dtype == "uint8":
        scale, zero = quantization
        raise InputError(
            f"{path}: its input {name!r} is uint8, which the graph dequantizes (scale "
            f"{scale:.6g}, zero point {zero}). Say what it takes: pixels=0..255 for the pixels as "
            f"they are, pixels={usual} for "
            + ("images normalized by mean and std" if usual == "normalized" else "pixels in 0..1")
            + ", quantized by that scale."
        )
    return asked or usual, quantization
