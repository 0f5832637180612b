"""A share of the images: drawn alike for everybody, nested, of each class its share."""

from collections import Counter
from importlib import resources

import numpy as np
import pytest

from shiftproof import Classes
from shiftproof.data import CorruptedArrays, ImageArrays, choose_images, open_data
from shiftproof.data.subset import draw_samples
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.types import Sample
from support import tiny


def samples(*sizes):
    return [
        Sample(f"{label}/{n}.png", label) for label, size in enumerate(sizes) for n in range(size)
    ]


def arrays(ids, labels=None):
    images = [np.full((4, 4, 3), place % 256, np.uint8) for place in range(len(ids))]
    return ImageArrays(images, labels, ids=ids, classes=Classes(("a", "b")))


@pytest.mark.parametrize("count", [1, 10, 30, 57, 99])
def test_each_class_gives_its_share(count):
    drawn = Counter(sample.label for sample in draw_samples(samples(60, 30, 10), count))
    assert sum(drawn.values()) == count
    for label, size in enumerate((60, 30, 10)):
        assert abs(drawn[label] - count * size / 100) <= 1


def test_larger_draws_contain_the_smaller_and_keep_the_order():
    everything = samples(40, 25)
    before = set()
    for count in range(1, 65):
        drawn = draw_samples(everything, count)
        assert [everything.index(one) for one in drawn] == sorted(map(everything.index, drawn))
        assert before < set(drawn)
        before = set(drawn)


def test_the_draw_depends_on_the_ids_alone():
    everything = samples(30, 30)
    assert set(draw_samples(everything, 20)) == set(draw_samples(everything[::-1], 20))
    assert set(draw_samples(everything, 20)) != set(everything[:10] + everything[30:40])


def test_the_data_set_says_what_was_chosen():
    data = arrays([f"{n}.png" for n in range(6)])
    chosen = choose_images(data, 3)
    assert len(chosen) == 3
    assert len(data) == 6
    assert chosen.settings()["subset"]["images of all"] == 6
    assert "subset" not in data.settings()
    assert choose_images(data, 6) is data
    assert choose_images(data, 7) is data
    # The fingerprint is that of the chosen images: the value of their pixels is their place.
    kept = [int(chosen.read(sample)[0, 0, 0]) for sample in chosen.samples]
    alone = ImageArrays(
        [np.full((4, 4, 3), place, np.uint8) for place in kept],
        ids=[f"{place}.png" for place in kept],
    )
    assert chosen.fingerprint() == alone.fingerprint() != data.fingerprint()


@pytest.mark.parametrize("count", [0, -1, True])
def test_a_number_below_one_is_refused(count):
    with pytest.raises(InputError, match="Expected 1 image or more"):
        choose_images(arrays(["1.png"]), count)


def test_the_published_list(tmp_path):
    text = (resources.files("shiftproof.data") / "subsets" / "robustbench.txt").read_text("utf-8")
    rows = [line for line in text.splitlines() if not line.startswith("#")]
    numbers = [int(word) for row in rows for word in row.split()]
    assert len(set(numbers)) == 5000
    assert min(numbers) >= 1
    assert max(numbers) <= 50_000
    # The first rows of the published file.
    assert {15253, 20685, 39611} <= set(numbers)
    ids = [f"n01440764/ILSVRC2012_val_{number:08d}.JPEG" for number in [*numbers, 1, 2]]
    data = arrays(ids)
    listed = [sample.id for sample in choose_images(data, "robustbench").samples]
    assert listed == ids[:5000]
    with pytest.raises(InputError, match="has 4,999 of the 5,000"):
        choose_images(arrays(ids[1:]), "robustbench")
    with pytest.raises(UnknownNameError, match="robustbench"):
        choose_images(data, "robustbenhc")


def test_corrupted_copies_are_narrowed_in_all_their_cells(tmp_path):
    for severity in "12":
        tiny.write_photos(tmp_path / "tree" / "fog" / severity)
    tree = open_data(tmp_path / "tree", classes=Classes(tiny.NAMES))
    chosen = choose_images(tree, 6)
    assert {len(chosen.cell_samples(cell)) for cell in tree.cells} == {6}
    assert Counter(sample.label for sample in chosen.samples) == {0: 2, 1: 2, 2: 2}


def test_arrays_are_told_apart_by_the_chosen_rows(tmp_path):
    root = tmp_path / "CIFAR-10-C"
    root.mkdir()
    rows = np.arange(5 * 8 * 12, dtype=np.uint8).reshape(5 * 8, 2, 2, 3)
    np.save(root / "fog.npy", rows)
    np.save(root / "labels.npy", np.zeros(40, np.uint8))
    before = choose_images(CorruptedArrays(root), 3)
    fingerprint = before.fingerprint()
    outside = next(n for n in range(8) if n not in {int(one.id) for one in before.samples})
    inside = int(before.samples[1].id)
    for place, same in ((outside, True), (inside, False)):
        changed = rows.copy()
        changed[place] += 1
        np.save(root / "fog.npy", changed)
        after = choose_images(CorruptedArrays(root), 3)
        assert (after.fingerprint() == fingerprint) is same
