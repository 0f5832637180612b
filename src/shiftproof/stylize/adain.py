"""Adaptive instance normalization (Huang and Belongie 2017, arXiv 1703.06868), with weights by
path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from shiftproof.errors import InputError, ModelError, RunError
from shiftproof.io import files
from shiftproof.stylize.contract import fit_size
from shiftproof.types import Image

if TYPE_CHECKING:
    import torch

ENCODER_NAMES = ("vgg_normalised.pth", "vgg_normalised.safetensors")
DECODER_NAMES = ("decoder.pth", "decoder.safetensors")

MULTIPLE = 8
"""The encoder halves the size three times."""

MIN_SIDE = 16
"""Smallest side in pixels: below it the last layer would have one position, which cannot be padded
by reflection.
"""

STYLE_SIDE = 512
"""A larger style is scaled down to this shorter side, as in the published tool."""

EPSILON = 1e-5
"""Added to the variance, as published."""

CACHED_STYLES = 32
"""Number of styles whose statistics are cached."""


@dataclass(frozen=True)
class _Convolution:
    """A convolution, with its number in the published ``Sequential``."""

    number: int
    inputs: int
    outputs: int
    size: int = 3
    is_rectified: bool = True


_POOL, _DOUBLE = "pool", "double"

# VGG-19 up to relu4_1, with a first layer that converts RGB in 0..1 to VGG's normalization.
_ENCODER: tuple[_Convolution | str, ...] = (
    _Convolution(0, 3, 3, size=1, is_rectified=False),
    _Convolution(2, 3, 64), _Convolution(5, 64, 64), _POOL,
    _Convolution(9, 64, 128), _Convolution(12, 128, 128), _POOL,
    _Convolution(16, 128, 256), _Convolution(19, 256, 256), _Convolution(22, 256, 256),
    _Convolution(25, 256, 256), _POOL,
    _Convolution(29, 256, 512),
)  # fmt: skip

# The other layers of VGG-19 in the published file, which AdaIN does not use.
_UNUSED = frozenset(
    f"{number}.{kind}" for number in (32, 35, 38, 42, 45, 48, 51) for kind in ("weight", "bias")
)

_DECODER: tuple[_Convolution | str, ...] = (
    _Convolution(1, 512, 256), _DOUBLE,
    _Convolution(5, 256, 256), _Convolution(8, 256, 256), _Convolution(11, 256, 256),
    _Convolution(14, 256, 128), _DOUBLE,
    _Convolution(18, 128, 128), _Convolution(21, 128, 64), _DOUBLE,
    _Convolution(25, 64, 64), _Convolution(28, 64, 3, is_rectified=False),
)  # fmt: skip


@final
class AdaIN:
    """The AdaIN engine: VGG-19 features normalized to the style's mean and deviation, decoded.

    The features are those of relu4_1. Images are padded by reflection to a multiple of 8 and
    cropped back, which preserves positions; styles are scaled down to a shorter side of 512. Alpha
    interpolates features.

    Differs from the published tool: that resizes an image to a multiple of 8, and silently skips
    images that do not fit into memory.

    Args:
        weights: a folder that holds ``vgg_normalised.pth`` and ``decoder.pth``, or the two files,
            the encoder first; state dicts as in naoto0804/pytorch-AdaIN. ``.safetensors`` is
            accepted, too.
        device: device of the networks.

    Raises:
        InputError: no such files.
        BrokenFileError: a file that is not a checkpoint.
        ModelError: names or shapes that do not match, or weights that are not finite.
        MissingExtraError: torch is not installed.
    """

    def __init__(self, weights: str | Path | Sequence[str | Path], *, device: str = "cpu") -> None:
        from shiftproof.models.structure import require_torch

        require_torch()
        self.encoder_file, self.decoder_file = _find_files(weights)
        self.device = device
        self._encoder = _read(self.encoder_file, _ENCODER, "encoder", device, _UNUSED)
        self._decoder = _read(self.decoder_file, _DECODER, "decoder", device)
        self._cache: dict[bytes, tuple[torch.Tensor, torch.Tensor]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled as paths: workers read the files themselves.
        return _reopen, (self.encoder_file, self.decoder_file, self.device)

    @property
    def identity(self) -> str:
        """The name and the fingerprints of the weights, for a manifest."""
        both = files.file_fingerprints([self.encoder_file, self.decoder_file])
        return f"adain, encoder {both[0]}, decoder {both[1]}"

    def __call__(
        self, content: Image, style: Image, alpha: float, rng: np.random.Generator
    ) -> Image:
        """Return ``content`` in the style of ``style``; ``rng`` is not used.

        Raises:
            RunError: not enough memory for an image of this size.
        """
        import torch

        height, width = content.shape[:2]
        try:
            with torch.inference_mode():
                mean, deviation = self._statistics(style)
                features = self.encode(content)
                mixed = alpha * match_statistics(features, mean, deviation) + (1 - alpha) * features
                decoded = _run(mixed, _DECODER, self._decoder)[0, :, :height, :width]
                pixels = (decoded.clamp(0, 1) * 255 + 0.5).to(torch.uint8)
        except (MemoryError, RuntimeError) as error:
            if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
                raise
            raise RunError(
                f"There is not enough memory for AdaIN at {width} x {height} pixels; use fewer "
                "workers, smaller images or the engine free."
            ) from error
        return np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())

    def encode(self, image: Image) -> torch.Tensor:
        """Return the features of relu4_1, ``(1, 512, H', W')``, of an image ``(H, W, 3)`` uint8.

        The image is padded by reflection at the right and below.
        """
        import torch

        height, width = image.shape[:2]
        below, right = (
            max(-(-length // MULTIPLE) * MULTIPLE, MIN_SIDE) - length for length in (height, width)
        )
        padded = np.pad(image, ((0, below), (0, right), (0, 0)), mode="reflect")
        tensor = torch.from_numpy(padded).to(self.device).permute(2, 0, 1)[None].float() / 255
        return _run(tensor, _ENCODER, self._encoder)

    def _statistics(self, style: Image) -> tuple[torch.Tensor, torch.Tensor]:
        import cv2

        key = hashlib.blake2b(repr(style.shape).encode() + style.tobytes(), digest_size=16).digest()
        if key not in self._cache:
            height, width = style.shape[:2]
            if min(height, width) > STYLE_SIDE:
                size = fit_size(width, height, STYLE_SIDE)
                style = np.asarray(cv2.resize(style, size, interpolation=cv2.INTER_AREA))
            if len(self._cache) >= CACHED_STYLES:
                del self._cache[next(iter(self._cache))]
            self._cache[key] = compute_statistics(self.encode(style))
        return self._cache[key]


def _reopen(encoder: Path, decoder: Path, device: str) -> AdaIN:
    return AdaIN([encoder, decoder], device=device)


def compute_statistics(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation of each channel over all positions, ``(N, C, 1, 1)`` each.

    The deviation is the root of the unbiased variance (N - 1) plus 1e-5, as published.
    """
    variance = features.var(dim=(2, 3), keepdim=True, correction=1)
    return features.mean(dim=(2, 3), keepdim=True), (variance + EPSILON).sqrt()


def match_statistics(
    features: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor
) -> torch.Tensor:
    """Give features the mean and deviation of a style, channel by channel (equation 8)."""
    own_mean, own_deviation = compute_statistics(features)
    return (features - own_mean) / own_deviation * deviation + mean


def _run(
    values: torch.Tensor,
    layers: tuple[_Convolution | str, ...],
    weights: dict[str, torch.Tensor],
) -> torch.Tensor:
    from torch.nn import functional

    for layer in layers:
        if layer == _POOL:
            values = functional.max_pool2d(values, 2)
        elif layer == _DOUBLE:
            values = functional.interpolate(values, scale_factor=2, mode="nearest")
        elif isinstance(layer, _Convolution):
            if layer.size > 1:
                values = functional.pad(values, (1, 1, 1, 1), mode="reflect")
            weight, bias = weights[f"{layer.number}.weight"], weights[f"{layer.number}.bias"]
            values = functional.conv2d(values, weight, bias)
            if layer.is_rectified:
                values = values.relu_()
    return values


def list_encoder_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shapes of the encoder's weights by name."""
    return _list_shapes(_ENCODER)


def list_decoder_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shapes of the decoder's weights by name."""
    return _list_shapes(_DECODER)


def _list_shapes(layers: tuple[_Convolution | str, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        if isinstance(layer, _Convolution):
            shape = (layer.outputs, layer.inputs, layer.size, layer.size)
            shapes[f"{layer.number}.weight"] = shape
            shapes[f"{layer.number}.bias"] = (layer.outputs,)
    return shapes


def _read(
    path: Path,
    layers: tuple[_Convolution | str, ...],
    part: str,
    device: str,
    unused: frozenset[str] = frozenset(),
) -> dict[str, torch.Tensor]:
    """Read the weights of one network and check their names and shapes."""
    from shiftproof.models.checkpoints.checkpoint import read_state, strip_prefixes

    expected = _list_shapes(layers)
    state = strip_prefixes(read_state(path), expected)
    missing = [name for name in expected if name not in state]
    extra = [name for name in state if name not in expected and name not in unused]
    shapes = [
        f"{name} is {tuple(state[name].shape)} and not {shape}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    faults = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for what, names in (
            (f"of {len(expected)} names are missing", missing),
            ("names are not its own", extra),
            ("have another shape", shapes),
        )
        if names
    ]
    if faults:
        raise ModelError(
            f"{path} is not the {part} of AdaIN: {'; '.join(faults)}. Expected the state dict "
            f"{ENCODER_NAMES[0] if part == 'encoder' else DECODER_NAMES[0]} of pytorch-AdaIN."
        )
    kept = {name: state[name].to(device).float() for name in expected}
    wrong = next((name for name, value in kept.items() if not bool(value.isfinite().all())), None)
    if wrong is not None:
        raise ModelError(
            f"{path}: {wrong} holds numbers that are not finite; fetch the file again."
        )
    return kept


def _find_files(weights: str | Path | Sequence[str | Path]) -> tuple[Path, Path]:
    paths = (
        [Path(weights)] if isinstance(weights, (str, Path)) else [Path(path) for path in weights]
    )
    if len(paths) == 2:
        return paths[0], paths[1]
    if len(paths) != 1 or not paths[0].is_dir():
        raise InputError(
            f"Expected a folder with {ENCODER_NAMES[0]} and {DECODER_NAMES[0]}, or these two files; "
            f"got {', '.join(map(str, paths)) or 'nothing'}."
        )
    found = []
    for names in (ENCODER_NAMES, DECODER_NAMES):
        path = next((paths[0] / name for name in names if (paths[0] / name).is_file()), None)
        if path is None:
            raise InputError(
                f"{paths[0]} has no {names[0]}; expected {ENCODER_NAMES[0]} and {DECODER_NAMES[0]}, the "
                "weights of AdaIN."
            )
        found.append(path)
    return found[0], found[1]
