"""The photographs that foolbox carries."""

import subprocess
import sys
from importlib import metadata

import pytest

from shiftproof.classes import Classes, imagenet, number_classes
from shiftproof.data import DemoPhotographs, open_data
from shiftproof.errors import LabelError, MissingExtraError

# What is on the pictures, as one sees it: index and name.
SEEN = {
    "imagenet_00_243.jpg": "bull mastiff", "imagenet_03_990.jpg": "buckeye",
    "imagenet_04_949.jpg": "strawberry", "imagenet_10_541.jpg": "drum",
    "imagenet_14_129.jpg": "spoonbill", "imagenet_17_22.jpg": "bald eagle",
}  # fmt: skip


def test_there_are_twenty_and_all_can_be_read():
    data = DemoPhotographs()
    assert len(data) == 20
    assert data.is_labeled
    for sample in data.samples:
        image = data.read(sample)
        assert image.ndim == 3
        assert min(image.shape[:2]) >= 200
    assert len(data.fingerprint()) == 32


def test_labels_are_the_indices_in_the_names_and_name_what_is_seen():
    data = DemoPhotographs()
    found = {sample.id: sample.label for sample in data.samples}
    assert found["imagenet_15_99.jpg"] == 99
    for name, seen in SEEN.items():
        assert imagenet().names[found[name]].lower() == seen


def test_foolbox_is_not_imported():
    code = (
        "import sys, shiftproof.data; shiftproof.data.DemoPhotographs(); "
        "print('foolbox' in sys.modules, 'torch' in sys.modules, 'pyarrow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"] * 3


def test_labels_follow_the_order_of_the_models_classes():
    usual = imagenet()
    turned = Classes(usual.names[::-1], wordnet_ids=usual.wordnet_ids[::-1])
    by_name = Classes(tuple(dict.fromkeys(reversed(usual.names))))
    data = open_data("demo", classes=turned)
    assert [999 - sample.label for sample in data.samples] == [
        sample.label for sample in DemoPhotographs().samples
    ]
    for sample in open_data("demo", classes=by_name).samples:
        index = int(sample.id.removesuffix(".jpg").rsplit("_", 1)[1])
        assert by_name.names[sample.label] == usual.names[index]


def test_a_model_of_other_classes_is_refused(classes):
    for others in (classes, number_classes(1000)):
        with pytest.raises(LabelError, match="labeled with ImageNet's classes"):
            open_data("demo", classes=others)


def test_without_foolbox_it_says_what_to_install(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", absent)
    with pytest.raises(MissingExtraError, match=r'pip install "shiftproof\[demo\]"'):
        DemoPhotographs()


@pytest.mark.parametrize("listed", [None, []])
def test_a_foolbox_without_photographs_says_the_same(monkeypatch, listed):
    monkeypatch.setattr(metadata, "files", lambda name: listed)
    with pytest.raises(MissingExtraError, match=r"foolbox with its photographs.*\[demo\]"):
        DemoPhotographs()
