"""The caller's default dtype of torch changes neither random draws nor results."""

import pytest

torch = pytest.importorskip("torch")

from shiftproof import Classifier, Preprocess  # noqa: E402
from shiftproof.adapt import make_adapter  # noqa: E402
from shiftproof.models.classifiers.classifier import _scale_on  # noqa: E402


@pytest.mark.parametrize(
    "spec", ["batchnorm:prior=4", "cotta:restore=0.5", "memo:augmentations=2", "rotta", "rpl"]
)
def test_the_default_dtype_changes_no_answer(spec):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3),
    ).eval()  # fmt: skip
    images = torch.rand(8, 3, 16, 16)
    preprocess = Preprocess((16, 16), 16, mean=(0.4, 0.5, 0.3), std=(0.2, 0.3, 0.1))

    def answer():
        # Mean and deviation are kept for all models.
        _scale_on.cache_clear()
        adapter = make_adapter(spec, Classifier(network, preprocess))
        adapter(images)
        return adapter(images)

    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        wide = answer()
    finally:
        torch.set_default_dtype(before)
    assert wide.dtype == torch.float32
    assert torch.equal(answer(), wide)
