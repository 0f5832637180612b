"""Small images on the disk."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shiftproof import Classes

PETS = Classes(("cat", "dog", "guinea pig"), synonyms={"tabby": 0})


@pytest.fixture
def classes():
    return PETS


@pytest.fixture
def photo():
    """Write a small image of one grey level and return its path."""

    def write(path: Path, level: int = 100, size: tuple[int, int] = (4, 3)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = size
        Image.fromarray(np.full((height, width, 3), level, np.uint8)).save(path)
        return path

    return write
