"""What needs a GPU: skipped where torch sees none."""

import pytest


def pytest_collection_modifyitems(items):
    """Skip with the reason, so that a run without a GPU says what it has not seen."""
    asking = [item for item in items if item.get_closest_marker("gpu")]
    if not asking or _has_gpu():
        return
    skip = pytest.mark.skip(reason="torch sees no CUDA device here")
    for item in asking:
        item.add_marker(skip)


def _has_gpu():
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()
