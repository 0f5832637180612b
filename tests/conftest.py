"""One thread for torch: small tensors gain nothing from more, and threads that wait cost time."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def image_text_models(tmp_path_factory):
    """A folder of tiny models of OpenCLIP and transformers, saved by the libraries themselves."""
    pytest.importorskip("transformers", exc_type=ImportError)
    pytest.importorskip("open_clip", exc_type=ImportError)
    from support import image_text

    folder = tmp_path_factory.mktemp("image-text")
    image_text.write_all(folder)
    return folder
