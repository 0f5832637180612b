"""Write counts with their nouns."""

from __future__ import annotations


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun, in the plural unless the count is 1.

    >>> plural(1, "image"), plural(2000, "image"), plural(0, "class"), plural(2, "key is", "keys are")
    ('1 image', '2,000 images', '0 classes', '2 keys are')
    """
    regular = f"{one}es" if one.endswith(("s", "x", "ch", "sh")) else f"{one}s"
    return f"{count:,} {one if count == 1 else many or regular}"
