"""The corruptions on CUDA: the arrays' results or distribution, keys, and nothing that waits."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shiftproof.corruptions import CORRUPTIONS, corrupt  # noqa: E402
from shiftproof.corruptions.torch import corrupt_tensor  # noqa: E402
from shiftproof.corruptions.torch.table import FUNCTIONS  # noqa: E402
from support.picture_statistics import measure_distance, measure_picture  # noqa: E402

pytestmark = pytest.mark.gpu

FOLDER = Path(__file__).parent.parent / "reference" / "corruptions"
ALL = list(FUNCTIONS)
DRAWS = 40


@pytest.fixture(scope="module")
def image():
    with np.load(FOLDER / "picture.npz") as arrays:
        return arrays["image"]


@pytest.fixture(scope="module")
def batch(image):
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous().cuda()
    return tensor.expand(DRAWS, -1, -1, -1)


def arrays_of(tensor):
    return tensor.permute(0, 2, 3, 1).cpu().numpy()


@pytest.mark.parametrize("name", [n for n in ALL if not CORRUPTIONS[n].is_random])
def test_deterministic_ones_are_the_arrays(name, image, batch):
    for severity in (1, 2, 3, 4, 5):
        result = arrays_of(corrupt_tensor(batch[:1], name, severity=severity, keys=["k"]))[0]
        difference = np.abs(result.astype(int) - corrupt(image, name, severity=severity))
        assert difference.max() <= (12 if name == "jpeg_compression" else 1)
        assert difference.mean() < (0.8 if name == "jpeg_compression" else 0.35)


@pytest.mark.parametrize("name", [n for n in ALL if CORRUPTIONS[n].is_random])
def test_random_ones_have_the_arrays_distribution(name, image, batch):
    keys = [str(number) for number in range(DRAWS)]
    for severity in (2, 4):
        there = arrays_of(corrupt_tensor(batch, name, severity=severity, keys=keys))
        here = [corrupt(image, name, severity=severity, key=key) for key in keys]
        first, second = (
            np.array([measure_picture(result, image) for result in results])
            for results in (there, here)
        )
        assert measure_distance(first, second) < 4.5


@pytest.mark.parametrize("name", ALL)
def test_a_key_decides_the_pixels(name, batch):
    keys = ["a", "b", "c"]
    together = corrupt_tensor(batch[:3], name, severity=3, keys=keys)
    again = corrupt_tensor(batch[:3], name, severity=3, keys=keys)
    alone = corrupt_tensor(batch[:1], name, severity=3, keys=["b"])
    assert torch.equal(together, again)
    assert (together[1].int() - alone[0].int()).abs().max() <= 1


@pytest.mark.parametrize("name", ALL)
def test_nothing_waits_for_the_device(name, batch):
    # Water (spatter up to severity 3) asks whether edges still grow; mud does not.
    def run():
        return corrupt_tensor(batch[:3], name, severity=5, keys=["a", "b", "c"])

    run()  # what is kept of constants is brought there
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["gaussian_blur", "elastic_transform", "pixelate"])
def test_the_callers_precision_changes_no_pixel(name, batch):
    plain = corrupt_tensor(batch[:2], name, severity=3, keys=["a", "b"])
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = True
    try:
        with torch.autocast("cuda", torch.bfloat16):
            result = corrupt_tensor(batch[:2], name, severity=3, keys=["a", "b"])
        assert matmul.allow_tf32
    finally:
        matmul.allow_tf32 = before
    assert torch.equal(result, plain)
