"""Split names (train, val, test) in the names of files and folders."""

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


def parse_splits(name: str) -> frozenset[str]:
    """Return the splits (train, val, test) that the words of a name stand for.

    >>> sorted(parse_splits("instances_val2017")), sorted(parse_splits("labels"))
    (['val'], [])
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = re.findall(r"[a-z]+", spaced.lower())
    return frozenset(split for word in words for split in _WORDS.get(word, ()))


def parse_path_splits(path: str) -> frozenset[str]:
    """Return the splits of the last part of a path that names any."""
    for part in reversed(PurePosixPath(path).parts):
        if splits := parse_splits(part):
            return splits
    return frozenset()


def matches_split(name: str, split: str) -> bool:
    """Return whether a file or folder name is one of the requested split."""
    requested, named = parse_splits(split), parse_splits(name)
    return requested == named if requested and named else split in name
