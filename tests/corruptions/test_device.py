"""The torch path, run on the CPU here: the array path's results, or its distribution."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shiftproof.corruptions import CORRUPTIONS, corrupt  # noqa: E402
from shiftproof.corruptions.torch.blur import make_disk_kernel  # noqa: E402
from shiftproof.corruptions.torch.table import (  # noqa: E402
    FUNCTIONS,
    corrupt_on_device,
    corrupt_tensor,
)
from shiftproof.errors import ImageError, InputError, UnknownNameError  # noqa: E402
from support.picture_statistics import measure_distance, measure_picture  # noqa: E402

FOLDER = Path(__file__).parent.parent / "reference" / "corruptions"
ALL = list(FUNCTIONS)


@pytest.fixture(scope="module")
def image():
    with np.load(FOLDER / "picture.npz") as arrays:
        return arrays["image"]


def tensor_of(image):
    return torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()


def array_of(tensor):
    return tensor[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("name", [n for n in ALL if not CORRUPTIONS[n].is_random])
def test_deterministic_ones_are_the_arrays(name, image):
    for severity in (1, 2, 3, 4, 5):
        result = array_of(corrupt_on_device(tensor_of(image), name, severity, ["k"], 0)).astype(int)
        expected = corrupt(image, name, severity=severity).astype(int)
        difference = np.abs(result - expected)
        # Flat areas, where the last bit decides, may be a level off; JPEG rounds in whole numbers.
        assert difference.max() <= (12 if name == "jpeg_compression" else 1)
        assert difference.mean() < (0.8 if name == "jpeg_compression" else 0.35)


@pytest.mark.parametrize("name", [n for n in ALL if CORRUPTIONS[n].is_random])
def test_random_ones_have_the_arrays_distribution(name, image):
    draws = 40
    keys = [str(n) for n in range(draws)]

    def arrays(severity):
        results = (corrupt(image, name, severity=severity, key=k) for k in keys)
        return np.array([measure_picture(result, image) for result in results])

    for severity in (2, 4):
        batch = tensor_of(image).expand(draws, -1, -1, -1)
        there = corrupt_on_device(batch, name, severity, keys, 0).permute(0, 2, 3, 1).numpy()
        sample = np.array([measure_picture(result, image) for result in there])
        assert measure_distance(sample, arrays(severity)) < 4.5
        if severity == 2:
            assert measure_distance(sample, arrays(1)) > 4.5


@pytest.mark.parametrize("name", ALL)
def test_a_result_does_not_depend_on_the_batch(name):
    images = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (3, 3, 17, 22), dtype=np.uint8)
    )
    keys = ["a", "b", "c"]
    before = images.clone()
    for run in (corrupt_on_device, lambda *a: corrupt_tensor(a[0], a[1], severity=a[2], keys=a[3])):
        batch = run(images, name, 3, keys, 0)
        alone = run(images[1:2], name, 3, keys[1:2], 0)
        assert batch.dtype == torch.uint8
        assert batch.shape == images.shape
        assert (batch[1].int() - alone[0].int()).abs().max() <= 1
        assert torch.equal(images, before)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (9, 5)])
def test_any_size_and_grey(name, shape):
    for channels in (1, 3):
        images = torch.randint(0, 256, (2, channels, *shape), dtype=torch.uint8)
        # Severity 2 is water where 5 is mud, and the reach of the filters differs.
        for severity in (2, 5):
            assert corrupt_on_device(images, name, severity, ["a", "b"], 0).shape == images.shape
        result = corrupt_tensor(images, name, severity=3, keys=["a", "b"])
        assert result.shape == images.shape


def test_on_the_cpu_it_is_the_array_path(image):
    result = corrupt_tensor(tensor_of(image), "fog", severity=3, keys=["k"], seed=5)
    assert np.array_equal(array_of(result), corrupt(image, "fog", severity=3, key="k", seed=5))


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_the_disk_is_opencvs(severity):
    import cv2

    radius, alias = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity - 1]
    reach, size = (8, 3) if radius <= 8 else (radius, 5)
    x, y = np.meshgrid(*[np.arange(-reach, reach + 1)] * 2)
    disk = (x**2 + y**2 <= radius**2).astype(np.float64)
    expected = cv2.GaussianBlur(disk / disk.sum(), (size, size), alias)
    assert np.abs(make_disk_kernel(radius, alias) - expected).max() < 1e-7


def test_what_cannot_be_used_is_refused():
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(UnknownNameError):
        corrupt_tensor(images, "fgo", severity=3, keys=["a", "b"])
    with pytest.raises(InputError, match=r"2 images and 1 key\."):
        corrupt_tensor(images, "fog", severity=3, keys=["a"])
    with pytest.raises(ImageError, match="float32"):
        corrupt_tensor(images.float(), "fog", severity=3, keys=["a", "b"])
    with pytest.raises(ImageError, match=r"\(2, 4, 4, 3\)"):
        corrupt_tensor(images.permute(0, 2, 3, 1), "fog", severity=3, keys=["a", "b"])
    with pytest.raises(ImageError):
        corrupt_tensor(images[:0], "fog", severity=3, keys=[])


@pytest.mark.parametrize("name", ALL)
def test_the_default_dtype_moves_no_pixel(name):
    images = torch.randint(0, 256, (2, 3, 21, 34), dtype=torch.uint8)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        wide = corrupt_on_device(images, name, 2, ["a", "b"], 0)
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(corrupt_on_device(images, name, 2, ["a", "b"], 0), wide)
