"""The words by which files and folders are called after the splits of a dataset."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_WORDS = {
    "train": ("train",), "training": ("train",), "trn": ("train",),
    "val": ("val",), "valid": ("val",), "validation": ("val",), "dev": ("val",),
    "minival": ("val",), "valminusminival": ("val",),
    "test": ("test",), "testing": ("test",), "testdev": ("test",), "tst": ("test",),
    "trainval": ("train", "val"),
}  # fmt: skip


def splits_in(name: str) -> frozenset[str]:
    """Return the splits (train, val, test) that a name has words for.

    >>> sorted(splits_in("instances_val2017")), sorted(splits_in("labels"))
    (['val'], [])
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = re.findall(r"[a-z]+", spaced.lower())
    return frozenset(split for word in words for split in _WORDS.get(word, ()))


def split_of(path: str) -> frozenset[str]:
    """Return the splits that the innermost part of a path with any names."""
    for part in reversed(PurePosixPath(path).parts):
        if found := splits_in(part):
            return found
    return frozenset()


def is_asked(split: str, name: str) -> bool:
    """Whether a file or folder called ``name`` is of the split that a person asks for."""
    asked = splits_in(split)
    if asked and splits_in(name):
        return asked == splits_in(name)
    return split in name
