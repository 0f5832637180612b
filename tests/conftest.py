"""One thread for torch: small tensors gain nothing from more, and threads that wait cost time."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)
