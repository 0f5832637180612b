"""Stylized copies of images with label maps are datasets again: each form has its label map."""

import numpy as np
import pytest

from shiftproof.data import open_segmentation_data
from shiftproof.errors import InputError
from shiftproof.stylize import export_stylized, free
from support.label_map_trees import NAMES, save, scene


@pytest.mark.parametrize("layout", ["masks", "endings", "ade20k", "voc"])
def test_each_form_has_the_label_map_of_its_image(tmp_path, layout):
    images, masks = {
        "masks": ("images/{}.png", "masks/{}.png"),
        "endings": ("images/{}.png", "masks/{}_mask.png"),
        "ade20k": ("images/validation/{}.png", "annotations/validation/{}.png"),
        "voc": ("VOC/JPEGImages/{}.png", "VOC/SegmentationClass/{}.png"),
    }[layout]
    truth = {}
    for number in range(2):
        image, labels = scene(number)
        save(tmp_path / "data" / images.format(number), image)
        labels = np.where(labels == 255, 0, labels + 1).astype(np.uint8)
        save(tmp_path / "data" / masks.format(number), labels)
        truth[str(number)] = labels
    if layout == "voc":
        lists = tmp_path / "data/VOC/ImageSets/Segmentation"
        lists.mkdir(parents=True)
        (lists / "val.txt").write_text("0\n1\n")
    out = tmp_path / "out"
    export_stylized(tmp_path / "data", out, engine=free, combined=True, workers=0)
    given = {} if layout in ("ade20k", "voc") else {"classes": ["nothing", *NAMES]}
    copy = open_segmentation_data(out, **given)
    assert len(copy) == 4
    shift = 1 if layout == "ade20k" else 0
    for sample in copy.samples:
        number = sample.id.rsplit("/", 1)[1][0]
        assert np.array_equal(copy.read_mask(sample) + shift, truth[number])


@pytest.mark.parametrize("address", ["s3://bucket/photos", "https://user:key@host/a.jpg"])
def test_a_url_is_refused_as_one(tmp_path, address):
    from pathlib import Path

    with pytest.raises(
        InputError, match=r"is a URL; copies are made of an image, a folder or tars"
    ) as e:
        export_stylized(Path(address), tmp_path / "out", engine=free)
    assert "key" not in str(e.value)
    assert not (tmp_path / "out").exists()
