"""Corruptions of video: weather persists and moves between frames, sensor noise is drawn anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shiftproof.corruptions import weather
from shiftproof.corruptions.checks import check_image, check_severity
from shiftproof.corruptions.table import CORRUPTIONS, corrupt, find_function
from shiftproof.errors import ImageError
from shiftproof.rng import check_seed, generator
from shiftproof.types import Image

SNOW_SPEED = 0.02
"""Share of the height that snow falls per frame: 0.6 heights per second at 30 frames per second."""

FOG_SPEED = 0.004
"""Share of the width that fog drifts per frame."""


def corrupt_video(
    frames: Iterable[Image], name: str, *, severity: float, seed: int = 0, key: str = ""
) -> Iterator[Image]:
    """Yield the frames of a sequence, corrupted coherently over time.

    Noise is drawn anew for each frame. Snow falls and fog drifts. Everything else keeps its draws
    over the sequence: the angle of the motion blur, the pane of frost or glass, the drops on the
    lens, the waves of the elastic transform.

    Args:
        frames: ``(H, W, 3)`` or ``(H, W)`` uint8, all of one size; read one at a time.
        name: name of a corruption.
        severity: 1 to 5.
        seed: any integer.
        key: identifies the sequence. Frame t depends only on seed, name, key and t.

    Raises:
        ImageError: a frame of another size than the first; and as ``corrupt``.
    """
    level, seed = check_severity(severity), check_seed(seed)
    find_function(name)
    return _corrupt_frames(frames, name, level, seed, key)


def _corrupt_frames(
    frames: Iterable[Image], name: str, severity: float, seed: int, key: str
) -> Iterator[Image]:
    shape: tuple[int, ...] | None = None
    for number, frame in enumerate(frames):
        image = check_image(frame)
        if shape is not None and image.shape != shape:
            raise ImageError(
                f"The frames of a sequence are of one size: the first is {shape}, "
                f"frame {number} is {image.shape}."
            )
        shape = image.shape
        rng = generator(seed, name, key)
        if name == "snow":
            yield weather.snow_at(image, severity, rng, SNOW_SPEED * number)
        elif name == "fog":
            yield weather.fog_at(image, severity, rng, FOG_SPEED * number)
        elif CORRUPTIONS[name].family == "noise":
            yield corrupt(image, name, severity=severity, seed=seed, key=f"{key}/{number}")
        else:
            yield corrupt(image, name, severity=severity, seed=seed, key=key)
