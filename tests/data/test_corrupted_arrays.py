"""Corrupted arrays on the disk: the layouts of CIFAR-10-C and MNIST-C, and what does not fit them."""

import pickle

import numpy as np
import pytest

from shiftproof.classes import label_set, name_classes, number_classes
from shiftproof.data import CorruptedArrays, CorruptedData, CorruptedTree, open_data
from shiftproof.data.images import cells
from shiftproof.data.images.opening import find_copies
from shiftproof.errors import BrokenFileError, InputError, LabelError, UnknownNameError
from shiftproof.types import CLEAN, Cell, Sample

CIFAR = name_classes(["airplane", "automobile", "bird", "cat"])
LABELS = [3, 0, 2]


def pixels(count, *, shape=(4, 5, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture
def cifar(tmp_path):
    """Three images, two corruptions, the five severities one behind the other."""
    root = tmp_path / "CIFAR-10-C"
    root.mkdir()
    for seed, name in enumerate(("snow", "fog")):
        np.save(root / f"{name}.npy", pixels(15, seed=seed))
    np.save(root / "labels.npy", np.array(LABELS * 5, np.uint8))
    return root


@pytest.fixture
def mnist(tmp_path):
    """Three images, two corruptions without severities, and "identity"."""
    root = tmp_path / "mnist_c"
    for seed, name in enumerate(("fog", "zigzag", "identity")):
        (root / name).mkdir(parents=True)
        for split, count in (("test", 3), ("train", 4)):
            np.save(root / name / f"{split}_images.npy", pixels(count, shape=(6, 6, 1), seed=seed))
            np.save(root / name / f"{split}_labels.npy", np.arange(count))
    return root


# ---------------------------------------------------------------- CIFAR-10-C


def test_each_file_holds_five_severities(cifar):
    data = open_data(cifar, classes=CIFAR)
    assert type(data) is CorruptedArrays
    assert isinstance(data, CorruptedData)
    assert data.cells == tuple(Cell(name, s) for name in ("snow", "fog") for s in range(1, 6))
    assert [sample.label for sample in data.samples] == LABELS
    assert data.samples[2] == Sample("000002", 2)
    assert data.classes is CIFAR
    assert not data.has_clean
    for cell in data.cells:
        assert data.cell_samples(cell) == data.samples
        stored = np.load(cifar / f"{cell.corruption}.npy")
        for number, sample in enumerate(data.samples):
            image = data.read_cell(sample, cell)
            # Severity 1 first, and in each the images in their order.
            np.testing.assert_array_equal(image, stored[3 * (cell.severity - 1) + number])
            assert (type(image), image.dtype) == (np.ndarray, np.uint8)
            image[:] = 0  # the caller's own


def test_without_classes_there_are_no_labels(cifar):
    for data in (CorruptedArrays(cifar), CorruptedArrays(cifar, CIFAR, labeled=False)):
        assert not data.is_labeled
        assert data.classes is None
    with pytest.raises(LabelError, match="none were given"):
        CorruptedArrays(cifar, labeled=True)


def test_the_clean_images_are_an_array_in_the_same_order(cifar, tmp_path):
    clean = pixels(3, seed=9)
    for place in (cifar / "clean.npy", tmp_path / "elsewhere.npy", cifar / "original.npy"):
        np.save(place, clean)
        given = None if place.name == "clean.npy" else place
        data = open_data(cifar, classes=CIFAR, clean=given)
        assert data.has_clean
        assert len(data.cells) == 10
        for sample, image in zip(data.samples, clean, strict=True):
            np.testing.assert_array_equal(data.read(sample), image)
            np.testing.assert_array_equal(data.read_cell(sample, CLEAN), image)
        place.unlink()
    with pytest.raises(BrokenFileError, match="000000: CIFAR-10-C has no clean"):
        CorruptedArrays(cifar).read(Sample("000000"))


def test_other_corruptions_can_be_read_and_odd_spellings_are_known(cifar):
    np.save(cifar / "plasma.npy", pixels(15, seed=4))
    (cifar / "fog.npy").rename(cifar / "Gaussian Noise.npy")
    data = CorruptedArrays(cifar, CIFAR)
    assert [cell.corruption for cell in data.cells[::5]] == ["gaussian_noise", "snow", "plasma"]
    assert data.other_corruptions == ("plasma",)
    assert find_copies(cifar) == data.cells
    assert data.settings()["corruptions not in the table"] == ["plasma"]
    assert data.settings()["severities"] == "stacked in each file"


# ---------------------------------------------------------------- MNIST-C


def test_one_folder_each_is_severity_one_and_grey_becomes_rgb(mnist):
    data = open_data(mnist, classes=number_classes(10))
    assert data.cells == (Cell("fog", 1), Cell("zigzag", 1))
    assert [sample.label for sample in data.samples] == [0, 1, 2]
    assert data.settings()["severities"] == "one, without a number: 1"
    for cell, name in ((Cell("fog", 1), "fog"), (Cell("zigzag", 1), "zigzag"), (CLEAN, "identity")):
        stored = np.load(mnist / name / "test_images.npy")
        for number, sample in enumerate(data.samples):
            image = data.read_cell(sample, cell)
            np.testing.assert_array_equal(image, np.repeat(stored[number], 3, axis=2))


def test_the_training_images(mnist):
    data = CorruptedArrays(mnist, number_classes(10), split="train")
    assert len(data) == 4
    stored = np.load(mnist / "fog" / "train_images.npy")
    assert (data.read_cell(data.samples[3], Cell("fog", 1))[..., 1] == stored[3, ..., 0]).all()
    assert data.has_clean
    with pytest.raises(UnknownNameError, match="Did you mean 'test'"):
        CorruptedArrays(mnist, split="tests")


def test_images_without_a_channel_axis_and_another_folder_of_clean_ones(mnist, tmp_path):
    for folder in ("fog", "zigzag", "identity"):
        images = np.load(mnist / folder / "test_images.npy")
        np.save(mnist / folder / "test_images.npy", images[..., 0])
    (mnist / "identity").rename(tmp_path / "mnist")
    data = open_data(mnist, classes=None, clean=tmp_path / "mnist")
    stored = np.load(tmp_path / "mnist" / "test_images.npy")
    assert data.read(data.samples[1]).shape == (6, 6, 3)
    assert (data.read(data.samples[1])[..., 2] == stored[1]).all()


# ---------------------------------------------------------------- workers and fingerprints


def test_it_is_small_to_pickle_and_reads_the_same_there(cifar):
    np.save(cifar / "fog.npy", pixels(15, shape=(64, 64, 3)))
    np.save(cifar / "snow.npy", pixels(15, shape=(64, 64, 3), seed=1))
    data = CorruptedArrays(cifar, CIFAR)
    sent = pickle.dumps(data)
    assert len(sent) < 4000
    loaded = pickle.loads(sent)
    assert loaded.samples == data.samples
    assert loaded.fingerprint() == data.fingerprint()
    cell = Cell("snow", 4)
    image = loaded.read_cell(loaded.samples[2], cell)
    np.testing.assert_array_equal(image, data.read_cell(data.samples[2], cell))


@pytest.mark.parametrize("limit", [0, 10**9])
def test_the_fingerprint_changes_with_a_pixel_a_label_and_a_cell(cifar, monkeypatch, limit):
    monkeypatch.setattr(cells, "FINGERPRINT_BYTES", limit)

    def print_of(**options):
        return CorruptedArrays(cifar, CIFAR, **options).fingerprint()

    prints = [print_of(), print_of(labeled=False)]
    assert print_of() == prints[0]
    images = np.load(cifar / "fog.npy")
    images[13, 0, 0, 0] ^= 1
    np.save(cifar / "fog.npy", images)
    prints.append(print_of())
    np.save(cifar / "clean.npy", pixels(3, seed=9))
    prints.append(print_of())
    assert len(set(prints)) == 4


def test_of_much_some_images_are_read(cifar, monkeypatch):
    monkeypatch.setattr(cells, "FINGERPRINT_BYTES", 0)
    monkeypatch.setattr(cells, "FINGERPRINT_FILES", 2)
    before = CorruptedArrays(cifar, CIFAR).content_fingerprints()
    images = np.load(cifar / "fog.npy")
    images[[1, 4, 7, 10, 13]] ^= 1  # the second image, in all severities
    np.save(cifar / "fog.npy", images)
    assert CorruptedArrays(cifar, CIFAR).content_fingerprints() == before
    images[[2, 5]] ^= 1
    np.save(cifar / "fog.npy", images)
    after = CorruptedArrays(cifar, CIFAR).content_fingerprints()
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, True, False]


# ---------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("name", "array", "error", "says"),
    [
        ("fog", pixels(14), InputError, r"expected 15 images, one per label, got 14"),
        ("fog", pixels(15).astype(np.float32), BrokenFileError, "expected uint8 images .* float32"),
        ("fog", pixels(15, shape=(4, 5, 4)), BrokenFileError, r"got shape \(15, 4, 5, 4\)"),
        ("fog", pixels(15, shape=(60,)), BrokenFileError, r"got shape \(15, 60\)"),
        ("fog", pixels(15, shape=(5, 4, 3)), InputError, r"images of one size .*\(5, 4\)"),
        (
            "fog",
            np.array([{}] * 15),
            BrokenFileError,
            r"fog\.npy: (not an array in NumPy's|it holds Python objects)",
        ),
        ("labels", np.arange(14), InputError, "expected labels for 5 severities, got 14"),
        ("labels", np.zeros(0, int), InputError, "expected labels for 5 severities, got 0"),
        ("labels", np.zeros(15), BrokenFileError, r"one whole number per image.* float64"),
        ("labels", np.zeros((15, 1), int), BrokenFileError, r"got shape \(15, 1\)"),
        ("labels", np.arange(15) % 4, LabelError, "labels of the same images 5 times"),
        ("labels", np.full(15, 4), LabelError, "labels of 0 to 3, the model's classes, got 4 to 4"),
        ("labels", np.full(15, -1), LabelError, "got -1 to -1"),
        ("clean", pixels(15), InputError, r"clean\.npy: expected 3 images, one per label, got 15"),
    ],
)
def test_an_array_that_does_not_fit_is_named(cifar, name, array, error, says):
    np.save(cifar / f"{name}.npy", array)
    with pytest.raises(error, match=says):
        CorruptedArrays(cifar, CIFAR)


def test_damaged_files_are_broken(cifar):
    whole = (cifar / "fog.npy").read_bytes()
    for content in (b"", b"no array", whole[:200], b"PK\3\4" + whole, whole[:9] + b"\xff" + whole):
        (cifar / "fog.npy").write_bytes(content)
        with pytest.raises(
            BrokenFileError, match=r"fog\.npy: (not an array|cannot be read|cut short)"
        ):
            CorruptedArrays(cifar, CIFAR)


def test_a_file_that_is_gone_or_shorter_later_is_a_broken_image(cifar):
    data = CorruptedArrays(cifar, CIFAR)
    np.save(cifar / "fog.npy", pixels(13))
    with pytest.raises(BrokenFileError, match=r"^fog-5: 000002: \S+fog\.npy: it was changed"):
        data.read_cell(data.samples[2], Cell("fog", 5))
    (cifar / "fog.npy").unlink()
    with pytest.raises(BrokenFileError, match=r"^fog-5: 000002: \S+fog\.npy: cannot be read"):
        data.read_cell(data.samples[2], Cell("fog", 5))


def test_cells_that_are_not_there(cifar):
    data = CorruptedArrays(cifar, CIFAR)
    with pytest.raises(InputError, match=r"CIFAR-10-C has no cell frost-1; it has snow-1.* 5 more"):
        data.cell_samples(Cell("frost", 1))
    with pytest.raises(BrokenFileError, match="000000: CIFAR-10-C has no frost-1"):
        data.read_cell(data.samples[0], Cell("frost", 1))


def test_labels_that_differ_from_folder_to_folder(mnist):
    np.save(mnist / "zigzag" / "test_labels.npy", np.array([0, 2, 1]))
    with pytest.raises(LabelError, match=r"zigzag/test_labels\.npy: expected the labels of \S+fog"):
        CorruptedArrays(mnist, number_classes(10))
    (mnist / "zigzag" / "test_labels.npy").unlink()
    with pytest.raises(BrokenFileError, match=r"test_labels\.npy: cannot be read"):
        CorruptedArrays(mnist, number_classes(10))


def test_a_corruption_that_is_there_twice(cifar):
    np.save(cifar / "Fog.npy", pixels(15))
    with pytest.raises(InputError, match=r"fog occurs twice: \S+Fog\.npy and \S+fog\.npy"):
        CorruptedArrays(cifar, CIFAR)


def test_what_is_no_such_folder(tmp_path, cifar):
    with pytest.raises(InputError, match="is not a folder"):
        CorruptedArrays(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"expected labels\.npy and <corruption>\.npy, or"):
        CorruptedArrays(tmp_path / "empty")
    np.save(tmp_path / "empty" / "labels.npy", np.zeros(5, int))
    with pytest.raises(InputError, match="holds no arrays beside"):
        CorruptedArrays(tmp_path / "empty")
    with pytest.raises(InputError, match="holds no clean images"):
        CorruptedArrays(cifar, clean=tmp_path / "empty")


def test_open_data_refuses_what_has_no_effect(cifar):
    with pytest.raises(InputError, match="class map has no effect"):
        open_data(cifar, classes=CIFAR, class_map={"1": "cat"})
    with pytest.raises(InputError, match="no class folders, which the label set imagenet-r needs"):
        open_data(cifar, classes=label_set("imagenet-r"))


def test_a_tree_that_holds_arrays_of_its_own_is_a_tree(tmp_path, photo):
    photo(tmp_path / "fog" / "1" / "cat" / "a.png")
    np.save(tmp_path / "labels.npy", np.zeros(5, int))
    assert type(open_data(tmp_path, classes=None)) is CorruptedTree
