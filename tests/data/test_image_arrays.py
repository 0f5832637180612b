"""Arrays in memory as a dataset."""

import numpy as np
import pytest
from PIL import Image as PillowImage

from shiftproof.classes import name_classes
from shiftproof.data import ImageArrays, ImageFolder, open_data
from shiftproof.errors import ImageError, InputError, LabelError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)


def test_a_batch_is_read_back_as_it_is(classes):
    data = ImageArrays(IMAGES, labels=[2, 0, 1], classes=classes)
    assert [sample.id for sample in data.samples] == ["000000", "000001", "000002"]
    assert [sample.label for sample in data.samples] == [2, 0, 1]
    for sample, image in zip(data.samples, IMAGES, strict=True):
        np.testing.assert_array_equal(data.read(sample), image)


def test_what_is_read_can_be_changed_without_harm():
    images = IMAGES.copy()
    data = ImageArrays(images)
    data.read(data.samples[0])[:] = 0
    np.testing.assert_array_equal(images, IMAGES)


def test_images_of_any_size_and_grey_ones():
    images = [IMAGES[0], IMAGES[1, :2], IMAGES[2, :, :, 0]]
    data = ImageArrays(images, ids=["a", "b", "c"])
    assert not data.is_labeled
    assert [data.read(sample).shape for sample in data.samples] == [(4, 5, 3), (2, 5, 3), (4, 5, 3)]
    grey = data.read(data.samples[2])
    for channel in range(3):
        np.testing.assert_array_equal(grey[:, :, channel], images[2])


def test_labels_without_classes_are_numbered():
    data = ImageArrays(IMAGES, labels=np.array([0, 7, 2], np.int16))
    assert data.classes.names == tuple("01234567")
    assert data.samples[1].label == 7
    assert type(data.samples[1].label) is int


def test_the_fingerprint_moves_with_a_pixel_a_label_and_the_shape():
    first = ImageArrays(IMAGES, labels=[0, 1, 2]).fingerprint()
    assert ImageArrays(list(IMAGES), labels=[0, 1, 2]).fingerprint() == first
    assert ImageArrays(IMAGES, labels=[0, 2, 1]).fingerprint() != first
    changed = IMAGES.copy()
    changed[2, 3, 4, 2] ^= 1
    assert ImageArrays(changed, labels=[0, 1, 2]).fingerprint() != first
    turned = IMAGES.reshape(3, 5, 4, 3)
    assert ImageArrays(turned, labels=[0, 1, 2]).fingerprint() != first


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 5, 3), np.float32),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((4, 5, 1), np.uint8),
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros(5, np.uint8),
    ],
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ImageError, match=r"Image 1: expected \(H, W, 3\) uint8"):
        ImageArrays([IMAGES[0], image])


@pytest.mark.parametrize("mode", ["P", "YCbCr", "LAB", "HSV", "RGBA", "CMYK", "1", "F"])
def test_pictures_whose_values_are_no_rgb_are_refused(mode):
    picture = PillowImage.fromarray(IMAGES[0])
    with pytest.raises(ImageError, match=rf"Image 1: .* got {mode}\. Convert it with"):
        ImageArrays([picture, picture.convert(mode)])
    data = ImageArrays([picture, picture.convert("L")])
    np.testing.assert_array_equal(data.read(data.samples[0]), IMAGES[0])


@pytest.mark.parametrize("pair", [(IMAGES[0], 3), {"image": IMAGES[0], "label": 3}])
def test_pairs_are_no_images(pair):
    with pytest.raises(ImageError, match=r"Image 0: .* got a (tuple|dict)\. Give the images alone"):
        ImageArrays([pair])


def test_classes_may_be_names(tmp_path):
    names = ["cat", "dog", "emu"]
    assert ImageArrays(IMAGES, labels=[0, 2, 1], classes=names).classes == name_classes(names)
    for name in names:
        (tmp_path / name).mkdir()
        PillowImage.fromarray(IMAGES[0]).save(tmp_path / name / "a.png")
    for opened in (ImageFolder(tmp_path, names[::-1]), open_data(tmp_path, classes=names[::-1])):
        assert [sample.label for sample in opened.samples] == [2, 1, 0]
    for wrong in ("cat", [1, 2, 3]):
        with pytest.raises(InputError, match="expected a list of names"):
            ImageArrays(IMAGES, labels=[0, 2, 1], classes=wrong)
        with pytest.raises(InputError, match="expected a list of names"):
            open_data(tmp_path, classes=wrong)


def test_a_single_image_is_not_taken_for_a_batch():
    with pytest.raises(ImageError, match=r"for a single image, give \[image\]"):
        ImageArrays(IMAGES[0])


@pytest.mark.parametrize(
    "labels", [[0, 1], [[0, 1, 2]], [0.0, 1.0, 2.0], ["cat", "dog", "cat"], [True, False, True]]
)
def test_labels_that_are_not_one_integer_an_image_are_refused(labels):
    with pytest.raises(LabelError, match="Expected 3 integer labels"):
        ImageArrays(IMAGES, labels=labels)


def test_labels_outside_the_classes_are_refused(classes):
    with pytest.raises(LabelError, match="of 0 to 2, got 0 to 3"):
        ImageArrays(IMAGES, labels=[0, 1, 3], classes=classes)
    with pytest.raises(LabelError, match="of 0 or more, got -1 to 1"):
        ImageArrays(IMAGES, labels=[0, 1, -1])


@pytest.mark.parametrize("ids", [["a", "b"], ["a", "b", 3], ["a", "b", ""]])
def test_ids_that_are_not_one_text_an_image_are_refused(ids):
    with pytest.raises(InputError, match="one text per image"):
        ImageArrays(IMAGES, ids=ids)


def test_ids_that_are_not_unique_are_refused():
    with pytest.raises(InputError, match="2 images have the id 'a'"):
        ImageArrays(IMAGES, ids=["a", "b", "a"])


@pytest.mark.parametrize("labels", [None, []])
def test_no_images_are_refused(labels):
    with pytest.raises(InputError, match="has no images"):
        ImageArrays([], labels=None if labels is None else np.zeros(0, int))
