"""Batches, training transforms, datasets and sequences."""

import numpy as np
import pytest
from PIL import Image

from shiftproof.corruptions import (
    COMMON,
    CORRUPTIONS,
    HOLDOUT,
    Corrupt,
    CorruptedDataset,
    CorruptTargets,
    corrupt,
    corrupt_batch,
    corrupt_video,
)
from shiftproof.errors import ImageError, InputError, UnknownNameError


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_batch_is_its_images(images, threads):
    keys = [f"{n}.jpg" for n in range(6)]
    batch = corrupt_batch(images, "fog", severity=2.5, keys=keys, seed=4, threads=threads)
    for image, key, result in zip(images, keys, batch, strict=True):
        assert np.array_equal(result, corrupt(image, "fog", severity=2.5, seed=4, key=key))


def test_a_batch_may_be_of_any_sizes(images):
    mixed = [images[0], images[1, :5], images[2, ..., 0]]
    results = corrupt_batch(mixed, "snow", severity=3, keys=["a", "b", "c"])
    assert [r.shape for r in results] == [m.shape for m in mixed]
    with pytest.raises(InputError, match="3 images and 2 keys"):
        corrupt_batch(mixed, "snow", severity=3, keys=["a", "b"])


def test_a_transform_gives_back_what_it_got(images):
    torch = pytest.importorskip("torch")
    transform = Corrupt(corruptions=["contrast"], severities=[3])
    expected = corrupt(images[0], "contrast", severity=3)
    assert np.array_equal(transform(images[0]), expected)
    picture = transform(Image.fromarray(images[0]))
    assert isinstance(picture, Image.Image)
    assert np.array_equal(np.asarray(picture), expected)
    tensor = transform(torch.from_numpy(images[0]).permute(2, 0, 1))
    assert tensor.dtype == torch.uint8
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), expected)
    gray = transform(torch.from_numpy(images[0, ..., :1].copy()).permute(2, 0, 1))
    assert gray.shape == (1, 20, 30)
    assert transform(Image.fromarray(images[0, ..., 0])).mode == "L"


def test_a_transform_depends_on_the_image_and_the_epoch_alone(images):
    transform, other = Corrupt(seed=1), Corrupt(seed=1)
    forward = [transform(image) for image in images]
    backward = [other(image) for image in images[::-1]][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forward, backward, strict=True))
    other.epoch = 1
    assert not all(np.array_equal(a, other(i)) for a, i in zip(forward, images, strict=True))
    assert np.array_equal(transform(images[0], key="x"), transform(images[0].copy(), key="x"))


def test_a_transform_chooses_among_all(images):
    chosen = []

    def first(image, severity, rng):
        chosen.append(("first", severity))
        return image.copy()

    def second(image, severity, rng):
        chosen.append(("second", severity))
        return image.copy()

    transform = Corrupt(corruptions=[first, second], severities=[1, 4.5], probability=0.5)
    for n in range(200):
        transform(images[0], key=str(n))
    assert set(chosen) == {("first", 1), ("first", 4.5), ("second", 1), ("second", 4.5)}
    assert 70 < len(chosen) < 130


def test_a_transform_refuses_what_it_cannot_use(images):
    with pytest.raises(UnknownNameError):
        Corrupt(corruptions=["fgo"])
    with pytest.raises(InputError):
        Corrupt(severities=[0])
    with pytest.raises(InputError):
        Corrupt(corruptions=[])
    with pytest.raises(InputError, match="several corruptions, got 'fog'"):
        Corrupt(corruptions="fog")
    with pytest.raises(InputError):
        Corrupt(probability=1.5)
    with pytest.raises(ImageError, match=r"convert\(\"RGB\"\)"):
        Corrupt()(Image.new("RGBA", (4, 4)))
    torch = pytest.importorskip("torch")
    with pytest.raises(ImageError, match=r"float32 \(3, 4, 4\)"):
        Corrupt()(torch.zeros(3, 4, 4))


def test_boxes_and_masks_are_handed_through(images):
    boxes, mask = [(1, 2, 3, 4)], np.ones((20, 30))
    result = CorruptTargets(Corrupt(corruptions=["fog"]))(image=images[0], bboxes=boxes, mask=mask)
    assert result["bboxes"] is boxes
    assert result["mask"] is mask
    assert result["image"].shape == images[0].shape


def test_a_corrupted_data_set_is_a_data_set(images):
    dataset = [(image, n) for n, image in enumerate(images)]
    corrupted = CorruptedDataset(dataset, "gaussian_noise", severity=3, seed=2)
    assert len(corrupted) == 6
    image, label = corrupted[4]
    assert label == 4
    assert np.array_equal(image, corrupt(images[4], "gaussian_noise", severity=3, seed=2, key="4"))
    assert np.array_equal(corrupted[-2][0], image)
    assert [label for _, label in corrupted] == list(range(6))
    # A list would give its third item from the end for -9, under the key "-3".
    with pytest.raises(IndexError):
        corrupted[-9]
    assert np.array_equal(CorruptedDataset(list(images), "contrast", severity=1)[0],
                          corrupt(images[0], "contrast", severity=1))  # fmt: skip
    with pytest.raises(UnknownNameError):
        CorruptedDataset(dataset, "fgo", severity=3)


def test_a_corrupted_data_set_goes_through_a_loader(images):
    torch_data = pytest.importorskip("torch.utils.data")
    corrupted = CorruptedDataset([(i, 0) for i in images], "fog", severity=3)
    batches = list(torch_data.DataLoader(corrupted, batch_size=4))
    assert [tuple(batch.shape) for batch, _ in batches] == [(4, 20, 30, 3), (2, 20, 30, 3)]


@pytest.mark.parametrize("name", [*COMMON, *HOLDOUT])
def test_a_sequence_of_one_is_the_image(name, images):
    key = "clip/0" if CORRUPTIONS[name].family == "noise" else "clip"
    (only,) = corrupt_video(iter(images[:1]), name, severity=3, key="clip")
    assert np.array_equal(only, corrupt(images[0], name, severity=3, key=key))


def test_grain_is_fresh_and_a_pane_of_frost_stays(images):
    still = [images[0]] * 4
    noisy = list(corrupt_video(still, "gaussian_noise", severity=3))
    assert not np.array_equal(noisy[0], noisy[1])
    for name in ("frost", "glass_blur", "spatter", "motion_blur"):
        first, *others = corrupt_video(still, name, severity=4)
        assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize(("name", "axis"), [("fog", 1), ("snow", 0)])
def test_weather_moves(name, axis):
    """The change from frame to frame is a shift of the layer."""
    still = [np.zeros((100, 250), np.uint8)] * 6
    if name == "fog":
        still = [frame.copy() for frame in still]
        for frame in still:
            frame[0, 0] = 255
    frames = [f.astype(float) for f in corrupt_video(still, name, severity=3, key="k")]
    first, last = frames[0], frames[5]
    assert not np.array_equal(first, last)

    def likeness(shift):
        moved = np.roll(first, shift, axis=axis)
        inner = (slice(30, -30), slice(30, -30))
        return np.corrcoef(moved[inner].ravel(), last[inner].ravel())[0, 1]

    expected = round(0.004 * 5 * 250) if name == "fog" else round(0.02 * 5 * 100)
    best = max(range(-25, 26), key=likeness)
    assert abs(best - expected) <= 4
    assert likeness(best) > likeness(0)


def test_frames_of_a_sequence_are_of_one_size(images):
    frames = corrupt_video([images[0], images[1, :5]], "fog", severity=3)
    next(frames)
    with pytest.raises(ImageError, match="frame 1"):
        next(frames)
    with pytest.raises(UnknownNameError):
        corrupt_video([], "fgo", severity=3)
