"""Every way to make the products, for tests that all of them must pass."""

import pytest

from support.similar_rows import TECHNIQUES, use


@pytest.fixture(params=TECHNIQUES)
def way(request, monkeypatch):
    """A way that the search takes, whatever precision it is asked for."""
    use(request.param, monkeypatch)
    return request.param
