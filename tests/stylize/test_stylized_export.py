"""Stylised copies of datasets, alone and combined, read back by other libraries."""

import io
import json
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import ImageFolder, VOCDetection

from shiftproof.data import CityscapesData, CocoData, VocData, YoloData, open_detection_data
from shiftproof.data.copies.renaming import make_ids
from shiftproof.errors import InputError, RunMismatchError
from shiftproof.io import files
from shiftproof.stylize import Stylize, estimate_stylized, export_stylized, stylize_keyed
from support.detection_trees import (
    CITYSCAPES_JSON,
    cityscapes_tree,
    coco_tree,
    photograph,
    voc_tree,
    yolo_tree,
)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def found_in(root):
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


@pytest.fixture
def copy(few):
    def write(source, target, **more):
        settings = {"styles": few, "workers": 0, "show_progress": False} | more
        return export_stylized(source, target, **settings)

    return write


# ---------------------------------------------------------------- in the place of the original


def test_a_folder_keeps_its_classes(tmp_path, copy, few):
    for place, name in enumerate(("cat/a.jpg", "cat/a.png", "dog/b.jpg")):
        photograph(tmp_path / "photos" / name, place)
    done = copy(tmp_path / "photos", tmp_path / "out", seed=4)
    assert (done.written, done.kept, done.carried, done.broken) == (3, 0, 0, {})
    names = ["cat/a.jpg.png", "cat/a.png.png", "dog/b.png", "manifest.json"]
    assert found_in(tmp_path / "out") == names
    clean = pixels(tmp_path / "photos" / "dog" / "b.jpg")
    expected, _ = stylize_keyed(clean, few, key="dog/b.jpg", seed=4)
    np.testing.assert_array_equal(pixels(tmp_path / "out" / "dog" / "b.png"), expected)
    transform = Stylize(styles=few, probability=1, seed=4)
    np.testing.assert_array_equal(transform(clean, "dog/b.jpg"), expected)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["stylized"] == "free"
    assert (manifest["styles"], manifest["alpha"], manifest["seed"]) == ({"few": 4}, 1.0, 4)


def test_sizes_are_those_of_the_original(tmp_path, copy):
    for place, size in enumerate([(1, 1), (7, 3), (129, 65)]):
        photograph(tmp_path / "photos" / f"{place}.png", place, size)
    copy(tmp_path / "photos", tmp_path / "out")
    for place, size in enumerate([(1, 1), (7, 3), (129, 65)]):
        assert pixels(tmp_path / "out" / f"{place}.png").shape == (size[1], size[0], 3)


def test_annotations_are_carried_over_as_for_corrupted_copies(tmp_path, copy):
    coco_tree(tmp_path / "coco")
    copy(tmp_path / "coco", tmp_path / "out")
    new, old = open_detection_data(tmp_path / "out"), open_detection_data(tmp_path / "coco")
    assert isinstance(new, CocoData)
    assert new.faults == ()
    assert new.ground_truth()["annotations"] == old.ground_truth()["annotations"]
    base = voc_tree(tmp_path / "voc")
    copy(tmp_path / "voc", tmp_path / "same", image_format="source")
    theirs = VOCDetection(str(tmp_path / "same" / "VOCdevkit" / ".."), year="2007",
                          image_set="val", download=False)  # fmt: skip
    assert [len(theirs), theirs[0][0].size] == [2, (48, 40)]
    xml = Path("Annotations", "000005.xml")
    copied = tmp_path / "same" / "VOCdevkit" / "VOC2007" / xml
    assert copied.read_bytes() == (base / xml).read_bytes()


# ---------------------------------------------------------------- combined


def test_combined_folders_are_read_by_torchvision(tmp_path, copy):
    for place, name in enumerate(("cat/a.jpg", "dog/b.jpg")):
        photograph(tmp_path / "photos" / name, place)
    done = copy(tmp_path / "photos", tmp_path / "out", combined=True)
    assert (done.written, done.carried) == (2, 2)
    theirs = ImageFolder(str(tmp_path / "out"))
    assert [(Path(path).name, theirs.classes[label]) for path, label in theirs.samples] == [
        ("a-stylized-1.png", "cat"), ("a.jpg", "cat"),
        ("b-stylized-1.png", "dog"), ("b.jpg", "dog"),
    ]  # fmt: skip
    old = (tmp_path / "photos" / "cat" / "a.jpg").read_bytes()
    assert (tmp_path / "out" / "cat" / "a.jpg").read_bytes() == old


def test_combined_coco_has_fresh_ids(tmp_path, copy, few, capsys):
    value = coco_tree(tmp_path / "coco")
    captions = {"images": value["images"], "annotations": [
        {"image_id": 12, "id": 1, "caption": "a cat"}]}  # fmt: skip
    (tmp_path / "coco" / "annotations" / "captions.json").write_text(json.dumps(captions))
    copy(tmp_path / "coco", tmp_path / "out", combined=True, per_image=2)
    root = tmp_path / "out"
    theirs = COCO(str(root / "annotations" / "instances_val2017.json"))
    capsys.readouterr()
    # Nothing is lost on the way into tables by id, so every id stands once.
    assert len(theirs.imgs) == len(theirs.dataset["images"]) == 9
    assert len(theirs.anns) == len(theirs.dataset["annotations"]) == 9
    assert theirs.dataset["images"][:3] == value["images"]
    assert theirs.dataset["annotations"][:3] == value["annotations"]
    assert theirs.dataset["categories"] == value["categories"]
    for image in value["images"]:
        old = theirs.loadAnns(theirs.getAnnIds(image["id"]))
        for form in (1, 2):
            twin = theirs.imgs[form * 1_000_000 + image["id"]]
            stem = image["file_name"].rsplit(".", 1)[0]
            assert twin["file_name"] == f"{stem}-stylized-{form}.png"
            assert twin.get("license") == image.get("license")
            new = theirs.loadAnns(theirs.getAnnIds(twin["id"]))
            own = ("id", "image_id")
            assert [{k: v for k, v in note.items() if k not in own} for note in new] == [
                {k: v for k, v in note.items() if k not in own} for note in old
            ]
            clean = pixels(tmp_path / "coco" / "val2017" / image["file_name"])
            key = f"val2017/{image['file_name']}"
            expected, _ = stylize_keyed(clean, few, key=key, turn=form - 1)
            np.testing.assert_array_equal(pixels(root / "val2017" / twin["file_name"]), expected)
    content = json.loads((root / "annotations" / "captions.json").read_text())
    assert [note["image_id"] for note in content["annotations"]] == [12, 1_000_012, 2_000_012]
    data = open_detection_data(root, split="instances")
    assert data.faults == ()
    assert len(data) == 9


def test_several_styles_without_the_original(tmp_path, copy, capsys):
    coco_tree(tmp_path / "coco")
    done = copy(tmp_path / "coco", tmp_path / "out", per_image=2)
    assert (done.written, done.carried) == (6, 1)
    theirs = COCO(str(tmp_path / "out" / "annotations" / "instances_val2017.json"))
    capsys.readouterr()
    assert theirs.imgs[900]["file_name"] == "9-stylized-1.png"
    assert theirs.imgs[1_000_900]["file_name"] == "9-stylized-2.png"
    assert len(theirs.anns) == 6
    assert not (tmp_path / "out" / "val2017" / "9.jpg").exists()


def test_fresh_ids_by_hand():
    assert make_ids([7, 12], "-x", 0) == [7, 12]
    assert make_ids([7, 12], "-x", 2) == [2_000_007, 2_000_012]
    assert make_ids([1_000_000, 3], "-x", 1) == [11_000_000, 10_000_003]
    assert make_ids(["a", None, 2.5, True], "-x", 1) == ["a-x", None, None, None]
    for ids in ([500_000, -500_000, 0], [5, -5]):
        every = [number for place in range(4) for number in make_ids(ids, "", place)]
        assert len(set(every)) == len(every)


def test_ids_that_are_texts(tmp_path, copy):
    coco_tree(
        tmp_path / "coco",
        images=[{"id": "nine", "file_name": "9.jpg", "width": 48, "height": 40},
                {"id": "gone", "file_name": "gone.jpg", "width": 48, "height": 40}],
        annotations=[{"id": 1, "image_id": "nine", "category_id": 3, "bbox": [0, 0, 4, 4]},
                     {"id": 2, "image_id": "gone", "category_id": 3, "bbox": [0, 0, 4, 4]}],
    )  # fmt: skip
    copy(tmp_path / "coco", tmp_path / "out", combined=True)
    value = json.loads((tmp_path / "out/annotations/instances_val2017.json").read_text())
    assert [image["id"] for image in value["images"]] == ["nine", "gone", "nine-stylized-1"]
    notes = [(note["id"], note["image_id"]) for note in value["annotations"]]
    assert notes == [(1, "nine"), (2, "gone"), (1_000_001, "nine-stylized-1")]


@pytest.mark.parametrize("image_format", ["png", "source"])
def test_combined_voc_has_xml_masks_and_lists_for_every_form(tmp_path, copy, image_format):
    base = voc_tree(tmp_path / "voc")
    (base / "ImageSets" / "Main" / "odd.txt").write_text("000005\nnot-there\n\n")
    copy(tmp_path / "voc", tmp_path / "out", combined=True, image_format=image_format)
    root = tmp_path / "out" / "VOCdevkit" / "VOC2007"
    suffix = "jpg" if image_format == "source" else "png"
    for stem in ("000005", "000007"):
        for name in (f"Annotations/{stem}.xml", f"JPEGImages/{stem}.jpg"):
            assert (root / name).read_bytes() == (base / name).read_bytes()
        text = (root / "Annotations" / f"{stem}-stylized-1.xml").read_text()
        assert ElementTree.fromstring(text).findtext("filename") == f"{stem}-stylized-1.{suffix}"
        old = (base / "Annotations" / f"{stem}.xml").read_text()
        assert text == old.replace(f"{stem}.jpg", f"{stem}-stylized-1.{suffix}")
    mask = (base / "SegmentationClass" / "000005.png").read_bytes()
    for name in ("000005.png", "000005-stylized-1.png"):
        assert (root / "SegmentationClass" / name).read_bytes() == mask
    lists = root / "ImageSets" / "Main"
    stems = ["000005", "000005-stylized-1", "000007", "000007-stylized-1"]
    assert (lists / "val.txt").read_text().split() == stems
    assert (lists / "dog_train.txt").read_text() == "000005  1\n000005-stylized-1  1\n"
    assert (lists / "odd.txt").read_text() == "000005\n000005-stylized-1\nnot-there\n\n"
    data = VocData(root, "val")
    assert (len(data), data.faults) == (4, ())
    boxes = [data.objects[sample.id].positions.tolist() for sample in data.samples]
    assert boxes[0] == boxes[1]
    if image_format == "source":
        theirs = VOCDetection(str(tmp_path / "out"), year="2007", image_set="val", download=False)
        names = [theirs[place][1]["annotation"]["filename"] for place in range(4)]
        assert names == [f"{stem}.jpg" for stem in stems]


def test_combined_cityscapes_keeps_its_grammar_of_names(tmp_path, copy):
    root = cityscapes_tree(tmp_path / "cs")
    copy(root, tmp_path / "out", combined=True)
    for image in sorted((tmp_path / "out" / "leftImg8bit").rglob("*.png")):
        # city_sequence_frame_type, as the dataset's own tools take names apart.
        city, sequence, frame, kind = image.stem.split("_")
        assert (city, sequence, kind) == ("ulm", "000000", "leftImg8bit")
        assert frame in ("000019", "000019-stylized-1")
        for file in ("polygons.json", "labelIds.png"):
            beside = str(image).replace("leftImg8bit/", "gtFine/").replace(
                "_leftImg8bit.png", f"_gtFine_{file}"
            )  # fmt: skip
            old = root / "gtFine" / "val" / "ulm" / f"ulm_000000_000019_gtFine_{file}"
            assert Path(beside).read_bytes() == old.read_bytes()
    data = CityscapesData(tmp_path / "out")
    assert len(data) == 2
    assert {len(found) for found in data.objects.values()} == {2}
    assert CITYSCAPES_JSON["imgWidth"] == 48


def test_combined_yolo_has_labels_and_lists_for_every_form(tmp_path, copy):
    config = yolo_tree(tmp_path / "yolo")
    copy(config.parent, tmp_path / "out", combined=True)
    root = tmp_path / "out"
    images = sorted(path.name for path in (root / "images" / "val").iterdir())
    assert images == [
        "a-stylized-1.png", "a.jpg", "b-stylized-1.png", "b.jpg", "c-stylized-1.png", "c.jpg",
    ]  # fmt: skip
    for stem in ("a", "b"):
        old = (config.parent / "labels" / "val" / f"{stem}.txt").read_text()
        for mark in ("", "-stylized-1"):
            assert (root / "labels" / "val" / f"{stem}{mark}.txt").read_text() == old
    assert (root / "val.txt").read_text().split() == [
        "./images/val/a.jpg", "./images/val/a-stylized-1.png",
        "./images/val/c.jpg", "./images/val/c-stylized-1.png",
    ]  # fmt: skip
    assert yaml.safe_load((root / "data.yaml").read_text())["names"] == ["car", "dog"]
    data = YoloData(root / "data.yaml")
    assert (len(data), data.faults) == (6, ())
    boxes = {sample.id: data.objects[sample.id].positions.tolist() for sample in data.samples}
    assert boxes["images/val/a.jpg"] == boxes["images/val/a-stylized-1.png"]
    assert len(YoloData(root / "data.yaml", "test")) == 4


def test_combined_tars_are_tars_of_their_own(tmp_path, copy, few):
    photo = photograph(tmp_path / "x.jpg").read_bytes()
    (tmp_path / "wds").mkdir()
    with tarfile.open(tmp_path / "wds" / "00.tar", "w") as tar:
        for name, data in (("0.jpg", photo), ("0.cls", b"7")):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    copy(tmp_path / "wds", tmp_path / "out", combined=True)
    old = (tmp_path / "wds" / "00.tar").read_bytes()
    assert (tmp_path / "out" / "00.tar").read_bytes() == old
    with tarfile.open(tmp_path / "out" / "00-stylized-1.tar") as tar:
        assert tar.getnames() == ["0.png", "0.cls"]
        assert tar.extractfile("0.cls").read() == b"7"
        written = pixels(io.BytesIO(tar.extractfile("0.png").read()))
    expected, _ = stylize_keyed(pixels(io.BytesIO(photo)), few, key="00.tar/0.jpg")
    np.testing.assert_array_equal(written, expected)


# ---------------------------------------------------------------- again, in parallel, and wrong


def test_workers_and_interruptions_change_no_byte(tmp_path, copy):
    coco_tree(tmp_path / "coco")
    settings = {"combined": True, "styles": None, "seed": 2}
    copy(tmp_path / "coco", tmp_path / "whole", **settings)
    copy(tmp_path / "coco", tmp_path / "out", workers=2, **settings)
    for name in ("val2017/9-stylized-1.png", "val2017/30.png"):
        (tmp_path / "out" / name).unlink()
    done = copy(tmp_path / "coco", tmp_path / "out", **settings)
    assert (done.written, done.kept, done.carried) == (1, 2, 1)
    assert found_in(tmp_path / "out") == found_in(tmp_path / "whole")
    for name in found_in(tmp_path / "out"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("more", [{"seed": 1}, {"alpha": 0.5}, {"combined": True}, {"styles": None},
                                  {"engine": lambda content, style, alpha, rng: content}])  # fmt: skip
def test_other_settings_are_another_copy(tmp_path, copy, more):
    photograph(tmp_path / "a" / "x.jpg")
    copy(tmp_path / "a", tmp_path / "out")
    with pytest.raises(RunMismatchError, match="with other settings"):
        copy(tmp_path / "a", tmp_path / "out", **more)


def test_broken_styles_and_pictures_are_named_and_recorded(tmp_path, copy, paintings):
    for number in range(20):
        photograph(tmp_path / "a" / f"{number}.png", number)
    (tmp_path / "a" / "bad.jpg").write_bytes(b"no")
    done = copy(tmp_path / "a", tmp_path / "out", styles=paintings)
    assert done.written == 20
    assert done.broken == {
        "bad.jpg": "bad.jpg: not an image that can be decoded.",
        "style broken.png": "broken.png: not an image that can be decoded.",
    }
    again = copy(tmp_path / "a", tmp_path / "out", styles=paintings)
    assert set(again.broken) == {"bad.jpg"}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["broken"] == done.broken
    assert manifest["styles"]["images"] == 4
    combined = copy(tmp_path / "a", tmp_path / "both", styles=paintings, combined=True)
    assert combined.broken == done.broken
    assert (tmp_path / "both" / "bad.jpg").read_bytes() == b"no"


def test_alpha_0_is_the_image_itself(tmp_path, copy):
    path = photograph(tmp_path / "a" / "x.png")
    copy(tmp_path / "a", tmp_path / "out", alpha=0)
    np.testing.assert_array_equal(pixels(tmp_path / "out" / "x.png"), pixels(path))


def test_wrong_input(tmp_path, copy):
    photograph(tmp_path / "a" / "x.jpg")
    for more, message in (
        ({"per_image": 0}, "one style for each image or more, got 0"),
        ({"alpha": 2}, "alpha is a number from 0"),
        ({"styles": tmp_path / "none"}, "expected a folder of paintings"),
        ({"image_format": "gif"}, "Unknown image format 'gif'"),
    ):
        with pytest.raises(InputError, match=message):
            copy(tmp_path / "a", tmp_path / "out", **more)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.png").write_bytes(b"no")
    with pytest.raises(
        InputError, match=r"None of the styles can be read\. The first of 1: x\.png: not an image"
    ):
        copy(tmp_path / "a", tmp_path / "out", styles=tmp_path / "b")
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_a_combined_copy_already(tmp_path, copy):
    photograph(tmp_path / "a" / "x.png")
    copy(tmp_path / "a", tmp_path / "out", combined=True)
    with pytest.raises(
        InputError, match=r"two files of the copy would be called x-stylized-1\.png"
    ):
        copy(tmp_path / "out", tmp_path / "again", combined=True)
    assert not (tmp_path / "again").exists()


def test_the_estimate_is_near_what_is_written(tmp_path, copy, few):
    for number in range(3):
        photograph(tmp_path / "a" / f"{number}.png", number, (160, 120))
    estimate = estimate_stylized(tmp_path / "a", tmp_path / "out", styles=few, combined=True)
    assert not (tmp_path / "out").exists()
    assert (estimate.layout, estimate.images, estimate.cells) == ("plain", 3, 1)
    copy(tmp_path / "a", tmp_path / "out", combined=True)
    there = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.png"))
    assert estimate.bytes == pytest.approx(there, rel=0.02)


def test_nothing_is_left_half_written(tmp_path, copy, monkeypatch):
    photograph(tmp_path / "a" / "x.png")

    def stops(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_bytes", stops)
    with pytest.raises(KeyboardInterrupt):
        copy(tmp_path / "a", tmp_path / "out")
    monkeypatch.undo()
    assert not list((tmp_path / "out").rglob("*.part"))
