"""A finished experiment that several files look at: it is made once."""

import pytest

from shiftproof_reproduce import bn_adaptation
from support.tiny_fashion import BN_PLAN, write_fashion


@pytest.fixture(scope="session")
def fashion_folder(tmp_path_factory):
    return write_fashion(tmp_path_factory.mktemp("fashion"))


@pytest.fixture(scope="session")
def bn(fashion_folder, tmp_path_factory):
    """The folder of batch-norm adaptation in small, and its result; to be copied, not changed."""
    out = tmp_path_factory.mktemp("bn")
    return out, bn_adaptation.reproduce(out, data=fashion_folder, plan=BN_PLAN, show_progress=False)
