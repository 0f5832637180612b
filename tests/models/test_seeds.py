"""The weights of networks in tests do not depend on what ran before."""

import pytest
import torch


def draw(seed):
    return torch.rand(3, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def shared():
    return torch.rand(3)


@pytest.mark.parametrize("turn", range(2))
def test_every_test_begins_with_the_same_numbers_of_torch(shared, turn):
    assert torch.equal(shared, draw(0))
    assert torch.equal(torch.rand(3), draw(1))


def test_what_a_fixture_has_drawn_changes_none_of_them():
    assert torch.equal(torch.rand(3), draw(1))
