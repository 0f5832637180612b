"""Reading the format of MNIST: ``.idx`` files, plain or compressed with gzip."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import BrokenFileError

MAX_VALUES = 1 << 30
"""Maximum number of values, checked before reading: a small file can claim, and unpack to, any
size.
"""

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an array of bytes, of one to four dimensions.

    Two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a
    big-endian 32-bit number, then the values (LeCun, Cortes & Burges: "The MNIST database").

    Args:
        path: the file; one that ends in ``.gz`` is unpacked.

    Raises:
        BrokenFileError: it is missing, has another format or type, or another length than stated.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4)
            if len(head) != 4 or head[:2] != b"\0\0" or not 1 <= head[3] <= 4:
                raise ValueError("it does not begin as an idx file")
            if head[2] != _UNSIGNED_BYTE:
                raise ValueError(f"expected unsigned bytes (type 8), got type {head[2]}")
            sizes = file.read(4 * head[3])
            shape = [int(size) for size in np.frombuffer(sizes, ">u4")]
            count = math.prod(shape)
            if len(shape) != head[3] or count > MAX_VALUES:
                raise ValueError(f"expected up to {MAX_VALUES} values, it claims the shape {shape}")
            values = file.read(count + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BrokenFileError(f"{path}: no readable idx file ({error}).") from error
    if len(values) != count:
        came = "fewer" if len(values) < count else "more"
        raise BrokenFileError(
            f"{path}: expected {count} values of the shape {shape}, got {came}. "
            "Fetch the file once more."
        )
    return np.frombuffer(values, np.uint8).reshape(shape)
