"""Write counts with their nouns."""

from __future__ import annotations


def pluralize(count: int, singular: str, plural: str | None = None) -> str:
    """Return a count with its noun, in the plural unless the count is 1.

    >>> pluralize(1, "image"), pluralize(2000, "class"), pluralize(2, "key is", "keys are")
    ('1 image', '2,000 classes', '2 keys are')
    """
    regular = f"{singular}es" if singular.endswith(("s", "x", "ch", "sh")) else f"{singular}s"
    return f"{count:,} {singular if count == 1 else plural or regular}"
