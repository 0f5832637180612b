"""Counts in sentences."""

import pytest

from shiftproof.counts import plural


@pytest.mark.parametrize(
    ("count", "written"),
    [(0, "0 shards"), (1, "1 shard"), (2, "2 shards"), (12000, "12,000 shards")],
)
def test_one_alone_is_singular(count: int, written: str) -> None:
    assert plural(count, "shard") == written


def test_a_word_may_have_a_plural_of_its_own() -> None:
    assert plural(1, "pass", "passes") == "1 pass"
    assert plural(3, "pass", "passes") == "3 passes"
